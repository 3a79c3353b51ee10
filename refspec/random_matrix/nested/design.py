r"""Nested designs with any covariances, as a tree of independent random effects.

A row is the sum of the effects on its path in the tree (sample, cell (c, c'), class,
all). Equal samples of a cell are one leaf, an effect of covariance 0 is none, and the
nodes of the lowest level with fixed means are marked: their rows, weighted means of
the samples below, are removed from the noise and carry the means. The covariances are
rotated to where the first is diagonal, which no eigenvalue notices. No asymptotics
here (Theory: theory/random_matrix.md#R9). Host arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec import rounding
from refspec.populations import Population
from refspec.random_matrix import scores
from refspec.random_matrix.free.design import fixed_level
from refspec.random_matrix.nested.mixing import Mixing


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The nodes of one level: parents above, effects (-1: none), how many each is.

    `projected`: the rows of the nodes' means are removed from the noise.
    """

    parents: np.ndarray
    effects: np.ndarray
    counts: np.ndarray
    projected: bool


@dataclass(frozen=True, slots=True, eq=False)
class NestedDesign:
    """A tree of random effects and fixed means: samples, cells, classes, all.

    weights (leaves,); covariances S_r, (d,) if diagonal, else (d, d), and means (q, d)
    of the projected nodes in the basis (d, d), None if nothing was rotated. mixing: the
    lowest two levels where samples mix their cross classes; the weights of samples are
    then eigenvalues.
    """

    weights: np.ndarray
    levels: tuple[Level, ...]
    covariances: tuple[np.ndarray, ...]
    means: np.ndarray
    basis: np.ndarray | None
    mixing: Mixing | None = None

    @property
    def dimension(self) -> int:
        """Dimension d."""
        return int(self.covariances[0].shape[0])

    @property
    def diagonal(self) -> bool:
        """Whether every covariance is diagonal."""
        return all(s.ndim == 1 for s in self.covariances)

    @property
    def projected(self) -> int:
        """Place of the projected level."""
        return next(i for i, x in enumerate(self.levels) if x.projected)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the noise: samples less projected rows."""
        removed = sum(len(x.parents) for x in self.levels if x.projected)
        return int(np.sum(self.levels[0].counts)) - removed

    @property
    def traces(self) -> np.ndarray:
        """Traces of S_r, of every effect, shape (k,)."""
        return np.asarray(
            [s.sum() if s.ndim == 1 else s.trace() for s in self.covariances]
        )


def nested_design(population: Population) -> NestedDesign:
    """Build the tree of a population; a balanced one has one leaf a cell.

    Theory: theory/random_matrix.md#R9, #R16
    """
    d = population.dimension
    leaves: list[tuple[float, int, int, int]] = []
    cells: list[tuple[int, int]] = []
    for c, weights in enumerate(_by_class(population)):
        own = scores.own_class(population, c)
        if own is not None:
            t, _, counts = _mixed(weights, c)
            leaves += [
                (x, n, len(cells), c)
                for row, n in zip(t, counts, strict=True)
                for x in row[row > 0]
            ]
        for k in range(population.K):
            positive = weights[weights[:, k] > 0, k]
            if not len(positive) or k == own:
                continue
            if own is None:
                pairs = zip(*np.unique(positive, return_counts=True), strict=True)
                leaves += [(w, n, len(cells), c) for w, n in pairs]
            cells.append((c, k))
    weight, count, cell, label = (np.asarray(x) for x in zip(*leaves, strict=True))
    seen, classes = np.unique([c for c, _ in cells], return_inverse=True)
    effects: list[Any] = []

    def effect(covariance: Any) -> int:
        if covariance is None or not np.any(covariance):
            return -1
        effects.append(covariance)
        return len(effects) - 1

    level = fixed_level(population)
    shared = not isinstance(population.within_covariance, tuple)
    within = population.within[: 1 if shared else population.C]
    noises = np.asarray([effect(s) for s in within])
    noise = noises[label * (not shared)]
    between = effect(population.cross_covariance), effect(population.class_covariance)
    if not effects:
        raise ValueError(
            "a spectrum needs noise: at least one covariance that is not 0, got none; "
            "the eigenvalues are those of the means"
        )
    levels = (
        Level(cell, noise, count, False),
        _level(classes, between[0], level == "cross"),
        _level(np.zeros(len(seen), dtype=int), between[1], level == "class"),
        _level(np.zeros(1, dtype=int), -1, level == "global"),
    )
    fixed = population.fixed_means()
    means = {
        "cross": np.asarray([fixed[c, k] for c, k in cells]),
        "class": fixed[seen, 0],
        "global": fixed[:1, 0],
        "none": np.zeros((0, d)),
    }[level]
    covariances, basis = _rotated(effects, d)
    means = means if basis is None else means @ basis
    mixing = None
    if population.score_consistent:
        of = noises[np.arange(population.C) * (not shared)]
        mixing = _mixing(population, of, between[0], level == "cross")
    design = NestedDesign(weight, levels, covariances, means, basis, mixing)
    if design.freedom < 1:
        raise ValueError(
            "a law needs noise: more rows of positive weight than fixed means, got "
            f"{np.sum(count)} and {len(means)}; give more samples or random means"
        )
    return design


def _by_class(population: Population) -> list[np.ndarray]:
    """Return the weights of the samples of each class."""
    return np.split(population.weights, np.cumsum(population.sizes)[:-1])


def _mixed(weights: np.ndarray, c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return t (m, K), U (m, K, K) with A = U diag(t) U', and how many samples have it.

    What rounding does not tell from 0 is 0. Theory: theory/random_matrix.md#R16
    """
    distinct, counts = np.unique(weights, axis=0, return_counts=True)
    R = scores.roots(distinct, c)
    t, U = np.linalg.eigh(R @ np.swapaxes(R, 1, 2))
    K, u = t.shape[1], rounding.unit_roundoff(t)
    least = [rounding.eigensolver_radius(K, float(x), u) for x in t[:, -1]]
    return np.where(t > np.asarray(least)[:, None], t, 0.0), U, counts


