"""theory/kronecker_designs.md: the limits on the ladder, and what they are not."""

import dataclasses

import numpy as np
import pytest

from refspec.random_matrix import outliers, prediction
from refspec.random_matrix.kronecker import design, law
from refspec.random_matrix.kronecker.outliers import KroneckerOutliers
from refspec.theorems import Study
from refspec.theorems import kronecker_designs as page
from support.kronecker_worlds import features_anew
from support.snapshots import sampled
from support.verdicts import holds, rejected

pytestmark = pytest.mark.slow


def study():
    return Study(sampled(0, (2, 3), [(1, 1)]))


@pytest.mark.theorem("G2")
def test_G2():
    holds("G2", study())


@pytest.mark.theorem("G3")
def test_G3():
    holds("G3", study())


@pytest.mark.theorem("G4")
def test_G4():
    holds("G4", study())


@pytest.mark.theorem("G6")
def test_G6():
    holds("G6", study())


def uncoupled(monkeypatch):
    """Samples of one kind."""
    monkeypatch.setattr(design, "_coupled", lambda kinds, _: kinds)


def one_point(monkeypatch):
    """All eigenvalues equal to their mean."""

    def wrong(design, made):
        blocks = law.expectation(design)
        first = blocks.blocks[0] + blocks.signal
        traces = [np.trace(x).real for x in (first, *blocks.blocks[1:])]
        return 1 / (np.dot(design.multiplicities, traces) / design.dimension - made.z)

    monkeypatch.setattr(page, "stieltjes", wrong)


def no_means(monkeypatch):
    """The noise alone."""
    true = page.stieltjes

    def wrong(design, made):
        return true(design, dataclasses.replace(made, signal=0 * made.signal))

    monkeypatch.setattr(page, "stieltjes", wrong)


def mean_lengths(monkeypatch):
    """All noise vectors as long as on average."""
    true = prediction.kronecker_design
    monkeypatch.setattr(prediction, "kronecker_design", lambda law, **_: true(law))


def nothing_stands_out(monkeypatch):
    """A law without outliers."""

    def wrong(*_):
        return KroneckerOutliers(outliers.no_outliers(), 0.0, 0.0, np.zeros(0))

    monkeypatch.setattr(prediction, "kronecker_outliers", wrong)


def expected_matrix(monkeypatch):
    """Outliers of the expectation of M: what many samples would show."""
    true = prediction.kronecker_outliers

    def wrong(design, edge, seed):
        found, made = true(design, edge, seed), law.expectation(design)
        full = (made.blocks[0] + made.signal).real
        values = np.linalg.eigvalsh(full)[::-1][: len(found.each.values)]
        each = dataclasses.replace(found.each, values=values)
        return dataclasses.replace(found, each=each)

    monkeypatch.setattr(prediction, "kronecker_outliers", wrong)


@pytest.mark.parametrize(
    ("id", "mutant"),
    [
        ("G2", features_anew),
        ("G2", one_point),
        ("G2", no_means),
        ("G3", mean_lengths),
        ("G4", features_anew),
        ("G4", nothing_stands_out),
        ("G4", expected_matrix),
        ("G6", uncoupled),
    ],
    ids=lambda x: x if isinstance(x, str) else x.__name__,
)
def test_mutants_are_rejected(id, mutant, monkeypatch):
    mutant(monkeypatch)
    rejected(id, study())
