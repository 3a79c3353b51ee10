r"""Eigenvalues with a proof: certified radii in float64.

Everything is a posteriori: whatever LAPACK returned, the residual of its answer is
computed almost without rounding (`errorfree`) and bounded, and the residual bounds
the error. Host NumPy float64 only; what cannot be certified is refused. Proofs and the
assumptions on the arithmetic are in theory/certificates.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from refspec import backend
from refspec.results import Result, View, ranks
from refspec.rounding import errorfree
from refspec.rounding.bounds import gamma

_U = 2.0**-53
_SMALLEST = 2.0**-1074


@dataclass(frozen=True, slots=True, eq=False)
class Certified(Result):
    """Eigenvalues of a symmetric matrix, each with its own rigorous radius.

    Parameters
    ----------
    values : ndarray, shape (n,), computed eigenvalues, descending
    radii : ndarray, shape (n,), distances of the true eigenvalues at most
    vectors : ndarray, shape (n, n), computed eigenvectors as columns, in this order

    Raises
    ------
    ValueError
        If the shapes do not fit, or a radius is negative or not finite.
    """

    values: np.ndarray
    radii: np.ndarray
    vectors: np.ndarray

    def view(self) -> View:
        """Give every eigenvalue with its radius."""
        columns = {"value": self.values, "radius": self.radii}
        return View("rank", ranks(len(self.values)), columns)

    def __post_init__(self) -> None:
        n = len(self.values)
        if self.radii.shape != (n,) or self.vectors.shape != (n, n):
            raise ValueError(
                f"expected radii ({n},) and vectors ({n}, {n}) for {n} values, got "
                f"{self.radii.shape} and {self.vectors.shape}; pass one of each"
            )
        if not (np.all(self.radii >= 0) and np.all(np.isfinite(self.radii))):
            raise ValueError(
                f"expected finite radii >= 0, got {np.min(self.radii)} to "
                f"{np.max(self.radii)}; what cannot be certified is no answer"
            )

    def __repr__(self) -> str:
        """Say how many, and how far off at most, not the entries."""
        most = np.max(self.radii, initial=0.0)
        return f"Certified({len(self.values)} eigenvalues, radii at most {most:.2g})"


def certified_eigenvalues(
    A: backend.Array, *, vectors: backend.Array | None = None
) -> Certified:
    r"""Enclose every eigenvalue of an exactly symmetric float64 matrix.

    Parameters
    ----------
    A : Array, shape (n, n)
        Finite, exactly symmetric, float64 or float32; taken as the exact matrix.
    vectors : Array, shape (n, n), optional
        Nearly orthonormal eigenvectors as columns; computed by LAPACK (driver
        `evd`) if not given. Poor ones cost radius only.

    Returns
    -------
    Certified

    Raises
    ------
    ValueError
        If A is not square, finite and exactly symmetric, or the vectors do not fit.

    Notes
    -----
    Theory: theory/certificates.md#Q4, #Q5, #Q6. First all at once (Kahan; Cao, Xie and
    Li 1996, A sharp version of Kahan's theorem on clustered eigenvalues),

    .. math:: |\lambda_i - \hat\lambda_i| \le \|AX - X\Lambda\|_2 / \sigma_{min}(X),

    which holds through clusters and multiplicities; then, for an eigenvalue whose
    neighbours are far, the Rayleigh quotient :math:`\hat\lambda_i + x'r/x'x` with
    the Kato-Temple radius ``||r||**2 / gap``. Typical radii up to n = 2000 are below
    ``15 eps ||A||`` before and below ``eps ||A||`` after the refinement. Cost: about
    4.5 products of A's size beside the eigenvectors, 1 more if they are given.

    Examples
    --------
    >>> import numpy as np
    >>> found = certified_eigenvalues(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> bool(np.all(np.abs(found.values - [3, 1]) <= found.radii))
    True
    """
    A = errorfree.host_matrix(A, "A", "(n, n)", symmetric=True)
    n = len(A)
    given = None
    if vectors is not None:
        given = errorfree.host_matrix(vectors, "vectors", "(n, n)", sizes={"n": n})
    if not A.any():
        return Certified(np.zeros(n), np.zeros(n), np.eye(n))
    exponent = errorfree.unit_exponent(A)
    with np.errstate(all="ignore"):  # what over- or underflows becomes inf or FLOOR
        unit = errorfree.scaled(A, -exponent)
        start, rows = _eigensystem(unit, given)
        values, radii = _enclose(unit, start, rows)
        if not np.all(np.isfinite(radii)):
            raise ValueError(
                "vectors must be nearly orthonormal eigenvectors, got such that prove "
                "nothing; leave them out, or orthonormalise them by numpy.linalg.qr"
            )
        values = np.ldexp(values, exponent)
        radii = np.ldexp(radii, exponent) + _SMALLEST
    if not np.all(np.isfinite(values) & np.isfinite(radii)):
        raise ValueError(
            f"A must have eigenvalues below the largest float64, got max |A| = "
            f"{np.max(np.abs(A)):.3g} for n = {n}; scale A by a power of two, e.g. "
            "A * 2.0**-100"
        )
    return Certified(values[::-1], radii[::-1], rows[::-1].T)


def spectral_norm_bound(M: np.ndarray, squarings: int = 3) -> float:
    """Bound the 2-norm of M (m, n), at most rank**(1 / 2**(squarings + 1)) too large.

    Products are float32, twice as fast; their rounding is in the bound, which is inf if
    M is not finite. Theory: theory/certificates.md#Q3.
    """
    if M.size == 0 or not np.any(M):
        return 0.0
    if not np.all(np.isfinite(M)):
        return math.inf
    exponent = errorfree.unit_exponent(M)
    single = errorfree.scaled(M, -exponent).astype(np.float32)
    with np.errstate(over="ignore"):
        return float(np.ldexp(_single_bound(single, squarings), exponent))


def _single_bound(M: np.ndarray, squarings: int) -> float:
    """Bound the 2-norm of every matrix that rounds to the float32 M; max |M| ~ 1."""
    u = 2.0**-24
    square = float(np.sum(np.vecdot(M, M), dtype=np.float64))
    square *= 1 + gamma(M.shape[1] + 8, u)
    if squarings > 0:
        product = M @ M.T
        exponent = errorfree.unit_exponent(product)
        product *= np.float32(2.0**-exponent)
        rest = gamma(M.shape[1] + 4, u) * square
        square = math.ldexp(_single_bound(product, squarings - 1), exponent) + rest
    return math.sqrt(square) * errorfree.inflation(len(M) + 8)


def _eigensystem(
    A: np.ndarray, vectors: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return computed eigenvalues, ascending, and eigenvectors as rows."""
    n = len(A)
    if vectors is None and n > 0:
        try:
            values, columns = scipy.linalg.eigh(A, driver="evd", check_finite=False)
        except np.linalg.LinAlgError:  # no convergence: certify what the diagonal says
            vectors = np.eye(n)
        else:
            return values, np.ascontiguousarray(columns.T)
    rows = np.eye(n) if vectors is None else np.ascontiguousarray(vectors.T)
    values = np.vecdot(rows, rows @ A) / np.vecdot(rows, rows)
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)  # such rows fail later
    order = np.argsort(values)
    return values[order], rows[order]


