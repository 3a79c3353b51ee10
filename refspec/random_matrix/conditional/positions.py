r"""A layer with positions, whose gradients are sums over them: a convolution.

The errors and the features of all T positions, side by side, are those of T layers
together; their parameters are the same ones. With
:math:`\mathcal{S}: R^{Ta} \otimes R^{Th} \to R^a \otimes R^h` that keeps pairs of one
position, and adds,

.. math:: Q = \Big(\mathcal{S} \big(\sum_c B_c \otimes S_c + E_c \otimes \mu_c \mu_c'
          \big) \mathcal{S}' - z\Big)^{-1}, \qquad E_c = \sum_{i \in c} E_i,

and :math:`\mathcal{S}' Q \mathcal{S}` stands for Q in the unknowns, which are T a x T a
(Theory: theory/conditional.md#Y7). Errors and features have one frame for all
positions; nothing is cut off. Host arithmetic.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from refspec import memory, rounding
from refspec.classes import Layer
from refspec.random_matrix import anderson
from refspec.random_matrix.conditional.design import (
    ConditionalDesign,
    Regression,
    regression,
    span,
)
from refspec.random_matrix.conditional.resolvent import (
    Equivalent,
    halves,
    inverted,
    products,
)


def statistics(
    features: np.ndarray,
    rows: np.ndarray | None,
    labels: np.ndarray,
    covariances: str,
    weights: np.ndarray | None = None,
) -> Regression:
    """Estimate class means and covariances of features (N, T, d), all T side by side.

    Weighed by errors (N, K, T, b) so that the trace is exact, or samples alike; a
    sample counts `weights` (N,) times. Theory: theory/conditional.md#Y7
    """
    N, T, d = features.shape
    flat, none = np.reshape(features, (N, T * d)), np.zeros((N, 0))
    if rows is None:
        return regression(flat, none, labels, covariances, weights)[0]
    if weights is not None:
        rows = rows * np.sqrt(weights)[:, None, None, None]
    sizes = np.sum(rows * rows, axis=(1, 2, 3))
    fitted = regression(flat, none, labels, covariances, sizes)[0]
    means, square, left = [], [], []
    for c in range(len(fitted.slopes)):
        # what a pair of positions counts for: tr A_i between them
        i = labels == c
        r = np.swapaxes(rows[i], 2, 3)
        r, h = np.reshape(r, (len(r), -1, T)), features[i]
        W = np.tensordot(r, r, ((0, 1), (0, 1)))
        mean = _pseudoinverse(W) @ np.tensordot(r, r @ h, ((0, 1), (0, 1)))
        means.append(mean)
        square.append(W)
        left.append(np.sum((r @ (h - mean)) ** 2))
    s = len(fitted.residual)
    blocks = np.reshape(fitted.residual, (s, T, d, T, d))
    traces = np.trace(blocks, axis1=2, axis2=4)
    made = np.sum(np.stack(square) * traces, axis=(1, 2))
    due = np.asarray(left)
    if s == 1:
        made, due = (np.sum(x, keepdims=True) for x in (made, due))
    scales = np.divide(due, made, out=np.zeros_like(due), where=made > 0)
    return replace(
        fitted,
        slopes=np.reshape(means, (len(means), T * d, 1)),
        residual=fitted.residual * scales[:, None, None],
    )


def _pseudoinverse(square: np.ndarray) -> np.ndarray:
    """Invert a PSD matrix on its range."""
    values, vectors = np.linalg.eigh(square)
    least = rounding.eigensolver_radius(len(square), float(np.trace(square)), 2.0**-53)
    seen = values > least
    return np.asarray((vectors[:, seen] / values[seen]) @ vectors[:, seen].T)


def positions_design(
    rows: np.ndarray, labels: np.ndarray, fitted: Regression
) -> ConditionalDesign:
    """Take weighed errors (N, K, T, b) and statistics to frames of all positions.

    Theory: theory/conditional.md#Y7
    """
    N, K, T, b = rows.shape
    (C, width, _), s = fitted.slopes.shape, len(fitted.residual)
    d = width // T
    zeros = np.zeros(b, np.int64), np.zeros(d, np.int64)
    axes = (0, 1, 2)
    frame, errors = span(np.tensordot(rows, rows, (axes, axes)), zeros[0])
    roots = np.reshape(rows @ frame, (N, K, -1))
    U = np.reshape(fitted.slopes, (C, T, d))
    S = np.swapaxes(np.reshape(fitted.residual, (s, T, d, T, d)), 2, 3)
    own = np.trace(np.sum(S, axis=0))
    basis, features = span(np.tensordot(U, U, ((0, 1), (0, 1))) + own, zeros[1])
    return ConditionalDesign(
        np.swapaxes(roots, 1, 2),
        labels,
        np.ones((N, 1)),
        np.reshape(U @ basis, (C, -1, 1)),
        np.ascontiguousarray(basis.T @ S @ basis),
        np.zeros((s, 0)),
        (errors, features),
        b * d,
        positions=T,
    )


def needed(layer: Layer, s: int) -> int:
    """Return about how many bytes s covariances and their unknowns take."""
    (N, T, d), (_, C, _, b) = layer.features.shape, layer.errors.shape
    # moments of all classes, then what is left, scaled and turned; of a step four sums
    # over pairs of positions; points and images that the extrapolation keeps, and its
    # differences of them
    covariances = (C + 5 * s) * (T * d) ** 2
    sums = 4 * (C + s) * (T * b) ** 2
    unknowns = 2 * min(s * (T * b) ** 2, N * C**2) * 2 * 5 * anderson.MEMORY + sums
    return int(8 * (covariances + unknowns + N * T * (3 * d + 6 * C * b)))


def expect_room(layer: Layer, covariances: str) -> None:
    """Refuse a layer whose covariances, and unknowns, do not fit the memory."""
    (_, T, d), (_, C, _, b) = layer.features.shape, layer.errors.shape
    limit, pooled = memory.limit(), needed(layer, 1)
    need = pooled if covariances == "pooled" else needed(layer, C)
    if need > limit:
        advice = "allow as many, or take a layer of fewer positions"
        if pooled <= limit:
            advice = f"take covariances='pooled', which needs {pooled}, or allow more"
        raise ValueError(
            f"the law of layer {layer.name!r}, {T} positions of {d} features and {b} "
            f"errors, must fit {limit} bytes of memory, got about {need}; {advice}"
        )


def by_samples(design: ConditionalDesign) -> bool:
    """Tell whether R_i' Delta_c R_i and what makes B, of all samples, are fewer."""
    (s, T, a, _), (N, _, k) = _sizes(design), design.roots.shape
    return bool(N * k**2 < s * (T * a) ** 2)


