"""Multinomial logistic regression, fitted and observed: f = W x without a network.

The one model of the paper's section 8. On the canonical inputs of
`refspec.synthetic.logistic` it obeys the theorem's hypotheses only approximately: its
probabilities vary within a class. A bias is an appended input equal to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse.linalg

from refspec import checks, classes, rounding
from refspec.backend import Array, Namespace
from refspec.classes import Layer, ModelSection, Snapshot
from refspec.populations import expect_length
from refspec.synthetic.geometry import as_labels
from refspec.synthetic.worlds import convert

_NEWTON = 8  # steps at the end, if L-BFGS stops short


def fit_logistic(
    inputs: np.ndarray, labels: np.ndarray, *, decay: float, max_steps: int = 1000
) -> np.ndarray:
    r"""Fit multinomial logistic regression, f = W x, on the host.

    Parameters
    ----------
    inputs : array, shape (N, D); a bias is an appended 1
    labels : array of int, shape (N,), in 0..C-1, every class present
    decay : float
        :math:`\eta > 0` of the penalty :math:`\eta \|W\|^2 / 2`, without which
        separable classes have no fit.
    max_steps : int
        Limit of L-BFGS; a few Newton steps follow if it stops short.

    Returns
    -------
    array, shape (C, D)
        Near the one minimum of a strongly convex loss: within ``|gradient| / decay``,
        the largest entry of the gradient at most 2^-26 times its value at W = 0, or
        its rounding error.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, the decay is not positive, or the steps did not suffice.

    Notes
    -----
    Theory: theory/logistic.md#W16.

    Examples
    --------
    >>> W = fit_logistic(np.asarray([[-1.0], [1.0]]), np.asarray([0, 1]), decay=1.0)
    >>> bool(W[1, 0] > 0 > W[0, 0])
    True
    """
    x, y = _samples(inputs, labels)
    decay = checks.expect_positive("decay", decay)
    max_steps = checks.expect_size("max_steps", max_steps, least=1)
    C, N = int(y.max()) + 1, len(y)
    hot = np.eye(C)[y]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        W = flat.reshape(C, -1)
        logs = classes.log_softmax(x @ W.T)
        slope = (np.exp(logs) - hot).T @ x / N + decay * W
        value = -np.sum(logs * hot) / N + decay * np.sum(W * W) / 2
        return float(value), slope.reshape(-1)

    start = np.zeros(C * x.shape[1])
    goal = 2.0**-26 * float(np.max(np.abs(loss(start)[1])))
    # a gradient is a mean of errors, at most 1 in size, and inputs: it is no better
    k, typical = 2 * (N + C + x.shape[1]) + 16, np.max(np.mean(np.abs(x), axis=0))
    goal = max(goal, rounding.gamma(k, 2.0**-53) * float(typical))
    options = {"maxiter": max_steps, "maxfun": 2 * max_steps, "ftol": 0, "gtol": goal}
    found = scipy.optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", options=options
    )
    best, slope = np.asarray(found.x), np.asarray(found.jac)
    for _ in range(_NEWTON):  # L-BFGS goes by the loss, whose rounding stops it early
        if np.max(np.abs(slope)) <= goal:
            break
        p = np.exp(classes.log_softmax(x @ best.reshape(C, -1).T))

        def curvature(flat: np.ndarray, p: np.ndarray = p) -> np.ndarray:
            z = p * (x @ flat.reshape(C, -1).T)
            z -= p * np.sum(z, axis=1, keepdims=True)
            return np.asarray((z.T @ x / N).reshape(-1) + decay * flat)

        G = scipy.sparse.linalg.LinearOperator((len(best),) * 2, matvec=curvature)
        best = best - scipy.sparse.linalg.cg(G, slope)[0]
        slope = loss(best)[1]
    left = float(np.max(np.abs(slope)))
    if left > goal:
        raise ValueError(
            f"a fit must reach max |gradient| <= {goal:.3g} (2^-26 of that at 0), got "
            f"{left:.3g} after {found.nit} steps; raise max_steps or decay"
        )
    return best.reshape(C, -1)


def observe_logistic(
    inputs: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray,
    *,
    dtype: str = "float64",
    xp: Namespace | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Snapshot:
    """See logistic regression through samples: errors p - e_{c'}, the model included.

    Parameters
    ----------
    inputs, labels
        As in `fit_logistic`, in any order.
    weight : array, shape (C, D)
    dtype, xp, provenance
        As in `refspec.synthetic.planted`.

    Returns
    -------
    Snapshot
        One layer, ``linear1``.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, or a value is no finite number.

    Notes
    -----
    Theory: theory/logistic.md#W16.

    Examples
    --------
    >>> observe_logistic(np.ones((2, 3)), np.asarray([0, 1]), np.zeros((2, 3))).offsets
    (0, 1, 2)
    """
    x, y = _samples(inputs, labels)
    W = checks.host_array("weight", weight, "(C, D)", sizes={"D": x.shape[1]})

    def give(array: np.ndarray) -> Array:
        return convert(array, dtype, xp)

    logits = x @ W.T
    p = np.exp(classes.log_softmax(logits))
    errors = classes.misses(p[:, None, :], np.eye(len(W)), np)
    return classes.snapshot(
        [Layer("linear1", give(x[:, None, :]), give(errors[:, :, None, :]))],
        y,
        logits=give(logits),
        provenance={"framework": "refspec.synthetic.logistic"} | dict(provenance or {}),
        model=ModelSection(
            give(x),
            [
                {
                    "op": "linear",
                    "name": "linear1",
                    "weight": "linear1.weight",
                    "bias": None,
                }
            ],
            {"linear1.weight": give(W)},
        ),
    )


def _samples(inputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check inputs (N, D) and labels (N,), every class present in any order."""
    x, y = checks.host_array("inputs", inputs, "(N, D)"), as_labels(labels)
    if not x.size:
        raise ValueError(
            f"inputs must have shape (N, D) with N and D >= 1, got {x.shape}; append "
            "a bias's 1 where there is none"
        )
    expect_length("inputs", float(np.max(np.abs(x))))
    checks.sorted_labels(np.sort(y) if y.ndim == 1 else y, len(x), None)
    return x, y
