r"""Complex symmetric matrices with a negative definite imaginary part.

Schur complements of such matrices are such matrices, so they are inverted by halves
without pivoting, in products. The blocks on the diagonal give the branch of the
logarithm of the determinant: each eigenvalue's argument lies in :math:`(-\pi, 0)`.

All by NumPy: SciPy brings a BLAS of its own, and the threads of two that take turns
wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["LEAF", "argument", "by_halves", "inverse"]

#: Side of a matrix that is not halved any more.
LEAF = 256


def inverse(B: np.ndarray) -> np.ndarray:
    """Invert any matrix.

    Parameters
    ----------
    B : array, shape (n, n)
        Real or complex.

    Returns
    -------
    array, shape (n, n)
        nan if B is singular.

    Notes
    -----
    Theory: theory/random_matrix.md#R10.

    Examples
    --------
    >>> inverse(np.diag([2.0, 4.0])).tolist(), inverse(np.zeros((1, 1))).tolist()
    ([[0.5, 0.0], [0.0, 0.25]], [[nan]])
    """
    try:
        return np.linalg.inv(B)
    except np.linalg.LinAlgError:
        return np.full_like(B, np.nan)


def by_halves(B: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    r"""Invert a complex symmetric matrix with Im B < 0.

    Parameters
    ----------
    B : array of complex, shape (n, n)
        Symmetric, not Hermitian.

    Returns
    -------
    array, shape (n, n)
        The inverse. Accurate unless Im B is tiny beside Re B: whether it is, is for the
        caller to find out.
    tuple of array
        Block pivots: Schur complements of at most `LEAF` rows.

    Notes
    -----
    Theory: theory/random_matrix.md#R11. Cost as a product of two complex matrices.

    Examples
    --------
    >>> Q, pivots = by_halves(np.asarray([[1 - 1j, 2.0], [2.0, -1 - 1j]]))
    >>> len(pivots), (Q @ [[1 - 1j, 2.0], [2.0, -1 - 1j]]).round(12).real.tolist()
    (1, [[1.0, 0.0], [0.0, 1.0]])
    """
    h = len(B) // 2
    if len(B) <= LEAF:
        return inverse(B), (B,)
    P, first = by_halves(B[:h, :h])
    W = P @ B[:h, h:]
    S, last = by_halves(B[h:, h:] - B[:h, h:].T @ W)
    WS = W @ S
    Q = np.empty_like(B)
    Q[:h, :h] = P + WS @ W.T
    Q[:h, h:] = -WS
    Q[h:, :h] = -WS.T
    Q[h:, h:] = S
    return Q, first + last


def argument(pivots: Sequence[np.ndarray]) -> float:
    r"""Return Im log det of a matrix from its block pivots.

    Parameters
    ----------
    pivots : sequence of array, shape (m, m)
        Complex symmetric, each with Im B < 0.

    Returns
    -------
    float
        The branch that is continuous on all such matrices, each eigenvalue's argument
        in :math:`(-\pi, 0)`.

    Notes
    -----
    Theory: theory/random_matrix.md#R11. With X = Re B, Y = -Im B and X x = l Y x, det B
    = det Y prod (l - i).

    Examples
    --------
    >>> diagonal = np.diag([1 - 1j, -1 - 1j])
    >>> round(argument([diagonal]) / np.pi, 12)  # -1/4 - 3/4
    -1.0
    """
    total = 0.0
    for B in pivots:
        if len(B):
            scale = np.linalg.inv(np.linalg.cholesky(-B.imag))
            values = np.linalg.eigvalsh(scale @ B.real @ scale.T)
            total += float(np.sum(np.angle(values - 1j)))
    return total
