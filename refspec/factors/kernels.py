"""Products with the rows of one layer, and its part of the Gram matrix XX'."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from refspec import backend, costs
from refspec.backend import Array, Namespace
from refspec.costs import Cost
from refspec.factors.layer import SMALL, Factor, lengths
from refspec.rows import Work

_TALL = 32  # rows from which on a product with few columns is fast
_ROWS = 256  # rows that are multiplied out together, at least
_WIDE = 2**11  # columns that are, at least


def work(f: Factor, N: int, K: int) -> Work:
    """Return what the rows of one layer take, and products with them."""
    T, b = f.roots.shape[2:]
    n, size = float(N * K), backend.itemsize(f.roots)
    gram, product, held, formed, sums = (
        n * n * T * b,
        2 * n * T * b,
        n * T * b,
        0.0,
        0.0,
    )
    if f.features is not None:
        a = f.features.shape[2]
        product += 2.0 * N * T * a * b
        held += float(N) * T * a
        if f.by_pairs:
            gram = SMALL * (float(N * T) ** 2 * (a + K * b) + n * n * T * b)
        elif f.is_sum:
            gram, formed, sums = n * n * a * b, n * T * a * b, n * a * b * size
        else:
            gram += float(N) ** 2 * a
    return Work(gram, product, 0.0, formed, held * size, sums)


def inner_length(f: Factor) -> int:
    """Return how many roundings an entry of a layer's Gram suffers at most."""
    _, _, T, b = f.roots.shape
    if f.features is None:
        return int(T * b)
    a = f.features.shape[2]
    return int(b + a if T == 1 else b * T + a + T if f.by_pairs else a * b)


def chain_length(f: Factor, N: int, K: int) -> int:
    """Return how many roundings X(X'z) suffers in one layer: there, and back."""
    _, _, T, b = f.roots.shape
    if f.features is None:
        return int(N * K + T * b)
    return int(K + N * T + f.features.shape[2] + T * b)


def sizes(f: Factor, xp: Namespace) -> Array:
    """Return sum_t ||errors_t|| ||features_t||, shape (N, K): no row is longer."""
    if f.features is None:
        return lengths(f.roots, (2, 3))
    return xp.sum(lengths(f.roots, 3) * lengths(f.features, 2)[:, None, :], axis=2)


def squares(f: Factor, xp: Namespace) -> Array:
    """Return ||row||^2 of one layer, shape (N, K)."""
    if not f.is_sum:  # a tiny factor times a huge one: square the product, not each
        return sizes(f, xp) ** 2 if f.is_product else lengths(f.roots, (2, 3)) ** 2
    if f.by_pairs:
        h = f.features
        inner = h @ xp.matrix_transpose(h)
        outer = f.roots @ xp.matrix_transpose(f.roots)
        return xp.clip(xp.sum(outer * inner[:, None, ...], axis=(2, 3)), min=0.0)
    parts = [lengths(rows, 1) ** 2 for rows in f.chunks()]
    return xp.reshape(backend.concatenate(parts), f.roots.shape[:2])


def dot(f: Factor, V: Array, xp: Namespace) -> Array:
    """Return X V for one layer: errors . (V features), shape (N, K, m)."""
    m = V.shape[1]
    N, K, T, b = f.roots.shape
    flat = xp.reshape(f.roots, (N, K, T * b))
    if f.features is None:
        return xp.reshape(xp.reshape(flat, (N * K, T * b)) @ V, (N, K, m))
    a = f.features.shape[2]
    maps = xp.permute_dims(xp.reshape(V, (b, a, m)), (1, 0, 2))
    maps, parts = xp.reshape(maps, (a, b * m)), []
    for i, j in _together(f, m):
        image = xp.reshape(f.features[i:j, ...], ((j - i) * T, a)) @ maps
        parts.append(flat[i:j, ...] @ xp.reshape(image, (j - i, T * b, m)))
    return backend.concatenate(parts)


