r"""The functional L of a tree of random effects, its gradient and its Hessian.

.. math:: L(a) = \log\det(I + W \sum_r a_r Z_r Z_r')

is a sum over the nodes of the tree, so its gradient costs one sweep up and one down and
no matrix (Theory: theory/random_matrix.md#R9). Host arithmetic.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import block_diag

from refspec.random_matrix.nested.design import NestedDesign
from refspec.random_matrix.nested.mixing import rise, sink


def sweep(
    design: NestedDesign, a: np.ndarray
) -> tuple[np.ndarray, complex, tuple[np.ndarray, ...]]:
    """Return b = grad L(a) (k,), L(a) up to a real constant, and W of every node.

    W is what a node's children pass up, the sum of W / (1 + a W); principal logarithms
    give the analytic branch of L. Theory: theory/random_matrix.md#R9, #R16
    """
    padded = np.append(a, 0)  # effect -1, none, is the last and loads nothing
    W, passed, load = [design.weights.astype(padded.dtype)], [], []
    value, levels, mixing = 0j, design.levels, design.mixing
    if mixing is not None:  # samples and cells pass matrices
        low = rise(mixing, padded)
        value, W, levels = low.value, [low.passed], levels[2:]
    for i, level in enumerate(levels):
        # like resistors in series and in parallel: a node passes 1 / (1 / W + a) up. A
        # projected node is the limit of an infinite a: it passes nothing, and its
        # log(1 + a W) is log W up to a constant.
        load.append(padded[level.effects])
        factor = 1 + load[i] * W[i]
        passed.append(0 * W[i] if level.projected else W[i] / factor)
        logs = np.log((W[i] if level.projected else factor) + 0j)
        value += complex(np.sum(level.counts * logs))
        above = level.counts * passed[i]
        W.append(_total(above, level.parents, int(level.parents.max()) + 1))
    b = np.zeros(len(padded), dtype=padded.dtype)
    pull = np.zeros(1)  # dL / d(passed), from above the top down
    for i in reversed(range(len(levels))):
        level = levels[i]
        from_above = pull[level.parents]
        own = passed[i] - from_above * passed[i] ** 2
        b += _total(level.counts * own, level.effects % len(padded), len(padded))
        ratio = 1 / (1 + load[i] * W[i])
        pull = 1 / W[i] if level.projected else load[i] * ratio + from_above * ratio**2
    if mixing is not None:
        b += sink(mixing, low, padded, pull)
        W = [design.weights, low.weights, *W]
    return b[:-1], value, tuple(W[:-1])


def resistance(design: NestedDesign, a: np.ndarray) -> np.ndarray:
    """Return 1 / W of the projected nodes as a matrix (q, q), diagonal in a tree.

    Theory: theory/random_matrix.md#R9, #R16
    """
    W = sweep(design, a)[2][design.projected]
    if W.ndim == 1:
        return np.diag(1 / W)
    assert design.mixing is not None
    seen = design.mixing.cells.ravel()
    return np.asarray(block_diag(*np.linalg.inv(W))[np.ix_(seen, seen)])


def sensitivity(design: NestedDesign, a: np.ndarray) -> np.ndarray:
    """Return the Hessian of L (k, k) by central differences of its gradient."""
    k = len(a)
    H = np.zeros((k, k), dtype=np.result_type(a, float))
    scale = float(np.max(np.abs(a)))
    for s in range(k):
        e = np.zeros(k)
        # the cube root of u balances both errors
        e[s] = 2.0**-17 * (abs(a[s]) or scale or 1.0)
        H[:, s] = (sweep(design, a + e)[0] - sweep(design, a - e)[0]) / (2 * e[s])
    return H


def _total(x: np.ndarray, index: np.ndarray, n: int) -> np.ndarray:
    """Sum real or complex numbers by index."""
    real = np.bincount(index, np.real(x), n)
    return real + 1j * np.bincount(index, np.imag(x), n) if np.iscomplexobj(x) else real
