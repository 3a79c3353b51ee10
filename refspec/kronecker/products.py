"""Kronecker operators: a single product and a sum of products.

The order is errors (x) features on row-major vectors, stated once in
`refspec.kronecker.operators`. All factors are symmetric; nothing of size (ab, ab) is
formed unless `matrix` is called, or `eigenvalues` of a sum, which needs it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from refspec import backend, checks, rounding
from refspec.backend import Array, Namespace
from refspec.factors import lengths
from refspec.kronecker import operators
from refspec.kronecker.eigensystems import (
    certified_eigensystem,
    rescaled,
    times_power,
    unit_scaled,
)


@dataclass(frozen=True, slots=True, eq=False)
class Kronecker(operators.LayerOperator):
    """The symmetric operator ``left (x) right`` on row-major vectors of (b, a).

    Parameters
    ----------
    left, right : Array, shapes (b, b) and (a, a), symmetric to the bit
        The factors of the errors and of the features.

    Raises
    ------
    ValueError, TypeError
        If a factor is not square, symmetric, real and finite, or dtypes or namespaces
        differ.

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
        operators.expect_factors(self.left, self.right)

    def __repr__(self) -> str:
        """Say the sizes, not the entries."""
        b, a = self.left.shape[0], self.right.shape[0]
        return f"Kronecker(b={b}, a={a}, {self.like.dtype})"

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
        xp = operators.expect_vector(v, self.left, self.dimension)
        b, a = self.left.shape[0], self.right.shape[0]
        V = self.left @ operators.matrices(v, b, a, xp)
        V = V @ xp.matrix_transpose(self.right)
        return operators.vectors(V, tuple(v.shape), xp)

    def trace(self) -> float:
        """Return tr(left) tr(right)."""
        xp = self.xp
        traces = (backend.scalar(xp.linalg.trace(x)) for x in (self.left, self.right))
        return math.prod(traces)

    def frobenius_norm(self) -> float:
        """Return ||left||_F ||right||_F."""
        sides = (lengths(x, (0, 1)) for x in (self.left, self.right))
        return math.prod(map(backend.scalar, sides))

    def eigenvalues(self) -> Array:
        """Return the ab products of eigenvalues, descending."""
        xp = self.xp
        mu, nu = backend.eigh(self.left, xp)[0], backend.eigh(self.right, xp)[0]
        return xp.sort(xp.reshape(mu[:, None] * nu[None, :], (-1,)), descending=True)

    def certified_eigenvalues(self) -> tuple[Array, float]:
        """Return the eigenvalues and a radius that holds the exact ones.

        Theory: theory/kronecker.md#K2.
        """
        xp, u = self.xp, rounding.unit_roundoff(self.left)
        (L, e), (R, f) = (unit_scaled(x, xp) for x in (self.left, self.right))
        (mu, _, one), (nu, _, two) = (certified_eigensystem(x, xp) for x in (L, R))
        top, other = (backend.scalar(xp.max(xp.abs(x))) for x in (mu, nu))
        radius = top * two + other * one + one * two + u * top * other
        values = xp.sort(xp.reshape(mu[:, None] * nu[None, :], (-1,)), descending=True)
        return rescaled(values, radius * (1 + rounding.gamma(8, u)), e + f, xp)

    def column_stacked(self) -> Kronecker:
        """Return ``right (x) left``: the same operator on column-stacked vectors."""
        return Kronecker(self.right, self.left)

    def matrix(self) -> Array:
        """Return the dense matrix, shape (ab, ab)."""
        return _dense(self.left, self.right, self.xp)


