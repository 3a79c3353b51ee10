"""Pictures of class means and cross-class means: a map, and their distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from refspec import checks
from refspec.attribution.embedding import kept_neighbours, tsne
from refspec.attribution.means import classical_scaling
from refspec.plots.style import axes_or_new, legend, plain, whole_ranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Classes beyond this many share no hue: the map then names class means only.
_HUES = 10

#: Classes that are labelled beside each other.
_LABELLED = 14

#: Points that classical scaling shows as well as any map of neighbours.
_FEW = 12


def means_map(
    matrix: np.ndarray,
    points: np.ndarray,
    ax: Axes | None = None,
    *,
    method: str = "clearest",
    names: Sequence[str] = (),
) -> Axes:
    """Draw class means and cross-class means as a map.

    Parameters
    ----------
    matrix, points : ndarray, shapes (M, M) and (M, 2)
        Distances and what each point is, from `refspec.attribution.distances`.
    ax : Axes, optional, a new figure's by default
    method : {"clearest", "mds", "tsne"}
        Classical scaling, which is linear, or t-SNE with perplexity C, as in Papyan
        (2019), here with distances, not squares; the one that keeps more of the three
        nearest neighbours of every point, if not given. Neither draws at random.
    names : sequence of str
        Of all classes, by number.

    Returns
    -------
    Axes
        Class means are large and bear the number of their class; a small point is a
        cross-class mean in the hue of its class, hollow if c' = c. Below: what the map
        keeps.

    Raises
    ------
    ValueError
        If the method is unknown, or there are names but not of every class.

    Examples
    --------
    >>> import refspec
    >>> from refspec.attribution import class_means, distances
    >>> s = refspec.datasets.digits_mlp()
    >>> found = distances(class_means(refspec.errors(s, "fc3")), [0, 1, 2])
    >>> means_map(*found).get_aspect()
    1.0
    """
    matrix, points = _expect_distances(matrix, points)
    checks.expect_choice("method", method, ("clearest", "mds", "tsne"))
    names = _expect_class_names(names, points)
    ax = axes_or_new(ax)
    xy, told = mapped(matrix, points, method)
    classes = sorted({int(c) for c, _ in points})
    own = points[:, 0] == points[:, 1]
    centre = points[:, 1] < 0
    for place, c in enumerate(classes):
        hue, mine = _hue(place, len(classes)), points[:, 0] == c
        style: dict[str, Any] = {"s": 14, "edgecolors": [hue], "linewidths": 1}
        for chosen, fill in ((~own, hue), (own, "none")):
            members = mine & ~centre & chosen
            ax.scatter(*xy[members].T, color=fill, **style)
        ink = "#FFFFFF" if sum(hue[:3]) < 1.6 else "#111111"
        for x, y in xy[mine & centre]:
            ax.scatter(x, y, s=160, color=[hue], edgecolors="#999999", zorder=3)
            ax.annotate(
                str(c), (x, y), ha="center", va="center", fontsize=9, color=ink,
                fontweight="bold", zorder=4,
            )  # fmt: skip
    if names:
        for place, c in enumerate(classes):
            hue = _hue(place, len(classes))
            ax.scatter([], [], s=60, color=[hue], label=f"{c} {plain(names[c], 14)}")
    else:
        ax.scatter([], [], s=100, color="0.5", label="class mean c")
    if not centre.all():
        ax.scatter([], [], s=14, color="0.5", label="cross-class mean (c, c')")
        hollow: dict[str, Any] = {"color": "none", "edgecolors": "0.5"}
        ax.scatter([], [], s=14, label="c' = c", **hollow)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel(told, fontsize=9)
    ax.spines[:].set_visible(False)
    legend(ax, ncols=3, columnspacing=1.0, handletextpad=0.3)
    return ax


def mapped(
    matrix: np.ndarray, points: np.ndarray, method: str = "clearest"
) -> tuple[np.ndarray, str]:
    """Return a map, (M, 2), and what it keeps, in words.

    The clearest is the one that keeps more of every point's nearest neighbours.
    """
    linear, kept = classical_scaling(matrix)
    made = {"mds": linear}
    if method != "mds" and (method == "tsne" or len(matrix) > _FEW):
        made["tsne"] = tsne(
            matrix, min(len({int(c) for c, _ in points}), len(matrix) / 3)
        )
    near = {name: kept_neighbours(matrix, xy) for name, xy in made.items()}
    best = method if method in made else max(near, key=lambda name: near[name])
    told = f"keeps {near[best]:.0%} of the nearest neighbours"
    if best == "mds":
        return (
            linear,
            f"classical scaling: {told},\n{kept:.0%} of the squared distances",
        )
    other = f"classical scaling {near['mds']:.0%}"
    return made["tsne"], f"t-SNE: {told},\n{other}; distances are not to scale"


def distance_matrix(
    matrix: np.ndarray, points: np.ndarray, ax: Axes | None = None
) -> Axes:
    """Draw the distances between class means and cross-class means, as for `means_map`.

    Class means come first; then cross-class means, class by class between the lines.
    """
    matrix, points = _expect_distances(matrix, points)
    ax = axes_or_new(ax)
    centre = points[:, 1] < 0
    order = np.lexsort((points[:, 1], points[:, 0], ~centre))
    shown = ax.imshow(matrix[np.ix_(order, order)], cmap="cividis", vmin=0)
    ax.get_figure(root=True).colorbar(shown, ax=ax, label="distance")  # type: ignore[union-attr]
    if centre.all():
        whole_ranks(ax)
        ax.set(xlabel="class c", ylabel="class c")
        return ax
    group = np.where(centre, -1, points[:, 0])[order]
    starts = np.flatnonzero(np.diff(group)) + 0.5
    for start in starts:
        ax.axhline(start, color="white", lw=0.6)
        ax.axvline(start, color="white", lw=0.6)
    ends = np.concatenate([[-0.5], starts, [len(group) - 0.5]])
    names = ["means", *(str(g) for g in dict.fromkeys(group.tolist()) if g >= 0)]
    middles, step = (ends[1:] + ends[:-1]) / 2, max(1, len(names) // _LABELLED)
    at = [0, *range(step, len(names), step)]
    labels = [names[k] for k in at]
    ax.set_xticks(middles[at], labels, fontsize=9)
    ax.get_xticklabels()[0].set_rotation(90)  # as wide as two of the others
    ax.set_yticks(middles[at], labels, fontsize=9)
    ax.set(xlabel="class means; cross-class means (c, c') by c")
    return ax


def _expect_distances(
    matrix: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Refuse all but distances between points that are said to be means."""
    how = {"symmetric": True, "nonnegative": True}
    matrix = checks.host_array("matrix", matrix, "(M, M)", **how)
    sizes = {"M": len(matrix)}
    whole = checks.host_array("points", points, "(M, 2)", sizes=sizes)
    if not len(matrix) or np.any(whole != np.rint(whole)):
        raise ValueError(
            f"points must be M >= 1 pairs of integers, got M = {len(matrix)} and "
            f"{np.sum(whole != np.rint(whole))} others; attribution.distances gives "
            "them"
        )
    return matrix, whole.astype(np.int64)


def _expect_class_names(names: Sequence[str], points: np.ndarray) -> list[str]:
    """Refuse names that are not of every class; numbers by themselves are no names."""
    if isinstance(names, str) or not all(isinstance(x, str) for x in names):
        raise TypeError(
            f"names must be strings, one a class, got {names!r}; name every class"
        )
    most = int(points[:, 0].max(initial=-1))
    if len(names) and len(names) <= most:
        raise ValueError(
            f"names must be of all classes, 0..{most} at least, got {len(names)}; name "
            "every class"
        )
    return [] if list(names) == [str(k) for k in range(len(names))] else list(names)


def _hue(place: int, classes: int) -> Any:
    """Return a colour of a class: dark to light on a map that reads without hue."""
    from matplotlib import colormaps

    name = "cividis" if classes > _HUES else "plasma"
    return colormaps[name](0.15 + 0.7 * place / max(1, classes - 1))
