"""The still pictures of a report, as SVG elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refspec import plots
from refspec.plots import style
from refspec.plots.margins import verdicts
from refspec.report.contents import Contents
from refspec.theorems import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Inches: legible when a phone shrinks it by a fifth.
_SIZE = (4.6, 3.7)

#: Compared layers drawn, the last ones; the table has all.
_DRAWN = 6


def draw_figures(contents: Contents) -> dict[str, str]:
    """Draw every still picture: SVG by the name that the template gives it.

    `kronecker_K` is of the K-th compared layer; pictures of what is not there are left
    out.
    """
    made: dict[str, str] = {}

    def axes() -> Axes:
        return plots.figure(size=_SIZE)[1][0]

    def keep(name: str, ax: Axes) -> None:
        made[name] = style.inline_svg(ax, name)

    keep("spectrum", plots.spectrum(contents.whole, axes()))
    if contents.densities:
        keep("density", plots.density(contents.densities, axes()))
    if contents.profiles and len(contents.parameters) > 1:  # of one layer no trend
        for quantity in ("separation", "orthogonality", "cosine"):
            keep(quantity, plots.depth(contents.profiles, quantity, axes()))
    for of, (matrix, points) in contents.means.items():
        drawn = plots.means_map(matrix, points, axes(), names=contents.classes)
        keep(f"map_{of}", drawn)
    for name in list(contents.comparisons)[-_DRAWN:]:
        k = list(contents.comparisons).index(name)
        keep(f"kronecker_{k}", plots.approximations(contents.comparisons[name], axes()))
    if contents.hessian is not None:
        keep("hessian", plots.hessian(contents.hessian, axes()))
        keep("hessian_parts", plots.hessian_parts(contents.hessian, axes()))
    checked = {
        x.id: Verdict(x.residual, x.bound)
        for x in contents.verdicts
        if x.status in ("holds", "fails")
    }
    if checked:
        _, (ax,) = plots.figure(size=(_SIZE[0], 0.9 + 0.17 * len(checked)))
        keep("verdicts", verdicts(checked, ax))
    return made
