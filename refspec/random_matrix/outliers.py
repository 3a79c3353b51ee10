r"""What stands out of a law of Wisharts: thresholds, outliers, their eigenvectors.

A signal is a row of a fixed mean of squared length theta^2 and noise of variance t,
seen at v = d t + theta^2. It is an outlier iff v is beyond the support, and then at
psi(v), on average over draws a little further by O(1/d), with a known deviation.
Outliers closer than their deviations mix: all are the eigenvalues of one small random
matrix. Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.optimize

from refspec.random_matrix import free_laws
from refspec.random_matrix.free_laws import FreeLaw

__all__ = [
    "DRAWN",
    "Outliers",
    "deviations",
    "fixed_outliers",
    "mean_shifts",
    "mixed",
    "overlaps",
    "random_deviation",
    "split_threshold",
    "strength_threshold",
]

#: Numbers drawn for the small matrix of outliers that mix.
DRAWN = 2**19


@dataclass(frozen=True, slots=True, eq=False)
class Outliers:
    """Eigenvalues above the bulk.

    Parameters
    ----------
    values : array, shape (r,)
        Expected, descending.
    deviations : array, shape (r,)
        Standard deviation from draw to draw.
    overlaps : array, shape (r,)
        Squared length of the eigenvector's projection on the span of the means; nan
        where not predicted.
    """

    values: np.ndarray
    deviations: np.ndarray
    overlaps: np.ndarray


def split_threshold(d: int, bulk: float, bump: float, scale: float) -> float:
    """Return the scale above which a bump detaches from the bulk, in the limit.

    Parameters
    ----------
    d : int
        Dimension.
    bulk, bump : float
        Degrees of freedom N_3 and N_2 of the two Wishart pieces.
    scale : float
        t_3 of the bulk.

    Returns
    -------
    float
        Smallest t_2 with two bands, inf if none does (N_2 >= d).

    Notes
    -----
    Theory: theory/random_matrix.md#R6. The root t_2 > t_3 of
    ``sqrt(d) (t_2 - t_3) = [(N_3 t_3^2)^(1/3) + (N_2 t_2^2)^(1/3)]^(3/2)``; N_2 = 0
    gives the threshold of Baik, Ben Arous and Peche.

    Examples
    --------
    >>> round(split_threshold(100, 400.0, 0.0, 1.0), 12)
    3.0
    """
    if bump >= d:
        return float("inf")

    def excess(t: float) -> float:
        clouds = np.cbrt(bulk * scale**2) + np.cbrt(bump * t**2)
        return float(np.sqrt(d) * (t - scale) - clouds**1.5)

    top = 2 * scale
    while excess(top) < 0:
        top *= 2
    return float(scipy.optimize.brentq(excess, scale, top, xtol=np.spacing(scale)))


def strength_threshold(law: FreeLaw, row: float) -> float:
    """Return the theta^2 above which a fixed mean is an outlier.

    Parameters
    ----------
    law : FreeLaw
        Of the noise.
    row : float
        t, the variance of the noise in the mean's row.

    Returns
    -------
    float
        Not positive if such a row stands out without a mean.

    Notes
    -----
    Theory: theory/random_matrix.md#R8. v at the right edge less d t.

    References
    ----------
    Baik, Ben Arous and Peche, Ann. Probab. 33 (2005).

    Examples
    --------
    >>> round(strength_threshold(FreeLaw([1.0], [45], 20), 1.0), 9)  # sqrt(20 45)
    30.0
    """
    return float(free_laws.support(law)[-1, 1] - law.dimension * row)


def overlaps(law: FreeLaw, v: np.ndarray, strength: np.ndarray) -> np.ndarray:
    r"""Return the squared cosine of outliers' eigenvectors with their means.

    Parameters
    ----------
    law : FreeLaw
        Of the noise.
    v, strength : array, shape (r,)
        Above the threshold; :math:`\theta^2`.

    Returns
    -------
    array, shape (r,)

    Notes
    -----
    Theory: theory/random_matrix.md#R8. :math:`\psi'(v) \theta^2 / v`.

    References
    ----------
    Benaych-Georges and Nadakuditi, J. Multivariate Anal. 111 (2012).

    Examples
    --------
    >>> law = FreeLaw([1.0], [45], 20)  # the known (1 - c / s^2) / (1 + c / s), c = d/N
    >>> c, s = 20 / 45, 80 / 45
    >>> found = overlaps(law, np.asarray([100.0]), np.asarray([80.0]))[0]
    >>> round(float(found), 12) == round((1 - c / s**2) / (1 + c / s), 12)
    True
    """
    return np.asarray(free_laws.derivative(law, v) * strength / v)


def deviations(law: FreeLaw, v: np.ndarray, strength: np.ndarray) -> np.ndarray:
    r"""Return the standard deviations of the outliers of fixed means.

    Parameters
    ----------
    law : FreeLaw
        Of the noise.
    v, strength : array, shape (r,)
        Above the threshold; :math:`\theta^2`.

    Returns
    -------
    array, shape (r,)

    Notes
    -----
    Theory: theory/random_matrix.md#R8. :math:`\sqrt{2 \psi' (v^2 - \psi' \theta^4) /
    d}`, real Gaussian data.

    Examples
    --------
    >>> law = FreeLaw([1.0], [45], 20)
    >>> far = deviations(law, np.asarray([1e9]), np.asarray([1e9 - 20]))[0]
    >>> round(float(far / (2 * 1e9**0.5)), 3)  # of |theta u + g|^2
    1.0
    """
    return np.asarray(np.sqrt(2 * np.diag(_spread(law, v, strength))))


def random_deviation(law: FreeLaw, scale: float) -> float:
    r"""Return the standard deviation of the outlier of one random effect.

    Parameters
    ----------
    law : FreeLaw
        Of the noise.
    scale : float
        t, the variance of the effect's row; d t above the threshold.

    Returns
    -------
    float

    Notes
    -----
    Theory: theory/random_matrix.md#R8. :math:`\sqrt{2 d \psi'(d t)}\, t`.

    References
    ----------
    Paul, Statist. Sinica 17 (2007); Bai and Yao, Ann. IHP 44 (2008).

    Examples
    --------
    >>> law = FreeLaw([1.0], [45], 20)
    >>> round(random_deviation(law, 5.0) ** 2, 6)  # psi' = 1 - 45 * 20 / 80^2
    859.375
    """
    v = np.asarray([law.dimension * scale])
    rate = float(free_laws.derivative(law, v)[0])
    return float(np.sqrt(2 * law.dimension * rate) * scale)


def mean_shifts(law: FreeLaw, v: np.ndarray, strength: np.ndarray) -> np.ndarray:
    r"""Return E lambda_k - psi(v_k) of the outliers of fixed means, to order 1 / d.

    Parameters
    ----------
    law : FreeLaw
        Of the noise.
    v, strength : array, shape (q,)
        Of all fixed means, distinct v; :math:`\theta^2`.

    Returns
    -------
    array, shape (q,)
        Meaningful above the threshold, for v further apart than their deviations.

    Notes
    -----
    Theory: theory/random_matrix.md#R8.

    .. math:: \sum_{l \ne k} \frac{v_k v_l - \psi'(v_k) \theta_k^2 \theta_l^2}
              {d (v_k - v_l)} - \frac{\psi''(v_k) \theta_k^4}{d}

    The means of random effects repel by :math:`v_k v_l / (d (v_k - v_l))` alone
    (Lawley); part of that is the spread of their lengths, which fixed means lack.

    Examples
    --------
    >>> law = FreeLaw([1.0], [45], 20)
    >>> v = np.asarray([300.0, 200.0])
    >>> bool(np.all(np.abs(mean_shifts(law, v, v - 20.0)) < 0.1 * v))
    True
    """
    gaps = v[:, None] - v
    np.fill_diagonal(gaps, np.inf)
    pull = _pull(law, (v, strength), (v, strength)) / gaps
    return np.asarray(np.sum(pull, axis=1) - _self_shift(law, v, strength))


def fixed_outliers(
    law: FreeLaw, v: np.ndarray, strength: np.ndarray, *, seed: int = 0
) -> Outliers:
    r"""Predict the outliers of fixed means: expected values, deviations, overlaps.

    Parameters
    ----------
    law : FreeLaw
        Of the noise.
    v, strength : array, shape (q,)
        Of all fixed means, descending v; :math:`\theta^2`.
    seed : int
        Of the small matrix.

    Returns
    -------
    Outliers
        Of those above the threshold.

    Notes
    -----
    Theory: theory/random_matrix.md#R8. The outliers are the eigenvalues of a q x q
    matrix with :math:`\psi(v_k) - \psi'' \theta_k^4 / d` on the diagonal and Gaussian
    noise, whose second-order perturbation is `mean_shifts`. Means of equal length need
    all of it.

    Examples
    --------
    >>> law = FreeLaw([1.0], [450], 200)
    >>> v = np.asarray([3000.0, 2000.0])
    >>> made = fixed_outliers(law, v, v - 200)
    >>> expected = free_laws.location(law, v) + mean_shifts(law, v, v - 200)
    >>> bool(np.all(np.abs(made.values - expected) < made.deviations / 20))
    True
    """
    seen = v > free_laws.support(law)[-1, 1]
    outer, theta2 = v[seen], strength[seen]
    hidden = v[~seen], strength[~seen]
    pull = _pull(law, (outer, theta2), hidden) / (outer[:, None] - hidden[0])
    shift = np.sum(pull, axis=1) - _self_shift(law, outer, theta2)
    centres = free_laws.location(law, outer) + shift
    values, spread = mixed(centres, _spread(law, outer, theta2), seed=seed)
    return Outliers(values, spread, overlaps(law, outer, theta2))


def mixed(
    centres: np.ndarray, variances: np.ndarray, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return means and deviations of the ordered eigenvalues of a small random matrix.

    Parameters
    ----------
    centres : array, shape (r,)
        The expected diagonal.
    variances : array, shape (r, r)
        Of the off-diagonal entries; those of the diagonal are twice as large.
    seed : int
        Of the draws, in pairs of opposite noise.

    Returns
    -------
    means, deviations : array, shape (r,)
        Descending; of a few thousand draws.

    Notes
    -----
    Theory: theory/random_matrix.md#R8.

    Examples
    --------
    >>> means, deviations = mixed(np.zeros(2), np.ones((2, 2)))
    >>> bool(np.all(np.abs(means - [(np.pi / 2) ** 0.5, -((np.pi / 2) ** 0.5)]) < 0.03))
    True
    """
    r = len(centres)
    if r < 2:
        return np.asarray(centres), np.sqrt(2 * np.diag(variances))
    pairs = max(64, DRAWN // r**3)
    upper = np.triu(np.random.default_rng(seed).standard_normal((pairs, r, r)))
    noise = (upper + np.swapaxes(upper, 1, 2)) * np.sqrt(variances)
    noise[:, range(r), range(r)] /= np.sqrt(2)
    centre = np.diag(centres)
    both = np.concatenate([centre + noise, centre - noise])
    drawn = np.linalg.eigvalsh(both)[:, ::-1]
    return np.mean(drawn, axis=0), np.std(drawn, axis=0)


def _spread(law: FreeLaw, v: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Return the variances of the off-diagonal entries of the outliers' matrix."""
    rate = np.sqrt(free_laws.derivative(law, v))
    inner = np.outer(v, v) - np.outer(rate * strength, rate * strength)
    return np.asarray(np.outer(rate, rate) * inner / law.dimension)


def _pull(
    law: FreeLaw,
    of: tuple[np.ndarray, np.ndarray],
    by: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return (v_k v_l - psi'(v_k) theta_k^2 theta_l^2) / d, rows k and columns l."""
    rate = free_laws.derivative(law, of[0])
    moved = np.outer(of[0], by[0]) - np.outer(rate * of[1], by[1])
    return np.asarray(moved / law.dimension)


def _self_shift(law: FreeLaw, v: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Return psi''(v) theta^4 / d."""
    return np.asarray(free_laws.curvature(law, v) * strength**2 / law.dimension)
