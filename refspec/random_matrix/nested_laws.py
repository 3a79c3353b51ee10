r"""The limiting resolvent of a nested design: any covariances, any weights.

Effect r has covariance S_r and design Z_r. The resolvent of the second moment is
asymptotically :math:`Q = (\sum_r b_r S_r - z)^{-1}` with

.. math:: a_r = tr S_r Q, \qquad
          b = \nabla L(a), \quad L(a) = \log\det(I + W \sum_r a_r Z_r Z_r')

and L is a sum over the nodes of the tree, so b costs one sweep up and one down. Host
arithmetic (LAPACK).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from refspec.random_matrix import definite
from refspec.random_matrix.nested_designs import NestedDesign, traces

__all__ = [
    "FREE",
    "KEEP",
    "STEP",
    "STEPS",
    "Solution",
    "combined",
    "linearised",
    "reach",
    "solve",
    "sweep",
]

#: Newton's last step, relative: the next error is its square.
STEP = 2.0**-24
#: Change of a, relative, below which T is not computed again; least share of a step.
KEEP = 2.0**-4
#: Steps after which Newton's method is taken to have missed.
STEPS = 12
#: Least share of a covariance whose products are found without a product.
FREE = 2.0**-10


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    r"""The fixed point at one z, and its linearisation.

    Parameters
    ----------
    a, b : array, shape (k,)
        The fixed point.
    resolvent : array, shape (d,) or (d, d)
        Q, its diagonal if all covariances are diagonal.
    pivots : tuple of array
        Block pivots of sum_r b_r S_r - z, or all of it; the diagonal if it is one.
    traces : array, shape (k,)
        tr S_r Q.
    hessian : array, shape (k, k)
        H, the derivative of b in a.
    gain : array, shape (k, k)
        T, the derivative of tr S Q in b: -tr S_r Q S_s Q.
    drift : array, shape (k,)
        Derivative of tr S Q in z: tr S_r Q^2.
    """

    a: np.ndarray
    b: np.ndarray
    resolvent: np.ndarray
    pivots: tuple[np.ndarray, ...]
    traces: np.ndarray
    hessian: np.ndarray
    gain: np.ndarray
    drift: np.ndarray

    @property
    def defect(self) -> np.ndarray:
        """I - T H, singular at an edge."""
        return np.asarray(np.eye(len(self.a)) - self.gain @ self.hessian)

    @property
    def slope(self) -> np.ndarray:
        """Derivative of a in z."""
        return np.linalg.solve(self.defect, self.drift)


def reach(design: NestedDesign) -> float:
    r"""Return a point to the right of the support.

    Parameters
    ----------
    design : NestedDesign
        The design.

    Returns
    -------
    float

    Notes
    -----
    Theory: theory/random_matrix.md#R12. The norm of each effect's part is below
    :math:`2 (b_r \|S_r\| + w_r tr S_r)`, w_r the largest weight of a node.

    Examples
    --------
    >>> from refspec.populations import Population
    >>> from refspec.random_matrix.nested_designs import nested_design
    >>> reach(nested_design(Population((45,), 20, np.ones((45, 1)), 1.0)))
    130.0
    """
    k = len(design.covariances)
    b, _, weights = sweep(design, np.zeros(k))
    top = np.zeros(k)
    for level, W in zip(design.levels, weights, strict=True):
        random = level.effects >= 0
        np.maximum.at(top, level.effects[random], W[random])
    norms = [
        np.max(s if s.ndim == 1 else np.sum(np.abs(s), axis=1))
        for s in design.covariances
    ]
    return float(k * np.sum(2 * (b * norms + top * traces(design))))


def sweep(
    design: NestedDesign, a: np.ndarray
) -> tuple[np.ndarray, complex, tuple[np.ndarray, ...]]:
    r"""Return b = grad L(a), L(a) and the effective weight of every node.

    Parameters
    ----------
    design : NestedDesign
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
    Theory: theory/random_matrix.md#R9. Like resistors: a node passes 1 / (1 / W + a)
    up. A projected node is the limit of an infinite a: nothing passes. Cost O(nodes).

    Examples
    --------
    >>> from refspec.populations import Population
    >>> from refspec.random_matrix.nested_designs import nested_design
    >>> design = nested_design(Population((4, 4), 3, np.ones((8, 2)), np.arange(3.0)))
    >>> b, value, weights = sweep(design, np.asarray([1.0]))
    >>> b.tolist(), weights[1].tolist()  # 16 samples of 1 / (1 + 1)
    ([8.0], [2.0, 2.0, 2.0, 2.0])
    """
    padded = np.append(a, 0)
    W, passed, load = [design.weights.astype(padded.dtype)], [], []
    value = 0j
    for i, level in enumerate(design.levels):
        load.append(padded[level.effects])
        factor = 1 + load[i] * W[i]
        passed.append(0 * W[i] if level.projected else W[i] / factor)
        logs = np.log((W[i] if level.projected else factor) + 0j)
        value += complex(np.sum(level.counts * logs))
        above = level.counts * passed[i]
        W.append(_total(above, level.parents, int(level.parents.max()) + 1))
    b = np.zeros(len(padded), dtype=padded.dtype)
    pull = np.zeros(1)
    for i in reversed(range(len(design.levels))):
        level = design.levels[i]
        from_above = pull[level.parents]
        own = passed[i] - from_above * passed[i] ** 2
        b += _total(level.counts * own, level.effects % len(padded), len(padded))
        ratio = 1 / (1 + load[i] * W[i])
        pull = 1 / W[i] if level.projected else load[i] * ratio + from_above * ratio**2
    return b[:-1], value, tuple(W[:-1])


def linearised(
    design: NestedDesign, z: complex, a: np.ndarray, gain: np.ndarray | None = None
) -> Solution:
    """Return b, Q and all derivatives at a point that need not be the fixed point.

    Parameters
    ----------
    design : NestedDesign
        The design.
    z : complex or float
        Not 0.
    a : array, shape (k,)
        Where to linearise.
    gain : array, shape (k, k), optional
        T of a point nearby, to save the products.

    Returns
    -------
    Solution
        Not finite where Q does not exist.

    Notes
    -----
    Theory: theory/random_matrix.md#R10. One inverse and a product for each covariance
    that is not diagonal but one; the rest, and tr S Q^2, come for free as Q (sum b S -
    z) Q = Q.

    Examples
    --------
    >>> from refspec.populations import Population
    >>> from refspec.random_matrix.nested_designs import nested_design
    >>> design = nested_design(Population((8,), 4, np.ones((8, 1)), 1.0))
    >>> at = linearised(design, 50.0, np.asarray([0.0]))
    >>> at.b.tolist(), at.resolvent.tolist() == [1 / (8 - 50)] * 4
    ([8.0], True)
    """
    b, S = sweep(design, a)[0], design.covariances
    if design.diagonal:
        stacked = np.asarray(S)
        pivots: tuple[np.ndarray, ...] = (b @ stacked - z,)
        Q = 1 / pivots[0]
        t, gain = stacked @ Q, -(stacked * Q**2) @ stacked.T
    else:
        Q, t, pivots = _resolvent(design, b, z)
        if gain is None:
            gain = -_pairs(design, Q, b, t, z)
    return Solution(a, b, Q, pivots, t, _hessian(design, a), gain, -(gain @ b + t) / z)


def solve(
    design: NestedDesign,
    z: complex,
    guess: np.ndarray,
    *,
    step: float = STEP,
    steps: int = STEPS,
) -> Solution | None:
    r"""Solve the fixed point at z by Newton's method.

    Parameters
    ----------
    design : NestedDesign
        The design.
    z : complex or float
        In the upper half plane; a float is a real point outside the support.
    guess : array, shape (k,)
        Complex for complex z.
    step : float
        Relative size of the last step; all but a are those before it.
    steps : int
        After which Newton's method is taken to have missed.

    Returns
    -------
    Solution or None
        None if Newton's method does not converge. With Im z > 0 and Im a > 0 for all a
        the solution is the only one.

    Notes
    -----
    Theory: theory/random_matrix.md#R10. Cost per step: see `linearised`.

    References
    ----------
    Fan and Johnstone, Ann. Statist. 47 (2019).

    Examples
    --------
    >>> from refspec.populations import Population
    >>> from refspec.random_matrix.nested_designs import nested_design
    >>> design = nested_design(Population((8,), 4, np.ones((8, 1)), 1.0))
    >>> made = solve(design, 50.0, np.asarray([-0.1]))
    >>> bool(np.abs(made.a - 4 / (made.b - 50)) < 1e-15)  # a = tr Q, b = 8 / (1 + a)
    True
    """
    a, upper, gain, before = np.asarray(guess), np.imag(z) > 0, None, np.inf
    for _ in range(steps):
        made = linearised(design, z, a, gain)
        defect = made.defect
        if not np.all(np.isfinite(defect)):
            return None
        change = np.linalg.solve(defect, made.traces - a)
        share = 1.0
        while upper and np.any(np.imag(a + share * change) <= 0):
            share /= 2
            if share < KEEP:  # too far to be worth the walk
                return None
        a = a + share * change
        size = float(np.max(np.abs(change) / np.abs(a)))
        if share == 1 and size <= step:
            return replace(made, a=a)
        # a loose solution may keep a gain that is nearly right and takes it there
        keep = step > STEP and size < min(KEEP, before / 8)
        gain = made.gain if keep else None
        before = size
    return None


def combined(design: NestedDesign, b: np.ndarray, z: complex) -> np.ndarray:
    """Return sum_r b_r S_r - z, a matrix."""
    d = design.dimension
    B = np.zeros((d, d), dtype=np.result_type(b, type(z)))
    diagonal = np.full(d, -z, dtype=B.dtype)
    for coefficient, s in zip(b, design.covariances, strict=True):
        if s.ndim == 1:
            diagonal += coefficient * s
        else:
            B += coefficient * s
    B[np.diag_indices(d)] += diagonal
    return B


def _resolvent(
    design: NestedDesign, b: np.ndarray, z: complex
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """Return Q, tr S_r Q and block pivots of sum b S - z.

    Above the real axis the matrix is inverted by halves. That this was accurate is seen
    in a trace that is known, sum b tr S Q - z tr Q = d.
    """
    B, d = combined(design, b, z), design.dimension
    if np.iscomplexobj(B):
        Q, pivots = definite.by_halves(B)
        t = _traces(design, Q)
        if abs(b @ t - z * np.trace(Q) - d) <= STEP * d:
            return Q, t, pivots
    Q = definite.inverse(B)
    return Q, _traces(design, Q), (B,)


def _traces(design: NestedDesign, Q: np.ndarray) -> np.ndarray:
    """Return tr S_r Q."""
    S = design.covariances
    return np.asarray([np.diag(Q) @ s if s.ndim == 1 else np.vdot(s, Q) for s in S])


def _pairs(
    design: NestedDesign, Q: np.ndarray, b: np.ndarray, t: np.ndarray, z: complex
) -> np.ndarray:
    """Return all tr S_r Q S_s Q.

    With S = I as the last and b = -z of it, sum_s b_s tr S_r Q S_s Q = tr S_r Q, which
    gives one row without a product: that of the covariance that counts most.
    """
    S, k = (*design.covariances, np.ones(design.dimension)), len(b)
    b, t = np.append(b, -z), np.append(t, np.trace(Q))
    shares = np.abs(b) * np.append(traces(design), design.dimension)
    full = [r for r in range(k) if S[r].ndim == 2]
    full.sort(key=lambda r: shares[r])
    left = full.pop() if shares[full[-1]] > FREE * np.sum(shares) else None
    flat = [r for r in range(k + 1) if S[r].ndim == 1]
    D = np.asarray([S[r] for r in flat])
    G = np.zeros((k + 1, k + 1), dtype=Q.dtype)
    G[np.ix_(flat, flat)] = D @ (Q * Q) @ D.T
    products: list[np.ndarray] = []
    for r in full:
        product = _times(S[r], Q)
        products.append(product)
        G[flat, r] = G[r, flat] = D @ np.einsum("ij,ij->j", product, Q)
        flipped = np.ravel(product.T)
        for s, other in zip(full, products, strict=False):
            G[r, s] = G[s, r] = np.ravel(other) @ flipped
    if left is not None:
        G[left] = (t - G @ b) / b[left]
        G[:, left] = G[left]
        G[left, left] = (t[left] - (G[left] @ b - G[left, left] * b[left])) / b[left]
    return G[:k, :k]


def _times(S: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Return S Q; a complex Q is a real matrix twice as wide."""
    return np.asarray((S @ Q.view(np.float64)).view(Q.dtype))


def _hessian(design: NestedDesign, a: np.ndarray) -> np.ndarray:
    """Return the Hessian of L by central differences of its gradient."""
    k = len(a)
    H = np.zeros((k, k), dtype=np.result_type(a, float))
    scale = float(np.max(np.abs(a)))
    for s in range(k):
        e = np.zeros(k)
        # the cube root of u balances both errors
        e[s] = 2.0**-17 * (abs(a[s]) or scale or 1.0)
        H[:, s] = (sweep(design, a + e)[0] - sweep(design, a - e)[0]) / (2 * e[s])
    return H


def _total(x: np.ndarray, index: np.ndarray, n: int) -> np.ndarray:
    """Sum real or complex numbers by index."""
    real = np.bincount(index, np.real(x), n)
    return real + 1j * np.bincount(index, np.imag(x), n) if np.iscomplexobj(x) else real
