"""Bounds for forming and factorizing a Gram matrix, against exact rationals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec.rounding import errorfree, forming


def exact(x):
    return np.array([Fraction(float(v)) for v in np.ravel(x)], object).reshape(
        np.shape(x)
    )


def exact_gram(features, errors):
    return sum(
        (exact(H) @ exact(H).T) * (exact(D) @ exact(D).T)
        for H, D in zip(features, errors, strict=True)
    )


def norms(M):
    """Lower and upper bound of the 2-norm of an exact matrix, as fractions."""
    squares = M * M
    rows = squares.sum(axis=1)
    return max(rows), sum(rows)  # squared: largest row, Frobenius


def distance(K, true):
    """Return the 2-norm of K - true, correct to a few roundings, and its slack."""
    miss = exact(K) - true
    scale = max(abs(v) for v in miss.ravel()) or Fraction(1)
    unit = np.array([[float(v / scale) for v in row] for row in miss])
    size = Fraction(float(np.linalg.norm(unit, 2))) * scale
    return size / Fraction(errorfree.inflation(100 * len(K) ** 2))


def world(rng, n=6, layers=3, spread=0):
    sizes = rng.integers(1, 6, (layers, 2))
    scale = 10.0 ** rng.integers(-spread, spread + 1, (layers, 2))
    features = [
        rng.standard_normal((n, a)) * s
        for (a, _), (s, _) in zip(sizes, scale, strict=True)
    ]
    errors = [
        rng.standard_normal((n, b)) * s
        for (_, b), (_, s) in zip(sizes, scale, strict=True)
    ]
    return features, errors


def plain_gram(features, errors, dtype=np.float64):
    pairs = zip(features, errors, strict=True)
    pairs = [(H.astype(dtype), D.astype(dtype)) for H, D in pairs]
    return sum((H @ H.T) * (D @ D.T) for H, D in pairs)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 8))
def test_both_gram_bounds_hold(seed, layers, spread):
    features, errors = world(np.random.default_rng(seed), layers=layers, spread=spread)
    true = exact_gram(features, errors)
    K, radius = forming.certified_gram(features, errors)
    assert np.array_equal(K, K.T)
    assert distance(K, true) <= Fraction(radius)
    bound = forming.gram_error_bound(features, errors)
    assert distance(plain_gram(features, errors), true) <= Fraction(bound)


def test_gram_bounds_can_fail():
    """A hundredth of the tight radius, and float32 against the a-priori bound."""
    features, errors = world(np.random.default_rng(7), n=12)
    true = exact_gram(features, errors)
    K, radius = forming.certified_gram(features, errors)
    assert distance(K, true) > Fraction(radius) / 100
    bound = forming.gram_error_bound(features, errors)
    single = plain_gram(features, errors, np.float32)
    assert distance(single, true) > Fraction(bound)


def test_the_tight_bound_is_about_one_rounding():
    """At most u ||  |K| || and a little, while the a-priori bound grows with a + b."""
    rng = np.random.default_rng(1)
    features, errors = [rng.standard_normal((30, 200))], [rng.standard_normal((30, 50))]
    K, radius = forming.certified_gram(features, errors)
    size = np.linalg.norm(np.abs(K), 2)
    assert radius <= 2 * 2.0**-53 * size
    assert forming.gram_error_bound(features, errors) > 100 * radius


@pytest.mark.parametrize("power", [-500, -250, 250, 480])
def test_gram_at_extreme_scales(power):
    """Layers of huge features and tiny errors, whose own Gram matrices overflow."""
    features, errors = world(np.random.default_rng(2), n=4, layers=2)
    K, radius = forming.certified_gram(features, errors)
    wide = [np.ldexp(H, 2 * power) for H in features]
    narrow = [np.ldexp(D, -2 * power) for D in errors]
    again, same = forming.certified_gram(wide, narrow)
    assert np.array_equal(K, again)
    assert abs(same - radius) <= 2.0**-50 * radius


def test_gram_that_under_or_overflows():
    H = [np.full((2, 1), 1e-150)]
    K, radius = forming.certified_gram(H, H)
    assert not K.any()
    true = exact_gram(H, H)
    assert distance(K, true) <= Fraction(radius)
    assert distance(K, true) <= Fraction(forming.gram_error_bound(H, H))
    for size in 1e150, 1e300:
        H = [np.full((2, 1), size)]
        assert forming.certified_gram(H, H)[1] == np.inf
        assert forming.gram_error_bound(H, H) == np.inf


@pytest.mark.parametrize("n", [0, 1, 3])
def test_gram_of_zeros(n):
    zeros = [np.zeros((n, 2))]
    K, radius = forming.certified_gram(zeros, zeros)
    assert K.shape == (n, n)
    assert not K.any()
    assert radius < 2.0**-390
    assert forming.gram_error_bound(zeros, zeros) < 2.0**-1000


def residual(K, L):
    """Return ||K - L L'||_F^2 exactly."""
    return norms(exact(K) - exact(L) @ exact(L).T)[1]


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(0, 4),
    st.sampled_from([-400, -30, 0, 30, 400]),
)  # fmt: skip
def test_residual_norm_holds_and_is_tight(seed, n, r, power):
    rng = np.random.default_rng(seed)
    L = rng.standard_normal((n, r))
    K = L @ L.T + 1e-12 * rng.standard_normal((n, n))
    K, L = np.ldexp(K, 2 * (power // 2)), np.ldexp(L, power // 2)
    cut = int(rng.integers(0, n + 1))
    bound = Fraction(forming.certified_residual_norm([K[:cut], K[cut:]], L))
    true = residual(K, L)
    assert true <= bound**2
    assert bound**2 <= true * (1 + Fraction(1, 10))


def test_residual_norm_of_another_factor_is_rejected():
    """The bound for L must not cover L without its last column, or one entry of K."""
    rng = np.random.default_rng(0)
    L = rng.standard_normal((9, 4))
    K = L @ L.T
    bound = Fraction(forming.certified_residual_norm([K], L))
    assert residual(K, L) <= bound**2
    assert residual(K, L[:, :3]) > bound**2
    K[3, 5] *= 1 + 2.0**-48
    assert residual(K, L) > bound**2


def test_exact_factor_leaves_almost_nothing():
    L = np.arange(12.0).reshape(6, 2)
    assert forming.certified_residual_norm([L @ L.T], L) < 2.0**-350
    assert forming.certified_residual_norm([np.zeros((0, 0))], np.zeros((0, 3))) == (
        2.0**-1074
    )


def test_residual_norm_at_the_ends_of_the_range():
    tiny, huge = np.full((2, 1), 1e-320), np.full((2, 1), 1e300)
    assert forming.certified_residual_norm([np.zeros((2, 2))], tiny) <= 2.0**-1073
    assert forming.certified_residual_norm([np.zeros((2, 2))], huge) == np.inf
    assert forming.certified_residual_norm([np.full((2, 2), 1e307)], tiny) < np.inf
    assert forming.certified_residual_norm([np.full((2, 2), 1.7e308)], tiny) == np.inf


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([np.ones((2, 3))], "3 rows in all, got 2"),
        ([np.ones((3, 3)), np.ones((1, 3))], "after 3 rows"),
        ([np.ones((3, 2))], "N = 3"),
        ([np.full((3, 3), np.nan)], "finite"),
    ],
)
def test_bad_blocks_are_rejected(blocks, message):
    with pytest.raises(ValueError, match=message):
        forming.certified_residual_norm(blocks, np.ones((3, 1)))


@pytest.mark.parametrize(
    ("features", "errors", "message"),
    [
        ([], [], "got 0 and 0"),
        ([np.ones((2, 1))], [], "got 1 and 0"),
        ([np.ones((2, 1))], [np.ones((3, 1))], r"got \[2, 3\]"),
        ([np.ones(2)], [np.ones((2, 1))], "features must have shape"),
    ],
)
def test_bad_layers_are_rejected(features, errors, message):
    for call in forming.certified_gram, forming.gram_error_bound:
        with pytest.raises(ValueError, match=message):
            call(features, errors)
