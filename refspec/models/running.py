"""Running error bounds: how far what a network computes can be from exact.

Beside a computed number goes a bound on its error, and every step makes the bound of
what leaves it from those of what enters: of this network at these samples, not of the
worst one of its shape (Wilkinson; Higham, section 3.3). Proof: theory/hessian.md#H10.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from refspec import rounding
from refspec.backend import Array, Namespace
from refspec.models import operations
from refspec.models.network import Network
from refspec.models.operations import EVALUATION, LIPSCHITZ, Step

#: Values, slopes and bends of these are exact at the argument that is given.
_EXACT = ("relu", "identity")


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
    seen: Mapping[str, Array] | None = None,
) -> Run:
    """Run a network with bounds on what arithmetic of unit roundoff u can do to it.

    Layers whose features are `seen` go on with these: errors begin anew at each.
    """
    run, x, error = Run(), X, xp.zeros_like(X)
    for operation in network.operations:
        error = error + u * xp.abs(x)  # a value that is stored is rounded once more
        step, y = operations.record(operation, network.parameters, x, xp)
        run.into.append((x, error))
        if step.matrix is None:
            error = _passed(step, x, error, u, xp)
        else:
            bias = network.parameters.get(operation.get("bias") or "")
            off = operations.unfold(step, error, xp)
            made = step.features[..., : off.shape[2]]
            run.made[step.name] = made, off
            if seen is not None and step.name in seen:
                _expect_like(step, seen[step.name])
                made = seen[step.name][..., : off.shape[2]]
                step, y = _resumed(step, seen[step.name], made, bias, xp)
                off = u * xp.abs(made)
            g = _inner_products(made, off, u, xp)
            z = (off + g * xp.abs(made)) @ xp.matrix_transpose(xp.abs(step.matrix))
            z = z if bias is None else z + g * xp.abs(bias)
            error = operations.arrange(step, z, xp)
        run.steps.append(step)
        x = y
    run.logits, run.errors = x, error
    return run


def _inner_products(x: Array, off: Array, u: float, xp: Namespace) -> Array:
    """Return gamma (N, T, 1) of inner products with x (N, T, a) and a bias.

    A term that is zero costs no rounding: with k others there are k + 2, in any order.
    """
    terms = xp.astype((x != 0) | (off > 0), x.dtype)
    k = xp.sum(terms, axis=2, keepdims=True) + 2
    return k * u / (1 - x.shape[2] * u - 2 * u)


def _expect_like(step: Step, features: Array) -> None:
    """Refuse features that cannot be those of a layer."""
    if features.shape != step.features.shape:
        raise ValueError(
            f"features of {step.name} must have the shape "
            f"{tuple(step.features.shape)} that the model section gives, got "
            f"{tuple(features.shape)}; the two are not of one network"
        )


def _resumed(
    step: Step, features: Array, made: Array, bias: Array | None, xp: Namespace
) -> tuple[Step, Array]:
    """Apply a layer to features (N, T, a) in place of those that came to it."""
    z = made @ xp.matrix_transpose(step.matrix)
    z = z if bias is None else z + bias
    step = dataclasses.replace(step, features=features)
    return step, operations.arrange(step, z, xp)


def _passed(step: Step, z: Array, e: Array, u: float, xp: Namespace) -> Array:
    """Bound the error of what leaves a step without weights; z is off by e."""
    g = rounding.gamma(EVALUATION, u)
    if step.slope is None:
        both = operations.push(step, xp.stack([e, xp.abs(z)], axis=1), xp)
        return both[:, 0, ...] + g * both[:, 1, ...]
    if step.kind in _EXACT:
        return e * xp.astype((z > -e) | (step.slope != 0), e.dtype)
    # the slope moves by at most LIPSCHITZ e on the way
    return (xp.abs(step.slope) + LIPSCHITZ / 2 * e) * e + g * (xp.abs(z) + 1)


def slope_errors(
    step: Step, z: Array, e: Array, u: float, xp: Namespace
) -> tuple[Array, Array]:
    """Bound the errors of an activation's slope and bend, its argument off by e.

    The slope of a relu may be wrong by 1 where the sign of its argument is not certain.
    """
    if step.kind == "identity":
        return xp.zeros_like(e), xp.zeros_like(e)
    if step.kind == "relu":
        return xp.astype((xp.abs(z) <= e) & (e > 0), e.dtype), xp.zeros_like(e)
    g = 2 * rounding.gamma(EVALUATION, u)
    moved = (xp.abs(step.bend) + LIPSCHITZ / 2 * e) * e
    return moved + g, LIPSCHITZ * e + g


def probability_errors(
    f: Array, e: Array, u: float, xp: Namespace
) -> tuple[Array, Array]:
    """Bound errors of probabilities, logits f (N, C) off by e: relative ones, (N, 1).

    First what logits bring, which 1 - p has relative to itself too; then rounding.
    """
    size = xp.max(xp.abs(f), axis=1, keepdims=True)
    moved = xp.expm1(2 * xp.max(e, axis=1, keepdims=True))
    return moved, rounding.gamma(EVALUATION, u) * (1 + 2 * size)