def far(design: ConditionalDesign, z: complex) -> np.ndarray:
    """Return what the unknowns are near to for large z: -tr S / z and sum A."""
    s, T, a, _ = _sizes(design)
    traces = np.trace(design.inside, axis1=3, axis2=4)
    delta = -traces[:, :, None, :, None] / z * np.eye(a)[:, None]
    delta = np.reshape(delta, (s, T * a, T * a))
    return _unknowns(design, delta, _ones(design))


def squares(design: ConditionalDesign) -> np.ndarray:
    """Return sum A_i of each covariance, (s, T a, T a)."""
    return _over(design, _ones(design))


def _ones(design: ConditionalDesign) -> np.ndarray:
    """Return 1 for each sample, (N, k, k)."""
    N, _, k = design.roots.shape
    return np.broadcast_to(np.eye(k) + 0j, (N, k, k))


def step(design: ConditionalDesign, x: np.ndarray, z: complex) -> Equivalent:
    """Map the unknowns to those that their resolvent makes.

    It costs O((a h)^3 + s (T a h)^2 + N k (T a)^2). Theory: theory/conditional.md#Y7
    """
    (s, T, a, h), (N, _, k) = _sizes(design), design.roots.shape
    C, apart = len(design.slopes), by_samples(design)
    members, own = _members(design, C), np.arange(C) if s > 1 else np.zeros(C, int)
    inner = np.empty((N, k, k), np.complex128)
    for c, i in enumerate(members):
        noise = x[0][i] if apart else _between(design.roots[i], x[0][own[c]])
        inner[i] = np.eye(k) + noise
    solved = np.linalg.inv(inner)
    E = np.stack([_summed(design.roots[i], solved[i]) for i in members])
    # all is symmetric in pairs of errors with their positions: j <= k are made
    j, m, _ = halves(a)
    means = np.reshape(design.slopes, (C, T, h))
    flat = np.reshape(means, (C * T, h))
    S = np.reshape(design.inside, (s * T * T, h * h))
    B = _over(design, x[1]) if apart else x[1]
    H = products(S.T, np.reshape(_pairs(B, T)[..., j, m], (len(S), -1)))
    H = np.reshape(np.moveaxis(H, 1, 0), (-1, h, h))
    F = np.moveaxis(_pairs(E, T)[..., j, m], 3, 0) @ means
    H += products(flat.T, np.reshape(F, (-1, C * T, h)))
    blocks = np.empty((a, h, a, h), np.complex128)
    blocks[j, :, m], blocks[m, :, j] = H, np.swapaxes(H, 1, 2)
    head = np.reshape(blocks, (a * h, a * h))
    head[np.diag_indices(len(head))] -= z
    Q, pivots = inverted(head)
    blocks = np.reshape(Q, (a, h, a, h))[j, :, m]
    stack = np.ascontiguousarray(np.reshape(blocks, (-1, h * h)).T)
    delta = _filled(np.reshape(products(S, stack), (s, T, T, -1)), a)
    near = np.reshape(products(flat, blocks), (-1, C, T, h))
    V = _filled(np.moveaxis(near @ np.swapaxes(means, 1, 2), 0, 3), a)
    forms = np.empty_like(inner)
    for c, i in enumerate(members):
        D = solved[i]
        forms[i] = D - D @ _between(design.roots[i], V[c]) @ D
    new = _unknowns(design, delta, forms)
    new = (new + np.swapaxes(new, 2, 3)) / 2
    tail = np.empty((0, a, a), np.complex128)
    return Equivalent(new, x, inner, pivots, tail, (Q, tail))


