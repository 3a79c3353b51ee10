"""Any result drawn as it is drawn best, and shown by a notebook."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refspec import checks
from refspec.attribution import Attribution, HessianAttribution, Profile
from refspec.kronecker import LayerComparison
from refspec.plots import densities, matrices, profiles, spectra, style, sweeps
from refspec.quadrature import Density
from refspec.spectra import Spectrum
from refspec.sweeps import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Picture:
    """The axes of one figure; a notebook shows it.

    Parameters
    ----------
    axes : list of Axes
    """

    def __init__(self, axes: list[Axes]) -> None:
        self.axes = axes

    def __repr__(self) -> str:
        """Say how many axes there are."""
        return f"Picture({len(self.axes)} axes)"

    def save(self, path: str | Path) -> Path:
        """Write the figure; the ending of the path chooses the format.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        Path
        """
        return style.save(self.axes[0], path)

    def _repr_png_(self) -> bytes:
        """Return it as a notebook shows it."""
        whole = io.BytesIO()
        style.write(self.axes[0], whole, "png")
        return whole.getvalue()


def draw(result: Any, **options: Any) -> Picture:
    """Draw a result by the function of this package that is made for its type.

    Parameters
    ----------
    result : Attribution, Spectrum, Density, Sweep, HessianAttribution,
        LayerComparison or Profile. ``result.plot()`` is the same.
    **options
        Those of `attribution`, `spectrum`, `density`, `hessian`, `approximations`,
        `depth` or `sweep`.

    Returns
    -------
    Picture
        Its ``axes`` are those of a new figure.

    Raises
    ------
    TypeError
        If there is no picture of such a result.

    Examples
    --------
    >>> import refspec
    >>> refspec.attribute(refspec.datasets.wine_sklearn()).plot()
    Picture(4 axes)
    """
    advice = "of others to_dataframe() gives the numbers"
    checks.expect_type("result", result, tuple(_FUNCTIONS), advice)
    function = next(f for kind, f in _FUNCTIONS.items() if isinstance(result, kind))
    made = function(result, **options)
    return Picture(made if isinstance(made, list) else [made])


def _depth(result: Profile, **options: Any) -> Axes:
    """Draw one profile, under what it is of."""
    return profiles.depth({result.of: result}, **options)


_FUNCTIONS: dict[type, Callable[..., Axes | list[Axes]]] = {
    Attribution: spectra.attribution,
    Spectrum: spectra.spectrum,
    Density: densities.density,
    Sweep: sweeps.sweep,
    HessianAttribution: matrices.hessian_attribution,
    LayerComparison: matrices.approximations,
    Profile: _depth,
}
