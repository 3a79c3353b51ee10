"""The spectrum predicted from a law alone: no draw of the data is made.

`predict` takes a population, the law of class-indexed vectors with their weights, and
gives what the eigenvalues of their second moment are expected to be. A world's layer
maps to one: ``world.population(name)`` is that of the errors where the one feature is
1; otherwise it is a `KroneckerPopulation`, of the gradients, whose ``errors`` and
``features`` are the populations of the two factors. `predict` dispatches on the type; a
module that knows another kind of population registers with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, Literal

import numpy as np
import scipy.optimize

from refspec.populations import Population
from refspec.random_matrix import (
    free_laws,
    isotropic_designs,
    law_tables,
    nested_designs,
    nested_outliers,
    nested_spectra,
    outliers,
)
from refspec.random_matrix.free_laws import FreeLaw
from refspec.random_matrix.law_tables import Band, LawTable
from refspec.random_matrix.outliers import Outliers

__all__ = ["TRACY_WIDOM", "Prediction", "assembled", "predict"]

#: Mean and standard deviation of the Tracy-Widom law of real symmetric matrices.
TRACY_WIDOM = (-1.2065335745820, 1.2680343)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What is expected of a spectrum.

    Parameters
    ----------
    dimension : int
        d, the number of eigenvalues.
    method : str
        `exact reduction` or `nested tree`; other modules name their own.
    law : LawTable
        The limiting law of the noise, class and cross-class effects included where they
        are random.
    fixed : Outliers
        Of fixed means: above the law.
    random : Outliers
        Of random class means: those of the law that are in bands of their own.
    eigenvalues : array, shape (d,)
        Expected, descending, the outliers among them.
    means : array, shape (q, d)
        Orthonormal rows that span the fixed means; q = 0 where there are none.
    """

    dimension: int
    method: str
    law: LawTable
    fixed: Outliers
    random: Outliers
    eigenvalues: np.ndarray
    means: np.ndarray

    @property
    def bands(self) -> tuple[Band, ...]:
        """Bands of the law, ascending."""
        return self.law.bands

    @property
    def counts(self) -> tuple[int, ...]:
        """Eigenvalues expected in each band, outliers of fixed means taken away."""
        below = _counts(self.law, self.dimension)
        ends = np.asarray([(b.lower, b.upper) for b in self.bands])
        inside = np.interp(ends, self.law.x, below) @ [-1, 1]
        return tuple(round(float(x)) for x in inside)

    @property
    def bulk_maximum(self) -> tuple[float, float]:
        """Mean and deviation of the largest eigenvalue of the law's last band."""
        top = self.bands[-1]
        mean, deviation = TRACY_WIDOM
        return top.upper + mean * top.upper_scale, deviation * top.upper_scale

    @property
    def outliers(self) -> Outliers:
        """Fixed and random together, descending."""
        both = self.fixed, self.random
        columns = [
            np.concatenate([getattr(x, name) for x in both])
            for name in ("values", "deviations", "overlaps")
        ]
        order = np.argsort(-columns[0], kind="stable")
        return Outliers(*(x[order] for x in columns))

    def count(self, x: np.ndarray, *, side: Literal["left", "right"]) -> np.ndarray:
        """Return how many eigenvalues are expected below x; `right`: or at x."""
        below = np.interp(x, self.law.x, _counts(self.law, self.dimension))
        positive = x >= 0 if side == "right" else x > 0
        steps = np.searchsorted(np.sort(self.fixed.values), x, side=side)
        return np.asarray(np.where(positive, below, 0.0) + steps)


@singledispatch
def predict(
    population: Any,
    *,
    resolution: float = 0.1,  # noqa: ARG001 - for the types that are registered
    seed: int = 0,  # noqa: ARG001
) -> Prediction:
    r"""Predict the spectrum of the second moment of a population.

    Parameters
    ----------
    population : Population
        The law; see the module for how a world maps to one.
    resolution : float
        Error of the distribution function that is accepted, in eigenvalues; of no
        effect where it is exact, all covariances being numbers.
    seed : int
        Of the small matrix of outliers that mix, see `outliers.mixed`.

    Returns
    -------
    Prediction

    Raises
    ------
    TypeError
        If the population is of no known type.
    ValueError
        If there is no noise.

    Notes
    -----
    Theory: theory/random_matrix.md. Asymptotic: d and the sample sizes grow
    together, the number of fixed means does not; Gaussian noise (bands hold for any
    with a fourth moment), weights independent of the vectors. Isotropic covariances
    cost O(d) after one eigenproblem a class; others, some dozens of inverses of size d.

    Examples
    --------
    >>> weights = np.ones((200, 10)) / 2000
    >>> means = 3 * np.eye(10, 100)
    >>> law = Population((20,) * 10, 100, weights, 1.0, class_means=means)
    >>> made = predict(law)
    >>> made.counts, len(made.outliers.values)
    ((90,), 10)
    """
    raise TypeError(
        "predict takes a Population or another type registered with it, got "
        f"{type(population).__name__}; give world.population(name)"
    )


