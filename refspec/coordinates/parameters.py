"""The parameters themselves as coordinates."""

from __future__ import annotations

from refspec import backend, costs, rounding
from refspec.coordinates.frame import (
    Coordinates,
    means_radius,
    most_samples,
    rescaled,
    scaled,
    uncertain,
)
from refspec.costs import Cost
from refspec.curvature import SecondMoment
from refspec.rows import forming_radius
from refspec.structure import cell_norms, cell_units, cells


def primal(moment: SecondMoment) -> Coordinates:
    """Use the parameters themselves as coordinates, r = P.

    Theory: theory/spectra.md#S1. Cost O(N P^2), memory O(P^2).
    """
    small, power = scaled(moment)
    return rescaled(_primal(small), moment, power)


def _primal(moment: SecondMoment) -> Coordinates:
    """Do as `primal` says, without scaling."""
    xp, w, K = moment.xp, moment.weights, moment.weights.shape[1]
    n, u, norms = moment.shape[0], rounding.unit_roundoff(w), cell_norms(moment)
    if moment.projection is None:
        means = moment.rows.sums(cell_units(moment, norms), moment.offsets)
    else:
        seen = [cells(moment, moment.project(x), norms) for x in moment.rows.columns()]
        means = backend.concatenate(seen, axis=2)
    costs.done(Cost(K * moment.rows.work.product / 2))
    trace = backend.scalar(xp.sum(moment.rows.squares()))
    radius = 2 * rounding.second_moment_radius(n + K + 4, trace, u)
    radius += forming_radius(moment.rows, trace, u)
    level = radius + uncertain(moment, moment.rows, trace)
    level += means_radius(moment, trace, most_samples(moment))
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
        moment.rows.known,
        moment.shape,
        "primal",
    )
