"""Operators that are diagonal in a Kronecker eigenbasis: EKFAC and damped inverses."""

from __future__ import annotations

from dataclasses import dataclass

from refspec import backend
from refspec.backend import Array
from refspec.factors import lengths
from refspec.kronecker import operators
from refspec.kronecker.products import Kronecker

__all__ = ["KroneckerBasis", "damped_inverse", "eigenbasis", "factored_tikhonov"]


@dataclass(frozen=True, slots=True, eq=False)
class KroneckerBasis:
    """The operator ``(Q (x) R) diag(values) (Q (x) R)'`` with orthogonal Q and R.

    Parameters
    ----------
    left : Array, shape (b, b)
        Orthogonal Q, eigenvectors as columns.
    right : Array, shape (a, a)
        Orthogonal R.
    values : Array, shape (b, a)
        Eigenvalue of each pair of columns; EKFAC's corrected ones, or their inverses.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    TypeError
        If the arrays are of different namespaces.

    Notes
    -----
    Theory: theory/kronecker.md#K1, #K9.

    Examples
    --------
    >>> import numpy as np
    >>> A = KroneckerBasis(np.eye(2), np.eye(3), np.arange(6.0).reshape(2, 3))
    >>> A.matvec(np.ones(6)).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """

    left: Array
    right: Array
    values: Array

    def __post_init__(self) -> None:
        operators.expect_square(self.left, self.right)
        shape = (self.left.shape[0], self.right.shape[0])
        if tuple(self.values.shape) != shape:
            raise ValueError(
                f"values must have shape (b, a) = {shape} to match the bases, got "
                f"{tuple(self.values.shape)}; one value per pair of columns"
            )

    @property
    def like(self) -> Array:
        """An array of the namespace, device and dtype its vectors must have."""
        return self.values

    @property
    def dimension(self) -> int:
        """Length a b of the vectors it acts on."""
        return int(self.left.shape[0] * self.right.shape[0])

    def matvec(self, v: Array) -> Array:
        """Return the product with a vector (ab,) or columns (ab, m)."""
        xp, b, a = operators.expect_vector(v, self.left, self.right)
        Q, R = self.left, self.right
        V = xp.matrix_transpose(Q) @ operators.matrices(v, b, a, xp) @ R
        V = Q @ (V * self.values) @ xp.matrix_transpose(R)
        return operators.vectors(V, tuple(v.shape), xp)

    matmat = matvec

    def trace(self) -> float:
        """Return the sum of the values."""
        return backend.scalar(backend.namespace(self.values).sum(self.values))

    def frobenius_norm(self) -> float:
        """Return the root of the sum of squared values."""
        return backend.scalar(lengths(self.values, (0, 1)))

    def eigenvalues(self) -> Array:
        """Return the values, descending."""
        xp = backend.namespace(self.values)
        return xp.sort(xp.reshape(self.values, (-1,)), descending=True)

    def certified_eigenvalues(self) -> tuple[Array, float]:
        """Return the values and 0: they are the spectrum, by definition."""
        return self.eigenvalues(), 0.0

    def column_stacked(self) -> KroneckerBasis:
        """Return the same operator on column-stacked vectors: factors swapped."""
        xp = backend.namespace(self.values)
        return KroneckerBasis(self.right, self.left, xp.matrix_transpose(self.values))

    def matrix(self) -> Array:
        """Return the dense matrix, shape (ab, ab)."""
        xp = backend.namespace(self.values)
        Q = Kronecker(self.left, self.right).matrix()
        return (Q * xp.reshape(self.values, (1, -1))) @ xp.matrix_transpose(Q)


