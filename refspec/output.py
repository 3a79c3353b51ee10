r"""Rows of the layer before the softmax: errors p - e_c', never formed.

The errors of that layer are known once its probabilities are: N C numbers in place of
N C^2. Products with them need one entry at a time left out, or digits are lost: with k
the largest probability, q the others and y centred at its own entry k, z = y - y_k,

.. math:: (p - e_{c'})'y = q'z - z_{c'},

since the entries of an error sum to zero. The terms together are at most 3 times what
they are to be compared with, |p - e_c'| |y| (theory/rounding.md#B2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

from refspec import backend, rounding
from refspec.backend import Array
from refspec.factors import Factor, Factors, lengths
from refspec.rows import Rows, Work
from refspec.sums import squared_sums

_LARGER = 3  # terms together than what they are compared with, at most


@dataclass(frozen=True, slots=True, eq=False)
class OutputRows(Rows):
    """Rows sqrt(s p_c') (p - e_c') (x) features, known through p.

    Parameters
    ----------
    others : Array, shape (N, C)
        The probabilities, the largest of a sample replaced by 0.
    largest : Array, shape (N, C)
        1 at the largest, else 0.
    roots : Array, shape (N, C)
        sqrt(s p).
    features : Array, shape (N, a)

    Notes
    -----
    Theory: theory/curvature.md#C1, #C5; theory/rounding.md#B2.
    """

    others: Array
    largest: Array
    roots: Array
    features: Array

    @property
    def shape(self) -> tuple[int, int, int]:
        """N samples, C cross classes, C a columns."""
        (N, C), a = self.others.shape, self.features.shape[1]
        return int(N), int(C), int(C * a)

    @property
    def like(self) -> Array:
        """An array of the namespace, dtype and device of every result."""
        return self.roots

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, C, m). Cost O(N C a m)."""
        xp, (N, C, _), m = self.xp, self.shape, V.shape[1]
        maps = xp.permute_dims(xp.reshape(V, (C, -1, m)), (1, 0, 2))
        image = self.features @ xp.reshape(maps, (-1, C * m))
        return self._errors_times(xp.reshape(image, (N, C, m)))

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (C a, m). Cost as of `dot`."""
        xp, (N, C, P), m = self.xp, self.shape, Z.shape[2]
        back = xp.reshape(self._errors_cross(Z), (N, C * m))
        image = xp.reshape(xp.matrix_transpose(back) @ self.features, (C, m, -1))
        return xp.reshape(xp.permute_dims(image, (0, 2, 1)), (P, m))

    @property
    def combines(self) -> bool:
        """Whether `combined` rows are known: their errors are combined."""
        return True

    def combined(self, Z: Array) -> Factors:
        """Return one row a sample, sum_c' z_c' x_c', shape (N, 1, P), for Z (N, C)."""
        some = self.xp.permute_dims(self._errors_cross(Z[:, :, None]), (0, 2, 1))
        return Factors((Factor(some[:, :, None, :], self.features[:, None, :]),))

    def part(self, i: int, j: int) -> OutputRows:
        """Return the rows of samples i to j."""
        q, k, r, h = self.others, self.largest, self.roots, self.features
        return OutputRows(q[i:j, :], k[i:j, :], r[i:j, :], h[i:j, :])

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, (m, P)."""
        xp = self.xp
        errors, h = self._errors(index), self._features(index)
        return xp.reshape(errors[:, :, None] * h[:, None, :], (index.shape[0], -1))

    def gram(self, index: Array, first: int = 0) -> Array:
        """Return chosen rows of XX', (m, (N - first) C), from sample `first` on.

        Theory: theory/curvature.md#C2.
        """
        xp, (N, C, _) = self.xp, self.shape
        rest, m = self.part(first, N), index.shape[0]
        inner = rest.features @ xp.matrix_transpose(self._features(index))
        errors = xp.broadcast_to(
            xp.matrix_transpose(self._errors(index))[None, ...], (N - first, C, m)
        )
        outer = rest._errors_times(errors) * inner[:, None, :]
        return xp.matrix_transpose(xp.reshape(outer, ((N - first) * C, m)))

    def squared_sums(self, unit: Array, offsets: tuple[int, ...]) -> Array:
        """Return ||sum_i u_{ic'} x_{ic'}||^2 over every class, shape (C, C)."""
        xp, C = self.xp, self.shape[1]
        every = xp.arange(self.shape[0] * C, device=backend.device(self.like))
        every = xp.reshape(every, (-1, C))

        def roots(i: slice, k: slice) -> Array:
            index = every[i, k]
            errors = self._errors(xp.reshape(index, (-1,)))
            return xp.reshape(errors, (*index.shape, 1, C))

        return squared_sums(roots, self.features[:, None, :], unit, offsets)

    def squares(self) -> Array:
        """Return ||x||^2 of every row, shape (N, C)."""
        xp, q = self.xp, self.others
        rest = xp.sum(q, axis=1, keepdims=True)
        every = xp.sum(q * q, axis=1, keepdims=True)
        own = every + rest * rest  # of the largest
        other = (every - q * q) + (1 - q) ** 2 + (1 - rest) ** 2
        error = xp.where(self.largest > 0, own, other)
        size = lengths(self.features, 1)[:, None]
        return (self.roots * xp.sqrt(error) * size) ** 2

    def chunks(self) -> Iterator[Array]:
        """Yield all rows explicitly, some samples at a time, shape (m C, P)."""
        for piece in self.pieces():
            yield from piece.chunks()

    def second(self) -> Array:
        """Return X'X, shape (P, P). Cost N P^2."""
        return summed(self.pieces())

    def pieces(self) -> Iterator[Factors]:
        """Yield the rows as factors, some samples at a time."""
        N, C, _ = self.shape
        step = backend.at_a_time(8 * C * C, self.like)
        for i in range(0, N, step):
            yield self.factors(i, min(i + step, N))

    def factors(self, i: int, j: int) -> Factors:
        """Return the rows of samples i to j as factors."""
        xp, C = self.xp, self.shape[1]
        every = xp.arange(i * C, j * C, device=backend.device(self.like))
        roots = xp.reshape(self._errors(every), (j - i, C, 1, C))
        return Factors((Factor(roots, self.features[i:j, None, :]),))

    def times(self, power: int) -> OutputRows:
        """Return the rows times 2^power, exactly."""
        half = power // 2  # the power itself may not fit
        h = self.features * 2.0**half * 2.0 ** (power - half)
        return replace(self, features=h)

    @property
    def roundings(self) -> int:
        """How many roundings an entry of XX' suffers at most, its rows given."""
        return _LARGER * (self.shape[1] + 6) + int(self.features.shape[1])

    @property
    def products(self) -> int:
        """How many roundings an entry of X(X'z) suffers at most, its rows given."""
        (N, C, _), a = self.shape, int(self.features.shape[1])
        return N + _LARGER * (3 * C + 6) + a

    @property
    def work(self) -> Work:
        """What the rows take, and products with them."""
        (N, C, P), a = self.shape, self.features.shape[1]
        n, size = float(N * C), backend.itemsize(self.like)
        gram, product = n * N * (C + 2) + float(N) ** 2 * a, 2.0 * N * P + 8 * n
        return Work(gram, product, float(N) * P * P / 4, 0.0, N * a * size, 0.0)

    def forming(self) -> float:
        """Bound the error of the rows: of the sum of q, of 1 - p, and of the roots."""
        xp, q, C = self.xp, self.others, self.shape[1]
        rest = xp.sum(q, axis=1, keepdims=True)
        error = xp.where(self.largest > 0, 2 * rest, 2 * xp.ones_like(q))
        size = self.roots * error * lengths(self.features, 1)[:, None]
        u = rounding.unit_roundoff(q)
        length = backend.scalar(lengths(xp.reshape(size, (-1,)), 0))
        return float(rounding.gamma(2 * C + 24, u) * length)

    def _errors_times(self, y: Array) -> Array:
        """Return sqrt(s p_c') (p - e_c')'y, (N, C, m), for y (N, C, m)."""
        out = self._empty(y)
        for i, j in self._together(y):
            z = y[i:j, ...] - self.largest[i:j, None, :] @ y[i:j, ...]
            z = self.others[i:j, None, :] @ z - z
            out[i:j, ...] = self.roots[i:j, :, None] * z
        return out

    def _errors_cross(self, Z: Array) -> Array:
        """Return sum_c' sqrt(s p_c') (p - e_c') z_c', (N, C, m), for Z (N, C, m)."""
        xp, out = self.xp, self._empty(Z)
        own = self.roots * (1 - self.largest)
        for i, j in self._together(Z):
            z = Z[i:j, ...]
            total = self.roots[i:j, None, :] @ z
            back = self.others[i:j, :, None] * total - own[i:j, :, None] * z
            last = xp.sum(back, axis=1, keepdims=True)
            out[i:j, ...] = back - self.largest[i:j, :, None] * last
        return out

    def _together(self, x: Array) -> Iterator[tuple[int, int]]:
        """Yield first and last samples whose entries of x (N, C, m) are cached."""
        N, C, m = x.shape
        step = backend.cached(8 * C * m, x)
        for i in range(0, N, step):
            yield i, min(i + step, N)

    def _empty(self, x: Array) -> Array:
        """Return room for an array like x (N, C, m)."""
        xp = self.xp
        return xp.empty(x.shape, dtype=x.dtype, device=backend.device(x))

    def _errors(self, index: Array) -> Array:
        """Return weighted errors of chosen rows, (m, C)."""
        xp, C = self.xp, self.shape[1]
        sample, label = index // C, index % C
        q, k = (xp.take(x, sample, axis=0) for x in (self.others, self.largest))
        own = xp.arange(C, device=backend.device(self.like))[None, :] == label[:, None]
        error = (q - xp.astype(own, q.dtype)) * (1 - k)
        error = error - k * xp.sum(error, axis=1, keepdims=True)
        root = xp.take(xp.reshape(self.roots, (-1,)), index, axis=0)
        return root[:, None] * error

    def _features(self, index: Array) -> Array:
        """Return the features of chosen rows, (m, a)."""
        return self.xp.take(self.features, index // self.shape[1], axis=0)


@dataclass(frozen=True, slots=True, eq=False)
class Beside(Rows):
    """Rows of several kinds, their columns side by side.

    Parameters
    ----------
    parts : tuple of Rows
        All of N samples and K cross classes, `Factors` and `OutputRows`.
    """

    parts: tuple[Factors | OutputRows, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """N samples, K cross classes, P columns of all parts."""
        N, K, _ = self.parts[0].shape
        return N, K, sum(x.shape[2] for x in self.parts)

    @property
    def like(self) -> Array:
        """An array of the namespace, dtype and device of every result."""
        return self.parts[0].like

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m)."""
        ends = list(accumulate((x.shape[2] for x in self.parts), initial=0))
        found = (
            x.dot(V[i:j, :])
            for x, i, j in zip(self.parts, ends, ends[1:], strict=False)
        )
        total = next(found)
        for image in found:
            total = total + image
        return total

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m)."""
        return backend.concatenate(x.cross(Z) for x in self.parts)

    @property
    def combines(self) -> bool:
        """Whether `combined` rows are known: those of every part are."""
        return True

    def combined(self, Z: Array) -> Factors:
        """Return one row a sample, sum_c' z_c' x_c', shape (N, 1, P), for Z (N, K)."""
        parts = (x.combined(Z).layers for x in self.parts)
        return Factors(tuple(f for layers in parts for f in layers))

    def part(self, i: int, j: int) -> Beside:
        """Return the rows of samples i to j."""
        return Beside(tuple(x.part(i, j) for x in self.parts))

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, (m, P)."""
        return backend.concatenate((x.take(index) for x in self.parts), axis=1)

    def gram(self, index: Array, first: int = 0) -> Array:
        """Return chosen rows of XX', (m, (N - first) K), from sample `first` on."""
        found = [x.gram(index, first) for x in self.parts]
        return sum(found[1:], found[0])

    def squared_sums(self, unit: Array, offsets: tuple[int, ...]) -> Array:
        """Return ||sum_i u_{ic'} x_{ic'}||^2 over every class, shape (C, K)."""
        found = [x.squared_sums(unit, offsets) for x in self.parts]
        return sum(found[1:], found[0])

    def squares(self) -> Array:
        """Return ||x||^2 of every row, shape (N, K)."""
        found = [x.squares() for x in self.parts]
        return sum(found[1:], found[0])

    def second(self) -> Array:
        """Return X'X, shape (P, P). Cost N P^2."""
        return summed(self._pieces())

    def times(self, power: int) -> Beside:
        """Return the rows times 2^power, exactly."""
        return Beside(tuple(x.times(power) for x in self.parts))

    @property
    def roundings(self) -> int:
        """How many roundings an entry of XX' suffers at most, its rows given."""
        return max(x.roundings for x in self.parts) + len(self.parts)

    @property
    def products(self) -> int:
        """How many roundings an entry of X(X'z) suffers at most, its rows given."""
        return max(x.products for x in self.parts) + len(self.parts)

    @property
    def work(self) -> Work:
        """What the rows take, and products with them."""
        N, _, P = self.shape
        made = Work.total(x.work for x in self.parts)
        return replace(made, second=float(N) * P * P / 2)

    def forming(self) -> float:
        """Bound the error made in forming the rows."""
        return math.hypot(*(x.forming() for x in self.parts))

    def _pieces(self) -> Iterator[Factors]:
        """Yield the rows as factors, some samples at a time."""
        N, K, _ = self.shape
        step = backend.at_a_time(8 * K * K, self.like)
        for i in range(0, N, step):
            j = min(i + step, N)
            layers: list[Factor] = []
            for x in self.parts:
                made = x.part(i, j) if isinstance(x, Factors) else x.factors(i, j)
                layers += made.layers
            yield Factors(tuple(layers))


def output_rows(p: Array, s: Array, features: Array) -> OutputRows:
    """Return the rows of a layer with errors p - e_c': p (N, C), s (N,), (N, a)."""
    xp = backend.namespace(p)
    every = xp.arange(p.shape[1], device=backend.device(p))[None, :]
    largest = xp.astype(every == xp.argmax(p, axis=1)[:, None], p.dtype)
    roots = xp.sqrt(s)[:, None] * xp.sqrt(p)  # the product s p could underflow
    return OutputRows(p * (1 - largest), largest, roots, features)


def side_by_side(parts: list[Factor | OutputRows]) -> Rows:
    """Return rows whose columns are those of some layers, in their order."""
    if not any(isinstance(x, OutputRows) for x in parts):
        return Factors(tuple(x for x in parts if isinstance(x, Factor)))
    made = [Factors((x,)) if isinstance(x, Factor) else x for x in parts]
    return made[0] if len(made) == 1 else Beside(tuple(made))


def summed(pieces: Iterator[Factors]) -> Array:
    """Return X'X of rows that come in pieces."""
    total = next(pieces).second()
    for piece in pieces:
        total += piece.second()
    return total