def cross(f: Factor, Z: Array, xp: Namespace) -> Array:
    """Return X'Z for one layer: sum_i (Z' errors)_i (x) features_i, shape (P, m)."""
    m = Z.shape[2]
    N, K, T, b = f.roots.shape
    if f.features is None:
        flat = xp.reshape(f.roots, (N * K, T * b))
        return xp.matrix_transpose(flat) @ xp.reshape(Z, (N * K, m))
    a = f.features.shape[2]
    image = None
    for i, j in _together(f, m):
        roots = xp.reshape(f.roots[i:j, ...], (j - i, K, T * b))
        back = xp.matrix_transpose(roots) @ Z[i:j, ...]
        back = xp.matrix_transpose(xp.reshape(back, ((j - i) * T, b * m)))
        part = back @ xp.reshape(f.features[i:j, ...], ((j - i) * T, a))
        image = part if image is None else image + part
    image = xp.permute_dims(xp.reshape(image, (b, m, a)), (0, 2, 1))
    return xp.reshape(image, (b * a, m))


def _together(f: Factor, m: int) -> Iterator[tuple[int, int]]:
    """Yield first and last samples that are multiplied together with m columns.

    All of them without positions; with positions what is between would be T times m
    vectors of length b a sample.
    """
    N, _, T, b = f.roots.shape
    step = backend.at_a_time(8 * T * b * m, f.roots) if f.is_sum else max(N, 1)
    for i in range(0, max(N, 1), step):  # once of a class without a sample
        yield i, min(i + step, N)