def _unknowns(
    design: ConditionalDesign, delta: np.ndarray, forms: np.ndarray
) -> np.ndarray:
    """Return Delta and B, or R' Delta R and X of all samples if these are fewer."""
    if not by_samples(design):
        return np.stack([delta, _over(design, forms)])
    noise = np.empty(forms.shape, np.complex128)
    for D, i in zip(delta, _members(design, len(delta)), strict=True):
        noise[i] = _between(design.roots[i], D)
    return np.stack([noise, forms])


def _over(design: ConditionalDesign, forms: np.ndarray) -> np.ndarray:
    """Return B, sums of R_i X_i R_i' over the samples of each covariance."""
    members = _members(design, len(design.inside))
    return np.stack([_summed(design.roots[i], forms[i]) for i in members])


def _sizes(design: ConditionalDesign) -> tuple[int, int, int, int]:
    """Return the numbers of covariances, of positions, of errors and of features."""
    s, T, _, h, _ = design.inside.shape
    return s, T, design.roots.shape[1] // T, h


def _members(design: ConditionalDesign, groups: int) -> list[np.ndarray]:
    """Return the samples of each class, or all of them as one."""
    of = design.labels if groups > 1 else np.zeros_like(design.labels)
    return [np.flatnonzero(of == c) for c in range(groups)]


def _between(roots: np.ndarray, form: np.ndarray) -> np.ndarray:
    """Return R_i' X R_i (n, k, k) of roots (n, T a, k) and one symmetric X."""
    n, side, k = roots.shape
    flat = np.swapaxes(roots, 1, 2)
    half = np.reshape(products(np.reshape(flat, (n * k, side)), form), (n, k, side))
    return products(flat, np.swapaxes(half, 1, 2))


def _summed(roots: np.ndarray, forms: np.ndarray) -> np.ndarray:
    """Return sum R_i X_i R_i' (T a, T a) of roots (n, T a, k) and X (n, k, k)."""
    n, side, k = roots.shape
    # no R_i X_i R_i' is formed: all are one product of (T a, n k) and (n k, T a)
    half = np.reshape(np.swapaxes(products(roots, forms), 1, 2), (n * k, side))
    return products(np.reshape(np.swapaxes(roots, 1, 2), (n * k, side)).T, half)


def _pairs(x: np.ndarray, T: int) -> np.ndarray:
    """Return (s, T a, T a) as (s, T, T, a, a)."""
    a = x.shape[1] // T
    return np.swapaxes(np.reshape(x, (len(x), T, a, T, a)), 2, 3)


def _filled(half: np.ndarray, a: int) -> np.ndarray:
    """Return (s, T a, T a), symmetric, from pairs of errors j <= k (s, T, T, n)."""
    s, T = half.shape[:2]
    j, k, _ = halves(a)
    out = np.empty((s, T, a, T, a), np.complex128)
    out[:, :, k, :, j] = np.moveaxis(np.swapaxes(half, 1, 2), 3, 0)
    out[:, :, j, :, k] = np.moveaxis(half, 3, 0)
    return np.reshape(out, (s, T * a, T * a))
