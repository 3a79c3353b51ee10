"""Running error bounds: how far what a network computes can be from exact.

Beside a computed number goes a bound on its error, and every step makes the bound of
what leaves it from those of what enters: of this network at these samples, not of the
worst one of its shape (Wilkinson; Higham, section 3.3). Proof: theory/hessian.md#H10.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refspec import rounding
from refspec.backend import Array, Namespace
from refspec.models import operations
from refspec.models.activations import EVALUATION, LIPSCHITZ, bends, doubtful, jumps
from refspec.models.network import Network
from refspec.models.operations import Step


@dataclass(slots=True)
class Run:
    """Steps of a network, what enters each with its error, and the logits with theirs.

    `made` has the features (N, T, a) of every layer, as the step before gave them.
    """

    steps: list[Step] = field(default_factory=list)
    into: list[tuple[Array, Array]] = field(default_factory=list)
    made: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    logits: Array = None
    errors: Array = None


def forward(
    network: Network,
    X: Array,
    u: float,
    xp: Namespace,
    *,
    seen: Mapping[str, Array] | None = None,
    least: float = 0.0,
) -> Run:
    """Run a network with bounds on what arithmetic of unit roundoff u can do to it.

    Layers whose features are `seen` in a file go on with these: errors begin anew at
    each. What leaves a layer, and parameters move, is off by `least` at least.
    """
    run, outputs, errors, sizes = Run(), [X], [xp.zeros_like(X)], [xp.abs(X)]
    for k, operation in enumerate(network.operations):
        of = operations.sources(operation, k)
        x, e, size = (operations.entering(of, a) for a in (outputs, errors, sizes))
        stored = seen is not None  # then a value is rounded once more
        e = e + (len(of) - 1 + stored) * u * size  # no partial sum is larger
        step, y = operations.record(operation, network.parameters, x, of, xp)
        run.into.append((x, e))
        shift = operations.shift(step, operation, network.parameters)
        if step.matrix is None:
            error = _passed(step, operation, x, e, shift, u, xp)
        else:
            off = operations.unfold(step, e, xp)
            made = step.features[..., : off.shape[2]]
            run.made[step.name] = made, off
            if seen is not None and step.name in seen:
                bias = network.parameters.get(operation.get("bias") or "")
                step, made, y = _resumed(step, seen[step.name], bias, xp)
                off = u * xp.abs(made)
            k = _terms(made, off, xp)
            g = (k + 2) * u / (1 - (made.shape[2] + 2) * u)
            z = off + g * (xp.abs(made) + off)
            z = z @ xp.matrix_transpose(xp.abs(step.matrix))
            # sums of no terms are 0 whatever the weights, and nothing moves them
            biased = operation.get("bias") is not None
            moved = least * xp.astype(k + int(biased) > 0, z.dtype)
            error = operations.arrange(step, z + g * shift + moved, xp)
        run.steps.append(step)
        outputs.append(y)
        errors.append(error)
        sizes.append(xp.abs(y) + error)
    run.logits, run.errors = outputs[-1], errors[-1]
    return run


def _resumed(
    step: Step, features: Array, bias: Array | None, xp: Namespace
) -> tuple[Step, Array, Array]:
    """Apply a layer to features (N, T, a) in place of those that came to it."""
    if features.shape != step.features.shape:
        raise ValueError(
            f"features of {step.name} must have the shape "
            f"{tuple(step.features.shape)} that the model section gives, got "
            f"{tuple(features.shape)}; the two are not of one network"
        )
    inputs = features[..., : step.matrix.shape[1]]
    z = inputs @ xp.matrix_transpose(step.matrix)
    z = operations.arrange(step, z if bias is None else z + bias, xp)
    return dataclasses.replace(step, features=features), inputs, z


def _terms(x: Array, off: Array, xp: Namespace) -> Array:
    """Count the terms (N, T, 1) of inner products with x (N, T, a) that are not zero.

    A zero costs no rounding: with k others, and a bias, there are k + 2 in any order.
    """
    there = xp.astype((x != 0) | (off > 0), x.dtype)
    return xp.sum(there, axis=2, keepdims=True)


def _passed(
    step: Step,
    operation: Mapping[str, Any],
    z: Array,
    e: Array,
    shift: Array,
    u: float,
    xp: Namespace,
) -> Array:
    """Bound the error of what leaves a step that is no layer; z is off by e."""
    g, size = rounding.gamma(EVALUATION, u), xp.abs(z) + e  # of what was computed
    if step.kind == "batch_norm":
        return xp.abs(step.slope) * (e + g * size) + g * shift
    if step.choice is not None:
        return xp.max(operations.windows(step, e, xp), axis=2)
    if step.slope is None:
        both = operations.push(step, xp.stack([e, size], axis=1), xp)
        return both[:, 0, ...] + g * both[:, 1, ...]
    doubt = doubtful(operation, z, e, xp)
    steep = xp.abs(step.slope)
    if bends(operation):  # a slope moves by at most LIPSCHITZ e on the way
        moved, rounded = (steep + LIPSCHITZ / 2 * e) * e, g * (size + 1)
    else:  # it is constant, and where it is 0 or 1 the value is exact
        plain = (step.slope == 0) | (step.slope == 1)
        moved, rounded = steep * e, xp.where(plain, 0 * size, g * (size + 1))
    across = LIPSCHITZ * e + jumps(operation)[0]
    return xp.where(doubt, across, moved) + rounded


def slope_errors(
    step: Step,
    operation: Mapping[str, Any],
    z: Array,
    e: Array,
    u: float,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Bound the errors of a slope and a bend, their argument z off by e.

    Where it is not certain on which side of a kink z lies, the slope's jump is added.
    """
    g, zero = 2 * rounding.gamma(EVALUATION, u), xp.zeros_like(e)
    if step.kind == "batch_norm":
        return g * xp.abs(step.slope), zero
    doubt = xp.astype(doubtful(operation, z, e, xp), e.dtype)
    jump = doubt * (jumps(operation)[1] + LIPSCHITZ * e)
    if not bends(operation):
        plain = (step.slope == 0) | (step.slope == 1)
        return jump + xp.where(plain, zero, g + zero), zero
    return (xp.abs(step.bend) + LIPSCHITZ / 2 * e) * e + g + jump, LIPSCHITZ * e + g


def probability_errors(
    f: Array, e: Array, u: float, xp: Namespace
) -> tuple[Array, Array]:
    """Bound errors of probabilities, logits f (N, C) off by e: relative ones, (N, 1).

    First what logits bring, which 1 - p has relative to itself too; then rounding.
    """
    size = xp.max(xp.abs(f), axis=1, keepdims=True)
    with np.errstate(over="ignore"):  # infinite: of such inputs nothing is known
        moved = xp.expm1(2 * xp.max(e, axis=1, keepdims=True))
    return moved, rounding.gamma(EVALUATION, u) * (1 + 2 * size)
