"""One visual language: what every colour, marker and name means, in every picture.

The colours are Okabe and Ito's, told apart by colour-blind readers. matplotlib is
imported when the first picture is drawn, never with the module, and figures belong to
no display: they work on a machine without a screen.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from refspec import backend, checks, files
from refspec.attribution import Attribution
from refspec.spectra import Spectrum
from refspec.structure import KINDS as _KIND_OF_LEVEL
from refspec.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

#: Kinds of eigenvalue, levels in the order of stacks, matrices that stand beside them.
COLOURS = {
    "outlier": "#D55E00",
    "bump": "#E69F00",
    "bulk": "#0072B2",
    "global_mean": "#CC79A7",
    "diagonal": "#CC79A7",
    "between_class": "#D55E00",
    "between_cross_class": "#E69F00",
    "within_cross_class": "#0072B2",
    "within_class": "#0072B2",
    "residual": "#009E73",
    "total": "#777777",
    "fisher": "#000000",
    "kfac": "#56B4E9",
    "ekfac": "#009E73",
    "cfac": "#CC79A7",
}

#: A part that nobody can see, of the trace or of the largest eigenvalue.
SEEN = 0.001

#: The kinds of eigenvalue, from the strongest structure to the weakest.
KINDS = tuple(dict.fromkeys(_KIND_OF_LEVEL.values()))

#: Colour is never the only sign of a kind.
MARKERS = {"outlier": "^", "bump": "D", "bulk": "o", "residual": "s"}

_LABELS = {
    "residual": "residual E",
    "fisher": "Fisher",
    "kfac": "KFAC",
    "ekfac": "EKFAC",
    "cfac": "CFAC",
}

_STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
}

_LEGEND: Any = {
    "loc": "lower left",
    "bbox_to_anchor": (0, 1),
    "ncols": 2,
    "borderaxespad": 0.2,
    "frameon": False,
    "fontsize": 9,
    "handlelength": 1.4,
    "alignment": "left",
}

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def figure(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float] | None = None
) -> tuple[Figure, list[Axes]]:
    """Make a figure that needs no display, with its axes in reading order.

    Parameters
    ----------
    rows, columns : int, of axes
    size : tuple of float, optional
        Width and height in inches; 5 by 3.6 an axes by default.

    Returns
    -------
    Figure, list of Axes
        Not registered anywhere: it goes when the last reference to it goes.

    Raises
    ------
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> fig, axes = figure(1, 2)
    >>> len(axes)
    2
    """
    checks.expect_size("rows", rows, least=1)
    checks.expect_size("columns", columns, least=1)
    if size is not None:
        checks.expect_type("size", size, tuple, "give (width, height) in inches")
        size = tuple(checks.expect_positive("size", x) for x in size)  # type: ignore[assignment]
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib; pip install 'refspec[plots]'"
        ) from error
    with matplotlib.rc_context(_STYLE):
        made = Figure(figsize=size or (5 * columns, 3.6 * rows), layout="constrained")
        FigureCanvasAgg(made)
        axes = made.subplots(rows, columns, squeeze=False)
    return made, list(axes.ravel())


def label(name: str) -> str:
    """Return what a level or matrix is called in legends and tables.

    >>> label("within_cross_class"), label("kfac")
    ('within cross class', 'KFAC')
    """
    return _LABELS.get(name, name.replace("_", " "))


def axes_or_new(ax: Axes | None) -> Axes:
    """Return the given axes, or those of a new figure."""
    if ax is None:
        return figure()[1][0]
    from matplotlib.axes import Axes

    checks.expect_type("ax", ax, Axes, "plots.figure() makes some")
    return ax


def legend(ax: Axes, **options: Any) -> None:
    """Add a legend above the axes, where it covers no data."""
    ax.legend(**{**_LEGEND, **options})


def head(ax: Axes, text: str) -> None:
    """Write what a panel shows above its legend, which a title would run into."""
    found = ax.get_legend()
    if found is None:
        ax.set_title(text, loc="left")
    else:
        found.set_title(text)
        found.get_title().set_fontsize(11)


def in_legend(name: str, seen: bool) -> str:
    """Return what a legend calls a level; matplotlib leaves out what begins with _."""
    if not seen:
        return f"_{name}"
    return "diagonal, c' = c" if name == "diagonal" else label(name)


def visible_level(name: str, result: Attribution | Spectrum) -> bool:
    """Whether a level is to be told of: a diagonal with nothing of the trace is not."""
    if name != "diagonal" or not isinstance(result, Attribution):
        return True
    return result.traces.get(name, 0.0) >= SEEN * sum(result.traces.values())


def powers(axis: Axis) -> None:
    """Label a logarithmic axis by powers of ten, once its ends are known.

    In plain characters: matplotlib takes a hundred times as long over mathematics.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = sorted(axis.get_view_interval())
    decades = np.floor(np.log10(high)) - np.ceil(np.log10(low)) + 1
    subs = (1.0,) if decades > 2 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda x, _: power(x)))
    axis.set_minor_locator(NullLocator())


