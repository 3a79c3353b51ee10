r"""The top of a positive semidefinite operator A, known by its products only.

Block Lanczos: the space of Z, AZ, A^2 Z, ... for a random block Z, on whose orthonormal
basis V the operator is the small matrix V'AV. Every new vector is orthogonalised twice
against all before it, so that no eigenvalue is found twice. Two things are measured
afterwards: the residual of the eigenvectors found, and how large an eigenvalue can be
that was not found, from a second space of what they leave.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.optimize

from refspec import backend, costs, rounding
from refspec.backend import Array, Namespace
from refspec.costs import Cost
from refspec.rounding.bounds import rare_chi_squared

#: Columns (n, m) to A times them.
Product = Callable[[Array], Array]

_BLOCK = 8  # columns a product: enough for GEMM, few enough for a high degree
_PROBES = 2  # columns of the space that looks for what is missing
_FURTHER = 256  # its steps, at most: radius below 1 % of a norm that is not smaller


@dataclass(frozen=True, slots=True, eq=False)
class Krylov:
    """An orthonormal basis V of a Krylov space and the operator on it.

    basis (n, m); small (m, m) = V'AV, on the host; last (b, b): the part of A times the
    last b vectors of V that lies outside, in an orthonormal basis of its own.
    """

    basis: Array
    small: np.ndarray
    last: np.ndarray

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return Ritz values (descending), vectors in the basis, residual norms."""
        values, S = (np.flip(x, axis=-1) for x in np.linalg.eigh(self.small))
        return values, S, np.linalg.norm(self.last @ S[-len(self.last) :], axis=0)


@dataclass(frozen=True, slots=True, eq=False)
class Leading:
    """The k largest eigenvalues of an operator, with eigenvectors.

    values (k,), descending, on the host; vectors (n, k), orthonormal columns; radius:
    every value is within it of the operator's eigenvalue of the same rank, the rounding
    of the products and a failure probability `rounding.FAILURE` included.
    """

    values: np.ndarray
    vectors: Array
    radius: float


