"""Property tests of theory/attribution.md, each with a mutant that is rejected."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given

from refspec import attribution, curvature, datasets
from refspec.attribution import shares
from refspec.theorems import Study, find
from refspec.theorems import attribution as page
from support.snapshots import snapshots, typical
from support.verdicts import holds, rejected, study_of, verdict


@pytest.mark.theorem("A1")
@given(snapshots())
def test_A1(snapshot):
    holds("A1", snapshot)


def scaled_knockout(monkeypatch, factor):
    def wrong(basis, levels, **how):
        values, radius = right(basis, levels, **how)
        return factor * values, radius

    right = page.knockout
    monkeypatch.setattr(page, "knockout", wrong)


@pytest.mark.parametrize("factor", [-1.0, 0.1])
def test_another_edge_is_rejected(monkeypatch, factor):
    scaled_knockout(monkeypatch, factor)
    rejected("A1", typical())


@pytest.mark.theorem("A2")
@given(snapshots())
def test_A2(snapshot):
    holds("A2", snapshot)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_another_projected_spectrum_is_rejected(monkeypatch, factor):
    study = Study(typical())
    study.once(page.rests)  # the right ones
    scaled_knockout(monkeypatch, factor)
    rejected("A2", study)


def separated(seed=0):
    """Errors almost constant within a class: outliers far above the rest."""
    snapshot = typical(seed, counts=(5, 5, 5))
    p = 0.7 * np.eye(3)[snapshot.labels] + 0.1
    rng = np.random.default_rng(seed)
    h = np.eye(3)[snapshot.labels] + 0.01 * rng.standard_normal((15, 3))
    layer = replace(
        snapshot.layers[1],
        features=h[:, None],
        errors=(p[:, None] - np.eye(3))[:, :, None],
    )
    return replace(snapshot, layers=(layer,), probabilities=p)


@pytest.mark.theorem("A3")
@given(snapshots())
def test_A3(snapshot):
    study = Study(snapshot)
    assume(snapshot.probabilities.any() and study.fisher.trace() > 0)
    if not find(["A3"])[0].unmet(study):
        holds("A3", study)
    holds("A3", separated())


def test_the_last_eigenvectors_in_place_of_the_first_are_rejected(monkeypatch):
    def wrong(U, k):
        return right(U[::-1], k)

    right = shares.principal_angles
    monkeypatch.setattr(shares, "principal_angles", wrong)
    rejected("A3", separated())


@pytest.mark.parametrize("kind", ["outlier", "bump"])
def test_the_complementary_angle_is_rejected(kind):
    study = Study(separated())
    found = study.attribution
    wrong = found.angles | {kind: np.pi / 2 - found.angles[kind]}
    rejected("A3", study_of(study.snapshot, attribution=replace(found, angles=wrong)))


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
    assume(study.fisher.trace() > 0)
    holds("A7", study)


def test_vectors_that_are_no_eigenvectors_are_rejected():
    study = Study(separated())
    basis, rng = study.basis, np.random.default_rng(0)
    r = len(basis.values)
    Q = np.linalg.qr(rng.standard_normal((r, r)))[0]
    rows = {n: x @ Q for n, x in basis.rows.items()}
    rejected("A7", study_of(study.snapshot, basis=replace(basis, rows=rows)))


def test_shares_of_smaller_means_are_rejected():
    study = Study(typical())
    rows = {n: x / 2 for n, x in study.basis.rows.items()}
    wrong = study_of(study.snapshot, basis=replace(study.basis, rows=rows))
    rejected("A7", wrong)


@pytest.mark.theorem("A4")
@given(snapshots())
def test_A4(snapshot):
    study = Study(snapshot)
    assume(study.fisher.trace() > 0)
    holds("A4", study)


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


def test_shares_of_eigenvalues_a_little_too_large_are_rejected(monkeypatch):
    """By a few resolutions, far below 1e-6."""
    snapshot = typical()
    least = verdict("A4", snapshot).resolution
    assert least < 2.0**-30

    def wrong(basis, values, xp):
        found = right(basis, values, xp)
        moved = {basis.within: -8 * least, "between_class": 8 * least}
        return {name: x + moved.get(name, 0) for name, x in found.items()}

    right = shares._shares
    monkeypatch.setattr(shares, "_shares", wrong)
    rejected("A4", snapshot)


@pytest.mark.theorem("A5")
@given(snapshots())
def test_A5(snapshot):
    holds("A5", snapshot)


def test_a_cut_above_the_radius_is_rejected():
    study = Study(typical())
    basis, half = study.basis, len(study.basis.values) // 2
    rows = {n: x[:, :half] for n, x in basis.rows.items()}
    wrong = replace(basis, values=basis.values[:half], rows=rows)
    rejected("A5", study_of(study.snapshot, basis=wrong))


@pytest.mark.theorem("A6")
@given(snapshots())
def test_A6(snapshot):
    holds("A6", snapshot)


def test_a_smaller_edge_leaves_more_above_it_than_the_rank(monkeypatch):
    snapshot = separated()
    holds("A6", snapshot)
    scaled_knockout(monkeypatch, 0.1)
    rejected("A6", snapshot)


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