def _mixing(
    population: Population, noise: np.ndarray, effect: int, projected: bool
) -> Mixing:
    """Give the lowest two levels of score-consistent errors, by classes of weight."""
    parts, cells = [], []
    for c, weights in enumerate(_by_class(population)):
        seen = np.any(weights > 0, axis=0) & (np.arange(population.K) != c)
        if np.any(seen):
            t, U, counts = _mixed(weights, c)
            parts.append((t, U, counts, np.full(len(t), noise[c])))
            cells.append(seen)
    t, U, counts, effects = (np.concatenate(x) for x in zip(*parts, strict=True))
    starts = np.cumsum([0, *(len(x[0]) for x in parts[:-1])])
    return Mixing(t, U, counts, starts, effects, np.stack(cells), effect, projected)


def certain_rank(design: NestedDesign) -> int | None:
    """Return the rank of the noise where every sample's own noise has all of its range.

    None where it does not: it is then a matter of how the ranges lie.
    Theory: theory/random_matrix.md#R9
    """
    leaf = np.unique(design.levels[0].effects)
    if leaf[0] < 0:
        return None
    ranks = [_rank(design.covariances[r]) for r in leaf]
    if min(ranks) < design.dimension:
        scaled = zip(design.covariances, design.traces, strict=True)
        total = sum(
            (np.diag(s) if s.ndim == 1 and not design.diagonal else s) / trace
            for s, trace in scaled
        )
        if min(ranks) < _rank(np.asarray(total)):
            return None
    return min(min(ranks), design.freedom)


def _rank(S: np.ndarray) -> int:
    """Count the eigenvalues of a covariance that rounding tells from 0."""
    if S.ndim == 1:
        return int(np.count_nonzero(S))
    values = np.linalg.eigvalsh(S)
    u = rounding.unit_roundoff(S)
    return int(np.sum(values > rounding.eigensolver_radius(len(S), values[-1], u)))


def _level(parents: np.ndarray, effect: int, projected: bool) -> Level:
    """Make a level of single nodes with one effect."""
    n = len(parents)
    return Level(parents, np.full(n, effect), np.ones(n), projected)


def _rotated(
    effects: Sequence[Any], d: int
) -> tuple[tuple[np.ndarray, ...], np.ndarray | None]:
    """Diagonalise the first full covariance and rotate the others with it."""
    full = [k for k, s in enumerate(effects) if np.ndim(s) == 2]
    if not full:
        return tuple(np.broadcast_to(s, (d,)).astype(float) for s in effects), None
    values, basis = np.linalg.eigh(effects[full[0]])
    u = rounding.unit_roundoff(values)
    least = rounding.eigensolver_radius(d, float(values[-1]), u)
    rotated = []
    for k, s in enumerate(effects):
        if k == full[0]:
            rotated.append(np.where(values > least, values, 0.0))
        elif np.ndim(s) == 0:
            rotated.append(np.full(d, float(s)))
        else:
            inner = s @ basis if np.ndim(s) == 2 else s[:, None] * basis
            rotated.append(basis.T @ inner)
    return tuple(rotated), basis
