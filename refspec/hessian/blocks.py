"""Hessian blocks of a multilayer perceptron: second derivatives at the pre-activations.

For one sample let S_{lm} be the second derivative of its loss with respect to shifts of
the outputs z_l and z_m of layers l <= m, d_m its error and J_{lm} the derivative of
layer m's input with respect to a shift of z_l. Then the block of (W_l, W_m) is

    S_{lm} (x) u_l u_m'  +  [l < m]  (J_{lm} u_l') paired with d_m,

u the features. Summed over samples both terms are matrix products over the sample axis;
a diagonal block is symmetric in both of its factors, so its packed triangles quarter
the product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refspec import backend
from refspec.backend import Array, Namespace
from refspec.models.operations import Step

#: Numbers held in temporaries at once, about; sets chunks of samples and slabs of rows.
BUDGET = 2**22


@dataclass(frozen=True, slots=True, eq=False)
class _Dense:
    """One dense layer: features (n, a), W (b, a), slope and bend (n, b) after it."""

    name: str
    features: Array
    matrix: Array
    slope: Array
    bend: Array


def apply(steps: Sequence[Step]) -> bool:
    """Whether a network is layers and functions of each entry, one after the other."""
    return all(x.window is None and x.of == (k,) for k, x in enumerate(steps))


def samples_at_once(shapes: Mapping[str, tuple[int, int]], P: int) -> int:
    """Return how many samples to take at once: their blocks fit in the budget.

    An eighth of the result, (P, P), is granted too: fewer passes over a large result.
    """
    b, a = (max(sizes) for sizes in zip(*shapes.values(), strict=True))
    each = sum(b * b for b, _ in shapes.values()) + 2 * b * a
    return int(max(1, max(BUDGET, P * P // 8) // each))


def add_blocks(
    H: Array,
    places: Mapping[str, int],
    steps: Sequence[Step],
    curvature: Array,
    errors: Array | None,
    xp: Namespace,
) -> None:
    """Add n samples to the blocks (l, m), l <= m, of H (P, P), in place.

    `curvature` (n, C, C) and `errors` (n, C) are derivatives at the logits; no errors,
    no residual. Theory: theory/hessian.md#H2, #H3, #H4. Cost 2 n P_l P_m a block.
    """
    layers = _dense(steps, xp)
    outer: list[Array] = [None] * len(layers)
    inner: list[Array] = [None] * len(layers)
    for k in reversed(range(len(layers))):  # H2: from the logits down
        x = layers[k]
        if errors is not None:
            bent, errors = x.bend * errors, x.slope * errors
            inner[k], errors = errors, errors @ x.matrix
        # S of the pre-activations: the chain rule through the activation once for each
        # of the two derivatives, and its own bend where a first derivative reaches it
        curvature = x.slope[:, :, None] * curvature * x.slope[:, None, :]
        if errors is not None:
            eye = xp.eye(bent.shape[1], dtype=H.dtype, device=backend.device(H))
            curvature = curvature + bent[:, :, None] * eye
        outer[k] = curvature
        if k:
            curvature = xp.matrix_transpose(x.matrix) @ (curvature @ x.matrix)
    for k, x in enumerate(layers):
        if x.name not in places:
            continue
        _add_diagonal(H, places[x.name], outer[k], x.features, xp)
        reach = x.slope  # J_{l,l+1} is diagonal, then indexed (unit of l, input)
        for m in range(k + 1, len(layers)):
            y, across = layers[m], xp.matrix_transpose(layers[m].matrix)
            ahead = reach[:, :, None] * across if m == k + 1 else reach @ across
            if y.name in places:
                corner = (places[x.name], places[y.name])
                _add_cross(H, corner, ahead @ outer[m], reach, inner[m], (x, y), xp)
            reach = ahead * y.slope[:, None, :]


def _dense(steps: Sequence[Step], xp: Namespace) -> list[_Dense]:
    """Join each layer with the activations after it: slopes and bends compose."""
    layers: list[_Dense] = []
    for step in steps:
        if step.matrix is not None:
            features = step.features[:, 0, :]
            shape, at = (
                (features.shape[0], step.matrix.shape[0]),
                backend.device(features),
            )
            one = xp.ones(shape, dtype=features.dtype, device=at)
            layers.append(_Dense(step.name, features, step.matrix, one, 0 * one))
        elif step.slope is not None and layers:
            x = layers[-1]
            bend = step.bend * x.slope * x.slope + step.slope * x.bend
            slope = step.slope * x.slope
            layers[-1] = _Dense(x.name, x.features, x.matrix, slope, bend)
    return layers


def _add_diagonal(H: Array, place: int, S: Array, u: Array, xp: Namespace) -> None:
    """Add sum_n S_n (x) u_n u_n', the lower triangles of both factors multiplied."""
    (n, b), a = S.shape[:2], u.shape[1]
    rows, columns, where = _triangle(b)
    pairs = backend.from_host(rows * b + columns, H)
    left, right, spread = (backend.from_host(x, H) for x in _triangle(a))
    # Both S_n and u_n u_n' are symmetric, so one triangle of each carries everything, a
    # quarter of the product; `where` and `spread` say where each entry of the block is.
    packed: Array = 0
    for run in _runs(n, b * b + a * a):
        outer = xp.take(_joined(S[run, ...], xp), pairs, axis=1)
        inner = xp.take(u[run, :], left, axis=1) * xp.take(u[run, :], right, axis=1)
        packed = packed + xp.matrix_transpose(outer) @ inner
    for i in range(b):  # one unit's rows at a time: they stay in cache
        half = xp.take(packed, backend.from_host(where[i * b : (i + 1) * b], H), axis=0)
        block = xp.reshape(xp.take(half, spread, axis=1), (b, a, a))
        block = xp.reshape(xp.permute_dims(block, (1, 0, 2)), (a, b * a))
        H[place + i * a : place + (i + 1) * a, place : place + b * a] += block


