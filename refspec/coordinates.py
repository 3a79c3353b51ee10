"""Rows in the fewest coordinates: parameters if they are few, pivoted rows if not.

All that attribution needs is X'X and the cells Q'X in some orthonormal coordinates of
the parameter space. With few parameters those are the parameters. With many, a pivoted
Cholesky factorisation X X' = L L' + R, computed a few hundred columns at a time and
never formed, gives them: L is X in r coordinates, r the numerical rank. Every spectrum
and every knock-out then comes from L'L and Q'L.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from refspec import backend, rounding
from refspec.backend import Array
from refspec.curvature import (
    SecondMoment,
    classes_of,
    explicit,
    gram_rows,
    inner_length,
    score_reduced,
    unit_weights,
    without,
)
from refspec.structure import cell_norms, cells

__all__ = ["Coordinates", "coordinates"]

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
        Every eigenvalue of X'X, and of every level, lies within this of the one in
        coordinates (before the eigensolver adds its own error).
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
    Theory: S1, S2. Dual: the factorisation stops when what is left of the trace is
    below the rounding error of the Gram matrix; the whole residual is then measured,
    block by block. Cost O(N K r^2 + (N K)^2 r), memory O(N K r).

    Examples
    --------
    >>> import refspec
    >>> moment = refspec.curvature.fisher(refspec.datasets.digits_mlp())
    >>> coordinates(moment).side
    'dual'
    """
    if 2 * moment.shape[1] <= moment.shape[0]:
        return _primal(moment)
    return _dual(moment)


def _primal(moment: SecondMoment) -> Coordinates:
    """Use the parameters themselves."""
    xp, w = backend.namespace(moment.weights), moment.weights
    n, u, norms = moment.shape[0], rounding.unit_roundoff(w), cell_norms(moment)
    safe = xp.where(norms > 0, norms, xp.ones_like(norms))
    root = xp.sqrt(w) / xp.take(safe, _classes(moment), axis=0)
    K, parts = w.shape[1], []
    one = xp.eye(K, dtype=w.dtype, device=backend.device(w))
    for _, i, j in classes_of(moment):
        weights = root[i:j, :, None] * one[None, ...]
        mine = _sliced(moment, i, j)
        parts.append(xp.matrix_transpose(mine.cross(weights))[None, ...])
    second, trace = moment.matrix(), moment.trace()
    radius = 2 * rounding.second_moment_radius(n + K + 4, trace, u)
    kind = "a priori"
    means = backend.concatenate(parts)
    return Coordinates(
        second, means, norms, trace, radius, kind, moment.shape, "primal"
    )


def _classes(moment: SecondMoment) -> Array:
    """Return the class of every sample."""
    sizes = np.diff(np.asarray(moment.offsets))
    host = np.repeat(np.arange(len(sizes)), sizes)
    return backend.from_host(host, moment.weights)


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


def _dual(moment: SecondMoment) -> Coordinates:
    """Use the pivoted rows."""
    xp, w = backend.namespace(moment.weights), moment.weights
    u, norms, trace = rounding.unit_roundoff(w), cell_norms(moment), moment.trace()
    rows, left_out = moment, 0.0
    if moment.scored and _few(moment, trace, u):
        factors, left_out = score_reduced(moment)
        rows = replace(moment, factors=factors, weights=without(w, 0))
    rows = replace(rows, factors=explicit(rows.factors, _EXPLICIT))
    n = rows.shape[0]
    L = _pivoted_rows(rows, n * u * trace)
    residual = _residual(rows, L, trace, u)
    second = L @ xp.matrix_transpose(L)
    second = (second + xp.matrix_transpose(second)) / 2
    full = xp.reshape(xp.matrix_transpose(L), (*rows.weights.shape, L.shape[0]))
    if rows is not moment and rows.weights.shape != w.shape:
        full = _expanded(moment, full)
    means = cells(moment, full, norms)
    radius = residual + left_out + rounding.second_moment_radius(n + 4, trace, u)
    kind = "a priori, with the measured residual of the factorisation"
    return Coordinates(second, means, norms, trace, radius, kind, moment.shape, "dual")


def _few(moment: SecondMoment, trace: float, u: float) -> bool:
    """Tell whether the score identity holds: what it leaves out is below rounding."""
    return score_reduced(moment)[1] <= moment.shape[0] * u * trace


def _pivoted_rows(moment: SecondMoment, tolerance: float) -> Array:
    """Return L', shape (r, n), of a blocked pivoted Cholesky factorisation of XX'."""
    xp, n = backend.namespace(moment.weights), moment.shape[0]
    left = xp.reshape(moment.diagonal(), (n,))
    blocks: list[Array] = []
    while (
        backend.scalar(xp.sum(left)) > tolerance and sum(b.shape[0] for b in blocks) < n
    ):
        pivots = xp.argsort(left, descending=True)[: min(_BLOCK, n)]
        K = gram_rows(moment.factors, pivots)
        for block in blocks:
            K = K - xp.matrix_transpose(xp.take(block, pivots, axis=1)) @ block
        inner = xp.take(K, pivots, axis=1)
        # pivots that the others of the block explain wait for a later block, or never
        floor = max(tolerance / n, backend.scalar(left[pivots[-1]]) / 8)
        chosen, lower = backend.pivoted_cholesky(inner, floor)
        if lower.shape[0] == 0:
            break
        new = xp.linalg.solve(lower, xp.take(K, chosen, axis=0))
        left = left - xp.sum(new * new, axis=0)
        left = xp.where(left > 0, left, xp.zeros_like(left))
        done = backend.to_host(xp.take(pivots, chosen))
        mask = np.ones(n, dtype=bool)
        mask[done] = False
        left = xp.where(backend.from_host(mask, left), left, xp.zeros_like(left))
        blocks.append(new)
    if not blocks:
        return xp.zeros((1, n), dtype=left.dtype, device=backend.device(left))
    return backend.concatenate(blocks)


def _residual(moment: SecondMoment, L: Array, trace: float, u: float) -> float:
    """Bound ||XX' - LL'||_F, a block of rows at a time; truncation included."""
    xp, (r, n) = backend.namespace(L), L.shape
    device, squares = backend.device(L), 0.0
    for i in range(0, n, _BLOCK):
        j = min(i + _BLOCK, n)
        K = gram_rows(moment.factors, xp.arange(i, j, device=device))
        # the matrix is symmetric: what is right of the diagonal block counts twice
        gap = K[:, i:] - xp.matrix_transpose(L[:, i:j]) @ L[:, i:]
        own = gap[:, : j - i]
        squares += backend.scalar(2 * xp.sum(gap * gap) - xp.sum(own * own))
    terms = max(inner_length(f) for f in moment.factors) + len(moment.factors) + r
    rounding_error = 2 * rounding.second_moment_radius(terms + 4, trace, u)
    return squares**0.5 * (1 + rounding.gamma(n, u)) + rounding_error


def _expanded(moment: SecondMoment, rows: Array) -> Array:
    """Undo `score_reduced`: C - 1 rows a sample back to C, by the same reflection."""
    xp, unit, parts = backend.namespace(rows), unit_weights(moment), []
    for c, i, j in classes_of(moment):
        u, y = unit[i:j, :, None], rows[i:j, ...]
        others = without(u, c)
        along = xp.sum(others * y, axis=1, keepdims=True)
        y = y - others * (along / (1 + u[:, c : c + 1, :]))
        parts.append(xp.concat([y[:, :c, :], -along, y[:, c:, :]], axis=1))
    return backend.concatenate(parts)
