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
from refspec.backend import Array
from refspec.curvature import (
    SecondMoment,
    classes_of,
    score_reduced,
    unit_weights,
    without,
)
from refspec.factors import Factor, explicit, gram_rows, inner_length
from refspec.structure import cell_norms, cell_rows, unit_rows

__all__ = ["Coordinates", "coordinates", "dual", "primal"]

_BLOCK = 256  # pivots at a time
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
    norms : Array, shape (C, K)
        Square roots of the cells' masses.
    trace : float
        Of X'X.
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
    norms: Array
    trace: float
    radius: float
    level_radius: float
    kind: str
    shape: tuple[int, int]
    side: str


def coordinates(moment: SecondMoment) -> Coordinates:
    """Put a second moment in its fewest coordinates.

    Parameters
    ----------
    moment : SecondMoment
        Without a projection.

    Returns
    -------
    Coordinates
        Primal if 2 P <= N K, else dual.

    Notes
    -----
    Theory: theory/spectra.md#S1, #S2. Dual: the factorisation stops when what is left
    of the diagonal is below the rounding error of the Gram matrix; the whole residual
    is measured, block by block. Cost O(N K r^2 + (N K)^2 r), memory O(N K r).

    Examples
    --------
    >>> import refspec
    >>> moment = refspec.curvature.fisher(refspec.datasets.digits_mlp())
    >>> coordinates(moment).side
    'dual'
    """
    if 2 * moment.shape[1] <= moment.shape[0]:
        return primal(moment)
    return dual(moment)


def primal(moment: SecondMoment) -> Coordinates:
    """Use the parameters themselves as coordinates, r = P.

    Notes
    -----
    Theory: theory/spectra.md#S1. Cost O(N P^2), memory O(P^2).
    """
    xp, w = backend.namespace(moment.weights), moment.weights
    n, u, norms = moment.shape[0], rounding.unit_roundoff(w), cell_norms(moment)
    K, parts = w.shape[1], []
    for c, i, j in classes_of(moment):
        weights = xp.reshape(cell_rows(moment, norms, c), (j - i, K, K))
        mine = _sliced(moment, i, j)
        parts.append(xp.matrix_transpose(mine.cross(weights))[None, ...])
    second, trace = moment.matrix(), moment.trace()
    radius = 2 * rounding.second_moment_radius(n + K + 4, trace, u)
    kind = "a priori"
    means = backend.concatenate(parts)
    return Coordinates(
        second, means, norms, trace, radius, radius, kind, moment.shape, "primal"
    )


def _sliced(moment: SecondMoment, i: int, j: int) -> SecondMoment:
    """Return the moment of samples i to j."""
    factors = tuple(
        replace(
            f,
            roots=f.roots[i:j, ...],
            features=None if f.features is None else f.features[i:j, ...],
        )
        for f in moment.factors
    )
    return replace(moment, factors=factors, weights=moment.weights[i:j, :])


def dual(moment: SecondMoment) -> Coordinates:
    """Use pivoted rows as coordinates, r the numerical rank.

    Notes
    -----
    Theory: theory/spectra.md#S1, #S2. Rows are scaled by a power of two to a trace near
    1, so that squares of eigenvalues neither over- nor underflow. Cost O((N K)^2 r),
    memory O(N K r).
    """
    trace = moment.trace()
    if not 0 < trace < math.inf:
        return _dual(moment)
    e = round(math.log2(trace) / 2)
    factors = tuple(_scaled(f, e) for f in moment.factors)
    at = _dual(replace(moment, factors=factors))
    up = 2.0**e
    return replace(
        at,
        second=at.second * up * up,
        means=at.means * up,
        trace=trace,
        radius=at.radius * up * up,
        level_radius=at.level_radius * up * up,
    )


