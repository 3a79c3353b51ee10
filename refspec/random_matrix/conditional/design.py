r"""Gradients of a layer whose errors depend on its features through its outputs.

In :math:`G = \sum_i A_i \otimes h_i h_i'` the matrices :math:`A_i = R_i R_i'`, of
the errors, are functions of what the layer puts out, z = W h. Given class and outputs a
Gaussian h is

.. math:: h_i = U_c \xi_i + S_c^{1/2} g_i, \qquad \xi_i = (1, z_i - \bar z_c),

with g independent of A: the terms of G are independent. S_c is the residual of the
regression of h on z, and the columns of U_c are the class mean and its slopes. In a
frame where the covariances of all classes are nearly diagonal from some coordinate on,
only the head is kept whole (Theory: theory/conditional.md#Y1).

Layers together have their errors side by side, and their features: of the directions
errors (x) features those of one layer are parameters, the others are left out
(Theory: theory/conditional.md#Y5). Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from refspec import rounding
from refspec.populations import symmetric_part

#: Side of the matrices of errors (x) features that are inverted at each step, and up to
#: which nothing is cut off a layer, but corrects these: 257 features of ten classes.
SIDE, WIDE = 400, 2400


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """Features given class and outputs: U (C, d, q), S (C, d, d) or (1, d, d) pooled.

    samples (C,) is how many the covariance of each class rests on, 1 / sum of squared
    shares if they are weighed.
    """

    slopes: np.ndarray
    residual: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """What classes of which nothing is left add to errors (x) features.

    inside (a h, a h): in the features that others have. beside (a h, n), values (n,):
    beyond these, where it is diagonal. means (m, h), (a m, n): a basis of class means.
    """

    inside: np.ndarray
    beside: np.ndarray
    values: np.ndarray
    means: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class ConditionalDesign:
    """Layers in frames: roots R (N, a, k), labels, regressors (N, q).

    Of a layer with T > 1 `positions` roots are (N, T a, k), slopes (C, T h, q), and
    inside (s, T, T, h, h) has the covariances between two of them.

    slopes (C, h, q); inside (s, h, h), outside (s, t): covariances in the head of the
    features' frame, variances in its tail, s = C or 1. layers: which layer each error
    (a,) and each feature (h + t,) is of. P counts what nothing reaches.
    kept: share of the covariances' squares beyond the head that are these variances.
    constant: of classes whose samples are left out, and features that they alone have.
    """

    roots: np.ndarray
    labels: np.ndarray
    regressors: np.ndarray
    slopes: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    layers: tuple[np.ndarray, np.ndarray]
    dimension: int
    kept: float = 1.0
    positions: int = 1
    constant: Constant | None = None

    @property
    def parameters(self) -> np.ndarray:
        """Which errors go with which features, (a, h + t): those of the same layer."""
        errors, features = self.layers
        return np.asarray(errors[:, None] == features)

    @property
    def reached(self) -> int:
        """Number of directions that errors (x) features span, at most P."""
        beyond = 0 if self.constant is None else len(self.constant.values)
        return int(np.sum(self.parameters)) + beyond

    @property
    def whole(self) -> np.ndarray:
        """The covariances in the head, (s, T h, T h)."""
        if self.positions == 1:
            return self.inside
        s, T, _, h, _ = self.inside.shape
        return np.reshape(np.swapaxes(self.inside, 2, 3), (s, T * h, T * h))

    @property
    def own(self) -> np.ndarray:
        """Which covariance each sample has, (N,)."""
        return self.labels if len(self.inside) > 1 else np.zeros_like(self.labels)


def regression(
    features: np.ndarray,
    outputs: np.ndarray,
    labels: np.ndarray,
    covariances: str,
    weights: np.ndarray | None = None,
) -> tuple[Regression, np.ndarray]:
    """Fit features (N, d) on outputs (N, m >= 0), weighed, in classes; return xi too.

    covariances: of each class, shrunk to the pooled one, or pooled. xi (N, 1 + m).
    Theory: theory/conditional.md#Y1, #Y4
    """
    fitted, xi = _fitted(features, outputs, labels, covariances, weights)
    if weights is None:
        return fitted, xi
    # Means and slopes make the outliers, and the trace is exact with these weights.
    # They rest on few samples where most are fitted well: too few for the shape of a
    # covariance, which is taken half way to equal weights.
    shape, _ = _fitted(features, outputs, labels, covariances, np.sqrt(weights))
    sizes, traces = (np.trace(x.residual, axis1=1, axis2=2) for x in (shape, fitted))
    scales = np.divide(traces, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    S = shape.residual * scales[:, None, None]
    return Regression(fitted.slopes, S, shape.samples), xi


def _fitted(
    features: np.ndarray,
    outputs: np.ndarray,
    labels: np.ndarray,
    covariances: str,
    weights: np.ndarray | None,
) -> tuple[Regression, np.ndarray]:
    """Fit features on outputs with one weight a sample."""
    # moments are those of the sample, not unbiased: traces are then those of the data
    C, d = int(labels.max()) + 1, features.shape[1]
    both = np.concatenate([features, outputs], axis=1)
    shares, mass = shares_in_class(labels, weights)
    members = [labels == c for c in range(C)]
    means = np.stack([shares[i] @ both[i] for i in members])
    centred = both - means[labels]
    moments = np.stack([_square(centred[i], shares[i]) for i in members])
    freedom = 1 / np.asarray([np.sum(shares[i] ** 2) for i in members])
    whole = np.tensordot(mass, moments, 1)
    if covariances == "pooled":
        freedom = np.asarray([1 / np.sum(mass**2 / freedom)])
        moments = whole[None]
    if covariances == "shrunk":
        for c, i in enumerate(members):
            rho = shrinkage(centred[i, :d], whole[:d, :d], shares[i])
            moments[c] = (1 - rho) * moments[c] + rho * whole
    slopes, residual = [], []
    for joint in moments:
        K, S = conditional(joint, d)
        slopes.append(K)
        residual.append(S)
    K = np.stack(slopes * (C // len(slopes)))
    U = np.concatenate([means[:, :d, None], K], axis=2)
    xi = np.concatenate([np.ones((len(labels), 1)), centred[:, d:]], axis=1)
    return Regression(U, np.stack(residual), freedom), xi


def shares_in_class(
    labels: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each sample in its class (N,), and of each class (C,).

    A class whose weights vanish is counted by samples.
    """
    a = np.ones(len(labels))
    if weights is not None and np.any(weights):
        a = weights
    mass = np.bincount(labels, weights=a)
    sizes = np.bincount(labels)
    a = np.where(mass[labels] > 0, a, 1.0)
    total = np.where(mass > 0, mass, sizes)
    return a / total[labels], mass / np.sum(mass)


