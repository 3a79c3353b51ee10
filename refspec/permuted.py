"""Rows known through factors whose columns a framework lays out in another order.

A factor's columns are (outputs, features). Where a weight is (features, outputs) in its
framework, the columns of its block are a permutation of these. Over the rows nothing is
another: the Gram matrix, squares and sums are those of the factors as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from refspec import backend
from refspec.backend import Array
from refspec.factors import Factor, Factors


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Permuted(Factors):
    """The rows of factors, their columns permuted within each layer.

    Parameters
    ----------
    layers, lost, how
        See `refspec.factors.Factors`.
    places : tuple of (ndarray of int or None), one a layer
        Where in a row's part each column of the factor goes, on the host; None: where
        it is.
    """

    places: tuple[np.ndarray | None, ...] = ()

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m)."""
        return Factors.dot(self, self._moved(V, 0, back=True))

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m)."""
        return self._moved(Factors.cross(self, Z), 0)

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, shape (m, P)."""
        return self._moved(Factors.take(self, index), 1)

    def chunks(self) -> Iterator[Array]:
        """Yield all rows explicitly, some samples at a time, shape (m K, P)."""
        yield from (self._moved(x, 1) for x in Factors.chunks(self))

    def columns(self) -> Iterator[Array]:
        """Yield X a few columns at a time, layer by layer, shape (N, K, m)."""
        for f, at in zip(self.layers, self.places, strict=True):
            if at is None:
                yield from Factors((f,)).columns()
            else:
                yield from _gathered(f, _inverse(at))

    def second(self) -> Array:
        """Return X'X, shape (P, P)."""
        made = Factors.second(self)
        if not all(f.is_product for f in self.layers):
            return made  # of rows that are in order
        return self._moved(self._moved(made, 0), 1)

    def only(self, kept: Sequence[bool]) -> Permuted:
        """Return the rows of some layers: one after the other, whether it is kept."""
        layers = tuple(compress(self.layers, kept))
        places = tuple(compress(self.places, kept))
        return replace(self, layers=layers, places=places)

    def _moved(self, x: Array, axis: int, *, back: bool = False) -> Array:
        """Move the factors' columns along an axis to their places, or back."""
        parts, start = [], 0
        for f, at in zip(self.layers, self.places, strict=True):
            some = slice(start, start + f.dimension)
            part = x[some, :] if axis == 0 else x[:, some]
            if at is not None:
                index = backend.from_host(at if back else _inverse(at), x)
                part = self.xp.take(part, index, axis=axis)
            parts.append(part)
            start += f.dimension
        return backend.concatenate(parts, axis=axis)


def _inverse(places: np.ndarray) -> np.ndarray:
    """Return which column is at each place: nothing is sorted for it."""
    found = np.empty_like(places)
    found[places] = np.arange(len(places))
    return found


def _gathered(f: Factor, index: np.ndarray) -> Iterator[Array]:
    """Yield columns of one layer by their numbers, some at a time, (N, K, m)."""
    xp, (N, K, T, b) = backend.namespace(f.roots), f.roots.shape
    a = 1 if f.features is None else f.features.shape[2]
    step = backend.at_a_time(8 * N * K * T, f.roots)
    for j in range(0, len(index), step):
        some = index[j : j + step]
        if f.features is None:
            at = backend.from_host(some, f.roots)
            yield xp.take(xp.reshape(f.roots, (N, K, T * b)), at, axis=2)
        else:
            of, by = (backend.from_host(x, f.roots) for x in divmod(some, a))
            h = xp.take(f.features, by, axis=2)[:, None, ...]
            yield xp.sum(xp.take(f.roots, of, axis=3) * h, axis=2)