def gram(f: Factor, index: Array, first: int, xp: Namespace) -> Array:
    """Rows of one layer's Gram: (errors . errors) o (features . features)."""
    N, K, T, b = f.roots.shape
    m, n = index.shape[0], N - first
    if f.by_pairs:
        return _gram_by_pairs(f, index, first, xp)
    if f.is_sum:
        return _gram_multiplied_out(f, index, first, xp)
    flat = xp.reshape(f.roots, (N * K, T * b))
    rows = xp.take(flat, index, axis=0)
    outer = rows @ xp.matrix_transpose(flat[first * K :, :])
    if f.features is None:
        return outer
    h = f.features[:, 0, :]
    inner = xp.take(h, index // K, axis=0) @ xp.matrix_transpose(h[first:, :])
    outer = xp.reshape(outer, (m, n, K))
    outer *= inner[:, :, None]
    return xp.reshape(outer, (m, n * K))


def outer(f: Factor, total: Array | None, xp: Namespace) -> Array:
    """Add one layer's Gram to `total`, rows multiplied out some columns at a time.

    As `backend.add_square` does: not yet mirrored.
    """
    N, K, _, _ = f.roots.shape
    n = N * K
    if total is None:
        kind, device = f.roots.dtype, backend.device(f.roots)
        total = xp.zeros((n, n), dtype=kind, device=device)
    for x in _tiles(f, xp):
        backend.add_square(total, xp.reshape(x, (n, -1)))
    made = work(f, N, K)
    costs.done(Cost(made.outer + made.formed))
    return total


def _tiles(f: Factor, xp: Namespace) -> Iterator[Array]:
    """Yield columns of one layer that is a sum, some outputs by some features.

    As many of both, so that neither is read much oftener than the other. (N, K, m).
    """
    N, K, T, b = f.roots.shape
    a = f.features.shape[2]  # type: ignore[union-attr]
    side = max(1, math.isqrt(max(_WIDE, backend.at_a_time(8 * N * K, f.roots))))
    wide, high = min(a, side), min(b, -(-side * side // min(a, side)))
    for j in range(0, b, high):
        left = xp.matrix_transpose(f.roots[:, :, :, j : min(j + high, b)])
        left = xp.reshape(left, (N, -1, T))
        for k in range(0, a, wide):
            right = f.features[:, :, k : min(k + wide, a)]  # type: ignore[index]
            yield xp.reshape(left @ right, (N, K, -1))


def _gram_multiplied_out(f: Factor, index: Array, first: int, xp: Namespace) -> Array:
    """Rows of one layer's Gram, rows multiplied out, some at a time on each side."""
    N, K, _, _ = f.roots.shape
    m, rest = index.shape[0], f.part(first, N)
    out = xp.empty(
        (m, (N - first) * K), dtype=f.roots.dtype, device=backend.device(index)
    )
    step = max(_ROWS, backend.at_a_time(8 * f.dimension, f.roots))
    for i in range(0, m, step):
        some, j = slice(i, min(i + step, m)), 0
        chosen = take(f, index[some], K, xp)
        for x in rest.chunks():
            out[some, j : j + x.shape[0]] = chosen @ xp.matrix_transpose(x)
            j += x.shape[0]
    return out


def _gram_by_pairs(f: Factor, index: Array, first: int, xp: Namespace) -> Array:
    """Rows of one layer's Gram: sum_st (errors_s . errors_t)(features_s . features_t).

    T (T a / K^2 + T b / K + b) multiplications an entry: first with the features of
    pairs of samples, then with one's errors, then the other's. A row has a b entries.
    """
    N, K, T, b = f.roots.shape
    h, host, m = f.features, backend.to_host(index), index.shape[0]
    samples, place = np.unique(host // K, return_inverse=True)
    whole = np.array_equal(host, (samples[:, None] * K + np.arange(K)).ravel())
    g = K if whole else 1  # rows that are multiplied together by a pair's features
    at, S = backend.from_host(place[::g], f.roots), len(samples)
    left = xp.take(xp.reshape(f.roots, (N * K, T, b)), index, axis=0)
    left = xp.asarray(xp.matrix_transpose(left), copy=True)  # (m, b, T)
    left = xp.reshape(left, (m // g, g * b, T))
    ours = xp.take(h, backend.from_host(samples, f.roots), axis=0)
    ours = xp.matrix_transpose(xp.reshape(ours, (S * T, -1)))
    kind, device = f.roots.dtype, backend.device(f.roots)
    out = xp.empty((m, N - first, K), dtype=kind, device=device)
    few = max(-(-_TALL // g), backend.cached(8 * g * b * T, f.roots))
    step = backend.at_a_time(8 * S * T * T, f.roots)
    for i in range(first, N, step):
        j = min(i + step, N)
        inner = xp.reshape(h[i:j, ...], ((j - i) * T, -1)) @ ours  # type: ignore[index]
        inner = xp.permute_dims(xp.reshape(inner, (j - i, T, S, T)), (0, 2, 3, 1))
        for k in range(i, j):  # a few rows at a time: they stay in the cache
            back = xp.matrix_transpose(f.roots[k, ...])
            back = xp.matrix_transpose(xp.reshape(back, (K, b * T)))
            for r in range(0, m // g, few):
                some = slice(r, min(r + few, m // g))
                pairs = inner[k - i, ...]
                pairs = pairs[some, ...] if whole else xp.take(pairs, at[some], axis=0)
                made = xp.reshape(left[some, ...] @ pairs, (-1, b * T)) @ back
                out[some.start * g : some.stop * g, k - first, :] = made
    return xp.reshape(out, (m, (N - first) * K))


def take(f: Factor, index: Array, K: int, xp: Namespace) -> Array:
    """Return chosen rows of one layer, shape (m, P)."""
    N, _, T, b = f.roots.shape
    roots = xp.take(xp.reshape(f.roots, (N * K, 1, T, b)), index, axis=0)
    h = None if f.features is None else xp.take(f.features, index // K, axis=0)
    return Factor(roots, h).rows()


def columns(f: Factor, xp: Namespace) -> Iterator[Array]:
    """Yield columns of one layer, a few outputs b at a time, shape (N, K, m)."""
    N, K, T, b = f.roots.shape
    if f.features is None:
        yield xp.reshape(f.roots, (N, K, T * b))
        return
    a = f.features.shape[2]
    step = backend.at_a_time(8 * N * K * a, f.roots)
    for j in range(0, b, step):
        part = xp.matrix_transpose(f.roots[:, :, :, j : min(j + step, b)])
        part = xp.reshape(part, (N, -1, T))  # one product a sample
        yield xp.reshape(part @ f.features, (N, K, -1))