def shrinkage(centred: np.ndarray, target: np.ndarray, shares: np.ndarray) -> float:
    """Return how far to move the covariance of centred rows (n, d) to a target.

    E |S - Sigma|^2 / |S - T|^2, both estimated (Ledoit and Wolf 2004), of rows with
    shares (n,) of 1. Theory: theory/conditional.md#Y1
    """
    S = _square(centred, shares)
    lengths = np.sum(centred**2, axis=1)
    # sum of b^2 |x x' - S|^2
    off = lengths**2 - 2 * np.sum(centred * (centred @ S), axis=1) + np.sum(S * S)
    error = float(shares**2 @ off)
    away = float(np.sum((S - target) ** 2))
    return float(np.clip(error / away, 0, 1)) if away > 0 else 1.0


def conditional(joint: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes K (d, m) and residual covariance (d, d) of h on z from theirs.

    Theory: theory/conditional.md#Y1
    """
    values, vectors = np.linalg.eigh(joint[d:, d:])
    # outputs may be linearly dependent (logits sum to a constant): a pseudo-inverse
    least = rounding.eigensolver_radius(
        max(1, len(values)), float(np.max(values, initial=0.0)), 2.0**-53
    )
    seen = values > least * len(joint)
    scaled = vectors[:, seen] / np.sqrt(values[seen])
    half = joint[:d, d:] @ scaled
    S, _ = symmetric_part("residual covariance", joint[:d, :d] - half @ half.T)
    values, vectors = np.linalg.eigh(S)
    # as many outputs as samples leave nothing but rounding
    whole = float(np.trace(joint[:d, :d]))
    left = np.where(values > rounding.eigensolver_radius(d, whole, 2.0**-53), values, 0)
    root = vectors * np.sqrt(left)
    return half @ scaled.T, root @ root.T


def conditional_design(
    rows: np.ndarray,
    labels: np.ndarray,
    fitted: Regression,
    regressors: np.ndarray,
    *,
    head: int | None = None,
    side: int = SIDE,
    layers: tuple[np.ndarray, np.ndarray] | None = None,
) -> ConditionalDesign:
    """Take weighted errors (N, K, b) and a regression to frames of a and h + t.

    The head is whole, the tail variances: none if all fit the side. Traces stay.
    Theory: theory/conditional.md#Y1, #Y5
    """
    # layers: which one each error (b,) and each feature (d,) is of; one if not given
    C, d, _ = fitted.slopes.shape
    if layers is None:
        layers = np.zeros(rows.shape[2], np.int64), np.zeros(d, np.int64)
    P = int(np.sum(layers[0][:, None] == layers[1]))
    frame, errors = span(np.tensordot(rows, rows, ((0, 1), (0, 1))), layers[0])
    roots = np.swapaxes(rows @ frame, 1, 2)
    # leading of sum_i tr(A_i) E h h', a parameter
    S = np.broadcast_to(fitted.residual, (C, d, d))
    mass, seen = _weighed(roots, errors, labels, regressors, C)
    counts = np.bincount(errors)
    U, square = fitted.slopes, np.zeros((d, d))
    for k, count in enumerate(counts):
        i = np.flatnonzero(layers[1] == k)
        V, own = U[:, i], S[:, i][:, :, i]
        second = own + V @ seen[k] @ np.swapaxes(V, 1, 2)
        square[np.ix_(i, i)] = np.tensordot(mass[k] / count, second, 1)
    basis, features = span(square, layers[1])
    inside = basis.T @ fitted.residual @ basis
    none = np.zeros((len(inside), 0))
    whole = ConditionalDesign(
        roots,
        labels,
        regressors,
        basis.T @ U,
        inside,
        none,
        (errors, features),
        P,
    )
    if head is None:
        head = fitting(whole, side if whole.reached <= side else SIDE)
    return narrowed(whole, head)


def fitting(design: ConditionalDesign, side: int) -> int:
    """Return how many coordinates of the head errors (x) features of a side hold."""
    if design.positions > 1:  # nothing is cut
        return int(design.slopes.shape[1])
    sides = np.cumsum(np.sum(design.parameters, axis=0)[: design.slopes.shape[1]])
    return max(1, int(np.searchsorted(sides, side, side="right")))


def narrowed(design: ConditionalDesign, head: int) -> ConditionalDesign:
    """Keep the first coordinates of a head whole, and variances of the others.

    Theory: theory/conditional.md#Y1
    """
    # the tail is turned to where its average covariance is diagonal; each class keeps
    # its variances there and its mean's
    C, h, _ = design.slopes.shape
    if head >= h:
        return design
    U, S = design.slopes, np.broadcast_to(design.inside, (C, h, h))
    errors, features = design.layers
    mass, seen = _weighed(design.roots, errors, design.labels, design.regressors, C)
    shares, of = mass / np.sum(mass, axis=1, keepdims=True), features[head:h]
    half = np.sqrt(shares[of]).T  # (C, t)
    pooled = np.sum(half[:, :, None] * S[:, head:, head:] * half[:, None], axis=0)
    turn = _eigh(pooled, of)[1]
    outside = np.sum(turn * (S[:, head:, head:] @ turn), axis=1)
    inside = design.inside[:, :head, :head]
    beyond = float(np.sum(S * S) - np.sum(S[:, :head, :head] ** 2))
    kept = min(1.0, float(np.sum(outside**2)) / beyond) if beyond > 0 else 1.0
    far = np.swapaxes(turn.T @ U[:, head:], 0, 1)  # (t, C, q)
    outside = outside + np.sum(far * _applied(seen[of], far), axis=2).T
    if len(inside) < C:
        outside = np.sum(shares[of].T * outside, axis=0, keepdims=True)
    outside = np.concatenate([outside, design.outside], axis=1)
    return replace(
        design, slopes=U[:, :head], inside=inside, outside=outside, kept=kept
    )


def _applied(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return matrices (..., q, q) times vectors (..., q)."""
    return np.asarray((matrices @ vectors[..., None])[..., 0])


def _weighed(
    roots: np.ndarray,
    errors: np.ndarray,
    labels: np.ndarray,
    regressors: np.ndarray,
    C: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return sum tr A_i of each layer and class (L, C), and means of xi xi' with it."""
    mass, seen = [], []
    for k in range(int(errors.max()) + 1):
        sizes = np.sum(roots[:, errors == k] ** 2, axis=(1, 2))
        mass.append(np.bincount(labels, weights=sizes, minlength=C))
        shares, _ = shares_in_class(labels, sizes)
        members = [labels == c for c in range(C)]
        seen.append(np.stack([_square(regressors[i], shares[i]) for i in members]))
    return np.stack(mass), np.stack(seen)


def _square(x: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return x'x, or x' diag(weights) x."""
    y = x if weights is None else x * np.sqrt(weights)[:, None]
    return np.asarray(y.T @ y)


def span(square: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return orthonormal columns that span the ranges of blocks, and whose they are.

    The blocks (layers) are PSD and on the diagonal; largest first.
    """
    values, vectors = _eigh(square, of)
    order = np.argsort(values, kind="stable")[::-1]
    least = rounding.eigensolver_radius(len(square), float(np.max(values)), 2.0**-53)
    order = order[values[order] > least]
    return np.asarray(vectors[:, order]), of[order]


def _eigh(square: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decompose the blocks on the diagonal of a symmetric matrix, each by itself."""
    values, vectors = np.zeros(len(of)), np.zeros_like(square)
    for k in np.unique(of):
        i = np.flatnonzero(of == k)
        at = np.ix_(i, i)
        values[i], vectors[at] = np.linalg.eigh((square[at] + square[at].T) / 2)
    return values, vectors
