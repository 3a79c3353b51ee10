r"""What the estimation of class statistics leaves open in a law.

Samples are divided into groups, and the statistics are fitted again with each group
counting a little less. The functional that counts is stationary in the unknowns of the
law, so that one step at the old ones tells how the number of eigenvalues above x
changes, and an eigenvalue by that over the density, in the limit an edge, too; over the
groups these add up to the jackknife's variance (Theory: theory/conditional.md#Y2). Host
arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from refspec.random_matrix.conditional import counting, law
from refspec.random_matrix.conditional.design import ConditionalDesign
from refspec.random_matrix.conditional.spectrum import EDGE

#: By how much the weight of a group is less: a derivative.
LESS = 2.0**-6
#: Ranks at which the number of eigenvalues is asked for, beside the largest ones.
_RANKS, _LARGEST = 16, 20
#: How far inside an edge is looked at, relative to x: by more than it is known to.
_INSIDE = 4 * EDGE


@dataclass(frozen=True, slots=True, eq=False)
class Estimation:
    """Standard deviations that the estimation of a layer's statistics leaves.

    groups; ranks (q,) among the eigenvalues, from 0, none where float64 does not
    resolve the law; values (q,) expected there; deviations (q,) of these; counts (q,),
    deviations of the number above each. edges (m,) of the bulk, none where it reaches
    down to 0, and their deviations (m,).
    """

    groups: int
    ranks: np.ndarray
    values: np.ndarray
    deviations: np.ndarray
    counts: np.ndarray
    edges: np.ndarray
    edge_deviations: np.ndarray

    def __str__(self) -> str:
        """Say how far the law may be from that of the population."""
        if not len(self.ranks):
            return (
                "what estimating the statistics leaves open is not known: float64 "
                "resolves the law at none of its eigenvalues"
            )
        k = int(np.argmax(self.counts))
        low, high = self.deviations[[-1, 0]] / self.values[[-1, 0]]
        edges = " and ".join(f"{x:.2g}" for x in self.edge_deviations / self.edges)
        return (
            f"estimating the statistics leaves the number of eigenvalues above x open "
            f"by up to {self.counts[k]:.2g} (at {self.values[k]:.3g}), the largest by "
            f"{high:.2g} and the least told by {low:.2g} of itself"
            + (f", edges of the bulk by {edges}" if edges else "")
            + f": one deviation, from {self.groups} groups of samples, the outputs as "
            "they are"
        )


def less_of_each(labels: np.ndarray, groups: int, seed: int) -> Iterator[np.ndarray]:
    """Yield weights (N,) of samples for each group, which counts a little less.

    Theory: theory/conditional.md#Y2
    """
    rng = np.random.default_rng(seed)
    group = np.empty(len(labels), dtype=np.int64)
    for c in range(int(labels.max()) + 1):  # as even in each class as can be
        i = rng.permutation(np.flatnonzero(labels == c))
        group[i] = (np.arange(len(i)) + c) % max(groups, 1)
    for g in range(groups):
        yield np.where(group == g, 1 - LESS, 1.0)


def estimated(
    design: ConditionalDesign,
    refits: Sequence[ConditionalDesign],
    eigenvalues: np.ndarray,
    edges: Sequence[tuple[float, int]] = (),
) -> Estimation:
    """Tell how far expected eigenvalues (P,), descending, may be off, and edges.

    edges: each x > 0, with 1 if the support is above it and -1 if it is below.
    Theory: theory/conditional.md#Y2
    """
    r = int(np.sum(eigenvalues > 0))
    most = np.arange(min(r, _LARGEST))
    ranks = np.unique(
        np.r_[most, np.linspace(0, r - 1, _RANKS if r else 0).astype(int)]
    )
    kept, found = _spreads(design, refits, eigenvalues[ranks])
    ranks = ranks[kept]
    # at an edge both the change of the count and the density vanish as a root: their
    # ratio is that inside, next to it
    inside = [x * (1 + side * _INSIDE) for x, side in edges]
    seen, ends = _spreads(design, refits, inside)
    deviations, counts = found.T
    at = np.asarray([edges[k][0] for k in seen])
    values = eigenvalues[ranks]
    return Estimation(len(refits), ranks, values, deviations, counts, at, ends[:, 0])


def _spreads(
    design: ConditionalDesign,
    refits: Sequence[ConditionalDesign],
    points: Sequence[float] | np.ndarray,
) -> tuple[list[int], np.ndarray]:
    """Return which points are told, and deviations there: of x, and of the count."""
    G, kept, found, guess = len(refits), [], [], None
    for k, x in enumerate(map(float, points)):
        try:
            made = counting.at(design, x, guess, height=counting.TABLE)
            guess = made.unknowns
            count = _counted(design, guess, x)
            moved = [(_counted(y, guess, x) - count) / LESS for y in refits]
        except law.UnresolvedError:  # float64 does not tell the law there
            continue
        # a group of one G-th left out whole moves by G / (G - 1) of this
        spread = np.sqrt(G * np.var(moved, ddof=1))
        kept.append(k)
        found.append((spread / counting.density(made), spread))
    return kept, np.reshape(found, (len(kept), 2))


def _counted(design: ConditionalDesign, unknowns: np.ndarray, x: float) -> float:
    """Return the number of eigenvalues above x, from unknowns that are nearly right."""
    height = x * counting.TABLE
    made = law.step(design, unknowns, complex(x, height))
    return counting.continued(design, made, height)
