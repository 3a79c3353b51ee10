r"""Bands and distribution function of gradients that are Kronecker products.

The fixed point of `refspec.random_matrix.kronecker_laws` is stationary for

.. math:: \Phi = \log\det(H(B) - z) + \sum_i \log\det(I + W_i A_i) - \sum_i tr A_i B_i

whose imaginary part on the real axis is :math:`-\pi P F`: no integral is needed, and an
error e of the solver costs e^2. The means change the number of eigenvalues below x by
the argument of one determinant. Host arithmetic (LAPACK).
"""

from __future__ import annotations

import numpy as np

from refspec.random_matrix import definite, kronecker_laws, law_tables
from refspec.random_matrix.kronecker_designs import KroneckerDesign
from refspec.random_matrix.kronecker_laws import Solution
from refspec.random_matrix.law_tables import Band, LawTable, Point

__all__ = ["EDGE", "HEIGHT", "at", "stieltjes", "tabulate"]

#: Distance of the solutions from the real axis, relative to x.
HEIGHT = 2.0**-20
#: Accuracy of an edge, relative.
EDGE = 2.0**-13
_HARD = 2.0**-24  # below it, relative to the bound of the support, no edge is sought
_DOWN = 10  # powers of 16 from the bound of the support to where F is its atom


def at(design: KroneckerDesign, x: float, guess: np.ndarray | None = None) -> Solution:
    """Solve just above a point of the real axis, where the solution is unique.

    Parameters
    ----------
    design : KroneckerDesign
        The law.
    x : float
        Positive.
    guess : array, optional
        As in `refspec.random_matrix.kronecker_laws.solve`.

    Returns
    -------
    Solution

    Notes
    -----
    Theory: theory/kronecker_designs.md#G2.

    Examples
    --------
    >>> from refspec.populations import KroneckerPopulation, Population
    >>> from refspec.random_matrix.kronecker_designs import kronecker_design
    >>> side = Population((9,), 2, np.ones((9, 1)), 1.0)
    >>> design = kronecker_design(KroneckerPopulation(side, side))
    >>> at(design, 30.0).z == 30 + 30j / 2**20
    True
    """
    return kronecker_laws.solve(design, complex(x, x * HEIGHT), guess)


def stieltjes(design: KroneckerDesign, made: Solution) -> complex:
    """Return (1/P) tr (M - z)^{-1}, means included.

    Parameters
    ----------
    design : KroneckerDesign
        The law.
    made : Solution
        At z.

    Returns
    -------
    complex

    Notes
    -----
    Theory: theory/kronecker_designs.md#G2.

    Examples
    --------
    >>> from refspec.populations import KroneckerPopulation, Population
    >>> from refspec.random_matrix.kronecker_designs import kronecker_design
    >>> side = Population((9,), 2, np.ones((9, 1)), 1.0)
    >>> design = kronecker_design(KroneckerPopulation(side, side))
    >>> m = stieltjes(design, kronecker_laws.solve(design, 2000 + 1e-3j))
    >>> round(-1 / (2000 * m.real), 3)  # 1 - E x / 2000, E x = 9
    0.995
    """
    full = made.blocks[0] + made.signal - made.z * np.eye(len(made.signal))
    traces = [np.trace(np.linalg.inv(full)), *map(np.trace, made.resolvents[1:])]
    return complex(np.dot(design.multiplicities, traces) / design.dimension)


def tabulate(design: KroneckerDesign, *, resolution: float) -> LawTable:
    """Tabulate the limiting law of the noise.

    Parameters
    ----------
    design : KroneckerDesign
        The law.
    resolution : float
        Error of F, in eigenvalues (units of 1 / P).

    Returns
    -------
    LawTable
        As `refspec.random_matrix.nested_spectra.tabulate`. The scale of an edge is that
        of the limit at P; products of two vectors fluctuate more.

    Raises
    ------
    RuntimeError
        If the solver fails, which the theory excludes.

    Notes
    -----
    Theory: theory/kronecker_designs.md#G2, #G3. The points go down from a bound of the
    support by halves, and are then refined where F is not a cubic. Some 50 to 100
    solutions.

    Examples
    --------
    >>> from refspec.populations import KroneckerPopulation, Population
    >>> from refspec.random_matrix.kronecker_designs import kronecker_design
    >>> side = Population((45,), 4, np.ones((45, 1)), 1.0)
    >>> design = kronecker_design(KroneckerPopulation(side, side))
    >>> band = tabulate(design, resolution=0.5).bands[0]
    >>> bool(abs(band.upper - (45**0.5 + 16**0.5) ** 2) < 0.01)
    True
    """
    P = design.dimension
    x = kronecker_laws.reach(design)
    points = [_point(design, x, at(design, x))]
    atom = _atom(design, points[0])
    while (
        P * (points[-1].cumulative - atom) > resolution
        or not _outside(design, points[-1])
    ) and x > points[0].x * _HARD:
        x /= 2
        points.append(_point(design, x, at(design, x, points[-1].state)))
    points = law_tables.adaptive(
        lambda x, guess: _point(design, x, at(design, x, guess)),
        points[::-1],
        resolution / P,
    )
    bands, edges = _bands(design, points)
    every = sorted([*points, *edges], key=lambda p: p.x)
    return law_tables.interpolated(every, bands, atom)


