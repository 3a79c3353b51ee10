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

import numpy as np

from refspec import backend, rounding

__all__ = [
    "FLOOR",
    "RowProduct",
    "Split",
    "host_matrix",
    "inflation",
    "row_norms",
    "row_product",
    "scaled",
    "split_rows",
    "two_product",
    "two_sum",
    "unit_exponent",
]

_U = 2.0**-53

#: Added to every computed norm: more than underflow can have taken from it.
FLOOR = 2.0**-400


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A matrix cut by rows: ``high + low`` is the matrix, exactly.

    Parameters
    ----------
    high : ndarray, shape (m, k)
        Integers of few bits times one power of two for each row.
    low : ndarray, shape (m, k)
        The rest.
    bits : int
        Row i of `high` is bounded by ``2**e_i`` and a multiple of
        ``2**(e_i - bits)``; row i of `low` is bounded by ``2**(e_i - bits - 1)``.
    """

    high: np.ndarray
    low: np.ndarray
    bits: int


@dataclass(frozen=True, slots=True, eq=False)
class RowProduct:
    """A product A B' in two parts with an entrywise bound of rank two.

    Parameters
    ----------
    head : ndarray, shape (m, n)
        The exact product of the high parts.
    tail : ndarray, shape (m, n)
        The rest, rounded.
    left : ndarray, shape (m, 2)
        With `right`, ``|A B' - head - tail| <= left @ right.T`` entrywise.
    right : ndarray, shape (n, 2)
        See `left`.
    """

    head: np.ndarray
    tail: np.ndarray
    left: np.ndarray
    right: np.ndarray


def two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return s = fl(a + b) and e with a + b = s + e exactly.

    Notes
    -----
    Theory: theory/certificates.md#Q1 (Knuth).

    Examples
    --------
    >>> s, e = two_sum(np.float64(1), np.float64(2.0**-60))
    >>> bool(s == 1), bool(e == 2.0**-60)
    (True, True)
    """
    s = a + b
    z = s - a
    return s, (a - (s - z)) + (b - z)


