r"""What a planted world should show: means, levels, Fisher matrix and its eigenvalues.

Everything here is exact at finite N, given the probabilities: the level second moments
of `refspec.structure` are quadratic in independent centred terms, so their expectations
are a planted part plus a known multiple of each covariance. Nothing is estimated and
nothing is a limit. Host arithmetic, float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refspec import checks, rounding
from refspec.populations import (
    KroneckerPopulation,
    Population,
    as_kronecker,
    as_matrix,
)
from refspec.synthetic.groups import Group
from refspec.synthetic.worlds import AnyPopulation, World


def expected_means(world: World, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected means of a layer's features and errors.

    Parameters
    ----------
    world : World
    name : str, of the layer

    Returns
    -------
    features : array, shape (C, a)
    errors : array, shape (C, C, b), weighted as in `refspec.structure`

    Raises
    ------
    ValueError, TypeError
        If no layer has this name.

    Notes
    -----
    Theory: theory/worlds.md#W5; theory/expectations.md#W8 (score-consistent: the mean
    at c' = c balances the others).

    Examples
    --------
    >>> from refspec.synthetic import planted
    >>> errors = Population((5, 7), 1, np.ones((12, 2)), 1.0,
    ...                     class_means=np.ones((2, 1)), score_consistent=True)
    >>> world = planted({"fc": errors}, rng=np.random.default_rng(0))
    >>> expected_means(world, "fc")[1][:, :, 0].tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """
    both = _layer(world, name)
    errors, w = both.errors.fixed_means(), both.errors.weights
    if both.errors.score_consistent:
        for c in range(both.errors.C):
            mass = np.sum(w[both.errors.labels == c], axis=0)
            off = np.arange(both.errors.C) != c
            errors[c, c] = -(mass[off] @ errors[c, off]) / mass[c]
    return both.features.fixed_means()[:, 0], errors


