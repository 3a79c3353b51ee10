import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import rounding

U = 2.0**-53
numbers = st.floats(-1e6, 1e6, allow_nan=False, width=64)


def test_a_radius_is_never_negative_nor_nan():
    with pytest.raises(ValueError, match=r"got -1"):
        rounding.Bounded(0.0, -1.0)
    with pytest.raises(ValueError, match=r"got nan"):
        rounding.Bounded(0.0, math.nan)
    assert rounding.Bounded(1.0, math.inf).radius == math.inf


def test_gamma_breaks_down_to_infinity():
    assert rounding.gamma(2.0**53, U) == math.inf
    assert rounding.second_moment_radius(2.0**53, 1.0, U) == math.inf


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=40))
@pytest.mark.theorem("B1")
def test_sums_of_products_stay_within_gamma(pairs):
    x, y = np.array(pairs).T
    exact = sum(Fraction(a) * Fraction(b) for a, b in pairs)
    size = sum(abs(Fraction(a) * Fraction(b)) for a, b in pairs)
    bound = Fraction(rounding.gamma(len(pairs), U)) * size + len(pairs) * Fraction(
        5e-324
    )
    for computed in (float(np.dot(x, y)), float(np.sum(x * y))):
        assert abs(Fraction(computed) - exact) <= bound
    if size > Fraction(2) ** -900:  # or underflow is all there is
        assert not abs(exact + size / 2**40 - exact) <= bound


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 6))
@pytest.mark.theorem("B2")
def test_second_moments_stay_within_their_radius(seed, n, d):
    X = np.random.default_rng(seed).standard_normal((n, d)) * 10.0 ** (seed % 7 - 3)
    rows = [[Fraction(v) for v in row] for row in X]
    exact = [[sum(r[j] * r[k] for r in rows) for k in range(d)] for j in range(d)]
    trace = float((X * X).sum())
    bound = rounding.second_moment_radius(n, trace, U)
    gap = [
        [float(Fraction(v) - e) for v, e in zip(a, b, strict=True)]
        for a, b in zip(X.T @ X, exact, strict=True)
    ]
    assert np.linalg.norm(gap, 2) <= bound
    assert not np.linalg.norm(np.array(gap) + trace * 2.0**-40, 2) <= bound


@given(st.integers(0, 2**32 - 1))
@pytest.mark.theorem("B5")
def test_residual_radius_certifies(seed):
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    A = (Q * np.repeat(rng.standard_normal(4), 2)) @ Q.T
    A = np.tril(A) + np.tril(A, -1).T
    values, V = np.linalg.eigh(A)
    radius = rounding.residual_radius(A, V, values)
    other = np.linalg.eigvalsh(A[::-1, ::-1])
    solver = rounding.eigensolver_radius(8, np.abs(values).max(), U)
    assert np.abs(values - other).max() <= radius + solver
    assert rounding.residual_radius(A, V, values + 1.0) >= 1.0 - radius
    assert rounding.residual_radius(A, V[:, :1] * np.ones((1, 8)), values) == math.inf


@pytest.mark.theorem("B4")
def test_probed_norm_bounds_a_norm_it_never_forms():
    """The worst case of one direction, and the mutant without the quantile."""
    rng = np.random.default_rng(0)
    R = np.outer(rng.standard_normal(30), rng.standard_normal(30))
    norm, below = np.linalg.norm(R, 2), 0
    for _ in range(200):
        Z = rng.standard_normal((30, 4))
        squares = float(((R @ Z) ** 2).sum())
        assert norm <= rounding.probed_norm(squares, 4)
        below += not norm <= math.sqrt(squares / 4)
    assert below > 0
