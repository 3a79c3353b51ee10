"""Products, Gram matrices and residuals formed closely, against exact rationals."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import rounding
from refspec.rounding import errorfree, forming
from refspec.rounding.errorfree import split_rows

U = 2.0**-53
seeds = st.integers(0, 2**32 - 1)


def exact(x):
    return np.array([Fraction(float(v)) for v in np.ravel(x)], object).reshape(
        np.shape(x)
    )


def lengths(x):
    return np.sqrt(np.vecdot(x, x)) * (1 + 64 * U)


@given(seeds, st.integers(1, 60), st.integers(0, 12))
def test_close_products_are_close(seed, k, spread):
    """One rounding and a little, for rows whose entries differ in size."""
    rng = np.random.default_rng(seed)
    A, B = (
        rng.standard_normal((3, k)) * 10.0 ** rng.uniform(-spread, 0, (3, k))
        for _ in range(2)
    )
    made = forming.close_product(split_rows(A), split_rows(B))
    away = np.abs(exact(made) - exact(A) @ exact(B).T)
    few = forming.split_error(k) * np.outer(lengths(A), lengths(B))
    assert np.all(away <= exact(U * np.abs(made) + few))


@given(seeds, st.integers(1, 60), st.integers(0, 12))
def test_squares_are_as_close(seed, k, spread):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((3, k)) * 10.0 ** rng.uniform(-spread, 0, (3, k))
    head, tail = forming.square_product(split_rows(A))
    away = np.abs(exact(head) + exact(tail) - exact(A) @ exact(A).T)
    assert np.all(
        away <= exact(forming.split_error(k) * np.outer(lengths(A), lengths(A)))
    )
    assert np.array_equal(head, head.T)
    assert np.array_equal(tail, tail.T)


def test_what_is_split_off_counts():
    """The head alone is further off."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((3, 50))
    head = errorfree.row_product(split_rows(A), split_rows(A)).head
    few = forming.split_error(50) * np.outer(lengths(A), lengths(A))
    assert np.any(np.abs(exact(head) - exact(A) @ exact(A).T) > exact(few))


def world(rng, K=2, layers=3):
    """Return features, or None, and errors of some layers, of sizes that differ."""
    sizes = rng.integers(1, 6, (layers, 2))
    made = []
    for a, b in sizes:
        H = rng.standard_normal((4, a)) * 10.0 ** rng.integers(-8, 1)
        D = rng.standard_normal((4 * K, b)) * 10.0 ** rng.integers(-8, 1)
        made.append((H if rng.random() < 0.7 else None, D))
    return made


def true_gram(pairs, K):
    """The exact matrix, and the sum over layers of the lengths of rows, multiplied."""
    total, sizes = 0, 0
    for H, D in pairs:
        x = exact(np.repeat(np.ones((4, 1)) if H is None else H, K, axis=0))
        y = exact(D)
        total = total + (x @ x.T) * (y @ y.T)
        row = lengths(x.astype(float)) * lengths(D)
        sizes = sizes + np.outer(row, row)
    return total, sizes


def upper(blocks, n):
    """Return a matrix from blocks of rows from their own columns on."""
    out, i = np.zeros((n, n)), 0
    for block in blocks:
        out[i : i + len(block), i:] = block
        i += len(block)
    assert i == n
    return out


@given(seeds, st.integers(1, 3), st.integers(1, 4), st.integers(1, 5))
def test_a_gram_matrix_is_within_a_few_units(seed, K, layers, samples):
    pairs = world(np.random.default_rng(seed), K, layers)
    true, sizes = true_gram(pairs, K)
    made = forming.gram(pairs, K)
    found = upper(made.blocks(samples), 4 * K)
    pick = np.triu_indices(4 * K)
    away = np.abs(exact(found) - true)[pick]
    assert np.all(away <= exact(made.error * sizes[pick] * (1 + 64 * U)))
    assert made.error <= 32 * U


