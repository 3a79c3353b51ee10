"""Rows known through small factors: layer by layer errors (x) features, never formed.

A row of one layer is a sum over positions of Kronecker products, errors (x) features;
a row of X is the concatenation over layers. Products with X and X', rows of the Gram
matrix (Hadamard products: Khatri-Rao) and blocks of X'X (packed symmetric products,
contracted over samples) all come from the factors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from refspec import backend, costs, rounding
from refspec.backend import Array, Namespace
from refspec.costs import Cost
from refspec.rows import Rows, Work, fewer
from refspec.sums import squared_sums

_NEVER = -(2**20)  # a power of two that is 0 in every format
_LONG = 2**16  # entries of a row from which on multiplying it out is what costs
_SMALL = 1.5  # times as long as large products take those of a pair of samples
_TALL = 32  # rows from which on a product with few columns is fast
_ROWS = 256  # rows that are multiplied out together, at least
_WIDE = 2**11  # columns that are, at least


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
        return bool(_SMALL * pairs < a * b)

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
        return Factor(xp.reshape(_explicit(self, xp), (N, K, 1, self.dimension)), None)

    def part(self, i: int, j: int) -> Factor:
        """Return the rows of samples i to j."""
        h = None if self.features is None else self.features[i:j, ...]
        return Factor(self.roots[i:j, ...], h)


@dataclass(frozen=True, slots=True, eq=False)
class Factors(Rows):
    """Rows that are the concatenation of a factor a layer.

    Parameters
    ----------
    layers : tuple of Factor
        All of N samples and K cross classes.
    lost : float or None
        The error made in forming the rows, if they were computed from other factors,
        whose terms may have cancelled.
    how : str
        How that error is known.

    Notes
    -----
    Theory: theory/curvature.md#C1, #C2.
    """

    layers: tuple[Factor, ...]
    lost: float | None = None
    how: str = "a priori"

    def __repr__(self) -> str:
        """Say the sizes, not the entries."""
        N, K, P = self.shape
        return f"Factors({len(self.layers)} layers, N={N}, K={K}, P={P})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """N samples, K cross classes, P columns."""
        N, K = self.layers[0].roots.shape[:2]
        return int(N), int(K), sum(f.dimension for f in self.layers)

    @property
    def like(self) -> Array:
        """An array of the namespace, dtype and device of every result."""
        return self.layers[0].roots

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m). Cost O(N K b m + N a b m) a dense layer."""
        xp, start, total = self.xp, 0, None
        for f in self.layers:
            image = _dot(f, V[start : start + f.dimension, :], xp)
            start, total = (
                start + f.dimension,
                image if total is None else total + image,
            )
        return total

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m). Cost as of `dot`."""
        xp = self.xp
        return backend.concatenate(_cross(f, Z, xp) for f in self.layers)

    def part(self, i: int, j: int) -> Factors:
        """Return the rows of samples i to j."""
        return replace(self, layers=tuple(f.part(i, j) for f in self.layers))

    @property
    def combines(self) -> bool:
        """Whether `combined` rows are known: their errors are combined."""
        return True

    def combined(self, Z: Array) -> Factors:
        """Return one row a sample, sum_c' z_c' x_c', shape (N, 1, P), for Z (N, K)."""
        xp, layers = self.xp, []
        for f in self.layers:
            N, K, T, b = f.roots.shape
            some = Z[:, None, :] @ xp.reshape(f.roots, (N, K, T * b))
            layers.append(Factor(xp.reshape(some, (N, 1, T, b)), f.features))
        return Factors(tuple(layers))

    @property
    def roundings(self) -> int:
        """How many roundings an entry of XX' suffers at most, its rows given."""
        return max(_inner_length(f) for f in self.layers) + len(self.layers)

    @property
    def work(self) -> Work:
        """What the rows take, and products with them."""
        (N, K), layers = self.shape[:2], self.layers
        made = [_work(f, N, K) for f in layers]
        second = float(N * K) * self.shape[2] ** 2
        if all(f.is_product for f in layers):  # triangles on the diagonal
            sizes = [float(f.dimension) for f in layers]
            second = N * (sum(sizes) ** 2 / 2 - sum(x * x for x in sizes) / 4)
        return replace(Work.total(made), second=second)

    @property
    def products(self) -> int:
        """How many roundings an entry of X(X'z) suffers at most, its rows given."""
        N, K = self.shape[:2]
        return max(_chain_length(f, N, K) for f in self.layers) + len(self.layers)

    @property
    def known(self) -> str:
        """How the error made in forming the rows is known."""
        return self.how

    def forming(self) -> float:
        """Bound ||fl(X) - X||_F: weighing the errors, and adding up over positions.

        A sum that cancels is as uncertain as its terms are large.
        """
        return self.weighing(rounding.unit_roundoff(self.like))

    def weighing(self, u: float) -> float:
        """Bound the same for rows that were weighed in a format of unit roundoff u."""
        return self._forming(4, u) if self.lost is None else self.lost

    def squares(self) -> Array:
        """Return ||x||^2 of every row, shape (N, K)."""
        xp = self.xp
        parts = [_squares(f, xp) for f in self.layers]
        return sum(parts[1:], parts[0])

    def squared_sums(self, unit: Array, offsets: tuple[int, ...]) -> Array:
        """Return ||sum_i u_{ic'} x_{ic'}||^2 over every class, shape (C, K).

        Theory: theory/curvature.md#C2.
        """
        own = [squared_sums(f.some, f.features, unit, offsets) for f in self.layers]
        return sum(own[1:], own[0])

    def gram(self, index: Array, first: int = 0) -> Array:
        """Return chosen rows of XX', (m, (N - first) K), from sample `first` on.

        Theory: theory/curvature.md#C2.
        """
        xp = self.xp
        total = _gram(self.layers[0], index, first, xp)
        for f in self.layers[1:]:
            total += _gram(f, index, first, xp)  # ours alone: no other array shares it
        return total

    def outer(self, total: Array | None = None) -> Array:
        """Return XX', shape (N K, N K), added to `total` in its place if there is one.

        Of layers whose rows are sums, multiplied out, layer by layer: no row is formed
        twice. Of the others some rows at a time: nothing else as large is made.
        """
        for some in self.by_columns(None, ()):
            first = some.layers[0]
            if first.is_summed:
                total = backend.mirrored(_outer(first, total, self.xp))
            else:
                total = Rows.outer(some, total)
        return total

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, shape (m, P)."""
        xp, K = self.xp, self.shape[1]
        return backend.concatenate(
            (_take(f, index, K, xp) for f in self.layers), axis=1
        )

    def chunks(self) -> Iterator[Array]:
        """Yield all rows explicitly, some samples at a time, shape (m K, P)."""
        xp, (N, K, P) = self.xp, self.shape
        step = backend.at_a_time(8 * K * P, self.like)
        for i in range(0, N, step):
            j = min(i + step, N)
            parts = [_explicit(f.part(i, j), xp) for f in self.layers]
            yield backend.concatenate(parts, axis=1)

    def columns(self) -> Iterator[Array]:
        """Yield X a few columns at a time, layer by layer, shape (N, K, m)."""
        xp = self.xp
        for f in self.layers:
            yield from _columns(f, xp)

    def second(self) -> Array:
        """Return X'X, shape (P, P). Cost N P^2, not N K P^2, for dense layers."""
        if all(f.is_product for f in self.layers):
            return _packed_matrix(self.layers, self.xp)
        return Rows.second(self)

    def times(self, power: int) -> Factors:
        """Return the rows times 2^power, exactly."""
        scaled = tuple(_times(f, power) for f in self.layers)
        lost = None if self.lost is None else self.lost * 2.0**power
        return Factors(scaled, lost, self.how)

    def balanced(self) -> tuple[Factors, int]:
        """Return rows that can be squared without overflow, and the power they lost.

        The size of a sample's features moves to its roots first: roots that are huge
        where features are 0 or tiny would overflow when squared alone.
        """
        if self._moderate():
            return self, 0
        moved = [_balanced(f, self.xp) for f in self.layers]
        power = max(k for _, _, k in moved)
        power = 0 if power <= _NEVER // 2 else power  # every row is 0
        lost = None if self.lost is None else self.lost * 2.0**-power
        layers = tuple(_lifted(f, up - power) for f, up, _ in moved)
        return Factors(layers, lost, self.how), power

    def _moderate(self) -> bool:
        """Whether entries are so far from over- and underflow that squares are safe."""
        xp = self.xp
        most = float(xp.finfo(self.like.dtype).max) ** 0.125
        given = [x for f in self.layers for x in (f.roots, f.features) if x is not None]
        if not max(backend.scalar(xp.max(xp.abs(x))) for x in given) <= most:
            return False
        return any(x >= 1 / most for x in self._traces())  # of one layer is enough

    def _traces(self) -> Iterator[float]:
        """Yield ||.||_F^2 of the layers, those first that cost the least: products."""
        for f in sorted(self.layers, key=lambda f: f.is_sum):
            yield backend.scalar(self.xp.sum(_squares(f, self.xp)))

    def at_least(self) -> float:
        """Return what the trace is no less than: the first layer's that is not 0."""
        return next((x for x in self._traces() if x > 0), 0.0)

    def explicit(self, budget: float) -> Factors:
        """Multiply out layers with positions whose rows together fit in `budget`."""
        out, (N, K, _) = [], self.shape
        for f in self.layers:
            size = N * K * f.dimension * 8
            if f.is_sum and size <= budget:
                budget -= size
                rows = backend.concatenate(Factors((f,)).chunks())
                f = Factor(self.xp.reshape(rows, (N, K, 1, f.dimension)), None)
            out.append(f)
        return Factors(tuple(out), self.forming(), self.how)

    def reduced(self, unit: Array, offsets: tuple[int, ...]) -> Factors:
        """Return C - 1 rows a sample, by C - 1 errors a sample.

        Theory: theory/curvature.md#C5.
        """
        layers = (replace(f, roots=fewer(f.roots, unit, offsets)) for f in self.layers)
        # a reflection mixes the terms of a sample before they are added up
        u = rounding.unit_roundoff(self.like)
        lost = self.forming() + self._forming(2 * self.shape[1] + 8, u)
        return Factors(tuple(layers), lost, self.how)

    def by_columns(
        self, unit: Array | None, offsets: tuple[int, ...]
    ) -> Iterator[Factors]:
        """Yield each layer that `outer` takes by itself, and the others together."""
        sums = [(f,) for f in self.layers if f.is_summed]
        others = tuple(f for f in self.layers if not f.is_summed)
        parts = [others, *sums] if others else sums
        # of an error of all columns as much each, so that all have that error
        lost = None if self.lost is None else self.lost / math.sqrt(len(parts))
        for layers in parts:
            some = Factors(layers, lost, self.how)
            yield some if unit is None else some.reduced(unit, offsets)

    def scores(self, unit: Array, offsets: tuple[int, ...]) -> float:  # noqa: ARG002
        """Return the trace that `reduced` rows leave out, sum_i ||u_i'X_i||^2."""
        return sum(self.combined(unit)._traces())

    def _forming(self, roundings: int, u: float) -> float:
        """Bound the error of sums over positions whose terms were rounded so often."""
        xp, total = self.xp, 0.0
        for f in self.layers:
            terms = roundings + (f.roots.shape[2] if f.is_sum else 0)
            size = _norm(_sizes(f, xp), xp)
            total += (rounding.gamma(terms, u) * size) ** 2
            if f.by_pairs and size > 0:
                # its Gram matrix errs by gamma(k) size^2, not by what the rows do:
                # as much as rows that err by so much, whose length is not more
                k, length = _inner_length(f), _norm(xp.sqrt(_squares(f, xp)), xp)
                more = rounding.gamma(k, u) * size
                total += (more * (size / length if length > more else math.inf)) ** 2
        return math.sqrt(total)


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


