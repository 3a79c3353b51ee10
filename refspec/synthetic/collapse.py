r"""Neural collapse: the last layer of a network that is fitted all the way.

Features are their class means, a regular simplex around the global mean; probabilities
are :math:`1 - \alpha` on the own class and even elsewhere. Then the symmetry of the
classes leaves the Fisher information four eigenvalues, and its picture is the paper's:
C outliers, a bump, and nothing within.
"""

from __future__ import annotations

import math

import numpy as np

from refspec import checks
from refspec.classes import Layer, Snapshot, misses, snapshot
from refspec.populations import expect_length
from refspec.synthetic import geometry
from refspec.synthetic.groups import Group, expect_canonical


def collapsed(
    C: int, *, signal: float, alpha: float, mean: float = 0.0, per_class: int = 1
) -> Snapshot:
    """Return the last layer at collapse, C + 1 features, the last of which is constant.

    signal: squared distance of a class from the global mean; mean: that mean's length.
    Theory: theory/collapse.md#N1.
    """
    C, _, signal, alpha = expect_canonical(C, C, signal, alpha)
    length = expect_length("mean", mean)
    labels = np.repeat(np.arange(C), checks.expect_size("per_class", per_class))
    means = np.full((C, C + 1), length)
    means[:, :C] = centred(C) * math.sqrt(signal / (1 - 1 / C))
    p = geometry.confusion(C, alpha)
    errors = misses(p[:, None, :], np.eye(C), np)
    made = Layer("last", means[labels][:, None, :], errors[labels][:, :, None, :])
    return snapshot([made], labels, probabilities=p[labels])


def centred(C: int) -> np.ndarray:
    """Return e_c - 1/C, a regular simplex, (C, C)."""
    return np.eye(C) - 1 / C


def collapsed_groups(
    C: int, *, signal: float, alpha: float, mean: float = 0.0
) -> tuple[Group, ...]:
    """Return the eigenvalues of the Fisher information at collapse.

    ``matched`` once, ``class`` and ``global mean`` C - 1 times, ``bump`` C^2 - 3C + 1
    times, ``null`` 2C. Theory: theory/collapse.md#N1.
    """
    C, _, signal, alpha = expect_canonical(C, C, signal, alpha)
    each, by_mean, sure = _scales(C, signal, alpha, expect_length("mean", mean))
    # of the class part, and of what its errors make of the global mean
    inner = sure * math.sqrt(each * by_mean * (C - 2))
    one, other = each * (1 + sure * (C - 2)), by_mean * (1 + sure)
    half, middle = math.hypot((one - other) / 2, inner), (one + other) / 2
    pair = (middle + half, middle - half)
    if C == 2:  # the two classes have one direction, that of `matched`
        pair = (0.0, other)
    return (
        Group("matched", each * (1 + sure * (C - 1)), 1),
        Group("class", pair[0], C - 1 if C > 2 else 0),
        Group("global mean", pair[1], C - 1),
        Group("bump", each, max(0, C * C - 3 * C + 1)),
        Group("null", 0.0, 2 * C),
    )


def collapsed_kfac_groups(
    C: int, *, signal: float, alpha: float, mean: float = 0.0
) -> tuple[Group, ...]:
    """Return the eigenvalues of KFAC at collapse: no class structure in them.

    Theory: theory/collapse.md#N3.
    """
    C, _, signal, alpha = expect_canonical(C, C, signal, alpha)
    each, by_mean, sure = _scales(C, signal, alpha, expect_length("mean", mean))
    return (
        Group("flat", each * (1 + sure), (C - 1) ** 2),
        Group("global mean", by_mean * (1 + sure), C - 1),
        Group("null", 0.0, 2 * C),
    )


def _scales(
    C: int, signal: float, alpha: float, mean: float
) -> tuple[float, float, float]:
    """Return s^2 e / C, g^2 e and 1 - C e, the parts of all eigenvalues."""
    even = alpha / (C - 1)
    return signal * even / (C - 1), mean * mean * even, max(0.0, 1 - C * even)
