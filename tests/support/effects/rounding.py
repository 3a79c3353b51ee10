"""Effects of theory/rounding.md."""

import numpy as np

from support.arithmetic import coarse
from support.effects import Effect, after, larger, smaller
from support.snapshots import typical

#: Numbers of the snapshot go through it, before anything is multiplied.
NUMBERS = "refspec.rounding.errorfree:scaled"


def of_rough_values(monkeypatch):
    """Exact eigenvectors, the largest value off: the residual is the error."""
    right = np.linalg.eigh

    def eigh(A):
        values, Q = right(A)
        values[-1] *= 1 + 2.0**-24
        return values, Q

    monkeypatch.setattr(np.linalg, "eigh", eigh)


EFFECTS = (
    Effect("B1", "products too large", NUMBERS, after(coarse), typical),
    Effect("B2", "products too large", NUMBERS, after(coarse), typical),
    Effect(
        "B3", "eigenvalues too large", "numpy.linalg:eigvalsh", after(larger), typical
    ),
    Effect(
        "B4",
        "a bound without its quantile",
        "refspec.rounding.bounds:probed_norm",
        after(smaller),
        typical,
        size=12 / 13,
    ),
    Effect(
        "B5",
        "a residual too small",
        "refspec.rounding.bounds:residual_radius",
        after(smaller),
        typical,
        setting=of_rough_values,
    ),
    Effect(
        "B6",
        "a bound without its quantile",
        "refspec.rounding.bounds:probed_frobenius",
        after(smaller),
        typical,
        size=5 / 6,
    ),
)
REASONS: dict[str, str] = {}
