"""The rows of X layer by layer, known through small factors and never formed.

A row is a sum over positions of Kronecker products, errors (x) features. Products with
X and X', rows of the Gram matrix (Hadamard products: Khatri-Rao) and blocks of X'X
(packed symmetric products, contracted over samples) all come from the factors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from refspec import backend
from refspec.backend import Array

__all__ = [
    "Factor",
    "all_rows",
    "column_chunks",
    "cross",
    "dot",
    "explicit",
    "gram_rows",
    "inner_length",
    "lengths",
    "packed_matrix",
    "row_chunks",
    "squares",
]

_CHUNK = 2**25  # bytes of one temporary: large enough for GEMM, small beside the result


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """The rows of one layer: ``sum_t roots[i, k, t] (x) features[i, t]``.

    Parameters
    ----------
    roots : Array, shape (N, K, T, b)
        ``sqrt(w)`` times the errors, or the weighted vectors themselves.
    features : Array, shape (N, T, a), or None
        None if the rows are the roots alone, raveled.
    """

    roots: Array
    features: Array | None

    @property
    def dimension(self) -> int:
        """Length of a row."""
        _, _, T, b = self.roots.shape
        return int(T * b if self.features is None else b * self.features.shape[2])

    @property
    def is_product(self) -> bool:
        """Whether every row is one Kronecker product: a Khatri-Rao factor."""
        return self.features is not None and self.roots.shape[2] == 1


def gram_rows(factors: Sequence[Factor], pivots: Array, first: int = 0) -> Array:
    """Return rows `pivots` of X X', (m, (N - first) K), from sample `first` on.

    Theory: theory/curvature.md#C2.
    """
    total = _gram_rows(factors[0], pivots, first)
    for f in factors[1:]:
        total += _gram_rows(f, pivots, first)  # ours alone: no other array shares it
    return total


def inner_length(f: Factor) -> int:
    """Return how many roundings an entry of a layer's Gram suffers at most."""
    _, _, T, b = f.roots.shape
    if f.features is None:
        return int(T * b)
    a = f.features.shape[2]
    return int(b + a if T == 1 else a * b + T)


def explicit(factors: Sequence[Factor], budget: float) -> tuple[Factor, ...]:
    """Multiply out layers with positions whose rows together fit in `budget` bytes."""
    out = []
    for f in factors:
        N, K = f.roots.shape[:2]
        size = N * K * f.dimension * 8
        if f.features is not None and not f.is_product and size <= budget:
            xp, budget = backend.namespace(f.roots), budget - size
            rows = backend.concatenate(row_chunks([f]))
            f = Factor(xp.reshape(rows, (N, K, 1, f.dimension)), None)
        out.append(f)
    return tuple(out)


def squares(f: Factor) -> Array:
    """Return ||row||^2, shape (N, K)."""
    xp = backend.namespace(f.roots)
    if f.features is None:
        return lengths(f.roots, (2, 3)) ** 2
    if f.is_product:  # a tiny factor times a huge one: square the product, not each
        return (lengths(f.roots, (2, 3)) * lengths(f.features, (1, 2))[:, None]) ** 2
    parts = [xp.sum(rows * rows, axis=1) for rows in row_chunks([f])]
    return xp.reshape(backend.concatenate(parts), f.roots.shape[:2])


def lengths(x: Array, axis: int | tuple[int, ...]) -> Array:
    """Return Euclidean lengths without under- or overflow of the squares."""
    xp = backend.namespace(x)
    size = xp.max(xp.abs(x), axis=axis, keepdims=True)
    size = xp.where(size > 0, size, xp.ones_like(size))
    unit = x / size
    length = xp.sqrt(xp.sum(unit * unit, axis=axis))
    return length * xp.squeeze(size, axis=axis)


