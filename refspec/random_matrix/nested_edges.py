r"""Edges of the support of a nested design, where the branch of real solutions turns.

Outside of the support the fixed point of `refspec.random_matrix.nested_laws` is real.
Along its solutions x(s) has an extremum at an edge. The logarithms of L have poles,
beyond which other branches lie that have nothing to do with the support, so the steps
are small enough not to cross one. Host arithmetic (LAPACK).
"""

from __future__ import annotations

import numpy as np

from refspec.random_matrix import nested_laws
from refspec.random_matrix.nested_designs import NestedDesign
from refspec.random_matrix.nested_laws import Solution

__all__ = ["CLOSE", "EDGE", "WALK", "failure", "fold"]

#: Accuracy of an edge, relative.
EDGE = 2.0**-20
#: Last correction of a step along the branch, relative to it: the error is its square.
CLOSE = 2.0**-8
#: Steps along the branch of real solutions.
WALK = 100


def fold(
    design: NestedDesign, outside: float, made: Solution, inside: float
) -> tuple[float, float, Solution]:
    r"""Follow the real branch from a point outside of the support to its edge.

    Parameters
    ----------
    design : NestedDesign
        The design.
    outside : float
        Where `made` solves the fixed point.
    made : Solution
        Real.
    inside : float
        A point of the support, the edge is between the two.

    Returns
    -------
    edge : float
    scale : float
        Of the fluctuations of the extreme eigenvalue.
    Solution
        Close to the edge.

    Raises
    ------
    RuntimeError
        If the solver fails, which the theory excludes.

    Notes
    -----
    Theory: theory/random_matrix.md#R7, #R12. Along the branch s = a_r, any r, is a
    smooth parameter and x(s) has an extremum at the edge, found by secants of dx/ds;
    with m as the parameter its second derivative is :math:`z''(m)`, and the scale
    :math:`d^{-2/3} (|z''| / 2)^{1/3}`.

    Examples
    --------
    >>> from refspec.populations import Population
    >>> from refspec.random_matrix.nested_designs import nested_design
    >>> population = Population((45,), 20, np.ones((45, 1)), 1.0)
    >>> design = nested_design(population)
    >>> made = nested_laws.solve(design, 200.0, np.asarray([-0.1]))
    >>> edge, scale, near = fold(design, 200.0, made, 20.0)
    >>> bool(abs(edge - (45**0.5 + 20**0.5) ** 2) < EDGE * edge)
    True
    """
    x, r = outside, int(np.argmax(np.abs(made.slope / made.a)))
    tangent, rate = _tangent(made, r)
    sign, bend = np.sign(rate), 0.0
    towards = float(np.sign(inside - x) * sign)
    change = towards * float(abs(made.a[r])) / 16
    before_edge, past_edge = float(made.a[r]), None
    for _ in range(WALK):
        new = x + change * (rate + change * bend / 2)
        ahead = made.a + change * tangent
        found = _on_branch(design, x, new, ahead, r)
        if (
            found is None
            or (inside - found[0]) * (inside - outside) <= 0
            or not _same_branch(made.a, ahead, found[1].a)
        ):
            change /= 2
            continue
        old, last = rate, change
        x, made = found
        tangent, rate = _tangent(made, r)
        bend = (rate - old) / last
        change = -rate / bend if bend else 2 * last
        if abs(rate * change) <= EDGE * abs(x):
            return x + rate * change / 2, _scale(design, made, tangent, bend), made
        s = float(made.a[r])
        if rate * sign > 0:
            before_edge = s
        else:
            past_edge = s
        if past_edge is None:
            change = towards * min(abs(change), 2 * abs(last))
        elif not min(before_edge, past_edge) < s + change < max(before_edge, past_edge):
            change = (before_edge + past_edge) / 2 - s
    raise RuntimeError(failure(x))


def _same_branch(old: np.ndarray, ahead: np.ndarray, found: np.ndarray) -> bool:
    """Return whether a step is corrected by little, so has not crossed a pole of L."""
    step = np.max(np.abs((ahead - old) / old))
    return bool(np.max(np.abs((found - ahead) / old)) <= step / 2)


def _scale(
    design: NestedDesign, made: Solution, tangent: np.ndarray, bend: float
) -> float:
    """Return d^{-2/3} (|z''(m)| / 2)^{1/3} at an edge, z'' = x''(s) / m'(s)^2."""
    d = design.dimension
    pull = float(made.drift @ made.hessian @ tangent) / d
    return float(np.cbrt(abs(bend) / (2 * pull**2) / d**2))


def _tangent(made: Solution, r: int) -> tuple[np.ndarray, float]:
    """Return da/ds and dx/ds along the branch, s = a_r."""
    border = -made.defect
    border[:, r] = made.drift
    tangent = np.linalg.solve(border, made.defect[:, r])
    rate = float(tangent[r])
    tangent[r] = 1
    return tangent, rate


def _on_branch(
    design: NestedDesign, start: float, x: float, a: np.ndarray, r: int
) -> tuple[float, Solution] | None:
    """Solve for x and the other a's with a_r given, as well as the step is large."""
    gain = None
    for _ in range(nested_laws.STEPS):
        if x <= 0:
            return None
        made = nested_laws.linearised(design, x, a, gain)
        border = -made.defect
        border[:, r] = made.drift
        if not np.all(np.isfinite(border)):
            return None
        try:
            change = np.linalg.solve(border, a - made.traces)
        except np.linalg.LinAlgError:  # far off the branch: take a smaller step
            return None
        x += float(change[r])
        if abs(change[r]) <= max(EDGE / 4 * abs(x), CLOSE * abs(x - start)):
            return x, made
        change[r] = 0
        # near enough, T is that of the first guess
        small = np.max(np.abs(change / a)) <= nested_laws.KEEP * abs(x - start) / x
        gain = made.gain if small else None
        a = a + change
    return None


def failure(x: float) -> str:
    """Return what to say of a solver that fails, which the theory excludes.

    Parameters
    ----------
    x : float
        Where it fails.

    Returns
    -------
    str

    Examples
    --------
    >>> failure(2.0)[:37]
    'expected the fixed point at x = 2.0 t'
    """
    return (
        f"expected the fixed point at x = {x} to be found by continuation, got no "
        "convergence; report the population as a bug"
    )
