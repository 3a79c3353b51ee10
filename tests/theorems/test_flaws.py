"""Every statement: its check fails where the thing tested is changed ever so little."""

from dataclasses import replace
from importlib import import_module

import pytest

from mutants import run
from refspec import datasets
from refspec.theorems import Study, all_theorems, find
from refspec.theorems.catalogue import PAGES
from support.flaws import flaws, places, seen_by, tables

FLAWS = flaws()


#: Those of worlds that are drawn again and again are slow.
IDS = [
    pytest.param(x.id, marks=[pytest.mark.slow] if x.deep else [])
    for x in all_theorems()
    if any(flaw.id == x.id for flaw in FLAWS)
]


@pytest.mark.parametrize("id", IDS)
def test_every_flaw_is_seen_and_every_comparison_sees_one(id):
    (theorem,), seen = find([id]), {}
    for flaw in (x for x in FLAWS if x.id == id):
        with pytest.MonkeyPatch.context() as patch:
            seen[str(flaw)] = seen_by(flaw, patch)
    assert not [what for what, found in seen.items() if not found]
    assert set().union(*seen.values()) == places(theorem.comparisons)


@pytest.mark.slow
def test_resolutions_are_those_of_a_trained_network_too():
    """What `verify` says that an identity sees, a flaw of a few times that shows."""
    study, seen = Study(datasets.iris_decay()), {}
    identities = {x.id: x for x in all_theorems() if x.kind == "identity"}
    for flaw in FLAWS:
        theorem = identities.get(flaw.id)
        if theorem and not flaw.size and not theorem.unmet(study):
            with pytest.MonkeyPatch.context() as patch:
                found = seen_by(replace(flaw, on=datasets.iris_decay), patch)
            seen[flaw.id] = seen.get(flaw.id, False) or bool(found)
    assert [id for id, x in seen.items() if not x] == []


def test_every_page_has_a_table():
    assert tables().keys() == set(PAGES)


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


def test_a_mutant_stands_for_every_statement_without_a_flaw():
    killing = {test for mutant in run.mutants() for test in mutant.tests}
    without = [id for table in tables().values() for id in table.REASONS]
    assert [x.id for x in find(without) if x.test not in killing] == []


def test_no_flaw_changes_what_a_check_reads():
    for x in FLAWS:
        module, _, path = x.place.partition(":")
        assert not module.startswith(("refspec.theorems", "support")), str(x)
        assert x.place == "data" or hasattr(import_module(module), path.split(".")[0])
