r"""Designs of gradients that are Kronecker products, their features shared.

A sample's K gradients :math:`g_{ick} = \delta_{ick} \otimes h_{ic}` share one h. What a
theory needs of errors and features is taken to the span of their means: with isotropic
covariances everything outside of it is a multiple of the identity. Samples are grouped
into kinds, by their weights and, if asked for, by the lengths of their noise vectors:
in dimension b a squared length is :math:`b (1 \pm \sqrt{2/b})`, which for products of
two vectors is not small. No asymptotics here
(Theory: theory/kronecker_designs.md#G1, #G3). Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from refspec.populations import KroneckerPopulation, Population, as_matrix
from refspec.random_matrix import scores
from refspec.random_matrix.outliers import row_space

#: Sets of lengths over all classes, where all samples of a class weigh the same.
LENGTHS = 128


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Errors or features in a frame, orthonormal columns (d, r), that holds all means.

    means (C, K, r) and covariances inside (C, r, r) in the frame; outside (C,) the
    variance in each of the `rest` directions outside of it, which are 0 unless all
    covariances are isotropic.
    """

    frame: np.ndarray
    means: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    rest: int

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self.means.shape[2]) + self.rest


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """The m kinds of samples, sorted by class: roots (m, K, K), counts (m,) of each.

    R R' is the matrix of weights of the cross classes; features (m,) and errors (m, K)
    are squared lengths of the noise, relative to their mean; starts (C,) is the first
    kind of each class. Theory: theory/kronecker_designs.md#G3, #G6
    """

    roots: np.ndarray
    counts: np.ndarray
    features: np.ndarray
    errors: np.ndarray
    starts: np.ndarray

    @property
    def moments(self) -> np.ndarray:
        """Matrices of weights summed over the samples of each class, (C, K, K)."""
        return self.over(self.roots @ np.swapaxes(self.roots, 1, 2))

    @property
    def labels(self) -> np.ndarray:
        """Class of each kind."""
        ends = np.append(self.starts[1:], len(self.counts))
        return np.repeat(np.arange(len(self.starts)), ends - self.starts)

    @property
    def sizes(self) -> np.ndarray:
        """Number of samples of each class."""
        return self.over(np.ones(len(self.counts)))

    def over(self, values: np.ndarray) -> np.ndarray:
        """Sum over the samples of each class, shape (C, ...)."""
        counts = self.counts.reshape(-1, *(1,) * (values.ndim - 1))
        return np.asarray(np.add.reduceat(counts * values, self.starts))


@dataclass(frozen=True, slots=True, eq=False)
class KroneckerDesign:
    """Gradients errors (K = C) (x) features (K = 1), ready to be solved."""

    errors: Side
    features: Side
    samples: Samples

    @property
    def dimension(self) -> int:
        """P."""
        return self.errors.dimension * self.features.dimension

    @property
    def multiplicities(self) -> tuple[int, ...]:
        """How often each block of an `Equivalent` occurs."""
        b, a = self.errors.rest, self.features.rest
        return 1, a, b, a * b


def kronecker_design(
    population: KroneckerPopulation, *, lengths: bool = False
) -> KroneckerDesign:
    """Prepare a population of gradients, all means fixed.

    `lengths` keeps the fluctuating lengths of the noise vectors, which broaden the bulk
    by O(1/b + 1/a), not outliers. Theory: theory/kronecker_designs.md#G1, #G3, #G6
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
        degrees = np.repeat(
            [freedom(x.within[c], x.dimension) for x in (features, errors)],
            (1, errors.K),
        )
        each = LENGTHS / errors.C / len(weights) if lengths else 0
        roots = scores.roots(weights, scores.own_class(errors, c))
        kinds = _kinds(roots, counts, degrees, each, c)
        parts.append(_coupled(kinds, population.coupling))
    starts = np.cumsum([0, *(len(x[1]) for x in parts[:-1])])
    roots, counts, *squares = (np.concatenate(x) for x in zip(*parts, strict=True))
    samples = Samples(roots, counts, squares[0], squares[1], starts)
    return KroneckerDesign(_side(errors), _side(features), samples)


def mean_span(design: KroneckerDesign) -> np.ndarray:
    """Return orthonormal rows that span the means delta_ck (x) h_c of weight > 0.

    In frame (x) frame; `lifted` takes them to all P coordinates.
    Theory: theory/kronecker_designs.md#G4
    """
    seen = np.diagonal(design.samples.moments, axis1=1, axis2=2) > 0
    deltas, h = design.errors.means, design.features.means
    pairs = deltas[..., None] * h[:, :, None, :]
    table = pairs[seen].reshape(np.sum(seen), -1)
    return row_space(table) if table.shape[1] else np.zeros((0, 0))


def lifted(design: KroneckerDesign, rows: np.ndarray) -> np.ndarray:
    """Return rows (q, r_b r_a) of frame (x) frame in all coordinates, (q, P)."""
    left, right = design.errors.frame, design.features.frame
    tables = rows.reshape(len(rows), left.shape[1], right.shape[1])
    return np.asarray((left @ tables @ right.T).reshape(len(rows), design.dimension))


def _kinds(
    roots: np.ndarray, counts: np.ndarray, degrees: np.ndarray, each: float, seed: int
) -> tuple[np.ndarray, ...]:
    """Split samples of equal weights by the squared lengths of their noise vectors.

    The lengths of the features and of K errors have `degrees` (1 + K,); `each` is how
    many sets of them to take at least, 0 for their means alone.
    """
    m = len(roots)
    if not each:
        ones = np.ones((m, len(degrees)))
        return roots, counts.astype(np.float64), ones[:, 0], ones[:, 1:]
    # a Sobol sequence instead of draws: a quadrature over the lengths, and no seed that
    # a prediction would depend on; powers of two keep it balanced
    sets = 1 << max(0, int(np.ceil(np.log2(each))))
    sobol = scipy.stats.qmc.Sobol(len(degrees), rng=np.random.default_rng(seed))
    points = sobol.random(1 << int(np.ceil(np.log2(sets * m))))[: sets * m]
    squares = scipy.stats.chi2.ppf(points, degrees) / degrees
    squares = squares / np.mean(squares, axis=0)
    repeated = np.repeat(roots, sets, axis=0)
    return repeated, np.repeat(counts / sets, sets), squares[:, 0], squares[:, 1:]


def _coupled(kinds: tuple[np.ndarray, ...], coupling: float) -> tuple[np.ndarray, ...]:
    """Split each kind in halves: both signs that scale features' and errors' noise.

    Theory: theory/kronecker_designs.md#G6
    """
    if not coupling:
        return kinds
    roots, counts, features, errors = kinds
    size = np.sqrt(abs(coupling))
    signs = ((1 + z * size, 1 + z * np.sign(coupling) * size) for z in (1, -1))
    halves = [(roots, counts / 2, s * features, t * errors) for s, t in signs]
    return tuple(np.concatenate(x) for x in zip(*halves, strict=True))


def freedom(covariance: Any, d: int) -> float:
    """Return (tr S)^2 / tr S^2: squared lengths are about chi-square of so many.

    The dimension that S fills; d where it is 0. Theory: theory/kronecker_designs.md#G3
    """
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
        frame = row_space(means.reshape(-1, d)).T
    inside = np.stack([frame.T @ as_matrix(s, d) @ frame for s in within])
    outside = np.asarray([float(s) if np.ndim(s) == 0 else 0.0 for s in within])
    return Side(frame, means @ frame, inside, outside, d - frame.shape[1])
