"""Blocks of X'X of rows that are one Kronecker product each, symmetric ones packed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from refspec import backend, costs
from refspec.backend import Array, Namespace
from refspec.costs import Cost
from refspec.factors.layer import Factor


def packed_matrix(layers: Sequence[Factor], xp: Namespace) -> Array:
    """Assemble X'X of Khatri-Rao factors block by block, each written once.

    Block (l, m) is sum_i D_i (x) h_i^l h_i^m', D_i = sum_k root_ik^l root_ik^m': a
    product over samples only, K times fewer rows than X has.
    """
    ends = list(accumulate((f.dimension for f in layers), initial=0))
    like = layers[0].roots
    shape, device = (ends[-1], ends[-1]), backend.device(like)
    total = xp.empty(shape, dtype=like.dtype, device=device)
    for m, right in enumerate(layers):
        for n, left in enumerate(layers[: m + 1]):
            block = _packed_block(left, right, n == m, xp)
            total[ends[n] : ends[n + 1], ends[m] : ends[m + 1]] = block
            half = 4 if n == m else 1
            costs.done(Cost(float(like.shape[0]) * math.prod(block.shape) / half))
            if n < m:
                mirror = xp.matrix_transpose(block)
                total[ends[m] : ends[m + 1], ends[n] : ends[n + 1]] = mirror
    return total


def _packed_block(left: Factor, right: Factor, diagonal: bool, xp: Namespace) -> Array:
    """Return one block of X'X, shape (b_l a_l, b_m a_m).

    In a diagonal block both factors are symmetric: triangles alone are multiplied.
    """
    e, f = left.roots[:, :, 0, :], right.roots[:, :, 0, :]
    g, h = left.features[:, 0, :], right.features[:, 0, :]  # type: ignore[index]
    (b, a), (B, A) = (e.shape[2], g.shape[1]), (f.shape[2], h.shape[1])
    picks = (_triangle(b, e), _triangle(a, g)) if diagonal else None
    step, out = backend.at_a_time(8 * (b * B + a * A), e), None
    for i in range(0, e.shape[0], step):
        s = slice(i, min(i + step, e.shape[0]))
        outer = xp.reshape(xp.matrix_transpose(e[s, ...]) @ f[s, ...], (-1, b * B))
        inner = xp.reshape(g[s, :, None] * h[s, None, :], (-1, a * A))
        if picks is not None:
            outer, inner = (
                xp.take(x, pack, axis=1)
                for x, (pack, _) in zip((outer, inner), picks, strict=True)
            )
        part = xp.matrix_transpose(outer) @ inner
        out = part if out is None else out + part
    if picks is not None:
        for axis, (_, unpack) in enumerate(picks):
            out = xp.take(out, unpack, axis=axis)
    out = xp.permute_dims(xp.reshape(out, (b, B, a, A)), (0, 2, 1, 3))
    return xp.reshape(out, (b * a, B * A))


def _triangle(n: int, like: Array) -> tuple[Array, Array]:
    """Return the triangle's places in a raveled (n, n), and every entry's in it."""
    rows, columns = np.tril_indices(n)
    place = np.empty((n, n), dtype=np.int64)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    pack, unpack = rows * n + columns, place.reshape(-1)
    return backend.from_host(pack, like), backend.from_host(unpack, like)
