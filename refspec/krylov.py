r"""The top of a positive semidefinite operator A, known by its products only.

Block Lanczos: the space of Z, AZ, A^2 Z, ... for a random block Z, on whose orthonormal
basis V the operator is the small matrix V'AV. Every new vector is orthogonalised twice
against all before it, so that no eigenvalue is found twice. Two things are measured
afterwards: the residual of the eigenvectors found, and how large an eigenvalue can be
that was not found, from a second space of what they leave.

Of A seen through several projections that each take out a part of one small space, the
cells, one Krylov space is enough, if the cells are in it (`together`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize

from refspec import backend, costs, rounding
from refspec.backend import Array
from refspec.costs import Cost
from refspec.rounding.bounds import rare_chi_squared
from refspec.spaces import Space

#: Columns (n, m) to A times them.
Product = Callable[[Array], Array]

_BLOCK = 8  # columns a product: enough for GEMM, few enough for a high degree
_WIDEST = 32  # where many are sought, which take as many columns either way
_PROBES = 2  # columns of the space that looks for what is missing, of a block of 8
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

    def ritz(self, k: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return Ritz values (descending), vectors in the basis, residual norms.

        Of the k largest, or of all.
        """
        values, S = (np.flip(x, axis=-1) for x in _largest(self.small, k))
        return values, S, np.linalg.norm(self.last @ S[-len(self.last) :], axis=0)

    def through(self, gone: np.ndarray) -> Krylov:
        """Return the same of PAP, P without the space of the first columns times gone.

        gone (b, b), a projection in the first b coordinates.
        Theory: theory/spectra.md#S6.
        """
        small, b = self.small.copy(), len(gone)
        small[:b] -= gone @ small[:b]
        small[:, :b] -= small[:, :b] @ gone
        return Krylov(self.basis, small, self.last)


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
    product: Product,
    like: Array,
    n: int | Space,
    k: int,
    forming: float = 0.0,
    seed: int = 0,
) -> Leading:
    """Return the k largest eigenvalues of A = A' >= 0, n x n, or on a space.

    `forming` bounds ||fl(A v) - A v|| for unit v: a residual that it hides is small
    enough. Theory: theory/spectra.md#S3; theory/kronecker_spectra.md#K15.
    """
    space = n if isinstance(n, Space) else Space.alone(n)
    n, rng = space.n, space.group.random(seed)
    more, b = _sought(n, k), min(n, width(k))
    while True:
        start = space.gaussian(rng, b, like)
        spaces = {"": (start[:, :0], np.zeros((0, 0)))}
        theta, V = _converged(product, start, space, more, spaces, forming, rng)[""]
        found, missed = _known(product, theta, V, k, b, forming, rng, space)
        if not missed or b >= more:
            return found
        b = min(2 * b, n)  # an eigenvalue of a higher multiplicity than the block has


def vectors(k: int, block: int) -> int:
    """Return how many vectors a Krylov space of a block takes for the k largest.

    As counted on networks as initialised, whose spectra decay slowly.
    """
    return 5 * k + 14 * block