def expected_levels(
    world: World, name: str
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Return the expected level second moments of a layer's features and errors.

    Parameters
    ----------
    world, name
        As in `expected_means`.

    Returns
    -------
    features, errors : mapping of str to array, shapes (a, a) and (b, b)
        The levels of `refspec.structure`; each family adds to its expected total.

    Raises
    ------
    ValueError, TypeError
        If no layer has this name.

    Notes
    -----
    Theory: theory/expectations.md#W6, #W7, #W8.

    Examples
    --------
    >>> from refspec.synthetic import planted
    >>> errors = Population((5, 7), 3, np.ones((12, 2)), 1.0)
    >>> world = planted({"fc": errors}, rng=np.random.default_rng(0))
    >>> sorted(expected_levels(world, "fc")[0])
    ['between_class', 'global_mean', 'within_class']
    """
    both = _layer(world, name)
    return feature_levels(both.features), error_levels(both.errors)


def expected_fisher(world: World) -> np.ndarray:
    """Return the expected Fisher matrix of a world, all layers.

    Parameters
    ----------
    world : World

    Returns
    -------
    array, shape (P, P)
        Blocks in the order of the layers; within one, errors (x) features.

    Raises
    ------
    TypeError
        If `world` is no World.

    Notes
    -----
    Theory: theory/expectations.md#W9.

    Examples
    --------
    >>> from refspec.synthetic import planted
    >>> errors = Population((5, 7), 3, np.ones((12, 2)), 1.0)
    >>> expected_fisher(planted({"fc": errors}, rng=np.random.default_rng(0))).shape
    (3, 3)
    """
    _expect_world(world)
    return fisher_of_layers(list(world.populations.values()))


def fisher_groups(world: World) -> tuple[Group, ...]:
    """Return the eigenvalues of the expected Fisher with their multiplicities.

    Computed ones, O(P^3), count as equal within the rounding of the eigensolver.
    Theory: theory/expectations.md#W9, #W10; theory/logistic.md#W12.
    """
    _expect_world(world)
    if world.groups is not None:
        return world.groups
    G = expected_fisher(world)
    values = np.linalg.eigvalsh(G)[::-1]
    same = rounding.eigensolver_radius(len(G), float(np.linalg.norm(G)), 2.0**-53)
    starts = np.flatnonzero(np.concatenate([[True], -np.diff(values) > 2 * same]))
    parts = np.split(values, starts[1:])
    return tuple(Group("", float(np.mean(x)), len(x)) for x in parts)


def feature_levels(features: Population) -> Mapping[str, np.ndarray]:
    """Return the expected second moment (a, a) of each level of the features.

    They add to the expected total. Theory: theory/expectations.md#W6.
    """
    s, labels, d = features.weights[:, 0], features.labels, features.dimension
    C, mass = features.C, np.bincount(labels, s)
    q = np.bincount(labels, s**2, C)
    m = features.fixed_means()[:, 0, :]
    S1 = as_matrix(features.class_covariance, d)
    average = mass @ m
    overall = np.outer(average, average) + np.sum(mass**2) * S1 + _mix(q, features)
    # a class mean of noise keeps q / s of it: sum_i (s_i / s)^2 times s
    kept = _ratio(q, mass)
    classes = (m.T * mass) @ m + np.sum(mass) * S1 + _mix(kept, features)
    return {
        "global_mean": overall,
        "between_class": classes - overall,
        "within_class": _mix(mass - kept, features),
    }


def error_levels(errors: Population) -> Mapping[str, np.ndarray]:
    """Return the expected second moment (b, b) of each level of the errors.

    They add to the expected total; weights must be independent of the errors. Theory:
    theory/expectations.md#W7, #W8.
    """
    C, d, labels = errors.C, errors.dimension, errors.labels
    S1, S2 = (
        as_matrix(x, d) for x in (errors.class_covariance, errors.cross_covariance)
    )
    planted = errors.fixed_means()
    names = ("diagonal", "between_class", "between_cross_class", "within_cross_class")
    out = {name: np.zeros((d, d)) for name in names}
    for c in range(C):
        w, off = errors.weights[labels == c], np.arange(C) != c
        S3 = as_matrix(errors.within[c], d)
        mass, square, m = w.sum(axis=0), (w**2).sum(axis=0), planted[c, off]
        miss, noisy = mass[off].sum(), np.sum(_ratio(square[off], mass[off]))
        share = _ratio(mass[off], miss)
        center = share @ m
        # the class mean averages cross effects by share^2, noise by square / miss^2
        middle = miss * (np.outer(center, center) + S1 + np.sum(share**2) * S2)
        middle = middle + _ratio(square[off].sum(), miss) * S3
        spread = (m.T * mass[off]) @ m + miss * (S1 + S2) + noisy * S3
        if errors.score_consistent:  # W8: v_{c,c} = -(miss / mass_c) v_c
            diagonal = _ratio(miss, mass[c]) * middle
        else:
            diagonal = mass[c] * (np.outer(planted[c, c], planted[c, c]) + S1 + S2)
            diagonal = diagonal + _ratio(square[c], mass[c]) * S3
        out["diagonal"] += diagonal
        out["between_class"] += middle
        out["between_cross_class"] += spread - middle
        out["within_cross_class"] += cross_moment(errors, c) - spread - diagonal
    return out


def cross_moment(errors: Population, c: int) -> np.ndarray:
    """Return A_c = E sum_{i in c, c'} w delta delta', shape (b, b).

    Its sum over c is the expected second moment of all errors. Theory:
    theory/expectations.md#W7, #W8.
    """
    d, w = errors.dimension, errors.weights[errors.labels == c]
    mean, ones, squares = _rows(errors, c)
    flat = mean.reshape(-1, d)
    noise = as_matrix(errors.cross_covariance, d) + as_matrix(errors.within[c], d)
    fixed = (flat.T * w.reshape(-1)) @ flat
    effects = np.sum(w * ones**2) * as_matrix(errors.class_covariance, d)
    return np.asarray(fixed + effects + np.sum(w * squares) * noise)


def fisher_of_layers(populations: Sequence[AnyPopulation]) -> np.ndarray:
    """Return the expected Fisher matrix (P, P) of layers drawn independently.

    Blocks are in the order of the layers, each gradient errors (x) features; those off
    the diagonal come from the means alone. Theory: theory/expectations.md#W9.
    """
    layers = [as_kronecker(x) for x in populations]
    ends = np.cumsum([0, *(x.dimension for x in layers)])
    out = np.zeros((ends[-1], ends[-1]))
    for a, left in enumerate(layers):
        for b, right in enumerate(layers[: a + 1]):
            block = np.zeros((left.dimension, right.dimension))
            for c in range(left.errors.C):
                if a == b:
                    errors = cross_moment(left.errors, c)
                    features = _feature_moment(left.features, c)
                else:  # independent: products of means, every (i, c') by its own
                    x, y = (_rows(z.errors, c)[0] for z in (left, right))
                    w = left.errors.weights[left.errors.labels == c].reshape(-1)
                    flat = y.reshape(len(w), -1)
                    errors = (x.reshape(len(w), -1).T * w) @ flat
                    h, k = (z.features.fixed_means()[c, 0] for z in (left, right))
                    features = np.outer(h, k)
                block += np.kron(errors, features)
            if a == b:
                block += fisher_coupling(left)
            out[ends[a] : ends[a + 1], ends[b] : ends[b + 1]] = block
            out[ends[b] : ends[b + 1], ends[a] : ends[a + 1]] = block.T
    return out


def fisher_coupling(
    population: KroneckerPopulation, *, sampled: bool = False
) -> np.ndarray:
    """Return by how much the class-conditional Kronecker identity fails, (ab, ab).

    `sampled`: against factors estimated from the same samples, whose features meet
    their own errors there too; 0 without coupling. Theory: theory/expectations.md#W9.
    """
    errors, features = population.errors, population.features
    out = np.zeros((population.dimension, population.dimension))
    if not population.coupling:
        return out
    for c in range(errors.C):
        w = errors.weights[errors.labels == c]
        share = np.sum(w * _rows(errors, c)[2], axis=1)
        if sampled:
            share = share * (1 - _ratio(w.sum(axis=1), w.sum()))
        noise = as_matrix(errors.within[c], errors.dimension)
        other = as_matrix(features.within[c], features.dimension)
        out += population.coupling * np.sum(share) * np.kron(noise, other)
    return out


def _expect_world(world: World) -> None:
    """Refuse what is no world."""
    checks.expect_type("world", world, World, "plant one, see refspec.synthetic")


def _layer(world: World, name: str) -> KroneckerPopulation:
    """Return the population of the gradients of a layer."""
    _expect_world(world)
    return as_kronecker(world.layer(name))


def _rows(errors: Population, c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write the errors of class c as rows T_i F: return T_i m, T_i 1, sum (T_i)^2."""
    w, m = errors.weights[errors.labels == c], errors.fixed_means()[c]
    mean = np.tile(m, (len(w), 1, 1))
    ones, squares = np.ones(w.shape), np.ones(w.shape)
    if errors.score_consistent:  # row c of T_i is minus the odds, all others those of I
        odds = _ratio(w, w[:, c : c + 1])
        odds[:, c] = 0
        mean[:, c] = -odds @ m
        ones[:, c] = -odds.sum(axis=1)
        squares[:, c] = (odds**2).sum(axis=1)
    return mean, ones, squares


def _feature_moment(features: Population, c: int) -> np.ndarray:
    """Return H_c = m_c m_c' + S_1 + S_c, the same for every sample of class c."""
    mean, d = features.fixed_means()[c, 0], features.dimension
    spread = as_matrix(features.class_covariance, d) + as_matrix(features.within[c], d)
    return np.asarray(np.outer(mean, mean) + spread)


def _mix(shares: np.ndarray, population: Population) -> np.ndarray:
    """Return sum_c shares_c S_{3,c}."""
    d = population.dimension
    pairs = zip(shares, population.within, strict=True)
    return np.asarray(sum(share * as_matrix(S, d) for share, S in pairs))


def _ratio(top: Any, bottom: Any) -> Any:
    """Divide, 0 / 0 = 0: a mean over no weight is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(top, float), bottom)
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)
