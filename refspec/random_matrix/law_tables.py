"""A limiting spectral law as plain numbers: bands, and a table of F and the density.

Every law of refspec comes in this one form, whatever theory it was computed from, so
that quantiles, distances and plots are written once. Host arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.interpolate

from refspec.random_matrix import free_laws
from refspec.random_matrix.free_laws import FreeLaw

__all__ = [
    "FINE",
    "NODES",
    "Band",
    "LawTable",
    "Point",
    "adaptive",
    "interpolated",
    "of_free_law",
    "quantiles",
]

#: Points in each band of an exactly solvable law.
NODES = 1000
#: Points between two of a law that is costly to solve.
FINE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """An interval of the support.

    Parameters
    ----------
    lower, upper : float
        Edges of the limiting law.
    mass : float
        Share of all d eigenvalues.
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
    """A spectral law on a grid fine enough to interpolate linearly.

    Parameters
    ----------
    bands : tuple of Band
        Ascending.
    atom : float
        Mass at 0.
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
    """The law at one point, with the solver's state there.

    Parameters
    ----------
    x, cumulative, density : float
        As in `LawTable`.
    state, slope : array of complex, shape (k,)
        Solution of the fixed-point equations and its derivative in x.
    added : float
        As in `LawTable`.
    """

    x: float
    cumulative: float
    density: float
    state: np.ndarray
    slope: np.ndarray
    added: float = 0.0


def of_free_law(law: FreeLaw, signals: Sequence[float] = ()) -> LawTable:
    r"""Tabulate a sum of isotropic Wisharts.

    Parameters
    ----------
    law : FreeLaw
        The law.
    signals : sequence of float
        v_k of fixed means.

    Returns
    -------
    LawTable
        Exact at the points; linear interpolation moves a point by at most
        :math:`(\pi / NODES)^2 / 8` of a band's half width in the bulk.

    Notes
    -----
    Theory: theory/random_matrix.md#R3, #R4, #R5, #R8. Points are u = middle - half
    cos(theta) in each band, which takes both square-root edges away. A signal adds
    :math:`-(\arg(v - v_k) - \arg v) / \pi` eigenvalues below (#R8). Cost O(NODES J) a
    band.

    Examples
    --------
    >>> table = of_free_law(FreeLaw([1.0], [45], 20))
    >>> len(table.bands), round(float(table.cumulative[-1]), 12)
    (1, 1.0)
    """
    ends = free_laws.support(law)
    edges = free_laws.location(law, ends)
    scales = np.where(ends == 0, 0.0, free_laws.edge_scale(law, ends))
    theta = np.linspace(0, np.pi, NODES)
    x, F, density, added, bands = [], [], [], [], []
    for v, edge, s in zip(ends, edges, scales, strict=True):
        middle, half = (v[0] + v[1]) / 2, (v[1] - v[0]) / 2
        u = np.clip(middle - half * np.cos(theta), v[0], v[1])
        points = free_laws.curve(law, u)
        points[[0, -1]] = v  # edges, free of the rounding of y
        x.append(np.real(free_laws.location(law, points)))
        F.append(free_laws.cumulative(law, points))
        squared = np.where(points == 0, np.inf, np.abs(points) ** 2)
        density.append(points.imag / squared / np.pi)
        turned = np.angle(points[:, None] - signals) - np.angle(points)[:, None]
        added.append(-np.sum(turned, axis=1) / np.pi)
        mass = float(F[-1][-1] - F[-1][0])
        left, right = map(float, edge)
        bands.append(Band(left, right, mass, float(s[0]), float(s[1])))
    return LawTable(
        tuple(bands),
        law.atom,
        np.maximum.accumulate(np.concatenate(x)),
        np.clip(np.maximum.accumulate(np.concatenate(F)), 0, 1),
        np.concatenate(density),
        np.concatenate(added),
    )


def quantiles(table: LawTable, p: np.ndarray) -> np.ndarray:
    """Return where the distribution function reaches p.

    Parameters
    ----------
    table : LawTable
        The law.
    p : array, shape (n,)
        In (0, 1).

    Returns
    -------
    array, shape (n,)

    Notes
    -----
    Theory: theory/random_matrix.md#R5. The k-th smallest of d eigenvalues is expected
    near p = (k - 1/2) / d.

    Examples
    --------
    >>> table = of_free_law(FreeLaw([1.0], [10], 20))
    >>> quantiles(table, np.asarray([0.25])).tolist()  # half of the mass is at 0
    [0.0]
    """
    p = np.asarray(p, dtype=np.float64)
    return np.where(p < table.atom, 0.0, np.interp(p, table.cumulative, table.x))


def adaptive(
    evaluate: Callable[[float, np.ndarray], Point],
    points: Sequence[Point],
    resolution: float,
) -> list[Point]:
    """Add points until cubic interpolation of F is good to a resolution.

    Parameters
    ----------
    evaluate : callable
        From x and a guess of the state to a `Point`.
    points : sequence of Point
        Where to begin, ascending.
    resolution : float
        Largest error of F at the middle of an interval that is accepted; the middle is
        then added all the same.

    Returns
    -------
    list of Point
        Ascending.

    Notes
    -----
    Theory: theory/random_matrix.md#R10. Both F (from the density) and the state (from
    its slope) are interpolated by Hermite's cubic, the state as the guess of the next
    solution.

    Examples
    --------
    >>> def line(x, guess):
    ...     return Point(x, x, 1.0, guess, guess)
    >>> none = np.zeros(0)
    >>> len(adaptive(line, [line(0.0, none), line(1.0, none)], 0.1))
    3
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


