r"""The one idea: orthogonal projections of the sample index space.

The rows of X are indexed by (i, c'), sample and cross class. Averaging over the samples
of a class, over its cross classes, over all, are orthogonal projections P_level of the
row index space; they are mutually orthogonal and sum to the identity, so

.. math:: X'X = \sum_{level} X' P_{level} X

with positive semidefinite terms, adding traces and known ranks. Averages are taken in
two steps. The *cells* (c, c') come first: the unit vectors q_{cc'}, with entries
proportional to sqrt(w_{i,c,c'}), span the space that means live in; I - QQ' is within.
In the small cell space, (C, K), the other levels are projections again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from refspec import backend, checks, costs, rounding
from refspec.backend import Array, Namespace
from refspec.classes import Snapshot, class_slices
from refspec.costs import Cost
from refspec.curvature import SecondMoment, moment_of
from refspec.results import Result, View
from refspec.spaces import ALONE, Group, Space

#: The kind of eigenvalue each level makes, from the strongest structure to the weakest.
KINDS = {
    "global_mean": "outlier",
    "between_class": "outlier",
    "diagonal": "outlier",
    "between_cross_class": "bump",
    "within_cross_class": "bulk",
    "within_class": "bulk",
}


@dataclass(frozen=True, slots=True, eq=False)
class Decomposition(Result):
    """A second moment and the levels it is the sum of.

    Parameters
    ----------
    total : SecondMoment
        The whole.
    levels : dict of str to SecondMoment
        `diagonal`, `between_class`, `between_cross_class`, `within_cross_class` for
        errors and gradients (K = C); `global_mean`, `between_class`, `within_class` for
        features (K = 1). Their matrices add up to the total's.
    of_cells : dict of str to callable
        The levels of the means as projections of the cell space, (C, K, m) to
        (C, K, m); what they leave is the level that is not among them.

    Notes
    -----
    Theory: theory/levels.md#L1, #L2.
    """

    total: SecondMoment
    levels: dict[str, SecondMoment]
    of_cells: dict[str, Callable[[Array], Array]]

    def without(self, level: str) -> SecondMoment:
        """Return the whole without a level: a knock-out, by subtraction.

        Parameters
        ----------
        level : str
            The name of one.

        Returns
        -------
        SecondMoment
            The same rows, the level's part of them taken out.

        Raises
        ------
        ValueError
            If there is no such level.
        """
        checks.expect_choice("level", level, list(self.levels))
        return self.together(n for n in self.levels if n != level)

    def together(self, levels: Iterable[str]) -> SecondMoment:
        """Return the sum of some levels, by name."""
        names, means = {*levels}, self.of_cells
        if names == {*self.levels}:
            return self.total
        outside = not names <= {*means}  # the rows without the means that are left out
        chosen = [pi for n, pi in means.items() if (n in names) != outside]
        some = None if outside and len(chosen) == len(means) else _added(chosen)
        one = cast(Level, self.levels[next(iter(means))].projection)
        return replace(
            self.total, projection=replace(one, of_cells=some, outside=outside)
        )

    def __repr__(self) -> str:
        """Name the levels."""
        return f"Decomposition({self.total!r} = {' + '.join(self.levels)})"

    def view(self) -> View:
        """Give every level's trace."""
        traces = [float(x.trace()) for x in self.levels.values()]
        facts = {"trace": float(self.total.trace())}
        return View("level", list(self.levels), {"trace": traces}, facts=facts)


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The projection of some levels: Q Pi Q', or I - Q Pi Q' with what is within.

    Parameters
    ----------
    unit : Array, shape (N, K)
        The entries of all q_{cc'}: sqrt(w) over its length in the cell.
    offsets : tuple of int, length C + 1
        Where the classes begin and end.
    of_cells : callable or None
        Pi, a projection of the cell space, (C, K, m) to (C, K, m); None: all of it.
    outside : bool
        Whether it is I - Q Pi Q'.
    first : callable or None
        A projection that commutes with this one and is applied before it.
    group : Group
        The processes that have the other rows, if arrays over the rows are in pieces.
    """

    unit: Array
    offsets: tuple[int, ...]
    of_cells: Callable[[Array], Array] | None
    outside: bool = False
    first: Callable[[Array], Array] | None = None
    group: Group = ALONE

    def __call__(self, rows: Array, /) -> Array:
        """Project arrays over the rows, (N, K, m)."""
        rows = rows if self.first is None else self.first(rows)
        means = _gathered(self.unit, self.offsets, rows, self.group)
        means = means if self.of_cells is None else self.of_cells(means)
        return _spread(self.unit, self.offsets, means, rows if self.outside else None)


def decompose(moment: SecondMoment | Snapshot) -> Decomposition:
    """Split a second moment into its levels.

    Parameters
    ----------
    moment : SecondMoment or Snapshot
        Features, errors or gradients; a snapshot stands for its Fisher information.

    Returns
    -------
    Decomposition
        Every level is the same rows seen through a projection.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If the moment has a projection that does not commute with the levels.

    Notes
    -----
    Theory: theory/levels.md#L1, #L2, #L4, #L6, #L7. Papyan (2020), eq. (6.4); in errors
    and gradients class means leave c' = c out, since over all c' they vanish (score
    identity).

    Examples
    --------
    >>> import refspec
    >>> split = decompose(refspec.datasets.digits_mlp())
    >>> sorted(split.levels)[:2]
    ['between_class', 'between_cross_class']
    """
    moment = moment_of(moment)
    norms = cell_norms(moment)
    unit, offsets, first = cell_units(moment, norms), moment.offsets, moment.projection
    of_cells, group = cell_projections(norms), moment.rows.group
    within = within_name(norms.shape[1])
    levels = {
        n: Level(unit, offsets, pi, n == within, first, group)
        for n, pi in {**of_cells, within: None}.items()
    }
    if first is not None:
        for name, level in levels.items():
            _expect_commuting(moment, name, level, first)
    moments = {n: replace(moment, projection=x) for n, x in levels.items()}
    return Decomposition(moment, moments, of_cells)


def plain_means(moment: SecondMoment | Snapshot) -> SecondMoment:
    """Convert to the 2019 convention: the same rows, averaged with plain means.

    The square root of p stays in the rows, as always here; the class means then weigh
    every sample of a cell, and every cross class of a class, alike.

    Parameters
    ----------
    moment : SecondMoment or Snapshot
        With the weights w = s p of the 2020 convention; a snapshot stands for its
        Fisher information.

    Returns
    -------
    SecondMoment
        The same second moment with weights s, to be decomposed.

    Notes
    -----
    Theory: theory/levels.md#L5. Papyan (2019), eq. (28).
    """
    moment = moment_of(moment)
    xp, w = moment.xp, moment.weights
    s = xp.sum(w, axis=1, keepdims=True)
    return replace(moment, weights=s + xp.zeros_like(w))


def within_name(K: int) -> str:
    """Name the level that means leave over, of features (K = 1) or of the others."""
    return "within_class" if K == 1 else "within_cross_class"


def kinds(parts: Mapping[str, Array]) -> list[str]:
    """Name the kind that makes up most of each eigenvalue, from parts (r,) by level.

    Parts may be signed: size decides. A name that is no level is a kind of its own.
    """
    totals: dict[str, Array] = {}
    for name, x in parts.items():
        kind = KINDS.get(name, name)
        totals[kind] = totals.get(kind, 0) + x
    names = list(totals)
    most = np.argmax(np.abs(np.stack(list(totals.values()))), axis=0)
    return [names[k] for k in most]


def cell_norms(moment: SecondMoment) -> Array:
    """Return sqrt(sum of w over the cell), shape (C, K)."""
    xp, w = moment.xp, moment.weights
    sums = [
        xp.sum(w[i:j, :], axis=0)[None, :] for _, i, j in class_slices(moment.offsets)
    ]
    return xp.sqrt(moment.rows.group.added(backend.concatenate(sums)))


def cells(moment: SecondMoment, rows: Array, norms: Array) -> Array:
    """Return Q'rows, shape (C, K, m): mean times sqrt(mass) of every cell.

    Theory: theory/curvature.md#C7.
    """
    return _gathered(cell_units(moment, norms), moment.offsets, rows, moment.rows.group)


def cell_vectors(moment: SecondMoment, norms: Array) -> Array:
    """Return all q_{cc'}, shape (N, K, C K)."""
    (C, K), unit = norms.shape, cell_units(moment, norms)
    every = moment.xp.eye(C * K, dtype=norms.dtype, device=backend.device(norms))
    return _spread(unit, moment.offsets, moment.xp.reshape(every, (C, K, C * K)))


def cell_gram(moment: SecondMoment, norms: Array) -> Array:
    """Return Q'XX'Q, shape (C K, C K), some cells at a time: X is never formed.

    Theory: theory/curvature.md#C7.
    """
    xp, (C, K), group = moment.xp, norms.shape, moment.rows.group
    unit = cell_units(moment, norms)
    every = xp.eye(C * K, dtype=norms.dtype, device=backend.device(norms))
    step, parts = group.least(backend.at_a_time(16 * moment.rows.widest, norms)), []
    for j in range(0, C * K, step):
        some = xp.reshape(every[:, j : min(j + step, C * K)], (C, K, -1))
        z = moment.project(_spread(unit, moment.offsets, some))
        back = moment.project(moment.rows.gram_times(z))
        parts.append(_gathered(unit, moment.offsets, back, group))
        costs.done(Cost(moment.rows.work.product) * some.shape[2])
    made = xp.reshape(backend.concatenate(parts, axis=2), (C * K, C * K))
    return (made + xp.matrix_transpose(made)) / 2


def cell_projections(norms: Array) -> dict[str, Callable[[Array], Array]]:
    """Return the levels of the means as projections of the cell space, (C, K, m)."""
    xp = backend.namespace(norms)
    K = norms.shape[1]
    if K == 1:
        overall = direction(norms, (0, 1), xp)
        return {
            "global_mean": lambda x: _along(overall, x, (0, 1), xp),
            "between_class": lambda x: x - _along(overall, x, (0, 1), xp),
        }
    diagonal, others = of_classes(norms)
    own = diagonal[:, :, None]
    return {
        "diagonal": lambda x: own * x,
        "between_class": lambda x: _along(others, x, 1, xp),
        "between_cross_class": lambda x: (1 - own) * x - _along(others, x, 1, xp),
    }


def of_classes(norms: Array) -> tuple[Array, Array]:
    """Return the cells (C, C) that are a class's own, and a class mean's unit vectors.

    The mean of a class leaves c' = c out.
    """
    xp, C = backend.namespace(norms), norms.shape[0]
    own = xp.eye(C, dtype=norms.dtype, device=backend.device(norms))
    return own, direction(norms * (1 - own), 1, xp)


def class_means(means: Array, norms: Array) -> tuple[Array, Array]:
    """Return class means, (C, m), and their masses, (C,), from Q'X (C, K, m).

    A class mean of errors or gradients leaves c' = c out; it is 0 without mass.
    """
    xp, (C, K) = backend.namespace(norms), norms.shape
    if K > 1:
        norms = norms * (1 - xp.eye(C, dtype=norms.dtype, device=backend.device(norms)))
    mass = xp.sum(norms * norms, axis=1)
    sums = xp.sum(norms[:, :, None] * means, axis=1)
    return sums / xp.where(mass > 0, mass, xp.ones_like(mass))[:, None], mass


def unit_rows(moment: SecondMoment, norms: Array, c: int) -> Array:
    """Return the entries of q_{cc'} over class c's samples, shape (n_c, K)."""
    xp, (i, j) = moment.xp, moment.offsets[c : c + 2]
    safe = xp.where(norms > 0, norms, xp.ones_like(norms))
    return xp.sqrt(moment.weights[i:j, :]) / safe[c, :]


def cell_rows(moment: SecondMoment, norms: Array, c: int) -> Array:
    """Return the class-c rows of Q, the matrix of all q_{cc'}, shape (n_c, K, K)."""
    K = norms.shape[1]
    one = moment.xp.eye(K, dtype=norms.dtype, device=backend.device(norms))
    return unit_rows(moment, norms, c)[:, :, None] * one


def direction(norms: Array, axis: int | tuple[int, ...], xp: Namespace) -> Array:
    """Return norms scaled to unit length along axis; zero where there is no mass."""
    size = xp.sqrt(xp.sum(norms * norms, axis=axis, keepdims=True))
    return xp.where(size > 0, norms / xp.where(size > 0, size, size + 1), norms)


def _along(unit: Array, x: Array, axis: int | tuple[int, ...], xp: Namespace) -> Array:
    """Project x (C, K, m) on a unit direction: u u'x."""
    u = unit[:, :, None]
    return u * xp.sum(u * x, axis=axis, keepdims=True)


def cell_units(moment: SecondMoment, norms: Array) -> Array:
    """Return the entries of every q_{cc'}, shape (N, K)."""
    classes = range(norms.shape[0])
    return backend.concatenate(unit_rows(moment, norms, c) for c in classes)


def _gathered(
    unit: Array, offsets: tuple[int, ...], rows: Array, group: Group
) -> Array:
    """Return Q'rows, shape (C, K, m)."""
    xp = backend.namespace(unit)
    sums = [
        xp.sum(unit[i:j, :, None] * rows[i:j, ...], axis=0)[None, ...]
        for _, i, j in class_slices(offsets)
    ]
    return group.added(backend.concatenate(sums))


def _spread(
    unit: Array, offsets: tuple[int, ...], means: Array, rows: Array | None = None
) -> Array:
    """Return Q means, shape (N, K, m), or rows - Q means."""
    # class by class in one pass: arrays over the rows are what the work is
    shape, where = (*unit.shape, means.shape[2]), backend.device(means)
    xp = backend.namespace(unit)
    out = xp.empty(shape, dtype=means.dtype, device=where)
    for c, i, j in class_slices(offsets):
        part = unit[i:j, :, None] * means[c, ...]
        out[i:j, ...] = part if rows is None else rows[i:j, ...] - part
    return out


def _added(
    projections: Sequence[Callable[[Array], Array]],
) -> Callable[[Array], Array]:
    """Return the sum of orthogonal projections of the cell space."""
    return lambda x: sum(pi(x) for pi in projections)


def _expect_commuting(
    moment: SecondMoment, name: str, level: Level, first: Callable[[Array], Array]
) -> None:
    """Refuse a projection Q with PQ != QP: X'QX would not be the sum of its levels."""
    w = moment.weights
    probe = np.random.default_rng(0).standard_normal((*w.shape, 1))
    z = backend.beside(probe, w)
    alone = replace(level, first=None)
    space = Space(0, 0, moment.rows.group)
    gap = space.length(alone(first(z)) - first(alone(z)))
    k = 16 * (w.shape[0] + w.shape[1]) + 64  # both are two averages of z, and back
    size = space.length(z)
    if gap > rounding.gamma(k, rounding.unit_roundoff(w)) * size:
        raise ValueError(
            "moment must have a projection that commutes with its levels, got one that "
            f"moves {name} by {gap / size:.2g} of its length; decompose the moment "
            "without its projection"
        )
