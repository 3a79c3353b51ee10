r"""Bands and distribution function of a nested design with any covariances.

The distribution function needs no integral: the fixed point of
`refspec.random_matrix.nested_laws` is stationary for a functional whose imaginary part
on the real axis is F itself,

.. math:: F(x) = -\frac{1}{\pi d} \Im\Big[\log\det\Big(\sum_r b_r S_r - x\Big)
          + L(a) - \sum_r a_r b_r\Big]

so an error e of the solver costs e^2 in F. Outside of the support all of it is real,
but for the signs of the logarithms, and F is a whole number of eigenvalues. Host
arithmetic (LAPACK).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from refspec.random_matrix import (
    definite,
    law_tables,
    nested_designs,
    nested_edges,
    nested_laws,
)
from refspec.random_matrix.law_tables import Band, LawTable, Point
from refspec.random_matrix.nested_designs import NestedDesign
from refspec.random_matrix.nested_laws import Solution

__all__ = ["HEIGHT", "NEAR", "secular", "tabulate"]

#: Distance of the solutions from the real axis, relative to x.
HEIGHT = 2.0**-26
#: Relative imaginary part below which a solution may be outside of the support.
NEAR = 2.0**-6


def tabulate(design: NestedDesign, *, resolution: float) -> LawTable:
    """Tabulate the limiting law of a nested design.

    Parameters
    ----------
    design : NestedDesign
        The design.
    resolution : float
        Error of F, in eigenvalues (units of 1 / d).

    Returns
    -------
    LawTable
        Of the noise. Two bands are told apart if a point of the table falls between
        them: a gap that holds less than `resolution` eigenvalues when filled may be
        missed.

    Raises
    ------
    RuntimeError
        If the solver fails, which the theory excludes.

    Notes
    -----
    Theory: theory/random_matrix.md#R10, #R11, #R12. The points go down from a bound of
    the support by halves, or where a law of diagonal covariances has them, and are
    refined where F is not a cubic.

    Examples
    --------
    >>> from refspec.populations import Population
    >>> population = Population((40, 40), 30, np.ones((80, 1)), np.linspace(1, 2, 30))
    >>> design = nested_designs.nested_design(population)
    >>> table = tabulate(design, resolution=0.1)
    >>> len(table.bands), round(table.bands[0].mass, 6)
    (1, 1.0)
    """
    d = design.dimension
    points = _points(design, resolution / d)
    bands = tuple(_bands(design, points))
    atom = max(0.0, 1 - nested_designs.rows(design) / d)
    return law_tables.interpolated(points, bands, atom)


def _points(design: NestedDesign, accuracy: float) -> list[Point]:
    """Solve where F needs it, guided by the cheap law of the diagonals."""
    step = float(np.sqrt(accuracy) / 8)
    x = nested_laws.reach(design)
    found = [_point(design, x, _far(design, complex(x, x * HEIGHT)), step)]
    if not design.diagonal:
        guide = _points(replace(design, covariances=_diagonals(design)), 64 * accuracy)
        ratio = np.ones(len(design.covariances))
        for at in reversed(guide):
            if at.x < found[-1].x:
                state = at.state * ratio
                state = state if np.all(state.imag > 0) else at.state
                found.append(_point(design, at.x, state, step))
                ratio = found[-1].state / at.state
    atom = max(0.0, 1 - nested_designs.rows(design) / design.dimension)
    while found[-1].cumulative - atom > accuracy:
        x = found[-1].x / 2
        found.append(_point(design, x, found[-1].state, step))
    return law_tables.adaptive(
        lambda x, guess: _point(design, x, guess, step), found[::-1], accuracy
    )


def _diagonals(design: NestedDesign) -> tuple[np.ndarray, ...]:
    """Return the diagonals of all covariances, in the rotated basis."""
    return tuple(s if s.ndim == 1 else np.diag(s) for s in design.covariances)


def secular(design: NestedDesign, made: Solution) -> np.ndarray:
    r"""Return the q x q matrix whose zeros are the outliers of the fixed means.

    Parameters
    ----------
    design : NestedDesign
        With means M of the projected nodes.
    made : Solution
        The fixed point at some z.

    Returns
    -------
    array, shape (q, q)
        :math:`S = diag(1 / W) + M Q M'`, W the effective weights of the nodes.

    Notes
    -----
    Theory: theory/random_matrix.md#R13. The means change the number of eigenvalues
    below x by :math:`-\arg\det S / \pi`; Im S is positive definite above the real axis.

    Examples
    --------
    >>> from refspec.populations import Population
    >>> population = Population((8,), 1, np.ones((8, 1)), 1.0, np.ones(1))
    >>> design = nested_designs.nested_design(population)
    >>> made = nested_laws.solve(design, 50.0, np.asarray([-0.02]))
    >>> v = -1 / made.resolvent  # 1 / 8 + a / 8 - 1 / v with a = -1 / v
    >>> bool(abs(secular(design, made)[0, 0] - (1 - 9 / v[0]) / 8) < 1e-15)
    True
    """
    weights = nested_laws.sweep(design, made.a)[2]
    level = next(i for i, x in enumerate(design.levels) if x.projected)
    M, Q = design.means, made.resolvent
    MQ = M * Q if Q.ndim == 1 else M @ Q
    return np.asarray(np.diag(1 / weights[level]) + MQ @ M.T)


def _point(design: NestedDesign, x: float, guess: np.ndarray, step: float) -> Point:
    """Solve at x (1 + i HEIGHT), where the solution with Im a > 0 is unique."""
    z = complex(x, x * HEIGHT)
    outside = _outside(design, x, guess)
    if outside is not None:
        return outside
    made = nested_laws.solve(design, z, guess, step=step)
    if made is not None and _nearly_real(made.a):
        outside = _outside(design, x, made.a)
        if outside is not None:
            return outside
        made = nested_laws.solve(design, z, made.a)
    if made is None:
        high = _solved(design, complex(x, x), _far(design, complex(x, x)), step)
        if high is None:
            raise RuntimeError(nested_edges.failure(x))
        made = _descend(design, high, x, x, z.imag, step, 40)
    Q = made.resolvent
    flat = Q.ndim == 1
    pivots = made.pivots
    angles = np.sum(np.angle(pivots[0])) if flat else definite.argument(pivots)
    value = nested_laws.sweep(design, made.a)[1] - np.sum(made.a * made.b)
    scale = np.pi * design.dimension
    density = float(np.imag(np.sum(Q) if flat else np.trace(Q))) / scale
    added = 0.0
    if len(design.means):
        turns = np.angle(np.linalg.eigvals(secular(design, made)))
        added = -float(np.sum(turns)) / np.pi
    F = -(float(angles) + value.imag) / scale
    return Point(x, F, density, made.a, made.slope, added)


def _outside(design: NestedDesign, x: float, guess: np.ndarray) -> Point | None:
    """Solve at x itself from a guess that is nearly real, None if x is inside.

    Where all slopes are positive the real solution continues to the one with Im a > 0,
    which is unique. All logarithms are real but for their signs: F is a whole number.
    """
    if not _nearly_real(guess):
        return None
    made = nested_laws.solve(design, x, guess.real, steps=nested_laws.STEPS // 2)
    if made is None or not np.all(made.slope > 0):
        return None
    (B,) = made.pivots
    below = np.sum((B if B.ndim == 1 else np.linalg.eigvalsh(B)) < 0)
    state = made.a + 1j * x * HEIGHT * made.slope
    turns = nested_laws.sweep(design, state)[1].imag / np.pi
    F = round(float(below) - turns) / design.dimension
    added = 0.0
    if len(design.means):
        added = -float(np.sum(np.linalg.eigvalsh(secular(design, made)) < 0))
    return Point(x, F, 0.0, state, made.slope + 0j, added)


def _solved(
    design: NestedDesign, z: complex, guess: np.ndarray, step: float
) -> Solution | None:
    """Solve to a step; exactly where a is nearly real, as a false branch may be.

    On it Im a < 0 at the exact solution, which Newton's method refuses to go to.
    """
    made = nested_laws.solve(design, z, guess, step=step)
    if made is not None and _nearly_real(made.a):
        return nested_laws.solve(design, z, made.a)
    return made


def _nearly_real(a: np.ndarray) -> bool:
    """Return whether a solution may be outside of the support."""
    return bool(np.all(a.imag <= NEAR * np.abs(a)))


def _descend(
    design: NestedDesign,
    made: Solution,
    x: float,
    high: float,
    low: float,
    step: float,
    depth: int,
) -> Solution:
    """Continue a solution from x + i high to x + i low, in parts where it is lost."""
    guess = made.a + 1j * (low - high) * made.slope
    guess = guess if np.all(guess.imag > 0) else made.a
    found = _solved(design, complex(x, low), guess, step)
    if found is not None:
        return found
    if depth == 0:
        raise RuntimeError(nested_edges.failure(x))
    middle = max(high / 8, float(np.sqrt(high * low)))
    half = _descend(design, made, x, high, middle, step, depth - 1)
    return _descend(design, half, x, middle, low, step, depth - 1)


def _far(design: NestedDesign, z: complex) -> np.ndarray:
    """Return the solution for large z, -tr S / z."""
    return np.asarray(-nested_designs.traces(design) / z)


def _bands(design: NestedDesign, points: list[Point]) -> list[Band]:
    """Find the edges between points inside and outside of the support.

    F of a gap is a whole number of eigenvalues: all the logarithms are real there.
    """
    # outside, a solution continues to the real axis: Im a = HEIGHT x da/dx
    outside = [
        bool(np.all(p.state.imag <= 2 * HEIGHT * p.x * p.slope.real)) for p in points
    ]
    ends = []
    if not outside[0]:  # a hard edge at 0
        ends.append((0.0, 0.0, 0.0))
    pairs = zip(points, points[1:], outside, outside[1:], strict=False)
    for left, right, a, b in pairs:
        if a == b:
            continue
        out, inside = (left, right) if a else (right, left)
        made = nested_laws.solve(design, out.x, out.state.real)
        if made is None:
            raise RuntimeError(nested_edges.failure(out.x))
        edge, scale, _ = nested_edges.fold(design, out.x, made, inside.x)
        whole = round(out.cumulative * design.dimension) / design.dimension
        ends.append((edge, scale, whole))
    return [
        Band(low[0], high[0], high[2] - low[2], low[1], high[1])
        for low, high in zip(ends[::2], ends[1::2], strict=True)
    ]