def _add_cross(
    H: Array,
    corner: tuple[int, int],
    S: Array,
    reach: Array,
    errors: Array | None,
    layers: tuple[_Dense, _Dense],
    xp: Namespace,
) -> None:
    """Add the block of two layers, rows of a few units of the first at a time."""
    (u, v), (n, b, d) = (x.features for x in layers), S.shape
    a, c, free = u.shape[1], v.shape[1], layers[1].matrix.shape[1]
    # In adjacent layers J is diagonal in (unit of l, input of m): its part of the block
    # is sparse, d_m u_l' slope in the columns of that one unit, and added there alone.
    # Further on J is full, and the pairs (unit of l, input of m) come from one product.
    adjacent = len(reach.shape) == 2
    for units in _runs(b, a * d * c):
        block: Array = 0
        bridge: Array = 0
        for run in _runs(n, a * (c + d)):
            left = _joined(S[run, units, :], xp)
            right = _khatri_rao(u[run, :], v[run, :], xp)
            block = block + xp.matrix_transpose(left) @ right
            if errors is None:
                continue
            if adjacent:
                left = errors[run, :]
                right = _khatri_rao(reach[run, units], u[run, :], xp)
            else:
                left = _khatri_rao(u[run, :], errors[run, :], xp)
                right = _joined(reach[run, units, :], xp)
            bridge = bridge + xp.matrix_transpose(left) @ right
        few = units.stop - units.start
        block = xp.permute_dims(xp.reshape(block, (few, d, a, c)), (0, 2, 1, 3))
        if errors is not None and adjacent:
            bridge = xp.permute_dims(xp.reshape(bridge, (d, few, a)), (1, 2, 0))
            for k, i in enumerate(range(units.start, units.stop)):
                block[k, :, :, i] += bridge[k, ...]
        elif errors is not None:
            bridge = xp.reshape(bridge, (a, d, few, free))
            block[..., :free] += xp.permute_dims(bridge, (2, 0, 1, 3))
        rows = slice(corner[0] + units.start * a, corner[0] + units.stop * a)
        columns = slice(corner[1], corner[1] + d * c)
        H[rows, columns] += xp.reshape(block, (few * a, d * c))


def _khatri_rao(x: Array, y: Array, xp: Namespace) -> Array:
    """Row-wise Kronecker product (n, a c) of (n, a) and (n, c)."""
    return _joined(x[:, :, None] * y[:, None, :], xp)


def _joined(x: Array, xp: Namespace) -> Array:
    """Reshape (n, i, p) to (n, i p)."""
    return xp.reshape(x, (x.shape[0], -1))


def _triangle(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the lower triangle; where in it (i, j) and (j, i) are."""
    rows, columns = np.tril_indices(n)
    where = np.zeros((n, n), dtype=np.int64)
    where[rows, columns] = where[columns, rows] = np.arange(rows.size)
    return rows, columns, where.reshape(-1)


def _runs(total: int, size: int) -> list[slice]:
    """Ranges of samples or units such that `size` numbers for each fit the budget."""
    many = max(1, BUDGET // size)
    return [slice(i, min(i + many, total)) for i in range(0, total, many)]
