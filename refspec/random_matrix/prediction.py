"""The spectrum predicted from a population alone: no draw of the data is made.

`predict` takes a population, the distribution of class-indexed vectors with their
weights, and gives what the eigenvalues of their second moment are expected to be. A
world's layer has one: ``world.population(name)`` is that of the errors where the one
feature is 1; otherwise it is a `KroneckerPopulation`, of the gradients, whose
``errors`` and ``features`` are the populations of the two factors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from refspec import checks
from refspec.populations import (
    KroneckerPopulation,
    Population,
    expect_predictable,
)
from refspec.random_matrix.assumptions import assumptions, expect_fourth_moment
from refspec.random_matrix.estimation import Estimation
from refspec.random_matrix.free import outliers as free_outliers
from refspec.random_matrix.free import spectrum as free_spectrum
from refspec.random_matrix.free.design import is_isotropic, reduction
from refspec.random_matrix.kronecker import spectrum as kronecker_spectrum
from refspec.random_matrix.kronecker.design import (
    kronecker_design,
    lifted,
    mean_span,
)
from refspec.random_matrix.kronecker.kfac import kfac_eigenvalues
from refspec.random_matrix.kronecker.outliers import kronecker_outliers
from refspec.random_matrix.nested import outliers as nested_outliers
from refspec.random_matrix.nested import spectrum as nested_spectrum
from refspec.random_matrix.nested.design import nested_design
from refspec.random_matrix.outliers import Outliers, joined, no_outliers, row_space
from refspec.random_matrix.random_means import TRACY_WIDOM, random_outliers
from refspec.random_matrix.tables import Band, LawTable, stepped
from refspec.results import Result, View, ranks

#: Exceeded once in a thousand draws: by TW1, by a standard normal variable.
TRACY_WIDOM_TAIL, NORMAL_TAIL = 3.2724, 3.0902


@dataclass(frozen=True, slots=True, eq=False)
class Prediction(Result):
    """What is expected of a spectrum.

    Parameters
    ----------
    dimension : int, d, the number of eigenvalues
    method : {"exact reduction", "nested tree", "Kronecker"}
    law : LawTable
        The limiting law of the noise, class and cross-class effects included where they
        are random.
    fixed : Outliers, of fixed means: above the law
    random : Outliers
        Those of random class means: eigenvalues of the law in bands of their own.
    eigenvalues : array, shape (d,)
        Expected, descending, the outliers among them.
    means : array, shape (q, d)
        Orthonormal rows that span the fixed means; q = 0 where there are none.
    assumes : tuple of str
        What it rests on, in sentences, with the numbers of this population.
    estimation : Estimation, optional
        What estimated statistics leave open, where it was asked for.
    """

    dimension: int
    method: str
    law: LawTable
    fixed: Outliers
    random: Outliers
    eigenvalues: np.ndarray
    means: np.ndarray
    assumes: tuple[str, ...] = ()
    estimation: Estimation | None = None

    def __repr__(self) -> str:
        """Say what was predicted and how, not the entries."""
        told = f"{len(self.outliers.values)} outliers, {len(self.law.bands)} bands"
        name = type(self).__name__
        return f"{name}(dimension={self.dimension}, {self.method}; {told})"

    def view(self) -> View:
        """Give the expected eigenvalues by rank; outliers and bands apart."""
        found, rows = self.outliers, ranks(self.dimension)
        apart = {
            "outlier": ("outliers", found.values),
            "deviation": ("outliers", found.deviations),
            "overlap": ("outliers", found.overlaps),
            "band_lower": ("bands", [x.lower for x in self.bands]),
            "band_upper": ("bands", [x.upper for x in self.bands]),
            "band_mass": ("bands", [x.mass for x in self.bands]),
        }
        facts = {"method": self.method, "dimension": self.dimension}
        return View("rank", rows, {"value": self.eigenvalues}, apart=apart, facts=facts)

    @property
    def bands(self) -> tuple[Band, ...]:
        """Bands of the law, ascending."""
        return self.law.bands

    @property
    def counts(self) -> tuple[int, ...]:
        """Eigenvalues expected nearest to each band, but for 0 and outliers above.

        A band's neighbours between it and the next count with the nearer one.
        """
        below = _counts(self.law, self.dimension)
        inside = np.diff(np.interp(self.cuts, self.law.x, below), prepend=below[0])
        last = self.dimension - len(self.fixed.values) - below[0] - np.sum(inside)
        return tuple(round(float(x)) for x in (*inside, last))

    @property
    def cuts(self) -> tuple[float, ...]:
        """Where one band's eigenvalues end and the next one's begin, one a gap."""
        return tuple(cut for cut, _ in self._gaps())

    @property
    def clear(self) -> tuple[bool, ...]:
        """Whether a gap is so wide that 999 in 1000 draws count as expected there."""
        return tuple(clear for _, clear in self._gaps())

    def _gaps(self) -> Iterator[tuple[float, bool]]:
        """Find the middle of the widest empty interval of every gap."""
        inner = self.law.inner
        for low, high in pairwise(self.bands):
            at = (inner.values > low.upper) & (inner.values < high.lower)
            own = inner.values[at][::-1], NORMAL_TAIL * inner.deviations[at][::-1]
            x = np.asarray([low.upper, *own[0], high.lower])
            tails = TRACY_WIDOM_TAIL * np.asarray([low.upper_scale, high.lower_scale])
            reach = np.asarray([tails[0], *own[1], tails[1]])
            k = int(np.argmax(np.diff(x)))
            half = (x[k + 1] - x[k]) / 2
            yield float(x[k] + half), bool(half >= max(reach[k], reach[k + 1]))

    @property
    def bulk_maximum(self) -> tuple[float, float]:
        """Mean and deviation of the largest eigenvalue of the law's last band."""
        top = self.bands[-1]
        mean, deviation = TRACY_WIDOM
        return top.upper + mean * top.upper_scale, deviation * top.upper_scale

    @property
    def outliers(self) -> Outliers:
        """Fixed and random together, descending."""
        return joined([self.fixed, self.random])

    @property
    def inner(self) -> Outliers:
        """Eigenvalues of fixed means between bands, or between 0 and the first."""
        return self.law.inner

    def count(self, x: np.ndarray, *, side: Literal["left", "right"]) -> np.ndarray:
        """Return how many eigenvalues are expected below x; `right`: or at x."""
        below = np.interp(x, self.law.x, _counts(self.law, self.dimension))
        positive = x >= 0 if side == "right" else x > 0
        steps = np.searchsorted(np.sort(self.fixed.values), x, side=side)
        return np.asarray(np.where(positive, below, 0.0) + steps)


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class KroneckerPrediction(Prediction):
    """What is expected of the spectrum of gradients errors (x) features.

    Parameters
    ----------
    total, total_deviation : float
        Sum of the outliers of fixed means, and its standard deviation.
    kfac : array, shape (P,)
        What KFAC predicts instead: products of the eigenvalues of both expected
        factors, descending.
    """

    total: float
    total_deviation: float
    kfac: np.ndarray


