"""How far a computed Hessian can be from the exact one, by any exact algorithm.

An entry of the Hessian is a sum over paths of products of weights, features, slopes,
bends and the derivatives at the logits. Rounding does two things to it: to the sums and
products themselves, in whatever order, and to the factors, which come from rounded
pre-activations. One majorant bounds both: the same sum over paths with norms in place
of factors, each factor enlarged by its error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from refspec import backend, rounding
from refspec.backend import Array, Namespace
from refspec.hessian.assembly import at_logits
from refspec.models import Network, evaluation, operations
from refspec.models.activations import EVALUATION, LIPSCHITZ, bends, doubtful
from refspec.models.operations import Step, overlap


def hessian_radius(
    network: Network,
    X: Array,
    labels: Array,
    *,
    sample_weights: Array | None = None,
) -> float:
    r"""Bound the 2-norm error of a computed Hessian, Fisher matrix or residual.

    Parameters
    ----------
    network, X, labels, sample_weights : as in `refspec.hessian.hessian`

    Returns
    -------
    float
        :math:`\|fl(H) - H\|_2` is at most this for H of every part and any layers; inf
        where nothing can be said, e.g. if the sign of a relu's input is not certain.

    Raises
    ------
    ValueError
        If inputs, labels or weights do not fit.

    Notes
    -----
    Theory: theory/hessian.md#H7. The bound is :math:`2 \gamma_K R M(R)`: M is the
    majorant with every factor f enlarged to :math:`|f| + r/R`, :math:`\gamma_K r` the
    error of the factor, and R the best power of two. It holds for every algorithm that
    sums the same products in any order, automatic differentiation too, barring
    underflow. Cost: two forward passes.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec import models
    >>> network = models.mlp([3, 4, 2], rng=np.random.default_rng(0))
    >>> 0 < hessian_radius(network, np.ones((5, 3)), [0, 1, 0, 1, 1]) < 1e-9
    True
    """
    steps, curvature, errors = at_logits(network, X, labels, "hessian", sample_weights)
    xp = backend.namespace(X)
    gamma = rounding.gamma(_roundings(steps, curvature), rounding.unit_roundoff(X))
    _, made = evaluation.run(network, X)
    rho, entered = [xp.zeros_like(X)], []  # 0: no parameter moves the entry
    for step, operation in zip(steps, network.operations, strict=True):
        x, error = (operations.entering(step.of, z) for z in (made, rho))
        if len(step.of) > 1:  # the sum is rounded
            error = error + xp.abs(x)
        if not _certain(step, operation, x, gamma * error, xp):
            return math.inf
        entered.append(error)
        shift = operations.shift(step, operation, network.parameters)
        rho.append(_error(step, operation, error, x, shift, xp))
    f = made[-1]
    own = 8 * (1 + 2 * _largest(f, xp))  # of a probability, from its logits
    tau = own + 16 * _largest(rho[-1], xp)  # and from their errors
    if not gamma * backend.scalar(xp.max(tau)) < 1:
        return math.inf
    w = evaluation.sample_average(sample_weights, X, xp)
    alpha = xp.max(xp.sum(xp.abs(curvature), axis=2), axis=1)
    best, R = math.inf, 1.0
    while gamma * R < 1:
        a, d = (x * (1 + tau / R) + w * own / R for x in (alpha, _norm(errors, xp)))
        total = xp.sum(_majorant(steps, entered, a, d, R, xp))
        best, R = min(best, 2 * gamma * R * backend.scalar(total)), 2 * R
    return best


def _roundings(steps: Sequence[Step], curvature: Array) -> int:
    """Count roundings on a path: each step twice, then the sum over samples."""
    N, C = curvature.shape[:2]
    count, positions = 4 * EVALUATION + 2 * C, 1
    for step in steps:
        if step.matrix is not None:
            b, a = step.matrix.shape
            count += 2 * (a + b * overlap(step) + 4)
            positions = max(positions, step.features.shape[1])
        else:
            kernel = 1 if step.window is None else math.prod(step.window[0])
            count += 2 * (kernel + overlap(step) + 4)
        count += 4 * (len(step.of) - 1)
    return int(count + N * positions)


def _certain(
    step: Step, operation: Mapping[str, Any], x: Array, off: Array, xp: Namespace
) -> bool:
    """Whether x off by `off` is on one side of every kink, each maximum one entry.

    Entries that no parameter moves (off = 0) may lie anywhere.
    """
    if step.slope is not None:
        return not bool(xp.any(doubtful(operation, x, off, xp)))
    if step.choice is not None:
        near = operations.near_the_maximum(step, x, off, xp)
        return not bool(xp.any(near * operations.windows(step, off, xp) > 0))
    return True


def _error(
    step: Step,
    operation: Mapping[str, Any],
    rho: Array,
    x: Array,
    shift: Array,
    xp: Namespace,
) -> Array:
    """Error of what leaves a step, over gamma_K, entry by entry; x and rho enter it."""
    if step.kind == "batch_norm":
        return xp.abs(step.slope) * (rho + xp.abs(x)) + shift
    if step.slope is not None:
        moved = LIPSCHITZ * rho + xp.abs(x) + 1
        # where a piecewise linear function is constant nothing moves, and no rounding
        return moved if bends(operation) else xp.where(step.slope == 0, 0 * x, moved)
    if step.choice is not None:
        return xp.max(operations.windows(step, rho, xp), axis=2)
    if step.matrix is None:
        return operations.push(step, (rho + xp.abs(x))[:, None, ...], xp)[:, 0, ...]
    across = xp.matrix_transpose(xp.abs(step.matrix))
    z = operations.unfold(step, rho + xp.abs(x), xp) @ across
    u = rounding.unit_roundoff(x)
    some = float(xp.finfo(x.dtype).smallest_normal) / u**2  # weights move all of it
    return operations.arrange(step, z + shift + some, xp)


def _majorant(
    steps: Sequence[Step],
    entered: Sequence[Array],
    alpha: Array,
    top: Array,
    R: float,
    xp: Namespace,
) -> Array:
    """Sum over paths (N,): alpha g^2 + sum bend d g^2 + 2 sum d g over the steps."""
    made, reach = [xp.zeros_like(alpha)], []
    for step, error in zip(steps, entered, strict=True):
        g = operations.entering(step.of, made)
        reach.append(g)
        if step.matrix is not None:
            features = (
                _norm(step.features, xp)
                + math.sqrt(overlap(step)) * _norm(error, xp) / R
            )
            g = xp.sqrt((_gain(step, xp) * g) ** 2 + features**2)
        elif step.slope is not None:
            g = g * _bend(step, step.slope, error, R, xp)
        elif step.choice is not None:
            g = g * math.sqrt(overlap(step))
        made.append(g)
    total = alpha * made[-1] ** 2
    back: list[Array] = [*[None] * len(steps), top]
    for k, step in reversed(list(enumerate(steps))):
        g, error, d = reach[k], entered[k], back[k + 1]
        if step.matrix is not None:
            total = total + 2 * d * math.sqrt(overlap(step)) * g
            d = _gain(step, xp) * d
        elif step.slope is not None:
            total = total + d * _bend(step, step.bend, error, R, xp) * g**2
            d = d * _bend(step, step.slope, error, R, xp)
        elif step.choice is not None:
            d = d * math.sqrt(overlap(step))
        operations.leave(step.of, d, back)
    return total


def _bend(step: Step, x: Array, error: Array, R: float, xp: Namespace) -> Array:
    """Largest slope or bend at arguments off by `error`, over gamma_K R."""
    if step.kind == "batch_norm":  # a number for each channel, a few roundings off
        return _largest(x, xp) * (1 + 1 / R)
    return _largest(xp.abs(x) + LIPSCHITZ * (error + 1) / R, xp)


def _gain(step: Step, xp: Namespace) -> float:
    """Bound the norm of |W| from one sample to the layer's outputs."""
    size = xp.abs(step.matrix)
    sides = [backend.scalar(xp.max(xp.sum(size, axis=k))) for k in (0, 1)]
    square = min(math.prod(sides), backend.scalar(xp.sum(size * size)))
    return math.sqrt(square * overlap(step))


def _norm(x: Array, xp: Namespace) -> Array:
    """Return the Euclidean norm of each sample's entries, (N,)."""
    return xp.sqrt(xp.sum(xp.reshape(x * x, (x.shape[0], -1)), axis=1))


def _largest(x: Array, xp: Namespace) -> Array:
    """Return each sample's largest size, (N,)."""
    return xp.max(xp.abs(xp.reshape(x, (x.shape[0], -1))), axis=1)