def _enclose(
    A: np.ndarray, start: np.ndarray, Y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values and radii from ascending values and rows Y; max |A| is in [1/2, 1)."""
    n = len(A)
    above, g = errorfree.inflation(4 * n * n + 100), gamma(n + 3, _U)
    R, slack = _residual(A, start, Y)
    norms = errorfree.row_norms(R)
    defect = Y @ Y.T
    squares = np.diagonal(defect).copy()
    defect.flat[:: n + 1] -= 1
    away = above * (math.sqrt(np.vdot(defect, defect)) + g * float(np.sum(squares)))
    if not away < 1:
        return start, np.full(n, np.inf)
    whole = spectral_norm_bound(R) + math.sqrt(np.vdot(slack, slack))
    radius = whole * above / math.sqrt((1 - away) / (1 + 4 * _U))

    lengths = np.sqrt(squares)
    shift = np.vecdot(Y, R) / squares
    doubt = above * (g * np.abs(shift) + (g * norms + slack) / lengths)
    steps = np.diff(start, prepend=-np.inf, append=np.inf)
    spread = above * (radius + np.abs(shift) + doubt)
    gap = (np.minimum(steps[:-1], steps[1:]) - spread) / (1 + 8 * _U)
    values = start + shift
    refined = above * (((norms + slack) / lengths) ** 2 / gap + doubt)
    refined = (refined + _U * np.abs(values)) * errorfree.inflation(4)
    better = (gap > spread) & (refined < radius)
    return np.where(better, values, start), np.where(better, refined, radius)


def _residual(
    A: np.ndarray, values: np.ndarray, Y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """R ~ Y A - diag(values) Y and bounds of the norms of the rows of its error."""
    a, y = errorfree.split_rows(A), errorfree.split_rows(Y)
    parts = errorfree.split_rows(values[:, None], bits=26)
    product = errorfree.row_product(y, a)
    tail = product.tail
    tail -= parts.low * y.high
    tail -= values[:, None] * y.low
    head = product.head
    head -= parts.high * y.high
    slack = product.left @ errorfree.row_norms(product.right.T)
    high, low = errorfree.row_norms(y.high), errorfree.row_norms(y.low)
    g = gamma(len(A) + 10, _U)
    slack += g * (np.abs(parts.low[:, 0]) * high + np.abs(values) * low)
    R = head + tail
    slack += _U * (errorfree.row_norms(head) + errorfree.row_norms(R))
    return R, slack * errorfree.inflation(4 * len(A) + 20)
