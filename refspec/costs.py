"""What a computation costs, and how far it has come: in the same units.

A cost is multiplications in matrix products, bytes that pass through memory beside
them, and bytes held at once. Costs are stated before work (`refspec.plans`) and told
when a part of it is done, so that a plan can be held against what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiplications of matrix products, bytes moved beside them, bytes held at once.

    Of work one part after the other the first two add up, the last is the larger.
    """

    products: float = 0.0
    moved: float = 0.0
    held: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.products + other.products,
            self.moved + other.moved,
            max(self.held, other.held),
        )

    def __mul__(self, times: float) -> Cost:
        """Do the same so many times, one after the other."""
        return Cost(self.products * times, self.moved * times, self.held)

    def beside(self, held: float) -> Cost:
        """Return the cost where so many bytes are held all the while."""
        return Cost(self.products, self.moved, self.held + held)


def eigenvalues(n: int) -> Cost:
    """Return the cost of the eigenvalues of a symmetric matrix, n x n.

    Half of the reduction to tridiagonal form, 4 n^3 / 3 operations in all, is matrix
    times vector: every step reads the triangle that is left.
    """
    return Cost(n**3 / 3, 8 * n**3 / 6, 8 * 2 * n * n)


def eigenvectors(n: int) -> Cost:
    """Return the cost of eigenvalues and eigenvectors of a symmetric matrix, n x n.

    Beside the eigenvalues': divide and conquer, and turning back, at most 4 n^3 and 2
    n^3 operations, nearly all of them matrix products.
    """
    return eigenvalues(n) + Cost(7 * n**3 / 3, 0.0, 8 * 5 * n * n)


def images(n: int, m: int) -> Cost:
    """Return the cost of the eigenvalues, and of m rows times the eigenvectors.

    The eigenvectors are not turned back: these rows are turned in their place.
    """
    return eigenvalues(n) + Cost(4 * n**3 / 3 + 2 * m * n * n, 0.0, 8 * 3 * n * n)


_Listener = Callable[[Cost], object]
_LISTENER: ContextVar[_Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard(listener: _Listener | None) -> Iterator[None]:
    """Tell a listener of every part of the work that is done inside."""
    before = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(before)


def done(cost: Cost) -> None:
    """Tell whoever listens that work of this cost is done."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(cost)
