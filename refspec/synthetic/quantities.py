"""The population quantities of a world: means, levels, Fisher and its eigenvalues.

All in closed form, exact at the world's own N and given its probabilities: expectations
over draws, nothing estimated and nothing a limit. The algebra is that of
`refspec.synthetic.expectations`. Host arithmetic, float64.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from refspec import rounding
from refspec.synthetic import expectations, hierarchy
from refspec.synthetic.groups import Group
from refspec.synthetic.worlds import World

__all__ = ["fisher", "fisher_groups", "levels", "means"]


def means(world: World, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected means of a layer's features and errors.

    Parameters
    ----------
    world : World
    name : str
        Of the layer.

    Returns
    -------
    features : array, shape (C, a)
        Of each class.
    errors : array, shape (C, C, b)
        Of each class and cross class, weighted as in `refspec.structure`.

    Raises
    ------
    ValueError
        If no layer has this name.

    Notes
    -----
    Theory: theory/worlds.md#W5, #W8. In a score-consistent plan the mean at c' = c
    balances the others.

    Examples
    --------
    >>> from refspec.synthetic import Hierarchy, Plan, planted
    >>> plan = Plan("fc", Hierarchy(2, 1, class_means=np.ones((2, 1))),
    ...             score_consistent=True)
    >>> world = planted([plan], [5, 7], rng=np.random.default_rng(0))
    >>> means(world, "fc")[1][:, :, 0].tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """
    plan, labels, w = world.plan(name), world.snapshot.labels, world.weights
    C = len(world.sizes)
    features = hierarchy.planted_means(hierarchy.feature_law(plan), 1)[:, 0]
    errors = hierarchy.planted_means(plan.errors, C)
    if plan.score_consistent:
        for c in range(C):
            mass = np.sum(w[labels == c], axis=0)
            off = np.arange(C) != c
            errors[c, c] = -(mass[off] @ errors[c, off]) / mass[c]
    return features, errors


def levels(
    world: World, name: str
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Return the expected level second moments of a layer's features and errors.

    Parameters
    ----------
    world : World
    name : str
        Of the layer.

    Returns
    -------
    features, errors : mapping of str to array
        As `refspec.synthetic.expectations.feature_levels` and `error_levels`.

    Raises
    ------
    ValueError
        If no layer has this name.

    Notes
    -----
    Theory: theory/worlds.md#W6, #W7, #W8.

    Examples
    --------
    >>> from refspec.synthetic import Hierarchy, Plan, planted
    >>> plan = Plan("fc", Hierarchy(2, 3), Hierarchy(2, 4))
    >>> world = planted([plan], [5, 7], rng=np.random.default_rng(0))
    >>> sorted(levels(world, "fc")[0])
    ['between_class', 'global_mean', 'within_class']
    """
    plan, labels, N = world.plan(name), world.snapshot.labels, sum(world.sizes)
    law = hierarchy.feature_law(plan)
    features = expectations.feature_levels(law, labels, np.full(N, 1 / N))
    return features, expectations.error_levels(plan, labels, world.weights)


def fisher(world: World) -> np.ndarray:
    """Return the expected Fisher matrix of a world, all layers.

    Parameters
    ----------
    world : World

    Returns
    -------
    array, shape (P, P)
        Blocks in the order of the layers; within one, errors (x) features.

    Notes
    -----
    Theory: theory/worlds.md#W9.

    Examples
    --------
    >>> from refspec.synthetic import Hierarchy, Plan, planted
    >>> plan = Plan("fc", Hierarchy(2, 3), Hierarchy(2, 4))
    >>> fisher(planted([plan], [5, 7], rng=np.random.default_rng(0))).shape
    (12, 12)
    """
    p, labels = world.probabilities, world.snapshot.labels
    average = np.full(len(p), 1 / len(p))
    return expectations.expected_fisher(world.plans, labels, average, p)


def fisher_groups(world: World) -> tuple[Group, ...]:
    """Return the eigenvalues of the expected Fisher with their multiplicities.

    Parameters
    ----------
    world : World

    Returns
    -------
    tuple of Group
        Those of the world where they are known in closed form; otherwise the computed
        eigenvalues, descending, one group where they differ by less than the bound on
        the eigensolver's rounding. Multiplicities add to P.

    Notes
    -----
    Theory: theory/worlds.md#W9, #W10, #W12. Cost O(P^3) without closed form.

    Examples
    --------
    >>> from refspec.synthetic import Hierarchy, Plan, planted
    >>> plan = Plan("fc", Hierarchy(2, 3), Hierarchy(2, 4))
    >>> world = planted([plan], [5, 7], rng=np.random.default_rng(0))
    >>> [(round(g.value, 9), g.multiplicity) for g in fisher_groups(world)]
    [(1.0, 12)]
    """
    if world.groups is not None:
        return world.groups
    G = fisher(world)
    values = np.linalg.eigvalsh(G)[::-1]
    same = rounding.eigensolver_radius(len(G), float(np.linalg.norm(G)), 2.0**-53)
    starts = np.flatnonzero(np.concatenate([[True], -np.diff(values) > 2 * same]))
    parts = np.split(values, starts[1:])
    return tuple(Group("", float(np.mean(x)), len(x)) for x in parts)