def two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return p = fl(a b) and e with a b = p + e, exactly unless e underflows.

    Notes
    -----
    Theory: theory/certificates.md#Q1 (Dekker, with Veltkamp's splitting). Needs ``|a|,
    |b| < 2**990``.

    Examples
    --------
    >>> x = np.float64(1 + 2.0**-30)
    >>> p, e = two_product(x, x)
    >>> bool(p == 1 + 2.0**-29), bool(e == 2.0**-60)
    (True, True)
    """
    p = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


def unit_exponent(x: np.ndarray) -> int:
    """Return e with max |x| in [2**(e-1), 2**e), or 0 where x is zero or empty.

    Examples
    --------
    >>> unit_exponent(np.array([0.5, -3.0]))
    2
    """
    if x.size == 0:
        return 0
    return int(np.frexp(max(x.max(), -x.min()))[1])


def scaled(x: np.ndarray, exponent: int) -> np.ndarray:
    """Return x 2**exponent, exact but for under- and overflow.

    Notes
    -----
    In two factors, because 2**exponent itself may overflow; much faster than
    numpy.ldexp.

    Examples
    --------
    >>> bool(scaled(np.array([2.0**-1074]), 1074)[0] == 1)
    True
    """
    if abs(exponent) > 2000:
        return np.asarray(np.ldexp(x, exponent))
    half = exponent // 2
    y: np.ndarray = x * 2.0**half
    y *= 2.0 ** (exponent - half)
    return y


def host_matrix(x: backend.Array, name: str) -> np.ndarray:
    """Return a finite real matrix as float64 on the host.

    Parameters
    ----------
    x : Array, shape (m, n)
        float64 or float32, which converts without error.
    name : str
        What to call it in messages.

    Returns
    -------
    ndarray, shape (m, n)
        The same numbers; the same memory where possible.

    Raises
    ------
    ValueError
        If x is something else.
    """
    x = backend.to_host(x)
    if x.ndim != 2 or x.dtype not in (np.float64, np.float32):
        raise ValueError(
            f"{name} must be a float64 (or float32) matrix, got {x.dtype} of shape "
            f"{x.shape}; convert it first"
        )
    if not np.all(np.isfinite(x)):
        raise ValueError(
            f"{name} must be finite, got {np.sum(~np.isfinite(x))} entries that are "
            "inf or nan; find where they come from"
        )
    return np.asarray(x, dtype=np.float64)


def inflation(k: int) -> float:
    """Return 1 + gamma_k, two roundings more: what a bound of k roundings needs.

    Notes
    -----
    Theory: theory/certificates.md#Q3. A number computed from non-negative numbers by
    sums, products, quotients and square roots, at most k of them on any path, times
    ``inflation(k)`` is at least the exact one.
    """
    return 1 + rounding.gamma(k + 3, _U)


def row_norms(x: np.ndarray) -> np.ndarray:
    """Bound the Euclidean norms of the rows up to the rounding of the sum.

    Notes
    -----
    Theory: theory/certificates.md#Q3. Each is at least the true norm times ``1 -
    gamma(k + 3)``.
    """
    return np.asarray(np.sqrt(np.vecdot(x, x)) + FLOOR)


def split_rows(x: np.ndarray, bits: int | None = None) -> Split:
    """Cut a matrix so that products of high parts are exact.

    Parameters
    ----------
    x : ndarray, shape (m, k)
        Finite, ``|x| < 2**900``.
    bits : int, optional
        Bits kept in the high part, at most 51. The default is the most for which
        inner products of length k of two high rows are exact.

    Returns
    -------
    Split
        See there.

    Notes
    -----
    Theory: theory/certificates.md#Q2. Adding and subtracting ``1.5 * 2**(e + 52 -
    bits)`` rounds each entry to a multiple of ``2**(e - bits)``.

    Examples
    --------
    >>> part = split_rows(np.array([[1 / 3, 1e-9]]), bits=4)
    >>> part.high, bool(np.all(part.high + part.low == [[1 / 3, 1e-9]]))
    (array([[0.34375, 0.     ]]), True)
    """
    inner = x.shape[1]
    if bits is None:
        bits = (53 - (max(inner, 1) - 1).bit_length()) // 2
    top = np.maximum(x.max(axis=1, initial=0.0), -x.min(axis=1, initial=0.0))
    sigma = np.ldexp(1.5, np.frexp(top)[1] + (52 - bits))[:, None]
    high = x + sigma
    high -= sigma
    return Split(high, x - high, bits)


def row_product(a: Split, b: Split) -> RowProduct:
    r"""Return the inner products of the rows of a with the rows of b.

    Parameters
    ----------
    a : Split
        Of a matrix of shape (m, k).
    b : Split
        Of a matrix of shape (n, k).

    Returns
    -------
    RowProduct
        Its bound has room for four more rounded products in the tail.

    Notes
    -----
    Theory: theory/certificates.md#Q2, #Q3. :math:`AB' = A_1B_1' + (A_1B_2' + A_2B')`,
    the first product exact, :math:`|E| \le \gamma_{k+10}(|A_1||B_2|' + |A_2||B|')`,
    bounded by Cauchy-Schwarz row by row. Cost: three products.

    Examples
    --------
    >>> a = split_rows(np.array([[1.0, 2.0**-40]]))
    >>> product = row_product(a, a)
    >>> bool(product.head[0, 0] == 1), bool(product.tail[0, 0] == 2.0**-80)
    (True, True)
    """
    inner = a.high.shape[1]
    whole = b.high + b.low
    tail = a.high @ b.low.T
    tail += a.low @ whole.T
    g = rounding.gamma(inner + 10, _U)
    left = np.stack([row_norms(a.high), row_norms(a.low)], axis=1)
    right = np.stack([row_norms(b.low), row_norms(whole)], axis=1)
    return RowProduct(a.high @ b.high.T, tail, g * left, right)


def _halves(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut each number into 26 and 26 bits (Veltkamp)."""
    t = 134217729.0 * a  # 2**27 + 1
    high = t - (t - a)
    return high, a - high
