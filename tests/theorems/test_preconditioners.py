"""theory/preconditioners.md: every check on drawn snapshots, and mutants."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given

from refspec.kronecker import KroneckerBasis
from refspec.theorems import Study
from refspec.theorems import preconditioners as page
from support.snapshots import sampled, samples
from support.verdicts import holds, rejected


@pytest.mark.theorem("K10")
@given(samples(positions=2))
def test_K10(study):
    holds("K10", study)


@pytest.mark.theorem("K11")
@given(samples(positions=2))
def test_K11(study):
    holds("K11", study)


@pytest.mark.theorem("K12")
@given(samples(positions=2))
def test_K12(study):
    holds("K12", study)


def inverted_split(monkeypatch):
    """The damping split against the scales."""
    true = page.factored_tikhonov

    def wrong(operator, damping):
        n, m = len(operator.left), len(operator.right)
        split = (np.trace(operator.left) / n) / (np.trace(operator.right) / m)
        found = true(operator, damping)
        mu, nu = (np.linalg.eigvalsh(x) for x in (operator.left, operator.right))
        root, split = damping**0.5, split**0.5
        values = np.outer(mu + root / split, nu + root * split)
        return KroneckerBasis(found.left, found.right, 1 / values)

    monkeypatch.setattr(page, "factored_tikhonov", wrong)


def averaged_factors(monkeypatch):
    """Factors averaged without the frequencies."""

    def wrong(old, new, decay):
        true = preconditioning_average(old, new, decay)
        plain = decay * old.errors + (1 - decay) * new.errors
        return dataclasses.replace(true, errors=plain)

    preconditioning_average = page.running_average
    monkeypatch.setattr(page, "running_average", wrong)


def half_damped(monkeypatch):
    """A solution for half the damping, its residual taken at its word."""
    true = page.damped_solve

    def wrong(operator, V, damping, preconditioner, **options):
        return true(operator, V, damping / 2, preconditioner, **options)

    monkeypatch.setattr(page, "damped_solve", wrong)


MUTANTS = [
    ("K10", inverted_split, {"scales": (2, 0)}),
    ("K11", averaged_factors, {}),
    ("K12", half_damped, {}),
]


@pytest.mark.parametrize(("name", "mutant", "world"), MUTANTS)
def test_mutants_are_rejected(name, mutant, world, monkeypatch):
    holds(name, Study(sampled(1, **world)))
    mutant(monkeypatch)
    rejected(name, Study(sampled(1, **world)))