def test_gram_bounds_can_fail():
    """A thousandth of the bound, and float32 against all of it."""
    pairs = world(np.random.default_rng(3), 2, 2)
    true, sizes = true_gram(pairs, 2)
    made, pick = forming.gram(pairs, 2), np.triu_indices(8)
    away = np.abs(exact(upper(made.blocks(4), 8)) - true)[pick]
    assert np.any(away > exact(made.error * sizes[pick] / 1000))
    single = [
        (None if H is None else H.astype(np.float32), D.astype(np.float32))
        for H, D in pairs
    ]
    away = np.abs(true_gram(single, 2)[0] - true)[pick]
    assert np.any(away > exact(made.error * sizes[pick]))


def sorted_columns(W):
    return np.ascontiguousarray(W[:, np.argsort(-np.vecdot(W.T, W.T))])


def residual(K, W):
    """Return ||K - WW'||_F^2 exactly."""
    gap = exact(K) - exact(W) @ exact(W).T
    return np.sum(gap * gap)


def blocks_of(K, *cuts):
    ends = [0, *cuts, len(K)]
    return [K[i:j, i:] for i, j in itertools.pairwise(ends)]


@given(seeds, st.integers(2, 7), st.integers(1, 6), st.integers(0, 12))
def test_residual_norm_holds_and_is_tight(seed, n, r, decay):
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((n, r)) * 10.0 ** -np.linspace(0, decay, r)
    W = sorted_columns(W)
    gap = 1e-12 * rng.standard_normal((n, n))
    K = W @ W.T + gap + gap.T
    K = np.tril(K) + np.tril(K, -1).T
    cut = int(rng.integers(1, n))
    bound = Fraction(forming.residual_norm(blocks_of(K, cut), W))
    true = residual(K, W)
    assert true <= bound**2
    assert bound**2 <= true * (1 + Fraction(1, 10))


def test_residual_norm_of_another_factor_is_rejected():
    """The bound for W must not cover W without its last column, or one entry of K."""
    W = sorted_columns(np.random.default_rng(0).standard_normal((9, 4)))
    K = W @ W.T
    bound = Fraction(forming.residual_norm(blocks_of(K, 4), W))
    assert residual(K, W) <= bound**2
    assert residual(K, W[:, :3]) > bound**2
    K[3, 5] = K[5, 3] = K[3, 5] * (1 + 2.0**-44)
    assert residual(K, W) > bound**2


def test_a_residual_that_overflows_is_unknown():
    W = np.full((2, 1), 1e300)
    assert forming.residual_norm([np.zeros((2, 2))], W) == math.inf
    assert forming.residual_norm([np.zeros((0, 0))], np.zeros((0, 1))) < 2.0**-390


def off(W, d):
    """Return ||W'W - diag d||_F^2 exactly."""
    gap = exact(W).T @ exact(W) - np.diag(exact(d))
    return np.sum(gap * gap)


@given(seeds, st.integers(1, 30), st.integers(1, 5), st.integers(0, 9))
def test_squared_columns_are_nearly_diagonal(seed, n, r, decay):
    rng = np.random.default_rng(seed)
    W = np.linalg.qr(rng.standard_normal((n, min(n, r))))[0]
    W = W * 10.0 ** -np.linspace(0, decay, W.shape[1])
    d, bound = forming.squared_columns(W)
    # the bound is of the 2-norm; Frobenius' is at most sqrt(r) times that
    assert off(W, d) <= W.shape[1] * Fraction(bound) ** 2
    assert bound <= 64 * U


def test_columns_that_are_not_orthogonal_are_seen():
    W = np.asarray([[1.0, 0.5], [0.0, 0.5]])
    d, bound = forming.squared_columns(W)
    assert bound >= 0.5
    assert d.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("k", [1, 100, 4000])
def test_a_split_product_errs_less_than_a_plain_one(k):
    assert forming.split_error(k) <= 2.0**-12 * rounding.gamma(k, U)
