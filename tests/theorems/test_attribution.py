"""Property tests of theory/attribution.md, and mutants that are rejected."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given

from refspec import Layer, attribution, curvature, datasets, snapshot
from refspec.attribution import shares
from refspec.theorems import Study
from support.flaws.attribution import separated
from support.snapshots import snapshots, typical
from support.verdicts import holds, meets, rejected


@pytest.mark.theorem("A1")
@given(snapshots())
def test_A1(snapshot):
    holds("A1", snapshot)


@pytest.mark.theorem("A2")
@given(snapshots())
def test_A2(snapshot):
    holds("A2", snapshot)


@pytest.mark.theorem("A3")
@given(snapshots())
def test_A3(snapshot):
    study = Study(snapshot)
    assume(snapshot.probabilities.any() and study.fisher.trace() > 0)
    if meets("A3", study):
        holds("A3", study)
    holds("A3", separated())


def test_the_last_eigenvectors_in_place_of_the_first_are_rejected(monkeypatch):
    def wrong(U, k):
        return right(U[::-1], k)

    right = shares.principal_angles
    monkeypatch.setattr(shares, "principal_angles", wrong)
    rejected("A3", separated())


def test_each_network_has_eigenvectors_along_its_means():
    """None meets the hypothesis for as many eigenvalues as there are classes."""
    for name in ("mnist_cnn", "wine_sklearn"):
        study = Study(getattr(datasets, name)())
        found = study.attribution
        C = study.snapshot.probabilities.shape[1]
        assert 0 < len(found.angles["outlier"]) < C
        assert len(found.angles["outlier"]) < len(found.angles["bump"]) < C * (C - 1)
        holds("A3", study)


@pytest.mark.theorem("A7")
@given(snapshots())
def test_A7(snapshot):
    study = Study(snapshot)
    assume(meets("A7", study))
    holds("A7", study)


@pytest.mark.theorem("A4")
@given(snapshots())
def test_A4(snapshot):
    study = Study(snapshot)
    assume(meets("A4", study))
    holds("A4", study)


def test_what_scaling_makes_zero_is_not_attributed():
    """A row is left by its size alone: beside errors of 1e60, at size 1, it is none."""
    errors = np.zeros((4, 2, 1, 2))
    errors[0, :, 0, 1] = 2.31947642e-244, -7.5e59
    errors[2, 0, 0] = -1.5e60, -1e60
    errors[3, 0, 0] = 1e60, 1.5e60
    features = np.array([-1e-30, -1e-30, -1.5e-30, 1.5e-30]).reshape(4, 1, 1)
    p = np.array([[1, 3.09263522e-304], [1.81571034e-281, 1], [0, 1], [0, 1]])
    s = np.array([5e-31, 0.5, 5e-31, 0.5])
    layer, y = Layer("fc", features, errors), [0, 1, 1, 1]
    study = Study(snapshot([layer], y, probabilities=p, sample_weights=s))
    assert study.fisher.trace() > 0
    assert not meets("A4", study)
    assert not meets("A7", study)
    holds("A4", typical())  # the effect: it is met where there is something


def exchanged(parts):
    return dict(zip(parts, reversed(parts.values()), strict=True))


def smaller(parts):
    return {name: 0.9 * x for name, x in parts.items()}


def of_the_next(parts):
    return {name: np.roll(x, 1) for name, x in parts.items()}


@pytest.mark.parametrize("change", [exchanged, smaller, of_the_next])
def test_wrong_shares_are_rejected(change, monkeypatch):
    def wrong(basis, values, xp):
        return change(right(basis, values, xp))

    right = shares._shares
    monkeypatch.setattr(shares, "_shares", wrong)
    rejected("A4", typical())


@pytest.mark.theorem("A5")
@given(snapshots())
def test_A5(snapshot):
    holds("A5", snapshot)


@pytest.mark.theorem("A6")
@given(snapshots())
def test_A6(snapshot):
    holds("A6", snapshot)


def test_attribution_of_the_smallest_scales_has_all_eigenvalues():
    """Squares of eigenvalues near 1e-240 underflow; the spectrum must not."""
    snapshot = typical()
    layers = [
        replace(x, features=1e-60 * x.features, errors=1e-60 * x.errors)
        for x in snapshot.layers
    ]
    tiny = attribution.attribute(
        curvature.fisher(replace(snapshot, layers=tuple(layers)))
    )
    plain = attribution.attribute(curvature.fisher(snapshot))
    gap = np.abs(tiny.spectrum.values[:5] * 1e240 - plain.spectrum.values[:5]).max()
    assert gap <= 2 * plain.radius


def test_a_level_that_is_zero_takes_no_direction_with_it():
    """Two classes have no cross level: its knock-out by projection changes nothing."""
    basis = Study(typical(counts=(3, 4))).basis
    values, radius = attribution.knockout(
        basis, ["between_cross_class"], by="projection"
    )
    assert np.abs(values - basis.values).max() <= radius
