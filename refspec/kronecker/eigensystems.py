"""Eigenvalues of one symmetric matrix, with a radius, at every scale.

A matrix is brought to a size near 1 by a power of two, which is exact, so that no
square under- or overflows; values and radius are brought back at the end.
"""

from __future__ import annotations

import math

import numpy as np

from refspec import backend, checks, rounding
from refspec.backend import Array, Namespace

_STEP = 100  # 2**100 is a number of float32 too


def certified_spectrum(A: Array) -> tuple[Array, float]:
    """Return the eigenvalues of a symmetric A (n, n), descending, and their radius.

    A posteriori, from the residual of the eigenvectors. Where the namespace's own
    solver fails, A is solved on the host in float64. Theory: theory/kronecker.md#K2.
    """
    xp = checks.expect_array("A", A, "(n, n)", symmetric=True)
    if A.shape[0] < 1:
        raise ValueError("A must have shape (n, n) with n >= 1, got (0, 0); add rows")
    values, _, radius = certified_eigensystem(A, xp)
    return values, radius


def certified_eigensystem(A: Array, xp: Namespace) -> tuple[Array, Array, float]:
    """Return descending eigenvalues, their vectors and radius; of A's lower triangle.

    Theory: theory/kronecker.md#K2.
    """
    A, e = unit_scaled(A, xp)
    A = xp.tril(A) + xp.matrix_transpose(xp.tril(A, k=-1))
    values, Q = backend.eigh(A, xp)
    radius = rounding.residual_radius(A, Q, values)
    values, radius = rescaled(xp.flip(values), radius, e, xp)
    return values, xp.flip(Q, axis=1), radius


def unit_scaled(x: Array, xp: Namespace) -> tuple[Array, int]:
    """Return x 2**-e and e with the largest entry in [1/2, 1); e = 0 where x is 0.

    Exact, except for entries 2**1000 times smaller than the largest.
    """
    size = backend.scalar(xp.max(xp.abs(x))) if math.prod(x.shape) else 0.0
    e = math.frexp(size)[1]
    return times_power(x, -e), e


def times_power(x: Array, e: int) -> Array:
    """Return x 2**e in several factors, since 2**e itself may overflow."""
    with np.errstate(over="ignore"):  # an overflow is for the caller to refuse
        while e:
            step = max(-_STEP, min(e, _STEP))
            x, e = x * 2.0**step, e - step
    return x


def rescaled(
    values: Array, radius: float, e: int, xp: Namespace
) -> tuple[Array, float]:
    """Undo `unit_scaled`; what may underflow then is in the radius.

    Raises ValueError where a value overflows: it is refused, not answered by inf.
    """
    back = times_power(values, e)
    if not bool(xp.all(xp.isfinite(back))):
        raise ValueError(
            f"eigenvalues must be smaller than {xp.finfo(values.dtype).max:.3g}, got "
            f"some of 2**{e} and more; divide the matrix by a power of two first"
        )
    if radius == 0:  # of the zero matrix
        return back, 0.0
    tiny = float(xp.finfo(values.dtype).smallest_normal)
    return back, float(times_power(np.float64(radius), e)) + tiny
