"""Second moments of one layer's features and errors: the GEMMs behind KFAC.

Rows are (N, ..., T, d) with weights (N, ...); the weights enter as their square roots
on the rows, so that every product is X'X, symmetric and positive semidefinite.
"""

from __future__ import annotations

import math

import numpy as np

from refspec import backend, checks
from refspec.backend import Array, Namespace
from refspec.classes import Layer

#: Labels (N,) on the host, probabilities (N, C) and sample weights (N,).
Weighting = tuple[np.ndarray, Array, Array]

_BLOCK = 2**18  # entries of a temporary: 2 MiB in float64, stays in cache
_FISHERS = ("exact", "monte_carlo", "empirical")


def labelled_errors(
    layer: Layer,
    given: Weighting,
    fisher: str,
    rng: np.random.Generator | None,
    samples: int,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Return the errors (N, K, T, b) that a Fisher averages, and their weights (N, K).

    K = C labels with their probabilities, `samples` drawn ones, or the observed one.
    Theory: theory/kronecker.md#K4, #K7.
    """
    checks.expect_choice("fisher", fisher, _FISHERS)
    samples = checks.expect_size("samples", samples, least=1)
    if rng is not None or fisher == "monte_carlo":
        checks.expect_generator("rng", rng)
    (labels, probabilities, sample_weights), errors = given, layer.errors
    N, C, T, b = errors.shape
    if fisher == "exact":
        return errors, sample_weights[:, None] * probabilities
    drawn = labels[:, None]
    if rng is not None and fisher == "monte_carlo":
        # inverse distribution function: a label of probability 0 is never drawn
        below = np.cumsum(backend.to_host(probabilities), axis=1)
        uniform = rng.random((N, samples, 1)) * below[:, None, -1:]
        drawn = np.sum(below[:, None, :] <= uniform, axis=2)
    index = backend.from_host(np.ravel(np.arange(N)[:, None] * C + drawn), errors)
    chosen = xp.take(xp.reshape(errors, (N * C, T, b)), index, axis=0)
    K = drawn.shape[1]
    weights = xp.broadcast_to(sample_weights[:, None] / K, (N, K))
    return xp.reshape(chosen, (N, K, T, b)), weights


def error_rows(
    errors: Array, weights: Array, setting: str, xp: Namespace
) -> tuple[Array, Array]:
    """Return rows delta_t (expand) or sum_t delta_t (reduce), and their weights."""
    if setting == "reduce" and errors.shape[2] > 1:
        errors = xp.sum(errors, axis=2, keepdims=True)
    return errors, weights


def feature_rows(
    features: Array, weights: Array, setting: str, xp: Namespace
) -> tuple[Array, Array]:
    """Return rows h_t with weights s / T (expand) or mean_t h_t with s (reduce)."""
    T = features.shape[1]
    if setting == "reduce" and T > 1:
        return xp.mean(features, axis=1, keepdims=True), weights
    return features, weights / T


def second_moment(x: Array, weights: Array, xp: Namespace) -> Array:
    """Return sum w x x', shape (d, d), of rows x (N, ..., T, d), weights (N, ...).

    Error at most gamma_{n + 4} sum w |x||x|'. Theory: theory/kronecker.md#K4.
    """
    N, *_, d = x.shape
    total = xp.zeros((d, d), dtype=x.dtype, device=backend.device(x))
    step = max(1, _BLOCK * N // max(1, math.prod(x.shape)))
    for start in range(0, N, step):
        block = slice(start, min(start + step, N))
        rows = _weighted(x[block, ...], weights[block, ...], xp)
        total = total + xp.matrix_transpose(rows) @ rows
    return symmetric(total, xp)


def symmetric(x: Array, xp: Namespace) -> Array:
    """Return (x + x') / 2: not every library's X'X is symmetric to the bit."""
    return (x + xp.matrix_transpose(x)) / 2


def square_root(x: Array, weights: Array, xp: Namespace) -> Array:
    """Return R with at most d rows and R'R = sum w x x'."""
    rows = _weighted(x, weights, xp)
    n, d = rows.shape
    return rows if n <= d else xp.linalg.qr(rows).R


def root_rows(x: Array, weights: Array) -> int:
    """Return the number of rows of `square_root`, without forming it."""
    return int(min(math.prod(weights.shape) * x.shape[-2], x.shape[-1]))


def variances(errors: Array, features: Array, weights: Array, xp: Namespace) -> Array:
    """Return S_jk = sum w (sum_t errors_tj features_tk)^2, shape (b, a).

    Both in the coordinates of the basis. Theory: theory/kronecker.md#K9.
    """
    N, K, T, b = errors.shape
    a = features.shape[2]
    if T == 1:  # the square factorises, and features do not depend on the label
        squares = xp.sum(weights[:, :, None] * errors[:, :, 0, :] ** 2, axis=1)
        return xp.matrix_transpose(squares) @ features[:, 0, :] ** 2
    total = xp.zeros((b, a), dtype=errors.dtype, device=backend.device(errors))
    step = max(1, _BLOCK // (K * a * b))
    for start in range(0, N, step):
        rows = slice(start, min(start + step, N))
        G = xp.matrix_transpose(errors[rows, ...]) @ features[rows, None, :, :]
        w = weights[rows, :, None, None]
        total = total + xp.sum(w * G**2, axis=(0, 1))
    return total


def _weighted(x: Array, weights: Array, xp: Namespace) -> Array:
    """Return rows sqrt(w) x, shape (n, d)."""
    return xp.reshape(x * xp.sqrt(weights)[..., None, None], (-1, x.shape[-1]))
