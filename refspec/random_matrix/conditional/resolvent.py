"""The deterministic equivalent at one z, and what its steps are made of.

Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec import rounding
from refspec.random_matrix import definite

#: Side up to which a matrix is inverted whole.
_WHOLE = 512


@dataclass(frozen=True, slots=True, eq=False)
class Beyond:
    """Directions that are eliminated at one z.

    added (a h, a h): what that leaves in the head, slope: its derivative in z with the
    sign changed; inverses (n,): of K - z, which is diagonal there.
    """

    added: np.ndarray
    slope: np.ndarray
    inverses: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Equivalent:
    """The deterministic equivalent at one z of the upper half plane.

    unknowns (2, s, a, a): Delta, B; forms: as they went in. inner (N, k, k): I + R'
    Delta R. pivots: of H - z in the head of the features' frame; tail (t, a, a): in the
    rest. resolvents: inverses of both. beyond: what was eliminated before.
    """

    unknowns: np.ndarray
    forms: np.ndarray
    inner: np.ndarray
    pivots: tuple[np.ndarray, ...]
    tail: np.ndarray
    resolvents: tuple[np.ndarray, np.ndarray]
    beyond: Beyond | None = None

    @property
    def trace(self) -> complex:
        """The trace of Q over the directions that are reached."""
        head, tail = self.resolvents
        total = np.trace(head) + np.sum(np.trace(tail, axis1=1, axis2=2))
        if self.beyond is not None:
            # d log det (H - z) = -tr Q dz, and the head depends on z by its slope, too
            total += np.sum(head * self.beyond.slope) + np.sum(self.beyond.inverses)
        return complex(total)


def inverted(head: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return the inverse of H - z, symmetric to the last bit, and its pivots."""
    # an elimination by halves loses digits where z is small beside the head
    if len(head) > _WHOLE:
        Q, pivots = definite.by_halves(head)
        if _inverts(Q, head):
            return Q, pivots
    found = definite.inverse(head)
    # rounding that differs beside the diagonal would not cancel in B
    return (found + found.T) / 2, (head,)


def _inverts(Q: np.ndarray, head: np.ndarray) -> bool:
    """Tell, on a vector, whether Q is as good an inverse as pivoting makes."""
    v = np.random.default_rng(0).standard_normal(len(head))
    terms = np.abs(Q) @ (np.abs(head) @ np.abs(v))
    bound = rounding.gamma(len(head), 2.0**-53) * np.linalg.norm(terms)
    return bool(np.linalg.norm(Q @ (head @ v) - v) <= bound)


def halves(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs j <= k of indices (n,), and which pair each (side, side) is."""
    j, k = np.triu_indices(side)
    which = np.zeros((side, side), dtype=np.int64)
    which[j, k] = which[k, j] = np.arange(len(j))
    return j, k, which


def products(real: np.ndarray, stack: np.ndarray) -> np.ndarray:
    """Return real @ (n, k, l) complex, in real products: half of the work."""
    parts = np.ascontiguousarray(stack).view(np.float64)
    return np.asarray((real @ parts).view(np.complex128))
