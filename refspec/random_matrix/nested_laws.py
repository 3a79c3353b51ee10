r"""The limiting spectrum of a nested design: any covariances, any weights.

Rows are sums over a tree (sample, cell (c, c'), class, all) of independent Gaussian
effects; effect r has covariance S_r and design Z_r. The resolvent of the second moment
is asymptotically :math:`(\sum_r b_r S_r - z)^{-1}` with

.. math:: a_r = tr S_r (\sum_s b_s S_s - z)^{-1}, \qquad
          b = \nabla L(a), \quad L(a) = \log\det(I + W \sum_r a_r Z_r Z_r')

and L is a sum over the nodes of the tree, so b costs one sweep up and one down. Host
arithmetic (LAPACK).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refspec.populations import Population, as_matrix
from refspec.random_matrix.isotropic_designs import fixed_level

__all__ = [
    "NestedLaw",
    "Solution",
    "nested_law",
    "reach",
    "rows",
    "solve",
    "sweep",
    "traces",
]

#: Newton's last step, relative: the next error is its square.
STEP = 2.0**-24


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
class NestedLaw:
    """A nested design ready to be solved.

    Parameters
    ----------
    weights : array, shape (leaves,)
        Positive, of the distinct leaves.
    levels : tuple of Level
        Samples, cells, classes, all.
    covariances : array, shape (k, d) or (k, d, d)
        S_r, diagonals if all are diagonal.
    """

    weights: np.ndarray
    levels: tuple[Level, ...]
    covariances: np.ndarray

    @property
    def dimension(self) -> int:
        """Dimension d."""
        return int(self.covariances.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    r"""The fixed point at one z, and its linearisation.

    Parameters
    ----------
    a, b : array, shape (k,)
        The fixed point.
    resolvent : array, shape (d,) or (d, d)
        Q.
    hessian : array, shape (k, k)
        Derivative of b in a.
    gain : array, shape (k, k)
        Derivative of tr S Q in b, -tr S_r Q S_s Q.
    drift : array, shape (k,)
        Derivative of tr S Q in z, tr S_r Q^2.
    """

    a: np.ndarray
    b: np.ndarray
    resolvent: np.ndarray
    hessian: np.ndarray
    gain: np.ndarray
    drift: np.ndarray

    @property
    def slope(self) -> np.ndarray:
        """Derivative of a in z."""
        return np.linalg.solve(self._defect(), self.drift)

    @property
    def stability(self) -> float:
        """Smallest |1 - e|, e eigenvalue of d tr SQ(b(a)) / da: 0 at an edge."""
        return float(np.min(np.abs(np.linalg.eigvals(self._defect()))))

    def _defect(self) -> np.ndarray:
        return np.asarray(np.eye(len(self.a)) - self.gain @ self.hessian)


def nested_law(population: Population, *, project: bool = True) -> NestedLaw:
    """Build the tree of a population's noise.

    Parameters
    ----------
    population : Population
        The law.
    project : bool
        Remove the rows of the fixed means; without, they are counted twice by a theory
        of outliers.

    Returns
    -------
    NestedLaw

    Notes
    -----
    Theory: R9. Equal weights in a cell are one leaf, so a balanced design has one leaf
    a cell.

    Examples
    --------
    >>> law = nested_law(Population((4, 4), 3, np.ones((8, 2)), np.arange(3.0)))
    >>> law.weights.tolist(), law.levels[0].counts.tolist()
    ([1.0, 1.0, 1.0, 1.0], [4, 4, 4, 4])
    """
    offsets = np.cumsum([0, *population.sizes])
    leaves: list[tuple[float, int, int, int]] = []
    cells: list[int] = []
    for c in range(population.C):
        weights = population.weights[offsets[c] : offsets[c + 1]]
        for k in range(population.K):
            values, counts = np.unique(
                weights[weights[:, k] > 0, k], return_counts=True
            )
            pairs = zip(values, counts, strict=True)
            leaves += [(w, n, len(cells), c) for w, n in pairs]
            cells.append(c)
    weight, count, cell, label = (np.asarray(x) for x in zip(*leaves, strict=True))
    shared = not isinstance(population.within_covariance, tuple)
    effects: list[Any] = list(population.within[: 1 if shared else population.C])

    def effect(covariance: Any) -> int:
        if covariance is None or not np.any(covariance):
            return -1
        effects.append(covariance)
        return len(effects) - 1

    level = fixed_level(population) if project else "none"
    C, nodes = population.C, len(cells)
    between = effect(population.cross_covariance), effect(population.class_covariance)
    levels = (
        Level(cell, label * (not shared), count, False),
        _level(cells, nodes, between[0], level == "cross"),
        _level([0] * C, C, between[1], level == "class"),
        _level([0], 1, -1, level == "global"),
    )
    return NestedLaw(weight, levels, _stack(effects, population.dimension))


def rows(law: NestedLaw) -> int:
    """Return the degrees of freedom of the noise: samples less projected rows.

    Parameters
    ----------
    law : NestedLaw
        The design.

    Returns
    -------
    int

    Notes
    -----
    Theory: R9.

    Examples
    --------
    >>> rows(nested_law(Population((4, 4), 3, np.ones((8, 2)), 1.0)))
    16
    """
    removed = sum(len(x.parents) for x in law.levels if x.projected)
    return int(np.sum(law.levels[0].counts)) - removed


def traces(law: NestedLaw) -> np.ndarray:
    """Return tr S_r of every effect.

    Parameters
    ----------
    law : NestedLaw
        The design.

    Returns
    -------
    array, shape (k,)

    Notes
    -----
    Theory: R9.

    Examples
    --------
    >>> traces(nested_law(Population((4,), 3, np.ones((4, 1)), 2.0))).tolist()
    [6.0]
    """
    S = law.covariances
    return np.asarray(np.sum(S, 1) if S.ndim == 2 else np.trace(S, axis1=1, axis2=2))


def reach(law: NestedLaw) -> float:
    r"""Return a point to the right of the support.

    Parameters
    ----------
    law : NestedLaw
        The design.

    Returns
    -------
    float

    Notes
    -----
    Theory: R12. The norm of each effect's part is below
    :math:`2 (b_r \|S_r\| + w_r tr S_r)`, w_r the largest weight of a node.

    Examples
    --------
    >>> reach(nested_law(Population((45,), 20, np.ones((45, 1)), 1.0)))
    130.0
    """
    S, k = law.covariances, len(law.covariances)
    b, _, weights = sweep(law, np.zeros(k))
    top = np.zeros(k)
    for level, W in zip(law.levels, weights, strict=True):
        random = level.effects >= 0
        np.maximum.at(top, level.effects[random], W[random])
    rowsum = np.abs(S) if S.ndim == 2 else np.sum(np.abs(S), axis=2)
    return float(k * np.sum(2 * (b * np.max(rowsum, axis=1) + top * traces(law))))


def sweep(
    law: NestedLaw, a: np.ndarray
) -> tuple[np.ndarray, complex, tuple[np.ndarray, ...]]:
    r"""Return b = grad L(a), L(a) and the effective weight of every node.

    Parameters
    ----------
    law : NestedLaw
        The design.
    a : array, shape (k,)
        Real or complex.

    Returns
    -------
    b : array, shape (k,)
        Gradient of L.
    value : complex
        L, up to a real constant; principal logarithms give the analytic branch.
    weights : tuple of array
        W of the nodes of each level: the sum of W / (1 + a W) over the children.

    Notes
    -----
    Theory: R9. Like resistors: a node passes 1 / (1 / W + a) up. A projected node is
    the limit of an infinite a: nothing passes. Cost O(nodes).

    Examples
    --------
    >>> law = nested_law(Population((4, 4), 3, np.ones((8, 2)), np.arange(3.0)))
    >>> b, value, weights = sweep(law, np.asarray([1.0]))
    >>> b.tolist(), weights[1].tolist()  # 16 samples of 1 / (1 + 1)
    ([8.0], [2.0, 2.0, 2.0, 2.0])
    """
    padded = np.append(a, 0)
    W, passed, load = [law.weights.astype(padded.dtype)], [], []
    value = 0j
    for i, level in enumerate(law.levels):
        load.append(padded[level.effects])
        factor = 1 + load[i] * W[i]
        passed.append(0 * W[i] if level.projected else W[i] / factor)
        logs = np.log((W[i] if level.projected else factor) + 0j)
        value += complex(np.sum(level.counts * logs))
        above = level.counts * passed[i]
        W.append(_total(above, level.parents, int(level.parents.max()) + 1))
    b = np.zeros(len(padded), dtype=padded.dtype)
    pull = np.zeros(1)
    for i in reversed(range(len(law.levels))):
        level = law.levels[i]
        from_above = pull[level.parents]
        own = passed[i] - from_above * passed[i] ** 2
        b += _total(level.counts * own, level.effects % len(padded), len(padded))
        ratio = 1 / (1 + load[i] * W[i])
        pull = 1 / W[i] if level.projected else load[i] * ratio + from_above * ratio**2
    return b[:-1], value, tuple(W[:-1])


def solve(law: NestedLaw, z: complex, guess: np.ndarray) -> Solution | None:
    r"""Solve the fixed point at z by Newton's method.

    Parameters
    ----------
    law : NestedLaw
        The design.
    z : complex or float
        In the upper half plane; a float is a real point outside the support.
    guess : array, shape (k,)
        Complex for complex z.

    Returns
    -------
    Solution or None
        None if Newton's method does not converge. With Im z > 0 and Im a > 0 for all a
        the solution is the only one.

    Notes
    -----
    Theory: R10. Cost per step: one inverse and k products of size d, or O(k d) for
    diagonal covariances.

    References
    ----------
    Fan and Johnstone, Ann. Statist. 47 (2019).

    Examples
    --------
    >>> law = nested_law(Population((8,), 4, np.ones((8, 1)), 1.0))
    >>> made = solve(law, 50.0, np.asarray([-0.1]))
    >>> bool(np.abs(made.a - 4 / (made.b - 50)) < 1e-15)  # a = tr Q, b = 8 / (1 + a)
    True
    """
    a = np.asarray(guess)
    upper = np.imag(z) > 0
    for _ in range(60):
        b = sweep(law, a)[0]
        Q, t, gain, drift = _traces(law, b, z)
        made = Solution(a, b, Q, _hessian(law, a), gain, drift)
        defect = made._defect()
        if not np.all(np.isfinite(defect)):
            return None
        step = np.linalg.solve(defect, t - a)
        if np.all(np.abs(step) <= STEP * np.abs(a)):
            return replace(made, a=a + step)
        share = 1.0
        while upper and np.any(np.imag(a + share * step) <= 0):
            share /= 2
            if share < STEP:
                return None
        a = a + share * step
    return None


def _traces(
    law: NestedLaw, b: np.ndarray, z: complex
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return Q = (sum b S - z)^{-1}, tr S Q, -tr S Q S Q and tr S Q^2."""
    S = law.covariances
    if S.ndim == 2:
        Q = 1 / (b @ S - z)
        return Q, S @ Q, -(S * Q**2) @ S.T, S @ Q**2
    B = np.tensordot(b, S, 1)
    B[np.diag_indices(len(B))] -= z
    try:
        Q = np.linalg.inv(B)
    except np.linalg.LinAlgError:
        Q = np.full_like(B, np.nan)
    QS = [_times_real(Q, s) for s in S]
    flipped = [np.ascontiguousarray(x.T) for x in QS]
    gain = -np.asarray([[np.sum(x * y) for y in flipped] for x in QS])
    # Q is symmetric
    drift = np.asarray([np.sum(x * Q) for x in QS])
    return Q, np.asarray([np.trace(x) for x in QS]), gain, drift


