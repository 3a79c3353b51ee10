"""Outliers of random class means: bands of the law of their own.

Where the class means are random they are part of the noise; strong ones have the last
bands of the law to themselves (Theory: theory/random_matrix.md#R14).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.optimize

from refspec.populations import Population
from refspec.random_matrix import tables
from refspec.random_matrix.free import law as free_law
from refspec.random_matrix.free.design import fixed_level, is_isotropic, reduction
from refspec.random_matrix.free.law import FreeLaw
from refspec.random_matrix.outliers import Outliers, mixed, no_outliers
from refspec.random_matrix.tables import Band, LawTable

#: Mean and standard deviation of the Tracy-Widom law of real symmetric matrices.
TRACY_WIDOM = (-1.2065335745820, 1.6077810345810**0.5)

_ANGLES = 4097  # of the semicircle's distribution function


def random_outliers(population: Population, table: LawTable) -> Outliers:
    """Read the outliers of random class means off the bands of their own.

    None where the law's last bands do not hold exactly the classes.
    Theory: theory/random_matrix.md#R14
    """
    if population.class_covariance is None:
        return no_outliers()
    d, level = population.dimension, fixed_level(population)
    labels = population.labels[np.any(population.weights > 0, axis=1)]
    r = len(np.unique(labels)) - (level == "global")
    above, bands = 0.0, []
    for band in reversed(table.bands):
        bands.append(band)
        above += d * band.mass
        if round(above) >= r:
            break
    if r == 0 or round(above) != r or r >= d or level in ("class", "cross"):
        return no_outliers()
    values = tables.quantiles(table, 1 - (np.arange(r) + 0.5) / d)
    deviations = np.concatenate([_deviations(table, band, d) for band in bands])
    return Outliers(values, deviations, _overlaps(population, values))


def _deviations(table: LawTable, band: Band, d: int) -> np.ndarray:
    """Return the deviations of the n eigenvalues of a band, descending.

    Those of n eigenvalues of a Gaussian matrix, taken to the band by the map between
    both laws that keeps ranks. Theory: theory/random_matrix.md#R14
    """
    n = round(d * band.mass)
    own = mixed(np.zeros(n), np.ones((n, n)), 0)[1]
    # the semicircle on 2 sqrt(n) sin(angle): its distribution function, its density
    angle, ranks = np.linspace(-np.pi / 2, np.pi / 2, _ANGLES), (np.arange(n) + 0.5) / n
    below = 0.5 + (angle + np.sin(angle) * np.cos(angle)) / np.pi
    semicircle = np.cos(np.interp(1 - ranks, below, angle)) / (np.pi * np.sqrt(n))
    start = float(np.interp(band.lower, table.x, table.cumulative))
    x = tables.quantiles(table, start + (1 - ranks) * band.mass)
    density = np.interp(x, table.x, table.density) / band.mass
    out = np.full(n, np.inf)
    np.divide(own * semicircle, density, out=out, where=density > 0)
    return out


def _overlaps(population: Population, values: np.ndarray) -> np.ndarray:
    """Take each outlier for that of a fixed mean, of the length that it tells.

    A row x of variance t is a mean of variance rho t plus noise; where |x|^2 = v, the
    mean's share of x is rho v / (rho v + (1 - rho) d t).
    """
    d, C = population.dimension, population.C
    unknown = np.full(len(values), np.nan)
    if not is_isotropic(population) or d < C:
        return unknown
    s1 = float(np.asarray(population.class_covariance))
    typical = replace(
        population,
        class_covariance=None,
        global_mean=None,
        class_means=np.sqrt(d * s1) * np.eye(C, d),
    )
    made = reduction(typical)
    edge = float(made.ends[-1, 1])
    v, strength = made.signals.v, made.signals.strength
    if len(v) < len(values) or v[len(values) - 1] <= edge:
        return unknown
    rho, typical_v = float(np.mean(strength / v)), float(np.mean(v))
    seen = np.asarray([_height(made.law, edge, x) for x in values])
    share = rho * seen / (rho * seen + (1 - rho) * typical_v)
    return np.asarray(free_law.derivative(made.law, seen) * share)


def _height(law: FreeLaw, edge: float, x: float) -> float:
    """Return the v beyond the edge with psi(v) = x, nan without one."""
    top = 2 * edge

    def excess(v: float) -> float:
        return float(free_law.location(law, np.asarray([v]))[0]) - x

    if excess(edge) > 0:
        return float("nan")
    while excess(top) < 0:
        top *= 2
    return float(scipy.optimize.brentq(excess, edge, top, xtol=np.spacing(edge)))