def dot(f: Factor, V: Array) -> Array:
    """Return X V for one factor: errors . (V features), shape (N, K, m)."""
    xp, m = backend.namespace(f.roots, V), V.shape[1]
    N, K, T, b = f.roots.shape
    flat = xp.reshape(f.roots, (N, K, T * b))
    if f.features is None:
        return xp.reshape(xp.reshape(flat, (N * K, T * b)) @ V, (N, K, m))
    a = f.features.shape[2]
    maps = xp.permute_dims(xp.reshape(V, (b, a, m)), (1, 0, 2))
    image = xp.reshape(f.features, (N * T, a)) @ xp.reshape(maps, (a, b * m))
    return flat @ xp.reshape(image, (N, T * b, m))


def cross(f: Factor, Z: Array) -> Array:
    """Return X'Z for one factor: sum_i (Z' errors)_i (x) features_i, shape (P, m)."""
    xp, m = backend.namespace(f.roots, Z), Z.shape[2]
    N, K, T, b = f.roots.shape
    if f.features is None:
        flat = xp.reshape(f.roots, (N * K, T * b))
        return xp.matrix_transpose(flat) @ xp.reshape(Z, (N * K, m))
    a = f.features.shape[2]
    back = xp.matrix_transpose(xp.reshape(f.roots, (N, K, T * b))) @ Z
    back = xp.reshape(back, (N * T, b * m))
    image = xp.matrix_transpose(back) @ xp.reshape(f.features, (N * T, a))
    image = xp.permute_dims(xp.reshape(image, (b, m, a)), (0, 2, 1))
    return xp.reshape(image, (b * a, m))


def _gram_rows(f: Factor, pivots: Array, first: int) -> Array:
    """Rows of one layer's Gram: (errors . errors) o (features . features)."""
    xp, m = backend.namespace(f.roots, pivots), pivots.shape[0]
    N, K, T, b = f.roots.shape
    flat = xp.reshape(f.roots, (N * K, T * b))
    rows, samples, n = xp.take(flat, pivots, axis=0), pivots // K, N - first
    if f.features is None or f.is_product:
        outer = rows @ xp.matrix_transpose(flat[first * K :, :])
        if f.features is None:
            return outer
        h = f.features[:, 0, :]
        inner = xp.take(h, samples, axis=0) @ xp.matrix_transpose(h[first:, :])
        outer = xp.reshape(outer, (m, n, K))
        outer *= inner[:, :, None]
        return xp.reshape(outer, (m, n * K))
    errors = xp.matrix_transpose(xp.reshape(rows, (m, T, b)))
    chosen = xp.reshape(errors @ xp.take(f.features, samples, axis=0), (m, -1))
    rest = Factor(f.roots[first:, ...], f.features[first:, ...])
    parts = [chosen @ xp.matrix_transpose(x) for x in row_chunks([rest])]
    return xp.concat(parts, axis=1)


