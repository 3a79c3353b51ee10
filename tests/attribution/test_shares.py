"""Shares, sandwiches, knock-outs and angles against explicit matrices."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refspec
from refspec import (
    attribution,
    backend,
    coordinates,
    costs,
    curvature,
    factors,
    structure,
)
from refspec.attribution.shares import remaining_shares
from support.snapshots import sampled

LEVELS = ("diagonal", "between_class", "between_cross_class", "within_cross_class")


def explicit(snapshot):
    """Every level as a P x P matrix."""
    split = structure.decompose(curvature.fisher(snapshot))
    return {n: backend.to_host(x.matrix()) for n, x in split.levels.items()}


def descending(A):
    return np.linalg.eigvalsh((A + A.T) / 2)[::-1]


def differ(values, true):
    values = backend.to_host(values)
    n = max(len(values), len(true))
    padded = [np.sort(np.pad(x, (0, n - len(x))))[::-1] for x in (values, true)]
    return np.abs(padded[0] - padded[1]).max()


@pytest.mark.parametrize("side", ["primal", "dual"])
def test_knockouts_are_those_of_explicit_matrices(asarray, side):
    snapshot = sampled(asarray=asarray)
    parts = explicit(snapshot)
    A = sum(parts.values())
    at = getattr(coordinates, side)(curvature.fisher(snapshot))
    basis = attribution.eigenbasis(at)
    result = attribution.attribute(basis)
    slack = 4 * result.radius
    for name in LEVELS:
        assert differ(result.knockouts[name], descending(A - parts[name])) <= slack
        assert differ(result.levels[name], descending(parts[name])) <= slack
        assert abs(result.traces[name] - np.trace(parts[name])) <= len(A) * slack
    two = ["between_class", "diagonal"]
    values, radius = attribution.knockout(basis, two)
    true = descending(A - parts[two[0]] - parts[two[1]])
    assert differ(values, true) <= 4 * radius
    # the mutant: without the diagonal, collinear with the class means
    assert not differ(values, descending(A - parts[two[0]])) <= 4 * radius


def test_what_is_cut_off_is_below_the_radius_in_all():
    """Eleven eigenvalues of half a radius each: none is resolved alone, their sum is.

    Orthogonal rows, so that the computed matrix is diagonal and its values exact.
    """
    sizes = np.ones(12)
    for _ in range(3):  # the radius depends on the trace, which hardly moves at last
        factor = factors.Factor(np.sqrt(np.diag(sizes))[:, None, None, :], None)
        rows, w = factors.Factors((factor,)), np.full((12, 1), 1 / 12)
        moment = curvature.SecondMoment(rows, w, (0, 6, 12))
        basis = attribution.eigenbasis(coordinates.primal(moment))
        radius = basis.spectrum.radius
        sizes = np.array([1.0, *[radius / 2] * 11])
    kept = len(basis.values)
    values = backend.to_host(basis.spectrum.values)
    assert 1 < kept < 12
    assert np.abs(values[kept:]).sum() <= radius < np.abs(values[kept - 1 :]).sum()


def test_projection_takes_the_span_out():
    snapshot = sampled()
    parts = explicit(snapshot)
    A, B = sum(parts.values()), parts["between_class"] + parts["diagonal"]
    basis = attribution.eigenbasis(curvature.fisher(snapshot))
    values, radius = attribution.knockout(
        basis, ["between_class", "diagonal"], by="projection"
    )
    w, V = np.linalg.eigh(B)
    U = V[:, w > 64 * radius]
    P = np.eye(len(A)) - U @ U.T
    assert differ(values, descending(P @ A @ P)) <= 2.0**10 * radius


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 3), min_size=2, max_size=4))
def test_shares_add_up_and_intervals_hold(seed, sizes):
    snapshot = sampled(seed=seed, counts=tuple(sizes))
    result = attribution.attribute(curvature.fisher(snapshot))
    values = backend.to_host(result.spectrum.values)[: len(result.kinds)]
    total = sum(result.shares.values())
    assert (np.abs(total - 1) <= 8 * 2.0**-53).all()
    assert all((x >= 0).all() for x in result.shares.values())
    assert (result.lower <= values).all()
    assert (values <= result.upper).all()
    for kind, angles in result.angles.items():
        assert len(angles) == 0 or result.angle_bounds[kind] < 1
        bound = result.angle_bounds[kind] + 64 * 2.0**-53
        assert np.sin(angles).max(initial=0.0) <= bound


def test_an_interval_of_the_class_means_alone_is_too_short():
    """The mutant of the sandwich: nothing for what is beyond the means."""
    result = attribution.attribute(curvature.fisher(sampled()))
    assert result.spectrum.values[0] > result.lower[0] + 2 * result.radius


def test_shares_are_those_of_the_eigenvectors():
    snapshot = sampled()
    parts = explicit(snapshot)
    w, V = np.linalg.eigh(sum(parts.values()))
    w, V = w[::-1], V[:, ::-1]
    result = attribution.attribute(curvature.fisher(snapshot))
    gap = np.min(np.abs(np.diff(w[:5])))
    for name in LEVELS:
        true = np.einsum("ij,ik,kj->j", V, parts[name], V)[:4] / w[:4]
        bound = 8 * result.radius / gap * np.sqrt(len(w)) + 4 * result.radius / w[3]
        assert np.abs(result.shares[name][:4] - true).max() <= bound
        assert bound < 2.0**-20


def test_a_planted_class_mean_is_a_proved_outlier():
    rng = np.random.default_rng(0)
    C, n, d = 4, 5, 12
    means = 10 * np.linalg.qr(rng.standard_normal((d, C)))[0].T
    h = np.repeat(means, n, axis=0) + rng.standard_normal((C * n, d)) / 8
    rows = factors.Factors(
        (factors.Factor(h[:, None, None, :] / np.sqrt(C * n), None),)
    )
    weights = np.full((C * n, 1), 1 / (C * n))
    moment = curvature.SecondMoment(rows, weights, (0, 5, 10, 15, 20))
    result = attribution.attribute(moment)
    assert result.kinds[:C] == ["outlier"] * C
    assert result.kinds[C:] == ["bulk"] * (len(result.kinds) - C)
    assert result.proved[:C].all()
    assert len(result.angles["outlier"]) == C
    assert np.sin(result.angles["outlier"]).max() <= result.angle_bounds["outlier"] < 1


def test_unknown_levels_are_refused_by_name():
    basis = attribution.eigenbasis(curvature.fisher(sampled()))
    with pytest.raises(ValueError, match=r"levels must be one of .* got 'bump'"):
        attribution.knockout(basis, ["bump"])
    with pytest.raises(ValueError, match=r"by must be .* got 'division'"):
        attribution.knockout(basis, ["diagonal"], by="division")
    with pytest.raises(ValueError, match=r"levels must be of the means"):
        attribution.knockout(basis, [basis.within], by="projection")


def test_all_from_one_factorisation(monkeypatch):
    """Every level and knock-out comes from the basis: no second pass over the data."""
    basis = attribution.eigenbasis(curvature.fisher(sampled()))

    def touched(*_, **__):
        raise AssertionError("the data were read again")

    for product in ("dot", "cross", "gram", "squares", "chunks", "columns", "second"):
        monkeypatch.setattr(factors.Factors, product, touched)
    with pytest.raises(AssertionError, match="read again"):
        refspec.attribute(sampled())
    assert refspec.attribute(basis).kinds


@pytest.mark.parametrize("of", ["features", "errors"])
def test_the_sandwich_holds_every_eigenvalue_of_a_layer(of):
    """The largest of features is the global mean's: B must hold it."""
    s = refspec.datasets.wine_sklearn()
    a = refspec.attribute(getattr(refspec, of)(s, "coefs_1"))
    values = a.spectrum.values[: len(a.lower)]
    assert np.all(a.lower <= values)
    assert np.all(values <= a.upper)
    level = a.levels["between_class"]  # effect: alone it is not B
    some = level[0] + a.levels["within_class" if of == "features" else "diagonal"][0]
    assert of == "errors" or values[0] > some + a.radius


