r"""The rounding error made in forming a Gram matrix, or in factorizing it.

A certificate of eigenvalues (`certificates`) speaks about the matrix that is stored;
these bounds, added to its radii by Weyl's inequality, make it speak about the exact
Gram matrix of the data. Host NumPy float64 only. Proofs are in
theory/certificates.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from refspec import backend
from refspec.rounding import errorfree
from refspec.rounding.bounds import gamma

_U = 2.0**-53
_SMALLEST = 2.0**-1074


def gram_error_bound(
    features: Sequence[backend.Array], errors: Sequence[backend.Array]
) -> float:
    """Bound ``||fl(K) - K||_2``, K = sum_l (H_l H_l') o (D_l D_l'), in float64.

    Features H_l (N, a), errors D_l (N, b); a priori, for any conventional evaluation.
    Theory: theory/certificates.md#Q7. Cost: that of K.
    """
    layers = _layers(features, errors)
    n, k = len(layers[0][0]), 0
    P, lost = np.zeros((n, n)), 0.0
    with np.errstate(all="ignore"):
        for H, D in layers:
            G, F = np.abs(H) @ np.abs(H).T, np.abs(D) @ np.abs(D).T
            a, b = H.shape[1], D.shape[1]
            P += G * F
            k = max(k, a + b)
            most = a * np.max(F, initial=0.0) + b * np.max(G, initial=0.0)
            lost += n * _SMALLEST * (most + 1)
        bound = gamma(k + len(layers), _U) * _perron_bound(P) + lost
        bound *= errorfree.inflation(2 * k + 2 * len(layers) + n + 20)
    return float(bound) if math.isfinite(bound) else math.inf


def certified_gram(
    features: Sequence[backend.Array], errors: Sequence[backend.Array]
) -> tuple[np.ndarray, float]:
    """Form K = sum_l (H_l H_l') o (D_l D_l') almost correctly rounded, in two words.

    Returned exactly symmetric, with a bound on ``||fl(K) - K||_2``: about u || |K| ||.
    Theory: theory/certificates.md#Q8. Cost: six products for each layer.
    """
    layers = _layers(features, errors)
    n = len(layers[0][0])
    layers = [(H, D) for H, D in layers if H.any() and D.any()]
    shifts = [
        (errorfree.unit_exponent(H), errorfree.unit_exponent(D)) for H, D in layers
    ]
    top = max((h + d for h, d in shifts), default=0)
    total, low, P = (np.zeros((n, n)) for _ in range(3))
    with np.errstate(all="ignore"):
        for (H, D), (h, _) in zip(layers, shifts, strict=True):
            one = _self_product(errorfree.scaled(H, -h))
            two = _self_product(errorfree.scaled(D, h - top))
            term, lost = errorfree.two_product(one.head, two.head)
            lost += one.head * two.tail + one.tail * (two.head + two.tail)
            total, carried = errorfree.two_sum(total, term)
            low += carried + lost
            size_one = np.abs(one.head) + np.abs(one.tail)
            size_two = np.abs(two.head) + np.abs(two.tail)
            E, F = one.left @ one.right.T, two.left @ two.right.T
            P += size_one * F + E * size_two + E * F
            P += gamma(8, _U) * (
                size_one * np.abs(two.tail) + np.abs(one.tail) * size_two
            )
            P += gamma(len(layers) + 8, _U) * (np.abs(carried) + np.abs(lost))
        K = total + low
        P = (
            P * errorfree.inflation(8 * len(layers) + 60)
            + _U * np.abs(K)
            + errorfree.FLOOR
        )
        K, P = _lower(K), _lower(P)
        radius = math.inf
        if np.all(np.isfinite(P)):
            radius = _perron_bound(P) * errorfree.inflation(n + 60)
        K = errorfree.scaled(K, 2 * top)
        radius = float(np.ldexp(radius, 2 * top)) + n * _SMALLEST
    return K, radius if np.all(np.isfinite(K)) else math.inf


def certified_residual_norm(
    blocks: Iterable[backend.Array], factor: backend.Array
) -> float:
    """Bound ``||K - L L'||_F`` for K (N, N) in consecutive blocks of rows, L (N, r).

    Holds one block at a time; inf if it overflows. The bound is about
    ``r u 2**-20 ||L||_F**2`` where L L' is K. Theory: theory/certificates.md#Q9.
    """
    L = errorfree.host_matrix(factor, "factor", "(N, r)")
    n, start, total = len(L), 0, 0.0
    with np.errstate(all="ignore"):
        for block in blocks:
            block = errorfree.host_matrix(block, "block", "(m, N)")
            stop = start + len(block)
            if block.shape[1:] != (n,) or stop > n:
                raise ValueError(
                    f"blocks must be rows of an N x N matrix with N = {n}, got shape "
                    f"{block.shape} after {start} rows; pass consecutive blocks of rows"
                )
            total = math.hypot(total, _block_residual(block, L, start))
            start = stop
    if start != n:
        raise ValueError(
            f"blocks must have N = {n} rows in all, got {start}; pass every row once"
        )
    return total * errorfree.inflation(2 * n + 4) + _SMALLEST


def _layers(
    features: Sequence[backend.Array], errors: Sequence[backend.Array]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (H, D) on the host, all with the same number of rows."""
    if len(features) != len(errors) or len(features) == 0:
        raise ValueError(
            "features and errors must be one matrix each for every layer, got "
            f"{len(features)} and {len(errors)}; pair them up"
        )
    layers = [
        (
            errorfree.host_matrix(H, "features", "(N, a)"),
            errorfree.host_matrix(D, "errors", "(N, b)"),
        )
        for H, D in zip(features, errors, strict=True)
    ]
    rows = {len(x) for pair in layers for x in pair}
    if len(rows) != 1:
        raise ValueError(
            "features (N, a) and errors (N, b) must have the same N in every layer, "
            f"got {sorted(rows)}; pass the same samples"
        )
    return layers


