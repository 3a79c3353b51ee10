"""Compute an export's features and errors again from its network, and compare.

They are computed again from the model section and compared entry by entry with a
running bound on what rounding, in the precision of the file, can do to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from refspec import backend, rounding
from refspec.backend import Array, Namespace
from refspec.classes import Snapshot, log_softmax
from refspec.models import evaluation, operations
from refspec.models.activations import EVALUATION, LIPSCHITZ, bends, doubtful, jumps
from refspec.models.network import Network, of_snapshot
from refspec.models.operations import Step


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """How far stored arrays are from those computed again.

    Parameters
    ----------
    name : str, e.g. `features of fc1`, `probabilities`
    residual : float, the largest difference of an entry
    ratio : float
        The largest difference over its bound; above 1 the two disagree.
    """

    name: str
    residual: float
    ratio: float


def recompute(snapshot: Snapshot) -> list[Difference]:
    """Compute features and errors again from the model section and compare.

    Parameters
    ----------
    snapshot : Snapshot, with a model section

    Returns
    -------
    list of Difference
        For the probabilities, then every layer that the snapshot and the network share.

    Raises
    ------
    ValueError
        If there is no model section, or it is not a network that refspec knows.

    Notes
    -----
    Theory: theory/hessian.md#H10. The bound is a running error analysis: a map W takes
    an error e to |W| e + gamma_k |W||x|, an activation to 2 e + gamma_64 (|x| + 1);
    going back, a slope whose argument is off by e is off by 2 e, and by its jump where
    e covers a kink; a maximum may be any entry that e brings as near. u is that of the
    narrowest dtype in the file.

    Examples
    --------
    >>> import refspec
    >>> all(x.ratio <= 1 for x in recompute(refspec.datasets.digits_mlp()))
    True
    """
    again, bounds = computed_again(snapshot)
    return [
        _difference(name, _stored(snapshot, name), _stored(again, name), bound)
        for name, bound in bounds.items()
    ]


def computed_again(snapshot: Snapshot) -> tuple[Snapshot, dict[str, Array]]:
    """Return the snapshot of the model section, and how far each entry may be off.

    Bounds of `probabilities` and, for every layer of both, `features of NAME` and
    `errors of NAME`. Theory: theory/hessian.md#H10.
    """
    network, X = of_snapshot(snapshot)
    xp, p = backend.namespace(snapshot.probabilities), snapshot.probabilities
    X = xp.astype(X, p.dtype)
    narrow = str(snapshot.provenance.get("dtype", p.dtype))
    u = 2.0**-24 if "32" in narrow else rounding.unit_roundoff(p)
    again = evaluation.snapshot(network, X, snapshot.labels)
    steps, made = evaluation.run(network, X)
    into, error = _forward_errors(steps, network, made, u, xp)
    spread = xp.max(error, axis=1, keepdims=True)
    tau = xp.expm1(2 * spread) + rounding.gamma(EVALUATION + made[-1].shape[1], u)
    q = again.probabilities
    found = {"probabilities": tau * q + u}
    seeds = q[:, None, :] - xp.eye(q.shape[1], dtype=q.dtype, device=backend.device(q))
    off = tau[:, :, None] * xp.abs(seeds) + 2 * u
    back = _backward_errors(steps, network, into, (xp.abs(seeds), off), u, xp)
    shared = {layer.name for layer in snapshot.layers}
    for layer in again.layers:
        if layer.name in shared:
            e, d = back[layer.name]
            pad = layer.features.shape[2] - e.shape[2]  # the bias feature is exact
            e = xp.concat([e, xp.zeros_like(layer.features[:, :, :pad])], axis=2)
            found[f"features of {layer.name}"] = e
            found[f"errors of {layer.name}"] = d
    return again, found


def same_logits(network: Network, X: Array, logits: Array) -> bool:
    """Whether logits (N, C) are the network's, both within rounding of the exact ones.

    Theory: theory/hessian.md#H10.
    """
    steps, made = evaluation.run(network, X)
    xp, f = backend.namespace(X, logits), made[-1]
    if f.shape != logits.shape:
        return False
    _, error = _forward_errors(steps, network, made, rounding.unit_roundoff(X), xp)
    return bool(xp.all(xp.abs(f - logits) <= 2 * error))


def same_probabilities(network: Network, X: Array, p: Array) -> bool:
    """Whether p (N, C) is the softmax of the network's logits, within rounding.

    Theory: theory/hessian.md#H10.
    """
    steps, made = evaluation.run(network, X)
    xp, f, u = backend.namespace(X), made[-1], rounding.unit_roundoff(X)
    if f.shape != p.shape:
        return False
    _, error = _forward_errors(steps, network, made, u, xp)
    own = rounding.gamma(EVALUATION + f.shape[1], u) * (1 + 2 * xp.max(xp.abs(f)))
    tau = xp.expm1(2 * xp.max(error, axis=1, keepdims=True)) + own
    q = xp.exp(log_softmax(f))
    return bool(xp.all(xp.abs(q - p) <= 2 * (tau * q + u)))


def _stored(snapshot: Snapshot, name: str) -> Array:
    """Look up one of the arrays that `computed_again` bounds."""
    if name == "probabilities":
        return snapshot.probabilities
    kind, layer = name.split(" of ", 1)
    found: Array = getattr(snapshot.layer(layer), kind)
    return found


def _difference(name: str, stored: Array, again: Array, bound: Array) -> Difference:
    """Compare entry by entry; storing rounds once more and never below a subnormal."""
    if stored.shape != again.shape:
        raise ValueError(
            f"{name} must have the shape {tuple(again.shape)} that the model section "
            f"gives, got {tuple(stored.shape)}; the two are not of one network"
        )
    xp = backend.namespace(stored, again, bound)
    gap = xp.abs(stored - again)
    tiny = float(xp.finfo(xp.float32).smallest_normal)
    ratio = xp.max(gap / (bound + tiny))
    return Difference(name, backend.scalar(xp.max(gap)), backend.scalar(ratio))


def _forward_errors(
    steps: list[Step], network: Network, made: list[Array], u: float, xp: Namespace
) -> tuple[list[tuple[Array, Array]], Array]:
    """Return what enters every step with its error, and the error of the logits."""
    into, off = [], [xp.zeros_like(made[0])]
    g = rounding.gamma(EVALUATION, u)
    for step, operation in zip(steps, network.operations, strict=True):
        x, error = operations.entering(step.of, made), operations.entering(step.of, off)
        size = xp.abs(x)
        error = error + len(step.of) * u * size
        into.append((x, error))
        shift = operations.shift(step, operation, network.parameters)
        if step.kind == "batch_norm":
            size = xp.abs(step.slope) * size + shift
            error = xp.abs(step.slope) * error + g * size
        elif step.slope is not None:
            jump = jumps(operation)[0] * _doubt(operation, x, error, xp)
            error = LIPSCHITZ * error + g * (size + 1) + jump
        elif step.choice is not None:
            error = xp.max(operations.windows(step, error, xp), axis=2)
        elif step.matrix is None:
            both = xp.stack([error, size], axis=1)
            both = operations.push(step, both, xp)
            error = both[:, 0, ...] + g * both[:, 1, ...]
        else:
            W, k = xp.abs(step.matrix), rounding.gamma(step.matrix.shape[1] + 2, u)
            z = operations.unfold(step, error + k * size, xp) @ xp.matrix_transpose(W)
            error = operations.arrange(step, z + k * shift, xp)
        off.append(error)
    return into, off[-1]


def _backward_errors(
    steps: list[Step],
    network: Network,
    into: list[tuple[Array, Array]],
    seeds: tuple[Array, Array],
    u: float,
    xp: Namespace,
) -> dict[str, tuple[Array, Array]]:
    """Return the errors of features (N, T, a) and errors (N, C, T, b) by layer."""
    found, (N, C) = {}, seeds[0].shape[:2]
    nothing: list[Array] = [None] * len(steps)
    sizes, errors = [*nothing, seeds[0]], [*nothing, seeds[1]]
    for k, (step, (x, e)) in reversed(list(enumerate(zip(steps, into, strict=True)))):
        size, error = sizes[k + 1], errors[k + 1]
        g, in_doubt = rounding.gamma(EVALUATION, u), 0.0
        operation = network.operations[k]
        if step.matrix is not None:
            d = xp.reshape(error, (-1, *error.shape[2:]))
            d = operations.positions(step, d, xp)
            d = xp.reshape(d, (N, C, *d.shape[1:]))
            found[step.name] = (operations.unfold(step, e, xp), d)
            step = replace(step, matrix=xp.abs(step.matrix))
            g = rounding.gamma(step.matrix.shape[0] * operations.overlap(step) + 2, u)
        elif step.choice is not None:
            near = replace(step, choice=operations.near_the_maximum(step, x, e, xp))
            in_doubt = operations.pull(near, size + error, xp)
        elif step.slope is not None:
            off = LIPSCHITZ * e + g if bends(operation) else xp.zeros_like(e)
            off = off + jumps(operation)[1] * _doubt(operation, x, e, xp)
            in_doubt = operations.pull(replace(step, slope=off), size + error, xp)
            step = replace(step, slope=xp.abs(step.slope))
        size, error = operations.pull(step, size, xp), operations.pull(step, error, xp)
        error = error + g * size + in_doubt
        operations.leave(step.of, size, sizes)
        operations.leave(step.of, error + len(step.of) * u * size, errors)
    return found


def _doubt(operation: Mapping[str, Any], x: Array, e: Array, xp: Namespace) -> Array:
    """Return 1 where it is not certain on which side of a kink x lies, else 0."""
    return xp.astype(doubtful(operation, x, e, xp), x.dtype)
