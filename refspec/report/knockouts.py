"""Every knock-out of a spectrum as plain data, small enough to travel in a page.

One eigenbasis gives the spectrum without any subset of the levels, and the shares of
those that stay. What a page shows of each is its top eigenvalues and two histograms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec import backend
from refspec.attribution import Attribution, Eigenbasis, knockout
from refspec.attribution.shares import remaining_shares
from refspec.curvature import SecondMoment, in_pieces
from refspec.leading import leading, squared_lengths
from refspec.plots.style import SEEN
from refspec.structure import KINDS, decompose

#: Bins of a histogram, equal on its axis.
BINS = 48

#: Significant digits that a page carries, and what shares are whole multiples of.
_DIGITS = 6
_SHARES = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Knockouts:
    """A spectrum without every subset of the levels that a page tells apart.

    groups: the levels that stand for each of them; values, shares, radii: of subset m,
    whose levels are those of the bits of m, by level that stays; complete: whether
    these are all eigenvalues, or the largest.
    """

    groups: dict[str, list[str]]
    values: list[np.ndarray]
    shares: list[dict[str, np.ndarray]]
    radii: list[float]
    complete: bool = True


def subsets(levels: list[str]) -> list[list[str]]:
    """Return all subsets; number m holds the levels of the bits of m."""
    n = len(levels)
    return [[levels[i] for i in range(n) if m >> i & 1] for m in range(2**n)]


def rounded(x: Any) -> float:
    """Return the number with the digits that a page carries."""
    return float(f"{float(x):.{_DIGITS}g}")


def knockouts_of(basis: Eigenbasis) -> Knockouts:
    """Solve for the spectrum without every subset of the levels.

    Theory: theory/attribution.md#A1. An attribution of the basis solves none again.
    """
    total, own = float(np.sum(backend.to_host(basis.values))), 0.0
    if "diagonal" in basis.rows:
        own = float(np.sum(backend.to_host(basis.rows["diagonal"]) ** 2))
    groups = _groups([*basis.rows, basis.within], own, total)
    values, shares, radii = [], [], [basis.spectrum.radius]
    for removed in subsets(list(groups)):
        names = [x for n in removed for x in groups[n]]
        left, parts = remaining_shares(basis, names)
        values.append(np.asarray(left, np.float64))
        shares.append(_together(parts, groups, removed))
        if names:
            radii.append(knockout(basis, names)[1])
    return Knockouts(groups, values, shares, radii)


def leading_knockouts(moment: SecondMoment, whole: Attribution) -> Knockouts:
    """Find the largest eigenvalues without every subset of the levels, by products.

    As many as the whole is attributed at. Theory: theory/attribution.md#A6.
    """
    split, k = decompose(in_pieces(moment)), len(backend.to_host(whole.spectrum.values))
    total = sum(whole.traces.values())
    groups = _groups(list(split.levels), whole.traces.get("diagonal", 0.0), total)
    values, shares, radii = [], [], []
    for removed in subsets(list(groups)):
        stay = [x for n in groups if n not in removed for x in groups[n]]
        if not removed:
            found, parts = backend.to_host(whole.spectrum.values), whole.shares
        elif not stay:
            found, parts = np.zeros(k), {}
        else:
            top = leading(split.together(stay), k)
            found, rows, parts = top.values, top.rows, {}
            for n in stay:
                level = split.levels[n]
                parts[n] = squared_lengths(level, level.project(rows))
        values.append(np.asarray(found, np.float64))
        shares.append(_together(parts, groups, removed))
        radii.append(whole.radius if not removed or not stay else top.radius)
    return Knockouts(groups, values, shares, radii, complete=False)


def _groups(levels: list[str], own: float, total: float) -> dict[str, list[str]]:
    """Return the levels that stand for each that a page tells apart.

    A diagonal that nobody can see by itself, of trace `own`, is counted with the class
    means, with which it is collinear (theory/levels.md#L4).
    """
    groups = {n: [n] for n in levels}
    if "diagonal" in groups and own < SEEN * total:
        groups["between_class"] += groups.pop("diagonal")
    return groups


def _together(
    parts: Mapping[str, np.ndarray], groups: dict[str, list[str]], removed: list[str]
) -> dict[str, np.ndarray]:
    """Return the shares of the groups that stay."""
    return {
        n: np.sum([parts[x] for x in groups[n]], axis=0)
        for n in groups
        if parts and n not in removed
    }


def knockout_record(
    title: str, made: Knockouts, found: Attribution, top: int
) -> dict[str, Any]:
    """Return a spectrum, its attribution and all its knock-outs as plain data.

    For each spectrum the `top` eigenvalues, their shares and histograms on both axes:
    `values[m]`, `shares[m]`, `bins[axis][m]` are without the levels of the bits of m.
    """
    levels, whole = list(made.groups), made.values[0]
    # where histograms start: what is above it is known in every knock-out
    floor = found.radius if made.complete else max(found.radius, *whole[-1:])
    shown = whole[whole > floor]
    n = min(top, len(whole))
    edges = {"log": _edges(shown), "linear": np.linspace(0, _top(whole), BINS + 1)}
    values, shares = [], []
    bins: dict[str, list[dict[str, Any]]] = {axis: [] for axis in edges}
    for m in range(len(made.values)):
        x, parts = made.values[m], made.shares[m]
        kept = np.pad(x, (0, max(0, n - len(x))))[:n]
        values.append([rounded(v) for v in np.maximum(kept, 0)])
        shares.append(
            {k: [round(_SHARES * float(v)) for v in y[:n]] for k, y in parts.items()}
        )
        for axis, at in edges.items():
            bins[axis].append(_binned(x, parts, at, floor))
    return {
        "title": title,
        "dimension": found.spectrum.dimension,
        "complete": made.complete,
        "resolved": len(shown),
        "floor": rounded(floor),
        "slack": rounded(found.radius),  # the largest radius
        "levels": levels,
        "joined": [x for y in made.groups.values() for x in y[1:]],
        "values": values,
        "radius": [rounded(x) for x in made.radii],
        "shares": shares,
        "scale": _SHARES,
        "bins": bins,
        "edges": [rounded(np.log10(edges["log"][k])) for k in (0, -1)],
        "traces": [
            rounded(sum(found.traces[x] for x in y)) for y in made.groups.values()
        ],
        "kinds": found.kinds[:top],
        "counts": found.counts,
        "proved": [bool(x) for x in found.proved[:top]],
        "lower": [rounded(max(x, 0.0)) for x in found.lower[:top]],
        "upper": [rounded(x) for x in found.upper[:top]],
        "reach": _reach(found),
    }


def _reach(found: Attribution) -> dict[str, float]:
    """Return what each kind must stand above: the most that weaker levels can make."""
    (within,) = (x for n, x in found.levels.items() if KINDS[n] == "bulk")
    bump = "between_cross_class" in found.levels
    rest = found.knockouts["between_class"] if bump else within
    reach = {"outlier": rounded(_top(rest))}
    return {**reach, "bump": rounded(_top(within))} if bump else reach


def _binned(
    x: np.ndarray, parts: dict[str, np.ndarray], edges: np.ndarray, floor: float
) -> dict[str, Any]:
    """Return how many values are in each bin, and the sums of their shares there."""
    seen = x > floor
    counts = np.histogram(x[seen], edges)[0].tolist()
    made: dict[str, Any] = {"counts": counts, "shares": {}}
    for n, share in parts.items():
        sums = np.histogram(x[seen], edges, weights=share[seen])[0]
        made["shares"][n] = [round(float(v), 3) for v in sums]
    return made


def _top(values: np.ndarray) -> float:
    """Return the largest eigenvalue, or 0."""
    return max(0.0, float(values[0])) if len(values) else 0.0


def _edges(values: np.ndarray) -> np.ndarray:
    """Return edges around positive descending values, equal on a log axis."""
    if len(values) == 0:
        return np.geomspace(0.1, 1, BINS + 1)
    return np.geomspace(values[-1] / 1.05, values[0] * 1.05, BINS + 1)
