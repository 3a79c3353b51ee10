r"""The lowest two levels of a tree whose samples mix their cross classes.

Score-consistent errors have a matrix :math:`A_i` for the weights of a sample, so that
what samples and cells pass up the tree are matrices too, one a class:

.. math:: W_c = \sum_{i \in c} (A_i^{-1} + a_3)^{-1}, \qquad
          \tilde W_c = (W_c^{-1} + a_2)^{-1}, \qquad 1' \tilde W_c 1

the last to the class, from where on all is numbers
(Theory: theory/random_matrix.md#R16). Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Mixing:
    """Samples of all classes: A_i = U diag(t) U', t (m, K), U (m, K, K), counts (m,).

    starts (C,): the first of each class; effects (m,) of the samples' noise, -1 none;
    cells (C, K): whether a cell has weight; effect: of the cells; projected: whether
    the cells' rows are removed.
    """

    values: np.ndarray
    vectors: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    effects: np.ndarray
    cells: np.ndarray
    effect: int
    projected: bool

    def over(self, x: np.ndarray) -> np.ndarray:
        """Sum over the samples of each class, shape (C, ...)."""
        counts = self.counts.reshape(-1, *(1,) * (x.ndim - 1))
        return np.asarray(np.add.reduceat(counts * x, self.starts))


@dataclass(frozen=True, slots=True, eq=False)
class Risen:
    """What the lowest levels make of loads a.

    value: their part of L; passed (C,): to the classes; weights (C, K, K): W_c, the
    identity added at cells without weight; samples (m, K): eigenvalues that samples
    pass; inverse (C, K, K): (1 + a_2 W_c)^-1; cells (C, K, K): what cells pass.
    """

    value: complex
    passed: np.ndarray
    weights: np.ndarray
    samples: np.ndarray
    inverse: np.ndarray
    cells: np.ndarray


def rise(mixing: Mixing, loads: np.ndarray) -> Risen:
    """Go up from the samples to the classes; `loads` are a, a 0 for no effect the last.

    Theory: theory/random_matrix.md#R16
    """
    factor = 1 + loads[mixing.effects][:, None] * mixing.values
    t = mixing.values / factor
    # real weights: 1 + a t has an argument in (0, pi), like the scalars of the tree
    value = complex(np.sum(mixing.counts * np.sum(np.log(factor + 0j), axis=1)))
    flat = np.swapaxes(mixing.vectors, 1, 2)
    W = mixing.over((mixing.vectors * t[:, None, :]) @ flat)
    eye = np.eye(W.shape[1])
    a, empty = loads[mixing.effect], (~mixing.cells)[:, :, None] * eye
    if mixing.projected:
        value += _logarithm(W + empty)
        return Risen(value, 0 * W[:, 0, 0], W + empty, t, 0 * W, 0 * W)
    inverse = np.linalg.inv(eye + a * W)
    if a != 0:  # det(1 + a W) = a^K det(1 / a + W), of Im W and Im 1 / a of one sign
        value += _logarithm(W + eye / a) + W[:, :, 0].size * np.log(a + 0j)
    cells = W @ inverse
    return Risen(value, np.sum(cells, axis=(1, 2)), W + empty, t, inverse, cells)


def sink(
    mixing: Mixing, made: Risen, loads: np.ndarray, pull: np.ndarray
) -> np.ndarray:
    """Go down from the classes: return dL/da, of `pull` (C,) = dL / d passed.

    Theory: theory/random_matrix.md#R16
    """
    b = np.zeros(len(loads), dtype=np.result_type(loads, made.cells))
    if mixing.projected:
        seen = mixing.cells[:, :, None] * mixing.cells[:, None, :]
        below = np.linalg.inv(made.weights) * seen
    else:
        ones, sums = np.sum(made.inverse, axis=2), np.sum(made.cells, axis=2)
        below = loads[mixing.effect] * made.inverse
        below = below + pull[:, None, None] * ones[:, :, None] * ones[:, None, :]
        b[mixing.effect] += np.sum(np.trace(made.cells, axis1=1, axis2=2))
        b[mixing.effect] -= np.sum(pull * np.sum(sums * sums, axis=1))
    labels = np.repeat(
        np.arange(len(mixing.starts)),
        np.diff([*mixing.starts, len(mixing.counts)]),
    )
    U = mixing.vectors
    forms = np.sum(U * (below[labels] @ U), axis=1)
    own = mixing.counts * np.sum(made.samples - forms * made.samples**2, axis=1)
    np.add.at(b, mixing.effects, own)
    return b


def _logarithm(M: np.ndarray) -> complex:
    """Return log det of (n, K, K) with Im M <= 0, all arguments in [-pi, 0].

    No eigenvalue crosses the real axis then: it is the continuous branch.
    """
    values = np.linalg.eigvals(M)
    angles = np.angle(values)  # rounding may put a negative number's at pi
    angles = np.where(angles > np.pi / 2, angles - 2 * np.pi, angles)
    return complex(np.sum(np.log(np.abs(values))), np.sum(angles))