def _self_product(H: np.ndarray) -> errorfree.RowProduct:
    """H H' by split products."""
    half = errorfree.split_rows(H)
    return errorfree.row_product(half, half)


def _lower(M: np.ndarray) -> np.ndarray:
    """Mirror the lower triangle: an entrywise bound stays one."""
    mirrored: np.ndarray = np.tril(M) + np.tril(M, -1).T
    return mirrored


def _perron_bound(P: np.ndarray) -> float:
    """max_i (P v)_i / v_i >= ||P||_2 for symmetric P >= 0 and any v > 0.

    Theory: theory/certificates.md#Q7.
    """
    n = len(P)
    if n == 0 or not np.any(P):
        return 0.0
    v = np.ones(n)
    for _ in range(4):
        v = P @ v
        v /= np.max(v)
        v = np.maximum(v, 1 / n)
    return float(np.max(P @ v / v))


def _block_residual(block: np.ndarray, L: np.ndarray, start: int) -> float:
    """Bound of ||block - L[start:start+m] L'||_F, scaled by an even power of two."""
    sizes = [errorfree.unit_exponent(x) * k for x, k in ((block, 1), (L, 2)) if x.any()]
    exponent = max(sizes, default=0)
    exponent += exponent % 2
    block = errorfree.scaled(block, -exponent)
    whole = errorfree.split_rows(errorfree.scaled(L, -(exponent // 2)))
    stop = start + len(block)
    mine = errorfree.Split(whole.high[start:stop], whole.low[start:stop], whole.bits)
    product = errorfree.row_product(mine, whole)
    head = block - product.head
    R = head - product.tail
    slack = product.left @ errorfree.row_norms(product.right.T)
    slack += _U * (errorfree.row_norms(head) + errorfree.row_norms(R))
    rows = (errorfree.row_norms(R) + slack) * errorfree.inflation(
        4 * len(L) + 4 * L.shape[1] + 20
    )
    bound = math.sqrt(np.vdot(rows, rows)) * errorfree.inflation(len(rows) + 4)
    return float(np.ldexp(bound, exponent)) if math.isfinite(bound) else math.inf
