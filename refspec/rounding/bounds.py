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

from refspec import backend

__all__ = [
    "FAILURE",
    "Bounded",
    "eigensolver_radius",
    "gamma",
    "probed_norm",
    "residual_radius",
    "second_moment_radius",
    "unit_roundoff",
]

#: Failure probability of every statistical statement, chosen once.
FAILURE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """A computed number and how far the exact one can be from it.

    Parameters
    ----------
    value : float
        The computed number.
    radius : float
        The exact number lies in ``[value - radius, value + radius]``.
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

    Examples
    --------
    >>> import numpy as np
    >>> unit_roundoff(np.zeros(1)) == 2.0**-53
    True
    """
    xp = backend.namespace(x)
    return float(xp.finfo(x.dtype).eps) / 2


def gamma(k: float, u: float) -> float:
    """Return gamma_k = k u / (1 - k u), or inf where the model breaks down.

    Notes
    -----
    Theory: theory/rounding.md#B1; theory/certificates.md#Q0.
    ``fl(sum of k products)`` differs from the exact sum by at most ``gamma(k, u)``
    times the sum of absolute products, in any order of summation.

    Examples
    --------
    >>> gamma(1, 2.0**-53) > 2.0**-53
    True
    """
    return k * u / (1 - k * u) if k * u < 1 else math.inf


def second_moment_radius(k: float, trace: float, u: float) -> float:
    r"""Bound the 2-norm error of a computed X'X or XX' with k roundings an entry.

    Notes
    -----
    Theory: theory/rounding.md#B2. :math:`|fl(X'X) - X'X| \le \gamma_k |X|'|X|` and
    :math:`\||X|'|X|\|_2 \le \|X\|_F^2 = tr X'X`. The computed trace is itself
    low by at most the factor :math:`1 + \gamma_k`, which is included.
    """
    g = gamma(k, u)
    return g * trace * (1 + g) if math.isfinite(g) else math.inf


def eigensolver_radius(n: int, norm: float, u: float) -> float:
    """Bound the eigenvalue error of LAPACK's symmetric solver, a priori.

    Notes
    -----
    Theory: theory/rounding.md#B3. The computed eigenvalues are those of A + F with
    ``||F|| <= p(n) u ||A||``; p is "a modestly growing function" (LAPACK Users'
    Guide, section 4.7.1), taken here as n + 32: tiny matrices reach 12. It is the
    accepted form, not a proof: ask for a certificate where a proof is wanted.
    """
    return (n + 32) * u * norm


def probed_norm(squares: float, probes: int) -> float:
    r"""Bound ||R|| from sum_j ||R z_j||^2 over independent Gaussian probes z_j.

    Notes
    -----
    Theory: theory/rounding.md#B4. For the top right singular vector v,
    :math:`\sum_j \|R z_j\|^2 \ge \|R\|^2 \sum_j (v'z_j)^2` and the last sum is
    chi-squared with ``probes`` degrees of freedom; divide by its quantile at
    `FAILURE`. No assumption on R. Fails with probability at most `FAILURE`.

    Examples
    --------
    >>> probed_norm(20.0, 20) < 5  # E ||R z||^2 = 1 each: within a factor 5
    True
    """
    quantile = 2 * float(scipy.special.gammaincinv(probes / 2, FAILURE))
    return math.sqrt(squares / quantile)


def residual_radius(A: backend.Array, Q: backend.Array, values: backend.Array) -> float:
    r"""Certify eigenvalues of a symmetric A a posteriori, all of them at once.

    Parameters
    ----------
    A : Array, shape (n, n)
        Exactly symmetric.
    Q : Array, shape (n, n)
        Computed eigenvectors, as columns.
    values : Array, shape (n,)
        Computed eigenvalues, in the order of the columns.

    Returns
    -------
    float
        A radius for every eigenvalue (sorted against sorted), inf if Q is too
        far from orthogonal.

    Notes
    -----
    Theory: theory/rounding.md#B5 (Kahan; constant sharpened by Cao, Xie and Li 1996).
    :math:`|\lambda_i - \hat\lambda_i| \le \|AQ - Q\Lambda\|_2 / \sigma_{min}(Q)`.
    Both norms are bounded by Frobenius norms of the computed matrices plus the
    rounding of the products. Cost: two products of A's size.
    """
    xp = backend.namespace(A, Q, values)
    u, n = unit_roundoff(A), A.shape[0]
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
    return top / math.sqrt(1 - away) * (1 + gamma(n * n + 8, u))


def _frobenius(x: backend.Array, xp: backend.Namespace) -> float:
    return math.sqrt(backend.scalar(xp.sum(x * x)))
