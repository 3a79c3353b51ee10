"""Compute an export's features and errors again from its network, and compare.

Every layer goes on from the stored features before it, so that what it gives is within
the rounding of its own step of what is stored after it: entry by entry, by a running
bound in the precision of the file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from refspec import backend, rounding
from refspec.backend import Array, Namespace
from refspec.classes import Layer, Snapshot, log_softmax, misses
from refspec.models import evaluation, operations, running
from refspec.models.activations import EVALUATION
from refspec.models.network import Network, in_format, of_snapshot
from refspec.models.operations import Step

_AT_ONCE = 8  # arrays of the size of features and errors: values, bounds, on the way


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """How far stored arrays are from those computed again.

    Parameters
    ----------
    name : str, e.g. `features of fc1`, `probabilities`
    residual : float, the largest difference of an entry
    ratio : float
        The largest difference over its bound; above 1 the two disagree.
    bound, size : float
        Frobenius norms of the bounds and of what was computed again.
    """

    name: str
    residual: float
    ratio: float
    bound: float
    size: float


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
    Theory: theory/hessian.md#H10. Every layer goes on from the stored features, and the
    bound runs beside the computation: a map W takes an error e to
    `|W| e + gamma_k |W||x|`, an activation to `|slope| e + e^2 + gamma_64 (|x| + 1)`;
    going back, a slope is off by what its argument's error makes of it, and by its jump
    where that covers a kink; a maximum may be any entry that it brings as near. u is
    that of the narrowest dtype in the file.

    Examples
    --------
    >>> import refspec
    >>> all(x.ratio <= 1 for x in recompute(refspec.datasets.digits_mlp()))
    True
    """
    of_snapshot(snapshot)  # refuses what has no network
    N, found = snapshot.probabilities.shape[0], None
    step = backend.at_a_time(_AT_ONCE * _sample(snapshot), snapshot.probabilities)
    for i in range(0, N, step):
        some = snapshot if step >= N else _samples(snapshot, i, min(i + step, N))
        mine = _differences(some)
        found = mine if found is None else list(map(_joined, found, mine))
    return found or []


def _differences(snapshot: Snapshot) -> list[Difference]:
    """Compare all samples of a snapshot at once."""
    again = computed_again(snapshot)
    p, bounds = snapshot.probabilities, dict(again.bounds)
    bounds["probabilities"] = bounds["probabilities"] + again.lost
    pairs = [("probabilities", p, again.probabilities)]
    for x in again.layers:
        stored = snapshot.layer(x.name)
        pairs.append((f"features of {x.name}", stored.features, x.features))
        pairs.append((f"errors of {x.name}", stored.errors, x.errors))
    return [_difference(name, x, y, bounds[name]) for name, x, y in pairs]


def _joined(a: Difference, b: Difference) -> Difference:
    """Return what two parts of the samples say together."""
    return Difference(
        a.name,
        max(a.residual, b.residual),
        max(a.ratio, b.ratio),
        math.hypot(a.bound, b.bound),
        math.hypot(a.size, b.size),
    )


def _sample(snapshot: Snapshot) -> int:
    """Return the bytes of one sample's features and errors, those in between too."""
    C = snapshot.probabilities.shape[1]
    sizes = [x.features.shape[1] * x.outputs for x in snapshot.layers]
    inputs = [math.prod(x.features.shape[1:]) for x in snapshot.layers]
    return int(8 * (C * (sum(sizes) + max(inputs)) + sum(inputs)))