def rank_axis(ax: Axes) -> None:
    """Make the rank axis logarithmic, its ticks whole numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x:.0f}" if x >= 1 else "")
    )
    ax.xaxis.set_minor_locator(NullLocator())


def power(x: float) -> str:
    """Return a positive or negative number as a multiple of a power of ten.

    >>> power(1e-3), power(-100), power(0), power(0.02)
    ('10⁻³', '-10²', '0', '2·10⁻²')
    """
    if x == 0:
        return "0"
    mantissa, exponent = f"{abs(x):.0e}".split("e")
    raised = f"10{str(int(exponent)).translate(_RAISED)}"
    sign = "-" if x < 0 else ""
    return f"{sign}{raised}" if mantissa == "1" else f"{sign}{mantissa}·{raised}"


def whole_ranks(ax: Axes) -> None:
    """Put ticks of a rank axis at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def expect_attribution(result: Attribution) -> None:
    """Refuse what has no levels to draw."""
    advice = "refspec.attribute(moment) makes one"
    checks.expect_type("result", result, Attribution, advice)


def expect_eigenvalues(result: Attribution | Spectrum) -> None:
    """Refuse what has no eigenvalues to draw."""
    advice = "refspec.attribute(moment) or refspec.spectrum(moment) makes one"
    checks.expect_type("result", result, (Attribution, Spectrum), advice)


def eigenvalues_of(result: Attribution | Spectrum) -> np.ndarray:
    """Return attributed eigenvalues, or all of a spectrum, in double precision."""
    if isinstance(result, Attribution):
        return eigenvalues_of(result.spectrum)[: len(result.kinds)]
    return np.asarray(backend.to_host(result.values), dtype=np.float64)


def shares_of(result: Attribution | Spectrum) -> dict[str, np.ndarray]:
    """Return the share of every level; of a spectrum the whole, in grey."""
    if isinstance(result, Attribution):
        return result.shares
    return {"total": np.ones(len(result.values))}


def count_axis(ax: Axes) -> None:
    """Put counts on a square-root scale."""
    ax.set_yscale("function", functions=(_root, np.square))
    ax.set_ylim(bottom=0)
    highest = ax.get_ylim()[1]
    steps = [0, 1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10**4, 10**5, 10**6]
    ticks = [t for t in steps if t <= highest]
    kept = [0]
    for t in ticks[1:]:  # as far apart as their labels are high
        if t**0.5 - kept[-1] ** 0.5 > highest**0.5 / 12:
            kept.append(t)
    ax.set_yticks(kept, [str(t) for t in kept])
    ax.set_ylabel("eigenvalues per bin, root scale")


def plain(text: str, longest: int = 80) -> str:
    """Return a text that matplotlib draws as it is, a long one cut in its middle."""
    return visible(text, longest).replace("$", r"\$")


def inline_svg(drawn: Figure | Axes, prefix: str) -> str:
    """Return a figure as an SVG element to stand inside a page, all ids with a prefix.

    Text stays text; black takes the colour of the page's text; the ground is
    transparent; it is as wide as its place.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        root_of(drawn).savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None}
        )
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    head, body = text[text.index("<svg") :].split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    body = re.sub(r'(id="|url\(#|href="#)', rf"\1{prefix}-", body)
    body = re.sub(r"(fill|stroke): #000000", r"\1: currentColor", body)
    return head + ">" + re.sub(r"\n\s*", "\n", body)


def save(drawn: Figure | Axes, path: str | Path) -> Path:
    """Write a figure to a file that appears whole or not at all.

    Parameters
    ----------
    drawn : Figure or Axes
        From `figure`; with an Axes, the figure that it is in.
    path : path, whose ending chooses the format

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If matplotlib does not know the ending.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    expect_format(path.suffix)
    with files.atomic(path) as file:
        write(drawn, file, path.suffix)
    return path


def expect_format(ending: str) -> str:
    """Return matplotlib's name of the format of an ending, or refuse the ending."""
    known = figure()[0].canvas.get_supported_filetypes()
    name = ending.removeprefix(".").lower()
    if name not in known:
        raise ValueError(
            f"a picture must end in one of {', '.join(sorted(known))}, got {ending!r}; "
            "change its ending"
        )
    return name


def write(drawn: Figure | Axes, file: BinaryIO, ending: str) -> None:
    """Write a figure, or that of an Axes, to an open file."""
    root_of(drawn).savefig(file, dpi=150, format=expect_format(ending))


def root_of(drawn: Figure | Axes) -> Figure:
    """Return the figure that something is in."""
    from matplotlib.artist import Artist

    checks.expect_type("what is drawn", drawn, Artist, "give axes or their figure")
    found = drawn.get_figure(root=True)
    if found is None:
        raise ValueError("expected axes in a figure, got some without; draw on another")
    return found


def _root(x: np.ndarray) -> np.ndarray:
    """Return the square root, 0 below 0: matplotlib probes outside the data."""
    return np.asarray(np.sqrt(np.maximum(x, 0)))
