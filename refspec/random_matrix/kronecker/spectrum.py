r"""Bands and distribution function of gradients that are Kronecker products.

The fixed point of `refspec.random_matrix.kronecker.law` is stationary for

.. math:: \Phi = \log\det(H(B) - z) + \sum_i \log\det(I + W_i A_i) - \sum_i tr A_i B_i

whose imaginary part on the real axis is :math:`-\pi P F`: no integral is needed, and an
error e of the solver costs e^2. The means change the number of eigenvalues below x by
the argument of one determinant (Theory: theory/kronecker_designs.md#G2). Host
arithmetic (LAPACK).
"""

from __future__ import annotations

import numpy as np

from refspec.random_matrix import definite, tables
from refspec.random_matrix.kronecker import law
from refspec.random_matrix.kronecker.design import KroneckerDesign
from refspec.random_matrix.kronecker.law import Equivalent
from refspec.random_matrix.tables import LawTable, Point

#: Distance of the solutions from the real axis, relative to x.
HEIGHT = 2.0**-20
#: Accuracy of an edge, relative.
EDGE = 2.0**-13
_HARD = 2.0**-24  # below it, relative to the bound of the support, no edge is sought
_DOWN = 10  # powers of 16 from the bound of the support to where F is its atom


def at(
    design: KroneckerDesign, x: float, guess: np.ndarray | None = None
) -> Equivalent:
    """Solve just above a point x > 0 of the real axis, where the solution is unique."""
    return law.equivalent(design, complex(x, x * HEIGHT), guess)


def stieltjes(design: KroneckerDesign, made: Equivalent) -> complex:
    """Return (1/P) tr (M - z)^{-1}, means included.

    Theory: theory/kronecker_designs.md#G2
    """
    full = made.blocks[0] + made.signal - made.z * np.eye(len(made.signal))
    traces = [np.trace(np.linalg.inv(full)), *map(np.trace, made.resolvents[1:])]
    return complex(np.dot(design.multiplicities, traces) / design.dimension)


def tabulate(design: KroneckerDesign, *, resolution: float) -> LawTable:
    """Tabulate the law of the noise; F errs by `resolution` eigenvalues.

    Some 50 to 100 solutions. The scale of an edge is that of the limit at P; products
    of two vectors fluctuate more. Theory: theory/kronecker_designs.md#G2, #G3
    """
    P = design.dimension
    x = law.reach(design)
    points = [_point(design, x, at(design, x))]
    atom = _atom(design, points[0])
    while (
        P * (points[-1].cumulative - atom) > resolution
        or not _outside(design, points[-1])
    ) and x > points[0].x * _HARD:
        x /= 2
        points.append(_point(design, x, at(design, x, points[-1].state)))
    points = tables.refine(
        lambda x, guess: _point(design, x, at(design, x, guess)),
        points[::-1],
        resolution / P,
    )
    outside = [_outside(design, p) for p in points]

    def located(out: Point, inside: Point) -> tuple[float, float, float]:
        return *_edge(design, out.x, inside), float(round(out.added))

    edges = tables.find_edges(points, outside, located, P)
    return tables.interpolated(points, edges, atom)


def _atom(design: KroneckerDesign, above: Point) -> float:
    """Return the mass at 0, a whole number of eigenvalues: F near 0."""
    point = above
    for _ in range(_DOWN):
        x = point.x / 16
        point = _point(design, x, at(design, x, point.state))
    return round(point.cumulative * design.dimension) / design.dimension


def _point(design: KroneckerDesign, x: float, made: Equivalent) -> Point:
    """Read F, the density and what the means add from a solution."""
    P, first = design.dimension, _argument(made.blocks[0], made.z)
    turned = first
    for n, H in zip(design.multiplicities[1:], made.blocks[1:], strict=True):
        turned += n * _argument(H, made.z) if n else 0.0
    # Im A > 0, so the eigenvalues of I + W A have arguments in (0, pi): the branch is
    # the principal one, eigenvalue by eigenvalue
    R = design.samples.roots
    inner = np.eye(R.shape[1]) + np.swapaxes(R, 1, 2) @ made.A @ R
    angles = np.sum(np.angle(np.linalg.eigvals(inner)), axis=1)
    forms = np.sum(made.A * made.B, axis=(1, 2)).imag
    turned += float(design.samples.counts @ (angles - forms))
    added = -(_argument(made.blocks[0] + made.signal, made.z) - first) / np.pi
    state = made.unknowns
    density = _density(design, made)
    # no slope is known, and none is needed: cubics of F use the density
    return Point(x, -turned / np.pi / P, density, state, np.zeros_like(state), added)


def _density(design: KroneckerDesign, made: Equivalent) -> float:
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

    def solved(z: complex, guess: np.ndarray) -> float:
        return _density(design, law.equivalent(design, z, guess))

    return tables.vanishes(point, HEIGHT, solved)


def _edge(
    design: KroneckerDesign, outside: float, inside: Point
) -> tuple[float, float]:
    """Return an edge and the scale of fluctuations there."""
    # Not a root: the density is 0 on the whole outer side, and close to the edge the
    # solver needs a guess from close by. The squared density is linear at the edge: go
    # 7/8 of the way to its extrapolated zero, or of the bracket, from inside.
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
