"""How many eigenvalues lie above any threshold, of a whole and without its levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from refspec import checks
from refspec.plots.style import COLOURS, axes_or_new, label, legend, powers
from refspec.quadrature import WHOLE, Density

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FOOT = 0.7
_DECADES = 10  # below the largest eigenvalue


def density(result: Density | Mapping[str, Density], ax: Axes | None = None) -> Axes:
    """Draw bands for the number of eigenvalues above every threshold.

    Parameters
    ----------
    result : Density, or mapping of str to Density
        `the whole` and, under the names of levels, what is left without each.
    ax : Axes, optional, a new figure's by default

    Returns
    -------
    Axes
        Both axes logarithmic. The numbers lie inside their bands, all of a band at
        once, except with the probability that each density states.

    Raises
    ------
    TypeError
        If it is neither.

    Examples
    --------
    >>> import refspec
    >>> found = refspec.density(refspec.datasets.wine_sklearn(), probes=4)
    >>> density(found).get_xscale()
    'log'
    """
    advice = "refspec.density makes one"
    checks.expect_type("result", result, (Density, Mapping), advice)
    several = {WHOLE: result} if isinstance(result, Density) else dict(result)
    ax = axes_or_new(ax)
    for name, x in several.items():
        checks.expect_type(f"result[{name!r}]", x, Density, advice)
        known = name in COLOURS
        style: dict[str, Any] = {"color": COLOURS[name] if known else "#000000"}
        # a logarithmic axis has no 0: what is below 1 is drawn at its foot
        low, high = (np.maximum(y, _FOOT) for y in (x.lower, x.upper))
        told = f"without {label(name)}" if known else name
        ax.fill_between(x.thresholds, low, high, alpha=0.15, label=told, lw=0, **style)
        for edge in (low, high):
            ax.plot(x.thresholds, edge, lw=0.9, **style)
    top = max((float(x.thresholds[0]) for x in several.values()), default=1.0)
    ax.set(xlim=(top * 10.0**-_DECADES, 1.5 * top), ylim=(_FOOT, None))
    ax.set(xscale="log", yscale="log", xlabel="eigenvalue", ylabel="so many lie above")
    powers(ax.xaxis)
    legend(ax)
    return ax
