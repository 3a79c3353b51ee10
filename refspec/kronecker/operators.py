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
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg

from refspec import backend, checks
from refspec.backend import Array, Namespace


class LayerOperator(ABC):
    """What every operator of this package can do: symmetric, on vectors of length P."""

    __slots__ = ()

    @property
    @abstractmethod
    def like(self) -> Array:
        """An array of the namespace, device and dtype its vectors must have."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length P of the vectors it acts on."""

    @property
    def xp(self) -> Namespace:
        """The array namespace of its factors."""
        return backend.namespace(self.like)

    @abstractmethod
    def matvec(self, v: Array) -> Array:
        """Return the product with a vector (P,) or columns (P, m)."""

    def matmat(self, V: Array) -> Array:
        """Return the product with columns (P, m)."""
        return self.matvec(V)

    @abstractmethod
    def matrix(self) -> Array:
        """Return the dense matrix, shape (P, P)."""

    @abstractmethod
    def trace(self) -> float:
        """Return the sum of the eigenvalues."""

    @abstractmethod
    def frobenius_norm(self) -> float:
        """Return the root of the sum of squared eigenvalues."""

    @abstractmethod
    def eigenvalues(self) -> Array:
        """Return all eigenvalues, descending."""

    @abstractmethod
    def certified_eigenvalues(self) -> tuple[Array, float]:
        """Return all eigenvalues and a radius that holds the exact ones."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockDiagonal(LayerOperator):
    """Operators on consecutive blocks of one vector: the layers of a network.

    Curvature between layers is dropped, not approximated.

    Parameters
    ----------
    blocks : sequence of `Kronecker`, `KroneckerSum` or `KroneckerBasis`
        In the order of the vector; of one namespace and dtype.

    Raises
    ------
    ValueError, TypeError
        If there is no block, one is no operator, or dtypes or namespaces differ.

    Notes
    -----
    Theory: theory/kronecker.md#K1.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec.kronecker import Kronecker
    >>> A = Kronecker(np.eye(1), np.eye(2))
    >>> BlockDiagonal((A, A)).trace()
    4.0
    """

    blocks: tuple[LayerOperator, ...]

    def __post_init__(self) -> None:
        checks.expect_type("blocks", self.blocks, (tuple, list), "put them in a tuple")
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not self.blocks:
            raise ValueError(
                "blocks must hold at least one operator, got none; add one"
            )
        for k, block in enumerate(self.blocks):
            expect_operator(f"block {k} of blocks", block)
        alike = {f"block {k} of blocks": x.like for k, x in enumerate(self.blocks)}
        checks.expect_alike(**alike)

    def __repr__(self) -> str:
        """Say how many blocks and their kinds."""
        kinds = Counter(type(x).__name__ for x in self.blocks)
        told = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        return f"BlockDiagonal({told}; P={self.dimension})"

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
        expect_vector(v, self.like, self.dimension)
        parts, start = [], 0
        for block in self.blocks:
            stop = start + block.dimension
            parts.append(block.matvec(v[start:stop, ...]))
            start = stop
        return backend.concatenate(parts)

    def matrix(self) -> Array:
        """Return the dense matrix, shape (P, P)."""
        xp, rows, start = self.xp, [], 0
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
        return self.xp.sort(values, descending=True)

    def certified_eigenvalues(self) -> tuple[Array, float]:
        """Return the eigenvalues of all blocks and the largest radius of a block."""
        found = [block.certified_eigenvalues() for block in self.blocks]
        values = backend.concatenate(values for values, _ in found)
        return self.xp.sort(values, descending=True), max(radius for _, radius in found)


def linear_operator(operator: LayerOperator) -> scipy.sparse.linalg.LinearOperator:
    """View an operator as a symmetric SciPy LinearOperator (P, P), on the host.

    Factors may be of any namespace; vectors are moved to it and back.
    """
    expect_operator("operator", operator)
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
    """Reorder row-major vectors (ab,) or (ab, m) of (b, a) matrices column by column.

    From ``ravel(V)``, the order of refspec, to ``ravel(V')``, the ``vec`` of the
    papers: features (x) errors. Theory: theory/kronecker.md#K1.
    """
    b, a = (checks.expect_size(k, n, least=1) for k, n in (("b", b), ("a", a)))
    xp = backend.namespace(v)
    _expect_length(v, a * b, f"ab = {a * b}")
    V = xp.permute_dims(xp.reshape(v, (b, a, -1)), (1, 0, 2))
    return xp.reshape(V, v.shape)


def row_major(v: Array, b: int, a: int) -> Array:
    """Undo `column_stacked`. Theory: theory/kronecker.md#K1."""
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


def expect_vector(v: Array, like: Array, P: int) -> Namespace:
    """Refuse all but finite vectors of an operator; return the namespace of both."""
    xp = backend.namespace(v, like)
    _expect_length(v, P, f"P = ab = {P}")
    checks.expect_array("vector", v, "(P,)" if len(v.shape) == 1 else "(P, m)")
    return xp


def expect_factors(left: Array, right: Array, *, symmetric: bool = True) -> None:
    """Refuse all but two finite square factors of one dtype, symmetric to the bit."""
    checks.expect_array("left", left, "(b, b)", symmetric=symmetric)
    checks.expect_array("right", right, "(a, a)", symmetric=symmetric)
    checks.expect_alike(left=left, right=right)
    for name, x in (("left", left), ("right", right)):
        if x.shape[0] < 1:
            raise ValueError(
                f"{name} must have at least one row, got shape {tuple(x.shape)}; "
                "left is the factor of the errors, right of the features"
            )


def expect_operator(name: str, x: object) -> None:
    """Refuse what is no operator of this package."""
    if isinstance(x, type) or not isinstance(x, LayerOperator):
        raise TypeError(
            f"{name} must be a Kronecker, KroneckerSum, KroneckerBasis or "
            f"BlockDiagonal, got {type(x).__name__}; make one of its factors"
        )


def _expect_length(v: Array, P: int, letters: str) -> None:
    """Refuse all but a vector or columns of length P."""
    if len(v.shape) not in (1, 2) or v.shape[0] != P:
        raise ValueError(
            f"vector must have shape (P,) or (P, m) with {letters}, got "
            f"{tuple(v.shape)}; ravel the (b, a) weight row by row"
        )
