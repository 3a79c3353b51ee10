"""Pictures: one visual language for kinds and levels everywhere (matplotlib)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refspec import backend
from refspec.attribution import Attribution

__all__ = ["COLOURS", "save_spectrum"]

#: Okabe-Ito colours, told apart by colour-blind readers.
COLOURS = {"outlier": "#D55E00", "bump": "#E69F00", "bulk": "#0072B2"}


def save_spectrum(result: Attribution, path: str | Path, title: str = "") -> None:
    """Write the spectrum (scree and log-histogram, coloured by kind) to a picture.

    Parameters
    ----------
    result : Attribution
        Of any second moment.
    path : path
        Its ending chooses the format.
    title : str
        What the matrix is.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib; pip install 'refspec[plots]'"
        ) from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)  # no display needed
    scree, histogram = figure.subplots(1, 2)
    values = np.asarray(backend.to_host(result.spectrum.values))[: len(result.kinds)]
    floor = result.spectrum.radius
    seen, kinds = values > floor, np.asarray(result.kinds)
    rank = np.arange(1, len(values) + 1)
    edges = np.geomspace(max(floor, values[0] * 1e-12), values[0] * 1.1, 50)
    stacks: list[Any] = []
    for kind, colour in COLOURS.items():
        mine = seen & (kinds == kind)
        label = f"{kind} ({mine.sum()})"
        scree.plot(rank[mine], values[mine], ".", color=colour, label=label)
        stacks.append(values[mine])
    scree.axhline(floor, color="0.6", lw=1, ls=":", label="radius")
    scree.set(xscale="log", yscale="log", xlabel="rank k", ylabel="eigenvalue")
    scree.legend(frameon=False)
    histogram.hist(stacks, edges, stacked=True, color=list(COLOURS.values()))
    histogram.set(xscale="log", yscale="log", xlabel="eigenvalue", ylabel="count")
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
