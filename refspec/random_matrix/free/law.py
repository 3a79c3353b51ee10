r"""The limiting spectrum of a sum of independent isotropic Wishart matrices.

.. math:: M = \sum_j t_j \sum_{k \le N_j} g_{jk} g_{jk}', \qquad g \sim N(0, I_d)

The law is read off the map (Marchenko and Pastur; Silverstein and Choi)

.. math:: \psi(v) = v + \sum_j N_j t_j \frac{v}{v - d t_j}, \qquad m(\psi(v)) = -1/v

from a curve of the upper half plane to the real axis. The curve is a graph: above each
real u lies at most one v = u + iy with psi(v) real, and y > 0 exactly where
h(u) = 1 - psi'(u) > 1. So bands, density and distribution function need no grid in x,
no polynomial roots and no quadrature
(Theory: theory/random_matrix.md#R2, #R4, #R5). Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec import checks

_NEWTON = 200  # steps; a few are always enough


@dataclass(frozen=True, slots=True, eq=False)
class FreeLaw:
    """The limiting spectral law of sum_j t_j Wishart_{N_j}(I_d).

    scales (J,): t_j > 0, ascending and distinct; counts (J,): N_j > 0. Theory:
    theory/random_matrix.md#R2
    """

    scales: np.ndarray
    counts: np.ndarray
    dimension: int

    def __post_init__(self) -> None:
        t = checks.host_array("scales", self.scales, "(J,)")
        N = checks.host_array("counts", self.counts, "(J,)", sizes={"J": len(t)})
        checks.expect_size("dimension", self.dimension, least=1)
        if not len(t):
            raise ValueError(
                "scales must have shape (J,) with J >= 1, got (0,); give one count per "
                "scale"
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
        return np.asarray(self.dimension * self.scales)

    @property
    def strengths(self) -> np.ndarray:
        """Coefficients N_j t_j d t_j of h."""
        return np.asarray(self.counts * self.scales * self.poles)

    @property
    def atom(self) -> float:
        """Mass at 0."""
        return max(0.0, 1 - float(np.sum(self.counts)) / self.dimension)


def location(law: FreeLaw, v: np.ndarray) -> np.ndarray:
    """Return psi(v), v (n,) real or complex.

    Outside the support this is where a spike's eigenvalue lies.
    Theory: theory/random_matrix.md#R2
    """
    v = np.asarray(v)
    ratio = v[..., None] / (v[..., None] - law.poles)
    return np.asarray(v + np.sum(law.counts * law.scales * ratio, axis=-1))


def derivative(law: FreeLaw, v: np.ndarray) -> np.ndarray:
    """Return psi'(v) = 1 - h(v) (Theory: theory/random_matrix.md#R2)."""
    return np.asarray(1 - pole_sum(law, np.asarray(v), 2))


def curvature(law: FreeLaw, v: np.ndarray) -> np.ndarray:
    """Return psi''(v) (Theory: theory/random_matrix.md#R2)."""
    return np.asarray(2 * pole_sum(law, np.asarray(v), 3))


def pole_sum(law: FreeLaw, v: np.ndarray, power: int) -> np.ndarray:
    """Return sum_j N_j t_j d t_j / (v - d t_j)^power, infinite on a pole."""
    with np.errstate(divide="ignore"):
        terms = law.strengths / (v[..., None] - law.poles) ** power
        return np.asarray(np.sum(terms, -1))


def curve(law: FreeLaw, u: np.ndarray) -> np.ndarray:
    """Return the point v = u + iy of the curve above each u (n,); y = 0 off the bands.

    `location` of it is real within rounding and increases with u; the density there is
    imag(-1 / v) / pi. Theory: theory/random_matrix.md#R4
    """
    u = np.asarray(u, dtype=np.float64)
    gap2 = (u[:, None] - law.poles) ** 2
    # s = y^2 solves g(s) = sum_j strength_j / (gap2_j + s) = 1. Since 1/g is concave
    # and increasing, Newton's method on 1/g = 1 from a lower bound of s increases to
    # the root without a safeguard; one term alone gives the bound.
    s = np.maximum(0.0, np.max(law.strengths - gap2, axis=-1))
    for _ in range(_NEWTON):
        inverse = 1 / (gap2 + s[:, None])
        g = np.sum(law.strengths * inverse, axis=-1)
        rise = np.sum(law.strengths * inverse**2, axis=-1)
        new = s + np.where(g > 1, (g - 1) * g / rise, 0.0)
        if np.all(new <= s):
            break
        s = new
    return np.asarray(u + 1j * np.sqrt(s))


def cumulative(law: FreeLaw, v: np.ndarray) -> np.ndarray:
    r"""Return F at the points psi(v), v (n,) from `curve`; no quadrature.

    F = 1 - Im[log v + sum_j n_j (log(v - d t_j) - log v) + N_j t_j / (v - d t_j)] / pi,
    n_j = N_j / d. Theory: theory/random_matrix.md#R5
    """
    v = np.asarray(v, dtype=np.complex128)
    from_poles = v[:, None] - law.poles
    share = law.counts / law.dimension
    pole_angles = np.sum(share * np.angle(from_poles), axis=-1)
    angles = (1 - np.sum(share)) * np.angle(v) + pole_angles
    size = np.where(from_poles == 0, 1, np.abs(from_poles) ** 2)
    # Im 1 / x, and 0 on a pole, where x is real
    swing = np.sum(law.counts * law.scales * (-from_poles.imag / size), axis=-1)
    return np.asarray(1 - (angles + swing) / np.pi)
