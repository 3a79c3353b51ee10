"""Flaws of theory/rounding.md."""

import numpy as np

from support.arithmetic import coarse
from support.flaws import Flaw, after, larger, smaller
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


FLAWS = (
    Flaw("B1", "products too large", NUMBERS, after(coarse), typical),
    Flaw("B2", "products too large", NUMBERS, after(coarse), typical),
    Flaw(
        "B3", "eigenvalues too large", "numpy.linalg:eigvalsh", after(larger), typical
    ),
    Flaw(
        "B4",
        "a bound without its quantile",
        "refspec.rounding.bounds:probed_norm",
        after(smaller),
        typical,
        size=12 / 13,
    ),
    Flaw(
        "B5",
        "a residual too small",
        "refspec.rounding.bounds:residual_radius",
        after(smaller),
        typical,
        setting=of_rough_values,
    ),
    Flaw(
        "B6",
        "a bound without its quantile",
        "refspec.rounding.bounds:probed_frobenius",
        after(smaller),
        typical,
        size=5 / 6,
    ),
)
REASONS: dict[str, str] = {}
