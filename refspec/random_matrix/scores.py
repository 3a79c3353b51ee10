r"""Score-consistent errors: independent ones, a matrix for the weights of a sample.

Where :math:`\sum_{c'} p_{c'} \delta_{c'} = 0` the error at c' = c is a combination of
the others, which are independent, F. So the second moment is one of F alone,

.. math:: \sum_i \sum_{c'} w_{ic'} \delta_{ic'} \delta_{ic'}' = \sum_i F_i' A_i F_i,
          \qquad A_i = D_i + w_i w_i' / w_{icc}

with w_i the weights at c' != c and D_i their diagonal matrix. At every size; nothing is
asymptotic (Theory: theory/random_matrix.md#R16). Host arithmetic.
"""

from __future__ import annotations

import numpy as np

from refspec.populations import Population


def roots(weights: np.ndarray, own: int | None) -> np.ndarray:
    """Return R (n, K, K) with R R' = A, of samples of class `own` with weights (n, K).

    own = None: A is diagonal. Theory: theory/random_matrix.md#R16
    """
    eye, half = np.eye(weights.shape[1]), np.sqrt(weights)
    if own is None:
        return np.asarray(half[:, :, None] * eye)
    # A = D^1/2 (I + v v') D^1/2, and I + v v' is the square of I + v v' / (1 + r) with
    # r^2 = 1 + |v|^2: all but v's direction is left alone
    others = half * (1 - eye[own])
    length = half[:, own, None]
    v = np.divide(others, length, out=np.zeros_like(others), where=length > 0)
    share = v / (1 + np.sqrt(1 + np.sum(v * v, axis=1, keepdims=True)))
    return np.asarray(others[:, :, None] * (eye + v[:, :, None] * share[:, None, :]))


def own_class(population: Population, c: int) -> int | None:
    """Return c if the errors of the class are score-consistent."""
    return c if population.score_consistent else None


def matrix_weights(population: Population) -> np.ndarray:
    """Return the weight matrices A_i of all samples, shape (N, K, K).

    Theory: theory/random_matrix.md#R16
    """
    parts = np.split(population.weights, np.cumsum(population.sizes)[:-1])
    R = np.concatenate(
        [roots(w, own_class(population, c)) for c, w in enumerate(parts)]
    )
    return np.asarray(R @ np.swapaxes(R, 1, 2))
