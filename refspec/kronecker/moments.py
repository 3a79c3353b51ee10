"""Second moments of one layer's features and errors: the GEMMs behind KFAC.

Rows are (N, ..., T, d) with weights (N, ...); the weights enter as their square roots
on the rows, so that every product is X'X, symmetric and positive semidefinite.
"""

from __future__ import annotations

import numpy as np

from refspec import backend
from refspec.backend import Array
from refspec.classes import Layer

__all__ = [
    "error_rows",
    "feature_rows",
    "labelled_errors",
    "rank",
    "root",
    "second_moment",
    "variances",
]

_BLOCK = 2**18  # entries of a temporary: 2 MiB in float64, stays in cache


def labelled_errors(
    layer: Layer,
    labels: np.ndarray,
    probabilities: Array,
    sample_weights: Array,
    fisher: str,
    rng: np.random.Generator | None,
    samples: int,
) -> tuple[Array, Array]:
    """Choose the errors that a Fisher averages, and their weights.

    Parameters
    ----------
    layer : Layer
        Errors (N, C, T, b).
    labels : array of int, shape (N,)
        Observed labels.
    probabilities, sample_weights : Array, shapes (N, C), (N,)
        The model's distribution, and the weights of the samples.
    fisher : {"exact", "monte_carlo", "empirical"}
        Every label with its probability; `samples` labels drawn from it; the observed.
    rng : numpy.random.Generator or None
        Needed by ``monte_carlo``.
    samples : int
        Draws per sample.

    Returns
    -------
    errors : Array, shape (N, K, T, b)
        K = C, samples or 1.
    weights : Array, shape (N, K)
        Non-negative; each row sums to its sample's weight.

    Raises
    ------
    ValueError
        If the name is unknown, or rng is missing.

    Notes
    -----
    Theory: theory/kronecker.md#K4, #K7.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Layer("fc", np.ones((1, 1, 1)), np.arange(3.0).reshape(1, 3, 1, 1))
    >>> p, s = np.full((1, 3), 1 / 3), np.ones(1)
    >>> labelled_errors(layer, np.asarray([2]), p, s, "empirical", None, 1)[0].item()
    2.0
    """
    xp, errors = backend.namespace(probabilities, sample_weights), layer.errors
    N, C, T, b = errors.shape
    if fisher == "exact":
        return errors, sample_weights[:, None] * probabilities
    if fisher == "empirical":
        drawn = labels[:, None]
    elif fisher != "monte_carlo":
        raise ValueError(
            "fisher must be 'exact', 'monte_carlo' or 'empirical', got "
            f"{fisher!r}; choose one of these"
        )
    elif rng is None or samples < 1:
        raise ValueError(
            "fisher 'monte_carlo' needs rng, a numpy.random.Generator, and samples >= "
            f"1, got rng {rng} and samples {samples}; pass "
            "rng=numpy.random.default_rng(0)"
        )
    else:  # inverse distribution function: a label of probability 0 is never drawn
        below = np.cumsum(backend.to_host(probabilities), axis=1)
        uniform = rng.random((N, samples, 1)) * below[:, None, -1:]
        drawn = np.sum(below[:, None, :] <= uniform, axis=2)
    index = backend.from_host(np.ravel(np.arange(N)[:, None] * C + drawn), errors)
    chosen = xp.take(xp.reshape(errors, (N * C, T, b)), index, axis=0)
    K = drawn.shape[1]
    weights = xp.broadcast_to(sample_weights[:, None] / K, (N, K))
    return xp.reshape(chosen, (N, K, T, b)), weights


def error_rows(errors: Array, weights: Array, setting: str) -> tuple[Array, Array]:
    """Return rows delta_t (expand) or sum_t delta_t (reduce), and their weights.

    Examples
    --------
    >>> import numpy as np
    >>> x, w = error_rows(np.ones((1, 2, 3, 1)), np.ones((1, 2)), "reduce")
    >>> x[0, 0].tolist(), w.tolist()
    ([[3.0]], [[1.0, 1.0]])
    """
    if setting == "reduce" and errors.shape[2] > 1:
        errors = backend.namespace(errors).sum(errors, axis=2, keepdims=True)
    return errors, weights


def feature_rows(features: Array, weights: Array, setting: str) -> tuple[Array, Array]:
    """Return rows h_t with weights s / T (expand) or mean_t h_t with s (reduce).

    Examples
    --------
    >>> import numpy as np
    >>> x, w = feature_rows(np.ones((1, 4, 1)), np.ones(1), "expand")
    >>> x.shape, w.tolist()
    ((1, 4, 1), [0.25])
    """
    T = features.shape[1]
    if setting == "reduce" and T > 1:
        mean = backend.namespace(features).mean(features, axis=1, keepdims=True)
        return mean, weights
    return features, weights / T


def second_moment(x: Array, weights: Array) -> Array:
    """Return sum w x x', shape (d, d), of rows x (N, ..., T, d), weights (N, ...).

    Notes
    -----
    Theory: theory/kronecker.md#K4. Error at most gamma_{n + 4} sum w |x||x|', n the
    number of rows.

    Examples
    --------
    >>> import numpy as np
    >>> second_moment(np.ones((4, 1, 1)), np.ones(4)).tolist()
    [[4.0]]
    """
    xp, (N, *_, d) = backend.namespace(x, weights), x.shape
    total = xp.zeros((d, d), dtype=x.dtype, device=backend.device(x))
    step = max(1, _BLOCK * N // max(1, _size(x)))
    for start in range(0, N, step):
        block = slice(start, min(start + step, N))
        rows = _weighted(x[block, ...], weights[block, ...])
        total = total + xp.matrix_transpose(rows) @ rows
    return total


def root(x: Array, weights: Array) -> Array:
    """Return R with at most d rows and R'R = sum w x x'.

    Examples
    --------
    >>> import numpy as np
    >>> R = root(np.ones((4, 1, 1)), np.ones(4))
    >>> R.shape, round(abs(R.item()), 12)
    ((1, 1), 2.0)
    """
    rows = _weighted(x, weights)
    xp, (n, d) = backend.namespace(rows), rows.shape
    return rows if n <= d else xp.linalg.qr(rows).R


def rank(x: Array, weights: Array) -> int:
    """Return the number of rows of `root`, without forming it.

    Examples
    --------
    >>> import numpy as np
    >>> rank(np.ones((4, 2, 5)), np.ones(4))
    5
    """
    rows = _size(weights) * x.shape[-2]
    return int(min(rows, x.shape[-1]))


def variances(errors: Array, features: Array, weights: Array) -> Array:
    """Return S_jk = sum w (sum_t errors_tj features_tk)^2, shape (b, a).

    Parameters
    ----------
    errors : Array, shape (N, K, T, b)
        In the coordinates of the left basis.
    features : Array, shape (N, T, a)
        In the coordinates of the right basis.
    weights : Array, shape (N, K)
        Non-negative.

    Notes
    -----
    Theory: theory/kronecker.md#K9.

    Examples
    --------
    >>> import numpy as np
    >>> variances(np.ones((1, 1, 2, 1)), np.ones((1, 2, 1)), np.ones((1, 1))).tolist()
    [[4.0]]
    """
    xp = backend.namespace(errors, features, weights)
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


def _weighted(x: Array, weights: Array) -> Array:
    """Rows sqrt(w) x, shape (n, d)."""
    xp = backend.namespace(x, weights)
    return xp.reshape(x * xp.sqrt(weights)[..., None, None], (-1, x.shape[-1]))


def _size(x: Array) -> int:
    return int(np.prod(x.shape))
