"""Pictures of eigenvalues by rank: scree, proved intervals, shares by level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from refspec import checks
from refspec.attribution import Attribution
from refspec.plots.style import (
    COLOURS,
    KINDS,
    MARKERS,
    attributed_values,
    axes_or_new,
    eigenvalues_of,
    expect_attribution,
    expect_eigenvalues,
    label,
    legend,
    whole_ranks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from refspec.spectra import Spectrum


def scree(
    result: Attribution | Spectrum, ax: Axes | None = None, *, top: int | None = None
) -> Axes:
    """Draw eigenvalues by rank: of the whole, of class means, of all cell means.

    Parameters
    ----------
    result, ax
        As in `refspec.plots.spectrum`.
    top : int, optional, how many; all by default

    Returns
    -------
    Axes
        By Weyl's inequality the lines lie below the points. Of a `Spectrum` points
        alone.
    """
    expect_eigenvalues(result)
    values = eigenvalues_of(result)
    top = len(values) if top is None else checks.expect_size("top", top, least=1)
    ax, values = axes_or_new(ax), values[:top]
    rank, seen = np.arange(1, len(values) + 1), values > result.radius
    if isinstance(result, Attribution):
        _by_kind(ax, result, values, seen)
    else:
        ax.plot(rank[seen], values[seen], "o", ms=4, color=COLOURS["total"])
    ax.set(xscale="log", xlabel="rank k", ylabel="eigenvalue")
    if seen.any():  # a logarithmic axis needs something positive
        ax.set_yscale("log")
    ax.set_xlim(0.8, max(2, int(seen.sum())) * 1.25)
    return ax


def _by_kind(
    ax: Axes, result: Attribution, values: np.ndarray, seen: np.ndarray
) -> None:
    """Draw values by kind, and the lines of class and of all means below them."""
    top, rank = len(values), np.arange(1, len(values) + 1)
    kinds = np.asarray(result.kinds)[:top]
    for kind in KINDS:
        mine = seen & (kinds == kind)
        if mine.any():
            told, colour = f"{kind} ({mine.sum()})", COLOURS[kind]
            ax.plot(
                rank[mine], values[mine], MARKERS[kind], ms=4, color=colour, label=told
            )
    class_means = result.lower[:top] + result.radius
    _line(ax, class_means, result, COLOURS["between_class"], "class means alone")
    if "within_cross_class" in result.knockouts:
        cells = result.knockouts["within_cross_class"][:top]
        label = "class + cross-class means"
        _line(ax, cells, result, COLOURS["between_cross_class"], label)
    legend(ax)


def sandwich(result: Attribution, ax: Axes | None = None, *, top: int = 30) -> Axes:
    """Draw the top eigenvalues in the intervals that class means prove for them.

    Parameters
    ----------
    result, ax, top
        As in `scree`.

    Returns
    -------
    Axes
        Bars from lambda_k(B) to lambda_k(B) + lambda_1(M), B the levels of class means,
        M the rest; a lower end at or below zero is drawn to the axis.
    """
    expect_attribution(result)
    top = checks.expect_size("top", top, least=1)
    ax, values = axes_or_new(ax), attributed_values(result)[:top]
    rank = np.arange(1, len(values) + 1)
    upper = result.upper[:top]
    floor = max(float(values[-1]) if len(values) else 0.0, result.radius) / 10
    lower = np.clip(result.lower[:top], floor, None)
    ax.vlines(rank, lower, upper, color=COLOURS["total"], lw=7, alpha=0.45)
    ax.plot([], [], color=COLOURS["total"], lw=7, alpha=0.45, label="proved interval")
    for kind in KINDS:
        mine = np.asarray(result.kinds)[:top] == kind
        if mine.any():
            sign, colour = MARKERS[kind], COLOURS[kind]
            ax.plot(rank[mine], values[mine], sign, ms=5, color=colour, label=kind)
    ax.set(xlabel="rank k", ylabel="eigenvalue")
    if floor > 0:
        ax.set_yscale("log")
        ax.set_ylim(bottom=floor)
    whole_ranks(ax)
    legend(ax)
    return ax


def shares(result: Attribution, ax: Axes | None = None, *, top: int = 30) -> Axes:
    """Draw what part of each top eigenvalue every level makes up.

    Parameters
    ----------
    result, ax, top
        As in `scree`.

    Returns
    -------
    Axes
        Stacked bars that add up to 1.
    """
    expect_attribution(result)
    top = checks.expect_size("top", top, least=1)
    ax = axes_or_new(ax)
    height = np.zeros(min(top, len(result.kinds)))
    rank = np.arange(1, len(height) + 1)
    for name in (n for n in COLOURS if n in result.shares):
        part = result.shares[name][:top]
        ax.bar(rank, part, 1.0, height, color=COLOURS[name], label=label(name))
        height = height + part
    ax.set(xlabel="rank k", ylabel="share of the eigenvalue", ylim=(0, 1))
    ax.set_xlim(0.5, max(1, len(height)) + 0.5)
    whole_ranks(ax)
    legend(ax)
    return ax


def _line(
    ax: Axes, values: np.ndarray, result: Attribution, colour: str, label: str
) -> None:
    """Draw resolved eigenvalues of a part of the whole by rank."""
    seen = np.flatnonzero(values > result.radius)
    ax.plot(seen + 1, values[seen], "-", color=colour, lw=1.2, label=label)
