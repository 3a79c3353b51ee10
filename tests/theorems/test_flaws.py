"""Every statement: its check fails where the thing tested is changed ever so little."""

from importlib import import_module

import pytest

from refspec.theorems import all_theorems
from support.flaws import flaws, is_seen, tables


@pytest.mark.parametrize("flaw", flaws(), ids=str)
def test_a_flaw_is_seen(flaw, monkeypatch):
    is_seen(flaw, monkeypatch)


@pytest.mark.parametrize("page", tables())
def test_every_statement_of_a_page_has_a_flaw_or_a_reason(page):
    """Of the size that its check sees, unless that is said to be coarse."""
    table, sizes = tables()[page], {}
    for x in table.FLAWS:
        sizes.setdefault(x.id, []).append(x.size)
    known = {x.id: x for x in all_theorems() if x.page == f"{page}.md"}
    assert sizes.keys() | table.REASONS.keys() == known.keys()
    assert not sizes.keys() & table.REASONS.keys()
    assert all(table.REASONS.values())
    assert not [id for id, x in sizes.items() if 0.0 not in x and not known[id].coarse]


def test_no_flaw_changes_what_a_check_reads():
    for x in flaws():
        module, _, path = x.place.partition(":")
        assert not module.startswith(("refspec.theorems", "support")), str(x)
        assert x.place == "data" or hasattr(import_module(module), path.split(".")[0])
