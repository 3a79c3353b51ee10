"""Every knock-out of a spectrum as plain data, small enough to travel in a page.

One eigenbasis gives the spectrum without any subset of the levels. What a page shows
of each is its top eigenvalues and a histogram of all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refspec import backend
from refspec.attribution import Attribution, Eigenbasis, knockout

#: Bins of a histogram, equal on a logarithmic axis.
BINS = 48

#: Significant digits that a page carries.
_DIGITS = 6


def subsets(levels: list[str]) -> list[list[str]]:
    """Return all subsets; number m holds the levels of the bits of m."""
    n = len(levels)
    return [[levels[i] for i in range(n) if m >> i & 1] for m in range(2**n)]


def rounded(x: Any) -> float:
    """Return the number with the digits that a page carries."""
    return float(f"{float(x):.{_DIGITS}g}")


def knockout_record(
    title: str, basis: Eigenbasis, found: Attribution, top: int
) -> dict[str, Any]:
    """Return a spectrum, its attribution and all its knock-outs as plain data.

    For each spectrum the `top` eigenvalues and a histogram: `values[m]`, `counts[m]`
    are without the levels of the bits of m. Theory: theory/attribution.md#A1.
    """
    levels = [n for n in found.shares if n in found.traces]
    whole = np.asarray(backend.to_host(basis.values), np.float64)
    shown = whole[whole > found.radius]
    edges = _edges(shown)
    values, counts, radii = [], [], []
    for removed in subsets(levels):
        kept, radius = (
            knockout(basis, removed) if removed else (basis.values, found.radius)
        )
        x = np.asarray(backend.to_host(kept), np.float64)
        x = np.pad(x, (0, max(0, len(whole) - len(x))))
        values.append([rounded(v) for v in np.maximum(x[:top], 0)])
        counts.append(np.histogram(x[x > found.radius], edges)[0].tolist())
        radii.append(rounded(radius))
    radii[0] = rounded(basis.spectrum.radius)
    stacks = []
    for n in levels:
        weights = found.shares[n][: len(shown)]
        parts = np.histogram(shown, edges, weights=weights)[0]
        stacks.append([round(float(v), 3) for v in parts])
    return {
        "title": title,
        "dimension": basis.spectrum.dimension,
        "resolved": len(shown),
        "floor": rounded(found.radius),  # the largest radius: histograms start here
        "levels": levels,
        "values": values,
        "counts": counts,
        "radius": radii,
        "traces": [rounded(found.traces[n]) for n in levels],
        "stacks": stacks,
        "edges": [rounded(np.log10(edges[0])), rounded(np.log10(edges[-1]))],
        "shares": [[round(float(v), 4) for v in found.shares[n][:top]] for n in levels],
        "kinds": found.kinds[:top],
        "proved": [bool(x) for x in found.proved[:top]],
        "lower": [rounded(max(x, 0.0)) for x in found.lower[:top]],
        "upper": [rounded(x) for x in found.upper[:top]],
    }


def _edges(values: np.ndarray) -> np.ndarray:
    """Return edges around positive descending values, equal on a log axis."""
    if len(values) == 0:
        return np.geomspace(0.1, 1, BINS + 1)
    return np.geomspace(values[-1] / 1.05, values[0] * 1.05, BINS + 1)
