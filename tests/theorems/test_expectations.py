"""theory/expectations.md: every check in the place of drawn snapshots, and mutants."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given

from refspec.theorems import Study, all_theorems
from refspec.theorems import expectations as page
from support.snapshots import sampled, samples
from support.verdicts import holds, rejected

EXACT = samples(layers=1)


@pytest.mark.theorem("W6")
@given(EXACT)
def test_W6(study):
    holds("W6", study)


@pytest.mark.theorem("W7")
@given(EXACT)
def test_W7(study):
    holds("W7", study)


@pytest.mark.theorem("W8")
@given(EXACT)
def test_W8(study):
    holds("W8", study)


@pytest.mark.theorem("W9")
@given(EXACT)
def test_W9(study):
    holds("W9", study)


@pytest.mark.theorem("W10")
@given(EXACT)
def test_W10(study):
    holds("W10", study)


def independent_errors(monkeypatch):
    """Errors without scores: those at the true class drawn like the others."""
    true = page.planted

    def wrong(populations, **given):
        free = {
            name: dataclasses.replace(x, score_consistent=False)
            for name, x in populations.items()
        }
        return true(free, **given)

    monkeypatch.setattr(page, "planted", wrong)


def infinite_classes(monkeypatch):
    """No correction for the finite class: within is sum_c s_c S_c."""
    true = page.expectations.feature_levels

    def wrong(law):
        found = dict(true(law))
        mass = np.bincount(law.labels, law.weights[:, 0])
        found["within_class"] = np.asarray([[float(mass @ np.asarray(law.within))]])
        return found

    monkeypatch.setattr(page.expectations, "feature_levels", wrong)


def diagonal_kept(monkeypatch):
    """c' = c in the class means: the between-class level takes the diagonal's."""
    true = page.expectations.error_levels

    def wrong(errors):
        found = dict(true(errors))
        found["between_class"] = found["between_class"] + found["diagonal"]
        found["diagonal"] = 0 * found["diagonal"]
        return found

    monkeypatch.setattr(page.expectations, "error_levels", wrong)


def uncoupled(monkeypatch):
    """Class-conditional independence where scales are shared."""
    true = page.expectations.fisher_of_layers

    def wrong(populations):
        return true([dataclasses.replace(x, coupling=0.0) for x in populations])

    monkeypatch.setattr(page.expectations, "fisher_of_layers", wrong)


def as_kfac(monkeypatch):
    """KFAC's values: a^2 f^2 / C^2, C^2 times."""
    true = page.groups.independent_groups

    def wrong(C, b, a, **law):
        matched, mismatched, *rest = true(C, b, a, **law)
        more = (matched.value - mismatched.value) / C
        both = dataclasses.replace(
            matched, value=mismatched.value + more, multiplicity=C * C
        )
        return (both, *rest)

    monkeypatch.setattr(page.groups, "independent_groups", wrong)


MUTANTS = [
    ("W6", infinite_classes),
    ("W7", diagonal_kept),
    ("W8", diagonal_kept),
    ("W8", independent_errors),
    ("W9", uncoupled),
    ("W10", as_kfac),
]


@pytest.mark.parametrize(("name", "mutant"), MUTANTS)
def test_mutants_are_rejected(name, mutant, monkeypatch):
    holds(name, Study(sampled(1)))
    mutant(monkeypatch)
    rejected(name, Study(sampled(1)))


def test_what_a_statement_needs_is_said():
    many = Study(sampled(0, counts=(1,) * 25))
    unmet = {x.id: x.unmet(many) for x in all_theorems()}
    assert "C <= 24" in unmet["W6"]
    assert not unmet["W2"]
