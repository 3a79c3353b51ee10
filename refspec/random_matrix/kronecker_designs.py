r"""Designs of gradients that are Kronecker products, their features shared.

A sample's K gradients :math:`g_{ick} = \delta_{ick} \otimes h_{ic}` share one h. What a
theory needs of errors and features is taken to the span of their means: with isotropic
covariances everything outside of it is a multiple of the identity. Samples are grouped
into kinds, by their weights and, if asked for, by the lengths of their noise vectors:
in dimension b a squared length is :math:`b (1 \pm \sqrt{2/b})`, which for products of
two vectors is not small. No asymptotics here. Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from refspec import rounding
from refspec.populations import KroneckerPopulation, Population, as_matrix

__all__ = ["LENGTHS", "KroneckerDesign", "Samples", "Side", "kronecker_design"]

#: Sets of lengths over all classes, where all samples of a class weigh the same.
LENGTHS = 128


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Errors or features in a frame that holds all of their means.

    Parameters
    ----------
    means : array, shape (C, K, r)
        Coordinates of the fixed means.
    inside : array, shape (C, r, r)
        Covariance of each class in the frame.
    outside : array, shape (C,)
        Variance of each class in every direction outside of it.
    rest : int
        Number of those directions: 0 unless all covariances are isotropic.
    """

    means: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    rest: int

    @property
    def dimension(self) -> int:
        """Of the vectors."""
        return int(self.means.shape[2]) + self.rest


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """The kinds of samples, sorted by class: theory/kronecker_designs.md#G3.

    Parameters
    ----------
    weights : array, shape (m, K)
    counts : array, shape (m,)
        How many samples are of each kind.
    features : array, shape (m,)
        Squared lengths of the features' noise, relative to the mean.
    errors : array, shape (m, K)
        Of the errors' noise.
    starts : array of int, shape (C,)
        First kind of each class.
    """

    weights: np.ndarray
    counts: np.ndarray
    features: np.ndarray
    errors: np.ndarray
    starts: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Class of each kind."""
        ends = np.append(self.starts[1:], len(self.counts))
        return np.repeat(np.arange(len(self.starts)), ends - self.starts)

    def over(self, values: np.ndarray) -> np.ndarray:
        """Sum over the samples of each class, shape (C, ...)."""
        counts = self.counts.reshape(-1, *(1,) * (values.ndim - 1))
        return np.asarray(np.add.reduceat(counts * values, self.starts))


@dataclass(frozen=True, slots=True, eq=False)
class KroneckerDesign:
    """A law of gradients ready to be solved.

    Parameters
    ----------
    errors, features : Side
        With K = C and K = 1.
    samples : Samples
    shared : bool
        Whether the cross classes of a sample share their features.
    """

    errors: Side
    features: Side
    samples: Samples
    shared: bool

    @property
    def dimension(self) -> int:
        """P."""
        return self.errors.dimension * self.features.dimension

    @property
    def multiplicities(self) -> tuple[int, ...]:
        """How often each block of a `Solution` occurs."""
        b, a = self.errors.rest, self.features.rest
        return 1, a, b, a * b


def kronecker_design(
    population: KroneckerPopulation, *, lengths: bool = False, shared: bool = True
) -> KroneckerDesign:
    r"""Prepare a population of gradients.

    Parameters
    ----------
    population : KroneckerPopulation
        With fixed means only.
    lengths : bool
        Keep the fluctuating lengths of the noise vectors, which broaden the bulk by
        O(1/b + 1/a) and hardly move the outliers.
    shared : bool
        False for features drawn anew for every cross class, which no network has.

    Returns
    -------
    KroneckerDesign

    Raises
    ------
    ValueError
        If a level is random.

    Notes
    -----
    Theory: theory/kronecker_designs.md#G1, #G3. Squared lengths are those of chi-square
    variables of :math:`(tr S)^2 / tr S^2` degrees of freedom at the points of a Sobol
    sequence: deterministic, a quadrature.

    Examples
    --------
    >>> errors = Population((4, 4), 3, np.ones((8, 2)), 1.0, class_means=np.eye(2, 3))
    >>> features = Population((4, 4), 5, np.ones((8, 1)), 1.0)
    >>> design = kronecker_design(KroneckerPopulation(errors, features))
    >>> design.dimension, design.multiplicities
    (15, (1, 5, 1, 5))
    """
    errors, features = population.errors, population.features
    for name, side in (("errors", errors), ("features", features)):
        if "random" in (side.class_kind, side.cross_kind):
            raise ValueError(
                f"means of the {name} must be fixed, got a random level (class means "
                f"{side.class_kind}, cross-class means {side.cross_kind}); draw them "
                "once and give them as class_means or cross_means"
            )
    parts = []
    for c, part in enumerate(np.split(errors.weights, np.cumsum(errors.sizes)[:-1])):
        weights, counts = np.unique(part, axis=0, return_counts=True)
        freedom = np.repeat(
            [_freedom(x.within[c], x.dimension) for x in (features, errors)],
            (1, errors.K),
        )
        each = LENGTHS / errors.C / len(weights) if lengths else 0
        parts.append(_kinds(weights, counts, freedom, each, c))
    starts = np.cumsum([0, *(len(x[1]) for x in parts[:-1])])
    weights, counts, *squares = (np.concatenate(x) for x in zip(*parts, strict=True))
    samples = Samples(weights, counts, squares[0], squares[1], starts)
    return KroneckerDesign(_side(errors), _side(features), samples, shared)


def _kinds(
    weights: np.ndarray, counts: np.ndarray, freedom: np.ndarray, each: float, seed: int
) -> tuple[np.ndarray, ...]:
    """Split samples of equal weights by the squared lengths of their noise vectors.

    The lengths of the features and of K errors have `freedom` (1 + K,); `each` is how
    many sets of them to take at least, 0 for their means alone.
    """
    m = len(weights)
    if not each:
        ones = np.ones((m, len(freedom)))
        return weights, counts.astype(np.float64), ones[:, 0], ones[:, 1:]
    sets = 1 << max(0, int(np.ceil(np.log2(each))))
    sobol = scipy.stats.qmc.Sobol(len(freedom), rng=np.random.default_rng(seed))
    points = sobol.random(1 << int(np.ceil(np.log2(sets * m))))[: sets * m]
    squares = scipy.stats.chi2.ppf(points, freedom) / freedom
    squares = squares / np.mean(squares, axis=0)
    repeated = np.repeat(weights, sets, axis=0)
    return repeated, np.repeat(counts / sets, sets), squares[:, 0], squares[:, 1:]


def _freedom(covariance: Any, d: int) -> float:
    """Return (tr S)^2 / tr S^2."""
    S = np.asarray(covariance)
    if S.ndim == 0 or not np.any(S):
        return float(d)
    diagonal = np.diag(S) if S.ndim == 2 else S
    return float(np.sum(diagonal) ** 2 / np.sum(S * S))


def _side(population: Population) -> Side:
    """Take a population to the span of its means, if its covariances allow."""
    means, d, within = population.fixed_means(), population.dimension, population.within
    frame = np.eye(d)
    if all(np.ndim(s) == 0 for s in within):
        _, values, right = np.linalg.svd(means.reshape(-1, d), full_matrices=False)
        u = rounding.unit_roundoff(means)
        size = max(population.C * population.K, d)
        seen = values > rounding.eigensolver_radius(size, float(values[0]), u)
        frame = right[seen].T
    inside = np.stack([frame.T @ as_matrix(s, d) @ frame for s in within])
    outside = np.asarray([float(s) if np.ndim(s) == 0 else 0.0 for s in within])
    return Side(means @ frame, inside, outside, d - frame.shape[1])
