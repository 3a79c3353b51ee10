"""Eigenvalues above the edges: what stands clear of everything within classes.

The edge of a part of a second moment is its largest eigenvalue. What stands above the
edge of the whole without its class means is an outlier; what stands above the edge of
the within level, a bump beside the bulk or an outlier.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.stats

from refspec import backend, curvature
from refspec.attribution import (
    Attribution,
    Eigenbasis,
    attribute,
    eigenbasis,
    knockout,
    span_angles,
)
from refspec.claims.registry import (
    VERDICTS,
    Evidence,
    Subject,
    counted,
    fisher,
    graded,
    said,
    small,
    together,
    unjudged,
)
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment
from refspec.results import Result
from refspec.structure import KINDS


@dataclass(frozen=True, slots=True, eq=False)
class Edges(Result):
    """The eigenvalues of a second moment beside the edges of its parts.

    Parameters
    ----------
    attribution : Attribution
        The whole.
    class_edge, within_edge : float
        Largest eigenvalue of the whole without class means (and diagonal), and of the
        within level. Where only the largest eigenvalues are known, an upper bound of
        the class edge: of the whole without the class means alone.
    above_class, above_within : (int, int)
        How many eigenvalues certainly and possibly stand above each edge, radii
        counted.
    largest : int
        The most that can stand above the class edge, by rank: the number that the paper
        names, C, or C - 1 for vectors that add up to zero, or fewer dimensions.
    cells : int
        The most that can stand above the within edge: C(C - 1), or C for features.
    sine : float
        Largest sine between the span of the class means and as many top eigenvectors;
        nan where only the largest eigenvalues are known.
    """

    attribution: Attribution
    class_edge: float
    within_edge: float
    above_class: tuple[int, int]
    above_within: tuple[int, int]
    largest: int
    cells: int
    sine: float

    def __repr__(self) -> str:
        """Say the counts."""
        return (
            f"Edges({self.above_class[0]} of {self.largest} above the class edge, "
            f"{self.above_within[0]} of {self.cells} above the within edge)"
        )


def edges(
    moment: SecondMoment | Eigenbasis | Snapshot, *, top: int | None = None
) -> Edges:
    """Count the eigenvalues that stand above the edges of what is not class structure.

    Parameters
    ----------
    moment : SecondMoment, Eigenbasis or Snapshot
        Features, errors or gradients; a snapshot stands for its Fisher information.
    top : int, optional
        How many of the largest eigenvalues to look at, from products alone; at least as
        many as are to be counted. All by default.

    Returns
    -------
    Edges

    Raises
    ------
    TypeError, ValueError
        As `refspec.attribute`.

    Notes
    -----
    Theory: theory/attribution.md#A1; theory/levels.md#L2. By rank no more eigenvalues
    than `largest` and `cells` can stand above the edges.

    Examples
    --------
    >>> import refspec
    >>> found = edges(refspec.datasets.wine_sklearn())
    >>> found.largest, found.cells
    (3, 6)
    """
    if top is not None:
        return edges_of(attribute(moment, top=top), _classes(moment))
    basis = moment if isinstance(moment, Eigenbasis) else eigenbasis(moment)
    return edges_in(basis, attribute(basis))


def edges_in(basis: Eigenbasis, whole: Attribution) -> Edges:
    """Return the edges of what was put in an eigenbasis and attributed."""
    means = [n for n in basis.rows if KINDS[n] == "outlier"]
    cells = int(basis.rows[means[0]].shape[0])
    C = cells if basis.within == "within_class" else math.isqrt(cells)
    rest, radius = knockout(basis, means)
    radius = max(radius, whole.radius)
    class_edge = _top(backend.to_host(rest))
    within_edge = _top(whole.levels[basis.within])
    values = backend.to_host(basis.values)
    others = [n for n in (*basis.rows, basis.within) if n not in means]
    between = backend.to_host(knockout(basis, others)[0])
    most, angles = C if cells == C else C * (C - 1), span_angles(basis, means)
    return Edges(
        whole,
        class_edge,
        within_edge,
        above(values, class_edge, radius),
        above(values, within_edge, radius),
        min(C, int(np.sum(between > radius))),
        min(most, len(values)),
        float(np.sin(angles).max()) if len(angles) else np.nan,
    )


def edges_of(whole: Attribution, C: int) -> Edges:
    """Return the edges of what was attributed at its largest eigenvalues.

    The class edge lies between that without class means alone and as much less as the
    diagonal's largest eigenvalue.
    """
    (within,) = (n for n in whole.shares if KINDS[n] == "bulk")
    cells, less = C, 0.0
    class_edge = within_edge = _top(whole.levels[within])
    if within == "within_cross_class":
        cells, less = C * (C - 1), _top(whole.levels["diagonal"])
        class_edge = _top(whole.knockouts["between_class"])
    values = backend.to_host(whole.spectrum.values)
    lowest = above(values, class_edge - less, whole.radius)[1]
    return Edges(
        whole,
        class_edge,
        within_edge,
        (above(values, class_edge, whole.radius)[0], lowest),
        above(values, within_edge, whole.radius),
        min(C, int(np.sum(whole.lower > 0))),
        min(cells, len(values)),
        math.nan,
    )


def _classes(moment: SecondMoment | Eigenbasis | Snapshot) -> int:
    """Return how many classes a moment or a snapshot has."""
    assert not isinstance(moment, Eigenbasis)  # attributed without `top`
    return len(moment.offsets) - 1


def seen(subject: Subject, of: str, *layers: str) -> Edges:
    """Return the edges of features, errors or gradients of a layer, or of all."""
    if of == "gradients" and not layers:
        moment = subject.once(fisher)
    elif of == "gradients":
        moment = curvature.fisher(subject.snapshot, list(layers))
    else:
        build = {"features": curvature.features, "errors": curvature.errors}[of]
        moment = build(subject.snapshot, *layers)
    return edges(moment, top=subject.top(moment))


def above(values: np.ndarray, edge: float, radius: float) -> tuple[int, int]:
    """Return how many values certainly and possibly lie above an edge."""
    certain, possible = values > edge + 2 * radius, values > edge - 2 * radius
    return int(np.sum(certain)), int(np.sum(possible))


def _top(values: np.ndarray) -> float:
    """Return the largest eigenvalue, 0 if there is none."""
    return max(0.0, float(values[0])) if len(values) else 0.0


def features(subject: Subject) -> Iterator[Evidence]:
    """Judge F in every layer: C outliers, the largest from the global mean."""
    for x in subject.snapshot.layers:
        found = subject.once(seen, "features", x.name)
        a = found.attribution
        if not a.kinds:
            yield unjudged(f"features of {x.name}", "they are zero")
            continue
        first = float(a.shares["global_mean"][0])
        low, high = found.above_class
        numbers = {
            "above the within-class edge, certainly": low,
            "above the within-class edge, possibly": high,
            "of": found.largest,
            "share of the global mean in the largest": first,
            "largest sine to the span of class means": found.sine,
        }
        verdict = together([counted((low, high), found.largest), graded(first)])
        text = f"{low} of {found.largest} outliers, {first:.2f} of the largest global"
        yield Evidence(f"features of {x.name}", numbers, verdict, text)


def errors(subject: Subject) -> Iterator[Evidence]:
    """Judge E in every layer."""
    s = subject.snapshot
    C = s.probabilities.shape[1]
    for x in s.layers:
        found = subject.once(seen, "errors", x.name)
        yield _three_groups(found, C, f"errors of {x.name}")


def gradients(subject: Subject) -> Iterator[Evidence]:
    """Judge G of all layers together and of each."""
    C = subject.C
    for place, found in _fishers(subject):
        yield _three_groups(found, C, place)


def _fishers(subject: Subject) -> Iterator[tuple[str, Edges]]:
    """Yield the Fisher information of the whole and of every layer, with its place."""
    if isinstance(subject.network, SecondMoment):
        yield "the Fisher information", subject.once(seen, "gradients")
        return
    yield "all layers of the export", subject.once(seen, "gradients")
    layers = subject.snapshot.layers
    for x in layers if len(layers) > 1 and subject.per_layer else ():
        yield f"layer {x.name}", subject.once(seen, "gradients", x.name)


def _three_groups(found: Edges, C: int, place: str) -> Evidence:
    """Hold the counts above both edges against C outliers and C(C - 1) in all."""
    if not found.attribution.kinds:
        return unjudged(place, "the matrix is zero")
    low, high = found.above_class
    within = found.above_within
    numbers = {
        "above the edge without class means, certainly": low,
        "above the edge without class means, possibly": high,
        "of": found.largest,
        "above the within edge, certainly": within[0],
        "above the within edge, possibly": within[1],
        "of ": found.cells,
        "largest sine to the span of class means": found.sine,
    }
    verdicts = [counted((low, high), found.largest), counted(within, found.cells)]
    text = f"{low} of {found.largest} outliers, {within[0]} of {found.cells} above the "
    text += "within edge"
    # where dimensions allow as many, and it is near one of them at all
    if found.cells == C * (C - 1) and verdicts[1] != VERDICTS[2]:
        named = {"C(C-2)": C * (C - 2), "C(C-1)": C * (C - 1), "C^2": C * C}
        middle = (within[0] + within[1]) / 2
        nearest = min(named, key=lambda n: abs(named[n] - middle))
        text += f" (nearest of the numbers named: {nearest} = {named[nearest]})"
    return Evidence(place, numbers, together(verdicts), text)


def bulk(subject: Subject) -> Iterator[Evidence]:
    """Judge W: what does not stand above the within edge is the within level."""
    for place, found in _fishers(subject):
        a, first = found.attribution, found.above_within[0]
        if first == len(a.kinds):
            yield unjudged(place, "no eigenvalue is known below the within edge")
            continue
        values = backend.to_host(a.spectrum.values)[: len(a.kinds)]
        (within,) = (n for n in a.shares if KINDS[n] == "bulk")
        # eigenvalues times shares add up to the level's trace: the bulk has the rest
        taken = float(values[:first] @ a.shares[within][:first])
        total = sum(a.traces.values()) - float(np.sum(values[:first]))
        share = (a.traces[within] - taken) / total
        rest, level, distance = values[first:], a.levels[within], np.nan
        known = rest[rest > a.radius], level[level > a.radius]
        if a.spectrum.complete and all(map(len, known)):
            distance = float(scipy.stats.ks_2samp(*known).statistic)
        numbers = {
            "share of the within level in the bulk's trace": share,
            "Kolmogorov distance of the bulk to the level's own spectrum": distance,
            "eigenvalues known in the bulk": len(rest),
        }
        known_to = said(distance, ".3f", "has no resolved eigenvalue")
        if not a.spectrum.complete:
            known_to = "needs all eigenvalues"
        text = f"{share:.2f} of the bulk's trace, distance {known_to}"
        yield Evidence(place, numbers, together([graded(share), small(distance)]), text)


def diagonal(subject: Subject) -> Iterator[Evidence]:
    """Judge D: c' = c has no visible effect."""
    C = subject.C
    for place, found in _fishers(subject):
        a = found.attribution
        total = sum(a.traces.values())
        if not a.kinds:
            yield unjudged(place, "the matrix is zero")
            continue
        values = backend.to_host(a.spectrum.values)[: len(a.kinds)]
        without = np.pad(a.knockouts["diagonal"], (0, len(values)))[: len(values)]
        top = min(C * (C - 1), len(values))
        moved = float(np.max(1 - without[:top] / values[:top]))
        share = a.traces["diagonal"] / total
        numbers = {
            "share of the trace": share,
            "largest relative move of one of the C(C - 1) largest": moved,
        }
        text = f"{share:.3f} of the trace, moves none by more than {moved:.3f}"
        yield Evidence(place, numbers, together([small(share), small(moved)]), text)
