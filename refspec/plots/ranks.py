"""Pictures of eigenvalues by rank: scree, proved intervals, shares by level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from refspec import checks
from refspec.attribution import Attribution
from refspec.plots.style import (
    COLOURS,
    KINDS,
    MARKERS,
    axes_or_new,
    eigenvalues_of,
    expect_attribution,
    expect_eigenvalues,
    in_legend,
    legend,
    powers,
    rank_axis,
    visible_level,
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
    ax.set(xlabel="rank k", ylabel="eigenvalue")
    ax.set_xlim(0.8, max(2, int(seen.sum())) * 1.25)
    rank_axis(ax)
    if seen.any():  # a logarithmic axis needs something positive
        ax.set_yscale("log")
        powers(ax.yaxis)
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
    _line(ax, class_means, result, "between_class", "-", "class means alone")
    if "within_cross_class" in result.knockouts:
        cells = result.knockouts["within_cross_class"][:top]
        told = "class and cross-class means"
        _line(ax, cells, result, "between_cross_class", "--", told)
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
        M the rest; narrower ones with B the levels of all means, M what is within. A
        lower end at or below zero is drawn to the axis.
    """
    expect_attribution(result)
    top = checks.expect_size("top", top, least=1)
    ax, values = axes_or_new(ax), eigenvalues_of(result)[:top]
    rank = np.arange(1, len(values) + 1)
    upper = result.upper[:top]
    floor = max(float(values[-1]) if len(values) else 0.0, result.radius) / 10
    _intervals(ax, result.lower[:top], upper, floor, ("by class means", 7, 0.4))
    if "within_cross_class" in result.levels:
        lower, upper = all_means_interval(result)
        _intervals(ax, lower[:top], upper[:top], floor, ("by all means", 3.5, 0.9))
    for kind in KINDS:
        mine = np.asarray(result.kinds)[:top] == kind
        if mine.any():
            sign, colour = MARKERS[kind], COLOURS[kind]
            ax.plot(rank[mine], values[mine], sign, ms=5, color=colour, label=kind)
    ax.set(xlabel="rank k", ylabel="eigenvalue")
    ax.set_xlim(0.4, max(1, len(values)) + 0.6)
    if floor > 0:
        ax.set_yscale("log")
        ax.set_ylim(bottom=floor)
        powers(ax.yaxis)
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
        told = in_legend(name, visible_level(name, result))
        ax.bar(rank, part, 1.0, height, color=COLOURS[name], label=told)
        height = height + part
    ax.set(xlabel="rank k", ylabel="share of the eigenvalue", ylim=(0, 1))
    ax.set_xlim(0.5, max(1, len(height)) + 0.5)
    whole_ranks(ax)
    legend(ax)
    return ax


def all_means_interval(result: Attribution) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the intervals that class and cross-class means prove, (r,).

    Weyl: lambda_k(B) <= lambda_k <= lambda_k(B) + lambda_1(W), W what is within.
    """
    made, within = (x["within_cross_class"] for x in (result.knockouts, result.levels))
    n, reach = len(result.kinds), max(0.0, float(np.max(within, initial=0.0)))
    B = np.pad(made, (0, max(0, n - len(made))))[:n]
    return B - result.radius, B + reach + 2 * result.radius


def _intervals(
    ax: Axes,
    lower: np.ndarray,
    upper: np.ndarray,
    floor: float,
    look: tuple[str, float, float],
) -> None:
    """Draw proved intervals by rank; look: who proves them, width and opacity."""
    told, width, alpha = look
    style: Any = {"color": COLOURS["total"], "lw": width, "alpha": alpha}
    rank = np.arange(1, len(upper) + 1)
    ax.vlines(rank, np.clip(lower, floor, None), np.clip(upper, floor, None), **style)
    ax.plot([], [], label=f"proved {told}", **style)


def _line(
    ax: Axes, values: np.ndarray, result: Attribution, level: str, dash: str, told: str
) -> None:
    """Draw resolved eigenvalues of a part of the whole by rank."""
    seen = np.flatnonzero(values > result.radius)
    style: Any = {"color": COLOURS[level], "ls": dash, "lw": 1.2}
    ax.plot(seen + 1, values[seen], label=told, **style)
