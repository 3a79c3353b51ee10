"""Second moments and cell means from their factors, formed almost without rounding.

A sum over samples of Kronecker products is a product of two matrices, errors with
errors times features with features: it is split there (`forming`), where a row of X is
never multiplied out, and each of its terms is rounded twice. Host NumPy float64 only,
sizes near 1. Proofs are in theory/certificates.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from refspec import backend
from refspec.rounding import forming
from refspec.rounding.bounds import gamma
from refspec.rounding.errorfree import FLOOR, Split, inflation, split_rows

_U = 2.0**-53


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Rows roots (x) features of a layer, a sample's largest feature in [.5, 1).

    ``roots`` (N, K, b), ``features`` (N, a), or None where a row is its roots.
    """

    roots: np.ndarray
    features: np.ndarray | None

    @property
    def sides(self) -> tuple[int, int]:
        """The numbers b and a."""
        return self.roots.shape[2], 1 if self.features is None else len(self.features.T)

    def samples(self, i: int, j: int) -> Layer:
        """Return samples i to j."""
        h = self.features
        return Layer(self.roots[i:j], None if h is None else h[i:j])

    def squares(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the squared lengths of each sample's roots and features."""
        roots, h = self.roots.reshape(len(self.roots), -1), self.features
        ones = np.ones(len(roots))
        return np.vecdot(roots, roots), ones if h is None else np.vecdot(h, h)


def layer(roots: np.ndarray, features: np.ndarray | None) -> Layer:
    """Take roots (N, K, b) and features (N, a): their scales move to the roots.

    Exactly. Else a sample is as uncertain as its features with another's errors.
    """
    if features is None:
        return Layer(roots, None)
    size = np.max(np.abs(features), axis=1)
    e = np.frexp(size)[1]
    roots = np.where(size > 0, np.ldexp(1.0, e), 0.0)[:, None, None] * roots
    return Layer(roots, np.ldexp(features, -e[:, None]))


def second_moment(layers: Sequence[Layer], trace: float) -> tuple[np.ndarray, float]:
    """Return X'X, (P, P), symmetric to the bit, and its error in the Frobenius norm.

    Theory: theory/certificates.md#Q11. Cost O(N P^2) of dense layers.
    """
    ends = list(accumulate((math.prod(x.sides) for x in layers), initial=0))
    made, N, K = np.empty((ends[-1], ends[-1])), *layers[0].roots.shape[:2]
    calls, longest = 1, 1
    for m, right in enumerate(layers):
        for n, left in enumerate(layers[: m + 1]):
            step = _step(left, right)
            parts = _blocks(left, right, step, n == m)
            block = sum(parts, next(parts))
            made[ends[n] : ends[n + 1], ends[m] : ends[m + 1]] = block
            made[ends[m] : ends[m + 1], ends[n] : ends[n + 1]] = block.T
            rows = K if left.features is None and right.features is None else 1
            calls = max(calls, -(-N // step))
            longest = max(longest, rows * min(N, step))
    terms = gamma(calls + 6, _U) + 2 * forming.split_error(K)
    error = terms * trace + 2 * forming.split_error(longest) * _mixed(layers)
    return made, (error + FLOOR) * inflation(N * K * ends[-1])


def cell_means(
    layers: Sequence[Layer], unit: np.ndarray, offsets: Sequence[int], trace: float
) -> tuple[np.ndarray, float]:
    """Return Q'X, (C, K, P), and its error in the Frobenius norm; Q by entries (N, K).

    Theory: theory/certificates.md#Q11. Cost O(N K P).
    """
    found, squares, longest = [], 0.0, 1
    for i, j in pairwise(offsets):
        parts = []
        for x in layers:
            own = x.samples(i, j)
            back = unit[i:j, :, None] * own.roots
            h = np.ones((j - i, 1)) if own.features is None else own.features
            _, K, b = back.shape
            flat = np.ascontiguousarray(back.reshape(j - i, K * b).T)
            pair = split_rows(flat), split_rows(np.ascontiguousarray(h.T))
            parts.append(forming.close_product(*pair).reshape(K, -1))
            squares += float(np.vdot(back, back)) * float(np.vdot(h, h))
        found.append(np.concatenate(parts, axis=1))
        longest = max(longest, j - i)
    error = gamma(4, _U) * math.sqrt(trace)
    error += 2 * forming.split_error(longest) * math.sqrt(squares)
    return np.stack(found), (error + FLOOR) * inflation(unit.size * found[0].shape[1])


def _step(left: Layer, right: Layer) -> int:
    """Return how many samples are multiplied together."""
    (b, a), (B, A) = left.sides, right.sides
    K, plain = left.roots.shape[1], left.features is None and right.features is None
    size = K * (b + B) if plain else b * B + a * A
    return backend.at_a_time(8 * size, left.roots)


def _blocks(
    left: Layer, right: Layer, step: int, diagonal: bool
) -> Iterator[np.ndarray]:
    """Yield terms of a block of X'X, (b_l a_l, b_m a_m), some samples each."""
    for i in range(0, max(1, len(left.roots)), step):
        pair = left.samples(i, i + step), right.samples(i, i + step)
        yield _square(pair[0]) if diagonal else _product(*pair)


def _square(x: Layer) -> np.ndarray:
    """Return a block on the diagonal: of two symmetric factors their triangles."""
    if x.features is None:
        flat = x.roots.reshape(-1, x.roots.shape[2]).T
        head, tail = forming.square_product(split_rows(np.ascontiguousarray(flat)))
        head += tail
        return head
    b, a = x.sides
    (p, q), (s, t) = np.tril_indices(b), np.tril_indices(a)
    h = np.ascontiguousarray(x.features.T)
    outer = np.ascontiguousarray(_outer(x.roots, x.roots)[:, p, q].T)
    packed = forming.close_product(split_rows(outer), split_rows(h[s] * h[t]))
    rows, columns = _places(b, p, q), _places(a, s, t)
    out = packed[rows][:, :, columns].transpose(0, 2, 1, 3)
    return np.asarray(out.reshape(b * a, b * a))


def _product(left: Layer, right: Layer) -> np.ndarray:
    """Return a block of two layers."""
    (b, a), (B, A) = left.sides, right.sides
    if left.features is None and right.features is None:
        pair = (x.roots.reshape(-1, x.roots.shape[2]).T for x in (left, right))
        return forming.close_product(
            *(split_rows(np.ascontiguousarray(x)) for x in pair)
        )
    ones = np.ones((len(left.roots), 1))
    g, h = (ones if x.features is None else x.features for x in (left, right))
    outer = _outer(left.roots, right.roots).reshape(-1, b * B)
    inner = (g[:, :, None] * h[:, None, :]).reshape(-1, a * A)
    pair = (np.ascontiguousarray(x.T) for x in (outer, inner))
    out = forming.close_product(*map(split_rows, pair))
    out = out.reshape(b, B, a, A).transpose(0, 2, 1, 3)
    return np.asarray(out.reshape(b * a, B * A))


def _outer(d: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Return sum_k of roots by roots, sample by sample, (N, b, B)."""
    return forming.close_product(*map(_columns, (d, e)))


def _columns(d: np.ndarray) -> Split:
    """Split the columns of every sample's roots, (N, b, K)."""
    N, K, b = d.shape
    made = split_rows(np.swapaxes(d, 1, 2).reshape(N * b, K))
    return Split(made.high.reshape(N, b, K), made.low.reshape(N, b, K), made.bits)


def _places(n: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return where the entries of an (n, n) are in its triangle."""
    place = np.empty((n, n), dtype=np.int64)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return place


def _mixed(layers: Sequence[Layer]) -> float:
    """Bound the lengths of all columns of errors by errors times features by features.

    As a product of matrices is uncertain: by the length of its rows and columns.
    """
    roots, features = zip(*(x.squares() for x in layers), strict=True)
    d, h = np.stack(roots), np.stack(features)
    plain = np.array([x.features is None for x in layers])
    sums = np.outer(d.sum(axis=1), d.sum(axis=1))  # rows themselves are multiplied
    sizes = np.where(np.outer(plain, plain), sums, (d @ d.T) * (h @ h.T))
    return math.sqrt(float(np.sum(sizes)))
