"""Vectors of a layer's weights, and what can be done with any operator on them.

The order is stated once. A layer's weight is a matrix V (b, a), its vector the
row-major ``ravel(V)``, and an operator is **errors (x) features**: ``left`` is the
(b, b) factor of the errors, ``right`` the (a, a) factor of the features, so that

    (left (x) right) ravel(V) = ravel(left V right')

The papers and several libraries stack columns instead, which gives features (x)
errors: `column_stacked` and `row_major` convert vectors, the method `column_stacked`
of an operator converts the operator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse.linalg

from refspec import backend
from refspec.backend import Array, Namespace

__all__ = [
    "BlockDiagonal",
    "column_stacked",
    "expect_square",
    "expect_vector",
    "linear_operator",
    "matrices",
    "row_major",
    "vectors",
]


@dataclass(frozen=True, slots=True, eq=False)
class BlockDiagonal:
    """Operators on consecutive blocks of one vector: the layers of a network.

    Parameters
    ----------
    blocks : tuple
        `Kronecker`, `KroneckerSum` or `KroneckerBasis`, in the order of the vector.

    Raises
    ------
    ValueError
        If there is no block.

    Notes
    -----
    Theory: theory/kronecker.md#K1. Curvature between layers is dropped, not
    approximated.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec.kronecker import Kronecker
    >>> A = Kronecker(np.eye(1), np.eye(2))
    >>> BlockDiagonal((A, A)).trace()
    4.0
    """

    blocks: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError(
                "blocks must hold at least one operator, got none; add one"
            )

    @property
    def like(self) -> Array:
        """An array of the namespace, device and dtype its vectors must have."""
        return self.blocks[0].like

    @property
    def dimension(self) -> int:
        """Length of the vectors it acts on."""
        return sum(int(block.dimension) for block in self.blocks)

    def matvec(self, v: Array) -> Array:
        """Return the product with a vector (P,) or columns (P, m)."""
        parts, start = [], 0
        for block in self.blocks:
            stop = start + block.dimension
            parts.append(block.matvec(v[start:stop, ...]))
            start = stop
        return backend.concatenate(parts)

    matmat = matvec

    def matrix(self) -> Array:
        """Return the dense matrix, shape (P, P)."""
        xp, rows, start = backend.namespace(self.like), [], 0
        for block in self.blocks:
            own = block.matrix()
            kind = {"dtype": own.dtype, "device": backend.device(own)}
            before = xp.zeros((own.shape[0], start), **kind)
            start += own.shape[0]
            after = xp.zeros((own.shape[0], self.dimension - start), **kind)
            rows.append(xp.concat([before, own, after], axis=1))
        return backend.concatenate(rows)

    def trace(self) -> float:
        """Return the sum of the traces."""
        return math.fsum(block.trace() for block in self.blocks)

    def frobenius_norm(self) -> float:
        """Return the root of the sum of squared norms."""
        return math.hypot(*(x.frobenius_norm() for x in self.blocks))

    def eigenvalues(self) -> Array:
        """Return all eigenvalues of all blocks, descending."""
        values = backend.concatenate(block.eigenvalues() for block in self.blocks)
        return backend.namespace(values).sort(values, descending=True)

    def certified_eigenvalues(self) -> tuple[Array, float]:
        """Return the eigenvalues of all blocks and the largest radius of a block."""
        found = [block.certified_eigenvalues() for block in self.blocks]
        values = backend.concatenate(values for values, _ in found)
        xp = backend.namespace(values)
        return xp.sort(values, descending=True), max(radius for _, radius in found)


def linear_operator(operator: Any) -> scipy.sparse.linalg.LinearOperator:
    """View an operator of this module as a SciPy LinearOperator, on the host.

    Parameters
    ----------
    operator : Kronecker, KroneckerSum, KroneckerBasis or BlockDiagonal
        Factors of any namespace; vectors are moved to it and back.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        Shape (P, P), symmetric.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec.kronecker import Kronecker
    >>> A = linear_operator(Kronecker(np.eye(2), 2 * np.eye(3)))
    >>> A.shape, (A @ np.ones(6)).tolist()
    ((6, 6), [2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    """
    like = operator.like
    dtype = backend.to_host(like).dtype

    def matvec(v: np.ndarray) -> np.ndarray:
        v = np.asarray(v, dtype=dtype)
        return backend.to_host(operator.matvec(backend.from_host(v, like)))

    return scipy.sparse.linalg.LinearOperator(
        shape=(operator.dimension, operator.dimension),
        matvec=matvec,
        matmat=matvec,
        rmatvec=matvec,
        rmatmat=matvec,
        dtype=dtype,
    )


def column_stacked(v: Array, b: int, a: int) -> Array:
    """Reorder row-major vectors of (b, a) matrices to column-stacked ones.

    Parameters
    ----------
    v : Array, shape (ab,) or (ab, m)
        ``ravel(V)`` of V (b, a), the order of refspec.
    b, a : int
        Outputs and inputs of the layer.

    Returns
    -------
    Array
        ``ravel(V')``, the ``vec`` of the papers: features (x) errors.

    Notes
    -----
    Theory: theory/kronecker.md#K1.

    Examples
    --------
    >>> import numpy as np
    >>> column_stacked(np.arange(6), 2, 3).tolist()
    [0, 3, 1, 4, 2, 5]
    """
    xp = backend.namespace(v)
    V = xp.permute_dims(xp.reshape(v, (b, a, -1)), (1, 0, 2))
    return xp.reshape(V, v.shape)


def row_major(v: Array, b: int, a: int) -> Array:
    """Undo `column_stacked`: (ab,) or (ab, m) from features (x) errors order.

    Examples
    --------
    >>> import numpy as np
    >>> row_major(column_stacked(np.arange(6), 2, 3), 2, 3).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    return column_stacked(v, a, b)


def matrices(v: Array, b: int, a: int, xp: Namespace) -> Array:
    """Reshape a vector to (b, a), m columns to (m, b, a)."""
    if len(v.shape) == 1:
        return xp.reshape(v, (b, a))
    return xp.reshape(xp.matrix_transpose(v), (v.shape[1], b, a))


def vectors(V: Array, shape: tuple[int, ...], xp: Namespace) -> Array:
    """Undo `matrices`: vectors of the given shape."""
    if len(shape) == 1:
        return xp.reshape(V, shape)
    return xp.matrix_transpose(xp.reshape(V, (shape[1], shape[0])))


def expect_vector(v: Array, left: Array, right: Array) -> tuple[Namespace, int, int]:
    """Check a vector against the factors; return its namespace, b and a."""
    xp, b, a = backend.namespace(v, left, right), left.shape[-1], right.shape[-1]
    if len(v.shape) not in (1, 2) or v.shape[0] != a * b:
        raise ValueError(
            f"vector must have shape (ab,) or (ab, m) with a = {a}, b = {b}, got "
            f"{tuple(v.shape)}; ravel the (b, a) weight row by row"
        )
    return xp, int(b), int(a)


def expect_square(left: Array, right: Array) -> None:
    """Check that the two factors of a product are square."""
    backend.namespace(left, right)
    for name, x, d in (("left", left, "b"), ("right", right, "a")):
        if len(x.shape) != 2 or x.shape[0] != x.shape[1]:
            raise ValueError(
                f"{name} must have shape ({d}, {d}), got {tuple(x.shape)}; left is the "
                "factor of the errors, right of the features"
            )
