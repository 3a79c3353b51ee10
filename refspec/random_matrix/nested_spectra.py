r"""Bands and distribution function of a nested design with any covariances.

The distribution function needs no integral: the fixed point of
`refspec.random_matrix.nested_laws` is stationary for a functional whose imaginary part
on the real axis is F itself,

.. math:: F(x) = -\frac{1}{\pi d} \Im\Big[\log\det\Big(\sum_r b_r S_r - x\Big)
          + L(a) - \sum_r a_r b_r\Big]

so an error e of the solver costs e^2 in F. Edges are where the real solution loses
stability. Host arithmetic (LAPACK).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from refspec.random_matrix import law_tables, nested_laws
from refspec.random_matrix.law_tables import Band, LawTable, Point
from refspec.random_matrix.nested_laws import NestedLaw, Solution

__all__ = ["EDGE", "HEIGHT", "right_edge", "tabulate"]

#: Distance of the solutions from the real axis, relative to x.
HEIGHT = 2.0**-26
#: Accuracy of an edge, relative.
EDGE = 2.0**-20


def tabulate(law: NestedLaw, *, resolution: float) -> LawTable:
    """Tabulate the limiting law of a nested design.

    Parameters
    ----------
    law : NestedLaw
        The design.
    resolution : float
        Error of F, in eigenvalues (units of 1 / d).

    Returns
    -------
    LawTable
        Two bands are told apart if a point of the table falls between them: a gap that
        holds less than `resolution` eigenvalues when filled may be missed.

    Raises
    ------
    RuntimeError
        If the solver fails, which the theory excludes.

    Notes
    -----
    Theory: R10, R11, R12. The points go down from a bound of the support by halves, and
    are then refined where F is not a cubic.

    Examples
    --------
    >>> from refspec.populations import Population
    >>> population = Population((40, 40), 30, np.ones((80, 1)), np.linspace(1, 2, 30))
    >>> table = tabulate(nested_laws.nested_law(population), resolution=0.1)
    >>> len(table.bands), round(table.bands[0].mass, 6)
    (1, 1.0)
    """
    d = law.dimension
    atom = max(0.0, 1 - nested_laws.rows(law) / d)
    x = nested_laws.reach(law)
    points = [_point(law, x, _far(law, complex(x, x * HEIGHT)))]
    while points[-1].cumulative - atom > resolution / d:
        x /= 2
        points.append(_point(law, x, points[-1].state))
    points = law_tables.adaptive(
        lambda x, guess: _point(law, x, guess), points[::-1], resolution / d
    )
    bands = tuple(_bands(law, points))
    return law_tables.interpolated(points, bands, atom)


def right_edge(law: NestedLaw, inside: float) -> tuple[float, Solution]:
    """Return the right edge of the support and the solution just outside.

    Parameters
    ----------
    law : NestedLaw
        The design.
    inside : float
        A point of the support or left of it.

    Returns
    -------
    edge : float
    Solution

    Notes
    -----
    Theory: R12.

    Examples
    --------
    >>> from refspec.populations import Population
    >>> law = nested_laws.nested_law(Population((45,), 20, np.ones((45, 1)), 1.0))
    >>> edge = right_edge(law, 20.0)[0]
    >>> bool(abs(edge - (45**0.5 + 20**0.5) ** 2) < EDGE * edge)
    True
    """
    far = nested_laws.reach(law)
    made = nested_laws.solve(law, far, np.real(_far(law, complex(far))))
    if made is None:
        raise RuntimeError(_failure(far))
    edge, solution, _ = _edge(law, far, made, inside)
    return edge, solution


def _point(law: NestedLaw, x: float, guess: np.ndarray) -> Point:
    """Solve at x (1 + i HEIGHT), where the solution with Im a > 0 is unique."""
    z = complex(x, x * HEIGHT)
    made = nested_laws.solve(law, z, guess)
    if made is None:
        high = nested_laws.reach(law)
        made = _descend(law, x, high, _far(law, complex(x, high)), z.imag, 40)
    Q = made.resolvent
    angles = _angles(law, made.b, z) if Q.ndim == 2 else float(np.sum(np.angle(1 / Q)))
    value = nested_laws.sweep(law, made.a)[1] - np.sum(made.a * made.b)
    density = np.sum(Q) if Q.ndim == 1 else np.trace(Q)
    scale = np.pi * law.dimension
    return Point(
        x, -(angles + value.imag) / scale, density.imag / scale, made.a, made.slope
    )


def _descend(
    law: NestedLaw, x: float, high: float, guess: np.ndarray, low: float, depth: int
) -> Solution:
    """Continue from x + i high to x + i low, halving the way where Newton fails."""
    made = nested_laws.solve(law, complex(x, low), guess)
    if made is not None:
        return made
    if depth == 0:
        raise RuntimeError(_failure(x))
    middle = float(np.sqrt(high * low))
    half = _descend(law, x, high, guess, middle, depth - 1)
    return _descend(law, x, middle, half.a, low, depth - 1)


def _angles(law: NestedLaw, b: np.ndarray, z: complex) -> float:
    """Return Im log det B, B = sum b S - z with Im B < 0, each eigenvalue in (-pi, 0).

    With X = Re B, Y = -Im B and X x = l Y x, det B = det Y prod (l - i).
    """
    B = np.tensordot(b, law.covariances, 1)
    B[np.diag_indices(len(B))] -= z
    values = scipy.linalg.eigh(B.real, -B.imag, eigvals_only=True, check_finite=False)
    return float(np.sum(np.angle(values - 1j)))


def _far(law: NestedLaw, z: complex) -> np.ndarray:
    """Return the solution for large z, -tr S / z."""
    return np.asarray(-nested_laws.traces(law) / z)


def _failure(x: float) -> str:
    return (
        f"expected the fixed point at x = {x} to be found by continuation, got no "
        "convergence; report the population as a bug"
    )


def _bands(law: NestedLaw, points: list[Point]) -> list[Band]:
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
    for left, right, a, b in zip(
        points, points[1:], outside, outside[1:], strict=False
    ):
        if a == b:
            continue
        out, inside = (left, right) if a else (right, left)
        made = nested_laws.solve(law, out.x, out.state.real)
        if made is None:
            raise RuntimeError(_failure(out.x))
        edge, _, scale = _edge(law, out.x, made, inside.x)
        whole = round(out.cumulative * law.dimension) / law.dimension
        ends.append((edge, scale, whole))
    return [
        Band(low[0], high[0], high[2] - low[2], low[1], high[1])
        for low, high in zip(ends[::2], ends[1::2], strict=True)
    ]


def _edge(
    law: NestedLaw, outside: float, made: Solution, inside: float
) -> tuple[float, Solution, float]:
    """Return the edge, the closest solution and the scale of fluctuations.

    The square of the stability is linear in x at a soft edge: go to 7/8 of the way to
    its extrapolated zero, or of the bracket while there is one solution only.
    """
    x, squared, edge = outside, made.stability**2, inside
    while True:
        new = x + 7 / 8 * (edge - x)
        found = nested_laws.solve(law, new, made.a)
        if found is None or not _continues(made, found, new - x):
            inside = edge = new
            continue
        slope = (found.stability**2 - squared) / (new - x)
        guess = new - found.stability**2 / slope
        settled = abs(guess - edge) <= EDGE * abs(guess)
        x, made, squared = new, found, found.stability**2
        edge = (
            guess
            if abs(guess - x) < abs(inside - x) and slope * (inside - x) < 0
            else inside
        )
        if settled or abs(edge - x) <= EDGE * abs(edge):
            break
    d = law.dimension
    Q = made.resolvent
    push = made.hessian @ made.slope
    rate = (np.sum(Q * Q) - np.sum(made.drift * push)) / d
    steep = 2 * abs(rate) * np.sqrt(abs(edge - x))
    return edge, made, float(np.cbrt((d * steep) ** -2))


def _continues(old: Solution, new: Solution, dx: float) -> bool:
    """Tell whether a real solution is on the branch of another: stable, monotone."""
    return bool(np.all(new.slope > 0) and np.all((new.a - old.a) * dx > 0))
