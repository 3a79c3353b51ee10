"""Kronecker operators: a single product and a sum of products.

The order is errors (x) features on row-major vectors, stated once in
`refspec.kronecker.operators`. All factors are symmetric; nothing of size (ab, ab) is
formed unless `matrix` is called, or `eigenvalues` of a sum, which needs it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from refspec import backend, rounding
from refspec.backend import Array
from refspec.factors import lengths
from refspec.kronecker import operators

__all__ = ["Kronecker", "KroneckerSum", "certified_spectrum"]


@dataclass(frozen=True, slots=True, eq=False)
class Kronecker:
    """The symmetric operator ``left (x) right`` on row-major vectors of (b, a).

    Parameters
    ----------
    left : Array, shape (b, b)
        Symmetric; the factor of the errors.
    right : Array, shape (a, a)
        Symmetric; the factor of the features.

    Raises
    ------
    ValueError
        If a factor is not square.
    TypeError
        If the factors are of different namespaces.

    Notes
    -----
    Theory: theory/kronecker.md#K1, #K2.

    Examples
    --------
    >>> import numpy as np
    >>> A = Kronecker(np.diag([1.0, 2.0]), np.diag([3.0, 5.0, 7.0]))
    >>> A.trace(), A.eigenvalues().tolist()
    (45.0, [14.0, 10.0, 7.0, 6.0, 5.0, 3.0])
    """

    left: Array
    right: Array

    def __post_init__(self) -> None:
        operators.expect_square(self.left, self.right)

    @property
    def like(self) -> Array:
        """An array of the namespace, device and dtype its vectors must have."""
        return self.left

    @property
    def dimension(self) -> int:
        """Length a b of the vectors it acts on."""
        return int(self.left.shape[0] * self.right.shape[0])

    def matvec(self, v: Array) -> Array:
        """Return the product with a vector (ab,) or columns (ab, m)."""
        xp, b, a = operators.expect_vector(v, self.left, self.right)
        V = self._apply(operators.matrices(v, b, a, xp))
        return operators.vectors(V, tuple(v.shape), xp)

    matmat = matvec

    def trace(self) -> float:
        """Return tr(left) tr(right)."""
        return _trace(self.left) * _trace(self.right)

    def frobenius_norm(self) -> float:
        """Return ||left||_F ||right||_F."""
        sides = (lengths(x, (0, 1)) for x in (self.left, self.right))
        return math.prod(map(backend.scalar, sides))

    def eigenvalues(self) -> Array:
        """Return the ab products of eigenvalues, descending."""
        xp = backend.namespace(self.left)
        mu, nu = xp.linalg.eigvalsh(self.left), xp.linalg.eigvalsh(self.right)
        return xp.sort(xp.reshape(mu[:, None] * nu[None, :], (-1,)), descending=True)

    def certified_eigenvalues(self) -> tuple[Array, float]:
        """Return the eigenvalues and a radius that holds the exact ones.

        Theory: theory/kronecker.md#K2.
        """
        xp, u = backend.namespace(self.left), rounding.unit_roundoff(self.left)
        mu, left = certified_spectrum(self.left)
        nu, right = certified_spectrum(self.right)
        top, other = (backend.scalar(xp.max(xp.abs(x))) for x in (mu, nu))
        radius = top * right + other * left + left * right + u * top * other
        values = xp.reshape(mu[:, None] * nu[None, :], (-1,))
        return xp.sort(values, descending=True), radius * (1 + rounding.gamma(8, u))

    def column_stacked(self) -> Kronecker:
        """Return ``right (x) left``: the same operator on column-stacked vectors."""
        return Kronecker(self.right, self.left)

    def matrix(self) -> Array:
        """Return the dense matrix, shape (ab, ab)."""
        return _dense(self.left, self.right)

    def _apply(self, V: Array) -> Array:
        return self.left @ V @ backend.namespace(V).matrix_transpose(self.right)


@dataclass(frozen=True, slots=True, eq=False)
class KroneckerSum:
    """The symmetric operator ``sum_c coefficients[c] lefts[c] (x) rights[c]``.

    Parameters
    ----------
    coefficients : Array, shape (m,)
        Any sign.
    lefts : Array, shape (m, b, b)
        Symmetric; factors of the errors.
    rights : Array, shape (m, a, a)
        Symmetric; factors of the features.
    roots : tuple of pairs of Arrays, optional
        ``(L_c, R_c)`` with ``lefts[c] = L_c' L_c`` and ``rights[c] = R_c' R_c``, L_c
        (r_c, b), R_c (s_c, a). With coefficients >= 0 they give the spectrum from a
        Gram matrix of side sum_c r_c s_c where that is less than ab.

    Raises
    ------
    ValueError
        If shapes do not fit together, or roots come with a negative coefficient.
    TypeError
        If the arrays are of different namespaces.

    Notes
    -----
    Theory: theory/kronecker.md#K1, #K3. One product costs 2 m a b (a + b) operations.

    Examples
    --------
    >>> import numpy as np
    >>> I = np.eye(2)[None]
    >>> A = KroneckerSum(np.ones(2), np.concat([I, I]), np.concat([I, 3 * I]))
    >>> A.eigenvalues().tolist(), A.trace()
    ([4.0, 4.0, 4.0, 4.0], 16.0)
    """

    coefficients: Array
    lefts: Array
    rights: Array
    roots: tuple[tuple[Array, Array], ...] | None = None

    def __post_init__(self) -> None:
        backend.namespace(self.coefficients, self.lefts, self.rights)
        m = self.coefficients.shape[0]
        for name, x, d in (("lefts", self.lefts, "b"), ("rights", self.rights, "a")):
            shape = tuple(x.shape)
            if len(shape) != 3 or shape[0] != m or shape[1] != shape[2]:
                raise ValueError(
                    f"{name} must have shape (m, {d}, {d}) with m = {m} to match "
                    f"coefficients, got {shape}; stack the factors on axis 0"
                )
        if self.roots is None:
            return
        xp = backend.namespace(self.coefficients)
        low = backend.scalar(xp.min(self.coefficients)) if m else 0.0
        if len(self.roots) != m or low < 0:
            raise ValueError(
                f"roots must be m = {m} pairs with coefficients >= 0, got "
                f"{len(self.roots)} pairs and a smallest coefficient {low:.3g}; "
                "leave roots out"
            )

    @property
    def like(self) -> Array:
        """An array of the namespace, device and dtype its vectors must have."""
        return self.lefts

    @property
    def dimension(self) -> int:
        """Length a b of the vectors it acts on."""
        return int(self.lefts.shape[1] * self.rights.shape[1])

    def matvec(self, v: Array) -> Array:
        """Return the product with a vector (ab,) or columns (ab, m)."""
        xp, b, a = operators.expect_vector(v, self.lefts, self.rights)
        m, C = math.prod(v.shape[1:]), self.coefficients.shape[0]
        if m == 0 or C == 0:
            return xp.zeros_like(v)
        V = xp.reshape(operators.matrices(v, b, a, xp), (m * b, a))
        # two products for all terms: (V R')' = R V', then (L X)' = X' L, L symmetric
        right = xp.reshape(self.rights, (C * a, a)) @ xp.matrix_transpose(V)
        right = xp.permute_dims(xp.reshape(right, (C, a, m, b)), (2, 1, 0, 3))
        left = self.coefficients[:, None, None] * self.lefts
        out = xp.reshape(right, (m * a, C * b)) @ xp.reshape(left, (C * b, b))
        out = xp.matrix_transpose(xp.reshape(out, (m, a, b)))
        return operators.vectors(out, tuple(v.shape), xp)

    matmat = matvec

    def trace(self) -> float:
        """Return sum_c coefficient_c tr(left_c) tr(right_c)."""
        c = backend.to_host(self.coefficients)
        left, right = _traces(self.lefts), _traces(self.rights)
        return float(np.sum(c * left * right))

    def frobenius_norm(self) -> float:
        """Return the norm from m^2 inner products: <A, B>_F factorises."""
        xp, c = backend.namespace(self.lefts), backend.to_host(self.coefficients)
        grams, size = [], 1.0
        for stack in (self.lefts, self.rights):
            flat = xp.reshape(stack, (stack.shape[0], -1))
            largest = backend.scalar(xp.max(xp.abs(flat))) or 1.0
            flat, size = flat / largest, size * largest
            grams.append(backend.to_host(flat @ xp.matrix_transpose(flat)))
        return size * math.sqrt(max(float(c @ (grams[0] * grams[1]) @ c), 0.0))

    def eigenvalues(self) -> Array:
        """Return the ab eigenvalues, descending, from the smaller of Gram and dense."""
        xp = backend.namespace(self.lefts)
        return self._padded(xp.flip(xp.linalg.eigvalsh(self._smaller())))

    def certified_eigenvalues(self) -> tuple[Array, float]:
        """Return the eigenvalues and a radius that holds the exact ones.

        Theory: theory/kronecker.md#K3.
        """
        values, radius = certified_spectrum(self._smaller())
        c = np.abs(backend.to_host(self.coefficients))
        if self._has_small_roots():
            k = sum(x.shape[1] for x in (self.lefts, self.rights)) + len(c) + 4
            k += max(L.shape[0] + R.shape[0] for L, R in self.roots or ())
            size = float(np.sum(c * _traces(self.lefts) * _traces(self.rights)))
        else:
            k, size = (
                len(c) + 2,
                float(np.sum(c * _norms(self.lefts) * _norms(self.rights))),
            )
        g = rounding.gamma(k, rounding.unit_roundoff(self.lefts))
        return self._padded(values), radius + g * size * (1 + g)

    def column_stacked(self) -> KroneckerSum:
        """Return the same operator on column-stacked vectors: factors swapped."""
        roots = self.roots and tuple((right, left) for left, right in self.roots)
        return KroneckerSum(self.coefficients, self.rights, self.lefts, roots)

    def matrix(self) -> Array:
        """Return the dense matrix, shape (ab, ab)."""
        n, xp, like = self.dimension, backend.namespace(self.lefts), self.lefts
        total = xp.zeros((n, n), dtype=like.dtype, device=backend.device(like))
        for c in range(self.coefficients.shape[0]):
            left = self.coefficients[c] * self.lefts[c, :, :]
            total = total + _dense(left, self.rights[c, :, :])
        return total

    def _has_small_roots(self) -> bool:
        side = sum(L.shape[0] * R.shape[0] for L, R in self.roots or ())
        return self.roots is not None and side < self.dimension

    def _smaller(self) -> Array:
        """Form the matrix of the non-zero eigenvalues on the smaller side."""
        if self.roots is not None and self._has_small_roots():
            return _root_gram(self.coefficients, self.roots)
        return self.matrix()

    def _padded(self, values: Array) -> Array:
        """All ab eigenvalues, descending: zeros beside those of a Gram matrix."""
        xp, missing = backend.namespace(values), self.dimension - values.shape[0]
        like = {"dtype": values.dtype, "device": backend.device(values)}
        return xp.sort(xp.concat([values, xp.zeros(missing, **like)]), descending=True)


def certified_spectrum(A: Array) -> tuple[Array, float]:
    """Return the eigenvalues of a symmetric matrix, descending, and their radius.

    Parameters
    ----------
    A : Array, shape (n, n)
        Its lower triangle is used.

    Returns
    -------
    values : Array, shape (n,)
        Descending.
    radius : float
        A posteriori, from the residual of the eigenvectors.

    Notes
    -----
    Theory: theory/kronecker.md#K2.

    Examples
    --------
    >>> import numpy as np
    >>> values, radius = certified_spectrum(np.diag([1.0, 3.0]))
    >>> values.tolist(), radius < 1e-13
    ([3.0, 1.0], True)
    """
    xp = backend.namespace(A)
    symmetric = xp.tril(A) + xp.matrix_transpose(xp.tril(A, k=-1))
    values, Q = xp.linalg.eigh(symmetric)
    return xp.flip(values), rounding.residual_radius(symmetric, Q, values)


def _dense(left: Array, right: Array) -> Array:
    xp, b, a = backend.namespace(left, right), left.shape[0], right.shape[0]
    product = left[:, None, :, None] * right[None, :, None, :]
    return xp.reshape(product, (b * a, b * a))


def _root_gram(coefficients: Array, roots: tuple[tuple[Array, Array], ...]) -> Array:
    """XX' of the rows X_c = sqrt(coefficient_c) L_c (x) R_c, block by block."""
    xp = backend.namespace(coefficients)
    c, rows = xp.sqrt(coefficients), []
    for i, (L, R) in enumerate(roots):
        row = []
        for j, (M, S) in enumerate(roots):
            left = c[i] * c[j] * (L @ xp.matrix_transpose(M))
            right = R @ xp.matrix_transpose(S)
            product = left[:, None, :, None] * right[None, :, None, :]
            side = (L.shape[0] * R.shape[0], M.shape[0] * S.shape[0])
            row.append(xp.reshape(product, side))
        rows.append(xp.concat(row, axis=1))
    return xp.concat(rows)


def _trace(x: Array) -> float:
    return backend.scalar(backend.namespace(x).linalg.trace(x))


def _traces(stack: Array) -> np.ndarray:
    return backend.to_host(backend.namespace(stack).linalg.trace(stack))


def _norms(stack: Array) -> np.ndarray:
    xp = backend.namespace(stack)
    return backend.to_host(xp.linalg.matrix_norm(stack))