def eigenbasis(operator: Kronecker) -> KroneckerBasis:
    """Diagonalise a Kronecker product: its eigenvectors and products of eigenvalues.

    Parameters
    ----------
    operator : Kronecker
        Symmetric factors (b, b) and (a, a).

    Returns
    -------
    KroneckerBasis
        The same operator. Cost O(a^3 + b^3).

    Notes
    -----
    Theory: theory/kronecker.md#K2.

    Examples
    --------
    >>> import numpy as np
    >>> eigenbasis(Kronecker(np.diag([1.0, 2.0]), np.diag([3.0, 5.0]))).values.tolist()
    [[3.0, 5.0], [6.0, 10.0]]
    """
    xp = backend.namespace(operator.left, operator.right)
    mu, Q = xp.linalg.eigh(operator.left)
    nu, R = xp.linalg.eigh(operator.right)
    return KroneckerBasis(Q, R, mu[:, None] * nu[None, :])


def damped_inverse(operator: KroneckerBasis, damping: float) -> KroneckerBasis:
    """Return (A + damping I)^-1, exact in the eigenbasis.

    Parameters
    ----------
    operator : KroneckerBasis
        Positive semidefinite: EKFAC, or KFAC through `eigenbasis`.
    damping : float
        lambda > 0.

    Returns
    -------
    KroneckerBasis
        Values ``1 / (max(value, 0) + damping)``.

    Raises
    ------
    ValueError
        If damping is not positive.

    Notes
    -----
    Theory: theory/kronecker.md#K10.

    Examples
    --------
    >>> import numpy as np
    >>> A = KroneckerBasis(np.eye(1), np.eye(2), np.asarray([[1.0, 3.0]]))
    >>> damped_inverse(A, 1.0).values.tolist()
    [[0.5, 0.25]]
    """
    _expect_damping(damping)
    positive = backend.namespace(operator.values).clip(operator.values, min=0.0)
    return KroneckerBasis(operator.left, operator.right, 1 / (positive + damping))


def factored_tikhonov(operator: Kronecker, damping: float) -> KroneckerBasis:
    r"""Return the inverse of a Kronecker product with the damping split over factors.

    Parameters
    ----------
    operator : Kronecker
        KFAC: left :math:`\Delta` (b, b), right H (a, a), positive semidefinite.
    damping : float
        lambda > 0.

    Returns
    -------
    KroneckerBasis
        :math:`(\Delta + \sqrt\lambda / \varpi\, I)^{-1} \otimes
        (H + \varpi \sqrt\lambda\, I)^{-1}` with
        :math:`\varpi^2 = (tr H / a) / (tr \Delta / b)`.

    Raises
    ------
    ValueError
        If damping is not positive.

    Notes
    -----
    Theory: theory/kronecker.md#K10. The split minimises the bound on the cross terms
    that factored damping adds. A zero factor, or one that has underflowed, has no
    scale: varpi = 1.

    References
    ----------
    Martens and Grosse (2015), section 6.3.

    Examples
    --------
    >>> import numpy as np
    >>> P = factored_tikhonov(Kronecker(np.eye(1), 4 * np.eye(1)), 1.0)
    >>> bool(P.values[0, 0] == 1 / (1.5 * 6))
    True
    """
    _expect_damping(damping)
    left, right = operator.left, operator.right
    xp = backend.namespace(left, right)
    mu, Q = xp.linalg.eigh(left)
    nu, R = xp.linalg.eigh(right)
    mu, nu = xp.clip(mu, min=0.0), xp.clip(nu, min=0.0)
    scales = backend.scalar(xp.mean(nu)), backend.scalar(xp.mean(mu))
    smallest = xp.finfo(left.dtype).smallest_normal
    split = scales[0] ** 0.5 / scales[1] ** 0.5 if min(scales) >= smallest else 1.0
    root = damping**0.5
    values = (mu + root / split)[:, None] * (nu + root * split)[None, :]
    return KroneckerBasis(Q, R, 1 / values)


def _expect_damping(damping: float) -> None:
    if not damping > 0:
        raise ValueError(
            f"damping must be > 0, got {damping}; a curvature matrix is singular, so "
            "its inverse needs lambda > 0"
        )
