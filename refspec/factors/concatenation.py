"""Rows of X that are the concatenation of a factor a layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress

from refspec import backend, rounding
from refspec.backend import Array
from refspec.factors import kernels
from refspec.factors.layer import NEVER, Factor, balanced, lifted, norm, times
from refspec.factors.packed import packed_matrix
from refspec.rows import Rows, Work, fewer
from refspec.sums import squared_sums


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
            image = kernels.dot(f, V[start : start + f.dimension, :], xp)
            start, total = (
                start + f.dimension,
                image if total is None else total + image,
            )
        return total

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m). Cost as of `dot`."""
        xp = self.xp
        return backend.concatenate(kernels.cross(f, Z, xp) for f in self.layers)

    def part(self, i: int, j: int) -> Factors:
        """Return the rows of samples i to j."""
        return replace(self, layers=tuple(f.part(i, j) for f in self.layers))

    def only(self, kept: Sequence[bool]) -> Factors:
        """Return the rows of some layers: one after the other, whether it is kept."""
        return replace(self, layers=tuple(compress(self.layers, kept)))

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
        return max(kernels.inner_length(f) for f in self.layers) + len(self.layers)

    @property
    def work(self) -> Work:
        """What the rows take, and products with them."""
        (N, K), layers = self.shape[:2], self.layers
        made = [kernels.work(f, N, K) for f in layers]
        second = float(N * K) * self.shape[2] ** 2
        if all(f.is_product for f in layers):  # triangles on the diagonal
            sizes = [float(f.dimension) for f in layers]
            second = N * (sum(sizes) ** 2 / 2 - sum(x * x for x in sizes) / 4)
        return replace(Work.total(made), second=second)

    @property
    def products(self) -> int:
        """How many roundings an entry of X(X'z) suffers at most, its rows given."""
        (N, K), layers = self.shape[:2], self.layers
        return max(kernels.chain_length(f, N, K) for f in layers) + len(layers)

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
        parts = [kernels.squares(f, xp) for f in self.layers]
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
        total = kernels.gram(self.layers[0], index, first, xp)
        for f in self.layers[1:]:
            # ours alone: no other array shares it
            total += kernels.gram(f, index, first, xp)
        return total

    def outer(self, total: Array | None = None) -> Array:
        """Return XX', shape (N K, N K), added to `total` in its place if there is one.

        Of layers whose rows are sums, multiplied out, layer by layer: no row is formed
        twice. Of the others some rows at a time: nothing else as large is made.
        """
        for some in self.by_columns(None, ()):
            first = some.layers[0]
            if first.is_summed:
                total = backend.mirrored(kernels.outer(first, total, self.xp))
            else:
                total = Rows.outer(some, total)
        return total

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, shape (m, P)."""
        xp, K = self.xp, self.shape[1]
        return backend.concatenate(
            (kernels.take(f, index, K, xp) for f in self.layers), axis=1
        )

    def chunks(self) -> Iterator[Array]:
        """Yield all rows explicitly, some samples at a time, shape (m K, P)."""
        N, K, P = self.shape
        step = backend.at_a_time(8 * K * P, self.like)
        for i in range(0, N, step):
            j = min(i + step, N)
            parts = [f.part(i, j).rows() for f in self.layers]
            yield backend.concatenate(parts, axis=1)

    def columns(self) -> Iterator[Array]:
        """Yield X a few columns at a time, layer by layer, shape (N, K, m)."""
        xp = self.xp
        for f in self.layers:
            yield from kernels.columns(f, xp)

    def second(self) -> Array:
        """Return X'X, shape (P, P). Cost N P^2, not N K P^2, for dense layers."""
        if all(f.is_product for f in self.layers):
            return packed_matrix(self.layers, self.xp)
        return Rows.second(self)

    def times(self, power: int) -> Factors:
        """Return the rows times 2^power, exactly."""
        scaled = tuple(times(f, power) for f in self.layers)
        lost = None if self.lost is None else self.lost * 2.0**power
        return replace(self, layers=scaled, lost=lost)

    def balanced(self) -> tuple[Factors, int]:
        """Return rows that can be squared without overflow, and the power they lost.

        The size of a sample's features moves to its roots first: roots that are huge
        where features are 0 or tiny would overflow when squared alone.
        """
        if self._moderate():
            return self, 0
        moved = [balanced(f, self.xp) for f in self.layers]
        power = max(k for _, _, k in moved)
        power = 0 if power <= NEVER // 2 else power  # every row is 0
        lost = None if self.lost is None else self.lost * 2.0**-power
        layers = tuple(lifted(f, up - power) for f, up, _ in moved)
        return replace(self, layers=layers, lost=lost), power

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
            yield backend.scalar(self.xp.sum(kernels.squares(f, self.xp)))

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
                f = f.explicit()
            out.append(f)
        return replace(self, layers=tuple(out), lost=self.forming())

    def reduced(self, unit: Array, offsets: tuple[int, ...]) -> Factors:
        """Return C - 1 rows a sample, by C - 1 errors a sample.

        Theory: theory/curvature.md#C5.
        """
        layers = (replace(f, roots=fewer(f.roots, unit, offsets)) for f in self.layers)
        # a reflection mixes the terms of a sample before they are added up
        u = rounding.unit_roundoff(self.like)
        lost = self.forming() + self._forming(2 * self.shape[1] + 8, u)
        return replace(self, layers=tuple(layers), lost=lost)

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
            size = norm(kernels.sizes(f, xp), xp)
            total += (rounding.gamma(terms, u) * size) ** 2
            if f.by_pairs and size > 0:
                # its Gram matrix errs by gamma(k) size^2, not by what the rows do:
                # as much as rows that err by so much, whose length is not more
                k = kernels.inner_length(f)
                length = norm(xp.sqrt(kernels.squares(f, xp)), xp)
                more = rounding.gamma(k, u) * size
                total += (more * (size / length if length > more else math.inf)) ** 2
        return math.sqrt(total)


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
