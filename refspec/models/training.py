"""Train a network with no framework: L-BFGS or Adam on the cross-entropy.

So that refspec can make the networks it examines. Both methods minimise the same
objective, the mean cross-entropy plus half the weight decay times the squared norm of
the parameter vector, biases included (then W = -(1/eta) dL/dW at a minimum).
"""

from __future__ import annotations

import numpy as np
import scipy.optimize

from refspec import backend, checks
from refspec.backend import Array
from refspec.models.evaluation import loss, loss_and_gradient
from refspec.models.network import Network, flatten, unflatten


def fit(
    network: Network,
    X: Array,
    labels: Array,
    *,
    method: str = "lbfgs",
    weight_decay: float = 0.0,
    steps: int = 200,
    sample_weights: Array | None = None,
    learning_rate: float = 1e-2,
    batch: int | None = None,
    rng: np.random.Generator | None = None,
) -> Network:
    """Train a network from where it is.

    Parameters
    ----------
    network : Network, the start
    X : Array, shape (N, ...), inputs
    labels : Array of int, shape (N,), in 0..C-1
    method : {"lbfgs", "adam"}
        L-BFGS is SciPy's, on the host; Adam stays in the arrays' namespace.
    weight_decay : float, eta >= 0
    steps : int, at most so many iterations
    sample_weights : Array, shape (N,), optional
        1/N if not given; not with batches.
    learning_rate : float, of Adam
    batch : int, optional
        Samples drawn for each Adam step; all if not given.
    rng : numpy.random.Generator, optional, draws the batches

    Returns
    -------
    Network
        The same operations, new parameters.

    Raises
    ------
    ValueError
        If the method is neither, or an argument does not belong to it.

    Notes
    -----
    L-BFGS stops after `steps` iterations or where the line search finds no smaller
    value in floating point. Adam has the constants of its paper (Kingma and Ba 2015,
    algorithm 1), beta = (0.9, 0.999) and epsilon = 1e-8, and the decay in the gradient.

    Examples
    --------
    >>> from refspec import models
    >>> X, y = np.asarray([[-1.0], [0.5], [1.0]]), [0, 1, 1]
    >>> start = models.softmax_regression(1, 2)
    >>> end = fit(start, X, y, weight_decay=0.01)
    >>> models.loss(end, X, y) < models.loss(start, X, y)
    True
    """
    checks.expect_choice("method", method, ("lbfgs", "adam"))
    weight_decay = checks.expect_positive("weight_decay", weight_decay, zero=True)
    learning_rate = checks.expect_positive("learning_rate", learning_rate)
    steps = checks.expect_size("steps", steps, least=1)
    if rng is not None:
        checks.expect_generator("rng", rng)
    if batch is not None:
        batch = checks.expect_size("batch", batch, least=1)
    loss(network, X, labels, sample_weights=sample_weights)  # makes the other checks
    if batch is not None and (
        method == "lbfgs" or rng is None or sample_weights is not None
    ):
        raise ValueError(
            f"batch must be an integer >= 1, with method adam, a generator rng and no "
            f"sample_weights, got batch {batch} and method {method}; leave batch out"
        )
    start = flatten(network)

    def objective(vector: Array, rows: Array | None = None) -> tuple[float, Array]:
        xp = backend.namespace(vector)
        at = unflatten(network, vector)
        x = X if rows is None else xp.take(X, backend.from_host(rows, X), axis=0)
        y = labels if rows is None else host_labels[rows]
        value, gradient = loss_and_gradient(at, x, y, sample_weights=sample_weights)
        decay = weight_decay * backend.scalar(xp.sum(vector * vector)) / 2
        return value + decay, gradient + weight_decay * vector

    if method == "lbfgs":

        def on_host(vector: np.ndarray) -> tuple[float, np.ndarray]:
            there = backend.namespace(start).astype(
                backend.from_host(vector, start), start.dtype
            )
            value, gradient = objective(there)
            return value, backend.to_host(gradient).astype(np.float64)

        found = scipy.optimize.minimize(
            on_host,
            backend.to_host(start).astype(np.float64),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": steps, "maxfun": 20 * steps, "ftol": 0.0, "gtol": 0.0},
        )
        end = backend.from_host(found.x.astype(backend.to_host(start).dtype), start)
        return unflatten(network, end)
    host_labels = np.asarray(
        backend.to_host(labels) if hasattr(labels, "dtype") else labels
    )
    xp = backend.namespace(start)
    vector, mean, square = start, xp.zeros_like(start), xp.zeros_like(start)
    for step in range(1, steps + 1):
        rows = None
        if batch is not None and rng is not None:
            rows = rng.choice(X.shape[0], size=min(batch, X.shape[0]), replace=False)
        _, gradient = objective(vector, rows)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient * gradient
        root = xp.sqrt(square / (1 - 0.999**step)) + 1e-8
        vector = vector - learning_rate * (mean / (1 - 0.9**step)) / root
    return unflatten(network, vector)
