r"""Distribution function and outliers of a layer whose errors depend on its features.

F is tabulated where it is needed, each point solved in the frame that it needs
(Theory: theory/conditional.md#Y2). An outlier is a band of one eigenvalue; the band of
a semicircle of deviation s has the density :math:`1/(\pi s P)` in its middle, and the
eigenvalue of a real matrix the deviation :math:`\sqrt 2\, s`
(Theory: theory/conditional.md#Y3). Host arithmetic.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np

from refspec.random_matrix import tables
from refspec.random_matrix.conditional import law
from refspec.random_matrix.conditional.counting import (
    HEIGHT,
    TABLE,
    Pair,
    Solution,
    allowed,
    solved,
)
from refspec.random_matrix.conditional.design import ConditionalDesign, Constant
from refspec.random_matrix.conditional.frames import Frames, frames_of
from refspec.random_matrix.conditional.resolvent import Beyond, Equivalent
from refspec.random_matrix.outliers import Outliers, row_space
from refspec.random_matrix.tables import Band, LawTable, Point

#: Density in x, in eigenvalues, below which a point may be in a gap: at both heights.
_FAINT, _PALE = 2.0**-4, 4.0
#: Width, relative to x, to which an eigenvalue that stands apart is known.
_NARROW = 2.0**-6
#: Width, relative to x, of intervals that hold no detail at the height of the table.
_SHARP = TABLE / 16
#: What a wider frame may move, of what the count may err by.
_CUT = 2.0**-4
#: Error of the rank at which an outlier is read off: the density of a semicircle is
#: there 2 % less than in its middle.
_OFF = 2.0**-3
#: How far an edge of the bulk may be from the gap that it ends, relative to x.
EDGE = 2.0**-8
_LOWEST = 2.0**-44  # of the bound of the support: F there is its atom


def tabulate(
    design: ConditionalDesign, *, resolution: float
) -> tuple[LawTable, Outliers]:
    """Tabulate the law, means and all: F errs by `resolution` values or 1 % of rank.

    Outliers are the eigenvalues above the band of the largest mass.
    Theory: theory/conditional.md#Y2, #Y3
    """
    P, frames = design.dimension, frames_of(design)
    points = _refined(frames, _descended(frames, resolution), resolution)
    ranks = {_rank(P, points[0])}
    # a gap below the hundredth eigenvalue or so is finer than F is told
    fine = [p for p in points if _allowed(P, p, resolution) < 1]
    known: dict[float, bool] = {}

    def gap(p: Point) -> bool:
        if p.x not in known:  # the law is solved twice more
            known[p.x] = _gap(frames, p)
        return known[p.x]

    def gaps(rank: int) -> list[Point]:
        return [p for p in points if _rank(P, p) == rank and gap(p)]

    for p in sorted(fine, key=lambda p: p.density * p.x):  # one tells most of them
        if _rank(P, p) not in ranks and gap(p):
            ranks.add(_rank(P, p))
    # what lies above the band of the largest mass stands out of it
    above = max(pairwise(sorted(ranks | {0})), key=lambda pair: pair[1] - pair[0])[0]
    t, F, f = tables.splined(_monotone([_on_log_axis(p) for p in points]))
    x, F = np.exp(t), np.clip(np.maximum.accumulate(F), 0, 1)
    table = LawTable((), float(F[0]), x, F, f / x, np.zeros_like(x))
    outliers = _outliers(frames, points, table, above)
    low, high = (
        _edge(frames, points, gaps(rank), upper)
        for rank, upper in ((_rank(P, points[0]), False), (above, True))
    )
    narrow = outliers.deviations * np.sqrt(2)  # half the width of a band
    bands = [Band(low, high, 1 - above / P - table.atom, 0.0, 0.0)]
    for value, width in zip(outliers.values[::-1], narrow[::-1], strict=True):
        lower, upper, mass = float(value - width), float(value + width), 1 / P
        while len(bands) > 1 and lower <= bands[-1].upper:  # outliers that mix
            last = bands.pop()
            lower, upper = min(lower, last.lower), max(upper, last.upper)
            mass += last.mass
        bands.append(Band(max(lower, high), upper, mass, 0.0, 0.0))
    return replace(table, bands=tuple(bands)), outliers


def _descended(frames: Frames, resolution: float) -> list[Point]:
    """Solve at falling points, each in the first frame that the next agrees with."""
    design = frames.layer
    x, P = law.reach(design), design.dimension
    least = x * _LOWEST
    points = [_point(frames.at(x), x, None, resolution)]
    with suppress(law.UnresolvedError):
        while x > least and _rank(P, points[-1]) < design.reached:
            x /= 4
            state = _onwards(*(p.state for p in points[-2:]))
            new = _point(frames.at(0), x, state, resolution)
            while (wider := frames.wider) is not None:
                next_ = _point(wider, x, new.state, resolution)
                off = P * abs(next_.cumulative - new.cumulative)
                if off <= _CUT * _allowed(P, next_, resolution):
                    break
                frames.limits.append(points[-1].x)
                new = next_
            points.append(new)
    return points


def _onwards(one: np.ndarray, two: np.ndarray | None = None) -> np.ndarray:
    """Return where unknowns go that went from one point to the next, by sizes."""
    if two is None:
        return one
    return np.asarray(two * law.sizes(two[0]) / law.sizes(one[0]))


def _refined(frames: Frames, points: list[Point], resolution: float) -> list[Point]:
    """Halve intervals, on a log axis, until F is known between their ends.

    It is known where it rises by less than is allowed.
    """
    P = frames.layer.dimension
    pale = (_PALE + _far(frames.layer, TABLE)) / P
    done, pending = [points[-1]], points[:-1]
    while pending:
        left, right = done[-1], pending[-1]
        allowed = _allowed(P, right, resolution)
        # between two single eigenvalues there has to be a point in the gap
        least = _FAINT if allowed < 1 else allowed
        x = float(np.sqrt(left.x * right.x))
        inside = P * (right.cumulative - left.cumulative)
        # what is narrower than the height is told as one, and a jump in it is rounding
        if inside <= least or right.x <= left.x * (1 + _SHARP):
            done.append(pending.pop())
            continue
        try:
            between = (left.state + right.state) / 2
            middle = _point(frames.at(x), x, between, resolution)
        except law.UnresolvedError:  # F rises from one end to the other somehow
            done.append(pending.pop())
            continue
        # a cubic through the ends agrees in the middle with whole bands between by
        # chance: where single eigenvalues are, intervals have to be narrow, too
        apart = min(p.density * p.x for p in (left, middle, right)) <= pale
        pending.append(middle)
        if apart and right.x > left.x * (1 + _NARROW):
            continue
        if P * _off(left, middle, right) <= allowed:
            done += [pending.pop(), pending.pop()]
    return done


def _off(left: Point, middle: Point, right: Point) -> float:
    """Return how far F is from the cubic through the ends, on a log axis.

    Of the value and of what the slope adds between the middle and an end.
    """
    a, b, c = (_on_log_axis(p) for p in (left, middle, right))
    width, rise = c.x - a.x, c.cumulative - a.cumulative
    value = (a.cumulative + c.cumulative) / 2 + width * (a.density - c.density) / 8
    slope = 1.5 * rise / width - (a.density + c.density) / 4
    return max(abs(b.cumulative - value), abs(b.density - slope) * width / 8)


def _on_log_axis(point: Point) -> Point:
    """Return a point of the law of log x."""
    return replace(point, x=float(np.log(point.x)), density=point.density * point.x)


def _monotone(points: list[Point]) -> list[Point]:
    """Bound densities so that cubics between the points rise.

    Three times the slope of a chord is enough (Fritsch and Carlson 1980).
    """
    # a single eigenvalue is a step: its slope would carry F far beyond the next point
    F = np.asarray([p.cumulative for p in points])
    chords = np.maximum(np.diff(F) / np.diff([p.x for p in points]), 0)
    most = 3 * np.minimum(np.r_[np.inf, chords], np.r_[chords, np.inf])
    return [
        replace(p, density=min(p.density, float(m)))
        for p, m in zip(points, most, strict=True)
    ]


def _point(pair: Pair, x: float, state: np.ndarray | None, resolution: float) -> Point:
    """Read F and the density off a solution."""
    made = solved(pair, complex(x, x * TABLE), state, resolution=resolution)
    P = pair[0].dimension  # no slope is known: guesses are linear in x
    F, state = 1 - made.continued / P, made.state
    return Point(x, F, made.density / P, state, 0 * state)


def _allowed(P: int, point: Point, resolution: float) -> float:
    """Return how many of P eigenvalues F may err by: 1 % of the rank or so."""
    return allowed((1 - point.cumulative) * P, resolution)


def _rank(P: int, point: Point) -> int:
    """Return the number of P eigenvalues above a point, rounded."""
    return round(P * (1 - point.cumulative))


def _gap(frames: Frames, point: Point) -> bool:
    """Tell whether a point is outside of the support: Im m grows as the height."""
    P, design, pair = frames.layer.dimension, frames.layer, frames.at(point.x)
    above, scale = P * (1 - point.cumulative), P * point.x
    pale, faint = _PALE + _far(design, TABLE), _FAINT + _far(design, HEIGHT)
    if point.density * scale > pale or abs(above - round(above)) > _FAINT:
        return False
    # outside of the support what is imaginary is proportional to the height
    guess = point.state.real + 1j * point.state.imag * (HEIGHT / TABLE)

    def density(z: complex, guess: np.ndarray) -> float:
        return solved(pair, z, guess, resolution=_FAINT).density / P

    try:
        made = solved(pair, _over(point.x), guess, resolution=_FAINT)
        near = made.density / P
        if near * scale > faint:
            return False
        point = replace(point, density=near, state=made.state)
        return tables.vanishes(point, HEIGHT, density)
    except law.UnresolvedError:  # nor can it be told
        return False


def _over(x: float) -> complex:
    """Return the point just above x > 0, where the solution is unique."""
    return complex(x, x * HEIGHT)


def _far(design: ConditionalDesign, height: float) -> float:
    """Return what eigenvalues far below a point add to its density in x."""
    return design.reached * height / np.pi


def _edge(frames: Frames, points: list[Point], gap: list[Point], upper: bool) -> float:
    """Halve the way from a gap to the next point of the support, on a log axis."""
    if not gap:  # a hard edge
        return 0.0
    outside = min(p.x for p in gap) if upper else max(p.x for p in gap)
    inside = [p for p in points if (p.x < outside if upper else p.x > outside)]
    near = min(inside, key=lambda p: abs(p.x - outside))
    while abs(np.log(outside / near.x)) > EDGE:
        x = float(np.sqrt(near.x * outside))
        middle = _point(frames.at(x), x, near.state, _FAINT)
        if _gap(frames, middle):
            outside = middle.x
        else:
            near = middle
    return outside


def _outliers(
    frames: Frames, points: list[Point], table: LawTable, count: int
) -> Outliers:
    """Read the largest eigenvalues off the law: quantiles, deviations, overlaps.

    Theory: theory/conditional.md#Y3
    """
    quantiles = 1 - (np.arange(count) + 0.5) / frames.layer.dimension
    values = tables.quantiles(table, quantiles)
    found = []
    for k in range(count):
        values[k], made = _located(frames, points, k + 0.5, float(values[k]))
        deviation = np.sqrt(2) / (np.pi * made.density)
        seen = _along_means(made.design, made.step)
        found.append((deviation, seen / made.step.trace.imag))
    deviations, overlaps = np.reshape(found, (count, 2)).T
    return Outliers(values, deviations, overlaps)


def _along_means(design: ConditionalDesign, made: Equivalent) -> float:
    """Return Im tr Q over errors (x) class means, of each layer."""
    a, h = design.parameters.shape
    h -= design.outside.shape[1]
    means = np.reshape(design.slopes[:, :, 0], (-1, h))  # a position each
    if made.beyond is not None and design.constant is not None:
        return _along_all(design.constant, made, made.beyond)
    Q = np.reshape(made.resolvents[0].imag, (a, h, a, h))
    errors, features = design.layers[0], design.layers[1][:h]
    total = 0.0
    for k in np.unique(features):
        e, f = np.flatnonzero(errors == k), np.flatnonzero(features == k)
        span = row_space(means[:, f]).T
        own = np.trace(Q[np.ix_(e, f, e, f)], axis1=0, axis2=2)
        total += float(np.sum(span * (own @ span)))
    return total


def _along_all(constant: Constant, made: Equivalent, gone: Beyond) -> float:
    """Return Im tr Q over errors (x) class means, where directions were eliminated."""
    here, there = constant.means
    a = len(there) // len(here)
    both = np.kron(np.eye(a), here) - (there * gone.inverses) @ constant.beside.T
    total = np.sum((both @ made.resolvents[0]) * both)
    return float(np.imag(total + np.sum(there**2 * gone.inverses)))


def _located(
    frames: Frames, points: list[Point], rank: float, x: float
) -> tuple[float, Solution]:
    """Find where so many eigenvalues are above, from a first guess x, by Newton."""
    P = frames.layer.dimension
    low = max((p for p in points if P * (1 - p.cumulative) > rank), key=lambda p: p.x)
    high = min((p for p in points if p.x > low.x), key=lambda p: p.x)
    near = min((low, high), key=lambda p: abs(P * (1 - p.cumulative) - rank))
    left, right, guess = low.x, high.x, near.state
    while True:
        made = solved(frames.at(x), _over(x), guess, resolution=_FAINT)
        off, slope = made.above - rank, made.density
        if abs(off) <= _OFF or right <= left * (1 + HEIGHT):
            return x + off / slope, made
        left, right = (x, right) if off > 0 else (left, x)
        x, guess = x + off / slope, made.state
        if not left < x < right:  # the count is flat in a gap
            x = float(np.sqrt(left * right))
