"""Rows of a network whose factors fit into memory layer by layer, but not together.

XX' is the sum of the layers': each is added up and let go before the next is gathered.
Products with X and X' are those by differentiation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

from refspec import memory
from refspec.backend import Array
from refspec.factors import Factor, Factors
from refspec.rows import Derived, Rows, Work

_GRAMS = 2  # of the size of XX': the sum, and what it is made of
_PASSES = 6  # forward passes that a product with X and one with X' take, about


class Source(ABC):
    """What gathers factors, some of the layers at a time.

    Notes
    -----
    Theory: theory/curvature.md#C11.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def shapes(self) -> Factors:
        """All factors, of the right shapes, without their numbers."""

    @abstractmethod
    def gathered(
        self, room: int, unit: Array | None, offsets: tuple[int, ...]
    ) -> Iterator[Factors]:
        """Yield factors of a part of the columns of X, all parts once.

        Of C - 1 rows a sample by `refspec.rows.fewer` if there is a `unit`; a part
        takes `room` bytes, or as few as it can.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Layerwise(Derived):
    """Rows known by products, whose XX' is gathered layer by layer.

    Parameters
    ----------
    rows : Rows
        Shape (N, K, P).
    source : Source
        Of their factors.
    lost : float
        The error made in forming these, as measured.
    formed : Rows or None
        Those columns of the rows that `source` does not have.

    Notes
    -----
    Theory: theory/curvature.md#C11.
    """

    source: Source
    lost: float = 0.0
    formed: Rows | None = None

    def chunks(self) -> Iterator[Array]:
        """Yield all rows explicitly, some samples at a time, shape (m K, P)."""
        yield from self.rows.chunks()

    def balanced(self) -> tuple[Rows, int]:
        """Return the rows themselves: they are squared in XX' alone."""
        return self, 0

    def outer(self, total: Array | None = None) -> Array:
        """Return XX', added to `total` if there is one."""
        for some in self.by_columns(None, ()):
            total = some.outer(total)
            del some  # or it is there beside the next
        return total

    def by_columns(
        self, unit: Array | None, offsets: tuple[int, ...]
    ) -> Iterator[Rows]:
        """Yield the rows in some of the columns: what is formed, then as gathered."""
        if self.formed is not None:
            yield from self.formed.by_columns(unit, offsets)
        yield from self.source.gathered(self._room, unit, offsets)

    @property
    def _room(self) -> int:
        """Bytes that the factors of a part may take, beside XX'."""
        n = self.shape[0] * self.shape[1]
        return max(0, memory.limit() - _GRAMS * 8 * n * n) * 7 // 8

    @property
    def work(self) -> Work:
        """What XX' takes of factors, and products by differentiation."""
        made, K = self.source.shapes.work, self.rows.shape[1]
        forward = sum(map(_forward, self.source.shapes.layers))
        parts = math.ceil(made.held / max(1, self._room))
        gathered = 2 * parts * (1 + K) * forward  # of which `outer` counts half
        held = min(made.held, self._room) / 3  # a plan reckons with it and two copies
        gram, product = made.gram + gathered, _PASSES * forward
        return replace(made, gram=gram, product=product, held=held)


def _forward(f: Factor) -> float:
    """Return what a layer takes in a forward pass over all samples."""
    N, _, T, b = f.roots.shape
    return 0.0 if f.features is None else float(N) * T * b * f.features.shape[2]
