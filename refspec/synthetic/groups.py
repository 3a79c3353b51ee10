"""Expected Fisher spectra known in closed form: eigenvalues with multiplicities.

Two populations are diagonalised exactly: the canonical classification model of Theorem
8.1, where the misclassification alone sets the spectrum, and independent errors and
features around orthogonal class means, the cleanest Kronecker structure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Group", "canonical_groups", "expect_canonical", "independent_groups"]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """An eigenvalue that a population matrix has with a known multiplicity.

    Parameters
    ----------
    name : str
        What its eigenvectors are.
    value : float
    multiplicity : int
        0 if the group is empty.

    Examples
    --------
    >>> Group("bulk", 1.0, 12).multiplicity
    12
    """

    name: str
    value: float
    multiplicity: int


def canonical_groups(
    C: int, D: int, *, signal: float, alpha: float
) -> tuple[Group, ...]:
    r"""Return the eigenvalues of E G in the canonical classification model.

    Parameters
    ----------
    C, D : int
        Classes and dimension of the inputs, D >= C.
    signal : float
        s = t^2, squared length of every class mean.
    alpha : float
        Predicted misclassification, in (0, (C-1)/C].

    Returns
    -------
    tuple of Group
        ``outlier`` (C times), ``bump`` (C(C-2)), ``bulk`` ((D-C)(C-1)) and ``null``
        (D), in this order.

    Raises
    ------
    ValueError
        As `expect_canonical`.

    Notes
    -----
    Theory: theory/worlds.md#W12. With :math:`k = \alpha / (C-1)` and :math:`a = k (2 -
    \alpha C/(C-1))`: :math:`k s (1 - \alpha) + a`, :math:`k s / C + a`, a, 0.

    References
    ----------
    Papyan (2020), Theorem 8.1.

    Examples
    --------
    >>> [(g.name, g.multiplicity) for g in canonical_groups(3, 5, signal=4, alpha=0.5)]
    [('outlier', 3), ('bump', 3), ('bulk', 4), ('null', 5)]
    """
    expect_canonical(C, D, signal, alpha)
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
    r"""Return the expected Fisher's eigenvalues for orthogonal class means.

    Parameters
    ----------
    C, b, a : int
        Classes, and dimensions of errors and features, both at least C.
    error_norm, feature_norm : float
        Length of every class mean.
    error_noise, feature_noise : float
        Variances of isotropic noise.
    coupling : float
        As in `refspec.synthetic.hierarchy.Plan`.

    Returns
    -------
    tuple of Group
        Multiplicities add to ab; values are not sorted.

    Raises
    ------
    ValueError
        If a dimension is below C.

    Notes
    -----
    Theory: theory/worlds.md#W10. Balanced classes; errors with a class mean and no
    cross-class means.

    Examples
    --------
    >>> groups = independent_groups(
    ...     2, 2, 3, error_norm=2, feature_norm=1, error_noise=0, feature_noise=0)
    >>> [(g.value, g.multiplicity) for g in groups]
    [(2.0, 2), (0.0, 2), (0.0, 2), (0.0, 0), (0.0, 0)]
    """
    if min(a, b) < C:
        raise ValueError(
            f"C = {C} orthogonal means need dimensions >= C, got b = {b}, a = {a}; "
            "raise them"
        )
    d, h = error_norm**2, feature_norm**2
    floor = (1 + coupling) * error_noise * feature_noise
    by_error, by_feature = d * feature_noise / C, error_noise * h / C
    return (
        Group("matched", d * h / C + by_error + by_feature + floor, C),
        Group("mismatched", by_error + by_feature + floor, C * (C - 1)),
        Group("error mean", by_error + floor, C * (a - C)),
        Group("feature mean", by_feature + floor, C * (b - C)),
        Group("noise", floor, (a - C) * (b - C)),
    )


def expect_canonical(C: int, D: int, signal: float, alpha: float) -> None:
    """Check the parameters of the canonical classification model.

    Parameters
    ----------
    C, D : int
        Classes and dimension of the inputs.
    signal : float
        Squared length of the class means.
    alpha : float
        Predicted misclassification.

    Raises
    ------
    ValueError
        If C < 2, D < C, the signal is negative, or alpha is outside (0, (C-1)/C].

    Notes
    -----
    Theory: theory/worlds.md#W11.

    Examples
    --------
    >>> expect_canonical(2, 2, 1.0, 0.5)
    """
    if C < 2 or D < C:
        raise ValueError(
            f"the canonical model needs D >= C >= 2 (one axis a class), got C = {C}, "
            f"D = {D}; raise D"
        )
    if not 0 <= signal < math.inf:
        raise ValueError(
            f"signal s = t^2 must be finite and >= 0, got {signal}; give the squared "
            "length of the class means"
        )
    if not 0 < alpha <= (C - 1) / C:
        raise ValueError(
            f"alpha must satisfy 0 < alpha <= (C-1)/C = {(C - 1) / C:.3g}, got "
            f"{alpha}; it is the predicted misclassification, at most that of chance"
        )
