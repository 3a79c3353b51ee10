"""Pictures of sweeps: a claim over its parameter, with its Monte-Carlo intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from refspec import checks
from refspec.plots.style import COLOURS, KINDS, MARKERS, axes_or_new, legend
from refspec.sweeps import Sweep, are_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def sweep(found: Sweep, ax: Axes | None = None) -> Axes:
    """Draw means and intervals over the parameter, every quantity its own line.

    Parameters
    ----------
    found : Sweep
        Both axes are logarithmic where all values and means are positive and the
        largest value is ten times the least; values that are no numbers are ticks.
    ax : Axes, optional
        A new figure's if not given.

    Returns
    -------
    Axes

    Examples
    --------
    >>> from refspec.sweeps import sweep as swept
    >>> made = swept(lambda x, rng: x + rng.standard_normal(), "x", [1, 2], draws=4)
    >>> sweep(made).get_xlabel()
    'x'
    """
    checks.expect_type("found", found, Sweep, "refspec.sweep returns one")
    ax = axes_or_new(ax)
    numeric = are_numbers(found.values)
    at = np.asarray(found.values if numeric else range(len(found.values)), np.float64)
    means = []
    for name, kind in zip(found.draws, KINDS * len(found.draws), strict=False):
        ends = [found.interval(v, name) for v in found.values]
        mean = np.asarray([e.value for e in ends])
        half = mean - np.asarray([e.lower for e in ends])
        means.append(mean)
        hue, sign = COLOURS[kind], MARKERS[kind]
        ax.errorbar(at, mean, half, label=name, color=hue, marker=sign, capsize=3)
    ax.set_xlabel(found.name)
    ax.set_ylabel(", ".join(found.draws))
    if not numeric:
        ax.set_xticks(at, [str(v) for v in found.values])
    elif np.min(at) > 0 and np.min(means) > 0 and np.max(at) >= 10 * np.min(at):
        ax.set(xscale="log", yscale="log")
    ax.set_title(f"{100 * found.confidence:g} % intervals")
    if len(found.draws) > 1:
        legend(ax)
    return ax
