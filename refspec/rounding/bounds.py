"""Bounds on rounding error: the right-hand side of every comparison.

There is no literal tolerance in refspec. A computed number comes with a radius
derived from the data by the functions of this module; the derivations are in
theory/rounding.md. `u` is the unit roundoff of the dtype, `gamma(k, u)` the factor
of k successive roundings (Higham, *Accuracy and Stability*, Lemma 3.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy.special

from refspec import backend, checks

#: Failure probability of every statistical statement, chosen once.
FAILURE = 1e-9

_SINGLE = 2.0**-24  # unit roundoffs of this size and coarser: underflow as in float32


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """A computed number and how far the exact one can be from it.

    Parameters
    ----------
    value : float, as computed
    radius : float, >= 0
        The exact number lies in ``[value - radius, value + radius]``.

    Raises
    ------
    ValueError
        If the radius is negative or nan.
    """

    value: float
    radius: float

    def __post_init__(self) -> None:
        if not self.radius >= 0:
            raise ValueError(
                f"radius must be >= 0 (inf if unknown), got {self.radius}; "
                "a bound that cannot be computed is inf"
            )


def unit_roundoff(x: backend.Array) -> float:
    """Return u, half the spacing of floating-point numbers at 1, of x's dtype.

    Parameters
    ----------
    x : Array of real floating numbers; only the dtype is read

    Returns
    -------
    float
        2**-53 for float64, 2**-24 for float32.

    Raises
    ------
    ValueError
        If the numbers are not real floating ones.

    Examples
    --------
    >>> import numpy as np
    >>> unit_roundoff(np.zeros(1)) == 2.0**-53
    True
    """
    xp = backend.namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        raise ValueError(
            f"x must be real floating, got {x.dtype}; convert with "
            "xp.astype(x, xp.float64)"
        )
    return float(xp.finfo(x.dtype).eps) / 2


def gamma(k: float, u: float) -> float:
    """Return gamma_k = k u / (1 - k u), or inf where the model breaks down.

    Parameters
    ----------
    k : float, >= 0, number of roundings
    u : float, unit roundoff

    Returns
    -------
    float
        ``fl(sum of k products)`` differs from the exact sum by at most this times the
        sum of absolute products, in any order, and by `underflow(k, u)` more.

    Raises
    ------
    ValueError
        If k or u is no such number.

    Notes
    -----
    Theory: theory/rounding.md#B1; theory/certificates.md#Q0.
    """
    if not (k >= 0 and 0 < u < 1):
        raise ValueError(
            f"gamma_k must have k >= 0 roundings of unit roundoff 0 < u < 1, got {k} "
            f"and {u}; take u from unit_roundoff(x)"
        )
    return k * u / (1 - k * u) if k * u < 1 else math.inf


def underflow(k: float, u: float) -> float:
    r"""Bound what gradual underflow takes from a sum of k products.

    Parameters
    ----------
    k : float, number of products that can underflow
    u : float
        Unit roundoff, which tells the format; formats coarser than float32 are taken
        to multiply as float32 does.

    Returns
    -------
    float
        :math:`k \eta`, :math:`\eta` the smallest positive number of the format. An
        n x n matrix of such sums is off by at most n times that in the 2-norm.

    Notes
    -----
    Theory: theory/rounding.md#B1. :math:`fl(xy) = xy(1 + \delta) + e` with
    :math:`|e| \le \eta/2`; additions never underflow.
    """
    return k * (2.0**-149 if u >= _SINGLE else 2.0**-1074)


def second_moment_radius(k: float, trace: float, u: float) -> float:
    r"""Bound the 2-norm error of a computed X'X or XX' with k roundings an entry.

    Parameters
    ----------
    k : float
        Roundings an entry, and at least the number of rows of the matrix.
    trace : float, of the matrix, as computed
    u : float, unit roundoff

    Returns
    -------
    float
        The bound; inf if the trace overflowed.

    Notes
    -----
    Theory: theory/rounding.md#B2. :math:`|fl(X'X) - X'X| \le \gamma_k |X|'|X| + k\eta`
    and :math:`\||X|'|X|\|_2 \le \|X\|_F^2 = tr X'X`. The computed trace is itself
    low by at most the factor :math:`1 + \gamma_k` and underflow, which are included.
    """
    g = gamma(k, u)
    radius = g * trace * (1 + g) + 2 * k * underflow(k, u)
    return radius if math.isfinite(radius) else math.inf


def eigensolver_radius(n: int, norm: float, u: float) -> float:
    """Bound the eigenvalue error of LAPACK's symmetric solver, a priori.

    Parameters
    ----------
    n : int, side of the matrix
    norm : float, its 2-norm, as computed
    u : float, unit roundoff

    Returns
    -------
    float
        The bound; inf if the norm overflowed.

    Notes
    -----
    Theory: theory/rounding.md#B3. The computed eigenvalues are those of A + F with
    ``||F|| <= p(n) u ||A||``; p is "a modestly growing function" (LAPACK Users'
    Guide, section 4.7.1), taken here as n + 32: tiny matrices reach 12. LAPACK scales
    matrices whose products would underflow, and scales the answer back, which rounds
    it once where it is subnormal. It is the accepted form, not a proof: ask for a
    certificate where a proof is wanted.
    """
    radius = (n + 32) * u * norm + underflow(n + 32, u)
    return radius if math.isfinite(radius) else math.inf


def probed_norm(squares: float, probes: int) -> float:
    r"""Bound ||R|| from sum_j ||R z_j||^2 over independent Gaussian probes z_j.

    Parameters
    ----------
    squares : float, >= 0, the sum
    probes : int, >= 1, how many z_j there were

    Returns
    -------
    float
        A bound that fails with probability at most `FAILURE`.

    Raises
    ------
    ValueError, TypeError
        If the sum is negative or nan, or the number of probes no integer >= 1.

    Notes
    -----
    Theory: theory/rounding.md#B4. For the top right singular vector v,
    :math:`\sum_j \|R z_j\|^2 \ge \|R\|^2 \sum_j (v'z_j)^2` and the last sum is
    chi-squared with ``probes`` degrees of freedom; divide by its quantile at
    `FAILURE`. No assumption on R.
    """
    _expect_probes(squares, probes)
    return math.sqrt(squares / rare_chi_squared(probes))


def rare_chi_squared(freedom: int) -> float:
    """Return what chi-squared stays below with probability `FAILURE`.

    Theory: theory/rounding.md#B4.
    """
    return 2 * float(scipy.special.gammaincinv(freedom / 2, FAILURE))


def probed_frobenius(squares: float, probes: int) -> float:
    r"""Bound ||R||_F from sum_j ||R z_j||^2 over independent Gaussian probes z_j.

    Parameters
    ----------
    squares : float, >= 0, the sum
    probes : int, >= 1, how many z_j there were

    Returns
    -------
    float
        A bound that fails with probability at most `FAILURE`.

    Raises
    ------
    ValueError, TypeError
        If the sum is negative or nan, or the number of probes no integer >= 1.

    Notes
    -----
    Theory: theory/rounding.md#B6. The sum is a mean of chi-squared numbers, weighted by
    the squared singular values, times :math:`\|R\|_F^2`; it is less than t times the
    number of probes with probability at most :math:`(t e^{1 - t})^{probes / 2}`. Where
    only Y'R z is known, bound Y'R first, then R: both fail rarely.

    Examples
    --------
    >>> probed_frobenius(8.0, 8) >= 1.0
    True
    """
    _expect_probes(squares, probes)
    least = -scipy.special.lambertw(-(FAILURE ** (2 / probes)) / math.e).real
    return math.sqrt(squares / (probes * float(least)))


def residual_radius(A: backend.Array, Q: backend.Array, values: backend.Array) -> float:
    r"""Certify eigenvalues of a symmetric A a posteriori, all of them at once.

    Parameters
    ----------
    A : Array, shape (n, n), exactly symmetric
    Q : Array, shape (n, n), computed eigenvectors as columns
    values : Array, shape (n,), computed eigenvalues in the order of the columns

    Returns
    -------
    float
        A radius for every eigenvalue (sorted against sorted), inf if Q is too
        far from orthogonal.

    Raises
    ------
    ValueError, TypeError
        If the arrays are not finite, not of one library, do not fit, A is not
        symmetric, or the radius overflows.

    Notes
    -----
    Theory: theory/rounding.md#B5 (Kahan; constant sharpened by Cao, Xie and Li 1996).
    :math:`|\lambda_i - \hat\lambda_i| \le \|AQ - Q\Lambda\|_2 / \sigma_{min}(Q)`.
    Both norms are bounded by Frobenius norms of the computed matrices plus the
    rounding of the products. Cost: two products of A's size.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.array([[2.0, 1.0], [1.0, 2.0]])
    >>> values, Q = np.linalg.eigh(A)
    >>> residual_radius(A, Q, values) < 2.0**-47
    True
    """
    xp = checks.expect_array("A", A, "(n, n)", symmetric=True)
    n = A.shape[0]
    checks.expect_array("Q", Q, "(n, n)", sizes={"n": n})
    checks.expect_array("values", values, "(n,)", sizes={"n": n})
    checks.expect_alike(A=A, Q=Q, values=values)
    u, size = unit_roundoff(A), max(_largest(A, xp), _largest(values, xp))
    # the radius is homogeneous: squares that would under- or overflow are scaled away,
    # and what underflow still takes is less than the last factor adds
    exponent = math.frexp(size)[1]
    A, values = (_scaled(x, -exponent) for x in (A, values))
    spread = Q * values[None, :]
    residual = A @ Q - spread
    # |fl(AQ) - AQ| <= gamma_n |A||Q|, and || |A||Q| ||_F <= ||A||_F ||Q||_F
    norm_Q, norm_A = _frobenius(Q, xp), _frobenius(A, xp)
    defect = xp.matrix_transpose(Q) @ Q
    defect = defect - xp.eye(n, dtype=A.dtype, device=backend.device(A))
    away = _frobenius(defect, xp) + gamma(n + 1, u) * norm_Q**2
    if not away < 1:
        return math.inf
    rounding = gamma(n + 2, u) * (norm_A * norm_Q + _frobenius(spread, xp))
    top = _frobenius(residual, xp) + rounding
    radius = top / math.sqrt(1 - away) * (1 + gamma(n * n + 8, u))
    return _back(radius, exponent, u) if size > 0 else 0.0


def _largest(x: backend.Array, xp: backend.Namespace) -> float:
    return backend.scalar(xp.max(xp.abs(x))) if x.shape[0] else 0.0


def _scaled(x: backend.Array, exponent: int) -> backend.Array:
    """Return x 2^exponent; in two factors, because one power may overflow."""
    half = exponent // 2
    return (x * 2.0**half) * 2.0 ** (exponent - half)


def _back(radius: float, exponent: int, u: float) -> float:
    """Return radius 2^exponent, rounded up where it is subnormal."""
    try:
        return math.ldexp(radius, exponent) + underflow(1, u)
    except OverflowError:
        raise ValueError(
            f"A must have eigenvalues with a finite radius, got max |A| near "
            f"2**{exponent}; scale A by a power of two, e.g. A * 2.0**-100"
        ) from None


def _frobenius(x: backend.Array, xp: backend.Namespace) -> float:
    return math.sqrt(backend.scalar(xp.sum(x * x)))


def _expect_probes(squares: float, probes: int) -> None:
    """Refuse all but a sum of squares over at least one probe."""
    checks.expect_size("probes", probes, least=1)
    if not squares >= 0:
        raise ValueError(
            f"squares must be a sum of squares >= 0, got {squares}; look for nan in "
            "the products"
        )