def width(k: int) -> int:
    """Return how many columns the block for the k largest has."""
    return max(_BLOCK, min(_WIDEST, k // 8))


def together(
    product: Product,
    cells: Array,
    space: Space,
    k: int,
    seen: Mapping[str, tuple[Product, np.ndarray]],
    forming: float = 0.0,
    seed: int = 0,
) -> dict[str, Leading]:
    """Return the k largest eigenvalues of PAP, P = I - QDQ' for several D (q, q).

    cells: Q (n, q), orthonormal columns or zero ones; seen: by name products with PAP,
    whose error `forming` bounds too, and D. Theory: theory/spectra.md#S3, #S6.
    """
    n, rng, q = space.n, space.group.random(seed), cells.shape[1]
    if q >= n:  # no random vector has a place beside them
        each = {x: one for x, (one, _) in seen.items()}
        return {x: leading(each[x], cells, space, k, forming, seed) for x in each}
    more, xp = _sought(n, k), backend.namespace(cells)
    random = space.gaussian(rng, min(_BLOCK, n - q), cells)
    start = xp.concat([cells, random], axis=1)
    b = start.shape[1]
    spaces = {name: (cells, D) for name, (_, D) in seen.items()}
    made, found = _converged(product, start, space, more, spaces, forming, rng), {}
    for name, (one, _) in seen.items():
        theta, V = made.pop(name)
        found[name], missed = _known(one, theta, V, k, b, forming, rng, space)
        if missed:  # of a higher multiplicity than the block has
            found[name] = leading(one, cells, space, k, forming, seed)
    return found


def _sought(n: int, k: int) -> int:
    """Return how many to look for: a gap to what is not found, or a narrower one."""
    return min(n, k + max(4, k // 4))


def _known(
    product: Product,
    theta: np.ndarray,
    V: Array,
    k: int,
    b: int,
    forming: float,
    rng: np.random.Generator,
    space: Space,
) -> tuple[Leading, bool]:
    """Return the first k with their radius, and whether a larger one was missed."""
    more, missed = len(theta), False
    away = product(V) - V * backend.beside(theta, V)
    residual = space.length(away)
    residual += math.sqrt(more) * forming
    skew = _skew(V, space)
    slack = residual + 6 * skew * (float(theta[0]) + residual)
    if more < space.n:
        least = float(theta[k - 1])
        slightly = forming + 2 * skew * least
        columns = max(_PROBES, min(width(k), b) * _PROBES // _BLOCK)
        seen, rest = norm_beyond(product, V, least, slightly, rng, space, columns)
        missed = seen > least + slack
        slack += max(0.0, rest - least)
    return Leading(theta[:k], V[:, :k], slack), missed


def _converged(
    product: Product,
    start: Array,
    space: Space,
    k: int,
    seen: Mapping[str, tuple[Array, np.ndarray]],
    forming: float,
    rng: np.random.Generator,
) -> dict[str, tuple[np.ndarray, Array]]:
    """Return k Ritz values and vectors of each, whose residual rounding would hide.

    seen: cells Q, and D with P = I - QDQ', by name.
    """
    check, n, u, b = k, space.n, rounding.unit_roundoff(start), start.shape[1]
    gone: dict[str, np.ndarray] = {}
    made: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for found in lanczos(product, start, rng, space, vectors(k, b)):
        size = len(found.small)
        if size < check:
            continue
        if not gone:  # Q in the first coordinates, where all of it lies
            for name, (Q, D) in seen.items():
                W = backend.to_host(space.inner(found.basis[:, :b], Q))
                gone[name] = W @ D @ W.T
        for name in [n for n in gone if n not in made]:
            values, S, away = found.through(gone[name]).ritz(k)
            hidden = max(forming, rounding.gamma(n, u) * float(values[0]))
            if size < n and np.linalg.norm(away) > hidden:
                break
            made[name] = values, S
        if len(made) == len(gone):
            break
        check = min(n, size + size // 8 + 1)
    return {
        name: (values, found.basis[:, : len(S)] @ backend.beside(S, start))
        for name, (values, S) in made.items()
    }


def _largest(A: np.ndarray, k: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest eigenvalues of A, ascending, and vectors; or all of them."""
    n = len(A)
    if k is not None and 2 * k <= n:
        some = {"subset_by_index": [n - k, n - 1], "check_finite": False}
        values, S = scipy.linalg.eigh(A, **some)
        if len(values) == k:  # LAPACK's syevr may lose some of a cluster
            return values, S
    values, S = np.linalg.eigh(A)
    return values[n - (k or n) :], S[:, n - (k or n) :]


def norm_beyond(
    product: Product,
    V: Array,
    enough: float,
    slack: float,
    rng: np.random.Generator,
    space: Space | None = None,
    columns: int = _PROBES,
) -> tuple[float, float]:
    """Return the largest Ritz value of B = (I - VV')A(I - VV'), and a bound on ||B||.

    Until the bound is at most `enough`, or the value above it; `slack` bounds the error
    of a product. Theory: theory/spectra.md#S3.
    """
    space = Space.alone(V.shape[0]) if space is None else space
    n = space.n

    def deflated(x: Array) -> Array:
        return space.without(product(space.without(x, V)), V)

    Z = space.gaussian(rng, min(columns, n), V)
    squares = float(np.linalg.norm(backend.to_host(space.inner(Z, Z)), 2))
    top, bound = 0.0, math.inf
    for step, found in enumerate(lanczos(deflated, Z, rng, space), start=1):
        top = max(0.0, float(found.ritz(1)[0][0]))
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
    product: Product,
    start: Array,
    rng: np.random.Generator,
    space: Space | None = None,
    room: int = 0,
) -> Iterator[Krylov]:
    """Yield the Krylov space of a block (n, b), step by step, until it is everything.

    Where products bring nothing new, random vectors go on in their place. `room` is
    made for so many vectors, and for a fourth more where they are not enough.
    """
    space = Space.alone(start.shape[0]) if space is None else space
    n, b = space.n, start.shape[1]
    V, m, small = _widened(start[:, :0], min(n, room)), 0, np.zeros((0, 0))
    Q, _ = _orthonormal(start, start[:, :0], rng, space)
    while m < n:
        if V.shape[1] < m + b:
            V = _widened(V, max(m + b, min(n, m + m // 4)))
        V[:, m : m + b] = Q
        known = V[:, : m + b]
        W = product(Q)
        inside = space.inner(known, W)
        grown = np.zeros((m + b, m + b))
        grown[:m, :m] = small
        grown[:, m:] = backend.to_host(inside)
        grown[m:, :m] = grown[:m, m:].T
        grown[m:, m:] = (grown[m:, m:] + grown[m:, m:].T) / 2
        small, m = grown, m + b
        Q, last = _orthonormal(W, known, rng, space, inside)
        costs.done(Cost(4.0 * n * (m + b) * b))
        yield Krylov(known, small, last)
        b = min(b, n - m)
        Q = Q[:, :b]


def _widened(V: Array, columns: int) -> Array:
    """Return the same vectors with room for others, where only that is held twice."""
    xp, (n, m) = backend.namespace(V), V.shape
    wide = xp.zeros((n, columns), dtype=V.dtype, device=backend.device(V))
    wide[:, :m] = V
    return wide


def _orthonormal(
    W: Array,
    V: Array,
    rng: np.random.Generator,
    space: Space,
    inside: Array | None = None,
) -> tuple[Array, np.ndarray]:
    """Return Q, orthonormal and orthogonal to V, and R: W = Q R and what V spans.

    inside: V'W, if it is known. Directions in which rounding alone is left become
    random ones, with rows R of 0.
    """
    xp, n, b = backend.namespace(W), space.n, W.shape[1]
    size = space.length(W)
    if V.shape[1] == n:
        return W, np.zeros((b, b))
    once = space.without(W, V) if inside is None else W - V @ inside
    Q, R = space.qr(space.without(once, V))
    left, s, right = np.linalg.svd(backend.to_host(R).astype(np.float64))
    Q, R = Q @ backend.beside(left, W), s[:, None] * right
    known = int(np.sum(s > rounding.gamma(n, rounding.unit_roundoff(W)) * size))
    R[known:] = 0
    if known < b:
        Q = xp.concat([Q[:, :known], space.gaussian(rng, b - known, W)], axis=1)
        Q, again = space.qr(space.without(Q, V))
        R = backend.to_host(again).astype(np.float64) @ R
    elif n * s[-1] >= size:  # no more is left of V than an inner product rounds
        return Q, R
    Q, last = space.qr(space.without(Q, V))  # once more: W was short
    return Q, backend.to_host(last).astype(np.float64) @ R


def _skew(V: Array, space: Space) -> float:
    """Bound ||V'V - I||, its rounding included."""
    xp, k = backend.namespace(V), V.shape[1]
    one = xp.eye(k, dtype=V.dtype, device=backend.device(V))
    measured = backend.scalar(xp.linalg.vector_norm(space.inner(V, V) - one))
    return float(measured + k * rounding.gamma(space.n + 1, rounding.unit_roundoff(V)))
