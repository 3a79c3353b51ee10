"""Pictures of one attributed spectrum: where its eigenvalues are, whose they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from refspec import checks
from refspec.attribution import Attribution
from refspec.plots.ranks import sandwich, scree, shares
from refspec.plots.style import (
    COLOURS,
    axes_or_new,
    count_axis,
    eigenvalues_of,
    expect_attribution,
    expect_eigenvalues,
    figure,
    head,
    in_legend,
    label,
    legend,
    plain,
    powers,
    shares_of,
    visible_level,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from refspec.spectra import Spectrum

_STAYS = "#BBBBBB"


def spectrum(
    result: Attribution | Spectrum,
    ax: Axes | None = None,
    *,
    log: bool = True,
    bins: int = 50,
) -> Axes:
    """Draw the histogram of eigenvalues, every bin split into the levels' shares.

    Parameters
    ----------
    result : Attribution or Spectrum, of any second moment
        Without levels the bars are whole.
    ax : Axes, optional, a new figure's by default
    log : bool
        Logarithmic eigenvalue axis (one eigenvalue and the bulk both show); else a
        linear one (how far the outliers stand out).
    bins : int

    Returns
    -------
    Axes
        Eigenvalues within the radius of zero are left out. Counts are on a square-root
        scale, so that a single eigenvalue is seen beside hundreds; the drawn height
        of a bar is split in proportion to the shares.

    Examples
    --------
    >>> import refspec
    >>> found = refspec.attribute(refspec.errors(refspec.datasets.digits_mlp(), "fc3"))
    >>> spectrum(found).get_xscale()
    'log'
    """
    expect_eigenvalues(result)
    bins = checks.expect_size("bins", bins, least=1)
    ax, values = axes_or_new(ax), eigenvalues_of(result)
    seen = values > result.radius
    edges = _edges(values[seen], log, bins)
    count = np.histogram(values[seen], edges)[0]
    below = np.zeros(len(count))
    shares = shares_of(result)
    for name in (n for n in reversed(COLOURS) if n in shares):
        weights = shares[name][seen]
        part = np.histogram(values[seen], edges, weights=weights)[0]
        above = below + part / np.maximum(count, 1)
        bottom, height = count * below**2, count * (above**2 - below**2)
        told = in_legend(name, visible_level(name, result))
        style: Any = {"color": COLOURS[name], "label": told, "align": "edge"}
        ax.bar(edges[:-1], height, np.diff(edges), bottom, **style)
        below = above
    count_axis(ax)
    ax.set(xscale="log" if log else "linear", xlabel="eigenvalue")
    if log:
        powers(ax.xaxis)
    if isinstance(result, Attribution):
        legend(ax)
    return ax


def knockout(
    result: Attribution, level: str, ax: Axes | None = None, *, bins: int = 50
) -> Axes:
    """Draw the spectrum without one level over the whole's.

    Parameters
    ----------
    result, ax, bins
        As in `spectrum`.
    level : str
        What to take out, by subtraction.

    Returns
    -------
    Axes
        What stays is filled; the whole is the outline, in the colour of the level.

    Raises
    ------
    ValueError
        If there is no such level.
    """
    expect_attribution(result)
    checks.expect_choice("level", level, result.knockouts)
    bins = checks.expect_size("bins", bins, least=1)
    ax, values = axes_or_new(ax), eigenvalues_of(result)
    rest = result.knockouts[level]
    edges = _edges(values[values > result.radius], True, bins).tolist()
    ax.hist(rest[rest > result.radius], edges, color=_STAYS, label="what stays")
    style: dict[str, Any] = {"histtype": "step", "color": COLOURS[level], "lw": 1.3}
    ax.hist(values[values > result.radius], edges, label="the whole", **style)
    count_axis(ax)
    ax.set(xscale="log", xlabel="eigenvalue")
    powers(ax.xaxis)
    legend(ax)
    head(ax, f"minus {label(level)}")
    return ax


def knockouts(result: Attribution) -> list[Axes]:
    """Draw the whole and every knock-out, one above another, on the same axes.

    Parameters
    ----------
    result : Attribution, of any second moment

    Returns
    -------
    list of Axes
        Those of a new figure, the whole first, without a diagonal that nobody can see.
        Papyan (2020), Figure 5.
    """
    expect_attribution(result)
    levels = [n for n in COLOURS if n in result.knockouts and visible_level(n, result)]
    rows = len(levels) + 1
    _, axes = figure(rows, 1, size=(6, 1.3 + 1.9 * rows))
    spectrum(result, axes[0])
    head(axes[0], "the whole, every bar split into the levels' shares")
    for level, ax in zip(levels, axes[1:], strict=True):
        knockout(result, level, ax)
    for ax in axes:
        ax.set(xlim=axes[0].get_xlim(), ylim=axes[0].get_ylim())
        ax.set_ylabel("count, root scale")
    for ax in axes[:-1]:
        ax.set_xlabel("")
        ax.tick_params(labelbottom=False)
    return axes


def attribution(result: Attribution, title: str = "") -> list[Axes]:
    """Draw the four pictures of a spectrum: histogram, scree, shares, sandwich.

    Parameters
    ----------
    result : Attribution, of any second moment
    title : str, what the matrix is

    Returns
    -------
    list of Axes
        Those of a new figure.
    """
    expect_attribution(result)
    made, axes = figure(2, 2, size=(11, 8.6))
    head(spectrum(result, axes[0]), "where eigenvalues are, and whose")
    head(scree(result, axes[1]), "by rank, and what means make by themselves")
    head(shares(result, axes[2]), "shares of the top eigenvalues")
    head(sandwich(result, axes[3]), "what is proved of the top eigenvalues")
    made.suptitle(plain(title))
    return axes


def _edges(values: np.ndarray, log: bool, bins: int) -> np.ndarray:
    """Return bin edges around positive values."""
    if len(values) == 0:
        return np.asarray([0.5, 1.5])
    top = float(values.max())
    if log:
        return np.geomspace(float(values.min()) / 1.1, top * 1.1, bins + 1)
    return np.linspace(0, top * 1.02, bins + 1)
