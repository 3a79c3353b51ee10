r"""The limiting resolvent of a nested design: any covariances, any weights.

Effect r has covariance S_r and design Z_r. The resolvent of the second moment is
asymptotically :math:`Q = (\sum_r b_r S_r - z)^{-1}` with

.. math:: a_r = tr S_r Q, \qquad
          b = \nabla L(a), \quad L(a) = \log\det(I + W \sum_r a_r Z_r Z_r')

solved by Newton's method (Theory: theory/random_matrix.md#R10). S_r may be singular.
Host arithmetic (LAPACK).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from refspec.random_matrix import definite
from refspec.random_matrix.nested.design import NestedDesign
from refspec.random_matrix.nested.tree import sensitivity, sweep

#: Newton's last step, relative: the next error is its square.
STEP = 2.0**-24
#: Change of a, relative, below which T is not computed again; least share of a step.
KEEP = 2.0**-4
#: Steps after which Newton's method is taken to have missed.
STEPS = 12
#: Least share of a covariance whose products are found without a product.
FREE = 2.0**-10


@dataclass(frozen=True, slots=True, eq=False)
class FixedPoint:
    """The fixed point a, b (k,) at one z, and its linearisation.

    resolvent: Q, (d, d) or its diagonal (d,); pivots: block pivots of sum_r b_r S_r - z
    or all of it. traces: tr S_r Q. hessian H: db/da. gain T: d tr SQ / db, which is
    -tr S_r Q S_s Q. drift: d tr SQ / dz = tr S_r Q^2.
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
    """Return a point to the right of the support.

    Theory: theory/random_matrix.md#R12
    """
    # an effect's part has a norm below 2 (b_r |S_r| + w_r tr S_r), w_r the largest
    # weight of its nodes
    k = len(design.covariances)
    b, _, weights = sweep(design, np.zeros(k))
    top = np.zeros(k)
    for level, W in zip(design.levels, weights, strict=True):
        random = level.effects >= 0
        if W.ndim == 3:  # the cells of a class pass a matrix, whose norm bounds each
            assert design.mixing is not None
            each = np.sum(design.mixing.cells, axis=1)
            W = np.repeat(np.linalg.norm(W, 2, axis=(1, 2)), each)
        np.maximum.at(top, level.effects[random], W[random])
    norms = [
        np.max(s if s.ndim == 1 else np.sum(np.abs(s), axis=1))
        for s in design.covariances
    ]
    return float(k * np.sum(2 * (b * norms + top * design.traces)))


def far_guess(design: NestedDesign, z: complex) -> np.ndarray:
    """Return what a is near to for large z, -tr S / z."""
    return np.asarray(-design.traces / z)


def linearise(
    design: NestedDesign, z: complex, a: np.ndarray, gain: np.ndarray | None = None
) -> FixedPoint:
    """Return b, Q and all derivatives at a (k,), which need not be the fixed point.

    Not finite where Q does not exist. `gain` is T of a point nearby, to save the
    products. Theory: theory/random_matrix.md#R10
    """
    b, S = sweep(design, a)[0], design.covariances
    if design.diagonal:
        stacked = np.asarray(S)
        pivots: tuple[np.ndarray, ...] = (b @ stacked - z,)
        with np.errstate(divide="ignore"):  # not finite where Q does not exist
            Q = 1 / pivots[0]
        t, gain = stacked @ Q, -(stacked * Q**2) @ stacked.T
    else:
        Q, t, pivots = _resolvent(design, b, z)
        if gain is None:
            gain = -_pairs(design, Q, b, t, z)
    # tr S Q^2 for free: trace S times Q (sum b S - z) Q = Q
    with np.errstate(invalid="ignore"):
        drift = -(gain @ b + t) / z
    return FixedPoint(a, b, Q, pivots, t, sensitivity(design, a), gain, drift)


def fixed_point(
    design: NestedDesign,
    z: complex,
    guess: np.ndarray,
    *,
    step: float = STEP,
    steps: int = STEPS,
) -> FixedPoint | None:
    """Solve at z by Newton's method from a guess (k,); None if it does not converge.

    Im z > 0 and Im a > 0 make it the only one. All but a are before the last step.
    Theory: theory/random_matrix.md#R10 (Fan and Johnstone 2019)
    """
    a, upper, gain, before = np.asarray(guess), np.imag(z) > 0, None, np.inf
    for _ in range(steps):
        made = linearise(design, z, a, gain)
        defect = made.defect
        if not np.all(np.isfinite(defect)):
            return None
        change = np.linalg.solve(defect, made.traces - a)
        share = 1.0
        # outside of Im a > 0 there are other solutions, which are not the resolvent's
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


def _resolvent(
    design: NestedDesign, b: np.ndarray, z: complex
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """Return Q, tr S_r Q and block pivots of B = sum b S - z."""
    B, d = _combined(design, b, z), design.dimension
    if np.iscomplexobj(B):
        # Im b < 0 where Im a > 0, so Im B < 0 and B has an inverse by halves. Whether
        # it was accurate is seen in a trace that is known: sum b tr S Q - z tr Q = d.
        Q, pivots = definite.by_halves(B)
        t = _traces(design, Q)
        if abs(b @ t - z * np.trace(Q) - d) <= STEP * d:
            return Q, t, pivots
    Q = definite.inverse(B)
    return Q, _traces(design, Q), (B,)


def _combined(design: NestedDesign, b: np.ndarray, z: complex) -> np.ndarray:
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


def _traces(design: NestedDesign, Q: np.ndarray) -> np.ndarray:
    """Return tr S_r Q."""
    S = design.covariances
    return np.asarray([np.diag(Q) @ s if s.ndim == 1 else np.vdot(s, Q) for s in S])


def _pairs(
    design: NestedDesign, Q: np.ndarray, b: np.ndarray, t: np.ndarray, z: complex
) -> np.ndarray:
    """Return all tr S_r Q S_s Q, one product S_r Q for every full S_r but one."""
    # With S = I as the last covariance and b = -z of it, Q (sum_s b_s S_s) Q = Q gives
    # sum_s b_s tr S_r Q S_s Q = tr S_r Q: one row of the table without a product. It is
    # divided by b of the row that is left out, so the one that counts most is.
    S, k = (*design.covariances, np.ones(design.dimension)), len(b)
    b, t = np.append(b, -z), np.append(t, np.trace(Q))
    shares = np.abs(b) * np.append(design.traces, design.dimension)
    full = [r for r in range(k) if S[r].ndim == 2]
    full.sort(key=lambda r: shares[r])
    left = full.pop() if shares[full[-1]] > FREE * np.sum(shares) else None
    flat = [r for r in range(k + 1) if S[r].ndim == 1]
    D = np.asarray([S[r] for r in flat])
    G = np.zeros((k + 1, k + 1), dtype=Q.dtype)
    # two diagonals meet Q entry by entry: tr D Q E Q = sum_ij d_i Q_ij^2 e_j
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
        # its own entry last, from its row with the others filled in
        G[left, left] = (t[left] - (G[left] @ b - G[left, left] * b[left])) / b[left]
    return G[:k, :k]


def _times(S: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Return S Q; a complex Q is a real matrix twice as wide."""
    return np.asarray((S @ Q.view(np.float64)).view(Q.dtype))
