r"""What random probes of a known spectrum may show, and how many of them would tell.

A probe z sees the measure :math:`\mu_z = \sum_i (u_i'z)^2/|z|^2 \delta_{\lambda_i}`.
Three things bound it without asymptotics: quadratic forms concentrate (moments, shares
above a threshold), k Lanczos steps find the ends of the spectrum unless z has next to
nothing there (Kaniel, Paige, Saad), and no node lies outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.special

from refspec import rounding

_GROUPS = 32  # eigenvalues at an end that a probe may have its part in together
_MANY = 2**40  # probes or steps that nobody takes


def spread(b: np.ndarray, n: int, draws: str, count: int) -> float:
    """Bound |mean of z'Bz/z'z - tr B / P| over n probes, b the eigenvalues of B."""
    centred = b - np.mean(b)
    F, S = math.sqrt(float(np.sum(centred**2))), float(np.max(np.abs(centred)))
    return float(concentration(np.array(F), np.array(S), n, draws, count)) / len(b)


def projector_spread(
    ranks: np.ndarray, P: int, n: int, draws: str, count: int
) -> np.ndarray:
    """Bound the same for projectors of the given ranks."""
    share = ranks / P
    F, S = np.sqrt(ranks * (1 - share)), np.maximum(share, 1 - share)
    return np.asarray(concentration(F, S, n, draws, count) / P)


def end_reached(values: np.ndarray, k: int, n: int, draws: str) -> float:
    """Bound from below the largest node of k exact Lanczos steps from each of n probes.

    Values ascend. With the j largest apart from the rest, a Chebyshev polynomial in A
    times z has Rayleigh quotient at least the j-th, less what the rest contributes.
    """
    P, least = len(values), float(values[0])
    if draws != "gaussian" or P == 1:
        return least  # signs can be orthogonal to an eigenvector
    sizes = np.arange(1, min(_GROUPS, P - 1) + 1)
    failure = rounding.FAILURE / (4 * n * len(sizes))
    inside = scipy.special.betaincinv(sizes / 2, (P - sizes) / 2, failure)
    j_th, rest = values[P - sizes], values[P - sizes - 1]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        gap = (j_th - rest) / (rest - least)
        damped = np.cosh((k - 1) * np.arccosh(1 + 2 * gap)) ** 2
        lost = (j_th - least) * (1 - inside) / inside / damped
    if k > 1:
        lost = np.where(rest <= least, 0.0, lost)
    found = np.where(np.isfinite(lost), j_th - lost, least)
    return float(max(least, np.max(found)))


def probes_that_tell(values: np.ndarray, radius: float, draws: str) -> int:
    """How many probes tell the first two moments from those of twice the spectrum."""

    def told(n: int) -> bool:
        for b, s in ((values, 2), (values**2, 4)):
            size = abs(float(np.mean(b)))
            move = 2 * (1 + s) * radius * (1 + float(np.max(np.abs(values))))
            if (s - 1) * size > (1 + s) * spread(b, n, draws, 3) + move:
                return True
        return False

    return _least(told)


def steps_that_tell(values: np.ndarray, radius: float, n: int, draws: str) -> int:
    """How many steps find an end of twice the spectrum outside of the spectrum."""

    def told(k: int) -> bool:
        for ends in (values, -values[::-1]):
            if 2 * end_reached(ends, k, n, draws) > float(ends[-1]) + 4 * radius:
                return True
        return False

    found = _least(told)
    return found if found <= len(values) else _MANY


def advice(values: np.ndarray, radius: float, draws: str, n: int) -> str:
    """Say how many probes of quadratures, or steps of each, would tell."""
    ways = []
    more = probes_that_tell(values, radius, draws)
    if more < _MANY:
        ways.append(f"n = {more} probes would, by their first two moments")
    steps = steps_that_tell(values, radius, n, draws)
    if steps < _MANY:
        ways.append(f"k = {steps} steps of each would, by their largest node")
    ways.append("one would with its vector (`vectors=`)")
    return "; ".join(ways)


def _least(told: Callable[[int], bool]) -> int:
    """Return the smallest n that tells, found by doubling and halving."""
    high = 1
    while high < _MANY and not told(high):
        high *= 2
    low = high // 2
    while high < _MANY and high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if told(middle) else (middle, high)
    return high


def concentration(
    F: np.ndarray, S: np.ndarray, n: int, draws: str, count: int
) -> np.ndarray:
    """Tail of a quadratic form at FAILURE, shared by `count` of them."""
    t = math.log(2 * count / rounding.FAILURE)
    if draws == "gaussian":
        return np.asarray(2 * F * math.sqrt(t / n) + 2 * S * t / n)
    a = 8 * t * 2 * S  # without its diagonal a matrix has at most twice the norm
    return np.asarray((a + np.sqrt(a**2 + 32 * n * t * F**2)) / (2 * n))
