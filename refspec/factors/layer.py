"""The rows of one layer, sums of errors (x) features: what they are, their scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from refspec import backend
from refspec.backend import Array, Namespace

#: The power of two of what is 0: it is 0 in every format.
NEVER = -(2**20)
#: How much longer small products take, those of a pair of samples, than large ones.
SMALL = 1.5
_LONG = 2**16  # entries of a row from which on multiplying it out is what costs


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """The rows of one layer: ``sum_t roots[i, k, t] (x) features[i, t]``.

    Parameters
    ----------
    roots : Array, shape (N, K, T, b)
        ``sqrt(w)`` times the errors, or the weighted vectors themselves.
    features : Array, shape (N, T, a), or None
        None if the rows are the roots alone, raveled.
    """

    roots: Array
    features: Array | None

    def __repr__(self) -> str:
        """Say the sizes, not the entries."""
        N, K, T, b = self.roots.shape
        a = None if self.features is None else self.features.shape[2]
        return f"Factor(N={N}, K={K}, T={T}, b={b}, a={a})"

    @property
    def dimension(self) -> int:
        """Length of a row."""
        _, _, T, b = self.roots.shape
        return int(T * b if self.features is None else b * self.features.shape[2])

    @property
    def is_product(self) -> bool:
        """Whether every row is one Kronecker product: a Khatri-Rao factor."""
        return self.features is not None and self.roots.shape[2] == 1

    @property
    def is_sum(self) -> bool:
        """Whether a row is a sum over positions, in which terms may cancel."""
        return self.features is not None and self.roots.shape[2] > 1

    @property
    def by_pairs(self) -> bool:
        """Whether inner products of rows are cheaper from all pairs of positions."""
        if self.features is None or not self.is_sum or self.dimension < _LONG:
            return False
        (_, K, T, b), a = self.roots.shape, self.features.shape[2]
        pairs = T * T * a / K**2 + T * T * b / K + T * b
        return bool(SMALL * pairs < a * b)

    @property
    def is_summed(self) -> bool:
        """Whether inner products of rows are of sums that are formed."""
        return self.is_sum and not self.by_pairs

    def some(self, samples: slice, classes: slice) -> Array:
        """Return the roots of some samples and cross classes, (n, k, T, b)."""
        return self.roots[samples, classes, ...]

    def explicit(self) -> Factor:
        """Return the same rows, multiplied out."""
        N, K = self.roots.shape[:2]
        xp = backend.namespace(self.roots)
        return Factor(xp.reshape(self.rows(), (N, K, 1, self.dimension)), None)

    def rows(self) -> Array:
        """Return all rows, multiplied out, shape (N K, P)."""
        xp, (N, K, T, b) = backend.namespace(self.roots), self.roots.shape
        if self.features is None:
            return xp.reshape(self.roots, (N * K, T * b))
        left = xp.reshape(xp.matrix_transpose(self.roots), (N, K * b, T))
        return xp.reshape(left @ self.features, (N * K, self.dimension))

    def chunks(self) -> Iterator[Array]:
        """Yield all rows, multiplied out, some samples at a time, shape (m K, P)."""
        N, K = self.roots.shape[:2]
        step = backend.at_a_time(8 * K * self.dimension, self.roots)
        for i in range(0, N, step):
            yield self.part(i, min(i + step, N)).rows()

    def part(self, i: int, j: int) -> Factor:
        """Return the rows of samples i to j."""
        h = None if self.features is None else self.features[i:j, ...]
        return Factor(self.roots[i:j, ...], h)


def weighted(errors: Array, features: Array, weights: Sequence[Array]) -> Factor:
    """Return the rows of a layer, weights s (N,) and p (N, C): sqrt(s p) its errors.

    Weighing must not lose errors so small that only huge features make them count: in
    such a sample the size of the features moves to the errors first.
    """
    xp = backend.namespace(errors)
    info = xp.finfo(errors.dtype)
    s, p = (xp.sqrt(w) for w in weights)  # the product s p could underflow
    roots = errors * (s[:, None] * p)[:, :, None, None]
    some = xp.max(xp.abs(errors), axis=(1, 2, 3)) > 0
    least = float(info.smallest_normal) / float(info.eps)
    small = some & (xp.max(xp.abs(roots), axis=(1, 2, 3)) < least)
    if not bool(xp.any(small)):
        return Factor(roots, features)
    size = np.frexp(backend.to_host(xp.max(xp.abs(features), axis=(1, 2))))[1]
    power = np.where(backend.to_host(small), np.maximum(size, 0), 0)
    half = power // 2  # in two steps, so that neither over- nor underflows
    roots = errors * (_ldexp(s, half)[:, None] * p)[:, :, None, None]
    roots = _ldexp(roots, (power - half)[:, None, None, None])
    return Factor(roots, _ldexp(features, -power[:, None, None]))


def lengths(x: Array, axis: int | tuple[int, ...]) -> Array:
    """Return Euclidean lengths without under- or overflow of the squares."""
    xp = backend.namespace(x)
    size = xp.max(xp.abs(x), axis=axis, keepdims=True)
    size = xp.where(size > 0, size, xp.ones_like(size))
    unit = x / size
    length = xp.sqrt(xp.sum(unit * unit, axis=axis))
    return length * xp.squeeze(size, axis=axis)


def norm(x: Array, xp: Namespace) -> float:
    """Return the length of all entries together."""
    return backend.scalar(lengths(xp.reshape(x, (-1,)), 0))


def balanced(f: Factor, xp: Namespace) -> tuple[Factor, np.ndarray, int]:
    """Scale every sample's features to a largest entry in [.5, 1).

    Returned with the powers (N,) that its roots are owed, and that of the largest row.
    """
    N, zero = f.roots.shape[0], np.zeros(f.roots.shape[0], dtype=np.int64)
    h, up = f.features, zero
    roots = backend.to_host(xp.max(xp.abs(f.roots), axis=(1, 2, 3)))
    if h is not None:
        largest = backend.to_host(xp.max(xp.abs(h), axis=(1, 2)))
        power = np.where(largest > 0, np.frexp(largest)[1], 0)
        h = _ldexp(h, -power[:, None, None])
        up = np.where((largest > 0) & (roots > 0), power, NEVER)
    sizes = np.where(roots > 0, np.frexp(roots)[1] + up, NEVER)
    return Factor(f.roots, h), up, int(sizes.max()) if N else 0


def lifted(f: Factor, up: np.ndarray) -> Factor:
    """Multiply the roots of sample i by 2^up_i."""
    return replace(f, roots=_ldexp(f.roots, up[:, None, None, None]))


def times(f: Factor, power: int) -> Factor:
    """Return the rows of one layer times 2^power: a copy of its smaller factor."""
    h = f.features
    if h is None or math.prod(f.roots.shape) < math.prod(h.shape):
        return replace(f, roots=_ldexp(f.roots, np.asarray(power)))
    return replace(f, features=_ldexp(h, np.asarray(power)))


def _ldexp(x: Array, power: np.ndarray) -> Array:
    """Return x 2^power, in two steps: the power itself may be out of range."""
    one = np.ones((), dtype=backend.to_host(x[:0, ...]).dtype)
    for k in (power // 2, power - power // 2):
        x = x * backend.from_host(np.asarray(np.ldexp(one, k)), x)
    return x
