r"""Edges of the support of a nested design, where the branch of real solutions turns.

Outside of the support the fixed point is real. Along its solutions, with s = a_r as the
parameter, x(s) has an extremum at an edge (Theory: theory/random_matrix.md#R12). The
logarithms of L have poles, beyond which other branches lie that have nothing to do with
the support, so the steps are small enough not to cross one. Host arithmetic (LAPACK).
"""

from __future__ import annotations

import numpy as np

from refspec.random_matrix.nested import law
from refspec.random_matrix.nested.design import NestedDesign
from refspec.random_matrix.nested.law import FixedPoint
from refspec.random_matrix.nested.tree import sweep

#: Accuracy of an edge, relative.
EDGE = 2.0**-20
#: Last correction of a step along the branch, relative to it: the error is its square.
CLOSE = 2.0**-8
#: Steps along the branch of real solutions.
WALK = 100
_ABOVE = 2.0**-26  # the real axis, relative: where logarithms have one branch


def fold(
    design: NestedDesign, outside: float, made: FixedPoint, inside: float
) -> tuple[float, float, FixedPoint]:
    """Follow the real branch from `outside`, where `made` is, to the edge this side.

    Returns the edge, the scale d^(-2/3) (|z''(m)| / 2)^(1/3) of the extreme eigenvalue
    and a solution close by. Theory: theory/random_matrix.md#R7, #R12
    """
    # Not a root in x: x(s) turns at the edge and has no solution beyond, so a bracket
    # in x would lose half of the digits. dx/ds = rate vanishes there, and is followed
    # by secants in s = a_r, r the component that moves most.
    x, r = outside, int(np.argmax(np.abs(made.slope / made.a)))
    tangent, rate = _tangent(made, r)
    sign, bend = np.sign(rate), 0.0
    towards = float(np.sign(inside - x) * sign)
    change = towards * float(abs(made.a[r])) / 16
    before_edge, past_edge = float(made.a[r]), None
    for _ in range(WALK):
        new = x + change * (rate + change * bend / 2)
        ahead = made.a + change * tangent
        found = _on_branch(design, x, made.a, new, ahead, r)
        if (
            found is None
            or (inside - found[0]) * (inside - outside) <= 0  # jumped over the band
            or not _same_branch(design, made.a, ahead, found[1].a)
        ):
            change /= 2
            continue
        old, last = rate, change
        x, made = found
        tangent, rate = _tangent(made, r)
        bend = (rate - old) / last
        change = -rate / bend if bend else 2 * last
        if abs(rate * change) <= EDGE * abs(x):
            # x is a parabola of s here: half of the secant's gain is left
            return x + rate * change / 2, _scale(design, made, tangent, bend), made
        s = float(made.a[r])
        if rate * sign > 0:
            before_edge = s
        else:
            past_edge = s
        if past_edge is None:
            # far from the edge the secant knows nothing: at most double the step
            change = towards * min(abs(change), 2 * abs(last))
        elif not min(before_edge, past_edge) < s + change < max(before_edge, past_edge):
            change = (before_edge + past_edge) / 2 - s
    raise RuntimeError(failure(x))


def _same_branch(
    design: NestedDesign, old: np.ndarray, ahead: np.ndarray, found: np.ndarray
) -> bool:
    """Return whether a step is corrected by little and has not crossed a pole of L."""
    step = np.max(np.abs((ahead - old) / old))
    # just above the real axis Im L / pi counts negative eigenvalues of a matrix whose
    # determinant is exp L up to a sign, and changes at its poles alone
    above = (a + 1j * _ABOVE * np.abs(a) for a in (old, found))
    turns = (round(sweep(design, a)[1].imag / np.pi) for a in above)
    near = np.max(np.abs((found - ahead) / old)) <= step / 2
    return bool(near) and len(set(turns)) == 1


def _scale(
    design: NestedDesign, made: FixedPoint, tangent: np.ndarray, bend: float
) -> float:
    """Return d^{-2/3} (|z''(m)| / 2)^{1/3} at an edge, z'' = x''(s) / m'(s)^2."""
    d = design.dimension
    pull = float(made.drift @ made.hessian @ tangent) / d
    return float(np.cbrt(abs(bend) / (2 * pull**2) / d**2))


def _tangent(made: FixedPoint, r: int) -> tuple[np.ndarray, float]:
    """Return da/ds and dx/ds along the branch, s = a_r."""
    # (I - T H) da = drift dx with da_r = 1: the column of a_r makes room for x, and
    # the bordered matrix is regular at the fold, where I - T H is not
    border = -made.defect
    border[:, r] = made.drift
    tangent = np.linalg.solve(border, made.defect[:, r])
    rate = float(tangent[r])
    tangent[r] = 1
    return tangent, rate


def _on_branch(
    design: NestedDesign, start: float, old: np.ndarray, x: float, a: np.ndarray, r: int
) -> tuple[float, FixedPoint] | None:
    """Solve for x and the other a's with a_r given, as well as the step is large."""
    step = float(np.max(np.abs((a - old) / old)))
    gain = None
    for _ in range(law.STEPS):
        if x <= 0:
            return None
        made = law.linearise(design, x, a, gain)
        border = -made.defect
        border[:, r] = made.drift
        if not np.all(np.isfinite(border)):
            return None
        try:
            change = np.linalg.solve(border, a - made.traces)
        except np.linalg.LinAlgError:  # far off the branch: take a smaller step
            return None
        x += float(change[r])
        arrived = abs(change[r]) <= max(EDGE / 4 * abs(x), CLOSE * abs(x - start))
        change[r] = 0
        # x may stand still where other a's do not: the next step would start off the
        # branch, and be taken for one onto another
        if arrived and np.max(np.abs(change / a)) <= max(EDGE, step / 8):
            return x, made
        # near enough, T is that of the first guess
        small = np.max(np.abs(change / a)) <= law.KEEP * abs(x - start) / x
        gain = made.gain if small else None
        a = a + change
    return None


def failure(x: float) -> str:
    """Return what to say of a solver that fails, which the theory excludes."""
    return (
        f"expected the fixed point at x = {x} to be found by continuation, got no "
        "convergence; report the population as a bug"
    )