def stacked(several: Sequence[Factors]) -> Factors:
    """Return the rows of several, one below the other: the same layers, all samples."""
    if len(several) == 1:
        return several[0]
    layers = []
    for same in zip(*(x.layers for x in several), strict=True):
        roots = backend.concatenate(f.roots for f in same)
        h = None
        if same[0].features is not None:
            h = backend.concatenate(f.features for f in same)
        layers.append(Factor(roots, h))
    return Factors(tuple(layers))


def lengths(x: Array, axis: int | tuple[int, ...]) -> Array:
    """Return Euclidean lengths without under- or overflow of the squares."""
    xp = backend.namespace(x)
    size = xp.max(xp.abs(x), axis=axis, keepdims=True)
    size = xp.where(size > 0, size, xp.ones_like(size))
    unit = x / size
    length = xp.sqrt(xp.sum(unit * unit, axis=axis))
    return length * xp.squeeze(size, axis=axis)


def _norm(x: Array, xp: Namespace) -> float:
    """Return the length of all entries together."""
    return backend.scalar(lengths(xp.reshape(x, (-1,)), 0))


def _inner_length(f: Factor) -> int:
    """Return how many roundings an entry of a layer's Gram suffers at most."""
    _, _, T, b = f.roots.shape
    if f.features is None:
        return int(T * b)
    a = f.features.shape[2]
    return int(b + a if T == 1 else b * T + a + T if f.by_pairs else a * b)


