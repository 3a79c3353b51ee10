"""What coordinates are, and the scale at which they can be computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from refspec import backend, rounding
from refspec.backend import Array
from refspec.classes import class_slices
from refspec.curvature import SecondMoment
from refspec.rows import Rows


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
    solved : bool
        Whether `second` is diagonal, its entries descending, and `radius` includes what
        that leaves out.
    left_out : float
        Trace of what rows that were left out have outside the coordinates; `radius`
        includes it.
    rows_left_out : int
        How many rows.
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
    solved: bool = False
    left_out: float = 0.0
    rows_left_out: int = 0

    def __repr__(self) -> str:
        """Say the sizes, not the entries."""
        return (
            f"Coordinates({self.side}, r={self.second.shape[0]} of P={self.shape[1]}, "
            f"trace={self.trace:.6g}, radius={self.radius:.2g})"
        )


def scaled(moment: SecondMoment) -> tuple[SecondMoment, int]:
    """Scale rows by a power of two to a trace near 1: no square over- or underflows.

    Returned with the power that takes them back. A first scaling, to rows that can be
    squared at all, is by the largest factors; the second by the trace.
    """
    rows, power = moment.rows.balanced()
    small, more = scaled_by_trace(replace(moment, rows=rows))
    return small, power + more


def scaled_by_trace(moment: SecondMoment) -> tuple[SecondMoment, int]:
    """Scale rows that can be squared by a power of two to a trace near 1."""
    trace = moment.rows.trace()
    e = math.frexp(trace)[1] // 2 if trace > 0 else 0
    return replace(moment, rows=moment.rows.times(-e)) if e else moment, e


def rescaled(at: Coordinates, moment: SecondMoment, power: int) -> Coordinates:
    """Take coordinates of scaled rows back, and refuse what the format cannot hold."""
    xp, r = moment.xp, at.second.shape[0]
    info = xp.finfo(moment.weights.dtype)
    if not math.isfinite(at.level_radius):
        raise ValueError(
            f"a finite radius needs N K u < 1, got N K = {moment.shape[0]} rows of "
            f"{moment.weights.dtype}; convert the snapshot to float64"
        )
    up = way_back(moment, power, at.trace + at.level_radius)
    second = at.second
    for _ in range(2):  # in its place: it may be as large as what is left
        second *= up
    # entries below the smallest normal number are rounded absolutely, each by this
    tiny = float(info.smallest_normal) * float(info.eps) * r if at.trace > 0 else 0.0
    return replace(
        at,
        moment=moment,
        second=second,
        means=at.means * up,
        trace=at.trace * up * up,
        left_out=at.left_out * up * up,
        radius=at.radius * up * up + tiny,
        level_radius=at.level_radius * up * up + tiny,
    )


def way_back(moment: SecondMoment, power: int, trace: float) -> float:
    """Return 2^power for rows that were scaled, unless their X'X does not fit."""
    dtype = moment.weights.dtype
    exponent = math.frexp(max(trace, 1.0))[1] + 2 * power
    if exponent > math.frexp(float(moment.xp.finfo(dtype).max))[1] - 1:
        raise ValueError(
            f"X'X must fit {dtype}, got a trace of about 2^{exponent}; divide the "
            f"features or errors by 2^{power}"
        )
    return 2.0**power if abs(power) < 1000 else 0.0


def uncertain(moment: SecondMoment, rows: Rows, trace: float) -> float:
    """Bound what weights that underflow, as products s p, can move in a level.

    A level X'PX sees such rows F beside the others A through 2 A'PF + F'PF.
    """
    xp, w = moment.xp, moment.weights
    info = xp.finfo(w.dtype)
    least = float(info.smallest_normal) / float(info.eps)
    few, added = w < least, rows.group.added
    if backend.scalar(added(xp.sum(xp.astype(few, w.dtype)))) == 0:
        return 0.0
    squares = xp.where(few, rows.squares(), xp.zeros_like(w))
    return 6 * math.sqrt(backend.scalar(added(xp.sum(squares))) * trace)


def means_radius(moment: SecondMoment, trace: float, samples: int) -> float:
    """Bound what rounding of the means moves in a level, a sum over so many samples.

    Masses and means are such sums; a level is a projection of the means of a class.
    """
    u, size = rounding.unit_roundoff(moment.weights), moment.weights.shape[1]
    size = max(size, len(moment.offsets) - 1)
    return 2 * rounding.gamma(3 * samples + 2 * size + 18, u) * trace


def omitted(k: int, n: int, left: float, trace: float) -> str:
    """Say that k of n rows were left out, with how much of the trace."""
    part = left / trace if trace > 0 else 0.0
    return f"with {k} of {n} rows left out, {part:.2g} of the trace"


def most_samples(moment: SecondMoment) -> int:
    """Return the size of the largest class."""
    return max(j - i for _, i, j in class_slices(moment.offsets))
