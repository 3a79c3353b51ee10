r"""The limiting spectrum of a sum of independent isotropic Wishart matrices.

.. math:: M = \sum_j t_j \sum_{k \le N_j} g_{jk} g_{jk}', \qquad g \sim N(0, I_d)

The law is read off the map (Marchenko and Pastur; Silverstein and Choi)

.. math:: \psi(v) = v + \sum_j N_j t_j \frac{v}{v - d t_j}, \qquad m(\psi(v)) = -1/v

from a curve of the upper half plane to the real axis. The curve is a graph: above each
real u lies at most one v = u + iy with psi(v) real, and y > 0 exactly where
h(u) = 1 - psi'(u) > 1. So bands, density and distribution function need no grid in x,
no polynomial roots and no quadrature. Host arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = [
    "FreeLaw",
    "cumulative",
    "curvature",
    "curve",
    "derivative",
    "edge_scale",
    "location",
    "support",
]

_BISECTIONS = 200  # halvings of an interval of doubles; fewer are always enough


@dataclass(frozen=True, slots=True, eq=False)
class FreeLaw:
    """The spectral law of sum_j t_j Wishart_{N_j}(I_d).

    Parameters
    ----------
    scales : array, shape (J,)
        t_j > 0, ascending and distinct.
    counts : array, shape (J,)
        N_j > 0, degrees of freedom.
    dimension : int
        d.

    Raises
    ------
    ValueError
        If scales or counts are not positive, or scales not ascending.

    Examples
    --------
    >>> FreeLaw([1.0, 2.0], [30, 10], 20).poles.tolist()
    [20.0, 40.0]
    """

    scales: np.ndarray
    counts: np.ndarray
    dimension: int

    def __post_init__(self) -> None:
        t = np.array(self.scales, dtype=np.float64)
        N = np.array(self.counts, dtype=np.float64)
        if t.ndim != 1 or t.shape != N.shape or not len(t):
            raise ValueError(
                f"scales and counts must both have shape (J,), J >= 1, got {t.shape} "
                f"and {N.shape}; give one count per scale"
            )
        if not (np.all(t > 0) and np.all(N > 0) and np.all(np.diff(t) > 0)):
            raise ValueError(
                "scales must be positive and ascending and counts positive, got scales "
                f"from {t[0]} to {t[-1]}, smallest count {N.min()}; merge equal scales"
            )
        object.__setattr__(self, "scales", t)
        object.__setattr__(self, "counts", N)

    @property
    def poles(self) -> np.ndarray:
        """Poles d t_j of psi."""
        return self.dimension * self.scales

    @property
    def atom(self) -> float:
        """Mass at 0."""
        return max(0.0, 1 - float(np.sum(self.counts)) / self.dimension)


def location(law: FreeLaw, v: np.ndarray) -> np.ndarray:
    r"""Return psi(v) = v + sum_j N_j t_j v / (v - d t_j), real or complex.

    Parameters
    ----------
    law : FreeLaw
        The law.
    v : array, shape (n,)
        Not a pole.

    Returns
    -------
    array, shape (n,)

    Notes
    -----
    Theory: theory/random_matrix.md#R2. Outside the support, psi of a spike's v is where
    its eigenvalue lies.

    References
    ----------
    Silverstein and Choi, J. Multivariate Anal. 54 (1995).

    Examples
    --------
    >>> location(FreeLaw([1.0], [30], 20), np.asarray([50.0])).tolist()
    [100.0]
    """
    v = np.asarray(v)
    ratio = v[..., None] / (v[..., None] - law.poles)
    return np.asarray(v + np.sum(law.counts * law.scales * ratio, axis=-1))


def derivative(law: FreeLaw, v: np.ndarray) -> np.ndarray:
    """Return psi'(v) = 1 - sum_j N_j t_j d t_j / (v - d t_j)^2.

    Parameters
    ----------
    law : FreeLaw
        The law.
    v : array, shape (n,)
        Not a pole.

    Returns
    -------
    array, shape (n,)

    Notes
    -----
    Theory: theory/random_matrix.md#R2.

    Examples
    --------
    >>> derivative(FreeLaw([1.0], [30], 20), np.asarray([50.0])).tolist() == [1 - 2 / 3]
    True
    """
    return np.asarray(1 - _pole_sum(law, np.asarray(v), 2))


def curvature(law: FreeLaw, v: np.ndarray) -> np.ndarray:
    """Return psi''(v) = 2 sum_j N_j t_j d t_j / (v - d t_j)^3.

    Parameters
    ----------
    law : FreeLaw
        The law.
    v : array, shape (n,)
        Not a pole.

    Returns
    -------
    array, shape (n,)

    Notes
    -----
    Theory: theory/random_matrix.md#R2.

    Examples
    --------
    >>> float(curvature(FreeLaw([1.0], [45], 20), np.asarray([50.0]))[0]) == 1 / 15
    True
    """
    return np.asarray(2 * _pole_sum(law, np.asarray(v), 3))


def support(law: FreeLaw) -> np.ndarray:
    r"""Return the ends of the bands in v: h > 1 between them.

    Parameters
    ----------
    law : FreeLaw
        The law.

    Returns
    -------
    array, shape (bands, 2)
        Ascending; ``location`` of it gives the bands in x.

    Notes
    -----
    Theory: theory/random_matrix.md#R3. Between two poles h is convex, so h < 1 holds on
    one interval or none: the zero of h' is bracketed, and both ends by it and the
    poles. The outermost ends lie within :math:`\sqrt{d \sum_j N_j t_j^2}` of the
    outermost poles. For N = d the lowest end is v = 0, not a band of finite density.

    References
    ----------
    Silverstein and Choi, J. Multivariate Anal. 54 (1995).

    Examples
    --------
    >>> law = FreeLaw([1.0], [45], 20)
    >>> v = support(law)
    >>> bool(abs(location(law, v)[0, 1] - (45**0.5 + 20**0.5) ** 2) < 1e-12 * 45)
    True
    """
    poles = law.poles

    def excess(v: float) -> float:
        return float(_pole_sum(law, np.asarray(v), 2)) - 1

    def slope(v: float) -> float:
        return -float(_pole_sum(law, np.asarray(v), 3))

    strength = law.counts * law.scales * poles
    reach = 2 * float(np.sqrt(np.sum(strength)))
    # the two nearest poles alone keep h > 1 in most gaps: h >= clouds^3 / width^2
    clouds = np.cbrt(strength[:-1]) + np.cbrt(strength[1:])
    gaps = []
    for k in np.flatnonzero(clouds**1.5 < np.diff(poles)):
        left, right = float(poles[k]), float(poles[k + 1])
        bottom = _root(slope, left, right, rising=True)
        if excess(bottom) < 0:
            gaps.append(_root(excess, left, bottom, rising=False))
            gaps.append(_root(excess, bottom, right, rising=True))
    right_end = _root(excess, poles[-1], poles[-1] + reach, rising=False)
    if law.atom > 0:
        left_end = _root(excess, 0.0, float(poles[0]), rising=True)
    elif excess(0.0) > 0:
        left_end = _root(excess, -reach, 0.0, rising=True)
    else:
        left_end = 0.0
    return np.reshape(np.asarray([left_end, *gaps, right_end]), (-1, 2))


def curve(law: FreeLaw, u: np.ndarray) -> np.ndarray:
    """Return the point v = u + iy of the curve above each u, y >= 0.

    Parameters
    ----------
    law : FreeLaw
        The law.
    u : array, shape (n,)
        Real parts; y = 0 outside the bands.

    Returns
    -------
    array of complex, shape (n,)
        ``location`` of it is real within rounding and increases with u; the density
        there is ``imag(-1 / v) / pi``.

    Notes
    -----
    Theory: theory/random_matrix.md#R4. With s = y^2, g(s) = sum_j N_j t_j d t_j / ((u -
    d t_j)^2 + s) = 1. 1/g is concave and increasing, so Newton's method on 1/g = 1 from
    a lower bound of s increases to the root without safeguard. Cost O(n J) a step, few
    steps.

    Examples
    --------
    >>> curve(FreeLaw([1.0], [45], 20), np.asarray([20.0])).tolist() == [20 + 30j]
    True
    """
    u = np.asarray(u, dtype=np.float64)
    strength = law.counts * law.scales * law.poles
    gap2 = (u[:, None] - law.poles) ** 2
    s = np.maximum(0.0, np.max(strength - gap2, axis=-1))
    for _ in range(_BISECTIONS):
        inverse = 1 / (gap2 + s[:, None])
        g = np.sum(strength * inverse, axis=-1)
        rise = np.sum(strength * inverse**2, axis=-1)
        step = np.where(g > 1, (g - 1) * g / rise, 0.0)
        new = s + step
        if np.all(new <= s):
            break
        s = new
    return np.asarray(u + 1j * np.sqrt(s))


def cumulative(law: FreeLaw, v: np.ndarray) -> np.ndarray:
    r"""Return the distribution function at the points psi(v) of the curve.

    Parameters
    ----------
    law : FreeLaw
        The law.
    v : array of complex, shape (n,)
        From `curve`.

    Returns
    -------
    array, shape (n,)
        F, with its atom at 0; exact, no quadrature.

    Notes
    -----
    Theory: theory/random_matrix.md#R5. With n_j = N_j / d and all arguments in [0, pi],

    .. math:: F = 1 - \frac1\pi \Im\Big[\log v + \sum_j n_j (\log(v - d t_j) - \log v)
              + \sum_j \frac{N_j t_j}{v - d t_j}\Big]

    Examples
    --------
    >>> law = FreeLaw([1.0], [45], 20)
    >>> F = cumulative(law, curve(law, np.asarray([-40.0, 90.0])))
    >>> [round(float(f), 9) for f in F]
    [0.0, 1.0]
    """
    v = np.asarray(v, dtype=np.complex128)
    from_poles = v[:, None] - law.poles
    share = law.counts / law.dimension
    pole_angles = np.sum(share * np.angle(from_poles), axis=-1)
    angles = (1 - np.sum(share)) * np.angle(v) + pole_angles
    swing = np.sum(law.counts * law.scales * _imaginary_inverse(from_poles), axis=-1)
    return np.asarray(1 - (angles + swing) / np.pi)


def edge_scale(law: FreeLaw, v: np.ndarray) -> np.ndarray:
    r"""Return the scale s of the fluctuations of an extreme eigenvalue at an edge.

    Parameters
    ----------
    law : FreeLaw
        The law.
    v : array, shape (n,)
        Ends of bands, from `support`.

    Returns
    -------
    array, shape (n,)
        The extreme eigenvalue is the edge plus (right) or minus (left) s times a
        variable of the Tracy-Widom law TW1, in the limit. 0 at v = 0, no soft edge.

    Notes
    -----
    Theory: theory/random_matrix.md#R7. :math:`s = d^{-2/3} (|\psi''(v)| / 2)^{1/3}
    |v|^{4/3}`.

    References
    ----------
    El Karoui, Ann. Probab. 35 (2007).

    Examples
    --------
    >>> law = FreeLaw([1.0], [45], 20)
    >>> a, b = 45**0.5, 20**0.5  # Johnstone's constant for one Wishart matrix
    >>> johnstone = (a + b) * (1 / a + 1 / b) ** (1 / 3)
    >>> round(float(edge_scale(law, support(law)[:, 1])[0]) / johnstone, 9)
    1.0
    """
    bend = np.abs(curvature(law, v)) / 2
    return np.asarray(np.cbrt(bend * np.abs(v) ** 4 / law.dimension**2))


def _pole_sum(law: FreeLaw, v: np.ndarray, power: int) -> np.ndarray:
    """Return sum_j N_j t_j d t_j / (v - d t_j)^power, infinite on a pole."""
    strength = law.counts * law.scales * law.poles
    with np.errstate(divide="ignore"):
        return np.asarray(np.sum(strength / (v[..., None] - law.poles) ** power, -1))


def _imaginary_inverse(x: np.ndarray) -> np.ndarray:
    """Return Im(1 / x), 0 for real x."""
    return np.asarray(-x.imag / np.where(x == 0, 1, np.abs(x) ** 2))


def _root(
    f: Callable[[float], float], low: float, high: float, *, rising: bool
) -> float:
    """Bisect the sign change of f inside (low, high) down to neighbouring doubles."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if (f(middle) > 0) == rising:
            high = middle
        else:
            low = middle
    return (low + high) / 2
