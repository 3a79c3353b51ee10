r"""What a planted world should show: expected second moments, level by level.

Everything here is exact at finite N, given the probabilities: the level second moments
of `refspec.structure` are quadratic in independent centred terms, so their
expectations are a planted part plus a known multiple of each covariance. Nothing is
estimated and nothing is a limit. Host arithmetic, float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refspec.populations import as_matrix
from refspec.synthetic.hierarchy import (
    Hierarchy,
    Plan,
    feature_law,
    planted_means,
    within,
)

__all__ = [
    "cross_moment",
    "error_levels",
    "expected_fisher",
    "feature_levels",
    "fisher_coupling",
]


def feature_levels(
    law: Hierarchy, labels: np.ndarray, sample_weights: np.ndarray
) -> Mapping[str, np.ndarray]:
    r"""Return the expected second moment of each level of the features.

    Parameters
    ----------
    law : Hierarchy
        Law of the features.
    labels : array of int, shape (N,)
    sample_weights : array, shape (N,)
        Sum 1.

    Returns
    -------
    mapping of str to array (a, a)
        ``global_mean``, ``between_class``, ``within_class``, which add to the
        expected total.

    Notes
    -----
    Theory: theory/worlds.md#W6. With :math:`s_c` the weight of class c and
    :math:`q_c = \sum_{i \in c} s_i^2`: within
    :math:`\sum_c (s_c - q_c / s_c) S_c`, global :math:`\bar m \bar m' + \sum_c s_c^2
    S_1 + \sum_c q_c S_c`, between the rest.

    Examples
    --------
    >>> law = Hierarchy(2, 1, class_means=np.asarray([[1.0], [-1.0]]))
    >>> levels = feature_levels(law, np.asarray([0, 0, 1, 1]), np.full(4, 0.25))
    >>> [levels[k].item() for k in levels]
    [0.25, 1.25, 0.5]
    """
    C, d = law.classes, law.dimension
    s = np.bincount(labels, sample_weights, C)
    q = np.bincount(labels, sample_weights**2, C)
    m = planted_means(law, 1)[:, 0, :]
    S1 = as_matrix(law.class_covariance, d)
    average = s @ m
    overall = np.outer(average, average) + np.sum(s**2) * S1 + _mix(q, law)
    means = (m.T * s) @ m + np.sum(s) * S1 + _mix(_ratio(q, s), law)
    return {
        "global_mean": overall,
        "between_class": means - overall,
        "within_class": _mix(s - _ratio(q, s), law),
    }


def error_levels(
    plan: Plan, labels: np.ndarray, weights: np.ndarray
) -> Mapping[str, np.ndarray]:
    r"""Return the expected second moment of each level of the errors.

    Parameters
    ----------
    plan : Plan
        Law of the errors, and whether they are score-consistent.
    labels : array of int, shape (N,)
    weights : array, shape (N, C)
        ``sample_weights[:, None] * probabilities``; independent of the errors.

    Returns
    -------
    mapping of str to array (b, b)
        ``diagonal``, ``between_class``, ``between_cross_class``,
        ``within_cross_class``, which add to the expected total.

    Notes
    -----
    Theory: theory/worlds.md#W7, and #W8 for the score-consistent diagonal.

    Examples
    --------
    >>> plan = Plan("fc", Hierarchy(2, 1))  # noise only: 4 rows of each kind
    >>> levels = error_levels(plan, np.repeat([0, 1], 2), np.full((4, 2), 1 / 8))
    >>> [levels[k].item() for k in levels]
    [0.25, 0.25, 0.0, 0.5]
    """
    law = plan.errors
    C, d = law.classes, law.dimension
    S1, S2 = as_matrix(law.class_covariance, d), as_matrix(law.cross_covariance, d)
    planted = planted_means(law, C)
    names = ("diagonal", "between_class", "between_cross_class", "within_cross_class")
    out = {name: np.zeros((d, d)) for name in names}
    for c in range(C):
        w, off = weights[labels == c], np.arange(C) != c
        S3 = as_matrix(within(law, c), d)
        mass, square, m = w.sum(axis=0), (w**2).sum(axis=0), planted[c, off]
        miss, noisy = mass[off].sum(), np.sum(_ratio(square[off], mass[off]))
        share = _ratio(mass[off], miss)
        center = share @ m
        middle = miss * (np.outer(center, center) + S1 + np.sum(share**2) * S2)
        middle = middle + _ratio(square[off].sum(), miss) * S3
        spread = (m.T * mass[off]) @ m + miss * (S1 + S2) + noisy * S3
        if plan.score_consistent:  # W8: v_{c,c} = -(miss / mass_c) v_c
            diagonal = _ratio(miss, mass[c]) * middle
        else:
            diagonal = mass[c] * (np.outer(planted[c, c], planted[c, c]) + S1 + S2)
            diagonal = diagonal + _ratio(square[c], mass[c]) * S3
        out["diagonal"] += diagonal
        out["between_class"] += middle
        out["between_cross_class"] += spread - middle
        total = cross_moment(plan, labels, weights, c)
        out["within_cross_class"] += total - spread - diagonal
    return out


def cross_moment(
    plan: Plan, labels: np.ndarray, weights: np.ndarray, c: int
) -> np.ndarray:
    r"""Return the expected second moment of the errors of one class, all c'.

    Parameters
    ----------
    plan : Plan
    labels : array of int, shape (N,)
    weights : array, shape (N, C)
        As in `error_levels`.
    c : int
        The class.

    Returns
    -------
    array, shape (b, b)
        :math:`A_c = E \sum_{i \in c, c'} w_{i,c,c'} \delta \delta'`; the sum over c is
        the expected second moment of all errors.

    Notes
    -----
    Theory: theory/worlds.md#W7, #W8.

    Examples
    --------
    >>> plan = Plan("fc", Hierarchy(2, 1, within=3.0))
    >>> cross_moment(plan, np.asarray([0, 1]), np.full((2, 2), 0.25), 0).item()
    1.5
    """
    law, d = plan.errors, plan.errors.dimension
    w = weights[labels == c]
    mean, ones, squares = _rows(plan, labels, weights, c)
    flat = mean.reshape(-1, d)
    noise = as_matrix(law.cross_covariance, d) + as_matrix(within(law, c), d)
    fixed = (flat.T * w.reshape(-1)) @ flat
    effects = np.sum(w * ones**2) * as_matrix(law.class_covariance, d)
    return np.asarray(fixed + effects + np.sum(w * squares) * noise)


def expected_fisher(
    plans: Sequence[Plan],
    labels: np.ndarray,
    sample_weights: np.ndarray,
    probabilities: np.ndarray,
) -> np.ndarray:
    r"""Return the expected Fisher matrix of all layers, blocks included.

    Parameters
    ----------
    plans : sequence of Plan
        Layers, drawn independently of each other.
    labels : array of int, shape (N,)
    sample_weights : array, shape (N,)
    probabilities : array, shape (N, C)
        Independent of features and errors.

    Returns
    -------
    array, shape (P, P)
        In the order of the layers, each gradient errors (x) features.

    Notes
    -----
    Theory: theory/worlds.md#W9. Diagonal blocks :math:`\sum_c A_c \otimes H_c + \kappa
    \sum_c \nu_c S_{3,c} \otimes S^h_c`, off-diagonal ones from the means alone. Memory
    P^2.

    Examples
    --------
    >>> plan = Plan("fc", Hierarchy(2, 1, within=3.0), Hierarchy(2, 2, within=2.0))
    >>> labels, half = np.asarray([0, 1]), np.full(2, 0.5)
    >>> expected_fisher([plan], labels, half, np.full((2, 2), 0.5))
    array([[6., 0.],
           [0., 6.]])
    """
    w = sample_weights[:, None] * probabilities
    C = w.shape[1]
    sizes = [x.errors.dimension * feature_law(x).dimension for x in plans]
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    out = np.zeros((ends[-1], ends[-1]))
    for a, left in enumerate(plans):
        for b, right in enumerate(plans[: a + 1]):
            block = np.zeros((sizes[a], sizes[b]))
            for c in range(C):
                if a == b:
                    errors = cross_moment(left, labels, w, c)
                    features = _feature_moment(left, c)
                else:
                    mine = w[labels == c].reshape(-1)
                    x, y = (_rows(z, labels, w, c)[0] for z in (left, right))
                    errors = (x.reshape(len(mine), -1).T * mine) @ y.reshape(
                        len(mine), -1
                    )
                    means = [planted_means(feature_law(z), 1) for z in (left, right)]
                    features = np.outer(means[0][c, 0], means[1][c, 0])
                block += np.kron(errors, features)
            if a == b:
                block += fisher_coupling(left, labels, w)
            out[ends[a] : ends[a + 1], ends[b] : ends[b + 1]] = block
            out[ends[b] : ends[b + 1], ends[a] : ends[a + 1]] = block.T
    return out


def fisher_coupling(
    plan: Plan, labels: np.ndarray, weights: np.ndarray, *, sampled: bool = False
) -> np.ndarray:
    r"""Return by how much the class-conditional Kronecker identity fails.

    Parameters
    ----------
    plan : Plan
    labels : array of int, shape (N,)
    weights : array, shape (N, C)
        As in `error_levels`.
    sampled : bool
        Against the factors estimated from the same samples, not those of the law: a
        sample's features then meet its own errors in the factors too.

    Returns
    -------
    array, shape (ab, ab)
        :math:`E G - \sum_c A_c \otimes H_c = \kappa \sum_c \nu_c S_{3,c} \otimes
        S^h_c`, or :math:`E[G - G_{CFAC}]` if sampled, where sample i counts
        :math:`1 - s_i / s_c` times. Exactly 0 without coupling.

    Notes
    -----
    Theory: theory/worlds.md#W9.

    Examples
    --------
    >>> plan = Plan("fc", Hierarchy(2, 1), Hierarchy(2, 1), coupling=-0.25)
    >>> labels, w = np.asarray([0, 0, 1, 1]), np.full((4, 2), 1 / 8)
    >>> fisher_coupling(plan, labels, w).item()
    -0.25
    >>> fisher_coupling(plan, labels, w, sampled=True).item()  # 1 - 1/2 of it
    -0.125
    """
    h = feature_law(plan)
    size = plan.errors.dimension * h.dimension
    out = np.zeros((size, size))
    if not plan.coupling:
        return out
    for c in range(plan.errors.classes):
        w = weights[labels == c]
        share = np.sum(w * _rows(plan, labels, weights, c)[2], axis=1)
        if sampled:
            share = share * (1 - _ratio(w.sum(axis=1), w.sum()))
        noise = as_matrix(within(plan.errors, c), plan.errors.dimension)
        features = as_matrix(within(h, c), h.dimension)
        out += plan.coupling * np.sum(share) * np.kron(noise, features)
    return out


def _rows(
    plan: Plan, labels: np.ndarray, weights: np.ndarray, c: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write the errors of class c as rows of T_i F: T_i m, T_i 1 and sum (T_i)^2."""
    w, C = weights[labels == c], weights.shape[1]
    m = planted_means(plan.errors, C)[c]
    mean = np.tile(m, (len(w), 1, 1))
    ones, squares = np.ones(w.shape), np.ones(w.shape)
    if plan.score_consistent:
        odds = _ratio(w, w[:, c : c + 1])
        odds[:, c] = 0
        mean[:, c] = -odds @ m
        ones[:, c] = -odds.sum(axis=1)
        squares[:, c] = (odds**2).sum(axis=1)
    return mean, ones, squares


def _feature_moment(plan: Plan, c: int) -> np.ndarray:
    """Return H_c = m_c m_c' + S_1 + S_c, the same for every sample of class c."""
    law = feature_law(plan)
    mean, d = planted_means(law, 1)[c, 0], law.dimension
    spread = as_matrix(law.class_covariance, d) + as_matrix(within(law, c), d)
    return np.asarray(np.outer(mean, mean) + spread)


def _mix(shares: np.ndarray, law: Hierarchy) -> np.ndarray:
    """Return sum_c shares_c S_{3,c}."""
    out = np.zeros((law.dimension, law.dimension))
    for c, share in enumerate(shares):
        out += share * as_matrix(within(law, c), law.dimension)
    return out


def _ratio(top: Any, bottom: Any) -> Any:
    """Divide, 0 / 0 = 0: a mean over no weight is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(top, float), bottom)
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)
