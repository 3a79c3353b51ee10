"""Pictures of class means and cross-class means: a map, and their distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from refspec import checks
from refspec.attribution.means import classical_scaling
from refspec.plots.style import axes_or_new, legend, whole_ranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Classes beyond this many share no hue: the map then names class means only.
_HUES = 10


def means_map(
    matrix: np.ndarray,
    points: np.ndarray,
    ax: Axes | None = None,
    *,
    method: str = "mds",
    seed: int = 0,
) -> Axes:
    """Draw class means and cross-class means as a map.

    Parameters
    ----------
    matrix, points : ndarray, shapes (M, M) and (M, 2)
        Distances and what each point is, from `refspec.attribution.distances`.
    ax : Axes, optional, a new figure's by default
    method : {"mds", "tsne"}
        Classical scaling, which is linear and has no seed, or t-SNE (scikit-learn)
        with perplexity C, as in Papyan (2019), here with distances, not squares.
    seed : int, of t-SNE

    Returns
    -------
    Axes
        Class means are large and named by their class; a small point is a cross-class
        mean in the hue of its class, hollow if c' = c.

    Raises
    ------
    ValueError
        If the method is unknown.
    ImportError
        If t-SNE is asked for without scikit-learn.

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
    checks.expect_choice("method", method, ("mds", "tsne"))
    checks.expect_size("seed", seed)
    ax = axes_or_new(ax)
    if method == "mds":
        xy, kept = classical_scaling(matrix)
        title = f"classical scaling, {kept:.0%} of the squared distances"
    else:
        xy, title = _tsne(matrix, points, seed), "t-SNE"
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
    ax.scatter([], [], s=100, color="0.5", label="class mean c")
    if not centre.all():
        ax.scatter([], [], s=14, color="0.5", label="cross-class mean (c, c')")
        hollow: dict[str, Any] = {"color": "none", "edgecolors": "0.5"}
        ax.scatter([], [], s=14, label="c' = c", **hollow)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xticks=[], yticks=[], xlabel=title)
    ax.spines[:].set_visible(False)
    legend(ax, ncols=3, columnspacing=1.0)
    return ax


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
    ax.set_xticks((ends[1:] + ends[:-1]) / 2, names, fontsize=9)
    ax.set_yticks((ends[1:] + ends[:-1]) / 2, names, fontsize=9)
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


def _tsne(matrix: np.ndarray, points: np.ndarray, seed: int) -> np.ndarray:
    """Return a t-SNE map of precomputed distances."""
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError(
            "t-SNE needs scikit-learn; pip install 'refspec[sklearn]', or use "
            "method='mds'"
        ) from error
    perplexity = min(len({int(c) for c, _ in points}), max(1, len(points) - 1) / 3)
    embedding = TSNE(
        metric="precomputed", init="random", perplexity=perplexity, random_state=seed
    )
    return np.asarray(embedding.fit_transform(matrix))


def _hue(place: int, classes: int) -> Any:
    """Return a colour of a class: dark to light on a map that reads without hue."""
    from matplotlib import colormaps

    name = "cividis" if classes > _HUES else "plasma"
    return colormaps[name](0.15 + 0.7 * place / max(1, classes - 1))
