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


def test_the_unit_roundoff_is_half_the_spacing_at_one():
    for dtype, u in (("float64", 2.0**-53), ("float32", 2.0**-24)):
        assert rounding.unit_roundoff(np.zeros(0, dtype)) == u
        assert 2 * u == np.spacing(np.ones((), dtype))


def test_two_probes_have_the_quantile_of_an_exponential():
    """Chi-squared with two degrees of freedom is exponential of mean 2."""
    quantile = -2 * math.log1p(-rounding.FAILURE)
    found = rounding.probed_norm(1.0, 2)
    assert abs(found**2 * quantile - 1) <= rounding.gamma(2.0**16, U)


def test_gamma_breaks_down_to_infinity():
    assert rounding.gamma(2.0**52, U) == 0.5 / (1 - 0.5)
    assert rounding.gamma(2.0**53, U) == math.inf
    assert rounding.second_moment_radius(2.0**53, 1.0, U) == math.inf
    assert rounding.second_moment_radius(4, math.nan, U) == math.inf
    assert rounding.eigensolver_radius(4, math.nan, U) == math.inf


@pytest.mark.parametrize("k", [-1, math.nan])
def test_gamma_refuses_what_is_no_count(k):
    with pytest.raises(ValueError, match=r"k >= 0 roundings"):
        rounding.gamma(k, U)
    with pytest.raises(ValueError, match=r"take u from unit_roundoff"):
        rounding.gamma(1, k)


@pytest.mark.parametrize(
    ("error", "call", "words"),
    [
        (ValueError, lambda: rounding.unit_roundoff(np.ones(1, dtype=int)), "int64"),
        (ValueError, lambda: rounding.unit_roundoff(1j * np.ones(1)), "complex128"),
        (TypeError, lambda: rounding.unit_roundoff(1.0), "float"),
        (TypeError, lambda: rounding.probed_norm(1.0, 2.0), "integer"),
        (ValueError, lambda: rounding.probed_norm(1.0, 0), ">= 1"),
        (ValueError, lambda: rounding.probed_norm(-1.0, 2), "sum of squares"),
        (ValueError, lambda: rounding.probed_norm(math.nan, 2), "got nan"),
    ],
)
def test_bounds_of_nothing_are_refused(error, call, words):
    with pytest.raises(error, match=words):
        call()


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=40))
@pytest.mark.theorem("B1")
def test_sums_of_products_stay_within_gamma(pairs):
    x, y = np.array(pairs).T
    exact = sum(Fraction(a) * Fraction(b) for a, b in pairs)
    size = sum(abs(Fraction(a) * Fraction(b)) for a, b in pairs)
    bound = Fraction(rounding.gamma(len(pairs), U)) * size
    bound += Fraction(rounding.underflow(len(pairs), U))
    for computed in (float(np.dot(x, y)), float(np.sum(x * y))):
        assert abs(Fraction(computed) - exact) <= bound
    if size > Fraction(2) ** -900:  # or underflow is all there is
        assert not abs(exact + size / 2**40 - exact) <= bound


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


def symmetric(A):
    return np.tril(A) + np.tril(A, -1).T


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.theorem("B2")
def test_second_moments_that_underflow_stay_within_their_radius(dtype):
    """Squares near the smallest number; without underflow the bound is missed."""
    info, missed = np.finfo(dtype), 0
    u = rounding.unit_roundoff(np.zeros(0, dtype))
    scale = dtype(float(info.smallest_subnormal) ** 0.5)
    for seed in range(20):
        X = np.random.default_rng(seed).standard_normal((7, 4)).astype(dtype) * scale
        exact = np.vectorize(Fraction, otypes=[object])(X.astype(np.float64))
        gap = abs(exact.T @ exact - np.vectorize(Fraction)((X.T @ X).astype(float)))
        trace = float(np.sum(X * X))
        radius = Fraction(rounding.second_moment_radius(7, trace, u))
        assert sum((gap**2).ravel()) <= radius**2
        g = Fraction(rounding.gamma(7, u))
        missed += bool(sum((gap**2).ravel()) > (g * (1 + g) * Fraction(trace)) ** 2)
    assert missed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("where", ["subnormal", "tiny", "square root", "one", "huge"])
@pytest.mark.theorem("B3")
@pytest.mark.theorem("B5")
def test_eigenvalues_at_every_scale_stay_within_their_radius(dtype, where):
    info = np.finfo(dtype)
    low = round(math.log2(float(info.smallest_subnormal)))
    middle = {"subnormal": low + 8, "tiny": info.minexp, "square root": low // 2}
    exponent = middle.get(where, 0 if where == "one" else info.maxexp - 8)
    u = rounding.unit_roundoff(np.zeros(0, dtype))
    for seed in range(20):
        n, rng = 1 + seed % 5, np.random.default_rng(seed)
        A = np.ldexp(symmetric(rng.standard_normal((n, n))), exponent).astype(dtype)
        found = rounding.certified_eigenvalues(A)
        values, Q = np.linalg.eigh(A)
        away = np.abs(values[::-1].astype(np.float64) - found.values)
        norm = float(np.max(np.abs(values)))
        for radius in (
            rounding.eigensolver_radius(n, norm, u),
            rounding.residual_radius(A, Q, values),
        ):
            assert 0 < radius < math.inf
            assert np.all(away <= found.radii + radius)
        off = values + values.dtype.type(norm / 8)
        if norm > 2.0**10 * float(info.smallest_subnormal):
            assert rounding.residual_radius(A, Q, off) > norm / 16


def test_a_residual_says_nothing_of_what_is_no_eigensystem():
    A, Q, values = np.eye(2), np.eye(2), np.ones(2)
    assert rounding.residual_radius(np.zeros((2, 2)), Q, np.zeros(2)) == 0
    assert rounding.residual_radius(A[:0, :0], Q[:0, :0], values[:0]) == 0
    for bad, words in [
        ((np.full((2, 2), np.nan), Q, values), "finite"),
        ((np.array([[1.0, 2.0], [3.0, 1.0]]), Q, values), "transpose"),
        ((A, Q[:, :1], values), "shape"),
        ((A, Q, np.ones(3)), "shape"),
        ((A, np.full((2, 2), np.inf), values), "finite"),
        ((A, Q, values.astype(np.float32)), "one dtype"),
        ((A + 0j, Q, values), "complex"),
    ]:
        with pytest.raises(ValueError, match=words):
            rounding.residual_radius(*bad)
    with pytest.raises(ValueError, match="scale A by a power of two"):
        rounding.residual_radius(np.full((2, 2), 1e308), Q, -np.full(2, 1e308))
