"""Operators that are diagonal in a Kronecker eigenbasis: EKFAC and damped inverses.

KFAC's eigenvectors are Kronecker products of its factors'; EKFAC keeps them and takes
other values, a damped inverse takes inverse ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from refspec import backend, checks
from refspec.backend import Array
from refspec.factors import lengths
from refspec.kronecker import operators
from refspec.kronecker.products import Kronecker


@dataclass(frozen=True, slots=True, eq=False)
class KroneckerBasis(operators.LayerOperator):
    """The operator ``(Q (x) R) diag(values) (Q (x) R)'`` with orthogonal Q and R.

    Parameters
    ----------
    left, right : Array, shapes (b, b) and (a, a)
        Orthogonal Q and R, eigenvectors as columns.
    values : Array, shape (b, a)
        Eigenvalue of each pair of columns; EKFAC's corrected ones, or their inverses.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or namespaces do not fit together, or a number is not real and
        finite.

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
        operators.expect_factors(self.left, self.right, symmetric=False)
        sizes = {"b": self.left.shape[0], "a": self.right.shape[0]}
        checks.expect_array("values", self.values, "(b, a)", sizes=sizes)
        checks.expect_alike(left=self.left, values=self.values)

    def __repr__(self) -> str:
        """Say the sizes, not the entries."""
        b, a = self.values.shape
        return f"KroneckerBasis(b={b}, a={a}, {self.like.dtype})"

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
        xp = operators.expect_vector(v, self.values, self.dimension)
        Q, R, (b, a) = self.left, self.right, self.values.shape
        V = xp.matrix_transpose(Q) @ operators.matrices(v, b, a, xp) @ R
        V = Q @ (V * self.values) @ xp.matrix_transpose(R)
        return operators.vectors(V, tuple(v.shape), xp)

    def trace(self) -> float:
        """Return the sum of the values."""
        return backend.scalar(self.xp.sum(self.values))

    def frobenius_norm(self) -> float:
        """Return the root of the sum of squared values."""
        return backend.scalar(lengths(self.values, (0, 1)))

    def eigenvalues(self) -> Array:
        """Return the values, descending."""
        xp = self.xp
        return xp.sort(xp.reshape(self.values, (-1,)), descending=True)

    def certified_eigenvalues(self) -> tuple[Array, float]:
        """Return the values and 0: they are the spectrum, by definition."""
        return self.eigenvalues(), 0.0

    def column_stacked(self) -> KroneckerBasis:
        """Return the same operator on column-stacked vectors: factors swapped."""
        xp = self.xp
        return KroneckerBasis(self.right, self.left, xp.matrix_transpose(self.values))

    def matrix(self) -> Array:
        """Return the dense matrix, shape (ab, ab)."""
        xp, n = self.xp, self.dimension
        Q, R = self.left, self.right
        Q = xp.reshape(Q[:, None, :, None] * R[None, :, None, :], (n, n))
        return (Q * xp.reshape(self.values, (1, -1))) @ xp.matrix_transpose(Q)


def diagonalised(operator: Kronecker) -> KroneckerBasis:
    """Return a Kronecker product in its eigenbasis, the same operator; O(a^3 + b^3).

    Theory: theory/kronecker.md#K2.
    """
    xp = operator.xp
    (mu, Q), (nu, R) = backend.eigh(operator.left, xp), backend.eigh(operator.right, xp)
    return KroneckerBasis(Q, R, mu[:, None] * nu[None, :])
