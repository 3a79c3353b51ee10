"""theory/kronecker_nearest.md: its check on drawn snapshots, and mutants of it."""

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given

from refspec import Layer, snapshot
from refspec.kronecker import KroneckerSum, kfac
from refspec.theorems import Study, factored
from refspec.theorems import kronecker_nearest as page
from support.snapshots import sampled, samples
from support.verdicts import holds, rejected


@pytest.mark.theorem("K17")
@given(samples())
def test_K17(study):
    holds("K17", study)


@pytest.mark.theorem("K18")
@given(samples())
def test_K18(study):
    holds("K18", study)


def test_spreads_whose_squares_underflow_count():
    """Probabilities of 1e-170: errors' moments of 1e-170, their squares are 0."""
    errors = np.array([[[1.0], [0.0]], [[3.0], [0.0]], [[0.0], [2.0]]])
    p = np.array([[1e-170, 1 - 1e-170]] * 2 + [[1.0, 1e-170]])
    layer = Layer("fc", np.array([[[1.0]], [[2.0]], [[1.0]]]), errors[:, :, None])
    holds("K18", Study(snapshot([layer], [0, 0, 1], probabilities=p)))


def as_kfac(monkeypatch):
    """KFAC in the place of the nearest product."""
    true = page.nearest

    def wrong(s, name, terms):
        made, one = true(s, name, terms), kfac(s, name)
        first = made.terms.lefts[0] * 0 + one.left, made.terms.rights[0] * 0 + one.right
        lefts, rights = made.terms.lefts.copy(), made.terms.rights.copy()
        lefts[0], rights[0] = first
        mine = KroneckerSum(made.terms.coefficients, lefts, rights)
        return dataclasses.replace(made, terms=mine)

    monkeypatch.setattr(page, "nearest", wrong)


def nine_tenths(monkeypatch):
    """Images of R' that are too short."""
    module = sys.modules["refspec.kronecker.nearest"]
    true = module._forward

    def wrong(f, B, xp):
        return 0.9 * true(f, B, xp)

    monkeypatch.setattr(module, "_forward", wrong)


def kfac_for_cfac(monkeypatch):
    """KFAC in the place of CFAC: what lies between classes is no spread within them."""

    def wrong(s, name):
        made = kfac(s, name)
        return KroneckerSum(np.ones(1), made.left[None], made.right[None])

    monkeypatch.setattr(factored, "cfac", wrong)


@pytest.mark.parametrize(
    ("name", "mutant"),
    [("K17", as_kfac), ("K17", nine_tenths), ("K18", kfac_for_cfac)],
)
def test_mutants_are_rejected(name, mutant, monkeypatch):
    def study():
        return Study(sampled(1, ties=name == "K18"))

    holds(name, study())
    mutant(monkeypatch)
    rejected(name, study())
