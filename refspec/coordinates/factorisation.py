"""XX' = L L' + R by blocks of pivots, never formed, with R measured."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refspec import backend, costs, rounding, ways
from refspec.backend import Array, Namespace
from refspec.costs import Cost
from refspec.rows import Rows, forming_radius
from refspec.ways import BLOCK


@dataclass(frozen=True, slots=True, eq=False)
class Pivoted:
    """XX' = L L' + R by pivoted rows: L' (r, n), its pivots, the other rows.

    And the squared Frobenius norm of R without these others, and its trace in them.
    """

    L: Array
    pivots: Array
    others: Array
    squares: float
    left: float


def pivoted_rows(
    rows: Rows, tolerance: float, xp: Namespace, *, left_out: float = 0.0
) -> Pivoted:
    """Factorise XX' until R's diagonal is below `tolerance`, or its sum `left_out`.

    Nothing here need be backward stable: the residual is measured. In the rows of a
    block's pivots it is known at once, since later rows of L' are set to 0 there.
    """
    N, K, P = rows.shape
    n = N * K
    left = xp.reshape(rows.squares(), (n,))
    rank, r, squares, work = min(n, P), 0, 0.0, rows.work

    def below(rest: Array) -> bool:
        near = backend.scalar(xp.linalg.vector_norm(rest)) <= tolerance
        return bool(near or backend.scalar(xp.sum(rest)) <= left_out)

    L = xp.empty((rank, n), dtype=left.dtype, device=backend.device(left))
    free, found = np.ones(n, dtype=bool), []
    size = 4 * BLOCK if backend.is_on_device(left) else BLOCK
    while r < rank and not below(left):
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
        m, left = _enough(left, new, below, xp)
        if m == 0:
            break
        block, new, pivots = block[:m, :], new[:m, :], xp.take(pivots, chosen[:m])
        L[r : r + m, :] = new
        block -= xp.matrix_transpose(xp.take(new, pivots, axis=1)) @ new
        squares += 2 * backend.scalar(xp.linalg.vector_norm(block)) ** 2
        grown = n * m * (r + 2 * BLOCK) + work.gram * m / n + work.formed
        costs.done(Cost(grown, moved=8.0 * ways.PASSES * n * m))
        r += m
        found.append(pivots)
        free[backend.to_host(pivots)] = False
        left = xp.where(backend.from_host(free, left), left, xp.zeros_like(left))
    others = backend.from_host(np.flatnonzero(free), left)
    L = L[:r, :] if r else xp.zeros_like(L[:1, :])
    pivots = backend.concatenate(found) if found else others[:0]
    return Pivoted(L, pivots, others, squares, backend.scalar(xp.sum(left)))


def _enough(
    left: Array, new: Array, below: Callable[[Array], bool], xp: Namespace
) -> tuple[int, Array]:
    """Count the new rows that bring the diagonal below what is asked, or all of them.

    Returned with what these rows leave of the diagonal.
    """

    def rest(m: int) -> Array:
        return xp.clip(left - xp.sum(new[:m, :] * new[:m, :], axis=0), min=0.0)

    m = new.shape[0]
    if below(rest(m)):
        m = bisect.bisect_left(range(m), True, key=lambda m: below(rest(m)))
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
    forming = 1 + rounding.gamma(rows.shape[0] * K, u)
    return math.sqrt(squares) * forming + _rounded(rows, made, trace, u)


def left_out(rows: Rows, made: Pivoted, trace: float, u: float, xp: Namespace) -> float:
    r"""Bound ||XX' - LL'|| by the trace that is left, without another row of XX'.

    Where R is known it is nearly 0, so that it is nearly positive semidefinite in the
    others: how nearly, their coefficients Z in the pivots say (theory/spectra.md#S5).
    """
    pivots, rest = (xp.take(made.L, x, axis=1) for x in (made.pivots, made.others))
    n, r = rows.shape[0] * rows.shape[1], made.pivots.shape[0]
    inverse, z, d = xp.linalg.inv(pivots) if r else pivots, 0.0, 0.0
    step = backend.at_a_time(24 * max(r, 1), rest)
    for k in range(0, rest.shape[1] if r else 0, step):
        some = rest[:, k : min(k + step, rest.shape[1])]
        Z = inverse @ some
        off = some - pivots @ Z
        z += backend.scalar(xp.sum(Z * Z))
        d += backend.scalar(xp.sum(off * off))
        costs.done(Cost(2.0 * r * r * Z.shape[1]))
    more, g = 1 + rounding.gamma(n + 4, u), rounding.gamma(r + 4, u)
    rounded = _rounded(rows, made, trace, u)
    z = math.sqrt(z) * more
    size = backend.scalar(xp.linalg.vector_norm(made.L)) * more
    d = math.sqrt(d) * more + g * size * (1 + z)
    known = math.sqrt(made.squares) * more + rounded
    return more * (made.left + rounded + 2 * (d * d + known * z * (2 + z)) + known)


def _rounded(rows: Rows, made: Pivoted, trace: float, u: float) -> float:
    """Bound what rounding does to XX' - LL', in norm and in trace."""
    terms = rows.roundings + made.L.shape[0] + 4
    rounded = 2 * rounding.second_moment_radius(terms, trace, u)
    return rounded + forming_radius(rows, trace, u)
