"""What a snapshot's network gives when it is run otherwise than for an evaluation.

With batch norm by the statistics of the batch itself, as in training, every logit hangs
on all samples; a convolution's patches may be cut as if its stride were 1.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from refspec import models
from refspec.classes import Layer, Snapshot, log_softmax
from refspec.kronecker import Kronecker, kfac
from refspec.models import evaluation, operations
from refspec.models.network import in_format
from refspec.testing.questions import Question, as_layers

_HELD = 2**27  # bytes of tangents that are held


def batch_statistics(q: Question, constant: bool) -> Question | None:
    """Ask the same of a network in training, batch norm by the whole batch.

    Its statistics are constants in the derivative, or are differentiated too.
    """
    model = q.snapshot.model
    norms = (
        ()
        if model is None
        else [x for x in model.operations if x["op"] == "batch_norm"]
    )
    if not norms:
        return None
    network, X = in_format(*models.of_snapshot(q.snapshot))
    N, P = len(X), sum(b * a for b, a in q.shapes)
    if N * P * math.prod(X.shape[1:]) * 8 > _HELD:
        return None
    steps, f = _run(network, X)
    if constant:
        p = np.exp(log_softmax(f))
        seeds = evaluation.misses(p[:, None, :], np.eye(p.shape[1]), np)
        found = evaluation.backpropagate(steps, seeds, np)
        layers = tuple(Layer(x.name, x.features, errors) for x, errors in found)
        seen = _seen(q.snapshot, layers, p)
        return replace(q, snapshot=seen)
    J = _jacobian(steps, q)
    p = np.exp(log_softmax(f))
    gradients = np.einsum("nc,ncp->np", p, J)[:, None, :] - J
    sizes = (b * a for b, a in q.shapes)
    layers = as_layers(gradients, zip(q.layers, sizes, strict=True))
    return replace(q, snapshot=_seen(q.snapshot, layers, p), named=True)


def unstrided(q: Question) -> list[tuple[str, list[Kronecker]]]:
    """Return KFACs with patches at stride 1: their mean, and their sum over T.

    Empty without a convolution that has another stride.
    """
    if q.snapshot.model is None or q.setting != "expand":
        return []
    network, X = in_format(*models.of_snapshot(q.snapshot))
    steps, made = evaluation.run(network, X)
    strided = {
        x.name: x
        for x in steps
        if x.matrix is not None and x.window is not None and max(x.window[1]) > 1
    }
    if not set(strided) & set(q.layers):
        return []
    mean, total = [], []
    for name in q.layers:
        K = kfac(q.snapshot, name, fisher=q.fisher)
        mean.append(K)
        total.append(K)
        if name in strided:
            step = strided[name]
            kernel, stride, padding, dilation = step.window or ((),) * 4
            ones = (1,) * len(stride)
            dense = replace(step, window=(kernel, ones, padding, dilation))
            h = operations.unfold(dense, operations.entering(step.of, made), np)
            if q.biased[q.layers.index(name)]:
                h = np.concatenate([h, np.ones_like(h[..., :1])], axis=2)
            w = q.snapshot.sample_weights
            flat = (np.sqrt(w)[:, None, None] * h).reshape(-1, h.shape[2])
            H = flat.T @ flat
            H = (H + H.T) / 2
            mean[-1] = Kronecker(K.left, H / h.shape[1])
            total[-1] = Kronecker(K.left, H / step.features.shape[1])
    return [("their mean", mean), ("divided by those of the stride", total)]


def _run(network: models.Network, X: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Run the network, every batch norm with the mean and variance of what enters."""
    steps, made = [], [X]
    for k, operation in enumerate(network.operations):
        of = operations.sources(operation, k)
        x, parameters = operations.entering(of, made), dict(network.parameters)
        if operation["op"] == "batch_norm":
            axes = (0, *range(2, x.ndim))
            parameters[operation["mean"]] = x.mean(axis=axes)
            parameters[operation["variance"]] = x.var(axis=axes)
        step, y = operations.record(operation, parameters, x, of, np)
        if operation["op"] == "batch_norm":
            epsilon = operation["epsilon"]
            away = x - x.mean(axis=axes, keepdims=True)
            unit = away / np.sqrt(x.var(axis=axes, keepdims=True) + epsilon)
            step = replace(step, features=unit)
        steps.append(step)
        made.append(y)
    return steps, made[-1]


def _jacobian(steps: list[Any], q: Question) -> np.ndarray:
    """Return the derivative (N, C, P) of the logits, statistics included, forward."""
    N, P = len(q.snapshot.labels), q.parameters
    blocks = {
        name: (part, *shape)
        for name, part, shape in zip(q.layers, q.slices, q.shapes, strict=True)
    }
    made: list[Any] = [None] * (len(steps) + 1)
    for k, step in enumerate(steps):
        x = operations.entering(step.of, made)
        y = None if x is None else _pushed(step, x)
        if step.name in blocks:
            part, b, a = blocks[step.name]
            own = np.zeros((N, P, step.features.shape[1], b))
            for j in range(b):  # output j moves with its own row of the matrix
                rows = slice(part.start + j * a, part.start + (j + 1) * a)
                own[:, rows, :, j] = np.swapaxes(step.features, 1, 2)
            flat = operations.arrange(step, own.reshape(N * P, *own.shape[2:]), np)
            own = flat.reshape(N, P, *flat.shape[1:])
            y = own if y is None else y + own
        made[k + 1] = y
    return np.swapaxes(made[-1], 1, 2)


def _pushed(step: Any, x: np.ndarray) -> np.ndarray:
    """Apply a step's derivative to tangents (N, P, ...); batch norm moves its own."""
    if step.kind == "batch_norm":
        axes = (0, *range(3, x.ndim))
        unit = step.features[:, None, ...]
        x = x - x.mean(axis=axes, keepdims=True)
        x = x - unit * (unit * x).mean(axis=axes, keepdims=True)
    return np.asarray(operations.push(step, x, np))


def _seen(old: Snapshot, layers: tuple[Layer, ...], p: np.ndarray) -> Snapshot:
    """Return a snapshot of other layers and probabilities, without its network."""
    return replace(old, layers=layers, probabilities=p, model=None)
