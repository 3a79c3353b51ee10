"""Pictures of a predicted spectrum on the histogram of the measured one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from refspec import backend, checks
from refspec.plots.style import (
    COLOURS,
    MARKERS,
    axes_or_new,
    count_axis,
    figure,
    head,
    label,
    legend,
    plain,
    powers,
)
from refspec.random_matrix import KroneckerPrediction, Prediction
from refspec.spectra import Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Half the bar of an outlier, in standard deviations.
_BAR = 2

#: What is predicted; what is measured has the colour of the bulk.
_PREDICTED = "black"


def prediction(
    made: Prediction,
    measured: Spectrum,
    ax: Axes | None = None,
    *,
    log: bool = False,
    bins: int = 60,
) -> Axes:
    """Draw measured eigenvalues, the predicted density and the predicted outliers.

    Parameters
    ----------
    made : Prediction
    measured : Spectrum, of the same dimension
    ax : Axes, optional, a new figure's by default
    log : bool, logarithmic eigenvalue axis
    bins : int

    Returns
    -------
    Axes
        Counts are on a square-root scale. The curve is how many eigenvalues a bin
        centred there is expected to hold, outliers apart. Outliers are drawn in rows
        from the top, largest first: predicted with a bar of two standard deviations,
        and measured. What KFAC predicts, where it applies, is an outline.

    Examples
    --------
    >>> from refspec.populations import Population
    >>> from refspec.random_matrix import predict
    >>> made = predict(Population((40,), 20, np.ones((40, 1)), 1.0))
    >>> prediction(made, Spectrum(made.eigenvalues, None, 0.0, "", 20)).get_xscale()
    'linear'
    """
    _expect_prediction(made, measured)
    bins = checks.expect_size("bins", bins, least=1)
    ax = axes_or_new(ax)
    values = np.asarray(backend.to_host(measured.values), dtype=np.float64)
    values = values[values > measured.radius]
    expected = made.outliers
    ends = expected.values + _BAR * expected.deviations
    inner, outer = [made.law.x[made.law.x > 0], values], [values, ends, made.law.x]
    low = min((float(x.min()) for x in inner if len(x)), default=0.5)
    high = max((float(x.max()) for x in outer if len(x)), default=1.5)
    if log:
        edges = np.geomspace(max(low, high * 2.0**-40) / 1.2, high * 1.2, bins + 1)
    else:
        edges = np.linspace(0.0, high * 1.05, bins + 1)
    ax.hist(values, list(edges), color=COLOURS["bulk"], alpha=0.35, label="measured")
    if isinstance(made, KroneckerPrediction):
        style: Any = {"histtype": "step", "color": COLOURS["kfac"], "lw": 1.4}
        style["label"] = f"{label('kfac')}, expected factors"
        ax.hist(made.kfac[made.kfac > edges[0]], list(edges), **style)
    x, heights = _curve(made, edges, log)
    ax.plot(x, heights, color=_PREDICTED, lw=1.4, label="predicted, one bin wide")
    if len(expected.values):
        _rows(ax, made, np.sort(values)[::-1])
    ax.set(xscale="log" if log else "linear", xlabel="eigenvalue")
    ax.set_xlim(edges[0], edges[-1])
    if log:
        powers(ax.xaxis)
    count_axis(ax)
    legend(ax)
    return ax


def predictions(made: Prediction, measured: Spectrum, title: str = "") -> list[Axes]:
    """Draw both pictures of a `prediction`, linear and logarithmic, side by side."""
    _expect_prediction(made, measured)
    drawn, axes = figure(1, 2, size=(11, 4.8))
    for ax, log in zip(axes, (False, True), strict=True):
        prediction(made, measured, ax, log=log)
        head(ax, "logarithmic axis" if log else "linear axis")
    drawn.suptitle(plain(title))
    return axes


def _expect_prediction(made: Prediction, measured: Spectrum) -> None:
    """Refuse what is no prediction, or no spectrum to lay beside it."""
    kinds = (Prediction, KroneckerPrediction)
    checks.expect_type("made", made, kinds, "refspec.random_matrix.predict makes one")
    checks.expect_type("measured", measured, Spectrum, "refspec.spectrum makes one")


def _rows(ax: Axes, made: Prediction, values: np.ndarray) -> None:
    """Draw the outliers in rows from the top: predicted with its bar, and measured."""
    expected = made.outliers
    r = len(expected.values)
    heights = 0.97 - 0.8 * np.arange(r) / max(r, 12)
    across = ax.get_xaxis_transform()  # eigenvalues along, a fraction of the axes up
    ax.errorbar(
        expected.values, heights, None, _BAR * expected.deviations,
        MARKERS["outlier"], ms=5, lw=1.2, capsize=2, color=_PREDICTED,
        mfc="white", zorder=3, transform=across,
        label=f"outliers predicted, ±{_BAR} sd",
    )  # fmt: skip
    seen = values[:r]
    style: Any = {"ms": 3.5, "color": COLOURS["bulk"], "zorder": 4, "transform": across}
    ax.plot(seen, heights[: len(seen)], "o", label="outliers measured", **style)


def _curve(
    made: Prediction, edges: np.ndarray, log: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many eigenvalues of the law a bin centred at x is expected to hold."""
    start, stop = float(edges[0]), float(edges[-1])
    if log:
        x, half = np.geomspace(start, stop, 800), np.sqrt(edges[1] / edges[0])
        low, high = x / half, x * half
    else:
        x, half = np.linspace(start, stop, 800), (edges[1] - edges[0]) / 2
        low, high = np.maximum(x - half, 0), x + half
    law = made.law
    counts = np.maximum.accumulate(made.dimension * law.cumulative + law.added)
    below, above = (np.interp(v, law.x, counts) for v in (low, high))
    return x, above - below
