"""Pivoted rows as coordinates: the moment and its cells in the rows of L."""

from __future__ import annotations

import math

from refspec import backend, costs, rounding, ways
from refspec.backend import Array, Namespace
from refspec.classes import class_slices
from refspec.coordinates.factorisation import left_out, pivoted_rows, residual
from refspec.coordinates.frame import (
    Coordinates,
    means_radius,
    most_samples,
    omitted,
    rescaled,
    scaled,
    uncertain,
)
from refspec.costs import Cost
from refspec.curvature import (
    SecondMoment,
    score_reduced,
    unit_weights,
    vanishing_scores,
)
from refspec.rows import reflected
from refspec.structure import cell_norms, cell_rows, cells


def dual(moment: SecondMoment, leave_out: float = 0.0) -> Coordinates:
    """Use pivoted rows as coordinates, r the numerical rank, or all but a trace.

    Theory: theory/spectra.md#S1, #S2, #S5. Cost O((N K)^2 r), memory O(N K r).
    """
    small, power = scaled(moment)
    return rescaled(_dual(small, leave_out), moment, power)


def _dual(moment: SecondMoment, leave_out: float) -> Coordinates:
    """Do as `dual` says, without scaling."""
    xp, w = moment.xp, moment.weights
    u, norms = rounding.unit_roundoff(w), cell_norms(moment)
    rows, seen_by = moment.rows, _cell_rows
    trace = backend.scalar(xp.sum(rows.squares()))
    scores = vanishing_scores(moment, trace)
    if scores is not None:
        rows, seen_by = score_reduced(moment), _reduced_cell_rows
    scores = scores or 0.0
    rows = rows.explicit(ways.explicit_budget())
    N, K, _ = rows.shape
    n = N * K
    # ||R||_F is about the norm of its diagonal: stop below the bound on forming XX'
    made = pivoted_rows(rows, n * u * trace / 2, xp, left_out=leave_out * trace)
    measured = left_out if leave_out else residual
    radius, L = measured(rows, made, trace, u, xp) + scores, made.L
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
    second = backend.square(L)
    costs.done(Cost(n * L.shape[0] * (L.shape[0] / 2 + K)))
    radius += rounding.second_moment_radius(n + 4, trace, u)
    # the scores left out are second order in X'X, first order in what a level sees
    level = radius + 2 * math.sqrt(scores * trace)
    level += uncertain(moment, moment.rows, trace)
    level += means_radius(moment, trace, most_samples(moment))
    if moment.projection is not None:
        radius = level
        trace = backend.scalar(xp.sum(L * L))
    kind = "with the measured residual of the factorisation"
    if leave_out:
        kind = omitted(made.others.shape[0], n, made.left, trace)
    return Coordinates(
        second,
        at_cells,
        moment,
        norms,
        trace,
        radius,
        level,
        f"{rows.known}, {kind}",
        moment.shape,
        "dual",
        left_out=made.left if leave_out else 0.0,
        rows_left_out=made.others.shape[0] if leave_out else 0,
    )


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
