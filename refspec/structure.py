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

from collections.abc import Callable
from dataclasses import dataclass, replace

from refspec import backend
from refspec.backend import Array
from refspec.curvature import SecondMoment, classes_of

__all__ = [
    "Decomposition",
    "cell_norms",
    "cell_projections",
    "cell_rows",
    "cells",
    "decompose",
    "plain_means",
    "unit_rows",
]


@dataclass(frozen=True, slots=True, eq=False)
class Decomposition:
    """A second moment and the levels it is the sum of.

    Parameters
    ----------
    total : SecondMoment
        The whole.
    levels : dict of str to SecondMoment
        `diagonal`, `between_class`, `between_cross_class`, `within_cross_class` for
        errors and gradients (K = C); `global_mean`, `between_class`, `within_class` for
        features (K = 1). Their matrices add up to the total's.

    Notes
    -----
    Theory: theory/levels.md#L1, #L2.
    """

    total: SecondMoment
    levels: dict[str, SecondMoment]


def decompose(moment: SecondMoment) -> Decomposition:
    """Split a second moment into its levels.

    Parameters
    ----------
    moment : SecondMoment
        Of features, errors or gradients.

    Returns
    -------
    Decomposition
        Every level is the same rows seen through a projection.

    Notes
    -----
    Theory: theory/levels.md#L1, #L2, #L4, #L6, #L7. Papyan (2020), eq. (6.4); in errors
    and gradients class means leave c' = c out, since over all c' they vanish (score
    identity).

    Examples
    --------
    >>> import refspec
    >>> split = decompose(refspec.curvature.fisher(refspec.datasets.digits_mlp()))
    >>> sorted(split.levels)[:2]
    ['between_class', 'between_cross_class']
    """
    norms = cell_norms(moment)
    projections = cell_projections(norms)
    levels = {
        name: replace(moment, projection=_lifted(moment, norms, project))
        for name, project in projections.items()
    }
    levels[_within(moment)] = replace(moment, projection=_rest(moment, norms))
    return Decomposition(moment, levels)


def plain_means(moment: SecondMoment) -> SecondMoment:
    """Convert to the 2019 convention: the same rows, averaged with plain means.

    The square root of p stays in the rows, as always here; the class means then weigh
    every sample of a cell, and every cross class of a class, alike.

    Parameters
    ----------
    moment : SecondMoment
        With the weights w = s p of the 2020 convention.

    Returns
    -------
    SecondMoment
        The same second moment with weights s, to be decomposed.

    Notes
    -----
    Theory: theory/levels.md#L5. Papyan (2019), eq. (28).
    """
    xp, w = backend.namespace(moment.weights), moment.weights
    s = xp.sum(w, axis=1, keepdims=True)
    return replace(moment, weights=s + xp.zeros_like(w))


def cell_norms(moment: SecondMoment) -> Array:
    """Return sqrt(sum of w over the cell), shape (C, K)."""
    xp, w = backend.namespace(moment.weights), moment.weights
    sums = [xp.sum(w[i:j, :], axis=0)[None, :] for _, i, j in classes_of(moment)]
    return xp.sqrt(backend.concatenate(sums))


def cells(moment: SecondMoment, rows: Array, norms: Array) -> Array:
    """Return Q'rows, shape (C, K, m): mean times sqrt(mass) of every cell.

    Theory: theory/curvature.md#C7.
    """
    xp, root = backend.namespace(rows), _unit(moment, norms)
    sums = [
        xp.sum(root[i:j, :, None] * rows[i:j, ...], axis=0)[None, ...]
        for _, i, j in classes_of(moment)
    ]
    return backend.concatenate(sums)


def cell_projections(norms: Array) -> dict[str, Callable[[Array], Array]]:
    """Return the levels of the means as projections of the cell space, (C, K, m)."""
    xp = backend.namespace(norms)
    C, K = norms.shape
    if K == 1:
        overall = _direction(norms, axis=(0, 1))
        return {
            "global_mean": lambda x: _along(overall, x, (0, 1)),
            "between_class": lambda x: x - _along(overall, x, (0, 1)),
        }
    diagonal = xp.eye(C, dtype=norms.dtype, device=backend.device(norms))
    off = _direction(norms * (1 - diagonal), axis=1)
    own = diagonal[:, :, None]
    return {
        "diagonal": lambda x: own * x,
        "between_class": lambda x: _along(off, x, 1),
        "between_cross_class": lambda x: (1 - own) * x - _along(off, x, 1),
    }


def _within(moment: SecondMoment) -> str:
    """Name the level of what means leave over."""
    return "within_class" if moment.weights.shape[1] == 1 else "within_cross_class"


def _direction(norms: Array, axis: int | tuple[int, ...]) -> Array:
    """Return norms scaled to unit length along axis; zero where there is no mass."""
    xp = backend.namespace(norms)
    size = xp.sqrt(xp.sum(norms * norms, axis=axis, keepdims=True))
    return xp.where(size > 0, norms / xp.where(size > 0, size, size + 1), norms)


def _along(unit: Array, x: Array, axis: int | tuple[int, ...]) -> Array:
    """Project x (C, K, m) on a unit direction: u u'x."""
    xp, u = backend.namespace(x), unit[:, :, None]
    return u * xp.sum(u * x, axis=axis, keepdims=True)


def unit_rows(moment: SecondMoment, norms: Array, c: int) -> Array:
    """Return the entries of q_{cc'} over class c's samples, shape (n_c, K)."""
    xp, (i, j) = backend.namespace(norms), moment.offsets[c : c + 2]
    safe = xp.where(norms > 0, norms, xp.ones_like(norms))
    return xp.sqrt(moment.weights[i:j, :]) / safe[c, :]


def cell_rows(moment: SecondMoment, norms: Array, c: int) -> Array:
    """Return the class-c rows of Q, the matrix of all q_{cc'}, shape (n_c K, K)."""
    xp, K = backend.namespace(norms), norms.shape[1]
    one = xp.eye(K, dtype=norms.dtype, device=backend.device(norms))
    return xp.reshape(unit_rows(moment, norms, c)[:, :, None] * one, (-1, K))


def _unit(moment: SecondMoment, norms: Array) -> Array:
    """Return the entries of every q_{cc'}, shape (N, K)."""
    classes = range(norms.shape[0])
    return backend.concatenate(unit_rows(moment, norms, c) for c in classes)


def _spread(moment: SecondMoment, means: Array, norms: Array) -> Array:
    """Return Q means, shape (N, K, m)."""
    root = _unit(moment, norms)
    parts = [root[i:j, :, None] * means[c, ...] for c, i, j in classes_of(moment)]
    return backend.concatenate(parts)


def _lifted(
    moment: SecondMoment, norms: Array, project: Callable[[Array], Array]
) -> Callable[[Array], Array]:
    """Return Q Pi Q' for a projection Pi of the cell space."""
    return lambda rows: _spread(moment, project(cells(moment, rows, norms)), norms)


def _rest(moment: SecondMoment, norms: Array) -> Callable[[Array], Array]:
    """Return I - QQ'."""
    return lambda rows: rows - _spread(moment, cells(moment, rows, norms), norms)