@pytest.mark.parametrize("side", ["primal", "dual"])
def test_a_radius_holds_every_error_there_is(side):
    """Of the whole twice, of what levels see besides, and of each solver."""
    at = getattr(coordinates, side)(curvature.fisher(sampled()))
    basis = attribution.eigenbasis(at)
    assert "certified" not in basis.spectrum.kind
    assert at.level_radius > at.radius > 0
    whole = 2 * basis.spectrum.radius + (at.level_radius - at.radius)
    assert basis.radius >= whole
    assert attribution.knockout(basis, ["diagonal"])[1] > basis.radius


def test_nothing_taken_out_and_everything():
    basis = attribution.eigenbasis(curvature.fisher(sampled()))
    values, radius = attribution.knockout(basis, [], by="projection")
    assert (values is basis.values, radius) == (True, basis.radius)
    values, radius = attribution.knockout(basis, [*basis.rows, basis.within])
    assert np.abs(values).max(initial=0.0) <= radius
    assert attribution.sines(basis, []).tolist() == [1.0] * len(basis.values)
    assert attribution.span_angles(basis, []).shape == (0,)
    assert attribution.span_angles(basis, ["diagonal"], 0).shape == (0,)
    few = len(attribution.span_angles(basis, ["diagonal"]))
    assert few == 3  # as many as the span has dimensions: a cell a class
    empty = attribution.eigenbasis(curvature.features(zero(), "fc"))
    assert empty.values.shape == (0,)
    none, _ = attribution.knockout(empty, ["between_class"], by="projection")
    assert none.shape == (0,)