def row_chunks(factors: Sequence[Factor]) -> Iterator[Array]:
    """Yield explicit rows of X, a few samples at a time, shape (m K, P)."""
    xp = backend.namespace(factors[0].roots)
    N, K = factors[0].roots.shape[:2]
    step = max(1, _CHUNK // (8 * K * sum(f.dimension for f in factors)))
    for i in range(0, N, step):
        parts = []
        for f in factors:
            roots = f.roots[i : min(i + step, N), ...]
            n, _, T, b = roots.shape
            if f.features is None:
                parts.append(xp.reshape(roots, (n * K, T * b)))
            else:
                left = xp.reshape(xp.matrix_transpose(roots), (n, K * b, T))
                rows = left @ f.features[i : min(i + step, N), ...]
                parts.append(xp.reshape(rows, (n * K, f.dimension)))
        yield backend.concatenate(parts, axis=1)


def all_rows(factors: Sequence[Factor]) -> Array:
    """Return X explicitly, shape (N, K, P): only for projected primal matrices."""
    xp = backend.namespace(factors[0].roots)
    rows = backend.concatenate(row_chunks(factors))
    return xp.reshape(rows, (*factors[0].roots.shape[:2], -1))


def column_chunks(f: Factor) -> Iterator[Array]:
    """Yield columns of X, a few outputs b at a time, shape (N, K, m)."""
    xp = backend.namespace(f.roots)
    N, K, T, b = f.roots.shape
    if f.features is None:
        yield xp.reshape(f.roots, (N, K, T * b))
        return
    a = f.features.shape[2]
    step = max(1, _CHUNK // (8 * N * K * a))
    for j in range(0, b, step):
        part = xp.matrix_transpose(f.roots[:, :, :, j : min(j + step, b)])
        rows = part @ f.features[:, None, ...]
        yield xp.reshape(rows, (N, K, -1))


def packed_matrix(factors: Sequence[Factor]) -> Array:
    """Assemble X'X of Khatri-Rao factors block by block, each written once.

    Block (l, m) is sum_i D_i (x) h_i^l h_i^m' with D_i = sum_k root_ik^l root_ik^m': a
    product over samples only, K times fewer rows than X has. In a diagonal block both
    factors are symmetric, and their triangles alone are multiplied.
    """
    xp = backend.namespace(factors[0].roots)
    sizes = [f.dimension for f in factors]
    ends = np.cumsum([0, *sizes]).tolist()
    like = factors[0].roots
    total = xp.empty(
        (ends[-1], ends[-1]), dtype=like.dtype, device=backend.device(like)
    )
    for m, right in enumerate(factors):
        for n, left in enumerate(factors[: m + 1]):
            block = _packed_block(left, right, n == m)
            total[ends[n] : ends[n + 1], ends[m] : ends[m + 1]] = block
            if n < m:
                mirror = xp.matrix_transpose(block)
                total[ends[m] : ends[m + 1], ends[n] : ends[n + 1]] = mirror
    return total


def _packed_block(left: Factor, right: Factor, diagonal: bool) -> Array:
    """Return one block of X'X, shape (b_l a_l, b_m a_m)."""
    xp = backend.namespace(left.roots)
    e, f = left.roots[:, :, 0, :], right.roots[:, :, 0, :]
    g, h = left.features[:, 0, :], right.features[:, 0, :]  # type: ignore[index]
    (b, a), (B, A) = (e.shape[2], g.shape[1]), (f.shape[2], h.shape[1])
    pick_e = _triangle(b, e) if diagonal else None
    pick_h = _triangle(a, g) if diagonal else None
    step, out = max(1, _CHUNK // (8 * (b * B + a * A))), None
    for i in range(0, e.shape[0], step):
        s = slice(i, min(i + step, e.shape[0]))
        outer = xp.reshape(xp.matrix_transpose(e[s, ...]) @ f[s, ...], (-1, b * B))
        inner = xp.reshape(g[s, :, None] * h[s, None, :], (-1, a * A))
        if pick_e is not None and pick_h is not None:
            outer = xp.take(outer, pick_e[0], axis=1)
            inner = xp.take(inner, pick_h[0], axis=1)
        part = xp.matrix_transpose(outer) @ inner
        out = part if out is None else out + part
    if pick_e is not None and pick_h is not None:  # unpack both triangles
        out = xp.take(xp.take(out, pick_h[1], axis=1), pick_e[1], axis=0)
    out = xp.permute_dims(xp.reshape(out, (b, B, a, A)), (0, 2, 1, 3))
    return xp.reshape(out, (b * a, B * A))


def _triangle(n: int, like: Array) -> tuple[Array, Array]:
    """Return the triangle's places in a raveled (n, n), and every entry's in it."""
    rows, columns = np.tril_indices(n)
    place = np.empty((n, n), dtype=np.int64)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    pack, unpack = rows * n + columns, place.reshape(-1)
    return backend.from_host(pack, like), backend.from_host(unpack, like)
