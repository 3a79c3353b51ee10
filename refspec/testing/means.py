r"""Means of classes and cross classes as somebody else takes them.

A mean of vectors x is :math:`\sum w x / \sum w`, and everything that goes wrong with it
is another w: of the samples in a cell, of the cross classes of a class, of the classes.
So the means of all cells come first, each with its mass :math:`\sum w`; class means,
and the levels that means make, are the same cells weighed otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from refspec.classes import class_slices
from refspec.curvature import SecondMoment


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Means v_{c,c'} of the cells, (C, K, P), and their masses, (C, K)."""

    cells: np.ndarray
    mass: np.ndarray

    @property
    def others(self) -> np.ndarray:
        """Masses of what a class mean is over: c' = c is left out (K = C)."""
        return self.mass if self.mass.shape[1] == 1 else _off_diagonal(self.mass)

    @property
    def alike(self) -> Means:
        """Return the same means with one mass for every cross class of a class."""
        sums = self.mass.sum(axis=1, keepdims=True) / self.mass.shape[1]
        return replace(self, mass=np.broadcast_to(sums, self.mass.shape))

    @property
    def masses(self) -> np.ndarray:
        """Mass of every class mean, (C,)."""
        return np.asarray(self.others.sum(axis=1))

    @property
    def classes(self) -> np.ndarray:
        """Class means v_c, (C, P)."""
        return _average(self.cells, self.others, 1)

    @property
    def overall(self) -> np.ndarray:
        """Mean of the class means by their masses, (P,)."""
        return _average(self.classes, self.masses, 0)


def of_moment(moment: SecondMoment) -> Means:
    """Return the means of a moment's vectors; zero where a cell has no mass.

    Theory: theory/levels.md#L1.
    """
    w = moment.weights
    return _weighted(moment, np.sqrt(w), w)


def _of_samples_alike(moment: SecondMoment) -> np.ndarray:
    """Return plain means over the samples of every cell, (C, K, P)."""
    w = moment.weights
    roots = np.sqrt(w)
    safe = np.divide(1.0, roots, out=np.zeros_like(roots), where=roots > 0)
    return _weighted(moment, safe, np.ones_like(w)).cells


