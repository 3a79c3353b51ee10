"""Every statement: its check fails where the thing tested is changed ever so little."""

from importlib import import_module

import pytest

from refspec.theorems import all_theorems
from support.effects import effects, is_seen, tables


@pytest.mark.parametrize("effect", effects(), ids=str)
def test_an_effect_is_seen(effect, monkeypatch):
    is_seen(effect, monkeypatch)


@pytest.mark.parametrize("page", tables())
def test_every_statement_of_a_page_has_an_effect_or_a_reason(page):
    """Of the size that its check sees, unless that is said to be coarse."""
    table, about = tables()[page], {}
    for x in table.EFFECTS:
        about.setdefault(x.id, []).append(x)
    assert not about.keys() & table.REASONS.keys()
    assert all(table.REASONS.values())
    for x in all_theorems():
        if x.page == f"{page}.md" and x.id not in table.REASONS:
            sizes = [effect.size for effect in about.pop(x.id)]
            assert x.coarse or 0.0 in sizes, x.id
    assert not about


def test_no_effect_changes_what_a_check_reads():
    for x in effects():
        module, _, path = x.place.partition(":")
        assert not module.startswith(("refspec.theorems", "support")), str(x)
        assert x.place == "data" or hasattr(import_module(module), path.split(".")[0])