def predict(
    population: Population | KroneckerPopulation,
    *,
    resolution: float | None = None,
    seed: int = 0,
) -> Prediction:
    """Predict the spectrum of the second moment of a population.

    Parameters
    ----------
    population : Population or KroneckerPopulation
        The vectors', or the gradients', whose means are then fixed. Covariances may
        be singular.
    resolution : float, optional
        Error of the distribution function that is accepted, in eigenvalues; 0.1, for
        gradients 0.25. No effect where it is exact, all covariances being numbers.
    seed : int, of the small matrix of outliers that mix

    Returns
    -------
    Prediction
        A `KroneckerPrediction` for gradients.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, there is no noise, it has no fourth moment, a
        level is fixed and random, or a mean of gradients is random.

    Notes
    -----
    Theory: theory/random_matrix.md#R1, #R5, #R8, #R10, #R11, #R13, #R16;
    theory/kronecker_designs.md#G1, #G2, #G3, #G4, #G5, #G6
    Asymptotic: d and the sample sizes grow together, the number of fixed means does
    not; Gaussian noise (bands hold for any with a fourth moment), weights independent
    of the vectors. Isotropic covariances cost O(d) after one eigenproblem a class;
    others, some dozens of inverses of size d.

    Examples
    --------
    >>> weights = np.ones((200, 10)) / 2000
    >>> means = 3 * np.eye(10, 100)
    >>> made = predict(Population((20,) * 10, 100, weights, 1.0, class_means=means))
    >>> made.counts, len(made.outliers.values)
    ((90,), 10)
    """
    kinds = (Population, KroneckerPopulation)
    checks.expect_type("population", population, kinds, "give world.population(name)")
    expect_predictable(population)
    expect_fourth_moment(population)
    if resolution is None:
        resolution = 0.25 if isinstance(population, KroneckerPopulation) else 0.1
    accuracy = checks.expect_probability("resolution", resolution, ends=False)
    seed = checks.expect_size("seed", seed)
    made: Prediction
    if isinstance(population, KroneckerPopulation):
        made = _kronecker(population, accuracy, seed)
    elif is_isotropic(population):
        made = _isotropic(population, seed)
    else:
        made = _nested(population, accuracy, seed)
    ends = made.bands[-1].upper, made.fixed.values
    assumes = assumptions(population, made.clear, *ends)
    return replace(made, assumes=assumes)


