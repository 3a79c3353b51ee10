"""Every knock-out of a spectrum as plain data, small enough to travel in a page.

One eigenbasis gives the spectrum without any subset of the levels, and the shares of
those that stay. What a page shows of each is its top eigenvalues and two histograms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec import backend
from refspec.attribution import Attribution, Eigenbasis, knockout
from refspec.attribution.shares import remaining_shares
from refspec.plots.style import SEEN

#: Bins of a histogram, equal on its axis.
BINS = 48

#: Significant digits that a page carries, and what shares are whole multiples of.
_DIGITS = 6
_SHARES = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Knockouts:
    """A spectrum without every subset of the levels that a page tells apart.

    groups: the levels that stand for each of them; values, shares: of subset m, whose
    levels are those of the bits of m, by level that stays.
    """

    basis: Eigenbasis
    groups: dict[str, list[str]]
    values: list[np.ndarray]
    shares: list[dict[str, np.ndarray]]


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
    groups = {n: [n] for n in (*basis.rows, basis.within)}
    total = float(np.sum(backend.to_host(basis.values)))
    if "diagonal" in basis.rows:
        own = float(np.sum(backend.to_host(basis.rows["diagonal"]) ** 2))
        # what nobody can see by itself is counted with the class means, with which it
        # is collinear (theory/levels.md#L4)
        if own < SEEN * total:
            groups["between_class"] += groups.pop("diagonal")
    values, shares = [], []
    for removed in subsets(list(groups)):
        left, parts = remaining_shares(basis, [x for n in removed for x in groups[n]])
        values.append(np.asarray(left, np.float64))
        shares.append(
            {
                n: np.sum([parts[x] for x in groups[n]], axis=0)
                for n in groups
                if parts and n not in removed
            }
        )
    return Knockouts(basis, groups, values, shares)


def knockout_record(
    title: str, made: Knockouts, found: Attribution, top: int
) -> dict[str, Any]:
    """Return a spectrum, its attribution and all its knock-outs as plain data.

    For each spectrum the `top` eigenvalues, their shares and histograms on both axes:
    `values[m]`, `shares[m]`, `bins[axis][m]` are without the levels of the bits of m.
    """
    basis, levels, floor = made.basis, list(made.groups), found.radius
    whole = made.values[0]
    shown = whole[whole > floor]
    n = min(top, len(whole))
    edges = {"log": _edges(shown), "linear": np.linspace(0, _top(whole), BINS + 1)}
    radii, values, shares = [basis.spectrum.radius], [], []
    bins: dict[str, list[dict[str, Any]]] = {axis: [] for axis in edges}
    for m, removed in enumerate(subsets(levels)):
        if m:
            names = [x for y in removed for x in made.groups[y]]
            radii.append(knockout(basis, names)[1])
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
        "dimension": basis.spectrum.dimension,
        "resolved": len(shown),
        "floor": rounded(floor),  # the largest radius: histograms start here
        "levels": levels,
        "joined": [x for y in made.groups.values() for x in y[1:]],
        "values": values,
        "radius": [rounded(x) for x in radii],
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
        "reach": _reach(basis, found),
    }


def _reach(basis: Eigenbasis, found: Attribution) -> dict[str, float]:
    """Return what each kind must stand above: the most that weaker levels can make."""
    within = found.levels[basis.within]
    bump = "between_cross_class" in basis.rows
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