@predict.register
def _(population: Population, *, resolution: float = 0.1, seed: int = 0) -> Prediction:
    if not 0 < resolution < 1:
        raise ValueError(
            f"resolution must be in (0, 1), got {resolution}; it is the error of a "
            "count of eigenvalues"
        )
    if isotropic_designs.is_isotropic(population):
        made = isotropic_designs.reduction(population)
        v, strength = made.signals.v, made.signals.strength
        table = law_tables.of_free_law(made.law, v.tolist())
        fixed = outliers.fixed_outliers(made.law, v, strength, seed=seed)
        random = _random_outliers(population, table)
        return assembled("exact reduction", table, fixed, random, made.means)
    design = nested_designs.nested_design(population)
    table = nested_spectra.tabulate(design, resolution=resolution)
    fixed, span = _no_outliers(), np.zeros((0, population.dimension))
    if len(design.means):
        top = table.bands[-1]
        fixed = nested_outliers.nested_outliers(
            design, top.upper, top.upper_scale, seed=seed
        )
        span = nested_outliers.orthonormal(design.means)
        span = span if design.basis is None else span @ design.basis.T
    random = _random_outliers(population, table)
    return assembled("nested tree", table, fixed, random, span)


def assembled(
    method: str, table: LawTable, fixed: Outliers, random: Outliers, means: np.ndarray
) -> Prediction:
    """Put outliers and quantiles of the law together.

    Parameters
    ----------
    method : str
        How the law was found.
    table : LawTable
        Of the noise.
    fixed, random : Outliers
        As in `Prediction`.
    means : array, shape (q, d)
        Orthonormal rows.

    Returns
    -------
    Prediction
    """
    d, seen = means.shape[1], len(fixed.values)
    # a signal too close to the edge to be called an outlier takes nothing away
    table = replace(table, added=np.maximum(table.added, -seen))
    counts, ranks = _counts(table, d), np.arange(d - seen) + 0.5
    bulk = np.where(ranks < counts[0], 0.0, np.interp(ranks, counts, table.x))
    eigenvalues = np.sort(np.concatenate([fixed.values, bulk]))[::-1]
    return Prediction(d, method, table, fixed, random, eigenvalues, means)


def _random_outliers(population: Population, table: LawTable) -> Outliers:
    """Read the outliers of random class means off the bands of their own.

    The deviation is that of the band's extreme eigenvalues; further inside, eigenvalues
    repel and it is an upper estimate.
    """
    if population.class_covariance is None:
        return _no_outliers()
    d, level = population.dimension, isotropic_designs.fixed_level(population)
    labels = population.labels[np.any(population.weights > 0, axis=1)]
    r = len(np.unique(labels)) - (level == "global")
    above, bands = 0.0, []
    for band in reversed(table.bands):
        bands.append(band)
        above += d * band.mass
        if round(above) >= r:
            break
    if r == 0 or round(above) != r or r >= d or level in ("class", "cross"):
        return _no_outliers()
    values = law_tables.quantiles(table, 1 - (np.arange(r) + 0.5) / d)
    deviations = []
    for x in values:
        at = min(bands, key=lambda b: max(b.lower - x, x - b.upper))
        share = (x - at.lower) / (at.upper - at.lower)
        scale = share * at.upper_scale + (1 - share) * at.lower_scale
        deviations.append(TRACY_WIDOM[1] * scale)
    found = _random_overlaps(population, values)
    return Outliers(values, np.asarray(deviations), found)


def _random_overlaps(population: Population, values: np.ndarray) -> np.ndarray:
    """Take each outlier for that of a fixed mean, of the length that it tells.

    A row x of variance t is a mean of variance rho t plus noise; where |x|^2 = v, the
    mean's share of x is rho v / (rho v + (1 - rho) d t).
    """
    d, C = population.dimension, population.C
    unknown = np.full(len(values), np.nan)
    if not isotropic_designs.is_isotropic(population) or d < C:
        return unknown
    s1 = float(np.asarray(population.class_covariance))
    typical = replace(
        population,
        class_covariance=None,
        global_mean=None,
        class_means=np.sqrt(d * s1) * np.eye(C, d),
    )
    made = isotropic_designs.reduction(typical)
    edge = free_laws.support(made.law)[-1, 1]
    v, strength = made.signals.v, made.signals.strength
    if len(v) < len(values) or v[len(values) - 1] <= edge:
        return unknown
    rho, typical_v = float(np.mean(strength / v)), float(np.mean(v))
    seen = np.asarray([_inverse(made.law, edge, x) for x in values])
    share = rho * seen / (rho * seen + (1 - rho) * typical_v)
    return np.asarray(free_laws.derivative(made.law, seen) * share)


def _inverse(law: FreeLaw, edge: float, x: float) -> float:
    """Return the v beyond the edge with psi(v) = x, nan without one."""
    top = 2 * edge

    def excess(v: float) -> float:
        return float(free_laws.location(law, np.asarray([v]))[0]) - x

    if excess(edge) > 0:
        return float("nan")
    while excess(top) < 0:
        top *= 2
    return float(scipy.optimize.brentq(excess, edge, top))


def _no_outliers() -> Outliers:
    """Return none."""
    return Outliers(np.zeros(0), np.zeros(0), np.zeros(0))


def _counts(law: LawTable, d: int) -> np.ndarray:
    """Return the expected number of eigenvalues below the points of a table.

    Near an edge the means may push more away than the law has there; the numbers at
    both ends are right.
    """
    below = d * law.cumulative + law.added
    rising = np.minimum.accumulate(below[::-1])[::-1]
    return np.asarray(np.maximum(rising, below[0]))
