"""Pictures of one matrix beside others: Fisher and KFAC, Hessian and Fisher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from refspec import checks
from refspec.attribution import HessianAttribution
from refspec.kronecker import LayerComparison
from refspec.plots.style import (
    COLOURS,
    SEEN,
    axes_or_new,
    count_axis,
    figure,
    head,
    in_legend,
    label,
    legend,
    plain,
    power,
    powers,
    rank_axis,
    whole_ranks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: In the order in which they are drawn: hollow signs hide nothing below them, and KFAC,
#: which EKFAC would hide, is drawn over it.
_SIGNS: dict[str, dict[str, Any]] = {
    "cfac": {"marker": "D", "ls": "-", "ms": 4},
    "ekfac": {"marker": "s", "ls": "--", "ms": 6.5},
    "kfac": {"marker": "v", "ls": ":", "ms": 4.5},
}

#: Signs on a line of eigenvalues by rank, equally far apart on its axis.
_MARKED = 16


def approximations(result: LayerComparison, ax: Axes | None = None) -> Axes:
    """Draw the top eigenvalues of a layer's Fisher, KFAC, EKFAC and CFAC by rank.

    Parameters
    ----------
    result : LayerComparison, from `refspec.kronecker.compare_layer`
    ax : Axes, optional, a new figure's by default

    Returns
    -------
    Axes
        With the root mean square error of log10 eigenvalues in the legend. Papyan
        (2020), Figures 11 and 12.

    Examples
    --------
    >>> import refspec
    >>> from refspec.kronecker import compare_layer
    >>> found = compare_layer(refspec.datasets.digits_mlp(), "fc3")
    >>> approximations(found).get_yscale()
    'log'
    """
    advice = "refspec.kronecker.compare_layer makes one"
    checks.expect_type("result", result, LayerComparison, advice)
    ax = axes_or_new(ax)
    rank = np.arange(1, len(result.fisher) + 1)
    style: dict[str, Any] = {"color": COLOURS["fisher"], "lw": 1.2, "ms": 3.5}
    marked = _marked(len(rank))
    ax.plot(rank, result.fisher, "o-", markevery=marked, label="Fisher", **style)
    for name, signs in _SIGNS.items():
        values = result.eigenvalues[name]
        seen = values > result.radius
        error = result.log10_error[name]
        off = f"{error:.2f}" if error < 1 else f"{error:.2g}"  # what a legend holds
        told = f"{label(name)}, {off} decades off"
        style = {"color": COLOURS[name], "mfc": "none", "mew": 1.2, "lw": 1, **signs}
        at = _marked(int(seen.sum()))
        ax.plot(rank[seen], values[seen], markevery=at, label=told, **style)
    if np.any(result.fisher > 0):  # a logarithmic axis needs something positive
        ax.set_yscale("log")
        rank_axis(ax)
        powers(ax.yaxis)
    else:
        told, centre = "no eigenvalue above the radius", ax.transAxes
        ax.text(0.5, 0.5, told, ha="center", transform=centre)
        ax.set(xticks=[], yticks=[])
    ax.set(xlabel="rank k", ylabel="eigenvalue")
    legend(ax)
    return ax


def comparisons(results: Mapping[str, LayerComparison]) -> list[Axes]:
    """Draw `approximations` of several layers, by name, two in a row."""
    checks.expect_type("results", results, Mapping, "give comparisons by layer")
    if not results:
        raise ValueError("results must hold a comparison, got none; compare a layer")
    columns = min(2, len(results))
    rows = -(-len(results) // columns)
    _, axes = figure(rows, columns, size=(6.4 * columns, 4.4 * rows))
    for ax, (name, result) in zip(axes, results.items(), strict=False):
        head(approximations(result, ax), plain(f"layer {name}", 40))
    for ax in axes[len(results) :]:
        ax.remove()
    return axes[: len(results)]


def hessian(
    result: HessianAttribution, ax: Axes | None = None, *, bins: int = 60
) -> Axes:
    """Draw the spectra of the Hessian, of the Fisher and of E, on a signed log axis.

    Parameters
    ----------
    result : HessianAttribution, from `refspec.attribution.attribute_hessian`
    ax : Axes, optional, a new figure's by default
    bins : int

    Returns
    -------
    Axes
        Hessian = Fisher + E; Papyan (2018), Figures 1 to 3. The axis is linear between
        a millionth of the largest eigenvalue (or the radius) and its negative.

    Examples
    --------
    >>> import refspec
    >>> s = refspec.datasets.digits_mlp()
    >>> H, G = refspec.hessian.of_snapshot(s, "fc3"), refspec.fisher(s, ["fc3"])
    >>> hessian(refspec.attribution.attribute_hessian(H, G)).get_xscale()
    'symlog'
    """
    _expect_hessian(result)
    bins = checks.expect_size("bins", bins, least=1)
    ax = axes_or_new(ax)
    every = np.concatenate([result.values, result.fisher, result.residual])
    top = float(np.abs(every).max()) or 1.0
    linear = max(result.radius, top * 1e-6)
    edges = _signed_edges(float(every.min()), float(every.max()), linear, bins)
    kinds = (
        (
            "Hessian",
            result.values,
            {"color": COLOURS["total"], "histtype": "stepfilled", "alpha": 0.5},
        ),
        ("Fisher", result.fisher, {"color": COLOURS["fisher"], "ls": "-"}),
        ("residual E", result.residual, {"color": COLOURS["residual"], "ls": "--"}),
    )
    for told, values, style in kinds:
        chosen: Any = {"histtype": "step", "lw": 1.4, "label": told, **style}
        ax.hist(np.asarray(values, np.float64), edges, **chosen)
    count_axis(ax)
    ax.set_xscale("symlog", linthresh=linear, linscale=0.6)
    decades = np.arange(np.ceil(np.log10(linear)) + 1, np.floor(np.log10(top)) + 1, 2)
    ticks = [0.0, *(10.0**decades)]
    if every.min() < -linear:
        ticks = [*(-(10.0 ** decades[::-1])), *ticks]
    ticks = [t for t in ticks if edges[0] <= t <= edges[-1]]
    ax.set_xticks(ticks, [power(t) for t in ticks])
    ax.set(xlabel="eigenvalue (linear around 0)", xlim=(edges[0], edges[-1]))
    legend(ax, ncols=3)
    return ax


def hessian_parts(
    result: HessianAttribution, ax: Axes | None = None, *, top: int = 20
) -> Axes:
    """Draw what every level of the Fisher, and E, contribute to the top eigenvalues.

    Parameters
    ----------
    result, ax
        As in `hessian`.
    top : int, how many

    Returns
    -------
    Axes
        Stacked bars; what is negative hangs below zero, a line is the eigenvalue.
    """
    _expect_hessian(result)
    top = checks.expect_size("top", top, least=1)
    ax, values = axes_or_new(ax), result.values[:top]
    rank = np.arange(1, len(values) + 1)
    up, down = np.zeros(len(values)), np.zeros(len(values))
    for name in (n for n in COLOURS if n in result.parts):
        part = result.parts[name][:top]
        bottom = np.where(part >= 0, up, down)
        seen = name != "diagonal" or bool(np.any(np.abs(part) > SEEN * values.max()))
        told = in_legend(name, seen)
        ax.bar(rank, part, 0.9, bottom, color=COLOURS[name], label=told)
        up, down = up + np.maximum(part, 0), down + np.minimum(part, 0)
    style: dict[str, Any] = {"ms": 9, "mew": 2, "color": COLOURS["total"]}
    ax.plot(rank, values, "_", label="eigenvalue of the Hessian", **style)
    ax.axhline(0, color="0.4", lw=0.8)
    ax.set_ylim(1.06 * min(0.0, down.min()), 1.06 * max(up.max(), values.max()) or 1)
    whole_ranks(ax)
    ax.set_xlim(0.4, max(1, len(values)) + 0.6)
    ax.set(xlabel="rank k", ylabel="contribution to the eigenvalue")
    ax.yaxis.set_major_formatter("{x:.2g}")  # a factor on top would meet the legend
    legend(ax)
    return ax


def hessian_attribution(result: HessianAttribution, title: str = "") -> list[Axes]:
    """Draw `hessian` and `hessian_parts` side by side in a new figure."""
    _expect_hessian(result)
    drawn, axes = figure(1, 2, size=(11, 4.6))
    head(hessian(result, axes[0]), "all eigenvalues")
    head(hessian_parts(result, axes[1]), "what makes up the top ones")
    drawn.suptitle(plain(title))
    return axes


def _marked(n: int) -> list[int]:
    """Return which of n points by rank get a sign."""
    steps = np.geomspace(1, max(n, 1), min(_MARKED, max(n, 1)))
    return sorted({round(x) - 1 for x in steps.tolist()}) if n else []


def _expect_hessian(result: HessianAttribution) -> None:
    """Refuse what has no residual to draw."""
    advice = "refspec.attribution.attribute_hessian makes one"
    checks.expect_type("result", result, HessianAttribution, advice)


def _signed_edges(low: float, high: float, linear: float, bins: int) -> list[float]:
    """Return bin edges that are even on a symmetric logarithmic axis."""

    def bend(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.sign(x) * np.log1p(np.abs(x) / linear))

    ends = bend(np.asarray([min(low, -linear), max(high, linear)]) * 1.1)
    even = np.linspace(ends[0], ends[1], bins + 1)
    return [float(x) for x in np.sign(even) * np.expm1(np.abs(even)) * linear]
