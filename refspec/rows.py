r"""The rows of X, never formed: what every kind of rows can do.

X has a row for every (i, c'), sample and cross class: N K rows of P entries. Everything
large happens in row space, through products with X and X' and a few rows of the Gram
matrix XX', so that a vector has N K entries and never P. `Rows` says what a kind must
know (its shape and the two products) and does the rest by them; a kind that knows more
does it faster. `refspec.factors` is the first kind, `Reduced` the second: the score
identity makes one row a sample superfluous.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np

from refspec import backend, costs, rounding
from refspec.backend import Array, Namespace
from refspec.classes import class_slices
from refspec.costs import Cost
from refspec.spaces import ALONE, Group


@dataclass(frozen=True, slots=True)
class Work:
    """What rows take, and what is done with them, in multiplications and bytes.

    XX' row by row; X(X'z) for one z; the whole of X'X; forming all rows that are sums
    once, as each pass over them does; bytes of a copy of the rows, and of those sums.
    """

    gram: float
    product: float
    second: float
    formed: float
    held: float
    sums: float

    @property
    def outer(self) -> float:
        """The whole of XX', which is symmetric."""
        return self.gram / 2

    @classmethod
    def total(cls, parts: Iterable[Work]) -> Work:
        """Add up what each of several takes."""
        return cls(*map(sum, zip(*map(astuple, parts), strict=True)))