def _samples(snapshot: Snapshot, i: int, j: int) -> Snapshot:
    """Return some samples of a snapshot, which nobody weighs."""
    p, model = snapshot.probabilities, snapshot.model
    xp = backend.namespace(p)
    index = xp.arange(i, j, device=backend.device(p))
    if model is not None:
        model = replace(model, inputs=xp.take(model.inputs, index, axis=0))
    return Snapshot(
        tuple(x.chosen(index) for x in snapshot.layers),
        p[i:j, :],
        snapshot.labels[i:j],
        xp.full_like(p[i:j, 0], 1 / (j - i)),
        snapshot.provenance,
        model,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """What a network gives where a snapshot's stored features are, in float64.

    With bounds of `features of NAME`, `errors of NAME` and `probabilities`, these apart
    from what is `lost` where they are stored as 1 - p, and the run that gave them.
    """

    layers: tuple[Layer, ...]
    probabilities: Array
    bounds: Mapping[str, Array]
    lost: float
    run: running.Run


def computed_again(snapshot: Snapshot) -> Again:
    """Compute a snapshot again from its model section, in float64.

    Every layer goes on from the stored features: what an array is compared with has
    the rounding of the steps since the last stored one, and no more.
    """
    network, X = in_format(*of_snapshot(snapshot))
    xp, p = backend.namespace(X), snapshot.probabilities
    narrow = str(snapshot.provenance.get("dtype", p.dtype))
    own = rounding.unit_roundoff(X)
    u = 2.0**-24 if "32" in narrow else rounding.unit_roundoff(p)
    seen = {x.name: xp.astype(x.features, X.dtype) for x in snapshot.layers}
    run = running.forward(network, X, u, xp, seen=seen)
    steps, f = run.steps, run.logits
    logs = log_softmax(f)
    q = xp.exp(logs)
    hot = xp.eye(q.shape[1], dtype=q.dtype, device=backend.device(q))
    seeds = misses(q[:, None, :], hot, xp)
    moved, _ = running.probability_errors(f, run.errors, u, xp)
    # f_k - max f and its exponential lose as many roundings as log q_k is large
    g = rounding.gamma(EVALUATION + q.shape[1], u) - 2 * u * logs
    # 1 - q_k is a sum of the others, each off by `moved` of itself
    off = moved * xp.minimum(q, xp.sum(xp.abs(seeds) * hot, axis=1))
    bounds = {"probabilities": off + g * q}
    # entry c' of p - e_c' may be a difference: where p_c' is near 1 it loses digits,
    # and what the softmax's sum lost, of each of the others at most all
    tiny = xp.sum(xp.minimum(q, xp.full_like(q, 2 * u)), axis=1)
    off = off[:, None, :] + g[:, None, :] * xp.abs(seeds)
    off = off + (2 * u + tiny)[:, None, None] * hot
    into = _with_signs(run, seen, xp)
    back = _backward_errors(network, steps, into, (xp.abs(seeds), off), u, xp)
    layers = []
    for step, errors in evaluation.backpropagate(steps, seeds, xp):
        if step.name in seen:
            features, e = run.made[step.name]
            pad = step.features.shape[2] - e.shape[2]  # the bias feature is exact
            ones = xp.ones_like(step.features[:, :, :pad])
            layers.append(Layer(step.name, xp.concat([features, ones], axis=2), errors))
            bounds[f"features of {step.name}"] = xp.concat([e, 0 * ones], axis=2)
            bounds[f"errors of {step.name}"] = back[step.name]
    # what is computed again is off too, by what its own, finer, arithmetic does
    bounds = {name: (1 + own / u) * x for name, x in bounds.items()}
    lost = u if q.shape[1] == 2 else 0.0  # of two classes, stored as p and 1 - p
    return Again(tuple(layers), q, bounds, lost, run)


def same_logits(network: Network, X: Array, logits: Array) -> bool:
    """Whether logits (N, C) are the network's, both within rounding of the exact ones.

    Theory: theory/hessian.md#H10.
    """
    xp = backend.namespace(X, logits)
    run = running.forward(network, X, rounding.unit_roundoff(X), xp)
    if run.logits.shape != logits.shape:
        return False
    return bool(xp.all(xp.abs(run.logits - logits) <= 2 * run.errors))


def same_probabilities(network: Network, X: Array, p: Array) -> bool:
    """Whether p (N, C) is the softmax of the network's logits, within rounding.

    Theory: theory/hessian.md#H10.
    """
    xp, u = backend.namespace(X, p), rounding.unit_roundoff(X)
    run = running.forward(network, X, u, xp)
    if run.logits.shape != p.shape:
        return False
    q = xp.exp(log_softmax(run.logits))
    moved, own = running.probability_errors(run.logits, run.errors, u, xp)
    g = own + rounding.gamma(q.shape[1], u)
    known = xp.isfinite(moved)
    moved = xp.where(known, moved, xp.zeros_like(moved))
    near = xp.abs(q - p) <= 2 * ((moved + g) * q + u)
    return bool(xp.all(near | ~known))


def _difference(name: str, stored: Array, again: Array, bound: Array) -> Difference:
    """Compare entry by entry; storing rounds once more and never below a subnormal."""
    if stored.shape != again.shape:
        raise ValueError(
            f"{name} must have the shape {tuple(again.shape)} that the model section "
            f"gives, got {tuple(stored.shape)}; the two are not of one network"
        )
    xp = backend.namespace(stored, again, bound)
    gap = xp.abs(xp.astype(stored, again.dtype) - again)
    bound = bound + float(xp.finfo(xp.float32).smallest_normal)
    found = xp.max(gap), xp.max(gap / bound)
    sizes = (xp.sum(x * x) ** 0.5 for x in (bound, again))
    return Difference(name, *(backend.scalar(x) for x in (*found, *sizes)))


def _with_signs(
    run: running.Run, seen: Mapping[str, Array], xp: Namespace
) -> list[tuple[Array, Array]]:
    """Take the error off inputs of relus whose sign the stored features show.

    What was exported and what is computed again have one slope there.
    """
    found = list(run.into)
    for after in run.steps:
        k = after.of[0] - 1
        shown = after.name in seen and len(after.of) == 1 and k >= 0
        if shown and run.steps[k].kind == "relu":
            mine, _ = run.made[after.name]
            differ = (mine > 0) != (seen[after.name][..., : mine.shape[2]] > 0)
            doubt = operations.fold(after, xp.astype(differ, mine.dtype), xp)
            x, e = found[k]
            found[k] = x, xp.where(doubt > 0, e, xp.zeros_like(e))
    return found


def _backward_errors(
    network: Network,
    steps: list[Step],
    into: list[tuple[Array, Array]],
    seeds: tuple[Array, Array],
    u: float,
    xp: Namespace,
) -> dict[str, Array]:
    """Return the errors of the errors (N, C, T, b) of every layer."""
    found, (N, C) = {}, seeds[0].shape[:2]
    nothing: list[Array] = [None] * len(steps)
    sizes, errors = [*nothing, seeds[0]], [*nothing, seeds[1]]
    sent = Counter(k for step in steps for k in step.of)
    for k, (step, (x, e)) in reversed(list(enumerate(zip(steps, into, strict=True)))):
        size, error = sizes[k + 1], errors[k + 1]
        g, in_doubt = rounding.gamma(EVALUATION, u), 0.0
        if step.matrix is not None:
            d = xp.reshape(error, (-1, *error.shape[2:]))
            d = operations.positions(step, d, xp)
            found[step.name] = xp.reshape(d, (N, C, *d.shape[1:]))
            step = replace(step, matrix=xp.abs(step.matrix))
            g = rounding.gamma(step.matrix.shape[0] * operations.overlap(step) + 2, u)
        elif step.choice is not None:
            near = replace(step, choice=operations.near_the_maximum(step, x, e, xp))
            in_doubt = operations.pull(near, size + error, xp)
        elif step.slope is not None:
            off, _ = running.slope_errors(step, network.operations[k], x, e, u, xp)
            in_doubt = operations.pull(replace(step, slope=off), size + error, xp)
            step = replace(step, slope=xp.abs(step.slope))
        size, error = operations.pull(step, size, xp), operations.pull(step, error, xp)
        error = error + g * (size + error) + in_doubt
        added = max(sent[j] for j in step.of) * u * (size + error)
        operations.leave(step.of, size, sizes)
        operations.leave(step.of, error + added, errors)
    return found
