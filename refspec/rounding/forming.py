r"""Gram matrices and their factors, formed almost without rounding.

What is computed here errs by a few units, whatever the sizes, where the a-priori bound
of an ordinary product grows with them. Products are split (`errorfree`); of a factor
whose columns are sorted by size only the leading ones need to be, since rounding is
small where numbers are. Host NumPy float64 only, sizes near 1. Proofs are in
theory/certificates.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from refspec.rounding.bounds import gamma
from refspec.rounding.errorfree import FLOOR, Split, inflation, split_rows

_U = 2.0**-53
_UNITS = 4  # of the trace: what the columns that are not split may cost


def split_error(k: int) -> float:
    """Bound |a'b - head - tail| / (|a| |b|) for split inner products of length k.

    Theory: theory/certificates.md#Q7.
    """
    return gamma(k + 10, _U) * k * 2.0**-24


def close_product(a: Split, b: Split) -> np.ndarray:
    """Return AB', each entry off by u of itself and by `split_error` at most.

    Stacks of matrices too. Theory: theory/certificates.md#Q7.
    """
    tail: np.ndarray = a.high @ np.swapaxes(b.low, -1, -2)
    tail += a.low @ np.swapaxes(b.high + b.low, -1, -2)
    tail += a.high @ np.swapaxes(b.high, -1, -2)
    return tail


def square_product(a: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return head and tail of AA', as close as `close_product`, of half the work.

    Theory: theory/certificates.md#Q7.
    """
    # the low part counts once in each of two terms that mirror each other
    half = (a.high + a.low / 2) @ a.low.T
    return a.high @ a.high.T, half + half.T


@dataclass(frozen=True, slots=True, eq=False)
class Gram:
    """K = sum_l (H_l H_l') o (D_l D_l'), a row for each of K cross classes a sample.

    Of every layer H_l H_l', (N, N), or None for ones, and D_l, (N K, b), split.
    Theory: theory/certificates.md#Q8.
    """

    layers: tuple[tuple[np.ndarray | None, Split], ...]
    shape: tuple[int, int]  # N, K
    error: float  # |fl(K) - K| is at most this times the trace of K, in the 2-norm

    def blocks(self, samples: int) -> Iterator[np.ndarray]:
        """Yield rows of so many samples, from their own columns on."""
        N, K = self.shape
        for i in range(0, N, samples):
            j, total = min(i + samples, N), np.zeros(())
            for inner, D in self.layers:
                outer = close_product(_part(D, i * K, j * K), _part(D, i * K, N * K))
                if inner is not None:
                    outer = outer.reshape(j - i, K, N - i, K)
                    outer *= inner[i:j, None, i:, None]
                    outer = outer.reshape((j - i) * K, (N - i) * K)
                total = outer if total.shape == () else np.add(total, outer, out=total)
            yield total


def gram(pairs: Iterable[tuple[np.ndarray | None, np.ndarray]], K: int) -> Gram:
    """Prepare K from features H (N, a), or None, and errors D (N K, b) of every layer.

    Theory: theory/certificates.md#Q8.
    """
    layers, error = [], 0.0
    for H, D in pairs:
        inner, lost = None, split_error(D.shape[1])
        if H is not None:
            half, lost = split_rows(H), lost + split_error(H.shape[1])
            inner = close_product(half, half)
        layers.append((inner, split_rows(D)))
        error = max(error, 2 * lost)
    error += gamma(len(layers) + 4, _U)
    return Gram(tuple(layers), (len(layers[0][1].high) // K, K), error)


def residual_norm(blocks: Iterable[np.ndarray], W: np.ndarray) -> float:
    """Bound ||K - WW'||_F, W (n, r) with columns from the largest on.

    K symmetric, as it is stored, in consecutive blocks of rows from their own columns
    on; inf if it overflows. Theory: theory/certificates.md#Q9.
    """
    n, r = W.shape
    start, squares, rest = 0, 0.0, _rests(W)
    k = int(np.sum(r * rest > _UNITS * rest[0]))
    lead = split_rows(W[:, :k])
    left = np.concatenate([lead.high, lead.low, W[:, k:]], axis=1)
    right = np.concatenate([lead.low, W], axis=1).T.copy()
    with np.errstate(all="ignore"):
        for block in blocks:
            stop = start + len(block)
            gap = block - lead.high[start:stop] @ lead.high[start:].T
            gap -= left[start:stop] @ right[:, start:]
            own = gap[:, : stop - start]  # what is right of it counts twice
            squares += 2 * float(np.vdot(gap, gap)) - float(np.vdot(own, own))
            start = stop
        small = k * 2.0**-24 * rest[0] + rest[k]
        bound = math.sqrt(squares) * (1 + 4 * _U) + gamma(r + k + 14, _U) * small
        bound = float(bound + FLOOR) * inflation(2 * n * n + n * r)
    return bound if math.isfinite(bound) else math.inf


def squared_columns(W: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the diagonal d of W'W, W as above, and a bound of ||W'W - diag d||.

    Theory: theory/certificates.md#Q9.
    """
    (n, r), rest = W.shape, _rests(W)
    k = int(np.sum(n * np.sqrt(rest * rest[0]) > _UNITS * rest[0]))
    G = W.T @ W
    lead = split_rows(np.ascontiguousarray(W[:, :k].T))
    G[:k, :k] = close_product(lead, lead)
    d = np.diagonal(G).copy()
    G.flat[:: r + 1] = 0
    lost = gamma(n, _U) * (2 * math.sqrt(rest[0] * rest[k]) + rest[k])
    lost += split_error(n) * rest[0] + _U * float(np.max(d, initial=0.0))
    off = math.sqrt(float(np.vdot(G, G))) * (1 + 2 * _U) + lost + FLOOR
    return d, float(off) * inflation(2 * n * r + r * r)


def _rests(W: np.ndarray) -> np.ndarray:
    """Return the squared norm of all columns from each one on, (r + 1,)."""
    squares = np.einsum("ij,ij->j", W, W)
    return np.append(np.cumsum(squares[::-1])[::-1], 0.0)


def _part(x: Split, i: int, j: int) -> Split:
    """Return rows i to j."""
    return Split(x.high[i:j], x.low[i:j], x.bits)
