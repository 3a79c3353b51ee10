"""Second moments and cell means formed closely, against exact rationals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from refspec.rounding import second

U = 2.0**-53
seeds = st.integers(0, 2**32 - 1)


def exact(x):
    return np.vectorize(Fraction, otypes=[object])(x)


def world(seed, N=5, K=2, layers=3, spread=0):
    """Return errors and features, or None, of some layers; sizes of samples differ."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(layers):
        a, b = rng.integers(1, 4, 2)
        size = 2.0 ** rng.integers(-spread, spread + 1, N)
        D = rng.standard_normal((N, K, b)) / size[:, None, None]
        h = rng.standard_normal((N, a)) * size[:, None]
        made.append((D, None) if rng.random() < 0.4 else (D, h))
    return made


def rows(pairs):
    """Multiply out, (N, K, P)."""
    parts = []
    for D, h in pairs:
        d = exact(D)
        h = exact(np.ones((len(D), 1)) if h is None else h)
        row = d[:, :, :, None] * h[:, None, None, :]
        parts.append(row.reshape(*D.shape[:2], -1))
    return np.concatenate(parts, axis=2)


def moment(pairs):
    """Return X'X, exactly, and its trace."""
    X = rows(pairs)
    flat = X.reshape(-1, X.shape[2])
    return flat.T @ flat, float(np.sum(flat * flat))


@given(seeds, st.integers(1, 4), st.integers(1, 3), st.sampled_from([0, 3]))
def test_second_moments_are_within_a_few_units(seed, K, layers, spread):
    """Symmetric, within the bound, and the bound is a few units of the trace."""
    pairs = world(seed, K=K, layers=layers, spread=spread)
    true, trace = moment(pairs)
    made, error = second.second_moment([second.layer(*x) for x in pairs], trace)
    away = exact(made) - true
    assert np.array_equal(made, made.T)
    assert np.sum(away * away) <= Fraction(error) ** 2
    if all(h is not None for _, h in pairs):  # whose scales are moved
        assert error <= 16 * U * trace


def test_samples_in_parts_add_up(monkeypatch):
    """One sample at a time: what is added counts."""
    pairs = world(4, N=40, layers=2)
    true, trace = moment(pairs)
    layers = [second.layer(*x) for x in pairs]
    whole = second.second_moment(layers, trace)[1]
    monkeypatch.setattr(second, "_step", lambda *_: 1)
    made, error = second.second_moment(layers, trace)
    away = exact(made) - true
    assert np.sum(away * away) <= Fraction(error) ** 2
    assert whole < error


def test_the_bound_can_fail():
    """A thousandth of it, and rows in float32 against all of it."""
    pairs = world(1, N=9)
    true, trace = moment(pairs)
    made, error = second.second_moment([second.layer(*x) for x in pairs], trace)
    away = exact(made) - true
    assert np.sum(away * away) > Fraction(error / 1000) ** 2
    single = [(D.astype("f4"), None if h is None else h.astype("f4")) for D, h in pairs]
    away = moment(single)[0] - true
    assert np.sum(away * away) > Fraction(error) ** 2


def test_scales_of_features_go_to_the_errors():
    """Huge features of one sample and huge errors of another say nothing together."""
    pairs = [(D, h) for D, h in world(0, spread=40) if h is not None]
    trace = moment(pairs)[1]
    moved = second.second_moment([second.layer(*x) for x in pairs], trace)[1]
    left = second.second_moment([second.Layer(*x) for x in pairs], trace)[1]
    assert left > 1000 * moved


def test_features_of_zero_leave_nothing():
    """However large the errors are."""
    D = np.full((2, 1, 1), 1e200)
    made, error = second.second_moment([second.layer(D, np.zeros((2, 3)))], 0.0)
    assert not made.any()
    assert error < U


@given(seeds, st.integers(1, 4), st.integers(1, 3), st.integers(0, 5))
def test_cell_means_are_within_a_few_units(seed, K, layers, cut):
    pairs = world(seed, K=K, layers=layers, spread=3)
    rng = np.random.default_rng(seed)
    unit = np.sqrt(rng.dirichlet(np.ones(5), K).T) * (1 - 8 * U)
    offsets, trace = (0, cut, 5), moment(pairs)[1]
    made, error = second.cell_means(
        [second.layer(*x) for x in pairs], unit, offsets, trace
    )
    X = exact(unit)[:, :, None] * rows(pairs)
    away = exact(made) - np.stack([X[:cut].sum(axis=0), X[cut:].sum(axis=0)])
    assert np.sum(away * away) <= Fraction(error) ** 2
    assert np.sum(away * away) == 0 or error < 2**-40 * np.sqrt(trace)
