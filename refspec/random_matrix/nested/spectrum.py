r"""Bands and distribution function of a nested design with any covariances.

The distribution function needs no integral: the fixed point is stationary for a
functional whose imaginary part on the real axis is F itself,

.. math:: F(x) = -\frac{1}{\pi d} \Im\Big[\log\det\Big(\sum_r b_r S_r - x\Big)
          + L(a) - \sum_r a_r b_r\Big]

so an error e of the solver costs e^2 in F. Outside of the support all of it is real,
except for the signs of the logarithms, and F is a whole number of eigenvalues
(Theory: theory/random_matrix.md#R11). Host arithmetic (LAPACK).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from refspec.random_matrix import definite, tables
from refspec.random_matrix.nested import edges, law
from refspec.random_matrix.nested.design import NestedDesign, certain_rank
from refspec.random_matrix.nested.law import FixedPoint
from refspec.random_matrix.nested.tree import resistance, sweep
from refspec.random_matrix.tables import LawTable, Point

#: Distance of the solutions from the real axis, relative to x.
HEIGHT = 2.0**-26
#: Relative imaginary part below which a solution may be outside of the support.
NEAR = 2.0**-6
#: Relative to the bound of the support, below it no edge is sought and F is the atom:
#: slopes of different effects may differ by its square, which is close to rounding.
_HARD = 2.0**-24
_DEPTH = 40  # of the parts in which a solution is continued


def tabulate(design: NestedDesign, *, resolution: float) -> LawTable:
    """Tabulate the law of the noise; F errs by `resolution` eigenvalues.

    A gap that holds less than that when filled may be missed, if no point falls in it.
    Theory: theory/random_matrix.md#R10, #R11, #R12
    """
    d = design.dimension
    points, atom = _points(design, resolution / d)
    outside = [_is_outside(p) for p in points]
    step = _loose(resolution / d)
    ends = tables.find_edges(
        points, outside, lambda out, x: _edge(design, out, x, step), d
    )
    return tables.interpolated(points, ends, atom)


def secular(design: NestedDesign, made: FixedPoint) -> np.ndarray:
    """Return S = diag(1 / W) + M Q M' (q, q), singular at the outliers of fixed means.

    The means add -arg det S / pi to the eigenvalues below. W: weights of the nodes.
    Theory: theory/random_matrix.md#R13
    """
    M, Q = design.means, made.resolvent
    MQ = M * Q if Q.ndim == 1 else M @ Q
    return np.asarray(resistance(design, made.a) + MQ @ M.T)


def real_solution(design: NestedDesign, x: float) -> FixedPoint | None:
    """Return the solution at a point outside of the support; None if it is inside."""
    guess = law.far_guess(design, complex(x, x * HEIGHT))
    point = _point(design, x, guess, law.STEP)
    if not _is_outside(point):
        return None
    return law.fixed_point(design, x, point.state.real)


def _points(design: NestedDesign, accuracy: float) -> tuple[list[Point], float]:
    """Solve where F needs it, guided by the law of the diagonals; return the atom."""
    step = _loose(accuracy)
    x = law.reach(design)
    guess = law.far_guess(design, complex(x, x * HEIGHT))
    found = [_point(design, x, guess, step)]
    atom = _atom(design, found[0], step)
    if not design.diagonal:
        guide, _ = _points(
            replace(design, covariances=_diagonals(design)), 64 * accuracy
        )
        # where the diagonals' law has points the full one needs them too, and its
        # solution differs by a factor that changes slowly from point to point
        ratio = np.ones(len(design.covariances))
        for at in reversed(guide):
            if at.x < found[-1].x:
                state = at.state * ratio
                state = state if np.all(state.imag > 0) else at.state
                found.append(_point(design, at.x, state, step))
                ratio = found[-1].state / at.state
    # down to where the atom is all that is left, and into the gap above it if there is
    # one: with a hard edge at 0 there is none
    least = x * _HARD
    while found[-1].cumulative - atom > accuracy or (
        not _is_outside(found[-1]) and found[-1].x > least
    ):
        x = found[-1].x / 2
        found.append(_point(design, x, found[-1].state, step))
    points = tables.refine(
        lambda x, guess: _point(design, x, guess, step), found[::-1], accuracy
    )
    return points, atom


def _loose(accuracy: float) -> float:
    """Return the last step of a solution that F needs to an accuracy: its square."""
    return float(np.sqrt(accuracy) / 8)


def _diagonals(design: NestedDesign) -> tuple[np.ndarray, ...]:
    """Return the diagonals of all covariances, in the rotated basis."""
    return tuple(s if s.ndim == 1 else np.diag(s) for s in design.covariances)


def _atom(design: NestedDesign, above: Point, step: float) -> float:
    """Return the mass at 0, a whole number of eigenvalues."""
    d, rank = design.dimension, certain_rank(design)
    if rank is not None:
        return 1 - rank / d
    # ranges of several covariances lie somehow, effects of few nodes fill them or not:
    # F itself counts, close to 0
    point, ratio = above, np.ones(len(design.covariances))
    while point.x > above.x * _HARD:
        # where an effect has fewer rows than its range a grows like 1 / x: on it goes
        # as it did in the last step
        guess = point.state * ratio
        guess = guess if np.all(guess.imag > 0) else point.state
        below = _point(design, point.x / 4, guess, step)
        point, ratio = below, below.state / point.state
    return round(point.cumulative * d) / d


def _point(design: NestedDesign, x: float, guess: np.ndarray, step: float) -> Point:
    """Solve at x (1 + i HEIGHT), where the solution with Im a > 0 is unique."""
    z = complex(x, x * HEIGHT)
    outside = _outside(design, x, guess)
    if outside is not None:
        return outside
    made = law.fixed_point(design, z, guess, step=step)
    if made is not None and _nearly_real(made.a):
        outside = _outside(design, x, made.a)
        if outside is not None:
            return outside
        made = law.fixed_point(design, z, made.a)
    if made is None:
        above = complex(x, x)
        high = _solved(design, above, law.far_guess(design, above), step)
        if high is None:
            raise RuntimeError(edges.failure(x))
        made = _descend(design, high, above, z.imag, step, _DEPTH)
    Q = made.resolvent
    flat = Q.ndim == 1
    pivots = made.pivots
    angles = np.sum(np.angle(pivots[0])) if flat else definite.argument(pivots)
    value = sweep(design, made.a)[1] - np.sum(made.a * made.b)
    scale = np.pi * design.dimension
    density = float(np.imag(np.sum(Q) if flat else np.trace(Q))) / scale
    added = 0.0
    if len(design.means):
        # Im S > 0: every eigenvalue's argument is in (0, pi), the branch is principal
        turns = np.angle(np.linalg.eigvals(secular(design, made)))
        added = -float(np.sum(turns)) / np.pi
    F = -(float(angles) + value.imag) / scale
    return Point(x, F, density, made.a, made.slope, added)


def _outside(design: NestedDesign, x: float, guess: np.ndarray) -> Point | None:
    """Solve at x itself from a guess that is nearly real, None if x is inside."""
    if not _nearly_real(guess):
        return None
    made = law.fixed_point(design, x, guess.real, steps=law.STEPS // 2)
    # where all slopes are positive the real solution continues to the one with Im a > 0
    # above it, which is unique; on another branch some slope is negative
    if made is None or not np.all(made.slope > 0):
        return None
    (B,) = made.pivots
    # all logarithms are real except for their signs: F is a whole number
    below = np.sum((B if B.ndim == 1 else np.linalg.eigvalsh(B)) < 0)
    state = made.a + 1j * x * HEIGHT * made.slope
    turns = sweep(design, state)[1].imag / np.pi
    F = round(float(below) - turns) / design.dimension
    added = 0.0
    if len(design.means):
        added = -float(np.sum(np.linalg.eigvalsh(secular(design, made)) < 0))
    return Point(x, F, 0.0, state, made.slope + 0j, added)


def _solved(
    design: NestedDesign, z: complex, guess: np.ndarray, step: float
) -> FixedPoint | None:
    """Solve to a step; exactly where a is nearly real, as a false branch may be.

    On it Im a < 0 at the exact solution, which Newton's method refuses to go to.
    """
    made = law.fixed_point(design, z, guess, step=step)
    if made is not None and _nearly_real(made.a):
        return law.fixed_point(design, z, made.a)
    return made


def _is_outside(point: Point) -> bool:
    """Tell whether a solution continues to the real axis: Im a = HEIGHT x da/dx."""
    return bool(np.all(point.state.imag <= 2 * HEIGHT * point.x * point.slope.real))


def _nearly_real(a: np.ndarray) -> bool:
    """Return whether a solution may be outside of the support."""
    return bool(np.all(a.imag <= NEAR * np.abs(a)))


def _descend(
    design: NestedDesign,
    made: FixedPoint,
    high: complex,
    low: float,
    step: float,
    depth: int,
) -> FixedPoint:
    """Continue a solution from z = high to Im z = low, in parts where it is lost."""
    x = high.real
    guess = made.a + 1j * (low - high.imag) * made.slope
    guess = guess if np.all(guess.imag > 0) else made.a
    found = _solved(design, complex(x, low), guess, step)
    if found is not None:
        return found
    if depth == 0:
        raise RuntimeError(edges.failure(x))
    middle = complex(x, max(high.imag / 8, float(np.sqrt(high.imag * low))))
    half = _descend(design, made, high, middle.imag, step, depth - 1)
    return _descend(design, half, middle, low, step, depth - 1)


def _edge(
    design: NestedDesign, out: Point, inside: Point, step: float
) -> tuple[float, float, float]:
    """Return an edge, its scale and what means add where outliers begin."""
    made = law.fixed_point(design, out.x, out.state.real)
    if made is None:
        raise RuntimeError(edges.failure(out.x))
    edge, scale, _ = edges.fold(design, out.x, made, inside.x)
    start = beyond(edge, scale, out.x)
    if len(design.means) and start != out.x:
        point = _point(design, start, out.state, step)
        out = point if _is_outside(point) else out
    return edge, scale, float(round(out.added))


def beyond(edge: float, scale: float, out: float) -> float:
    """Return where outliers begin, scale / 8 off an edge, and not beyond `out`."""
    away = min(scale / 8, abs(out - edge))
    return edge + away if out > edge else edge - away