def _scaled(f: Factor, e: int) -> Factor:
    """Divide rows by 2^e, and move the size of every sample's features to its roots.

    Roots that are huge where features are 0 or tiny would overflow when squared alone.
    """
    if f.features is None:
        return replace(f, roots=f.roots * 2.0**-e)
    xp = backend.namespace(f.features)
    largest = backend.to_host(xp.max(xp.abs(f.features), axis=(1, 2)))
    k, one = np.frexp(largest)[1], largest.dtype.type(1)
    up = np.where(largest > 0, np.ldexp(one, k - e), 0 * one)
    down = backend.from_host(np.ldexp(one, -k), f.features)
    roots = f.roots * backend.from_host(up, f.roots)[:, None, None, None]
    return replace(f, roots=roots, features=f.features * down[:, None, None])


def _dual(moment: SecondMoment) -> Coordinates:
    """Do as `dual` says, without scaling."""
    xp, w = backend.namespace(moment.weights), moment.weights
    u, norms, trace = rounding.unit_roundoff(w), cell_norms(moment), moment.trace()
    rows, left_out, weigh = moment, 0.0, cell_rows
    if moment.scored:
        factors, dropped = score_reduced(moment)
        if dropped <= moment.shape[0] * u * trace:  # the identity holds in these data
            rows = replace(moment, factors=factors, weights=without(w, 0))
            left_out, weigh = dropped, _reduced_cell_rows
    rows = replace(rows, factors=explicit(rows.factors, _EXPLICIT))
    n, K = rows.shape[0], rows.weights.shape[1]
    # ||R||_F is about the norm of its diagonal: stop below the bound on forming XX'
    made = _pivoted_rows(rows, n * u * trace / 2)
    radius, L = _residual(rows, made, trace, u) + left_out, made.L
    second = L @ xp.matrix_transpose(L)
    second = (second + xp.matrix_transpose(second)) / 2
    means = [
        xp.matrix_transpose(weigh(moment, norms, c)) @ xp.matrix_transpose(part)
        for c, i, j in classes_of(moment)
        for part in (L[:, i * K : j * K],)
    ]
    radius += rounding.second_moment_radius(n + 4, trace, u)
    # the scores left out are second order in X'X, first order in what a level sees
    level = radius + 2 * math.sqrt(left_out * trace)
    kind = "a priori, with the measured residual of the factorisation"
    cells = backend.concatenate([x[None, ...] for x in means])
    return Coordinates(
        second, cells, norms, trace, radius, level, kind, moment.shape, "dual"
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Pivoted:
    """XX' = L L' + R by pivoted rows: L' (r, n), other rows, ||R||_F^2 but for theirs.

    That is computed, not assumed: rounding in the factorisation is part of it.
    """

    L: Array
    others: Array
    squares: float


def _pivoted_rows(moment: SecondMoment, tolerance: float) -> _Pivoted:
    """Factorise XX' by blocks of pivots until the diagonal of R is below `tolerance`.

    Nothing here need be backward stable: the residual is measured. In the rows of a
    block's pivots it is known at once, since later rows of L' are set to 0 there.
    """
    xp, (n, P) = backend.namespace(moment.weights), moment.shape
    left = xp.reshape(moment.diagonal(), (n,))
    rank, r, squares = min(n, P), 0, 0.0
    L = xp.empty((rank, n), dtype=left.dtype, device=backend.device(left))
    free = np.ones(n, dtype=bool)
    while r < rank and backend.scalar(xp.sum(left * left)) > tolerance**2:
        pivots = xp.argsort(left, descending=True)[: min(_BLOCK, n)]
        K = gram_rows(moment.factors, pivots)
        if r:
            K -= xp.matrix_transpose(xp.take(L[:r, :], pivots, axis=1)) @ L[:r, :]
        # pivots that the others of the block explain wait for a later block, or never
        floor = max(tolerance / n**0.5, backend.scalar(left[pivots[-1]]) / 8)
        chosen, lower = backend.pivoted_cholesky(xp.take(K, pivots, axis=1), floor)
        K = xp.take(K, chosen, axis=0)
        K *= xp.astype(backend.from_host(free, left), left.dtype)
        most = min(lower.shape[0], rank - r)  # XX' has no more eigenvalues
        new = (xp.linalg.inv(lower) @ K)[:most, :]
        m, left = _enough(left, new, tolerance)
        if m == 0:
            break
        K, new, pivots = K[:m, :], new[:m, :], xp.take(pivots, chosen[:m])
        L[r : r + m, :] = new
        K -= xp.matrix_transpose(xp.take(new, pivots, axis=1)) @ new
        squares += 2 * backend.scalar(xp.linalg.vector_norm(K)) ** 2
        r += m
        free[backend.to_host(pivots)] = False
        left = xp.where(backend.from_host(free, left), left, xp.zeros_like(left))
    others = backend.from_host(np.flatnonzero(free), left)
    return _Pivoted(L[:r, :] if r else xp.zeros_like(L[:1, :]), others, squares)


def _without(left: Array, new: Array) -> Array:
    """Return the diagonal without new rows of L'."""
    xp = backend.namespace(left)
    return xp.clip(left - xp.sum(new * new, axis=0), min=0.0)


def _enough(left: Array, new: Array, tolerance: float) -> tuple[int, Array]:
    """Count the new rows that bring the diagonal below `tolerance`, or all of them.

    Returned with what these rows leave of the diagonal.
    """
    xp, m = backend.namespace(left), new.shape[0]

    def below(rest: Array) -> bool:
        return bool(backend.scalar(xp.linalg.vector_norm(rest)) <= tolerance)

    rest = _without(left, new)
    if below(rest):
        few = range(m)
        m = bisect.bisect_left(
            few, True, key=lambda k: below(_without(left, new[:k, :]))
        )
        rest = _without(left, new[:m, :])
    return int(m), rest


def _residual(moment: SecondMoment, made: _Pivoted, trace: float, u: float) -> float:
    """Bound ||XX' - LL'||_F; of the rows that are no pivots, some at a time."""
    xp, K, squares = backend.namespace(made.L), moment.weights.shape[1], made.squares
    host, rest = backend.to_host(made.others), xp.take(made.L, made.others, axis=1)
    for k in range(0, len(host), 2 * _BLOCK):
        first, end = int(host[k]) // K, min(k + 2 * _BLOCK, len(host))
        gap = gram_rows(moment.factors, made.others[k:end], first)
        gap = xp.take(gap, made.others[k:] - first * K, axis=1)
        gap -= xp.matrix_transpose(rest[:, k:end]) @ rest[:, k:]
        # the matrix is symmetric: what is right of the diagonal block counts twice
        own = gap[:, : end - k]
        squares += backend.scalar(2 * xp.sum(gap * gap) - xp.sum(own * own))
    terms = max(inner_length(f) for f in moment.factors) + len(moment.factors)
    terms += made.L.shape[0] + 4
    rounding_error = 2 * rounding.second_moment_radius(terms, trace, u)
    forming = 1 + rounding.gamma(moment.shape[0], u)
    return math.sqrt(squares) * forming + rounding_error


def _reduced_cell_rows(moment: SecondMoment, norms: Array, c: int) -> Array:
    """Return the class-c rows of Q seen by reduced rows, shape (n_c (C - 1), C).

    `score_reduced` applies the reflection; here are the images of the unit vectors:
    e_k - u_k (1 + u_c)^{-1} u_{-c} for k != c, and -u_{-c} for k = c.
    """
    xp, (i, j) = backend.namespace(norms), moment.offsets[c : c + 2]
    K = norms.shape[1]
    u = unit_weights(moment)[i:j, :]
    others = without(u, c)
    one = xp.eye(K, dtype=u.dtype, device=backend.device(u))
    one = xp.concat([one[:c, :], one[c + 1 :, :]])  # e_k for k != c, 0 for c
    slope = u / (1 + u[:, c : c + 1])
    own = one[None, ...] - others[:, :, None] * slope[:, None, :]
    is_c = xp.arange(K, device=backend.device(u)) == c
    images = xp.where(is_c[None, None, :], -others[:, :, None], own)
    scale = unit_rows(moment, norms, c)
    return xp.reshape(images * scale[:, None, :], (-1, K))
