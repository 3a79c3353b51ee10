"""Compute an export's features and errors again from its network, and compare.

They are computed again from the model section and compared entry by entry with a
running bound on what rounding, in the precision of the file, can do to them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from refspec import backend, rounding
from refspec.backend import Array, Namespace
from refspec.classes import Snapshot
from refspec.models import evaluation, operations
from refspec.models.network import Network, of_snapshot
from refspec.models.operations import EVALUATION, LIPSCHITZ, Step


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
    going back, a slope whose argument is off by e is off by 2 e, a relu's by 1 where e
    covers 0. u is that of the narrowest dtype in the file.

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
    steps, final = evaluation.forward(network, X)
    into, error = _forward_errors(steps, network, X, u, xp)
    spread = xp.max(error, axis=1, keepdims=True)
    tau = xp.expm1(2 * spread) + rounding.gamma(EVALUATION + final.shape[1], u)
    q = again.probabilities
    found = {"probabilities": tau * q + u}
    seeds = q[:, None, :] - xp.eye(q.shape[1], dtype=q.dtype, device=backend.device(q))
    off = tau[:, :, None] * xp.abs(seeds) + 2 * u
    back = _backward_errors(steps, into, xp.abs(seeds), off, u, xp)
    shared = {layer.name for layer in snapshot.layers}
    for layer in again.layers:
        if layer.name in shared:
            e, d = back[layer.name]
            pad = layer.features.shape[2] - e.shape[2]  # the bias feature is exact
            e = xp.concat([e, xp.zeros_like(layer.features[:, :, :pad])], axis=2)
            found[f"features of {layer.name}"] = e
            found[f"errors of {layer.name}"] = d
    return again, found


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
    steps: list[Step], network: Network, X: Array, u: float, xp: Namespace
) -> tuple[list[tuple[Array, Array]], Array]:
    """Return what enters every step with its error, and the error of the logits."""
    into, x, error = [], X, xp.zeros_like(X)
    for step, operation in zip(steps, network.operations, strict=True):
        size = xp.abs(x)
        error = error + u * size
        into.append((x, error))
        x = operations.record(operation, network.parameters, x, xp)[1]
        if step.slope is not None:
            error = LIPSCHITZ * error + rounding.gamma(EVALUATION, u) * (size + 1)
        elif step.matrix is None:
            both = xp.stack([error, size], axis=1)
            both = operations.push(step, both, xp)
            error = both[:, 0, ...] + rounding.gamma(EVALUATION, u) * both[:, 1, ...]
        else:
            W, g = xp.abs(step.matrix), rounding.gamma(step.matrix.shape[1] + 2, u)
            z = operations.unfold(step, error + g * size, xp) @ xp.matrix_transpose(W)
            bias = network.parameters.get(operation.get("bias") or "")
            z = z if bias is None else z + g * xp.abs(bias)
            error = operations.arrange(step, z, xp)
    return into, error


def _backward_errors(
    steps: list[Step],
    into: list[tuple[Array, Array]],
    size: Array,
    error: Array,
    u: float,
    xp: Namespace,
) -> dict[str, tuple[Array, Array]]:
    """Return the errors of features (N, T, a) and errors (N, C, T, b) by layer."""
    found, (N, C) = {}, size.shape[:2]
    for step, (x, e) in zip(reversed(steps), reversed(into), strict=True):
        g, in_doubt = rounding.gamma(EVALUATION, u), 0.0
        if step.matrix is not None:
            d = xp.reshape(error, (-1, *error.shape[2:]))
            d = operations.positions(step, d, xp)
            d = xp.reshape(d, (N, C, *d.shape[1:]))
            found[step.name] = (operations.unfold(step, e, xp), d)
            step = replace(step, matrix=xp.abs(step.matrix))
            overlap = 1 if step.window is None else math.prod(step.window[0])
            g = rounding.gamma(step.matrix.shape[0] * overlap + 2, u)
        elif step.slope is not None:
            off = LIPSCHITZ * e + g
            if step.kind == "relu":  # 0 or 1, and which is in doubt near the kink
                off = xp.astype((xp.abs(x) <= e) & (e > 0), e.dtype)
            in_doubt = operations.pull(replace(step, slope=off), size + error, xp)
            step = replace(step, slope=xp.abs(step.slope))
        size, error = operations.pull(step, size, xp), operations.pull(step, error, xp)
        error = error + g * size + in_doubt
    return found