def other_vectors(
    which: str, moment: SecondMoment, true: Means, found: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield what the means named `which` are with each usual mistake in them."""
    K = moment.weights.shape[1]
    plain = replace(true, cells=_of_samples_alike(moment))  # masses as they should be
    if which == "global_mean":
        text = "the mean of the C class means: weigh each with its share of the samples"
        yield "classes weighed alike", text, np.mean(true.classes, axis=0)
        text = "sample weights ignored: 1/N for every sample"
        yield "samples weighed alike", text, plain.overall
        return
    if which == "cross_class_means":
        mean, mass = true.cells, true.mass
        text = "the index of the class and that of the cross class are exchanged"
        yield "c and c' exchanged", text, np.swapaxes(mean, 0, 1)
        text = "the class mean is taken off: v_{c,c'} - v_c"
        yield "class mean taken off", text, mean - true.classes[:, None, :]
        text = "those with c' = c are 0: give the means of g_{i,c,c} there"
        yield "c' = c left out", text, _off_diagonal(mean)
    else:
        mean, mass = true.classes, true.masses
        order = _nearest(found, mean)
        text = f"classes are in another order, {order}: row c is the mean of class c"
        yield "class order", text, mean[order]
        text = "the global mean is taken off"
        yield "global mean taken off", text, mean - true.overall
        text = "the mean of the C class means, each counted alike, is taken off"
        yield "classes weighed alike", text, mean - np.mean(mean, axis=0)
        if K > 1:
            text = (
                "cross classes with 1/(C - 1) each: weigh v_{c,c'} with its sum of p "
                "over the class"
            )
            yield "cross classes weighed alike", text, true.alike.classes
            text = "means over all C cross classes: leave c' = c out"
            yield "c' = c not left out", text, np.mean(true.cells, axis=1)
            text = "plain means over samples and cross classes: weigh each with its p"
            yield "p left out", text, plain.alike.classes
    seen = plain.cells if which == "cross_class_means" else plain.classes
    text = "plain means over the samples of a cell: weigh each with its p and weight"
    yield "samples weighed alike", text, seen
    text = "sums of weights times vectors: divide by the sum of the weights"
    yield "not divided by the mass", text, mass[..., None] * mean
    if K > 1:
        whole = true.mass.sum(axis=1)
        share = mass / (whole[:, None] if mass.ndim > 1 else whole)
        text = "divided by the samples of a class: divide by the sum of p over them"
        yield "divided by the samples", text, share[..., None] * mean


def other_levels(
    which: str, true: Means, Z: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield products with Z of a level whose means are weighed otherwise."""
    C, K = true.mass.shape
    classes, masses = true.classes, true.masses
    alike = np.full(C, masses.sum() / C)
    if which == "between_class" and K == 1:
        centre = np.mean(classes, axis=0)
        text = "centred at the mean of the C class means: weigh each with its samples"
        yield "classes weighed alike", text, _outer(classes - centre, masses, Z)
    elif which == "between_class":
        for size, how in ((alike, "their common mass"), (np.full(C, 1 / C), "1/C")):
            text = f"every class mean counts alike, {how}: weigh v_c with its mass"
            yield "classes weighed alike", text, _outer(classes, size, Z)
        text = "class means with 1/(C - 1) for each cross class: weigh them with p"
        yield "cross classes weighed alike", text, _outer(true.alike.classes, masses, Z)
    elif which == "between_cross_class":
        each = true.alike.classes[:, None, :]
        text = "around class means with 1/(C - 1) for each cross class: weigh with p"
        made = _outer(true.cells - each, true.others, Z)
        yield "cross classes weighed alike", text, made
        size = np.full((C, K), 1 / C / (C - 1))
        text = "every v_{c,c'} counts alike, 1/(C(C - 1)): weigh it with its mass"
        off = true.cells - classes[:, None, :]
        made = _outer(off, _off_diagonal(size), Z)
        yield "cross classes weighed alike", text, made


def _weighted(moment: SecondMoment, amounts: np.ndarray, w: np.ndarray) -> Means:
    """Return sums of amounts (N, K) times the rows over sums of w, cell by cell."""
    (N, K), C = w.shape, len(moment.offsets) - 1
    Z, mass = np.zeros((N, K, C, K)), np.zeros((C, K))
    for c, i, j in class_slices(moment.offsets):
        Z[i:j, np.arange(K), c, np.arange(K)] = amounts[i:j]
        mass[c] = w[i:j].sum(axis=0)
    made = moment.rows.cross(Z.reshape(N, K, C * K)).T.reshape(C, K, -1)
    safe = np.where(mass > 0, mass, 1.0)[:, :, None]
    return Means(np.asarray(made) / safe, mass)


def _nearest(found: np.ndarray, mean: np.ndarray) -> list[int]:
    """Return which mean (C, P) each row found is nearest to."""
    away = np.sum(mean**2, axis=1) - 2 * found @ mean.T
    return [int(c) for c in np.argmin(away, axis=1)]


def _average(x: np.ndarray, mass: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean along an axis by masses; zero without mass."""
    size = mass.sum(axis=axis)
    safe = np.where(size > 0, size, 1.0)
    return np.asarray(np.sum(mass[..., None] * x, axis=axis) / safe[..., None])


def _off_diagonal(x: np.ndarray) -> np.ndarray:
    """Return x (C, C, ...) with zeros where c' = c."""
    away = 1 - np.eye(len(x))
    return np.asarray(away.reshape(away.shape + (1,) * (x.ndim - 2)) * x)


def _outer(V: np.ndarray, mass: np.ndarray, Z: np.ndarray) -> np.ndarray:
    """Return the products with Z of the sum of mass v v'."""
    flat = V.reshape(-1, V.shape[-1])
    return np.asarray(flat.T @ (mass.reshape(-1, 1) * (flat @ Z)))