def leading(
    product: Product, like: Array, n: int, k: int, forming: float = 0.0, seed: int = 0
) -> Leading:
    """Return the k largest eigenvalues of A = A' >= 0, n x n.

    `forming` bounds ||fl(A v) - A v|| for unit v: a residual that it hides is small
    enough. Theory: theory/spectra.md#S3; theory/kronecker_spectra.md#K15.
    """
    xp, rng = backend.namespace(like), np.random.default_rng(seed)
    more = min(n, k + max(4, k // 4))  # a gap to what is not found, or a narrower one
    b = min(_BLOCK, n)
    while True:
        theta, V = _converged(product, like, n, more, b, forming, rng, xp)
        away = product(V) - V * backend.beside(theta, like)
        residual = backend.scalar(xp.linalg.vector_norm(away))
        residual += math.sqrt(more) * forming
        skew = _skew(V, xp)
        slack = residual + 6 * skew * (float(theta[0]) + residual)
        if more == n:
            break
        least = float(theta[k - 1])
        seen, rest = norm_beyond(product, V, least, forming + 2 * skew * least, rng)
        if seen <= least + slack or b >= more:
            slack += max(0.0, rest - least)
            break
        b = min(2 * b, n)  # an eigenvalue of a higher multiplicity than the block has
    return Leading(theta[:k], V[:, :k], slack)


def _converged(
    product: Product,
    like: Array,
    n: int,
    k: int,
    b: int,
    forming: float,
    rng: np.random.Generator,
    xp: Namespace,
) -> tuple[np.ndarray, Array]:
    """Return k Ritz values and vectors whose residual rounding would hide."""
    check, u = k, rounding.unit_roundoff(like)
    for found in lanczos(product, _gaussian(rng, n, b, like), rng, xp):
        size = len(found.small)
        if size < check:
            continue
        values, S, away = found.ritz()
        hidden = max(forming, rounding.gamma(n, u) * float(values[0]))
        if size == n or np.linalg.norm(away[:k]) <= hidden:
            break
        check = min(n, size + size // 8 + 1)
    return values[:k], found.basis @ backend.beside(S[:, :k], like)


def norm_beyond(
    product: Product, V: Array, enough: float, slack: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the largest Ritz value of B = (I - VV')A(I - VV'), and a bound on ||B||.

    Until the bound is at most `enough`, or the value above it; `slack` bounds the error
    of a product. Theory: theory/spectra.md#S3.
    """
    xp, n = backend.namespace(V), V.shape[0]

    def deflated(x: Array) -> Array:
        return _outside(product(_outside(x, V, xp)), V, xp)

    Z = _gaussian(rng, n, min(_PROBES, n), V)
    squares = float(np.linalg.norm(backend.to_host(xp.matrix_transpose(Z) @ Z), 2))
    top, bound = 0.0, math.inf
    for step, found in enumerate(lanczos(deflated, Z, rng, xp), start=1):
        top = max(0.0, float(found.ritz()[0][0]))
        if len(found.small) == n:  # the space is everything
            return top, min(bound, top + slack)
        bound = min(bound, krylov_bound(top + slack, step, squares, Z.shape[1]))
        if bound <= enough or step == _FURTHER:
            break
    return top, bound


def krylov_bound(top: float, steps: int, squares: float, columns: int) -> float:
    """Bound ||B||, B >= 0: no Ritz value on the space of Z, BZ, ... is above `top`.

    squares = ||Z||^2, Z of so many independent standard Gaussian columns; it fails with
    probability `rounding.FAILURE`. Theory: theory/spectra.md#S3.
    """
    # the largest eps with eps T(1 + 2 eps)^2 <= ||Z||^2 / chi, T the Chebyshev
    # polynomial of degree steps - 1, T(1 + 2 eps) = cosh(2 (steps - 1) asinh(sqrt eps))
    most = math.log(squares) - math.log(rare_chi_squared(columns))

    def excess(log_eps: float) -> float:
        angle = 2 * (steps - 1) * math.asinh(math.exp(log_eps / 2))
        return log_eps + 2 * float(np.logaddexp(angle, -angle) - math.log(2)) - most

    root = scipy.optimize.brentq(excess, most - 4096, most + 1)
    return top * (1 + math.exp(root) * (1 + 2.0**-30))  # the root itself is rounded


def lanczos(
    product: Product, start: Array, rng: np.random.Generator, xp: Namespace
) -> Iterator[Krylov]:
    """Yield the Krylov space of a block (n, b), step by step, until it is everything.

    Where products bring nothing new, random vectors go on in their place.
    """
    n, b = start.shape
    V, m, small = start[:, :0], 0, np.zeros((0, 0))
    Q, _ = _orthonormal(start, V, rng, xp)
    while m < n:
        if V.shape[1] < m + b:  # room for as many again
            room = xp.zeros_like(xp.concat([Q, V], axis=1))
            V = xp.concat([V, room], axis=1)
        V[:, m : m + b] = Q
        known = V[:, : m + b]
        W = product(Q)
        inside = xp.matrix_transpose(known) @ W
        grown = np.zeros((m + b, m + b))
        grown[:m, :m] = small
        grown[:, m:] = backend.to_host(inside)
        grown[m:, :m] = grown[:m, m:].T
        grown[m:, m:] = (grown[m:, m:] + grown[m:, m:].T) / 2
        small, m = grown, m + b
        Q, last = _orthonormal(W, known, rng, xp)
        costs.done(Cost(9.0 * n * (m + b) * b))
        yield Krylov(known, small, last)
        b = min(b, n - m)
        Q = Q[:, :b]


def _orthonormal(
    W: Array, V: Array, rng: np.random.Generator, xp: Namespace
) -> tuple[Array, np.ndarray]:
    """Return Q, orthonormal and orthogonal to V, and R: W = Q R and what V spans.

    Directions in which rounding alone is left become random ones, with rows R of 0.
    """
    n, b = W.shape
    size = backend.scalar(xp.linalg.vector_norm(W))
    if V.shape[1] == n:
        return W, np.zeros((b, b))
    Q, R = xp.linalg.qr(_outside(_outside(W, V, xp), V, xp))
    left, s, right = np.linalg.svd(backend.to_host(R).astype(np.float64))
    Q, R = Q @ backend.beside(left, W), s[:, None] * right
    known = int(np.sum(s > rounding.gamma(n, rounding.unit_roundoff(W)) * size))
    R[known:] = 0
    if known < b:
        Q = xp.concat([Q[:, :known], _gaussian(rng, n, b - known, W)], axis=1)
    Q, again = xp.linalg.qr(_outside(Q, V, xp))  # once more: W may have been short
    Q, last = xp.linalg.qr(_outside(Q, V, xp))
    return Q, backend.to_host(last @ again).astype(np.float64) @ R


def _outside(x: Array, V: Array, xp: Namespace) -> Array:
    """Return x without what lies in the span of V."""
    return x - V @ (xp.matrix_transpose(V) @ x)


def _skew(V: Array, xp: Namespace) -> float:
    """Bound ||V'V - I||, its rounding included."""
    n, k = V.shape
    off = xp.matrix_transpose(V) @ V - xp.eye(
        k, dtype=V.dtype, device=backend.device(V)
    )
    measured = backend.scalar(xp.linalg.vector_norm(off))
    return float(measured + k * rounding.gamma(n + 1, rounding.unit_roundoff(V)))


def _gaussian(rng: np.random.Generator, n: int, b: int, like: Array) -> Array:
    """Return standard normal numbers (n, b) beside `like`."""
    return backend.beside(rng.standard_normal((n, b)), like)
