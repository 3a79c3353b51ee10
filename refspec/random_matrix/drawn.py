r"""Logits drawn from class statistics: Gaussian, or those of a network that is fitted.

A fit keeps its samples off the tail that a Gaussian has: a sample sees its logits h
through a proximal map of those without it,

.. math:: h + \gamma_c\, (softmax(h) - e_c) = \omega,

and it is :math:`\omega` that is Gaussian given the class. Its mean and covariance are
those of the logits and the errors; gamma is where the mean error is that of the class
(Theory: theory/regressions.md#Z2). Host arithmetic.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize

from refspec import classes
from refspec.populations import square_root
from refspec.random_matrix.conditional.design import regression
from refspec.random_matrix.fitted import proximal
from refspec.random_matrix.regressions import gaussian_points

_POINTS = 512  # of a class, in the equation for gamma
_LEAST = 2.0**-4  # from where on it is looked for
_FAR = 16.0  # by how many logits a sample of mean error is moved at most


def gaussian_logits(
    logits: np.ndarray,
    labels: np.ndarray,
    covariances: str,
    seed: int,
    responses: np.ndarray,
) -> np.ndarray:
    """Draw as many logits (N, C) again, moved by gamma (C,) of their class.

    Theory: theory/regressions.md#Z2
    """
    without = logits + responses[labels][:, None] * _errors(logits, labels)
    fitted, _ = regression(without, without[:, :0], labels, covariances)
    roots = [square_root(S) for S in fitted.residual]
    z = np.empty_like(logits)
    for c, mean in enumerate(fitted.slopes[:, :, 0]):
        i = labels == c
        points = gaussian_points(int(np.sum(i)), logits.shape[1], [seed, c])
        drawn = mean + points @ roots[c % len(roots)]
        z[i] = proximal(drawn, labels[i], float(responses[c]))
    return z


def fit_responses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return gamma (C,) with which the mean error of each class is that of the data.

    0 where a Gaussian errs no more than the data, the nearest where nothing errs as
    little. Theory: theory/regressions.md#Z2
    """
    found = np.zeros(int(labels.max()) + 1)
    for c in range(len(found)):
        own = logits[labels == c]

        def excess(response: float, own: np.ndarray = own, c: int = c) -> float:
            without = own + response * _errors(own, np.full(len(own), c))
            one = np.zeros(len(own), dtype=np.int64)
            fitted, _ = regression(without, without[:, :0], one, "class")
            points = gaussian_points(_POINTS, own.shape[1], [0, c])
            drawn = fitted.slopes[0, :, 0] + points @ square_root(fitted.residual[0])
            h = proximal(drawn, np.full(_POINTS, c), response)
            return float(np.log(_missed(h, c)) - np.log(_missed(own, c)))

        # the least root: a sample moved by far more logits has no equation to solve
        missed, tried = _missed(own, c), [(0.0, excess(0.0))]
        response = _LEAST
        while tried[-1][1] > 0 and response * missed <= _FAR:
            tried.append((response, excess(response)))
            response *= np.sqrt(2.0)
        if tried[-1][1] > 0:
            found[c] = min(tried, key=lambda pair: pair[1])[0]
        elif len(tried) > 1:
            ends = tried[-2][0], tried[-1][0]
            found[c] = scipy.optimize.brentq(excess, *ends)
    return found


def _errors(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return p - e_y, (N, C)."""
    p = np.exp(classes.log_softmax(logits))
    return np.asarray(classes.misses(p, np.eye(logits.shape[1])[labels], np))


def _missed(logits: np.ndarray, c: int) -> float:
    """Return the mean of 1 - p_c."""
    tiny = float(np.finfo(np.float64).tiny)
    errors = _errors(logits, np.full(len(logits), c))
    return max(-float(np.mean(errors[:, c])), tiny)
