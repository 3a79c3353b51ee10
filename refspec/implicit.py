"""The Hessian of any network, known through its products: both ends of its spectrum.

A symmetric H is never formed unless it is small. Shifted by a bound on its norm it is
positive semidefinite, H + s and s - H, and the largest eigenvalues of these are its own
largest and smallest. As with rows by differentiation nothing bounds a framework's
rounding a priori; it is *measured*, by how far H is from symmetric on random probes and
from itself in another precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from refspec import backend, checks, krylov, rounding
from refspec.backend import Array, Namespace
from refspec.differentiated import gap_radius, probes, product_beside
from refspec.results import Result, View

#: V (P, m) to H V.
Product = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class HessianOperator:
    """A symmetric matrix H of P x P, by its products.

    Parameters
    ----------
    product : callable
        V (P, m) to H V.
    like : Array
        An array of the namespace, dtype and device of every result.
    size : int
        P.
    lost : float
        How far H as computed can be from the exact one, as measured.
    blocks, left_out : tuple of (str, int)
        The parameters, as in `refspec.differentiated.NetworkMoment`.

    Notes
    -----
    Theory: theory/hessian.md#H11. `operator` makes one and measures it;
    ``refspec.torch.hessian`` and ``jax.hessian`` make those of a network.
    """

    product: Product
    like: Array
    size: int
    lost: float = 0.0
    blocks: tuple[tuple[str, int], ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()

    def __repr__(self) -> str:
        """Say the size and what is known of the error."""
        return f"HessianOperator(P={self.size}, products within {self.lost:.2g})"

    @property
    def xp(self) -> Namespace:
        """The array namespace."""
        return backend.namespace(self.like)

    @property
    def shape(self) -> tuple[int, int]:
        """P x P."""
        return self.size, self.size

    def dot(self, V: Array) -> Array:
        """Return H V, shape (P, m)."""
        checks.expect_array("V", V, "(P, m)", sizes={"P": self.size})
        checks.expect_alike(V=V, hessian=self.like)
        return self.product(V)

    @cached_property
    def norm(self) -> float:
        """A bound on ||H||, but for a chance of `rounding.FAILURE`."""
        found = krylov.leading(
            lambda V: self.product(self.product(V)), self.like, self.size, 1
        )
        return math.sqrt(max(0.0, float(found.values[0])) + found.radius) + self.lost

    def matrix(self) -> Array:
        """Return H, shape (P, P), symmetric to the bit. Cost P products."""
        xp, every = self.xp, self.xp.arange(self.size, device=backend.device(self.like))
        step = min(self.size, backend.at_a_time(8 * self.size, self.like))
        parts = []
        for j in range(0, self.size, step):
            unit = every[:, None] == every[j : min(j + step, self.size)]
            parts.append(self.product(xp.astype(unit, self.like.dtype)))
        H = backend.concatenate(parts, axis=1)
        return (H + xp.matrix_transpose(H)) / 2

    def ends(self, k: int) -> Ends:
        """Return the k largest and the k smallest eigenvalues.

        Parameters
        ----------
        k : int
            At least 1, 2 k <= P.

        Returns
        -------
        Ends
            With eigenvectors and a radius for every eigenvalue by its rank.

        Raises
        ------
        ValueError, TypeError
            If k is no such number.

        Notes
        -----
        Theory: theory/hessian.md#H11; theory/spectra.md#S3. Cost of a few k products,
        memory of a few k vectors.
        """
        P, xp = self.size, self.xp
        if not 1 <= checks.expect_size("k", k) <= P // 2:
            raise ValueError(
                f"k must lie in 1..P/2 = 1..{P // 2}, got {k}; a matrix this small has "
                "all its eigenvalues from hessian.matrix()"
            )
        s = self.norm
        found = []
        forming = self.lost + 4 * rounding.unit_roundoff(self.like) * s
        for sign in (1, -1):

            def shifted(V: Array, sign: int = sign) -> Array:
                return s * V + sign * self.product(V)

            found.append(krylov.leading(shifted, self.like, P, k, forming))
        top, bottom = found
        values = np.concatenate([top.values - s, (s - bottom.values)[::-1]])
        vectors = xp.concat([top.vectors, xp.flip(bottom.vectors, axis=1)], axis=1)
        radius = max(top.radius, bottom.radius) + self.lost
        return Ends(values, vectors, radius, "measured, with the measured residual")


@dataclass(frozen=True, slots=True, eq=False)
class Ends(Result):
    """The k largest and the k smallest eigenvalues, descending, with eigenvectors.

    Parameters
    ----------
    values : ndarray, shape (2 k,)
        Those of ranks 1 to k, then P - k + 1 to P.
    vectors : Array, shape (P, 2 k)
        Columns; orthonormal within each end.
    radius : float
        Every value is within this of the eigenvalue of its rank.
    kind : str
        How the radius is known.
    """

    values: np.ndarray
    vectors: Array
    radius: float
    kind: str

    def __repr__(self) -> str:
        """Say the largest and the smallest values."""
        ends = [f"{x:.6g}" for x in self.values[[0, -1]]]
        told = f"{' to '.join(ends)} +- {self.radius:.2g} ({self.kind})"
        return f"Ends({told}, {len(self.values)} of P={self.vectors.shape[0]})"

    def view(self) -> View:
        """Give the eigenvalues by rank."""
        k, P = len(self.values) // 2, self.vectors.shape[0]
        rank = [*range(1, k + 1), *range(P - k + 1, P + 1)]
        facts = {"radius": self.radius, "kind": self.kind}
        return View("rank", rank, {"value": self.values}, facts=facts)


def operator(
    product: Product,
    like: Array,
    size: int,
    *,
    other: tuple[Product, Array] | None = None,
    blocks: Sequence[tuple[str, int]] = (),
    left_out: Sequence[tuple[str, int]] = (),
    seed: int = 0,
) -> HessianOperator:
    """Return a symmetric matrix that is known by its products, its error measured.

    Parameters
    ----------
    product : callable
        V (P, m) to H V.
    like : Array
        An array of the namespace, dtype and device of every result.
    size : int
        P.
    other : callable and Array, optional
        The same product in another precision, and an array of it.
    blocks, left_out : sequence of (str, int)
        See `HessianOperator`.
    seed : int
        Of the probes.

    Returns
    -------
    HessianOperator

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If H is not symmetric.

    Notes
    -----
    Theory: theory/hessian.md#H11; theory/rounding.md#B6. Cost: 24 products.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.diag([3.0, -1.0, 0.0, 0.0])
    >>> H = operator(lambda V: A @ V, A, 4)
    >>> [float(x.round(9)) for x in H.ends(1).values]
    [3.0, -1.0]
    """
    if not callable(product):
        raise TypeError(
            f"product must be callable, V (P, m) to H V, got {type(product).__name__}; "
            "give a function"
        )
    P = checks.expect_size("size", size, least=1)
    checks.expect_some_array("like", like)
    V, Z = probes(seed, P), probes(seed + 1, P)
    HV, HZ = (product_beside(product, x, like) for x in (V, Z))
    lost = gap_radius(Z.T @ HV - HZ.T @ V, HV, rounding.unit_roundoff(like), "H and H'")
    if other is not None:
        apart = float(np.linalg.norm(HV - product_beside(other[0], V, other[1])))
        apart = rounding.probed_frobenius(apart * apart, V.shape[1])
        ratio = rounding.unit_roundoff(like) / rounding.unit_roundoff(other[1])
        lost += apart * min(1.0, ratio)
    return HessianOperator(product, like, P, lost, tuple(blocks), tuple(left_out))
