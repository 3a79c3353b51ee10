"""XX' = L L' + R by blocks of pivots, never formed, with R measured."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

import numpy as np

from refspec import backend, costs, rounding, ways
from refspec.backend import Array, Namespace
from refspec.costs import Cost
from refspec.rows import Rows, forming_radius
from refspec.ways import BLOCK


@dataclass(frozen=True, slots=True, eq=False)
class Pivoted:
    """XX' = L L' + R by pivoted rows: L' (r, n), the rows that are no pivots (others).

    And the squared Frobenius norm of R without these rows.
    """

    L: Array
    others: Array
    squares: float


def pivoted_rows(rows: Rows, tolerance: float, xp: Namespace) -> Pivoted:
    """Factorise XX' by blocks of pivots until the diagonal of R is below `tolerance`.

    Nothing here need be backward stable: the residual is measured. In the rows of a
    block's pivots it is known at once, since later rows of L' are set to 0 there.
    """
    N, K, P = rows.shape
    n = N * K
    left = xp.reshape(rows.squares(), (n,))
    rank, r, squares, work = min(n, P), 0, 0.0, rows.work
    L = xp.empty((rank, n), dtype=left.dtype, device=backend.device(left))
    free = np.ones(n, dtype=bool)
    size = 4 * BLOCK if backend.is_on_device(left) else BLOCK
    while r < rank and backend.scalar(xp.sum(left * left)) > tolerance**2:
        pivots = xp.argsort(left, descending=True)[: min(size, n)]
        block = rows.gram(pivots)
        if r:
            block -= xp.matrix_transpose(xp.take(L[:r, :], pivots, axis=1)) @ L[:r, :]
        # pivots that the others of the block explain wait for a later block, or never
        floor = max(tolerance / n**0.5, backend.scalar(left[pivots[-1]]) / 8)
        chosen, lower = backend.pivoted_cholesky(xp.take(block, pivots, axis=1), floor)
        block = xp.take(block, chosen, axis=0)
        block *= backend.beside(free, left)
        most = min(lower.shape[0], rank - r)  # XX' has no more eigenvalues
        new = (xp.linalg.inv(lower) @ block)[:most, :]
        ways.expect_held(8.0 * n * (r + new.shape[0]), r)
        m, left = _enough(left, new, tolerance, xp)
        if m == 0:
            break
        block, new, pivots = block[:m, :], new[:m, :], xp.take(pivots, chosen[:m])
        L[r : r + m, :] = new
        block -= xp.matrix_transpose(xp.take(new, pivots, axis=1)) @ new
        squares += 2 * backend.scalar(xp.linalg.vector_norm(block)) ** 2
        grown = n * m * (r + 2 * BLOCK) + work.gram * m / n + work.formed
        costs.done(Cost(grown, moved=8.0 * ways.PASSES * n * m))
        r += m
        free[backend.to_host(pivots)] = False
        left = xp.where(backend.from_host(free, left), left, xp.zeros_like(left))
    others = backend.from_host(np.flatnonzero(free), left)
    return Pivoted(L[:r, :] if r else xp.zeros_like(L[:1, :]), others, squares)


def _enough(
    left: Array, new: Array, tolerance: float, xp: Namespace
) -> tuple[int, Array]:
    """Count the new rows that bring the diagonal below `tolerance`, or all of them.

    Returned with what these rows leave of the diagonal.
    """

    def rest(m: int) -> Array:
        return xp.clip(left - xp.sum(new[:m, :] * new[:m, :], axis=0), min=0.0)

    def below(m: int) -> bool:
        return bool(backend.scalar(xp.linalg.vector_norm(rest(m))) <= tolerance)

    m = new.shape[0]
    if below(m):
        m = bisect.bisect_left(range(m), True, key=below)
    return int(m), rest(m)


def residual(rows: Rows, made: Pivoted, trace: float, u: float, xp: Namespace) -> float:
    """Bound ||XX' - LL'||_F; of the rows that are no pivots, some at a time."""
    K, squares = rows.shape[1], made.squares
    n = rows.shape[0] * K
    host, rest = backend.to_host(made.others), xp.take(made.L, made.others, axis=1)
    for k in range(0, len(host), 2 * BLOCK):
        first, end = int(host[k]) // K, min(k + 2 * BLOCK, len(host))
        gap = rows.gram(made.others[k:end], first)
        gap = xp.take(gap, made.others[k:] - first * K, axis=1)
        gap -= xp.matrix_transpose(rest[:, k:end]) @ rest[:, k:]
        # the matrix is symmetric: what is right of the diagonal block counts twice
        own = gap[:, : end - k]
        squares += backend.scalar(2 * xp.sum(gap * gap) - xp.sum(own * own))
        wide, high = rest[:, k:].shape[1], end - k
        part = (rows.shape[0] - first) * K / n * high / n
        costs.done(
            Cost(
                rows.work.gram * part + rest.shape[0] * high * wide + rows.work.formed,
                moved=8.0 * ways.PASSES * high * wide,
            )
        )
    terms = rows.roundings + made.L.shape[0] + 4
    rounding_error = 2 * rounding.second_moment_radius(terms, trace, u)
    rounding_error += forming_radius(rows, trace, u)
    forming = 1 + rounding.gamma(rows.shape[0] * K, u)
    return math.sqrt(squares) * forming + rounding_error