@dataclass(frozen=True, slots=True, eq=False)
class KroneckerSum(operators.LayerOperator):
    """The symmetric operator ``sum_c coefficients[c] lefts[c] (x) rights[c]``.

    Parameters
    ----------
    coefficients : Array, shape (m,), any sign
    lefts, rights : Array, shapes (m, b, b) and (m, a, a), symmetric to the bit
        Factors of the errors and of the features.
    roots : tuple of pairs of Arrays, optional
        ``(L_c, R_c)`` with ``lefts[c] = L_c' L_c`` and ``rights[c] = R_c' R_c``, L_c
        (r_c, b), R_c (s_c, a). With coefficients >= 0 they give the spectrum from a
        Gram matrix of side sum_c r_c s_c where that is less than ab.

    Raises
    ------
    ValueError, TypeError
        As `Kronecker`, or if roots come with a negative coefficient.

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
        xp = checks.expect_array("coefficients", self.coefficients, "(m,)")
        parts = {"lefts": self.lefts, "rights": self.rights}
        sizes = {"m": self.coefficients.shape[0]}
        for name, letter in (("lefts", "b"), ("rights", "a")):
            shape = f"(m, {letter}, {letter})"
            checks.expect_array(name, parts[name], shape, sizes=sizes, symmetric=True)
        checks.expect_alike(coefficients=self.coefficients, **parts)
        if self.roots is not None:
            _expect_roots(self.coefficients, self.lefts, self.rights, self.roots, xp)

    def __repr__(self) -> str:
        """Say the sizes, not the entries."""
        (m, b, _), a = self.lefts.shape, self.rights.shape[1]
        return f"KroneckerSum(m={m}, b={b}, a={a}, {self.like.dtype})"

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
        xp = operators.expect_vector(v, self.lefts, self.dimension)
        b, a = self.lefts.shape[1], self.rights.shape[1]
        m, C = math.prod(v.shape[1:]), self.coefficients.shape[0]
        V = xp.reshape(operators.matrices(v, b, a, xp), (m * b, a))
        # Two GEMMs for all C terms, however many there are. With R and L symmetric,
        # (V_k R_c)' = R_c V_k' for every k and c comes from the stacked R_c; laying the
        # terms side by side, (C b) long, the second product is the sum over c as well.
        right = xp.reshape(self.rights, (C * a, a)) @ xp.matrix_transpose(V)
        right = xp.permute_dims(xp.reshape(right, (C, a, m, b)), (2, 1, 0, 3))
        left = self.coefficients[:, None, None] * self.lefts
        out = xp.reshape(right, (m * a, C * b)) @ xp.reshape(left, (C * b, b))
        out = xp.matrix_transpose(xp.reshape(out, (m, a, b)))
        return operators.vectors(out, tuple(v.shape), xp)

    def trace(self) -> float:
        """Return sum_c coefficient_c tr(left_c) tr(right_c)."""
        xp, c = self.xp, backend.to_host(self.coefficients)
        return float(np.sum(c * _traces(self.lefts, xp) * _traces(self.rights, xp)))

    def frobenius_norm(self) -> float:
        """Return the norm from m^2 inner products: <A, B>_F factorises."""
        xp, c = self.xp, backend.to_host(self.coefficients)
        grams, power = [], 0
        for stack in (self.lefts, self.rights):
            x, e = unit_scaled(stack, xp)  # squares would underflow
            flat = xp.reshape(x, (x.shape[0], math.prod(x.shape[1:])))
            grams.append(backend.to_host(flat @ xp.matrix_transpose(flat)))
            power += e
        square = max(float(c @ (grams[0] * grams[1]) @ c), 0.0)
        return float(times_power(np.float64(math.sqrt(square)), power))

    def eigenvalues(self) -> Array:
        """Return the ab eigenvalues, descending, from the smaller of Gram and dense."""
        xp = self.xp
        return self._padded(backend.eigh(self._smaller(xp), xp)[0], xp)

    def certified_eigenvalues(self) -> tuple[Array, float]:
        """Return the eigenvalues and a radius that holds the exact ones.

        Theory: theory/kronecker.md#K3.
        """
        xp = self.xp
        at, e = self._unit_scaled(xp)
        values, _, radius = certified_eigensystem(at._smaller(xp), xp)
        c = np.abs(backend.to_host(at.coefficients))
        if at._has_small_roots():  # K3 (ii): the Gram matrix of the roots
            k = sum(x.shape[1] for x in (at.lefts, at.rights)) + len(c) + 4
            k += max(L.shape[0] + R.shape[0] for L, R in at.roots or ())
            sizes = (_traces(x, xp) for x in (at.lefts, at.rights))
        else:  # K3 (i): the dense sum
            k = len(c) + 2
            sizes = (_norms(x, xp) for x in (at.lefts, at.rights))
        size = float(np.sum(c * math.prod(sizes)))
        g = rounding.gamma(k, rounding.unit_roundoff(at.lefts))
        return rescaled(at._padded(values, xp), radius + g * size * (1 + g), e, xp)

    def column_stacked(self) -> KroneckerSum:
        """Return the same operator on column-stacked vectors: factors swapped."""
        roots = self.roots and tuple((right, left) for left, right in self.roots)
        return KroneckerSum(self.coefficients, self.rights, self.lefts, roots)

    def matrix(self) -> Array:
        """Return the dense matrix, shape (ab, ab)."""
        n, xp, like = self.dimension, self.xp, self.lefts
        total = xp.zeros((n, n), dtype=like.dtype, device=backend.device(like))
        for c in range(self.coefficients.shape[0]):
            left = self.coefficients[c] * self.lefts[c, :, :]
            total = total + _dense(left, self.rights[c, :, :], xp)
        return total

    def _unit_scaled(self, xp: Namespace) -> tuple[KroneckerSum, int]:
        """Return A 2**-e and e, every array near 1: exact, and its squares are too."""
        arrays = (self.coefficients, self.lefts, self.rights)
        powers = [unit_scaled(x, xp)[1] for x in arrays]
        c, e, f = (k + k % 2 for k in powers)  # even: a root takes half of it
        roots = self.roots and tuple(
            (times_power(L, -e // 2), times_power(R, -f // 2)) for L, R in self.roots
        )
        coefficients = times_power(self.coefficients, -c)
        lefts, rights = times_power(self.lefts, -e), times_power(self.rights, -f)
        return KroneckerSum(coefficients, lefts, rights, roots), c + e + f

    def _has_small_roots(self) -> bool:
        side = sum(L.shape[0] * R.shape[0] for L, R in self.roots or ())
        return bool(self.roots) and side < self.dimension

    def _smaller(self, xp: Namespace) -> Array:
        """Form the matrix of the non-zero eigenvalues on the smaller side."""
        if self.roots and self._has_small_roots():
            return _root_gram(self.coefficients, self.roots, xp)
        return self.matrix()

    def _padded(self, values: Array, xp: Namespace) -> Array:
        """All ab eigenvalues, descending: zeros beside those of a Gram matrix."""
        missing = self.dimension - values.shape[0]
        like = {"dtype": values.dtype, "device": backend.device(values)}
        return xp.sort(xp.concat([values, xp.zeros(missing, **like)]), descending=True)


def _expect_roots(
    coefficients: Array,
    lefts: Array,
    rights: Array,
    roots: tuple[tuple[Array, Array], ...],
    xp: Namespace,
) -> None:
    """Refuse all but m pairs of roots of non-negative terms."""
    m = coefficients.shape[0]
    low = backend.scalar(xp.min(coefficients)) if m else 0.0
    if len(roots) != m or low < 0:
        raise ValueError(
            f"roots must be m = {m} pairs with coefficients >= 0, got "
            f"{len(roots)} pairs and a smallest coefficient {low:.3g}; "
            "leave roots out"
        )
    for c, (L, R) in enumerate(roots):
        sizes = {"b": lefts.shape[1], "a": rights.shape[1]}
        checks.expect_array(f"left root {c} of roots", L, "(r, b)", sizes=sizes)
        checks.expect_array(f"right root {c} of roots", R, "(s, a)", sizes=sizes)


def _dense(left: Array, right: Array, xp: Namespace) -> Array:
    """Return left (x) right, shape (ba, ba)."""
    side = left.shape[0] * right.shape[0]
    return xp.reshape(left[:, None, :, None] * right[None, :, None, :], (side, side))


def _root_gram(
    coefficients: Array, roots: tuple[tuple[Array, Array], ...], xp: Namespace
) -> Array:
    """XX' of the rows X_c = sqrt(coefficient_c) L_c (x) R_c, block by block."""
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


def _traces(stack: Array, xp: Namespace) -> np.ndarray:
    """Return the trace of every matrix on the host."""
    return backend.to_host(xp.linalg.trace(stack))


def _norms(stack: Array, xp: Namespace) -> np.ndarray:
    """Return the Frobenius norm of every matrix on the host."""
    return backend.to_host(xp.linalg.matrix_norm(stack))