def _work(f: Factor, N: int, K: int) -> Work:
    """Return what the rows of one layer take, and products with them."""
    T, b = f.roots.shape[2:]
    n, size = float(N * K), backend.itemsize(f.roots)
    gram, product, held, formed, sums = (
        n * n * T * b,
        2 * n * T * b,
        n * T * b,
        0.0,
        0.0,
    )
    if f.features is not None:
        a = f.features.shape[2]
        product += 2.0 * N * T * a * b
        held += float(N) * T * a
        if f.by_pairs:
            gram = _SMALL * (float(N * T) ** 2 * (a + K * b) + n * n * T * b)
        elif f.is_sum:
            gram, formed, sums = n * n * a * b, n * T * a * b, n * a * b * size
        else:
            gram += float(N) ** 2 * a
    return Work(gram, product, 0.0, formed, held * size, sums)


def _chain_length(f: Factor, N: int, K: int) -> int:
    """Return how many roundings X(X'z) suffers in one layer: there, and back."""
    _, _, T, b = f.roots.shape
    if f.features is None:
        return int(N * K + T * b)
    return int(K + N * T + f.features.shape[2] + T * b)


def _sizes(f: Factor, xp: Namespace) -> Array:
    """Return sum_t ||errors_t|| ||features_t||, shape (N, K): no row is longer."""
    if f.features is None:
        return lengths(f.roots, (2, 3))
    return xp.sum(lengths(f.roots, 3) * lengths(f.features, 2)[:, None, :], axis=2)


