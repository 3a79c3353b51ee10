r"""Sums and products of float64 matrices without rounding error, or almost.

A matrix is cut into a high part of few bits and a low part. The product of two
high parts is a sum of integers below :math:`2^{53}` on one grid, so BLAS computes
it exactly in any order; the low parts are :math:`2^{-20}` times smaller and so is
the rounding error of what they contribute (Ozaki, Ogita, Oishi and Rump 2012).
Host NumPy float64 only. The assumptions on the arithmetic are
theory/certificates.md#Q0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec import backend, checks
from refspec.rounding.bounds import gamma

_U = 2.0**-53

#: Added to every computed norm: more than underflow can have taken from it.
FLOOR = 2.0**-400


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A matrix (m, k) cut by rows: ``high + low`` is the matrix, exactly."""

    high: np.ndarray  # row i: multiples of 2**(e_i - bits), at most 2**e_i
    low: np.ndarray  # the rest, at most 2**(e_i - bits - 1)
    bits: int


@dataclass(frozen=True, slots=True, eq=False)
class RowProduct:
    """A product A B' (m, n), ``|A B' - head - tail| <= left @ right.T`` entrywise."""

    head: np.ndarray  # the exact product of the high parts
    tail: np.ndarray  # the rest, rounded
    left: np.ndarray  # (m, 2)
    right: np.ndarray  # (n, 2)


def two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return s = fl(a + b) and e with a + b = s + e exactly (Knuth).

    Theory: theory/certificates.md#Q1.
    """
    s = a + b
    z = s - a
    return s, (a - (s - z)) + (b - z)


def two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return p = fl(a b) and e with a b = p + e, exactly unless e underflows.

    Dekker, with Veltkamp's splitting; needs ``|a|, |b| < 2**990``. Theory:
    theory/certificates.md#Q1.
    """
    p = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


def unit_exponent(x: np.ndarray) -> int:
    """Return e with max |x| in [2**(e-1), 2**e), or 0 where x is zero or empty."""
    if x.size == 0:
        return 0
    return int(np.frexp(max(x.max(), -x.min()))[1])


def scaled(x: np.ndarray, exponent: int) -> np.ndarray:
    """Return x 2**exponent, exact unless it under- or overflows.

    In two factors, because 2**exponent itself may overflow; much faster than ldexp.
    """
    if abs(exponent) > 2000:
        return np.asarray(np.ldexp(x, exponent))
    half = exponent // 2
    y: np.ndarray = x * 2.0**half
    y *= 2.0 ** (exponent - half)
    return y


def host_matrix(x: backend.Array, name: str, letters: str, **how: Any) -> np.ndarray:
    """Return a float64 or float32 matrix as float64 on the host, exactly.

    Conditions as in `checks.expect_array`; no copy where none is needed.
    """
    checks.expect_array(name, x, letters, **how)
    return np.asarray(backend.to_host(x), dtype=np.float64)


def inflation(k: int) -> float:
    """Return 1 + gamma_k, two roundings more: what a bound of k roundings needs.

    Non-negative numbers combined by sums, products, quotients and roots, at most k on
    any path: times this, the result is no underestimate. theory/certificates.md#Q3.
    """
    return 1 + gamma(k + 3, _U)


def row_norms(x: np.ndarray) -> np.ndarray:
    """Bound Euclidean norms of rows (m, k) up to the factor 1 - gamma_{k+3} of the sum.

    Theory: theory/certificates.md#Q3.
    """
    return np.asarray(np.sqrt(np.vecdot(x, x)) + FLOOR)


def split_rows(x: np.ndarray, bits: int | None = None) -> Split:
    """Cut x (m, k), finite and below 2**900, so that products of high parts are exact.

    `bits` of the high part are at most 51; by default the most for which inner products
    of length k of two high rows are exact. Theory: theory/certificates.md#Q2.
    """
    inner = x.shape[1]
    if bits is None:
        bits = (53 - (max(inner, 1) - 1).bit_length()) // 2
    top = np.maximum(x.max(axis=1, initial=0.0), -x.min(axis=1, initial=0.0))
    # x + sigma - sigma rounds x to a multiple of 2**(e - bits), the unit of sigma
    sigma = np.ldexp(1.5, np.frexp(top)[1] + (52 - bits))[:, None]
    high = x + sigma
    high -= sigma
    return Split(high, x - high, bits)


def row_product(a: Split, b: Split) -> RowProduct:
    r"""Return inner products of the rows of a (m, k) with those of b (n, k).

    AB' = A_1 B_1' + (A_1 B_2' + A_2 B'), the first exact, the rest bounded by
    Cauchy-Schwarz, with room for four more products. theory/certificates.md#Q2, #Q3.
    """
    inner = a.high.shape[1]
    whole = b.high + b.low
    tail = a.high @ b.low.T
    tail += a.low @ whole.T
    g = gamma(inner + 10, _U)
    left = np.stack([row_norms(a.high), row_norms(a.low)], axis=1)
    right = np.stack([row_norms(b.low), row_norms(whole)], axis=1)
    return RowProduct(a.high @ b.high.T, tail, g * left, right)


def _halves(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut each number into 26 and 26 bits (Veltkamp)."""
    t = 134217729.0 * a  # 2**27 + 1
    high = t - (t - a)
    return high, a - high
