r"""Complex symmetric matrices with a negative definite imaginary part.

Schur complements of such matrices are such matrices, so they are inverted by halves
without pivoting, in products. The blocks on the diagonal give the branch of the
logarithm of the determinant: each eigenvalue's argument lies in :math:`(-\pi, 0)`
(Theory: theory/random_matrix.md#R11).

All by NumPy: SciPy brings a BLAS of its own, and the threads of two that take turns
wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Side of a matrix that is not halved any more.
LEAF = 256


def inverse(B: np.ndarray) -> np.ndarray:
    """Invert any matrix; nan if it is singular."""
    try:
        return np.linalg.inv(B)
    except np.linalg.LinAlgError:
        return np.full_like(B, np.nan)


def by_halves(B: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return the inverse of B = B' with Im B < 0, and block pivots of <= LEAF rows.

    Accurate unless Im B is tiny beside Re B, which the caller has to find out. Costs as
    much as a product of two complex matrices. Theory: theory/random_matrix.md#R11
    """
    h = len(B) // 2
    if len(B) <= LEAF:
        return inverse(B), (B,)
    P, first = by_halves(B[:h, :h])
    # no pivoting between the halves: P exists, since Im of a principal block is < 0,
    # and the Schur complement below has Im < 0 again
    W = P @ B[:h, h:]
    S, last = by_halves(B[h:, h:] - B[:h, h:].T @ W)
    WS = W @ S
    Q = np.empty_like(B)
    Q[:h, :h] = P + WS @ W.T
    Q[:h, h:] = -WS
    Q[h:, :h] = -WS.T  # symmetric, not Hermitian: three products instead of four
    Q[h:, h:] = S
    return Q, first + last


def argument(pivots: Sequence[np.ndarray]) -> float:
    r"""Return Im log det of a matrix with Im < 0 from its block pivots.

    The branch is the continuous one: each eigenvalue's argument is in (-pi, 0).
    Theory: theory/random_matrix.md#R11
    """
    total = 0.0
    for B in pivots:
        if len(B):
            # with X = Re B, Y = -Im B and X x = l Y x: det B = det Y prod(l - i), and
            # Y > 0 adds nothing; a determinant would give the sum modulo 2 pi only
            scale = np.linalg.inv(np.linalg.cholesky(-B.imag))
            values = np.linalg.eigvalsh(scale @ B.real @ scale.T)
            total += float(np.sum(np.angle(values - 1j)))
    return total