def _times_real(Q: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Return Q S, two real products where Q is complex."""
    if np.iscomplexobj(Q):
        return np.asarray(Q.real @ S + 1j * (Q.imag @ S))
    return np.asarray(Q @ S)


def _hessian(law: NestedLaw, a: np.ndarray) -> np.ndarray:
    """Return the Hessian of L by central differences of its gradient."""
    k = len(a)
    H = np.zeros((k, k), dtype=np.result_type(a, float))
    for s in range(k):
        e = np.zeros(k)
        e[s] = abs(a[s]) * 2.0**-17  # the cube root of u balances both errors
        H[:, s] = (sweep(law, a + e)[0] - sweep(law, a - e)[0]) / (2 * e[s])
    return H


def _level(parents: Sequence[int], nodes: int, effect: int, projected: bool) -> Level:
    """Make a level of single nodes with one effect."""
    return Level(np.asarray(parents), np.full(nodes, effect), np.ones(nodes), projected)


def _stack(effects: Sequence[Any], d: int) -> np.ndarray:
    """Stack covariances, as diagonals if every one is diagonal."""
    if all(np.ndim(s) < 2 for s in effects):
        return np.asarray([np.broadcast_to(s, (d,)) for s in effects], dtype=float)
    return np.asarray([as_matrix(s, d) for s in effects], dtype=float)


def _total(x: np.ndarray, index: np.ndarray, n: int) -> np.ndarray:
    """Sum real or complex numbers by index."""
    real = np.bincount(index, np.real(x), n)
    return real + 1j * np.bincount(index, np.imag(x), n) if np.iscomplexobj(x) else real
