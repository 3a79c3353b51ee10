"""Covariances to plant, and noise that has them.

A covariance is a number (isotropic), a vector (d,) of variances (diagonal) or a matrix
(d, d); the cheapest of the three that says what is meant. Noise is Z R' with R R' the
covariance and Z of independent entries of mean 0 and variance exactly 1, Gaussian or
heavy-tailed, so that every second moment is known whatever the law. Host arithmetic:
worlds are drawn in NumPy and converted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.linalg

from refspec import rounding

__all__ = [
    "LAWS",
    "expect_law",
    "low_rank_plus_noise",
    "power_law",
    "root",
    "standard",
    "times_root",
    "toeplitz",
]

#: Laws of the entries of Z: all of mean 0 and variance 1.
LAWS = ("gaussian", "laplace", "student")


def power_law(d: int, exponent: float, scale: float = 1.0) -> np.ndarray:
    r"""Return variances that fall as a power of their rank.

    Parameters
    ----------
    d : int
        Dimension.
    exponent : float
        At least 0; 0 is isotropic.
    scale : float
        The largest variance, at least 0.

    Returns
    -------
    array, shape (d,)
        ``scale * k ** -exponent`` for k = 1..d.

    Raises
    ------
    ValueError
        If the dimension is below 1, or the exponent or the scale negative.

    Notes
    -----
    Theory: theory/worlds.md#W1.

    Examples
    --------
    >>> power_law(3, 1.0).tolist() == [1.0, 1 / 2, 1 / 3]
    True
    """
    _expect_dimension(d)
    _expect_at_least_0("power-law exponent", exponent)
    _expect_at_least_0("power-law scale", scale)
    return scale * np.arange(1, d + 1, dtype=np.float64) ** -exponent


def low_rank_plus_noise(factor: np.ndarray, noise: float) -> np.ndarray:
    """Return a covariance of a few strong directions above a floor.

    Parameters
    ----------
    factor : array, shape (d, r)
        Directions, as columns, scaled by their standard deviations.
    noise : float
        Variance of the floor, at least 0.

    Returns
    -------
    array, shape (d, d)
        ``factor factor' + noise I``: eigenvalues noise (d - r times at least) and noise
        plus the squared singular values of the factor.

    Raises
    ------
    ValueError
        If the factor is not a finite matrix or the noise negative.

    Notes
    -----
    Theory: theory/worlds.md#W1.

    Examples
    --------
    >>> low_rank_plus_noise(np.asarray([[2.0], [0.0]]), 1.0).tolist()
    [[5.0, 0.0], [0.0, 1.0]]
    """
    factor = np.asarray(factor, dtype=np.float64)
    if factor.ndim != 2 or not np.all(np.isfinite(factor)):
        raise ValueError(
            f"factor must be a finite matrix (d, r), got shape {factor.shape}; "
            "give the strong directions as columns"
        )
    _expect_at_least_0("noise", noise)
    return np.asarray(factor @ factor.T + noise * np.eye(factor.shape[0]))


def toeplitz(d: int, correlation: float, variance: float = 1.0) -> np.ndarray:
    r"""Return the covariance of a stationary first-order autoregression.

    Parameters
    ----------
    d : int
        Dimension.
    correlation : float
        Of neighbours, in [-1, 1].
    variance : float
        Of each coordinate, at least 0.

    Returns
    -------
    array, shape (d, d)
        ``variance * correlation ** |j - k|``, positive semidefinite.

    Raises
    ------
    ValueError
        If the correlation lies outside [-1, 1] or the variance is negative.

    Notes
    -----
    Theory: theory/worlds.md#W1.

    Examples
    --------
    >>> toeplitz(3, 0.5)[0].tolist()
    [1.0, 0.5, 0.25]
    """
    _expect_dimension(d)
    _expect_at_least_0("variance", variance)
    if not abs(correlation) <= 1:
        raise ValueError(
            f"correlation must lie in [-1, 1] for a positive semidefinite Toeplitz "
            f"matrix, got {correlation}; give the correlation of neighbours"
        )
    lags = np.arange(d)
    return variance * np.asarray(scipy.linalg.toeplitz(float(correlation) ** lags))


def root(covariance: Any, d: int, name: str = "covariance") -> np.ndarray | float:
    r"""Return R with R R' = covariance, in the form of the covariance.

    Parameters
    ----------
    covariance : float, array (d,) or array (d, d)
        Positive semidefinite within rounding.
    d : int
        Dimension.
    name : str
        For the error message.

    Returns
    -------
    float, array (d,) or array (d, d)
        Standard deviations, or the symmetric square root.

    Raises
    ------
    ValueError
        If it is not a covariance of dimension d: shape, symmetry, finiteness, sign.

    Notes
    -----
    Theory: theory/worlds.md#W1. An eigenvalue is rounding, and taken as 0, while its
    magnitude is at most 2 gamma_{d+2} tr |A|, from forming A as a product, plus the
    solver's d u ||A||.

    Examples
    --------
    >>> root(4.0, 3)
    2.0
    >>> root(np.asarray([[2.0, 0.0], [0.0, 0.0]]), 2).tolist()[1]
    [0.0, 0.0]
    """
    a = np.asarray(covariance, dtype=np.float64)
    if a.shape not in ((), (d,), (d, d)) or not np.all(np.isfinite(a)):
        raise ValueError(
            f"{name} must be a finite number, a vector (d,) or a matrix (d, d) with "
            f"d = {d}, got shape {a.shape}; match it to the dimension of the layer"
        )
    if a.ndim < 2:
        if a.min(initial=0.0) < 0:
            raise ValueError(
                f"{name} must be positive semidefinite, got a variance of "
                f"{a.min():.3g}; variances are >= 0"
            )
        return math.sqrt(float(a)) if a.ndim == 0 else np.sqrt(a)
    off = float(np.max(np.abs(a - a.T)))
    slack = 2 * rounding.gamma(d + 2, 2.0**-53) * float(np.sum(np.abs(np.diag(a))))
    if off > slack:
        raise ValueError(
            f"{name} must be symmetric, got entries that differ from their mirror by "
            f"{off:.3g}; give (A + A') / 2"
        )
    values, vectors = scipy.linalg.eigh((a + a.T) / 2)
    slack += rounding.eigensolver_radius(d, float(np.max(np.abs(values))), 2.0**-53)
    if values[0] < -slack:
        raise ValueError(
            f"{name} must be positive semidefinite, got a smallest eigenvalue of "
            f"{values[0]:.3g}; shift it, e.g. A + {-values[0]:.3g} I"
        )
    half: np.ndarray = (
        vectors * np.sqrt(np.where(values > slack, values, 0))
    ) @ vectors.T
    return half


def expect_law(law: str, dof: float | None) -> None:
    """Check the name of a law and its degrees of freedom.

    Parameters
    ----------
    law : {"gaussian", "laplace", "student"}
        Law of the entries.
    dof : float or None
        Degrees of freedom, above 2; for Student's law and no other.

    Raises
    ------
    ValueError
        If the law is unknown, or its degrees of freedom missing, extra or too few.

    Notes
    -----
    Theory: theory/worlds.md#W2.

    Examples
    --------
    >>> expect_law("student", 3.0)
    """
    if law not in LAWS:
        raise ValueError(f"law must be one of {LAWS}, got {law!r}; choose one of these")
    if (law == "student") != (dof is not None):
        raise ValueError(
            "dof must be given for the student law and for no other, got "
            f"law={law!r}, dof={dof}; set or drop it"
        )
    if dof is not None and not 2 < dof < math.inf:
        raise ValueError(
            f"dof must satisfy 2 < dof < inf (a finite variance to normalise), got "
            f"{dof}; use law='gaussian' for the limit"
        )


def standard(
    shape: tuple[int, ...],
    *,
    rng: np.random.Generator,
    law: str = "gaussian",
    dof: float | None = None,
) -> np.ndarray:
    r"""Draw independent entries of mean 0 and variance exactly 1.

    Parameters
    ----------
    shape : tuple of int
        Shape of the draw.
    rng : numpy.random.Generator
        Source of randomness.
    law : {"gaussian", "laplace", "student"}
        Law of each entry.
    dof : float, optional
        Degrees of freedom of Student's law, above 2.

    Returns
    -------
    array

    Raises
    ------
    ValueError
        As `expect_law`.

    Notes
    -----
    Theory: theory/worlds.md#W2. Laplace of scale :math:`1/\sqrt 2`; Student's t divided
    by its standard deviation :math:`\sqrt{\nu / (\nu - 2)}`.

    Examples
    --------
    >>> standard((2, 3), rng=np.random.default_rng(0), law="laplace").shape
    (2, 3)
    """
    expect_law(law, dof)
    if law == "laplace":
        return np.asarray(rng.laplace(scale=math.sqrt(0.5), size=shape))
    if law == "student":
        assert dof is not None
        return np.asarray(rng.standard_t(dof, size=shape)) * math.sqrt((dof - 2) / dof)
    return rng.standard_normal(shape)


def times_root(z: np.ndarray, half: np.ndarray | float) -> np.ndarray:
    """Give unit noise the covariance of which `half` is a root: Z R'.

    Parameters
    ----------
    z : array, shape (..., d)
        Independent entries of variance 1.
    half : float, array (d,) or array (d, d)
        From `root`.

    Returns
    -------
    array, shape (..., d)

    Notes
    -----
    Theory: theory/worlds.md#W1.

    Examples
    --------
    >>> times_root(np.ones(2), np.asarray([1.0, 3.0])).tolist()
    [1.0, 3.0]
    """
    matrix = isinstance(half, np.ndarray) and half.ndim == 2
    return z @ half.T if matrix else z * half  # type: ignore[union-attr]


def _expect_dimension(d: int) -> None:
    if d < 1:
        raise ValueError(f"dimension d must be >= 1, got {d}; give a positive integer")


def _expect_at_least_0(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and >= 0, got {value}; correct it")
