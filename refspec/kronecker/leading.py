"""The largest eigenvalues of a positive semidefinite operator known by its products.

Small matrices are solved whole. Large ones by Lanczos, and then two things are
measured: the residual of the eigenvectors found, and, by random probes, how large an
eigenvalue can be that was not found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg

from refspec import backend, rounding
from refspec.curvature import SecondMoment
from refspec.kronecker.eigensystems import certified_eigensystem
from refspec.kronecker.operators import LayerOperator

_DENSE = 1200  # side of a matrix that LAPACK solves in about a second
_PROBES, _POWERS = 24, 64


@dataclass(frozen=True, slots=True, eq=False)
class Leading:
    """The largest eigenvalues with their eigenvectors, on the host.

    values (k,), descending; vectors (P, k), orthonormal columns; radius: every value is
    within it of the operator's of the same rank; kind: a posteriori, or with `FAILURE`.
    """

    values: np.ndarray
    vectors: np.ndarray
    radius: float
    kind: str


@dataclass(frozen=True, slots=True, eq=False)
class OnHost:
    """A symmetric operator A seen from the host.

    product: (P,) or (P, m) to the same, A times a vector or columns; like (P,): of the
    size and dtype of a vector; matrix: A dense, on request.
    """

    product: Callable[[np.ndarray], np.ndarray]
    like: np.ndarray
    matrix: Callable[[], np.ndarray]

    @staticmethod
    def of(operator: LayerOperator | SecondMoment) -> OnHost:
        """Look at an operator of any namespace."""
        if isinstance(operator, SecondMoment):
            like, P = operator.weights, operator.shape[1]
        else:
            like, P = operator.like, operator.dimension
        zero = np.zeros(P, dtype=backend.to_host(like).dtype)

        def product(V: np.ndarray) -> np.ndarray:
            V = np.ascontiguousarray(V.astype(zero.dtype, copy=False))
            return backend.to_host(operator.matvec(backend.from_host(V, like)))

        return OnHost(product, zero, lambda: backend.to_host(operator.matrix()))


def leading(at: OnHost, k: int, *, dense: int = _DENSE) -> Leading:
    """Return the k largest eigenvalues of a positive semidefinite operator.

    Solved whole where P <= dense; the rounding of the products is not in the radius.
    Theory: theory/kronecker.md#K15. Cost some 10 k products and P k^2.
    """
    product, like, P = at.product, at.like, len(at.like)
    if not 1 <= k <= P:
        raise ValueError(f"k must lie in 1..P = 1..{P}, got {k}; ask for fewer")
    m = 2 * k + 8
    if dense >= P or 3 * m >= P:
        A = at.matrix()
        xp = backend.namespace(A)
        values, vectors, radius = certified_eigensystem(A, xp)
        return Leading(values[:k], vectors[:, :k], radius, "a posteriori")
    rng = np.random.default_rng(0)
    V = _subspace(product, like, m, rng)
    image = product(V)
    small = V.T @ image
    theta, Q = np.linalg.eigh((small + small.T) / 2)
    theta, Q = theta[::-1], Q[:, ::-1]
    V, image = V @ Q, image @ Q
    residual = float(np.linalg.norm(image - V * theta))
    probes = np.asarray(rng.standard_normal((P, _PROBES)), dtype=like.dtype)
    rest = _norm_beyond(product, V, probes, float(theta[k - 1]))
    u = rounding.unit_roundoff(like)
    away = float(np.linalg.norm(V.T @ V - np.eye(m))) + m * rounding.gamma(P + 1, u)
    size = float(theta[0]) + residual + rest
    radius = residual + max(0.0, rest - float(theta[k - 1])) + 6 * away * size
    return Leading(theta[:k], V[:, :k], radius, "measured residual and probes")


def _subspace(
    product: Callable[[np.ndarray], np.ndarray],
    like: np.ndarray,
    m: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return orthonormal columns (P, m) near the top eigenvectors, by Lanczos.

    Where it breaks down, as at the zero matrix, the range of A on random vectors.
    """
    P = len(like)
    operator = scipy.sparse.linalg.LinearOperator(
        (P, P), matvec=product, matmat=product, dtype=like.dtype
    )
    start = np.asarray(rng.standard_normal(P), dtype=like.dtype)
    try:
        _, V = scipy.sparse.linalg.eigsh(operator, m, which="LA", v0=start)
    except scipy.sparse.linalg.ArpackError:
        V = product(np.asarray(rng.standard_normal((P, m)), dtype=like.dtype))
    return np.linalg.qr(V)[0]


def _norm_beyond(
    product: Callable[[np.ndarray], np.ndarray],
    V: np.ndarray,
    z: np.ndarray,
    enough: float,
) -> float:
    """Bound the norm of B = (I - VV')A(I - VV') from B^q z, until it is small enough.

    ||B||^q = ||B^q||, and the probes fail for all q together: they are about the top
    eigenvector. Theory: theory/rounding.md#B4.
    """
    factor, logs, bound = rounding.probed_norm(1.0, z.shape[1]), 0.0, np.inf
    for q in range(1, _POWERS + 1):
        z = product(z - V @ (V.T @ z))
        z = z - V @ (V.T @ z)
        size = float(np.linalg.norm(z))
        if size == 0:
            return 0.0
        z, logs = z / size, logs + np.log(size)
        bound = min(bound, float(np.exp((logs + np.log(factor)) / q)))
        if bound <= enough:
            break
    return bound
