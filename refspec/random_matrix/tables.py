"""A limiting spectral law as plain numbers: bands, and a table of F and the density.

Every law of refspec comes in this one form, whatever theory it was computed from, so
that quantiles, distances and plots are written once. Laws that are costly to solve are
sampled where they need it, by `refine`, and interpolated. Host arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.interpolate

from refspec.random_matrix.outliers import Outliers, no_outliers

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
    inner : Outliers
        Eigenvalues of fixed means between two bands, or between 0 and the first, in
        descending order; `added` steps up by one at each.
    """

    bands: tuple[Band, ...]
    atom: float
    x: np.ndarray
    cumulative: np.ndarray
    density: np.ndarray
    added: np.ndarray
    inner: Outliers = field(default_factory=no_outliers)


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
    locate: Callable[[Point, Point], tuple[float, float, float]],
    d: int,
) -> list[Edge]:
    """Find the edges between points outside and inside of the support, ascending.

    `locate` takes an outer and an inner point to an edge, its scale and what means add.
    """
    edges = []
    if not outside[0]:  # a hard edge at 0, below which is the atom alone
        F = round(points[0].cumulative * d) / d
        edges.append(Edge(0.0, 0.0, F, float(round(points[0].added))))
    for k, (left, right) in enumerate(pairwise(points)):
        if outside[k] != outside[k + 1]:
            out, inside = (left, right) if outside[k] else (right, left)
            x, scale, added = locate(out, inside)
            edges.append(Edge(x, scale, round(out.cumulative * d) / d, added))
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
    columns: list[list[np.ndarray]] = [[], [], [], []]
    start = atom
    ends = zip(edges[::2], edges[1::2], strict=True)
    for band, (low, high) in zip(bands, ends, strict=True):
        inner = [p for p in points if band.lower < p.x < band.upper]
        stop = start + band.mass
        parts = [_near_edge(band.lower, start, inner[0], band.lower_scale == 0)]
        if len(inner) > 1:
            parts.append(splined(inner))
        right = _near_edge(band.upper, stop, inner[-1], False)
        parts.append((right[0][::-1], right[1][::-1], right[2][::-1]))
        for column, pieces in zip(columns, zip(*parts, strict=True), strict=False):
            column.append(np.concatenate(pieces))
        at = [low.x, *(p.x for p in inner), high.x]
        turned = [low.added, *(p.added for p in inner), high.added]
        added = np.interp(columns[0][-1], at, turned)
        columns[3].append(between(added, low.added, high.added))
        start = stop
    x, F, density, added = (np.concatenate(column) for column in columns)
    F = np.clip(np.maximum.accumulate(F), atom, 1)
    return LawTable(bands, atom, x, F, density, added)


def splined(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, F and density on a grid fine enough to interpolate linearly."""
    grid = [p.x for p in points]
    spline = scipy.interpolate.CubicHermiteSpline(
        grid, [p.cumulative for p in points], [p.density for p in points]
    )
    steps = np.arange((len(grid) - 1) * FINE + 1) / FINE
    x = np.interp(steps, np.arange(len(grid)), grid)
    return x, spline(x), np.maximum(spline(x, 1), 0)


def vanishes(
    point: Point, height: float, density: Callable[[complex, np.ndarray], float]
) -> bool:
    """Tell whether a density is 0 in the limit: then it doubles with the height.

    The point was solved at x (1 + i height); `density` solves at z, from a guess.
    """
    z = complex(point.x, 2 * point.x * height)
    double = density(z, point.state.real + 2j * point.state.imag)
    return double > 1.75 * point.density  # sqrt 2 at an edge, 1 inside


def between(added: np.ndarray, low: float, high: float) -> np.ndarray:
    """Keep what means add in a band between what they add at its ends.

    A mean that is too weak to stand out takes nothing away, but bends the count.
    """
    return np.asarray(np.clip(added, min(low, high), max(low, high)))


def stepped(table: LawTable, inner: Outliers) -> LawTable:
    """Put outliers between the bands into a table: steps of what means add.

    Theory: theory/random_matrix.md#R8
    """
    x, F, added = table.x, table.cumulative, table.added
    density = table.density
    ascending = np.sort(inner.values)
    lowest = float(added[0]) - float(np.sum(ascending < x[0]))
    for value in ascending:
        k = int(np.searchsorted(x, value))
        before = float(added[k - 1]) if k else lowest
        x = np.insert(x, k, [value, value])
        F = np.insert(F, k, [F[k - 1] if k else table.atom] * 2)
        density = np.insert(density, k, [0.0, 0.0])
        added = np.insert(added, k, [before, before + 1])
    return replace(table, x=x, cumulative=F, density=density, added=added, inner=inner)


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