def interpolated(
    points: Sequence[Point], bands: tuple[Band, ...], atom: float
) -> LawTable:
    """Make a table of points that are sparse: cubics between them and the edges.

    Parameters
    ----------
    points : sequence of Point
        Ascending, from left of the first band to right of the last.
    bands : tuple of Band
        Where the density vanishes, exactly.
    atom : float
        Mass at 0.

    Returns
    -------
    LawTable

    Notes
    -----
    Theory: theory/random_matrix.md#R10. Between an edge and the next point, F - F(edge)
    is a multiple of t^(3/2) (1 + c t), the two constants from F and the density at the
    point.

    Examples
    --------
    >>> none = np.zeros(0)
    >>> points = [Point(0.5, 2**-1.5, 1.5 * 2**-0.5, none, none)]
    >>> table = interpolated(points, (Band(0.0, 1.0, 1.0, 1.0, 1.0),), 0.0)
    >>> k = FINE // 2  # t^(3/2) at t = 1 / 4 of the way to the point
    >>> float(table.x[k]), round(float(table.cumulative[k]) * 8 * 2**1.5, 12)
    (0.125, 1.0)
    """
    xs: list[np.ndarray] = []
    Fs: list[np.ndarray] = []
    densities: list[np.ndarray] = []
    start = atom
    for band in bands:
        inner = [p for p in points if band.lower < p.x < band.upper]
        stop = start + band.mass
        first, last = inner[0], inner[-1]
        grid = [p.x for p in inner]
        x, F, density = _near_edge(band.lower, start, first, band.lower_scale == 0)
        parts = [(x, F, density)]
        if len(inner) > 1:
            spline = scipy.interpolate.CubicHermiteSpline(
                grid, [p.cumulative for p in inner], [p.density for p in inner]
            )
            fine = np.interp(
                np.arange((len(grid) - 1) * FINE + 1) / FINE, np.arange(len(grid)), grid
            )
            parts.append((fine, spline(fine), np.maximum(spline(fine, 1), 0)))
        x, F, density = _near_edge(band.upper, stop, last, False)
        parts.append((x[::-1], F[::-1], density[::-1]))
        for made, column in zip(
            (xs, Fs, densities), zip(*parts, strict=True), strict=True
        ):
            made.append(np.concatenate(column))
        start = stop
    x, F = np.concatenate(xs), np.concatenate(Fs)
    F = np.clip(np.maximum.accumulate(F), atom, 1)
    added = np.interp(x, [p.x for p in points], [p.added for p in points])
    return LawTable(bands, atom, x, F, np.concatenate(densities), added)


def _near_edge(
    edge: float, F: float, point: Point, hard: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, F and density from an edge to a point, as powers of the distance."""
    first = 0.5 if hard else 1.5
    t = np.linspace(0, 1, FINE + 1) ** 2
    width = point.x - edge
    # F - F(edge) = t^first (p + q t) with the value and the slope of the point
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
