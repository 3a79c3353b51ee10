"""A limiting spectral law as plain numbers: bands, and a table of F and the density.

Every law of refspec comes in this one form, whatever theory it was computed from, so
that quantiles, distances and plots are written once. Laws that are costly to solve are
sampled where they need it, by `refine`, and interpolated. Host arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.interpolate

#: Points between two of a law that is costly to solve.
FINE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """An interval of the support.

    Parameters
    ----------
    lower, upper : float, edges of the limiting law
    mass : float, share of all d eigenvalues
    lower_scale, upper_scale : float
        s: the extreme eigenvalue of the band is at the edge, plus or minus s times a
        variable of law TW1 (mean -1.2065, deviation 1.2680); 0 where not known.
    """

    lower: float
    upper: float
    mass: float
    lower_scale: float
    upper_scale: float


@dataclass(frozen=True, slots=True, eq=False)
class LawTable:
    """A limiting spectral law on a grid fine enough to interpolate linearly.

    Parameters
    ----------
    bands : tuple of Band, ascending
    atom : float, mass at 0
    x, cumulative, density : array, shape (n,)
        Ascending points, the distribution function and the density there.
    added : array, shape (n,)
        What fixed means, if any, add to the number of eigenvalues below: between 0 and
        minus their number.
    """

    bands: tuple[Band, ...]
    atom: float
    x: np.ndarray
    cumulative: np.ndarray
    density: np.ndarray
    added: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """The law at one point x: F, its density, the solver's state and slope there (k,).

    `added` is as in `LawTable`.
    """

    x: float
    cumulative: float
    density: float
    state: np.ndarray
    slope: np.ndarray
    added: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """An edge x, the scale of fluctuations there, F and what means add on its outside.

    The last two are whole numbers of eigenvalues.
    """

    x: float
    scale: float
    cumulative: float
    added: float


def quantiles(table: LawTable, p: np.ndarray) -> np.ndarray:
    """Return where the distribution function reaches p (n,), in (0, 1).

    The k-th smallest of d eigenvalues is expected near p = (k - 1/2) / d.
    Theory: theory/random_matrix.md#R5
    """
    p = np.asarray(p, dtype=np.float64)
    return np.where(p < table.atom, 0.0, np.interp(p, table.cumulative, table.x))


def refine(
    evaluate: Callable[[float, np.ndarray], Point],
    points: Sequence[Point],
    resolution: float,
) -> list[Point]:
    """Add points, ascending, until F's cubic errs by at most a resolution between two.

    `evaluate` takes x and a guess of the state there, which a cubic gives too.
    Theory: theory/random_matrix.md#R10
    """
    done = [points[0]]
    for last in points[1:]:
        pending = [last]
        while pending:
            left, right = done[-1], pending[-1]
            width = right.x - left.x
            middle = left.x + width / 2
            if not left.x < middle < right.x or left.cumulative == right.cumulative:
                done.append(pending.pop())
                continue
            guess = _hermite(left.state, right.state, left.slope, right.slope, width)
            expected = _hermite(
                left.cumulative, right.cumulative, left.density, right.density, width
            )
            point = evaluate(middle, guess)
            if abs(point.cumulative - expected) > resolution:
                pending.append(point)
            else:
                done += [point, pending.pop()]
    return done


def find_edges(
    points: Sequence[Point],
    outside: Sequence[bool],
    locate: Callable[[Point, Point], tuple[float, float]],
    d: int,
) -> list[Edge]:
    """Find the edges between points outside and inside of the support, ascending.

    `locate` takes an outer and an inner point to an edge and its scale.
    """
    edges = []
    if not outside[0]:  # a hard edge at 0, below which is the atom alone
        F = round(points[0].cumulative * d) / d
        edges.append(Edge(0.0, 0.0, F, float(round(points[0].added))))
    for k, (left, right) in enumerate(pairwise(points)):
        if outside[k] != outside[k + 1]:
            out, inside = (left, right) if outside[k] else (right, left)
            F, added = round(out.cumulative * d) / d, float(round(out.added))
            edges.append(Edge(*locate(out, inside), F, added))
    return edges


def interpolated(
    points: Sequence[Point], edges: Sequence[Edge], atom: float
) -> LawTable:
    """Make a table of sparse points, ascending, by cubics between them and the edges.

    Theory: theory/random_matrix.md#R10
    """
    bands = tuple(
        Band(low.x, high.x, high.cumulative - low.cumulative, low.scale, high.scale)
        for low, high in zip(edges[::2], edges[1::2], strict=True)
    )
    columns: list[list[np.ndarray]] = [[], [], []]
    start = atom
    for band in bands:
        inner = [p for p in points if band.lower < p.x < band.upper]
        stop = start + band.mass
        parts = [_near_edge(band.lower, start, inner[0], band.lower_scale == 0)]
        if len(inner) > 1:
            grid = [p.x for p in inner]
            spline = scipy.interpolate.CubicHermiteSpline(
                grid, [p.cumulative for p in inner], [p.density for p in inner]
            )
            steps = np.arange((len(grid) - 1) * FINE + 1) / FINE
            fine = np.interp(steps, np.arange(len(grid)), grid)
            parts.append((fine, spline(fine), np.maximum(spline(fine, 1), 0)))
        right = _near_edge(band.upper, stop, inner[-1], False)
        parts.append((right[0][::-1], right[1][::-1], right[2][::-1]))
        for column, pieces in zip(columns, zip(*parts, strict=True), strict=True):
            column.append(np.concatenate(pieces))
        start = stop
    x, F, density = (np.concatenate(column) for column in columns)
    F = np.clip(np.maximum.accumulate(F), atom, 1)
    known = sorted([(p.x, p.added) for p in points] + [(e.x, e.added) for e in edges])
    added = np.interp(x, *np.asarray(known).T)
    return LawTable(bands, atom, x, F, density, added)


def _near_edge(
    edge: float, F: float, point: Point, hard: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, F and density from an edge to a point, as powers of the distance."""
    # F - F(edge) = t^(3/2) (p + q t) at a soft edge, t^(1/2) (p + q t) at a hard one,
    # with the value and the slope of the point
    first = 0.5 if hard else 1.5
    t = np.linspace(0, 1, FINE + 1) ** 2
    width = point.x - edge
    value, slope = point.cumulative - F, point.density * width
    q = slope - first * value
    p = value - q
    with np.errstate(divide="ignore"):
        rate = first * p * t ** (first - 1) + (first + 1) * q * t**first
    x = edge + width * t
    return x, F + t**first * (p + q * t), np.maximum(rate / width, 0)


def _hermite(a: Any, b: Any, da: Any, db: Any, width: float) -> Any:
    """Value at the middle of the cubic with given ends and slopes."""
    return (a + b) / 2 + width * (da - db) / 8