def _squares(f: Factor, xp: Namespace) -> Array:
    """Return ||row||^2 of one layer, shape (N, K)."""
    if not f.is_sum:  # a tiny factor times a huge one: square the product, not each
        return _sizes(f, xp) ** 2 if f.is_product else lengths(f.roots, (2, 3)) ** 2
    if f.by_pairs:
        h = f.features
        inner = h @ xp.matrix_transpose(h)
        outer = f.roots @ xp.matrix_transpose(f.roots)
        return xp.clip(xp.sum(outer * inner[:, None, ...], axis=(2, 3)), min=0.0)
    parts = [lengths(rows, 1) ** 2 for rows in Factors((f,)).chunks()]
    return xp.reshape(backend.concatenate(parts), f.roots.shape[:2])


def _balanced(f: Factor, xp: Namespace) -> tuple[Factor, np.ndarray, int]:
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
        up = np.where((largest > 0) & (roots > 0), power, _NEVER)
    sizes = np.where(roots > 0, np.frexp(roots)[1] + up, _NEVER)
    return Factor(f.roots, h), up, int(sizes.max()) if N else 0


def _lifted(f: Factor, up: np.ndarray) -> Factor:
    """Multiply the roots of sample i by 2^up_i."""
    return replace(f, roots=_ldexp(f.roots, up[:, None, None, None]))


def _times(f: Factor, power: int) -> Factor:
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


