"""The largest eigenvalues from products agree with those of a full spectrum."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refspec
from refspec import backend, datasets, memory, quadrature, rounding, ways
from refspec import leading as at
from refspec.curvature import SecondMoment
from refspec.factors import Factor, Factors
from refspec.theorems import Study
from support.snapshots import snapshots, typical

MOMENTS = ("features", "errors", "fisher")


def moment(snapshot, of):
    if of == "fisher":
        return refspec.fisher(snapshot)
    return getattr(refspec, of)(snapshot, snapshot.layers[0].name)


@settings(max_examples=25)
@pytest.mark.theorem("S3")
@given(snapshots(), st.sampled_from(MOMENTS), st.integers(1, 9))
def test_largest_of_any_snapshot(snapshot, of, k):
    """Each within both radii, at any scale, whole and for every level."""
    m = moment(snapshot, of)
    for x in (m, *refspec.decompose(m).levels.values()):
        k = min(k, *x.shape)
        some, every = refspec.spectrum(x, top=k), refspec.spectrum(x)
        n = max(k, len(every.values))
        whole = np.pad(backend.to_host(every.values), (0, n))[:k]
        away = np.max(np.abs(backend.to_host(some.values) - whole))
        assert away <= some.radius + every.radius


def test_the_radius_is_as_sharp_as_that_of_all():
    """float64: no wider than 100 times the radius of the whole factorisation."""
    for name in ("wine_sklearn", "mnist_cnn"):
        m = refspec.fisher(getattr(datasets, name)())
        some, every = refspec.spectrum(m, top=5), refspec.spectrum(m)
        assert some.radius <= 100 * every.radius
        assert not some.complete
        assert some.n_zero == 0
        assert "top=5" in repr(some)


def test_one_eigenvalue_more_would_be_seen():
    """Effect: shifted by one rank, or by twice the radius, the values are others."""
    m = refspec.fisher(typical())
    some, every = refspec.spectrum(m, top=3), refspec.spectrum(m)
    radius = some.radius + every.radius
    assert np.max(np.abs(some.values - every.values[1:4])) > radius
    assert np.max(np.abs(some.values + 2 * radius - every.values[:3])) > radius


def test_largest_in_any_namespace(asarray):
    host = typical()
    moved = refspec.snapshot(
        [
            refspec.Layer(x.name, asarray(x.features), asarray(x.errors))
            for x in host.layers
        ],
        host.labels,
        probabilities=asarray(host.probabilities),
    )
    a, b = (refspec.attribute(refspec.fisher(x), top=4) for x in (host, moved))
    values = [backend.to_host(x.spectrum.values) for x in (a, b)]
    assert np.max(np.abs(values[0] - values[1])) <= a.radius + b.radius
    assert a.kinds == b.kinds
    one, two = (refspec.density(refspec.fisher(x), probes=2) for x in (host, moved))
    assert np.all(one.lower <= two.upper)
    assert np.all(two.lower <= one.upper)


def test_products_have_no_more_columns_than_fit(monkeypatch):
    m = refspec.fisher(datasets.wine_sklearn())
    whole, widths, product = refspec.spectrum(m, top=5), [], SecondMoment.matvec

    def seen(self, v):
        widths.append(v.shape[1])
        return product(self, v)

    monkeypatch.setattr(SecondMoment, "matvec", seen)
    refspec.spectrum(m, top=5)
    assert max(widths) > 2
    widths.clear()
    monkeypatch.setattr(ways, "COLUMNS", 2)
    with memory.within(1000):  # a temporary holds less than a column
        few = refspec.spectrum(m, top=5)
    assert max(widths) == 2
    assert np.abs(few.values - whole.values).max() <= few.radius + whole.radius


def test_more_than_there_are_is_refused():
    m = refspec.features(typical(), "fc1")
    n = min(m.shape)
    with pytest.raises(ValueError, match=rf"min\(N K, P\) = 1\.\.{n}, got {n + 1}"):
        refspec.spectrum(m, top=n + 1)
    with pytest.raises(ValueError, match=", got 0:"):
        refspec.attribute(m, top=0)
    with pytest.raises(TypeError, match="top must be an integer"):
        refspec.spectrum(m, top=2.0)
    with pytest.raises(ValueError, match="without vectors and certify"):
        refspec.spectrum(m, top=1, certify=True)
    with pytest.raises(ValueError, match="without certify"):
        refspec.attribute(m, top=1, certify=True)


@pytest.mark.theorem("S4")
@settings(max_examples=15)
@given(snapshots(), st.sampled_from(MOMENTS), st.integers(1, 6), st.integers(1, 20))
def test_S4(snapshot, of, probes, steps):
    """The number of eigenvalues above any threshold is inside the band."""
    m = moment(snapshot, of)
    every, radius = refspec.spectrum(m).values, refspec.spectrum(m).radius
    found = refspec.density(m, probes=probes, steps=steps)
    t = found.thresholds[:, None]
    assert np.all(found.lower <= np.sum(every > t - radius, axis=1))
    assert np.all(np.sum(every > t + radius, axis=1) <= found.upper)


@pytest.mark.slow
def test_the_band_says_something():
    """Effect: twice the eigenvalues, or half of them, are not inside."""
    m = refspec.fisher(datasets.mnist_cnn())
    every, found = refspec.spectrum(m).values, refspec.density(m, probes=64)
    above = np.sum(every > found.thresholds[:, None], axis=1)
    assert np.all((found.lower <= above) & (above <= found.upper))
    assert np.any(2 * above > found.upper)
    assert np.any(above < 2 * found.lower)
    wide = found.upper - found.lower
    fewer = refspec.density(m, probes=4)
    assert np.min(wide[above > 20]) < np.min((fewer.upper - fewer.lower)[above > 20])


def test_the_band_holds_for_every_seed(monkeypatch):
    """With a failure probability of a tenth it fails as seldom as it says."""
    monkeypatch.setattr(rounding, "FAILURE", 0.1)
    m = refspec.fisher(typical())
    every = refspec.spectrum(m).values
    trials, failed = 120, 0
    for seed in range(trials):
        found = refspec.density(m, probes=3, steps=8, seed=seed)
        above = np.sum(every > found.thresholds[:, None], axis=1)
        failed += not np.all((found.lower <= above) & (above <= found.upper))
    assert failed / trials <= 0.1 + np.sqrt(np.log(1e9) / (2 * trials))


@pytest.mark.slow
def test_the_band_holds_for_thresholds_chosen_after_looking(monkeypatch):
    """One event for each rank: the worst of all thresholds fails as seldom."""
    monkeypatch.setattr(rounding, "FAILURE", 0.2)
    rng, n, m, trials, failed = np.random.default_rng(0), 300, 16, 1200, 0
    values, ranks = np.linspace(1, 0.01, n), np.arange(1, n + 1)
    for _ in range(trials):
        squares = rng.standard_normal((m, n)) ** 2
        above = np.cumsum(np.sum(squares, axis=0))  # chi-squared of m times the rank
        k = np.argmax(np.abs(above - m * ranks) / ranks**0.5)
        t = (values[k : k + 1] + values[k + 1 : k + 2].sum()) / 2
        nodes = np.tile(values, (m, 1))
        lower, upper = quadrature._band(nodes, squares, t, 0.0, n)
        failed += not lower <= k + 1 <= upper
    assert failed / trials <= 0.2 + np.sqrt(np.log(1e9) / (2 * trials))


def test_quadrature_is_the_trace_on_average():
    """Sum of weights nodes: within the spread of its own probes, at 1e-9."""
    m = refspec.fisher(datasets.wine_sklearn())
    found = refspec.density(m, probes=256, steps=4)
    trace, values = m.trace(), refspec.spectrum(m).values
    # 256 times the estimate is a weighted sum of chi-squared: Laurent and Massart
    x = np.log(2e9)
    square, top = float(np.sum(values**2)), float(values[0])
    slack = 2 * np.sqrt(square * x / 256) + 2 * top * x / 256
    assert abs(float(found.nodes @ found.weights) - trace) <= slack
    assert abs(2 * float(found.nodes @ found.weights) - trace) > slack  # effect


@pytest.mark.theorem("A6")
@settings(max_examples=12)
@given(snapshots(), st.sampled_from(MOMENTS), st.integers(1, 6))
def test_attribution_of_the_largest(snapshot, of, k):
    """Levels, knock-outs, sandwich: those of the full attribution, within radii."""
    m = moment(snapshot, of)
    k = min(k, *m.shape)
    some, every = refspec.attribute(m, top=k), refspec.attribute(m)
    radius = some.radius + every.radius
    for a, b in ((some.levels, every.levels), (some.knockouts, every.knockouts)):
        for name, values in a.items():
            n = min(k, len(values))
            whole = np.pad(b[name], (0, n))[:n]
            assert np.max(np.abs(values[:n] - whole), initial=0.0) <= radius
    for name, trace in some.traces.items():
        assert abs(trace - every.traces[name]) <= max(m.shape) * radius
    n = min(len(some.lower), len(every.lower))
    assert np.max(np.abs(some.lower - every.lower[:n])[:n], initial=0.0) <= 2 * radius
    total = sum(some.shares.values())
    assert np.max(np.abs(total - 1), initial=0.0) <= 8 * Study(snapshot).u


@pytest.mark.slow
def test_shares_of_the_largest():
    """On embedded networks: the shares of the full attribution, by their gaps."""
    for name in ("wine_sklearn", "mnist_cnn"):
        m = refspec.fisher(getattr(datasets, name)())
        some, every = refspec.attribute(m, top=6), refspec.attribute(m)
        v, radius = every.spectrum.values, some.radius + every.radius
        gap = np.min(v[:6] - v[1:7])
        # a level's share moves by at most twice the sine of its eigenvector's angle, to
        # which the residual over the gap is a bound
        for level, shares in some.shares.items():
            away = np.max(np.abs(shares - every.shares[level][:6]))
            assert away <= 2 * radius / (gap - radius) + radius / v[5]
        assert some.kinds == every.kinds[:6]


def test_a_gram_matrix_is_held_where_that_costs_less():
    """The same eigenvalues with it and without; not where it does not fit or pay."""
    m = refspec.fisher(datasets.mnist_cnn())
    n, work = m.shape[0], m.rows.work
    # scores of a file in float32 count, and all rows are held; C - 1 are reckoned with
    part, one = ways.gram_side(m) / n, work.product
    whole = work.outer * part**2 + work.formed * part  # sums are formed once
    held = at.with_gram_if_cheaper(m, int(whole / one) + 1)
    assert held.rows.held.shape == (n, n)
    assert held.rows.work.product == n * n
    assert at.with_gram_if_cheaper(m, int(whole / one) - 1) is m
    trace = m.trace()
    both = [at.of_scaled(x, 5, trace) for x in (held, m)]
    away = np.max(np.abs(both[0].values - both[1].values))
    assert away <= both[0].radius + both[1].radius
    few = refspec.features(typical(), "fc1")  # fewer columns than rows
    assert at.with_gram_if_cheaper(few, 10**9) is few


def test_rows_with_their_gram_matrix_are_the_same_rows():
    """Scaled, chosen and squared, and held once for all that is asked of them."""
    m = refspec.fisher(typical())
    held = replace(m, rows=at.WithGram(m.rows, m.rows.outer()))
    N, K, _ = m.rows.shape
    index, bound = np.arange(0, N * K, 3), 2 * at.product_radius(m, m.trace())
    z = np.random.default_rng(0).standard_normal((N, K, 2))
    for power in (0, -3, 40):
        one, two, up = m.rows.times(power), held.rows.times(power), 4.0**power
        assert two.held is held.rows.held
        off = np.max(np.abs(one.gram(index, 2) - two.gram(index, 2)))
        assert off <= up * bound
        assert np.max(np.abs(one.squares() - two.squares())) <= up * bound
        assert abs(one.trace() - two.trace()) <= up * N * K * bound
        off = np.max(np.abs(one.gram_times(z) - two.gram_times(z)))
        assert off <= up * bound * np.linalg.norm(z)
    assert at.with_gram_if_cheaper(held, 10**9) is held
    a, b = refspec.attribute(m, top=3), refspec.attribute(held, top=3)
    away = np.max(np.abs(a.spectrum.values - b.spectrum.values))
    assert away <= a.radius + b.radius


def test_densities_together_are_those_of_each():
    """Each band holds the counts of its own moment, and not those of another."""
    m = refspec.fisher(datasets.wine_sklearn())
    several = quadrature.whole_and_without(m)
    found, fits = refspec.densities(m, probes=16, steps=32), {}
    assert list(found) == list(several)
    for name, x in found.items():
        for other, moment in several.items():
            every, t = refspec.spectrum(moment), x.thresholds[:, None]
            low = np.sum(every.values > t + every.radius, axis=1)
            high = np.sum(every.values > t - every.radius, axis=1)
            fits[name, other] = bool(np.all((x.lower <= high) & (low <= x.upper)))
    assert all(fits[n, n] for n in several)
    assert not all(fits.values())


def test_the_error_of_rows_is_in_the_radius():
    """Rows moved by as much as they say to be uncertain: the values stay within it."""
    m = refspec.fisher(typical())
    rows, lost = m.rows.explicit(np.inf), 2.0**-12
    (factor,) = rows.layers[:1]
    moved = Factor(factor.roots * (1 + lost / 2), factor.features)
    lost *= float(np.linalg.norm(factor.roots))
    alone = [Factors((f,), e) for f, e in ((factor, lost), (moved, 0.0))]
    one, two = (
        refspec.spectrum(refspec.SecondMoment(x, m.weights, m.offsets), top=2)
        for x in alone
    )
    away = np.max(np.abs(one.values - two.values))
    assert two.radius < away <= one.radius + two.radius


@pytest.mark.parametrize("name", ["wine_sklearn", "mnist_cnn"])
def test_many_cells_are_seen_by_products(monkeypatch, name):
    """Levels of means from products: values and traces as from their Gram matrix."""
    m = refspec.fisher(getattr(datasets, name)())
    held = refspec.attribute(m, top=4)
    monkeypatch.setattr("refspec.ways.cells_by_products", lambda *_: True)
    found = refspec.attribute(m, top=4)
    radius = found.radius + held.radius
    for level, values in found.levels.items():
        r = min(4, len(held.levels[level]))
        assert np.max(np.abs(values[:r] - held.levels[level][:r])) <= radius
        traces = found.traces[level], held.traces[level]
        assert abs(traces[0] - traces[1]) <= radius * len(held.levels[level]) * 4
    for level, values in found.knockouts.items():
        assert np.max(np.abs(values[:4] - held.knockouts[level][:4])) <= radius
    assert found.kinds == held.kinds
    assert not any(map(len, found.angles.values()))
    assert np.all(found.lower <= held.spectrum.values[: len(found.lower)] + radius)


def test_the_largest_alone_know_how_many_there_are():
    m = refspec.fisher(typical())
    some, every = refspec.spectrum(m, top=2), refspec.spectrum(m)
    assert some.dimension == every.dimension == m.shape[1]
