r"""Outliers of fixed means over a sum of Wisharts.

A signal is a row of a fixed mean of squared length theta^2 and noise of variance t,
seen at v = d t + theta^2. It is an outlier iff v is beyond the support, and then at
psi(v), on average over draws a little further by O(1/d), with a known deviation.
Outliers closer than their deviations mix: all are the eigenvalues of one small random
matrix (Theory: theory/random_matrix.md#R8). Host arithmetic.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize

from refspec.random_matrix.free import law as free_law
from refspec.random_matrix.free.law import FreeLaw
from refspec.random_matrix.outliers import Outliers, joined, mixed


def fixed_outliers(
    law: FreeLaw, v: np.ndarray, strength: np.ndarray, edge: float, seed: int = 0
) -> Outliers:
    """Predict the outliers of fixed means, of all of them v and theta^2, descending.

    Returns those above the law's right edge, in v. Means of equal length need all of
    the small matrix. Theory: theory/random_matrix.md#R8
    """
    seen = v > edge
    outer, theta2 = v[seen], strength[seen]
    hidden = v[~seen], strength[~seen]
    # outliers push each other by the small matrix itself; hidden signals push them too
    push = _repulsion(law, (outer, theta2), hidden) / (outer[:, None] - hidden[0])
    shift = np.sum(push, axis=1) - _self_shift(law, outer, theta2)
    centres = free_law.location(law, _lifted(law, outer)) + shift
    values, spread = mixed(centres, _spread(law, outer, theta2), seed)
    return Outliers(values, spread, overlaps(law, outer, theta2))


def inner_outliers(
    law: FreeLaw, v: np.ndarray, strength: np.ndarray, ends: np.ndarray
) -> Outliers:
    """Predict those of means between bands (`ends` in v), or between 0 and the first.

    They are at psi(v) too, where psi rises; no shift. Theory:
    theory/random_matrix.md#R8
    """
    ends = ends.ravel()
    place = np.searchsorted(ends, v)  # even: off the support
    seen = (v > 0) & (place % 2 == 0) & (place < len(ends))
    v, theta2 = v[seen], strength[seen]
    spread = np.sqrt(2 * np.diag(_spread(law, v, theta2)))
    each = Outliers(free_law.location(law, v), spread, overlaps(law, v, theta2))
    return joined([each])


def overlaps(law: FreeLaw, v: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Return the squared cosines psi'(v) theta^2 / v of eigenvectors with their means.

    Benaych-Georges and Nadakuditi (2012). Theory: theory/random_matrix.md#R8
    """
    return np.asarray(free_law.derivative(law, v) * strength / v)


def _spread(law: FreeLaw, v: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Return the variances of the off-diagonal entries of the outliers' matrix.

    An outlier alone has twice the diagonal, 2 psi' (v^2 - psi' theta^4) / d.
    Theory: theory/random_matrix.md#R8
    """
    rate = np.sqrt(free_law.derivative(law, v))
    inner = np.outer(v, v) - np.outer(rate * strength, rate * strength)
    return np.asarray(np.outer(rate, rate) * inner / law.dimension)


def _repulsion(
    law: FreeLaw,
    of: tuple[np.ndarray, np.ndarray],
    by: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return (v_k v_l - psi'(v_k) theta_k^2 theta_l^2) / d, rows k and columns l."""
    rate = free_law.derivative(law, of[0])
    moved = np.outer(of[0], by[0]) - np.outer(rate * of[1], by[1])
    return np.asarray(moved / law.dimension)


def _self_shift(law: FreeLaw, v: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Return psi''(v) theta^4 / d."""
    return np.asarray(free_law.curvature(law, v) * strength**2 / law.dimension)


def _lifted(law: FreeLaw, v: np.ndarray) -> np.ndarray:
    """Return the x with v (1/x + psi''(x) / (2 d psi'(x)^2)) = 1, a little above v.

    The resolvent of real noise is -1/x and on average a little more: outliers are where
    that is -1/v. Theory: theory/random_matrix.md#R8
    """

    def excess(x: float, low: float) -> float:
        at = np.asarray([x])
        rate, bend = free_law.derivative(law, at)[0], free_law.curvature(law, at)[0]
        return float(low / x + low * bend / (2 * law.dimension * rate**2) - 1)

    found = []
    for low in v.tolist():
        high = 2 * low
        while excess(high, low) > 0:
            high *= 2
        root = low  # where what is to be added is lost in rounding
        if excess(low, low) > 0:
            root = scipy.optimize.brentq(excess, low, high, (low,), np.spacing(low))
        found.append(root)
    return np.asarray(found)
