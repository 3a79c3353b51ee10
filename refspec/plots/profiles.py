"""Pictures against depth: how clear the class structure is, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from refspec import checks
from refspec.attribution import Clarity
from refspec.plots.style import axes_or_new, legend, plain, powers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = {
    "separation": "separation, λₘ(class) / λ₁(within)",
    "orthogonality": "λ₂ / λₘ of the class means",
    "cosine": "mean |cos| of centred class means",
}
_STYLES: dict[str, dict[str, Any]] = {
    "features": {"color": "#0072B2", "marker": "o"},
    "errors": {"color": "#D55E00", "marker": "^", "ls": "--"},
}


def depth(
    profiles: Mapping[str, Mapping[str, Clarity]],
    quantity: str = "separation",
    ax: Axes | None = None,
) -> Axes:
    """Draw one number of the class structure against the layers.

    Parameters
    ----------
    profiles : mapping of str to (mapping of str to Clarity)
        ``{"features": depth_profile(s), "errors": depth_profile(s, "errors")}``, or
        one of the two.
    quantity : {"separation", "orthogonality", "cosine"}
    ax : Axes, optional, a new figure's by default

    Returns
    -------
    Axes
        Ratios on a logarithmic axis. Those that are not resolved from zero are left
        out.

    Raises
    ------
    ValueError
        If the quantity is unknown.

    Examples
    --------
    >>> import refspec
    >>> found = refspec.attribution.depth_profile(refspec.datasets.digits_mlp())
    >>> depth({"features": found}).get_yscale()
    'log'
    """
    checks.expect_choice("quantity", quantity, _LABELS)
    checks.expect_type("profiles", profiles, Mapping, "depth_profile(s) makes one")
    if not any(profiles.values()):
        raise ValueError("profiles must hold a layer, got none; measure some")
    ax = axes_or_new(ax)
    names = list(dict.fromkeys(n for p in profiles.values() for n in p))
    for of, profile in profiles.items():
        at, found = [], []
        for name, clarity in profile.items():
            x = getattr(clarity, quantity)
            resolved = quantity == "cosine" or np.isfinite(x.radius)
            value = x if quantity == "cosine" else x.value
            if resolved and np.isfinite(value) and value >= 0:
                at.append(names.index(name))
                found.append(value)
        ax.plot(at, found, label=of, **_STYLES.get(of, {"marker": "s"}))
    if quantity == "cosine":
        ax.set_ylim(0, 1)
    else:
        ax.set_yscale("log")
        ax.axhline(1, color="0.6", lw=0.8, ls=":")
        powers(ax.yaxis)
    step = max(1, len(names) // 12)
    shown = [plain(n, 18) for n in names[::step]]
    slanted = max(map(len, shown)) * len(shown) > 40
    options: dict[str, Any] = {"rotation": 40, "ha": "right"} if slanted else {}
    ax.set_xticks(range(0, len(names), step), shown, **options)
    ax.set_xlim(-0.3, len(names) - 0.7)
    ax.set(xlabel="layer, input to output", ylabel=_LABELS[quantity])
    legend(ax)
    return ax