def _dot(f: Factor, V: Array, xp: Namespace) -> Array:
    """Return X V for one layer: errors . (V features), shape (N, K, m)."""
    m = V.shape[1]
    N, K, T, b = f.roots.shape
    flat = xp.reshape(f.roots, (N, K, T * b))
    if f.features is None:
        return xp.reshape(xp.reshape(flat, (N * K, T * b)) @ V, (N, K, m))
    a = f.features.shape[2]
    maps = xp.permute_dims(xp.reshape(V, (b, a, m)), (1, 0, 2))
    maps, parts = xp.reshape(maps, (a, b * m)), []
    for i, j in _together(f, m):
        image = xp.reshape(f.features[i:j, ...], ((j - i) * T, a)) @ maps
        parts.append(flat[i:j, ...] @ xp.reshape(image, (j - i, T * b, m)))
    return backend.concatenate(parts)


def _cross(f: Factor, Z: Array, xp: Namespace) -> Array:
    """Return X'Z for one layer: sum_i (Z' errors)_i (x) features_i, shape (P, m)."""
    m = Z.shape[2]
    N, K, T, b = f.roots.shape
    if f.features is None:
        flat = xp.reshape(f.roots, (N * K, T * b))
        return xp.matrix_transpose(flat) @ xp.reshape(Z, (N * K, m))
    a = f.features.shape[2]
    image = None
    for i, j in _together(f, m):
        roots = xp.reshape(f.roots[i:j, ...], (j - i, K, T * b))
        back = xp.matrix_transpose(roots) @ Z[i:j, ...]
        back = xp.matrix_transpose(xp.reshape(back, ((j - i) * T, b * m)))
        part = back @ xp.reshape(f.features[i:j, ...], ((j - i) * T, a))
        image = part if image is None else image + part
    image = xp.permute_dims(xp.reshape(image, (b, m, a)), (0, 2, 1))
    return xp.reshape(image, (b * a, m))


def _together(f: Factor, m: int) -> Iterator[tuple[int, int]]:
    """Yield first and last samples that are multiplied together with m columns.

    All of them without positions; with positions what is between would be T times m
    vectors of length b a sample.
    """
    N, _, T, b = f.roots.shape
    step = backend.at_a_time(8 * T * b * m, f.roots) if f.is_sum else max(N, 1)
    for i in range(0, max(N, 1), step):  # once of a class without a sample
        yield i, min(i + step, N)


