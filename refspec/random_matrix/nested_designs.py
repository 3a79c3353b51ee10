r"""Nested designs with any covariances, as a tree of independent random effects.

A row is the sum of the effects on its path in the tree (sample, cell (c, c'), class,
all). Equal samples of a cell are one leaf, an effect of covariance 0 is none, and the
nodes of the lowest level with fixed means are marked: their rows, weighted means of
the samples below, are removed from the noise and carry the means. The covariances are
rotated to where the first is diagonal, which no eigenvalue notices. No asymptotics
here. Host arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec.populations import Population
from refspec.random_matrix.isotropic_designs import fixed_level

__all__ = ["Level", "NestedDesign", "nested_design", "rows", "traces"]


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The nodes of one level of the tree.

    Parameters
    ----------
    parents : array of int, shape (nodes,)
        In the level above.
    effects : array of int, shape (nodes,)
        Which random effect a node carries, -1 for none.
    counts : array, shape (nodes,)
        How many equal nodes one stands for.
    projected : bool
        Whether the rows of the nodes' means are removed from the noise.
    """

    parents: np.ndarray
    effects: np.ndarray
    counts: np.ndarray
    projected: bool


@dataclass(frozen=True, slots=True, eq=False)
class NestedDesign:
    """A tree of random effects and fixed means.

    Parameters
    ----------
    weights : array, shape (leaves,)
        Positive, of the distinct leaves.
    levels : tuple of Level
        Samples, cells, classes, all.
    covariances : tuple of k arrays, shape (d,) or (d, d)
        S_r in the rotated basis; a diagonal matrix as a vector.
    means : array, shape (q, d)
        Of the nodes of the projected level, in the rotated basis; q = 0 without one.
    basis : array, shape (d, d), or None
        Its columns are the rotated basis; None if nothing was rotated.
    """

    weights: np.ndarray
    levels: tuple[Level, ...]
    covariances: tuple[np.ndarray, ...]
    means: np.ndarray
    basis: np.ndarray | None

    @property
    def dimension(self) -> int:
        """Dimension d."""
        return int(self.covariances[0].shape[0])

    @property
    def diagonal(self) -> bool:
        """Whether every covariance is diagonal."""
        return all(s.ndim == 1 for s in self.covariances)


def nested_design(population: Population, *, project: bool = True) -> NestedDesign:
    """Build the tree of a population.

    Parameters
    ----------
    population : Population
        The law.
    project : bool
        Remove the rows of the fixed means from the noise; without, a theory of outliers
        counts them twice.

    Returns
    -------
    NestedDesign

    Raises
    ------
    ValueError
        If there is no noise at all.

    Notes
    -----
    Theory: theory/random_matrix.md#R9. A balanced design has one leaf a cell.

    Examples
    --------
    >>> design = nested_design(Population((4, 4), 3, np.ones((8, 2)), np.arange(3.0)))
    >>> design.weights.tolist(), design.levels[0].counts.tolist()
    ([1.0, 1.0, 1.0, 1.0], [4, 4, 4, 4])
    """
    d, offsets = population.dimension, np.cumsum([0, *population.sizes])
    leaves: list[tuple[float, int, int, int]] = []
    cells: list[tuple[int, int]] = []
    for c in range(population.C):
        weights = population.weights[offsets[c] : offsets[c + 1]]
        for k in range(population.K):
            positive = weights[weights[:, k] > 0, k]
            if len(positive):
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

    level = fixed_level(population) if project else "none"
    shared = not isinstance(population.within_covariance, tuple)
    within = population.within[: 1 if shared else population.C]
    noise = np.asarray([effect(s) for s in within])[label * (not shared)]
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
    stacked, basis = _rotated(effects, d)
    means = means if basis is None else means @ basis
    return NestedDesign(weight, levels, stacked, means, basis)


def rows(design: NestedDesign) -> int:
    """Return the degrees of freedom of the noise: samples less projected rows.

    Parameters
    ----------
    design : NestedDesign
        The design.

    Returns
    -------
    int

    Notes
    -----
    Theory: theory/random_matrix.md#R9.

    Examples
    --------
    >>> rows(nested_design(Population((4, 4), 3, np.ones((8, 2)), 1.0)))
    16
    """
    removed = sum(len(x.parents) for x in design.levels if x.projected)
    return int(np.sum(design.levels[0].counts)) - removed


def traces(design: NestedDesign) -> np.ndarray:
    """Return tr S_r of every effect.

    Parameters
    ----------
    design : NestedDesign
        The design.

    Returns
    -------
    array, shape (k,)

    Notes
    -----
    Theory: theory/random_matrix.md#R9.

    Examples
    --------
    >>> traces(nested_design(Population((4,), 3, np.ones((4, 1)), 2.0))).tolist()
    [6.0]
    """
    return np.asarray(
        [s.sum() if s.ndim == 1 else s.trace() for s in design.covariances]
    )


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
    rotated = []
    for k, s in enumerate(effects):
        if k == full[0]:
            rotated.append(np.maximum(values, 0))
        elif np.ndim(s) == 0:
            rotated.append(np.full(d, float(s)))
        else:
            inner = s @ basis if np.ndim(s) == 2 else s[:, None] * basis
            rotated.append(basis.T @ inner)
    return tuple(rotated), basis
