"""Where vectors lie: in this process, or a piece of each in every process of a group.

What works with long vectors needs four things of them: inner products, random ones, an
orthonormal basis of a few, and how long they are. The first and the third are sums and
stacks of what each process makes of its piece, small matrices that all come to know;
nothing as long as a vector goes from one process to another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec import backend
from refspec.backend import Array


class Group:
    """Processes that run one program, each with its piece of every vector: this alone.

    All of them ask the group for the same, in the same order.
    """

    @property
    def rank(self) -> int:
        """The number of this process."""
        return 0

    @property
    def count(self) -> int:
        """How many processes there are."""
        return 1

    def added(self, x: Array) -> Array:
        """Return the sum of what every process gives, the same bits for all."""
        return x

    def every(self, x: Array) -> list[Array]:
        """Return what every process gives, arrays of one shape, in their order."""
        return [x]

    def least(self, n: int) -> int:
        """Return the smallest of the counts that the processes give.

        How many columns fit into a device is its own; how many go at a time is not.
        """
        return n

    def random(self, seed: int) -> np.random.Generator:
        """Return random numbers that no other process of the group draws."""
        return np.random.default_rng([seed, self.rank] if self.count > 1 else seed)


ALONE = Group()


@dataclass(frozen=True, slots=True)
class Space:
    """Vectors of n entries, `here` of them in this process of a group."""

    n: int
    here: int
    group: Group = ALONE

    @classmethod
    def alone(cls, n: int) -> Space:
        """Return that of vectors which are wholly here."""
        return cls(n, n)

    def inner(self, V: Array, W: Array) -> Array:
        """Return V'W, of columns (here, m)."""
        return self.group.added(backend.namespace(V).matrix_transpose(V) @ W)

    def length(self, x: Array) -> float:
        """Return the root of the sum of squares of all entries of (here, m)."""
        xp = backend.namespace(x)
        if self.group.count == 1:
            return backend.scalar(xp.linalg.vector_norm(x))
        return backend.scalar(xp.sqrt(self.group.added(xp.sum(x * x))))

    def without(self, x: Array, V: Array) -> Array:
        """Return x without what lies in the span of V, orthonormal columns."""
        return x - V @ self.inner(V, x)

    def gaussian(self, rng: np.random.Generator, m: int, like: Array) -> Array:
        """Return standard normal numbers (here, m) beside `like`."""
        return backend.beside(rng.standard_normal((self.here, m)), like)

    def qr(self, x: Array) -> tuple[Array, Array]:
        """Return Q (here, m), orthonormal over all pieces, and R (m, m): x = QR."""
        xp, m = backend.namespace(x), x.shape[1]
        Q, R = xp.linalg.qr(x)
        if self.group.count == 1:
            return Q, R
        # of the pieces' R, one below the other, once more: all know that one, and a
        # piece turns its own Q by its rows; a piece with fewer than m has zeros below
        few = R.shape[0]
        R = xp.concat([R, xp.zeros_like(x[: m - few, :])]) if few < m else R
        turn, R = xp.linalg.qr(backend.concatenate(self.group.every(R)))
        at = self.group.rank * m
        return Q @ turn[at : at + few, :], R
