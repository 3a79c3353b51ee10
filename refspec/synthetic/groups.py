"""Expected Fisher spectra known in closed form: eigenvalues with multiplicities.

Two populations are diagonalised exactly: the canonical classification model of Theorem
8.1, where the misclassification alone sets the spectrum, and independent errors and
features around orthogonal class means, the cleanest Kronecker structure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from refspec import checks
from refspec.populations import WIDEST, expect_count, expect_length


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """An eigenvalue that a population matrix has with a known multiplicity.

    Parameters
    ----------
    name : str
        What its eigenvectors are.
    value : float
    multiplicity : int, 0 if the group is empty
    """

    name: str
    value: float
    multiplicity: int


def canonical_groups(
    C: int, D: int, *, signal: float, alpha: float
) -> tuple[Group, ...]:
    r"""Return the eigenvalues of E G in the canonical classification model.

    ``outlier`` (C times), ``bump`` (C(C-2)), ``bulk`` ((D-C)(C-1)) and ``null`` (D).
    Theory: theory/logistic.md#W12.
    """
    C, D, signal, alpha = expect_canonical(C, D, signal, alpha)
    k = alpha / (C - 1)
    bulk = k * (2 - alpha * C / (C - 1))
    return (
        Group("outlier", k * signal * (1 - alpha) + bulk, C),
        Group("bump", k * signal / C + bulk, C * (C - 2)),
        Group("bulk", bulk, (D - C) * (C - 1)),
        Group("null", 0.0, D),
    )


def independent_groups(
    C: int,
    b: int,
    a: int,
    *,
    error_norm: float,
    feature_norm: float,
    error_noise: float,
    feature_noise: float,
    coupling: float = 0.0,
) -> tuple[Group, ...]:
    """Return the expected Fisher's eigenvalues for orthogonal class means, not sorted.

    Balanced classes, isotropic noise, no cross-class means, b and a at least C;
    multiplicities add to ab. Theory: theory/expectations.md#W10.
    """
    C = expect_count("C", C, 2, WIDEST)
    b, a = expect_count("b", b), expect_count("a", a)
    if min(a, b) < C:
        raise ValueError(
            f"b and a must be >= C = {C} for orthogonal means, got b = {b}, a = {a}; "
            "raise them"
        )
    d = expect_length("error_norm", error_norm) ** 2
    h = expect_length("feature_norm", feature_norm) ** 2
    vd = checks.expect_positive("error_noise", error_noise, zero=True)
    vh = checks.expect_positive("feature_noise", feature_noise, zero=True)
    floor = (1 + checks.expect_number("coupling", coupling)) * vd * vh
    by_error, by_feature = d * vh / C, vd * h / C
    if not math.isfinite(d * h + by_error + by_feature + floor):
        raise ValueError(
            "error_norm, feature_norm and both noises must have finite products, got "
            f"{error_norm}, {feature_norm}, {error_noise}, {feature_noise}; scale down"
        )
    return (
        Group("matched", d * h / C + by_error + by_feature + floor, C),
        Group("mismatched", by_error + by_feature + floor, C * (C - 1)),
        Group("error mean", by_error + floor, C * (a - C)),
        Group("feature mean", by_feature + floor, C * (b - C)),
        Group("noise", floor, (a - C) * (b - C)),
    )


def expect_canonical(
    C: int, D: int, signal: float, alpha: float
) -> tuple[int, int, float, float]:
    """Check the parameters of the canonical classification model and return them.

    D >= C >= 2, a squared length s >= 0 and a predicted misclassification in
    (0, (C-1)/C]. Theory: theory/logistic.md#W11.
    """
    C, D = expect_count("C", C, 2, WIDEST), expect_count("D", D)
    if D < C:
        raise ValueError(
            f"D must be >= C in the canonical model (one axis a class), got C = {C}, "
            f"D = {D}; raise D"
        )
    signal = checks.expect_positive("signal", signal, zero=True)
    alpha = checks.expect_number("alpha", alpha)
    if not 0 < alpha <= (C - 1) / C:
        raise ValueError(
            f"alpha must satisfy 0 < alpha <= (C-1)/C = {(C - 1) / C:.3g}, got "
            f"{alpha}; it is the predicted misclassification, at most that of chance"
        )
    return C, D, signal, alpha
