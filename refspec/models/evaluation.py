"""Networks seen through samples: logits, losses, gradients, snapshots.

A network is a validated chain of operations (`refspec.models.network`); its parameter
vector and a layer's gradient are errors (x) features, row-major, the bias as a last
feature equal to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refspec import backend, checks, classes
from refspec.backend import Array, Namespace
from refspec.classes import Layer, Snapshot
from refspec.classes import misses as misses
from refspec.models import operations
from refspec.models.network import Network, to_section


def forward(network: Network, X: Array) -> tuple[list[operations.Step], Array]:
    """Run the network on X (N, ...); return its steps and the logits (N, C)."""
    steps, made = run(network, X)
    return steps, made[-1]


def run(network: Network, X: Array) -> tuple[list[operations.Step], list[Array]]:
    """Run the network on X (N, ...); return its steps, and X with what each gives."""
    checks.expect_type("network", network, Network, "make one, e.g. with models.mlp")
    if not hasattr(X, "dtype"):
        checks.expect_array("inputs", X, "(N, ...)")  # no array: refused by its type
    xp = backend.namespace(X, *network.parameters.values())
    dtype = next(iter(network.parameters.values())).dtype
    if X.dtype != dtype:
        raise ValueError(
            f"inputs must have the dtype of the parameters, {dtype}, got {X.dtype}; "
            "convert with xp.astype"
        )
    if X.ndim < 2 or X.shape[0] < 1:
        raise ValueError(
            f"inputs must have shape (N, ...) with N >= 1, got {tuple(X.shape)}; "
            "the first axis counts samples"
        )
    checks.expect_finite("inputs", X)
    steps, made = operations.run(network.operations, network.parameters, X, xp)
    X = made[-1]
    if X.ndim != 2 or X.shape[1] < 2:
        raise ValueError(
            f"the network must end in logits of shape (N, C) with C >= 2, got "
            f"{tuple(X.shape)}; end it with flatten and a linear layer"
        )
    if not bool(xp.all(xp.isfinite(X))):
        raise ValueError(
            "logits must be finite, got nan or infinite ones; look for a diverged "
            "network or inputs of a wrong scale"
        )
    return steps, made


def logits(network: Network, X: Array) -> Array:
    """Return the logits, shape (N, C), of inputs X (N, ...).

    Examples
    --------
    >>> from refspec.models import mlp
    >>> network = mlp([2, 3], rng=np.random.default_rng(0))
    >>> logits(network, np.zeros((1, 2))).tolist()
    [[0.0, 0.0, 0.0]]
    """
    return forward(network, X)[1]


def loss(
    network: Network, X: Array, labels: Array, *, sample_weights: Array | None = None
) -> float:
    """Return the weighted mean cross-entropy at the labels.

    Notes
    -----
    Theory: theory/weights.md#D3.

    Examples
    --------
    >>> from refspec.models import softmax_regression
    >>> round(loss(softmax_regression(2, 4), np.ones((1, 2)), [0]), 4)  # log 4
    1.3863
    """
    f = logits(network, X)
    xp = backend.namespace(f)
    hot, w = one_hot(labels, f, xp), sample_average(sample_weights, f, xp)
    return backend.scalar(-xp.sum(w[:, None] * hot * classes.log_softmax(f)))


def loss_and_gradient(
    network: Network, X: Array, labels: Array, *, sample_weights: Array | None = None
) -> tuple[float, Array]:
    """Return the weighted mean cross-entropy and its gradient, shape (P,).

    Notes
    -----
    Theory: theory/weights.md#D1, #D2.

    Examples
    --------
    >>> from refspec.models import softmax_regression
    >>> start = softmax_regression(1, 2)
    >>> loss_and_gradient(start, np.ones((1, 1)), [0])[1].tolist()
    [-0.5, -0.5, 0.5, 0.5]
    """
    steps, f = forward(network, X)
    xp = backend.namespace(f)
    hot, w = one_hot(labels, f, xp), sample_average(sample_weights, f, xp)[:, None]
    log_p = classes.log_softmax(f)
    pieces = []
    seeds = (w * misses(xp.exp(log_p), hot, xp))[:, None, :]
    for step, errors in backpropagate(steps, seeds, xp):
        N, _, T, b = errors.shape
        rows = xp.reshape(errors, (N * T, b))
        matrix = xp.matrix_transpose(rows) @ xp.reshape(step.features, (N * T, -1))
        pieces.append(xp.reshape(matrix, (-1,)))
    return backend.scalar(-xp.sum(w * hot * log_p)), xp.concat(pieces)


def gradients(network: Network, X: Array, labels: Array) -> Array:
    """Return the gradient of each sample's cross-entropy, shape (N, P).

    Examples
    --------
    >>> from refspec.models import softmax_regression
    >>> gradients(softmax_regression(1, 2), np.ones((1, 1)), [0]).tolist()
    [[-0.5, -0.5, 0.5, 0.5]]
    """
    steps, f = forward(network, X)
    xp = backend.namespace(f)
    seed = misses(xp.exp(classes.log_softmax(f)), one_hot(labels, f, xp), xp)
    pieces = []
    for step, errors in backpropagate(steps, seed[:, None, :], xp):
        matrices = xp.matrix_transpose(errors[:, 0, ...]) @ step.features
        pieces.append(xp.reshape(matrices, (f.shape[0], -1)))
    return xp.concat(pieces, axis=1)


def snapshot(
    network: Network,
    X: Array,
    labels: Array,
    *,
    sample_weights: Array | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Snapshot:
    """See the network through samples: features, errors for all C labels.

    Parameters
    ----------
    network : Network
    X : Array, shape (N, ...), inputs in any order of classes
    labels : Array of int, shape (N,), in 0..C-1; a class may have no sample
    sample_weights : Array, shape (N,), optional
        Non-negative, sum 1; 1/N if not given.
    provenance : mapping, optional, where the network came from

    Returns
    -------
    Snapshot
        Sorted by class, with the network as its model section.

    Raises
    ------
    ValueError
        If inputs or labels do not fit, see `forward` and `refspec.snapshot`.

    Examples
    --------
    >>> from refspec.models import mlp
    >>> network = mlp([2, 3, 2], ["tanh"], rng=np.random.default_rng(0))
    >>> seen = snapshot(network, np.ones((4, 2)), [0, 1, 0, 1])
    >>> [(x.features.shape, x.errors.shape) for x in seen.layers]
    [((4, 1, 3), (4, 2, 1, 3)), ((4, 1, 4), (4, 2, 1, 2))]
    """
    checks.expect_type("network", network, Network, "make one, e.g. with models.mlp")
    if not hasattr(X, "dtype"):
        checks.expect_array("inputs", X, "(N, ...)")
    if sample_weights is not None:
        checks.expect_array("sample_weights", sample_weights, "(N,)", nonnegative=True)
    xp = backend.namespace(X)
    X, labels, sample_weights = _by_class(X, labels, sample_weights, xp)
    layers, f = all_errors(network, X)
    one_hot(labels, f, xp)  # its checks only
    return classes.snapshot(
        layers,
        labels,
        logits=f,
        sample_weights=sample_weights,
        provenance=provenance,
        model=to_section(network, X),
    )


def all_errors(network: Network, X: Array) -> tuple[list[Layer], Array]:
    """Return each layer with its errors for all C labels, and the logits (N, C).

    One batched back-propagation of the C seeds p - e_{c'}; no labels are needed.

    Examples
    --------
    >>> from refspec.models import softmax_regression
    >>> network = softmax_regression(2, 3)
    >>> (layer,), f = all_errors(network, np.ones((4, 2)))
    >>> layer.errors.shape, f.shape
    ((4, 3, 1, 3), (4, 3))
    """
    steps, f = forward(network, X)
    xp = backend.namespace(f)
    every = xp.eye(f.shape[1], dtype=f.dtype, device=backend.device(f))[None, ...]
    seeds = misses(xp.exp(classes.log_softmax(f))[:, None, :], every, xp)
    pairs = backpropagate(steps, seeds, xp)
    return [Layer(x.name, x.features, errors) for x, errors in pairs], f


def _by_class(
    X: Array, labels: Array, weights: Array | None, xp: Namespace
) -> tuple[Array, Array, Array | None]:
    """Sort the inputs by class, that errors, C times as many, need no sorting."""
    host = np.asarray(backend.to_host(labels) if hasattr(labels, "dtype") else labels)
    N = X.shape[0]
    if host.shape != (N,) or (weights is not None and tuple(weights.shape) != (N,)):
        return X, labels, weights  # wrong, and the checks that follow say why
    order = np.argsort(host, kind="stable")
    index = backend.from_host(order, X)
    weights = None if weights is None else xp.take(weights, index, axis=0)
    return xp.take(X, index, axis=0), host[order], weights


def backpropagate(
    steps: Sequence[operations.Step], seeds: Array, xp: Namespace
) -> list[tuple[operations.Step, Array]]:
    """Pull seeds (N, K, C) back; return each layer with its errors (N, K, T, b)."""
    N, K = seeds.shape[:2]
    first = next((step for step in steps if step.matrix is not None), None)
    found = []
    back: list[Array] = [None] * len(steps) + [seeds]
    for k, step in reversed(list(enumerate(steps))):
        g = back[k + 1]
        if step.matrix is not None:
            rows = xp.reshape(g, (N * K, *g.shape[2:]))
            errors = operations.positions(step, rows, xp)
            found.append((step, xp.reshape(errors, (N, K, *errors.shape[1:]))))
        if step is first:
            break  # nothing asks for the errors of the inputs
        operations.leave(step.of, operations.pull(step, g, xp), back)
        back[k + 1] = None
    return found[::-1]


def one_hot(labels: Array, like: Array, xp: Namespace) -> Array:
    """Return e_y as rows, shape (N, C), for logits `like` (N, C)."""
    N, C = like.shape
    host = np.asarray(backend.to_host(labels) if hasattr(labels, "dtype") else labels)
    if host.shape != (N,) or host.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape (N,) = ({N},), got {host.dtype} of "
            f"shape {host.shape}; give one class index 0..C-1 per sample"
        )
    if host.min() < 0 or host.max() >= C:
        raise ValueError(
            f"labels must lie in 0..C-1 = 0..{C - 1}, got values "
            f"{host.min()}..{host.max()}; number the classes from 0"
        )
    hot = backend.from_host(host[:, None] == np.arange(C), like)
    return xp.astype(hot, like.dtype)


def sample_average(sample_weights: Array | None, like: Array, xp: Namespace) -> Array:
    """Return the weights (N,) of the mean over samples: 1/N if none are given."""
    N = like.shape[0]
    if sample_weights is None:
        return xp.full((N,), 1 / N, dtype=like.dtype, device=backend.device(like))
    checks.expect_array("sample_weights", sample_weights, "(N,)", sizes={"N": N})
    backend.namespace(sample_weights, like)
    if tuple(sample_weights.shape) != (N,) or sample_weights.dtype != like.dtype:
        raise ValueError(
            f"sample_weights must have shape (N,) = ({N},) and dtype {like.dtype}, got "
            f"{tuple(sample_weights.shape)} and {sample_weights.dtype}; give one "
            "non-negative weight per sample"
        )
    checks.expect_nonnegative("sample_weights", sample_weights)
    return sample_weights