def _atom(design: KroneckerDesign, above: Point) -> float:
    """Return the mass at 0, a whole number of eigenvalues: F near 0."""
    point = above
    for _ in range(_DOWN):
        x = point.x / 16
        point = _point(design, x, at(design, x, point.state))
    return round(point.cumulative * design.dimension) / design.dimension


def _point(design: KroneckerDesign, x: float, made: Solution) -> Point:
    """Read F, the density and what the means add from a solution."""
    P, first = design.dimension, _argument(made.blocks[0], made.z)
    turned = first
    for n, H in zip(design.multiplicities[1:], made.blocks[1:], strict=True):
        turned += n * _argument(H, made.z) if n else 0.0
    half = np.sqrt(design.samples.weights)
    inner = np.eye(half.shape[1]) + half[:, :, None] * made.A * half[:, None, :]
    angles = np.sum(np.angle(np.linalg.eigvals(inner)), axis=1)
    forms = np.sum(made.A * made.B, axis=(1, 2)).imag
    turned += float(design.samples.counts @ (angles - forms))
    added = -(_argument(made.blocks[0] + made.signal, made.z) - first) / np.pi
    state = made.unknowns
    density = _density(design, made)
    return Point(x, -turned / np.pi / P, density, state, np.zeros_like(state), added)


def _density(design: KroneckerDesign, made: Solution) -> float:
    """Return the density of the noise."""
    traces = [np.trace(Q).imag for Q in made.resolvents]
    return float(np.dot(design.multiplicities, traces) / np.pi / design.dimension)


def _argument(H: np.ndarray, z: complex) -> float:
    """Return Im log det(H - z), Im H <= 0."""
    return definite.argument([H - z * np.eye(len(H))])


def _outside(design: KroneckerDesign, point: Point) -> bool:
    """Tell whether a point is outside: there Im m doubles with the height."""
    if point.density * point.x > 2.0**-8:
        return False
    twice = point.state.real + 2j * point.state.imag
    z = complex(point.x, 2 * point.x * HEIGHT)
    double = _density(design, kronecker_laws.solve(design, z, twice))
    return double > 1.75 * point.density  # sqrt 2 at an edge, 1 inside


def _bands(
    design: KroneckerDesign, points: list[Point]
) -> tuple[tuple[Band, ...], list[Point]]:
    """Find the edges between points inside and outside of the support.

    Outside, F and what the means add are whole numbers of eigenvalues.
    """
    P = design.dimension
    outside = [_outside(design, p) for p in points]
    ends, edges = [], []
    if not outside[0]:  # a hard edge at 0
        ends.append((0.0, 0.0, round(points[0].cumulative * P) / P))
    for left, right, a, b in zip(
        points, points[1:], outside, outside[1:], strict=False
    ):
        if a != b:
            out, inside = (left, right) if a else (right, left)
            edge, scale = _edge(design, out.x, inside)
            ends.append((edge, scale, round(out.cumulative * P) / P))
            state, added = out.state, float(round(out.added))
            edges.append(Point(edge, ends[-1][2], 0.0, state, state, added))
    bands = tuple(
        Band(low[0], high[0], high[2] - low[2], low[1], high[1])
        for low, high in zip(ends[::2], ends[1::2], strict=True)
    )
    return bands, edges


def _edge(
    design: KroneckerDesign, outside: float, inside: Point
) -> tuple[float, float]:
    """Return an edge and the scale of fluctuations there.

    The squared density is linear at the edge: go 7/8 of the way to its extrapolated
    zero, or of the bracket.
    """
    x, state, squared, edge = inside.x, inside.state, inside.density**2, outside
    while True:
        new = x + 7 / 8 * (edge - x)
        made = at(design, new, state)
        density, state = _density(design, made), made.unknowns
        point = Point(new, 0.0, density, state, state)
        if _outside(design, point):
            outside, guess = new, (x + new) / 2
        else:
            slope = (density**2 - squared) / (new - x)
            x, squared = new, density**2
            guess = x - squared / slope if slope * (outside - x) < 0 else outside
            if abs(guess - x) > abs(outside - x):
                guess = (x + outside) / 2
        settled = abs(guess - edge) <= EDGE * abs(guess)
        edge = guess
        if settled or abs(edge - x) <= EDGE * abs(edge):
            break
    steep = np.sqrt(squared / abs(edge - x))
    return edge, float((design.dimension * np.pi * steep) ** (-2 / 3))
