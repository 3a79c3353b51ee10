"""Pictures of verdicts: how much of its bound every statement uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from refspec import checks
from refspec.plots.style import COLOURS, axes_or_new, legend, powers
from refspec.theorems import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def verdicts(results: Mapping[str, Verdict], ax: Axes | None = None) -> Axes:
    """Draw the margin, residual over bound, of every verdict, by the theorem's id.

    A statement holds left of the line at 1. Margins below the left end, 0 among them,
    are drawn there; infinite ones at the right end.
    """
    checks.expect_type("results", results, Mapping, "give verdicts by id")
    if not results:
        raise ValueError("results must hold at least one verdict, got none; run some")
    for each in results.values():
        checks.expect_type("each of results", each, Verdict, "theorem.check makes one")
    ax = axes_or_new(ax)
    margins = np.asarray([v.margin for v in results.values()], np.float64)
    finite = margins[np.isfinite(margins) & (margins > 0)]
    low = float(min(1e-3, 10 ** np.floor(np.log10(finite.min(initial=1e-3)))))
    high = float(max(10.0, 10 ** np.ceil(np.log10(finite.max(initial=10.0)))))
    at = np.clip(np.nan_to_num(margins, nan=np.inf), low, high)
    holds = np.asarray([v.holds for v in results.values()])
    row = np.arange(len(at))
    looks = (holds, "bulk", "o", "holds"), (~holds, "outlier", "X", "does not hold")
    for mine, kind, marker, label in looks:
        if mine.any():
            told, hue = f"{label} ({mine.sum()})", COLOURS[kind]
            ax.hlines(row[mine], low, at[mine], color=hue, lw=1, alpha=0.5)
            ax.plot(at[mine], row[mine], marker, clip_on=False, color=hue, label=told)
    ax.axvline(1, color="0.3", lw=1)
    ax.set_yticks(row, list(results), fontsize=9)
    ax.set(xscale="log", xlim=(low, high), xlabel="residual / bound")
    powers(ax.xaxis)
    ax.set_ylim(len(at) - 0.5, -0.5)
    legend(ax)
    return ax