class Rows(ABC):
    """Rows x_{i,c'} of X, shape (N, K, P), sqrt(w) included.

    Notes
    -----
    Theory: theory/curvature.md#C1, #C2.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """N samples, K cross classes, P columns."""

    @property
    @abstractmethod
    def like(self) -> Array:
        """An array of the namespace, dtype and device of every result."""

    @abstractmethod
    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m), for V of shape (P, m)."""

    @abstractmethod
    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m), for Z over the rows, (N, K, m)."""

    @abstractmethod
    def part(self, i: int, j: int) -> Rows:
        """Return the rows of samples i to j."""

    @property
    def xp(self) -> Namespace:
        """The array namespace of the rows."""
        return backend.namespace(self.like)

    @property
    def group(self) -> Group:
        """Who else has rows of the same kind: arrays over the rows are pieces."""
        return ALONE

    @property
    def samples(self) -> int:
        """How many samples all processes of the group have."""
        return self.shape[0]

    @property
    def roundings(self) -> int:
        """How many roundings an entry of XX' suffers at most, its rows given."""
        return self.shape[2]

    @property
    def products(self) -> int:
        """How many roundings an entry of X(X'z) suffers at most, its rows given."""
        N, K, P = self.shape
        return N * K + P + 2

    @property
    def work(self) -> Work:
        """What the rows take, and products with them."""
        N, K, P = self.shape
        n, size = float(N * K), backend.itemsize(self.like)
        return Work(n * n * P, 2 * n * P, n * P * P, 0.0, n * P * size, 0.0)

    @property
    def widest(self) -> int:
        """How many numbers a product with XX' makes of a column, at most."""
        return max(self.samples * self.shape[1], self.shape[2])

    @property
    def combines(self) -> bool:
        """Whether `combined` rows are known, without forming any."""
        return False

    def combined(self, Z: Array) -> Any:
        """Return one row a sample, sum_c' z_c' x_c', as factors; Z (N, K)."""
        raise NotImplementedError

    @property
    def known(self) -> str:
        """How the error made in forming the rows is known."""
        return "a priori"

    def forming(self) -> float:
        """Bound ||fl(X) - X||_F, the error made in forming the rows."""
        return 0.0

    def gram_times(self, Z: Array) -> Array:
        """Return XX'Z, shape (N, K, m)."""
        return self.dot(self.cross(Z))

    def second_times(self, V: Array) -> Array:
        """Return X'X V, shape (P, m)."""
        return self.cross(self.dot(V))

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, (m, P); row (i, c') has index i K + c'."""
        xp, K = self.xp, self.shape[1]
        host = backend.to_host(index)
        samples, place = np.unique(host // K, return_inverse=True)
        one = xp.eye(K, dtype=self.like.dtype, device=backend.device(self.like))
        found = (self.part(i, i + 1).cross(one[None, ...]) for i in samples.tolist())
        rows = backend.concatenate(found, axis=1)
        place = backend.from_host(place * K + host % K, self.like)
        return xp.take(xp.matrix_transpose(rows), place, axis=0)

    def sums(self, unit: Array, offsets: tuple[int, ...]) -> Array:
        """Return sum_i u_{ic'} x_{ic'} over every class, shape (C, K, P)."""
        xp, K = self.xp, self.shape[1]
        one = xp.eye(K, dtype=unit.dtype, device=backend.device(unit))
        parts = (
            self.part(i, j).cross(unit[i:j, :, None] * one)
            for _, i, j in class_slices(offsets)
        )
        return backend.concatenate(xp.matrix_transpose(x)[None, ...] for x in parts)

    def squared_sums(self, unit: Array, offsets: tuple[int, ...]) -> Array:
        """Return ||sum_i u_{ic'} x_{ic'}||^2 over every class, shape (C, K).

        Of the samples of all processes; some cross classes at a time.
        """
        xp, (_, K, P), parts = self.xp, self.shape, []
        every = xp.arange(K, device=backend.device(unit))
        step = self.group.least(backend.at_a_time(8 * P, unit))
        for _, i, j in class_slices(offsets):
            mass = self.group.added(xp.sum(unit[i:j, :]))
            if backend.scalar(mass) == 0:  # here and in all other processes
                parts.append(xp.zeros_like(unit[:1, :]))
                continue
            part, found = self.part(i, j), []
            for k in range(0, K, step):
                at = every[:, None] == every[None, k : min(k + step, K)]
                z = unit[i:j, :, None] * xp.astype(at, unit.dtype)[None, ...]
                found.append(xp.sum(part.cross(z) ** 2, axis=0))
            parts.append(backend.concatenate(found)[None, :])
        return backend.concatenate(parts)

    def gram(self, index: Array, first: int = 0) -> Array:
        """Return chosen rows of XX', (m, (N - first) K), from sample `first` on."""
        xp, (N, K, _) = self.xp, self.shape
        images = self.part(first, N).dot(xp.matrix_transpose(self.take(index)))
        return xp.matrix_transpose(xp.reshape(images, ((N - first) * K, -1)))

    def outer(self, total: Array | None = None) -> Array:
        """Return XX', shape (N K, N K), of which nearly half is mirrored.

        Added to `total` in its place if there is one.
        """
        xp, (N, K, _), device = self.xp, self.shape, backend.device(self.like)
        made, added = total, total is not None
        if made is None:
            made = xp.empty((N * K, N * K), dtype=self.like.dtype, device=device)
        # narrow enough to spare nearly half of it, and a few as wide as memory allows
        step = max(1, min(-(-N // 16), backend.at_a_time(8 * N * K * K, self.like)))
        for i in range(0, N, step):
            some = slice(i * K, min(i + step, N) * K)
            index = xp.arange(some.start, some.stop, device=device)
            part = self.gram(index, i)
            if added:
                part += made[some, i * K :]
            made[some, i * K :] = part
            made[i * K :, some] = xp.matrix_transpose(part)
            costs.done(Cost(self.work.outer * part.shape[0] / (N * K)))
        return made

    def squares(self) -> Array:
        """Return ||x||^2 of every row, shape (N, K)."""
        xp, (N, K, _) = self.xp, self.shape
        parts = [xp.sum(x * x, axis=1) for x in self.chunks()]
        return xp.reshape(backend.concatenate(parts), (N, K))

    def trace(self) -> float:
        """Return the sum of ||x||^2 of all rows."""
        return backend.scalar(self.group.added(self.xp.sum(self.squares())))

    def at_least(self) -> float:
        """Return what the trace is no less than, at little cost."""
        return self.trace()

    @property
    def off(self) -> float:
        """Bound how far XX' is from the one that products are with, if not from X."""
        return 0.0

    def in_pieces(self) -> tuple[Rows, np.ndarray | None]:
        """Return this process's rows alone, and which samples they are of.

        Where all processes of a group hold all of the rows' arrays; else None.
        """
        return self, None

    def chunks(self) -> Iterator[Array]:
        """Yield all rows explicitly, some samples at a time, shape (m K, P)."""
        xp, (N, K, P) = self.xp, self.shape
        step = backend.at_a_time(8 * K * P, self.like)
        for i in range(0, N, step):
            last = min(i + step, N) * K
            yield self.take(xp.arange(i * K, last, device=backend.device(self.like)))

    def columns(self) -> Iterator[Array]:
        """Yield X a few columns at a time, shape (N, K, m)."""
        xp, (_, K, P) = self.xp, self.shape
        every = xp.arange(P, device=backend.device(self.like))
        step = backend.at_a_time(8 * max(self.samples * K, P), self.like)
        step = self.group.least(step)
        for j in range(0, P, step):
            unit = every[:, None] == every[j : min(j + step, P)]
            yield self.dot(xp.astype(unit, self.like.dtype))

    def second(self) -> Array:
        """Return X'X, shape (P, P). Cost N K P^2."""
        xp, (N, K, P), total = self.xp, self.shape, None
        for x in self.chunks():
            part = xp.matrix_transpose(x) @ x
            if total is None:
                total = part
            else:
                total += part
            costs.done(Cost(x.shape[0] * (P * P + self.work.formed / (N * K))))
        return total

    def times(self, power: int) -> Rows:
        """Return the rows times 2^power, exactly."""
        return Scaled(self, power)

    def balanced(self) -> tuple[Rows, int]:
        """Return rows that can be squared without overflow, and the power they lost."""
        xp = self.xp
        info = xp.finfo(self.like.dtype)
        with np.errstate(over="ignore"):
            trace = self.trace()
        if float(info.smallest_normal) / float(info.eps) < trace < math.inf:
            return self, 0
        largest = max(backend.scalar(xp.max(xp.abs(x))) for x in self.chunks())
        power = math.frexp(largest)[1]
        return self.times(-power), power

    def explicit(self, budget: float) -> Rows:  # noqa: ARG002 what factors can do
        """Return the same rows, multiplied out where that is cheaper in `budget`."""
        return self

    def reduced(self, unit: Array, offsets: tuple[int, ...]) -> Rows:
        """Return C - 1 rows a sample in place of C: what is left out are `scores`.

        Theory: theory/curvature.md#C5.
        """
        return Reduced(self, unit, offsets)

    def by_columns(
        self, unit: Array | None, offsets: tuple[int, ...]
    ) -> Iterator[Rows]:
        """Yield the rows in some of the columns, all columns once.

        So that no copy is made of all of them: `reduced` if there is a `unit`.
        """
        yield self if unit is None else self.reduced(unit, offsets)

    def scores(self, unit: Array, offsets: tuple[int, ...]) -> float:  # noqa: ARG002
        """Return the trace that `reduced` rows leave out, sum_i ||u_i'X_i||^2."""
        xp, (N, K, P), scores = self.xp, self.shape, 0.0
        step = backend.at_a_time(8 * max(N * K, P), self.like)
        for i in range(0, N, step):  # some samples at a time
            some = xp.arange(i, min(i + step, N), device=backend.device(unit))
            mine = xp.arange(N, device=backend.device(unit))[:, None] == some
            Z = unit[:, :, None] * xp.astype(mine, unit.dtype)[:, None, :]
            scores += backend.scalar(xp.sum(self.cross(Z) ** 2))
        return scores


@dataclass(frozen=True, slots=True, eq=False)
class Derived(Rows):
    """Rows made of those of another kind; what is not said here is as it is there."""

    rows: Rows

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m)."""
        return self.rows.dot(V)

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m)."""
        return self.rows.cross(Z)

    def part(self, i: int, j: int) -> Rows:
        """Return the rows of samples i to j."""
        return self.rows.part(i, j)

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, (m, P)."""
        return self.rows.take(index)

    @property
    def group(self) -> Group:
        """Who else has rows of the same kind."""
        return self.rows.group

    @property
    def samples(self) -> int:
        """How many samples all processes of the group have."""
        return self.rows.samples

    @property
    def widest(self) -> int:
        """How many numbers a product with XX' makes of a column, at most."""
        return self.rows.widest

    def in_pieces(self) -> tuple[Rows, np.ndarray | None]:
        """Return this process's rows alone, and which samples they are of."""
        rows, mine = self.rows.in_pieces()
        return (self, None) if mine is None else (replace(self, rows=rows), mine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """N samples, K cross classes, P columns."""
        return self.rows.shape

    @property
    def like(self) -> Array:
        """An array of the namespace, dtype and device of every result."""
        return self.rows.like

    @property
    def roundings(self) -> int:
        """How many roundings an entry of XX' suffers at most."""
        return self.rows.roundings

    @property
    def products(self) -> int:
        """How many roundings an entry of X(X'z) suffers at most."""
        return self.rows.products

    @property
    def work(self) -> Work:
        """What the rows take, and products with them."""
        return self.rows.work

    @property
    def known(self) -> str:
        """How the error made in forming the rows is known."""
        return self.rows.known

    def forming(self) -> float:
        """Bound the error made in forming the rows, where that grows no larger."""
        return self.rows.forming()


@dataclass(frozen=True, slots=True, eq=False)
class Reduced(Derived):
    r"""C - 1 rows a sample that have the same second moment as the C of `rows`.

    Parameters
    ----------
    rows : Rows
        Shape (N, C, P), with sum_c' u_{i,c'} x_{i,c'} = 0 for every sample.
    unit : Array, shape (N, C)
        The unit vectors u_i = sqrt(p_i).
    offsets : tuple of int, length C + 1
        Where the classes begin and end.

    Notes
    -----
    Theory: theory/curvature.md#C5. The Householder reflection that takes u_i to -e_c
    (c the true class) is applied to a sample's rows, and row c left out.
    """

    unit: Array
    offsets: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """N samples, C - 1 rows each, P columns."""
        N, C, P = self.rows.shape
        return N, C - 1, P

    def dot(self, V: Array) -> Array:
        """Return Y V, shape (N, C - 1, m)."""
        return fewer(self.rows.dot(V), self.unit, self.offsets)

    def cross(self, Z: Array) -> Array:
        """Return Y'Z, shape (P, m): the reflection is its own transpose."""
        return self.rows.cross(whole(Z, self.unit, self.offsets))

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, (m, P); all C of a sample are asked for."""
        xp, (C, K) = self.xp, (self.rows.shape[1], self.shape[1])
        host = backend.to_host(index)
        samples, place = np.unique(host // K, return_inverse=True)
        every = (samples[:, None] * C + np.arange(C)).ravel()
        full = self.rows.take(backend.from_host(every, self.like))
        full = xp.reshape(full, (len(samples), C, -1))
        u = xp.take(self.unit, backend.from_host(samples, self.like), axis=0)
        ends = tuple(np.searchsorted(samples, self.offsets).tolist())
        rows = xp.reshape(fewer(full, u, ends), (len(samples) * K, -1))
        return xp.take(rows, backend.from_host(place * K + host % K, self.like), axis=0)

    def part(self, i: int, j: int) -> Rows:
        """Return the rows of samples i to j."""
        offsets = tuple(min(max(k, i), j) - i for k in self.offsets)
        return Reduced(self.rows.part(i, j), self.unit[i:j, :], offsets)

    @property
    def roundings(self) -> int:
        """How many roundings an entry of YY' suffers at most."""
        return self.rows.roundings + 2 * self.rows.shape[1] + 8

    @property
    def products(self) -> int:
        """How many roundings an entry of Y(Y'z) suffers at most."""
        return self.rows.products + 2 * (2 * self.rows.shape[1] + 8)

    def explicit(self, budget: float) -> Rows:
        """Return the same rows, multiplied out where that is cheaper in `budget`."""
        rows = self.rows.explicit(budget)
        return self if rows is self.rows else rows.reduced(self.unit, self.offsets)


@dataclass(frozen=True, slots=True, eq=False)
class Scaled(Derived):
    """The rows of another kind times 2^power."""

    power: int

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m)."""
        return self.rows.dot(self._up(V))

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m)."""
        return self.rows.cross(self._up(Z))

    def part(self, i: int, j: int) -> Rows:
        """Return the rows of samples i to j."""
        return Scaled(self.rows.part(i, j), self.power)

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, (m, P)."""
        return self._up(self.rows.take(index))

    def chunks(self) -> Iterator[Array]:
        """Yield all rows explicitly, some samples at a time, shape (m K, P)."""
        yield from map(self._up, self.rows.chunks())

    def squared_sums(self, unit: Array, offsets: tuple[int, ...]) -> Array:
        """Return ||sum_i u_{ic'} x_{ic'}||^2 over every class, (C, K)."""
        return self._up(self._up(self.rows.squared_sums(unit, offsets)))

    def times(self, power: int) -> Rows:
        """Return the rows times 2^power, exactly."""
        return Scaled(self.rows, self.power + power)

    def _up(self, x: Array) -> Array:
        """Scale what multiplies the rows, in two steps: the power may not fit."""
        half = self.power // 2
        return x * 2.0**half * 2.0 ** (self.power - half)

    def forming(self) -> float:
        """Bound the error made in forming the rows."""
        return math.ldexp(self.rows.forming(), self.power)

    def explicit(self, budget: float) -> Rows:
        """Return the same rows, multiplied out where that is cheaper in `budget`."""
        rows = self.rows.explicit(budget)
        return self if rows is self.rows else rows.times(self.power)


@dataclass(frozen=True, slots=True, eq=False)
class Columns(Derived):
    """Some columns of the rows of another kind, in spans (first, after the last)."""

    spans: tuple[tuple[int, int], ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """N samples, K cross classes, P columns."""
        N, K, _ = self.rows.shape
        return N, K, sum(j - i for i, j in self.spans)

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m): of the whole, V 0 in the columns left out."""
        xp, P, parts, at, start = self.xp, self.rows.shape[2], [], 0, 0
        for i, j in (*self.spans, (P, P)):
            shape, device = (i - at, V.shape[1]), backend.device(V)
            parts.append(xp.zeros(shape, dtype=V.dtype, device=device))
            parts.append(V[start : start + j - i, :])
            at, start = j, start + j - i
        return self.rows.dot(backend.concatenate(parts))

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m)."""
        return self._cut(self.rows.cross(Z), 0)

    def part(self, i: int, j: int) -> Columns:
        """Return the rows of samples i to j."""
        return Columns(self.rows.part(i, j), self.spans)

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, (m, P)."""
        return self._cut(self.rows.take(index), 1)

    def chunks(self) -> Iterator[Array]:
        """Yield all rows explicitly, some samples at a time, shape (m K, P)."""
        yield from (self._cut(x, 1) for x in self.rows.chunks())

    def _cut(self, x: Array, axis: int) -> Array:
        """Return the spans of an axis, the first or the second of two."""
        parts = [x[i:j, :] if axis == 0 else x[:, i:j] for i, j in self.spans]
        return backend.concatenate(parts, axis=axis)


def fewer(x: Array, u: Array, offsets: tuple[int, ...]) -> Array:
    """Make C - 1 rows a sample, (N, C - 1, ...), as `reflected` does of each class."""
    xp = backend.namespace(x)
    return backend.concatenate(
        reflected(x[i:j, ...], u[i:j, :], c, xp) for c, i, j in class_slices(offsets)
    )


def whole(z: Array, u: Array, offsets: tuple[int, ...]) -> Array:
    """Take C - 1 entries a sample, (N, C - 1, ...), back to C: `fewer` transposed."""
    xp, parts = backend.namespace(z), []
    u = xp.reshape(u, (*u.shape, *(1 for _ in z.shape[2:])))
    for c, i, j in class_slices(offsets):
        some, v = z[i:j, ...], without(u[i:j, ...], c, xp)
        along = xp.sum(v * some, axis=1, keepdims=True)
        full = some - v * (along / (1 + u[i:j, c : c + 1, ...]))
        parts.append(xp.concat([full[:, :c, ...], -along, full[:, c:, ...]], axis=1))
    return backend.concatenate(parts)


def reflected(x: Array, u: Array, c: int, xp: Namespace) -> Array:
    r"""Reflect C rows a sample (n, C, ...) of class c, and leave out row c.

    Y_c' = X_c' - u_c' (1 + u_c)^{-1} (sum u X + X_c), no cancellation: u_c >= 0.
    """
    u = xp.reshape(u, (*u.shape, *(1 for _ in x.shape[2:])))
    scores = xp.sum(u * x, axis=1, keepdims=True)
    own = (scores + x[:, c : c + 1, ...]) / (1 + u[:, c : c + 1, ...])
    return without(x, c, xp) - without(u, c, xp) * own


def without(x: Array, c: int, xp: Namespace) -> Array:
    """Return x with entry c of axis 1 left out."""
    return xp.concat([x[:, :c, ...], x[:, c + 1 :, ...]], axis=1)


def forming_radius(rows: Rows, trace: float, u: float) -> float:
    """Bound ||fl(X)'fl(X) - X'X||, and as much for XX': 2 ||X|| e + e^2, and its own.

    Theory: theory/rounding.md#B2.
    """
    e = rows.forming()
    moved = float((2 * math.sqrt(trace) * e + e * e) * (1 + rounding.gamma(8, u)))
    return moved + rows.off
