r"""Edges of a sum of Wisharts, and what it takes to leave it.

Between two poles :math:`h = 1 - \psi'` is convex, so h < 1 holds on one interval or on
none: both ends are bracketed in closed form, and no gap is missed
(Theory: theory/random_matrix.md#R3). Host arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.optimize

from refspec import checks
from refspec.random_matrix.free.law import FreeLaw, curvature, pole_sum

_OPEN = 1 - 2.0**-10  # brackets are opened by it, so that rounding does not close them
_STEPS = 1000  # of a root; a few dozen are enough


def support(law: FreeLaw) -> np.ndarray:
    """Return the ends of the bands in v, ascending, shape (bands, 2).

    `location` of it gives the bands in x. With N = d the lowest end is v = 0, not a
    soft edge. Theory: theory/random_matrix.md#R3
    """
    poles, strengths = law.poles, law.strengths

    def excess(v: float) -> float:
        return float(pole_sum(law, np.asarray(v), 2)) - 1

    # one pole alone keeps h > 1 within its root strength, all together end before the
    # root of their sum beyond the outermost
    near, far = np.sqrt(strengths) * _OPEN, float(np.sqrt(np.sum(strengths))) / _OPEN
    # and the two nearest poles keep h > 1 in most gaps: h >= clouds^3 / width^2
    clouds = np.cbrt(strengths[:-1]) + np.cbrt(strengths[1:])
    gaps = []
    for k in np.flatnonzero(clouds**1.5 < np.diff(poles)):
        bottom = _bottom(law, int(k))
        if excess(bottom) < 0:
            gaps.append(_root(excess, float(poles[k] + near[k]), bottom))
            gaps.append(_root(excess, bottom, float(poles[k + 1] - near[k + 1])))
    right_end = _root(excess, float(poles[-1] + near[-1]), float(poles[-1]) + far)
    if law.atom > 0:
        left_end = _root(excess, 0.0, float(poles[0] - near[0]))
    elif excess(0.0) > 0:
        left_end = _root(excess, min(0.0, float(poles[0]) - far), 0.0)
    else:
        left_end = 0.0
    return np.reshape(np.asarray([left_end, *gaps, right_end]), (-1, 2))


def edge_scale(law: FreeLaw, v: np.ndarray) -> np.ndarray:
    """Return s = d^(-2/3) (|psi''(v)| / 2)^(1/3) |v|^(4/3) at ends v of bands.

    The extreme eigenvalue is the edge plus or minus s times a TW1 variable, in the
    limit (El Karoui 2007). Theory: theory/random_matrix.md#R7
    """
    bend = np.abs(curvature(law, v)) / 2
    return np.asarray(np.cbrt(bend * np.abs(v) ** 4 / law.dimension**2))


def split_threshold(d: int, bulk: float, bump: float, scale: float) -> float:
    """Return the t_2 above which a bump detaches from a bulk of scale t_3, or inf.

    N_2 = 0 gives the threshold of Baik, Ben Arous and Peche. Theory:
    theory/random_matrix.md#R6.
    """
    checks.expect_size("d", d, least=1)
    checks.expect_positive("bulk", bulk)
    checks.expect_positive("bump", bump, zero=True)
    checks.expect_positive("scale", scale)
    if bump >= d:
        return float("inf")

    def excess(t: float) -> float:
        clouds = np.cbrt(bulk * scale**2) + np.cbrt(bump * t**2)
        return float(np.sqrt(d) * (t - scale) - clouds**1.5)

    top = 2 * scale
    while excess(top) < 0:
        top *= 2
    return _root(excess, scale, top)


def strength_threshold(law: FreeLaw, row: float) -> float:
    """Return the theta^2 above which a fixed mean in a row of variance t is an outlier.

    Not positive if such a row stands out without a mean. Theory:
    theory/random_matrix.md#R8.
    """
    checks.expect_type("law", law, FreeLaw, "make one of scales and counts")
    checks.expect_positive("row", row, zero=True)
    return float(support(law)[-1, 1] - law.dimension * row)


def _bottom(law: FreeLaw, k: int) -> float:
    """Return where h is least between poles k and k + 1: the zero of h'."""
    left, right = float(law.poles[k]), float(law.poles[k + 1])
    width, a = right - left, law.strengths

    def slope(v: float) -> float:
        return float(pole_sum(law, np.asarray(v), 3))  # -h' / 2

    # x from the left pole it alone makes a_k / x^3 of -h' / 2, and all poles to the
    # right less than 8 sum(a) / width^3 as long as x <= width / 2
    below, above = float(np.sum(a[: k + 1])), float(np.sum(a[k + 1 :]))
    from_left = min(1.0, float(np.cbrt(a[k] / above))) / 2 * _OPEN
    from_right = min(1.0, float(np.cbrt(a[k + 1] / below))) / 2 * _OPEN
    return _root(slope, left + width * from_left, right - width * from_right)


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """Return where f changes its sign, to a few units in the last place."""
    least = np.finfo(float).tiny  # the relative accuracy of brentq decides
    return float(scipy.optimize.brentq(f, low, high, xtol=least, maxiter=_STEPS))
