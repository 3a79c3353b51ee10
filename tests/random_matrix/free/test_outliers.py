"""Thresholds and outliers: closed forms and one small simulation."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from refspec import rounding
from refspec.random_matrix import outliers as mixing
from refspec.random_matrix.free import law as free_law
from refspec.random_matrix.free import outliers
from refspec.random_matrix.free.edges import (
    split_threshold,
    strength_threshold,
    support,
)
from refspec.random_matrix.free.law import FreeLaw
from support import fixed_means

U = 2.0**-53


def predicted(law, v, strength):
    """Outliers above the law's right edge."""
    return outliers.fixed_outliers(law, v, strength, float(support(law)[-1, 1]))


@given(
    st.integers(10, 1000),
    st.integers(1, 5000),
    st.floats(0, 0.9),
    st.floats(0.1, 10),
)
def test_split_threshold_is_where_a_gap_opens(d, bulk, share, scale):
    bump = max(1, round(share * d)) if share else 0
    t = split_threshold(d, bulk, max(bump, 0), scale)
    if not bump:  # Baik, Ben Arous and Peche
        exact = scale * (1 + (bulk / d) ** 0.5)
        assert abs(t - exact) <= rounding.gamma(256, U) * exact
        return
    if bump >= d:
        assert t == np.inf
        return
    # t is right to the rounding of its equation, amplified by 1 - sqrt(bump / d)
    step = rounding.gamma(256, U) / (1 - (bump / d) ** 0.5) * (1 + (bulk / d) ** 0.5)
    for side, bands in ((-1, 1), (1, 2)):
        near = t * (1 + side * max(step, 2.0**-30))
        law = FreeLaw([scale, near], [bulk, bump], d)
        assert len(support(law)) == bands


def test_threshold_of_a_mean():
    """p dofs of unit noise: sqrt(p d), and lambda = (t2 + d)(t2 + p) / t2 above."""
    p, d = 400, 100
    law = FreeLaw([1.0], [p], d)
    least = strength_threshold(law, 1.0)
    exact = (p * d) ** 0.5
    assert abs(least - exact) <= rounding.gamma(64, U) * exact
    theta2 = np.asarray([3 * exact, 2 * exact, 1.01 * exact])
    expected = (theta2 + d) * (theta2 + p) / theta2
    found = free_law.location(law, d + theta2)
    assert np.all(np.abs(found - expected) <= rounding.gamma(64, U) * expected)
    cosines = (theta2**2 - p * d) / (theta2 * (theta2 + d))
    found = outliers.overlaps(law, d + theta2, theta2)
    assert np.all(np.abs(found - cosines) <= rounding.gamma(64, U))
    below = predicted(law, np.asarray([d + 0.9 * exact]), theta2[:1])
    assert len(below.values) == 0


def test_total_variance():
    """Random lengths make (6'): variance of fixed means plus that of their lengths."""
    law, theta2 = FreeLaw([1.0], [400], 100), np.asarray([900.0])
    v = theta2 + 100
    rate = free_law.derivative(law, v)[0]
    fixed = fixed_means.deviations(law, v, theta2)[0] ** 2
    # |mu|^2 of d Gaussian coordinates of total variance theta^2: 2 theta^4 / d
    lengths = rate**2 * 2 * theta2[0] ** 2 / 100
    random = fixed_means.random_deviation(law, v[0] / 100) ** 2
    assert abs(fixed + lengths - random) <= rounding.gamma(64, U) * random


def test_shift_is_second_order_perturbation():
    law = FreeLaw([1.0], [4000], 1000)
    v = np.asarray([9000.0, 7000.0, 5500.0])
    made = predicted(law, v, v - 1000)
    expected = free_law.location(law, v) + fixed_means.mean_shifts(law, v, v - 1000)
    # antithetic draws: the mean of n draws of a quadratic form errs by its own size
    draws = mixing.DRAWN // 27
    shift = np.abs(fixed_means.mean_shifts(law, v, v - 1000))
    bound = 6 * (made.deviations / draws**0.5 + shift / draws**0.5)
    assert np.all(np.abs(made.values - expected) <= bound + shift**2 / made.values)


def test_shift_of_one_mean():
    """To first order in 1 / d, of large d: both terms, each with its sign."""
    law = FreeLaw([1.0], [40000], 10000)
    for strength in (80000.0, 30000.0):
        v, theta2 = np.asarray([10000 + strength]), np.asarray([strength])
        (found,) = predicted(law, v, theta2).values
        psi = free_law.location(law, v)[0]
        (expected,) = fixed_means.mean_shifts(law, v, theta2)
        away = abs(found - psi - expected)
        rate, bend = free_law.derivative(law, v)[0], free_law.curvature(law, v)[0]
        lift = v[0] ** 2 * bend / (2 * law.dimension * rate)
        bound = 8 * lift**2 / (strength * rate) + rounding.gamma(256, U) * psi
        assert away <= bound
        assert not abs(expected) <= 2.0**7 * bound


def test_equal_means_share_one_small_matrix():
    law = FreeLaw([1.0], [400], 100)
    v = np.full(4, 1000.0)
    made = predicted(law, v, v - 100)
    assert np.all(np.diff(made.values) < 0)
    assert np.all(np.isfinite(made.values))
    single = fixed_means.deviations(law, v[:1], v[:1] - 100)[0]
    assert np.all(made.deviations < single)


def test_one_fixed_mean_by_simulation():
    """Mean and deviation of the outlier, each within six standard errors."""
    d, p, draws, theta2 = 40, 80, 150, 200.0
    rng = np.random.default_rng(7)
    law = FreeLaw([1.0], [p - 1], d)
    v, strength = np.asarray([d + theta2]), np.asarray([theta2])
    made = predicted(law, v, strength)
    X = rng.standard_normal((draws, p, d))
    X[:, 0, 0] += theta2**0.5
    values, vectors = np.linalg.eigh(np.swapaxes(X, 1, 2) @ X)
    top, cosine = values[:, -1], vectors[:, 0, -1] ** 2
    error = np.std(top) / draws**0.5
    assert abs(np.mean(top) - made.values[0]) <= 6 * error
    ratio = np.std(top) / made.deviations[0]
    assert abs(ratio - 1) <= 6 / (2 * draws) ** 0.5 + 1 / d
    assert abs(np.mean(cosine) - made.overlaps[0]) <= 6 * np.std(
        cosine
    ) / draws**0.5 + (1 / d)