def _gram(f: Factor, index: Array, first: int, xp: Namespace) -> Array:
    """Rows of one layer's Gram: (errors . errors) o (features . features)."""
    N, K, T, b = f.roots.shape
    m, n = index.shape[0], N - first
    if f.by_pairs:
        return _gram_by_pairs(f, index, first, xp)
    if f.is_sum:
        return _gram_multiplied_out(f, index, first, xp)
    flat = xp.reshape(f.roots, (N * K, T * b))
    rows = xp.take(flat, index, axis=0)
    outer = rows @ xp.matrix_transpose(flat[first * K :, :])
    if f.features is None:
        return outer
    h = f.features[:, 0, :]
    inner = xp.take(h, index // K, axis=0) @ xp.matrix_transpose(h[first:, :])
    outer = xp.reshape(outer, (m, n, K))
    outer *= inner[:, :, None]
    return xp.reshape(outer, (m, n * K))


def _outer(f: Factor, total: Array | None, xp: Namespace) -> Array:
    """Add one layer's Gram to `total`, rows multiplied out some columns at a time.

    As `backend.add_square` does: not yet mirrored.
    """
    N, K, _, _ = f.roots.shape
    n = N * K
    if total is None:
        kind, device = f.roots.dtype, backend.device(f.roots)
        total = xp.zeros((n, n), dtype=kind, device=device)
    for x in _tiles(f, xp):
        backend.add_square(total, xp.reshape(x, (n, -1)))
    work = _work(f, N, K)
    costs.done(Cost(work.outer + work.formed))
    return total


def _tiles(f: Factor, xp: Namespace) -> Iterator[Array]:
    """Yield columns of one layer that is a sum, some outputs by some features.

    As many of both, so that neither is read much oftener than the other. (N, K, m).
    """
    N, K, T, b = f.roots.shape
    a = f.features.shape[2]  # type: ignore[union-attr]
    side = max(1, math.isqrt(max(_WIDE, backend.at_a_time(8 * N * K, f.roots))))
    wide, high = min(a, side), min(b, -(-side * side // min(a, side)))
    for j in range(0, b, high):
        left = xp.matrix_transpose(f.roots[:, :, :, j : min(j + high, b)])
        left = xp.reshape(left, (N, -1, T))
        for k in range(0, a, wide):
            right = f.features[:, :, k : min(k + wide, a)]  # type: ignore[index]
            yield xp.reshape(left @ right, (N, K, -1))


def _gram_multiplied_out(f: Factor, index: Array, first: int, xp: Namespace) -> Array:
    """Rows of one layer's Gram, rows multiplied out, some at a time on each side."""
    N, K, _, _ = f.roots.shape
    m, rest = index.shape[0], Factors((f.part(first, N),))
    out = xp.empty(
        (m, (N - first) * K), dtype=f.roots.dtype, device=backend.device(index)
    )
    step = max(_ROWS, backend.at_a_time(8 * f.dimension, f.roots))
    for i in range(0, m, step):
        some, j = slice(i, min(i + step, m)), 0
        chosen = _take(f, index[some], K, xp)
        for x in rest.chunks():
            out[some, j : j + x.shape[0]] = chosen @ xp.matrix_transpose(x)
            j += x.shape[0]
    return out


def _gram_by_pairs(f: Factor, index: Array, first: int, xp: Namespace) -> Array:
    """Rows of one layer's Gram: sum_st (errors_s . errors_t)(features_s . features_t).

    T (T a / K^2 + T b / K + b) multiplications an entry: first with the features of
    pairs of samples, then with one's errors, then the other's. A row has a b entries.
    """
    N, K, T, b = f.roots.shape
    h, host, m = f.features, backend.to_host(index), index.shape[0]
    samples, place = np.unique(host // K, return_inverse=True)
    whole = np.array_equal(host, (samples[:, None] * K + np.arange(K)).ravel())
    g = K if whole else 1  # rows that are multiplied together by a pair's features
    at, S = backend.from_host(place[::g], f.roots), len(samples)
    left = xp.take(xp.reshape(f.roots, (N * K, T, b)), index, axis=0)
    left = xp.asarray(xp.matrix_transpose(left), copy=True)  # (m, b, T)
    left = xp.reshape(left, (m // g, g * b, T))
    ours = xp.take(h, backend.from_host(samples, f.roots), axis=0)
    ours = xp.matrix_transpose(xp.reshape(ours, (S * T, -1)))
    kind, device = f.roots.dtype, backend.device(f.roots)
    out = xp.empty((m, N - first, K), dtype=kind, device=device)
    few = max(-(-_TALL // g), backend.cached(8 * g * b * T, f.roots))
    step = backend.at_a_time(8 * S * T * T, f.roots)
    for i in range(first, N, step):
        j = min(i + step, N)
        inner = xp.reshape(h[i:j, ...], ((j - i) * T, -1)) @ ours  # type: ignore[index]
        inner = xp.permute_dims(xp.reshape(inner, (j - i, T, S, T)), (0, 2, 3, 1))
        for k in range(i, j):  # a few rows at a time: they stay in the cache
            back = xp.matrix_transpose(f.roots[k, ...])
            back = xp.matrix_transpose(xp.reshape(back, (K, b * T)))
            for r in range(0, m // g, few):
                some = slice(r, min(r + few, m // g))
                pairs = inner[k - i, ...]
                pairs = pairs[some, ...] if whole else xp.take(pairs, at[some], axis=0)
                made = xp.reshape(left[some, ...] @ pairs, (-1, b * T)) @ back
                out[some.start * g : some.stop * g, k - first, :] = made
    return xp.reshape(out, (m, (N - first) * K))


def _take(f: Factor, index: Array, K: int, xp: Namespace) -> Array:
    """Return chosen rows of one layer, shape (m, P)."""
    N, _, T, b = f.roots.shape
    roots = xp.take(xp.reshape(f.roots, (N * K, 1, T, b)), index, axis=0)
    h = None if f.features is None else xp.take(f.features, index // K, axis=0)
    return _explicit(Factor(roots, h), xp)


def _explicit(f: Factor, xp: Namespace) -> Array:
    """Return all rows of one layer, shape (N K, P)."""
    N, K, T, b = f.roots.shape
    if f.features is None:
        return xp.reshape(f.roots, (N * K, T * b))
    left = xp.reshape(xp.matrix_transpose(f.roots), (N, K * b, T))
    return xp.reshape(left @ f.features, (N * K, f.dimension))


def _columns(f: Factor, xp: Namespace) -> Iterator[Array]:
    """Yield columns of one layer, a few outputs b at a time, shape (N, K, m)."""
    N, K, T, b = f.roots.shape
    if f.features is None:
        yield xp.reshape(f.roots, (N, K, T * b))
        return
    a = f.features.shape[2]
    step = backend.at_a_time(8 * N * K * a, f.roots)
    for j in range(0, b, step):
        part = xp.matrix_transpose(f.roots[:, :, :, j : min(j + step, b)])
        part = xp.reshape(part, (N, -1, T))  # one product a sample
        yield xp.reshape(part @ f.features, (N, K, -1))


def _packed_matrix(layers: Sequence[Factor], xp: Namespace) -> Array:
    """Assemble X'X of Khatri-Rao factors block by block, each written once.

    Block (l, m) is sum_i D_i (x) h_i^l h_i^m', D_i = sum_k root_ik^l root_ik^m': a
    product over samples only, K times fewer rows than X has.
    """
    ends = list(accumulate((f.dimension for f in layers), initial=0))
    like = layers[0].roots
    shape, device = (ends[-1], ends[-1]), backend.device(like)
    total = xp.empty(shape, dtype=like.dtype, device=device)
    for m, right in enumerate(layers):
        for n, left in enumerate(layers[: m + 1]):
            block = _packed_block(left, right, n == m, xp)
            total[ends[n] : ends[n + 1], ends[m] : ends[m + 1]] = block
            half = 4 if n == m else 1
            costs.done(Cost(float(like.shape[0]) * math.prod(block.shape) / half))
            if n < m:
                mirror = xp.matrix_transpose(block)
                total[ends[m] : ends[m + 1], ends[n] : ends[n + 1]] = mirror
    return total


def _packed_block(left: Factor, right: Factor, diagonal: bool, xp: Namespace) -> Array:
    """Return one block of X'X, shape (b_l a_l, b_m a_m).

    In a diagonal block both factors are symmetric: triangles alone are multiplied.
    """
    e, f = left.roots[:, :, 0, :], right.roots[:, :, 0, :]
    g, h = left.features[:, 0, :], right.features[:, 0, :]  # type: ignore[index]
    (b, a), (B, A) = (e.shape[2], g.shape[1]), (f.shape[2], h.shape[1])
    picks = (_triangle(b, e), _triangle(a, g)) if diagonal else None
    step, out = backend.at_a_time(8 * (b * B + a * A), e), None
    for i in range(0, e.shape[0], step):
        s = slice(i, min(i + step, e.shape[0]))
        outer = xp.reshape(xp.matrix_transpose(e[s, ...]) @ f[s, ...], (-1, b * B))
        inner = xp.reshape(g[s, :, None] * h[s, None, :], (-1, a * A))
        if picks is not None:
            outer, inner = (
                xp.take(x, pack, axis=1)
                for x, (pack, _) in zip((outer, inner), picks, strict=True)
            )
        part = xp.matrix_transpose(outer) @ inner
        out = part if out is None else out + part
    if picks is not None:
        for axis, (_, unpack) in enumerate(picks):
            out = xp.take(out, unpack, axis=axis)
    out = xp.permute_dims(xp.reshape(out, (b, B, a, A)), (0, 2, 1, 3))
    return xp.reshape(out, (b * a, B * A))


def _triangle(n: int, like: Array) -> tuple[Array, Array]:
    """Return the triangle's places in a raveled (n, n), and every entry's in it."""
    rows, columns = np.tril_indices(n)
    place = np.empty((n, n), dtype=np.int64)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    pack, unpack = rows * n + columns, place.reshape(-1)
    return backend.from_host(pack, like), backend.from_host(unpack, like)