def _isotropic(population: Population, seed: int) -> Prediction:
    """Predict by the exact reduction (Theory: theory/random_matrix.md#R1, #R8)."""
    made = reduction(population)
    v, strength = made.signals.v, made.signals.strength
    ends = made.ends
    table = free_spectrum.tabulate(made.law, v.tolist(), ends=ends)
    inner = free_outliers.inner_outliers(made.law, v, strength, ends)
    table = stepped(table, inner)
    edge = float(ends[-1, 1])
    fixed = free_outliers.fixed_outliers(made.law, v, strength, edge, seed)
    random = random_outliers(population, table)
    return assembled("exact reduction", table, fixed, random, made.means)


def _nested(population: Population, resolution: float, seed: int) -> Prediction:
    """Predict by the tree (Theory: theory/random_matrix.md#R10, #R13)."""
    design = nested_design(population)
    table = nested_spectrum.tabulate(design, resolution=resolution)
    fixed, span = no_outliers(), np.zeros((0, population.dimension))
    if len(design.means):
        table = stepped(table, nested_outliers.inner_outliers(design, table))
        top = table.bands[-1]
        at = top.upper, top.upper_scale
        fixed = nested_outliers.nested_outliers(design, *at, seed)
        span = row_space(design.means)
        span = span if design.basis is None else span @ design.basis.T
    random = random_outliers(population, table)
    return assembled("nested tree", table, fixed, random, span)


def _kronecker(
    population: KroneckerPopulation, resolution: float, seed: int
) -> KroneckerPrediction:
    """Predict gradients (Theory: theory/kronecker_designs.md#G3, #G4, #G5)."""
    # the bulk keeps the fluctuating lengths of the noise vectors, outliers need none
    long = kronecker_design(population, lengths=True)
    table = kronecker_spectrum.tabulate(long, resolution=resolution)
    design = kronecker_design(population)
    found = kronecker_outliers(design, table.bands[-1].upper, seed)
    span = lifted(design, mean_span(design))
    made = assembled("Kronecker", table, found.each, no_outliers(), span)
    base: dict[str, Any] = {
        f.name: getattr(made, f.name) for f in dataclasses.fields(made)
    }
    return KroneckerPrediction(
        **base,
        total=found.total,
        total_deviation=found.total_deviation,
        kfac=kfac_eigenvalues(design),
    )


def assembled(
    method: str, table: LawTable, fixed: Outliers, random: Outliers, means: np.ndarray
) -> Prediction:
    """Put outliers and quantiles of the law together; means are orthonormal rows."""
    d, seen = means.shape[1], len(fixed.values)
    # a signal too close to the edge to be called an outlier takes nothing away there,
    # though it may lift an eigenvalue from below, which leaves one less there
    last = table.x >= table.bands[-1].lower
    most = max(seen, -round(float(table.added[last][0])))
    kept = np.where(last, np.maximum(table.added, -most), table.added)
    table = replace(table, added=kept)
    counts, ranks = _counts(table, d), np.arange(d - seen) + 0.5
    bulk = np.where(ranks < counts[0], 0.0, np.interp(ranks, counts, table.x))
    eigenvalues = np.sort(np.concatenate([fixed.values, bulk]))[::-1]
    return Prediction(d, method, table, fixed, random, eigenvalues, means)


def _counts(law: LawTable, d: int) -> np.ndarray:
    """Return the expected number of eigenvalues below the points of a table.

    Near an edge the means may push more away than the law has there; the numbers at
    both ends are right.
    """
    below = d * law.cumulative + law.added
    rising = np.minimum.accumulate(below[::-1])[::-1]
    return np.asarray(np.maximum(rising, below[0]))
