"""Sums of rows over the samples of a cell, squared, and neither rows nor sums formed.

A row is a sum over positions of errors (x) features. The sum over the samples of a
class is the product of two matrices, of errors and of features, and its square comes
from that product or from the two Gram matrices of samples, whichever is smaller.
"""

from __future__ import annotations

from collections.abc import Callable

from refspec import backend
from refspec.backend import Array
from refspec.classes import class_slices

#: Roots (n, k, T, b) of some samples and cross classes.
Roots = Callable[[slice, slice], Array]


def squared_sums(
    roots: Roots, features: Array | None, unit: Array, offsets: tuple[int, ...]
) -> Array:
    """Return ||sum_i u_{ic'} x_{ic'}||^2 over every class, (C, K), of one factor.

    features (N, T, a), or none if the rows are the roots; unit (N, K).
    Theory: theory/curvature.md#C2.
    """
    xp, K, parts = backend.namespace(unit), unit.shape[1], []
    T, b = roots(slice(0, 1), slice(0, 1)).shape[2:]
    for _, i, j in class_slices(offsets):
        h, pairs, n = features, None, max(1, (j - i) * T)
        if h is not None:
            h = xp.reshape(h[i:j, ...], (-1, h.shape[2]))
            pairs = h @ xp.matrix_transpose(h) if h.shape[0] < h.shape[1] else None
        wide = T * b if h is None else min(h.shape[1] * b, n * n)
        step, found = backend.cached(8 * max(n * b, wide), unit), []
        for k in range(0, K, step):
            some = slice(k, min(k + step, K))
            x = unit[i:j, some, None, None] * roots(slice(i, j), some)
            found.append(_squares(xp.permute_dims(x, (1, 0, 2, 3)), h, pairs))
        parts.append(backend.concatenate(found)[None, :])
    return backend.concatenate(parts)


def _squares(x: Array, h: Array | None, pairs: Array | None) -> Array:
    """Return the squares (k,) of sums of roots x (k, n, T, b), or with features h.

    pairs: hh', where that is the smaller.
    """
    xp, (k, n, T, b) = backend.namespace(x), x.shape
    if h is None:
        return xp.sum(xp.sum(x, axis=1) ** 2, axis=(1, 2))
    x = xp.reshape(x, (k, n * T, b))
    if pairs is None:
        return xp.sum((xp.matrix_transpose(x) @ h) ** 2, axis=(1, 2))
    inner = pairs * (x @ xp.matrix_transpose(x))
    return xp.clip(xp.sum(inner, axis=(1, 2)), min=0.0)
