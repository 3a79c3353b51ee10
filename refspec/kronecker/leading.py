"""The largest eigenvalues of a positive semidefinite operator known by its products.

Small matrices are solved whole, large ones by `refspec.krylov`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refspec import backend, krylov
from refspec.curvature import SecondMoment
from refspec.kronecker.eigensystems import certified_eigensystem
from refspec.kronecker.operators import LayerOperator

_DENSE = 1200  # side of a matrix that LAPACK solves in about a second


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

    product: (P, m) to the same, A times columns; like (P,): of the size and dtype of a
    vector; matrix: A dense, on request.
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
    Theory: theory/kronecker_spectra.md#K15. Cost some 10 k products and P k^2.
    """
    product, like, P = at.product, at.like, len(at.like)
    if not 1 <= k <= P:
        raise ValueError(f"k must lie in 1..P = 1..{P}, got {k}; ask for fewer")
    if dense >= P or 3 * (2 * k + 8) >= P:
        A = at.matrix()
        xp = backend.namespace(A)
        values, vectors, radius = certified_eigensystem(A, xp)
        return Leading(values[:k], vectors[:, :k], radius, "a posteriori")
    found = krylov.leading(product, like, P, k)
    kind = "measured residual and probes"
    return Leading(found.values, found.vectors, found.radius, kind)