def zero():
    layer = refspec.Layer("fc", np.zeros((4, 1, 2)), np.zeros((4, 2, 1, 2)))
    return refspec.snapshot([layer], [0, 0, 1, 1], probabilities=np.full((4, 2), 0.5))


def test_an_eigenvalue_that_rounding_made_negative_is_within():
    basis = attribution.eigenbasis(curvature.fisher(sampled()))
    values = basis.values.copy()
    values[-1] = -basis.radius / 4  # and of no mean
    rows = {
        n: x * (np.arange(len(values)) < len(values) - 1) for n, x in basis.rows.items()
    }
    basis = replace(basis, values=values, rows=rows)
    shares = attribution.attribute(basis).shares
    assert {n: x[-1] for n, x in shares.items() if x[-1]} == {basis.within: 1}


@pytest.mark.parametrize("side", ["primal", "dual"])
def test_shares_of_what_stays_are_those_of_explicit_matrices(asarray, side):
    """v'Bv / lambda, v an eigenvector of the rest; by Davis and Kahan where it stands.

    And whatever the eigenvectors are, a level's shares add up to its trace.
    """
    snapshot = sampled(asarray=asarray)
    parts = explicit(snapshot)
    at = getattr(coordinates, side)(curvature.fisher(snapshot))
    basis = attribution.eigenbasis(at)
    told = 0
    for removed in combinations(LEVELS, 2):
        kept = {n: x for n, x in parts.items() if n not in removed}
        rest = sum(kept.values())
        values, shares = remaining_shares(basis, removed)
        solved, radius = attribution.knockout(basis, removed)
        assert list(shares) == [n for n in (*basis.rows, basis.within) if n in kept]
        assert np.array_equal(values, backend.to_host(solved))
        assert differ(values, descending(rest)) <= 4 * radius
        true, V = np.linalg.eigh((rest + rest.T) / 2)
        true, V = true[::-1], V[:, ::-1]
        gaps = np.minimum(
            *(np.abs(np.diff(np.pad(true, 1)))[i:][: len(true)] for i in (0, 1))
        )
        for name, share in shares.items():
            slack = len(values) * 8 * radius
            assert abs(share @ np.maximum(values, 0) - np.trace(parts[name])) <= slack
            expected = np.einsum("ik,ij,jk->k", V, parts[name], V)[: len(share)]
            norm = np.linalg.norm(parts[name], 2)
            for k in np.flatnonzero(gaps[: len(share)] > 16 * radius):
                turn = 4 * radius / gaps[k]
                bound = (4 * norm * turn + 4 * radius) / true[k]
                assert abs(share[k] - expected[k] / true[k]) <= bound
                told += bound < 0.1
    assert told > 10  # most bounds say something


def test_eigenvalues_that_nothing_separates_share_as_the_traces_do():
    """In one cluster each level's share is its part of the trace, on either side.

    Without the within level X'X has rank r, and the rows that stay are fewer.
    """
    fisher = curvature.fisher(sampled(0, (7, 8, 9), [(6, 5)]))
    exact = attribution.eigenbasis(fisher)
    basis = replace(exact, radius=float(exact.values[0]))
    for removed in ([exact.within], ["diagonal"]):
        values, shares = remaining_shares(basis, removed)
        assert (len(values) < len(exact.values)) == (removed == [exact.within])
        traces = {
            n: np.sum(attribution.knockout(exact, set(LEVELS) - {n})[0]) for n in shares
        }
        whole = sum(traces.values())
        for name, share in shares.items():
            slack = 8 * len(exact.values) * exact.radius / whole
            assert np.abs(share - traces[name] / whole).max() <= slack


def test_what_is_within_alone_takes_no_eigenvector():
    basis = attribution.eigenbasis(sampled())
    solved = []
    with costs.heard(solved.append):
        values, shares = remaining_shares(basis, list(basis.rows))
    alone = costs.eigenvalues(len(basis.values))
    assert sum(x.products for x in solved) == alone.products
    known, _ = attribution.knockout(basis, list(basis.rows))
    assert np.array_equal(values, backend.to_host(known))
    assert list(shares) == [basis.within]
    assert np.array_equal(shares[basis.within], np.ones(len(values)))


def test_a_knockout_is_solved_once():
    basis = attribution.eigenbasis(sampled())
    solved, before = [], None
    with costs.heard(solved.append):
        attribution.attribute(basis)
        before = len(solved)
        for name in LEVELS:
            attribution.knockout(basis, [name])
        assert len(solved) == before
        attribution.knockout(basis, ["diagonal", "between_class"])
    assert len(solved) == before + 1
