"""Error-free sums, products and splittings, against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec.rounding import errorfree

U = 2.0**-53
floats = st.floats(-1e100, 1e100).filter(lambda x: x == 0 or abs(x) > 1e-100)


def exact(x: np.ndarray) -> np.ndarray:
    """Return the same numbers as fractions."""
    return np.array([Fraction(float(v)) for v in x.ravel()], object).reshape(x.shape)


@given(floats, floats)
def test_two_sum_and_two_product_lose_nothing(a, b):
    s, e = errorfree.two_sum(np.float64(a), np.float64(b))
    assert Fraction(float(s)) + Fraction(float(e)) == Fraction(a) + Fraction(b)
    p, e = errorfree.two_product(np.float64(a), np.float64(b))
    assert Fraction(float(p)) + Fraction(float(e)) == Fraction(a) * Fraction(b)


def test_fast_two_sum_is_rejected():
    """The three-operation sum, wrong where |a| < |b|, fails the same check."""
    a, b = np.float64(2.0**-60), np.float64(1 + 2.0**-52)
    s = a + b
    e = b - (s - a)
    assert Fraction(float(s)) + Fraction(float(e)) != Fraction(float(a)) + Fraction(
        float(b)
    )


@given(st.lists(st.lists(floats, min_size=3, max_size=3), min_size=1, max_size=4))
def test_split_is_exact_and_on_its_grid(rows):
    x = np.array(rows)
    part = errorfree.split_rows(x)
    assert np.all(exact(part.high) + exact(part.low) == exact(x))
    for row, high, low in zip(x, exact(part.high), exact(part.low), strict=True):
        top = Fraction(2) ** int(np.frexp(np.max(np.abs(row)))[1])
        grid = top / 2**part.bits
        assert all((h / grid).denominator == 1 for h in high)
        assert all(abs(h) <= top for h in high)
        assert all(abs(v) <= grid / 2 for v in low)


def heads(inner, more):
    """Fraction by Fraction, the inner products of high parts with `more` bits."""
    rng = np.random.default_rng(inner)
    A, B = rng.standard_normal((2, 2, inner)) * 10.0 ** rng.integers(-3, 3, (2, 2, 1))
    bits = errorfree.split_rows(A).bits + more
    a, b = errorfree.split_rows(A, bits), errorfree.split_rows(B, bits)
    head = errorfree.row_product(a, b).head
    return exact(head), exact(a.high) @ exact(b.high).T


@pytest.mark.parametrize("inner", [1, 2, 7, 64, 1000, 2048])
def test_head_is_exact(inner):
    computed, true = heads(inner, 0)
    assert np.all(computed == true)


@pytest.mark.parametrize("inner", [7, 64, 1000, 2048])
def test_head_with_too_many_bits_is_rejected(inner):
    computed, true = heads(inner, 6)
    assert np.any(computed != true)


def test_head_at_the_limit_of_the_grid():
    """Every entry the largest the grid holds: the sum reaches 2**53 units."""
    x = np.full((1, 8), 1 - 2.0**-53)
    part = errorfree.split_rows(x)
    assert part.bits == 25
    assert errorfree.row_product(part, part).head[0, 0] == 8


@given(st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_row_product_is_within_its_bound(inner, seed):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((3, inner)) * 10.0 ** rng.integers(-60, 60, (3, 1))
    B = rng.standard_normal((4, inner)) * 10.0 ** rng.integers(-9, 9, (4, inner))
    product = errorfree.row_product(errorfree.split_rows(A), errorfree.split_rows(B))
    miss = abs(exact(product.head) + exact(product.tail) - exact(A) @ exact(B).T)
    assert np.all(miss <= exact(product.left) @ exact(product.right).T)


@pytest.mark.parametrize("length", [4, 8, 400])
def test_row_product_bound_is_small_and_can_fail(length):
    """Below the error of a plain product; of short rows a fortieth is too little."""
    A = np.random.default_rng(1).standard_normal((6, length))
    part = errorfree.split_rows(A)
    product = errorfree.row_product(part, part)
    bound = exact(product.left) @ exact(product.right).T
    true = exact(A) @ exact(A).T
    miss = abs(exact(product.head) + exact(product.tail) - true)
    assert np.all(miss <= bound)
    assert length > 8 or np.any(miss > bound / 40)
    assert np.any(abs(exact(A @ A.T) - true) > bound)


@given(st.lists(floats, min_size=1, max_size=6))
def test_row_norms_bound_within_their_rounding(row):
    x = np.array([row])
    norm = Fraction(float(errorfree.row_norms(x)[0])) * Fraction(
        errorfree.inflation(len(row) + 3)
    )
    assert norm**2 >= sum(Fraction(v) ** 2 for v in row)


def test_norm_of_numbers_whose_squares_vanish():
    x = np.full((1, 3), 1e-200)
    with np.errstate(under="ignore"):
        assert errorfree.row_norms(x)[0] >= 1e-200 * np.sqrt(3)


@pytest.mark.parametrize("exponent", [-2040, -2000, -1074, -3, 0, 5, 1000, 2000, 2040])
def test_scaled_is_exact(exponent):
    x = np.array([1.5, -3.0, 0.0]) * 2.0 ** -(exponent // 2)
    y = errorfree.scaled(x, exponent)
    assert np.all(exact(y) == exact(x) * Fraction(2) ** exponent)


@pytest.mark.parametrize(
    ("x", "e"), [([0.5], 0), ([1.0], 1), ([-3.0, 1.0], 2), ([0.0], 0), ([], 0)]
)
def test_unit_exponent(x, e):
    assert errorfree.unit_exponent(np.array(x)) == e


def test_host_matrix_takes_any_namespace_and_float32():
    x = array_api_strict.asarray([[1.0, 2.0]], dtype=array_api_strict.float32)
    host = errorfree.host_matrix(x, "x", "(m, k)")
    assert host.dtype == np.float64
    assert np.all(host == [[1, 2]])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones(3), r"got \(3,\)"),
        (np.ones((2, 2), int), "got int64"),
        (np.ones((2, 2), complex), "got complex128"),
        (np.array([[np.nan, np.inf]]), "got 2 of 2"),
    ],
)
def test_host_matrix_rejects(x, message):
    with pytest.raises(ValueError, match=message):
        errorfree.host_matrix(x, "x", "(m, k)")
