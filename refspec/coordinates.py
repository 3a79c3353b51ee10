"""Rows in the fewest coordinates: parameters if they are few, pivoted rows if not.

All that attribution needs is X'X and the cells Q'X in some orthonormal coordinates of
the parameter space. With few parameters those are the parameters. With many, a pivoted
Cholesky factorisation X X' = L L' + R, computed a few hundred columns at a time and
never formed, gives them: L is X in r coordinates, r the numerical rank. Every spectrum
and every knock-out then comes from L'L and Q'L.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace

import numpy as np

from refspec import backend, rounding
from refspec.backend import Array, Namespace
from refspec.classes import Snapshot, class_slices
from refspec.curvature import (
    SecondMoment,
    moment_of,
    score_reduced,
    unit_weights,
)
from refspec.rows import Rows, forming_radius, reflected
from refspec.structure import cell_norms, cell_rows, cells

_BLOCK = 256  # pivots at a time, on a device four times as many
_EXPLICIT = 2**28  # bytes of gradients of layers with positions that may be held


@dataclass(frozen=True, slots=True, eq=False)
class Coordinates:
    """A second moment and its means in r coordinates.

    Parameters
    ----------
    second : Array, shape (r, r)
        X'X in the coordinates, symmetric to the bit.
    means : Array, shape (C, K, r)
        Q'X, the cells, in the coordinates.
    moment : SecondMoment
        What they are coordinates of.
    norms : Array, shape (C, K)
        Square roots of the cells' masses.
    trace : float
        Trace of X'X.
    radius : float
        Every eigenvalue of X'X lies within this of the one in coordinates (before the
        eigensolver adds its own error).
    level_radius : float
        The same for every level, and for the whole without some levels.
    kind : str
        How the radius is known.
    shape : tuple of int
        Rows and columns of X.
    side : str
        `primal` (coordinates are parameters) or `dual` (pivoted rows).
    """

    second: Array
    means: Array
    moment: SecondMoment
    norms: Array
    trace: float
    radius: float
    level_radius: float
    kind: str
    shape: tuple[int, int]
    side: str

    def __repr__(self) -> str:
        """Say the sizes, not the entries."""
        return (
            f"Coordinates({self.side}, r={self.second.shape[0]} of P={self.shape[1]}, "
            f"trace={self.trace:.6g}, radius={self.radius:.2g})"
        )


def coordinates(moment: SecondMoment | Snapshot) -> Coordinates:
    """Put a second moment in its fewest coordinates.

    Parameters
    ----------
    moment : SecondMoment or Snapshot
        Projected or not; a snapshot stands for its Fisher information.

    Returns
    -------
    Coordinates
        Primal if 2 P <= N K, else dual.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If X'X overflows, or has no finite radius in its number format.

    Notes
    -----
    Theory: theory/spectra.md#S1, #S2. Dual: the factorisation stops when what is left
    of the diagonal is below the rounding error of the Gram matrix; the whole residual
    is measured, block by block. Cost O(N K r^2 + (N K)^2 r), memory O(N K r).

    Examples
    --------
    >>> import refspec
    >>> coordinates(refspec.datasets.digits_mlp()).side
    'dual'
    """
    moment = moment_of(moment)
    few = 2 * moment.shape[1] <= moment.shape[0]
    return primal(moment) if few else dual(moment)


def primal(moment: SecondMoment) -> Coordinates:
    """Use the parameters themselves as coordinates, r = P.

    Theory: theory/spectra.md#S1. Cost O(N P^2), memory O(P^2).
    """
    scaled, power = _scaled(moment)
    return _rescaled(_primal(scaled), moment, power)


def dual(moment: SecondMoment) -> Coordinates:
    """Use pivoted rows as coordinates, r the numerical rank.

    Theory: theory/spectra.md#S1, #S2. Cost O((N K)^2 r), memory O(N K r).
    """
    scaled, power = _scaled(moment)
    return _rescaled(_dual(scaled), moment, power)


def _scaled(moment: SecondMoment) -> tuple[SecondMoment, int]:
    """Scale rows by a power of two to a trace near 1: no square over- or underflows.

    Returned with the power that takes them back. A first scaling, to rows that can be
    squared at all, is by the largest factors; the second by the trace.
    """
    rows, power = moment.rows.balanced()
    trace = backend.scalar(moment.xp.sum(rows.squares()))
    if trace > 0:
        e = math.frexp(trace)[1] // 2
        rows, power = rows.times(-e), power + e
    return replace(moment, rows=rows), power


def _rescaled(at: Coordinates, moment: SecondMoment, power: int) -> Coordinates:
    """Take coordinates of scaled rows back, and refuse what the format cannot hold."""
    xp, r = moment.xp, at.second.shape[0]
    info = xp.finfo(moment.weights.dtype)
    biggest = max(at.trace + at.level_radius, 1.0)
    if math.frexp(biggest)[1] + 2 * power > math.frexp(float(info.max))[1] - 1:
        raise ValueError(
            f"X'X must fit {moment.weights.dtype}, got a trace of about "
            f"2^{math.frexp(biggest)[1] + 2 * power}; divide the features or errors by "
            f"2^{power}"
        )
    if not math.isfinite(at.level_radius):
        raise ValueError(
            f"a finite radius needs N K u < 1, got N K = {moment.shape[0]} rows of "
            f"{moment.weights.dtype}; convert the snapshot to float64"
        )
    up = 2.0**power if abs(power) < 1000 else 0.0
    # entries below the smallest normal number are rounded absolutely, each by this
    tiny = float(info.smallest_normal) * float(info.eps) * r if at.trace > 0 else 0.0
    return replace(
        at,
        moment=moment,
        second=at.second * up * up,
        means=at.means * up,
        trace=at.trace * up * up,
        radius=at.radius * up * up + tiny,
        level_radius=at.level_radius * up * up + tiny,
    )


def _primal(moment: SecondMoment) -> Coordinates:
    """Do as `primal` says, without scaling."""
    xp, w, K = moment.xp, moment.weights, moment.weights.shape[1]
    n, u, norms = moment.shape[0], rounding.unit_roundoff(w), cell_norms(moment)
    if moment.projection is None:
        parts = [
            moment.rows.part(i, j).cross(cell_rows(moment, norms, c))
            for c, i, j in class_slices(moment.offsets)
        ]
        parts = [xp.matrix_transpose(x)[None, ...] for x in parts]
        means = backend.concatenate(parts)
    else:
        seen = [cells(moment, moment.project(x), norms) for x in moment.rows.columns()]
        means = backend.concatenate(seen, axis=2)
    trace = backend.scalar(xp.sum(moment.rows.squares()))
    radius = 2 * rounding.second_moment_radius(n + K + 4, trace, u)
    radius += forming_radius(moment.rows, trace, u)
    level = radius + _uncertain(moment, moment.rows, trace)
    seen_trace = trace
    if moment.projection is not None:
        seen_trace, level = moment.trace(), 4 * level
        radius = level
    return Coordinates(
        moment.matrix(),
        means,
        moment,
        norms,
        seen_trace,
        radius,
        level,
        "a priori",
        moment.shape,
        "primal",
    )


def _dual(moment: SecondMoment) -> Coordinates:
    """Do as `dual` says, without scaling."""
    xp, w = moment.xp, moment.weights
    u, norms = rounding.unit_roundoff(w), cell_norms(moment)
    rows, left_out, seen_by = moment.rows, 0.0, _cell_rows
    trace = backend.scalar(xp.sum(rows.squares()))
    if moment.scored and moment.projection is None:
        fewer, dropped = score_reduced(moment)
        if dropped <= moment.shape[0] * u * trace:  # the identity holds in these data
            rows, left_out, seen_by = fewer, dropped, _reduced_cell_rows
    rows = rows.explicit(_EXPLICIT)
    N, K, _ = rows.shape
    n = N * K
    # ||R||_F is about the norm of its diagonal: stop below the bound on forming XX'
    made = _pivoted_rows(rows, n * u * trace / 2, xp)
    radius, L = _residual(rows, made, trace, u, xp) + left_out, made.L
    if moment.projection is None:
        means = [
            xp.matrix_transpose(seen_by(moment, norms, c, xp)) @ part
            for c, i, j in class_slices(moment.offsets)
            for part in (xp.matrix_transpose(L[:, i * K : j * K]),)
        ]
        at_cells = backend.concatenate([x[None, ...] for x in means])
    else:
        # the projection acts on rows, whatever their coordinates: project L itself
        seen = moment.project(xp.reshape(xp.matrix_transpose(L), (N, K, -1)))
        at_cells = cells(moment, seen, norms)
        L = xp.matrix_transpose(xp.reshape(seen, (n, -1)))
        radius += rounding.second_moment_radius(6 * (n + K) + 32, trace, u)
    second = L @ xp.matrix_transpose(L)
    second = (second + xp.matrix_transpose(second)) / 2
    radius += rounding.second_moment_radius(n + 4, trace, u)
    # the scores left out are second order in X'X, first order in what a level sees
    level = radius + 2 * math.sqrt(left_out * trace)
    level += _uncertain(moment, moment.rows, trace)
    if moment.projection is not None:
        radius = level
        trace = backend.scalar(xp.sum(L * L))
    kind = "a priori, with the measured residual of the factorisation"
    return Coordinates(
        second,
        at_cells,
        moment,
        norms,
        trace,
        radius,
        level,
        kind,
        moment.shape,
        "dual",
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Pivoted:
    """XX' = L L' + R by pivoted rows: L' (r, n), the rows that are no pivots (others).

    And the squared Frobenius norm of R without these rows.
    """

    L: Array
    others: Array
    squares: float


def _pivoted_rows(rows: Rows, tolerance: float, xp: Namespace) -> _Pivoted:
    """Factorise XX' by blocks of pivots until the diagonal of R is below `tolerance`.

    Nothing here need be backward stable: the residual is measured. In the rows of a
    block's pivots it is known at once, since later rows of L' are set to 0 there.
    """
    N, K, P = rows.shape
    n = N * K
    left = xp.reshape(rows.squares(), (n,))
    rank, r, squares = min(n, P), 0, 0.0
    L = xp.empty((rank, n), dtype=left.dtype, device=backend.device(left))
    free = np.ones(n, dtype=bool)
    size = 4 * _BLOCK if backend.is_on_device(left) else _BLOCK
    while r < rank and backend.scalar(xp.sum(left * left)) > tolerance**2:
        pivots = xp.argsort(left, descending=True)[: min(size, n)]
        block = rows.gram(pivots)
        if r:
            block -= xp.matrix_transpose(xp.take(L[:r, :], pivots, axis=1)) @ L[:r, :]
        # pivots that the others of the block explain wait for a later block, or never
        floor = max(tolerance / n**0.5, backend.scalar(left[pivots[-1]]) / 8)
        chosen, lower = backend.pivoted_cholesky(xp.take(block, pivots, axis=1), floor)
        block = xp.take(block, chosen, axis=0)
        block *= xp.astype(backend.from_host(free, left), left.dtype)
        most = min(lower.shape[0], rank - r)  # XX' has no more eigenvalues
        new = (xp.linalg.inv(lower) @ block)[:most, :]
        m, left = _enough(left, new, tolerance, xp)
        if m == 0:
            break
        block, new, pivots = block[:m, :], new[:m, :], xp.take(pivots, chosen[:m])
        L[r : r + m, :] = new
        block -= xp.matrix_transpose(xp.take(new, pivots, axis=1)) @ new
        squares += 2 * backend.scalar(xp.linalg.vector_norm(block)) ** 2
        r += m
        free[backend.to_host(pivots)] = False
        left = xp.where(backend.from_host(free, left), left, xp.zeros_like(left))
    others = backend.from_host(np.flatnonzero(free), left)
    return _Pivoted(L[:r, :] if r else xp.zeros_like(L[:1, :]), others, squares)


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


def _residual(
    rows: Rows, made: _Pivoted, trace: float, u: float, xp: Namespace
) -> float:
    """Bound ||XX' - LL'||_F; of the rows that are no pivots, some at a time."""
    K, squares = rows.shape[1], made.squares
    host, rest = backend.to_host(made.others), xp.take(made.L, made.others, axis=1)
    for k in range(0, len(host), 2 * _BLOCK):
        first, end = int(host[k]) // K, min(k + 2 * _BLOCK, len(host))
        gap = rows.gram(made.others[k:end], first)
        gap = xp.take(gap, made.others[k:] - first * K, axis=1)
        gap -= xp.matrix_transpose(rest[:, k:end]) @ rest[:, k:]
        # the matrix is symmetric: what is right of the diagonal block counts twice
        own = gap[:, : end - k]
        squares += backend.scalar(2 * xp.sum(gap * gap) - xp.sum(own * own))
    terms = rows.roundings + made.L.shape[0] + 4
    rounding_error = 2 * rounding.second_moment_radius(terms, trace, u)
    rounding_error += forming_radius(rows, trace, u)
    forming = 1 + rounding.gamma(rows.shape[0] * K, u)
    return math.sqrt(squares) * forming + rounding_error


def _uncertain(moment: SecondMoment, rows: Rows, trace: float) -> float:
    """Bound what weights that underflow, as products s p, can move in a level.

    A level X'PX sees such rows F beside the others A through 2 A'PF + F'PF.
    """
    xp, w = moment.xp, moment.weights
    info = xp.finfo(w.dtype)
    least = float(info.smallest_normal) / float(info.eps)
    squares = xp.where(w < least, rows.squares(), xp.zeros_like(w))
    return 6 * math.sqrt(backend.scalar(xp.sum(squares)) * trace)


def _cell_rows(moment: SecondMoment, norms: Array, c: int, xp: Namespace) -> Array:
    """Return the class-c rows of Q, shape (n_c K, K)."""
    return xp.reshape(cell_rows(moment, norms, c), (-1, norms.shape[1]))


def _reduced_cell_rows(
    moment: SecondMoment, norms: Array, c: int, xp: Namespace
) -> Array:
    """Return the class-c rows of Q as reduced rows see them, shape (n_c (C - 1), C)."""
    i, j = moment.offsets[c : c + 2]
    u = unit_weights(moment)[i:j, :]
    full = cell_rows(moment, norms, c)
    return xp.reshape(reflected(full, u, c, xp), (-1, norms.shape[1]))
