"""Flaws of theory/kronecker_designs.md."""

from dataclasses import replace
from functools import cache

import numpy as np

from refspec.random_matrix.kronecker.outliers import KroneckerOutliers
from refspec.random_matrix.outliers import no_outliers
from refspec.theorems import kronecker_designs as page
from support.flaws import Flaw, after, field, larger
from support.flaws.random_matrix import few, shifted
from support.kronecker_worlds import planted

KRONECKER = "refspec.random_matrix.kronecker"
OUTLIERS = f"{KRONECKER}.outliers:kronecker_outliers"


def gradients():
    """A planted world of gradients."""
    return planted(3, 6, 4, (1, 4, 2), 0)


@cache
def rung(side):
    """Climb one rung of the ladder only."""

    def setting(monkeypatch):
        alone = tuple(x for x in page.LADDER if x[0] == side)
        monkeypatch.setattr(page, "LADDER", alone)

    return setting


def coupled(monkeypatch):
    """Climb the last rung only."""
    monkeypatch.setattr(page, "COUPLED", page.COUPLED[-1:])


def blocks(found, size):
    """Enlarge the noise's part of all blocks."""
    return replace(found, blocks=tuple(larger(x, size) for x in found.blocks))


def first(found, size):
    """Enlarge the first outlier, the others less: their sum stays."""
    values = found.values.copy()
    gain = size * values[0]
    values[0] += gain
    values[1:] -= gain / (len(values) - 1)
    return replace(found, values=values)


def nothing(*_):
    """Let nothing stand out."""
    return lambda *_: KroneckerOutliers(no_outliers(), 0.0, 0.0, np.zeros(0))


FLAWS = (
    Flaw(
        "G1",
        "noise too large",
        f"{KRONECKER}.law:expectation",
        after(blocks),
        gradients,
    ),
    Flaw(
        "G1",
        "means too large",
        f"{KRONECKER}.law:expectation",
        after(field("signal", larger)),
        gradients,
    ),
    Flaw(
        "G2",
        "a transform too large",
        f"{KRONECKER}.spectrum:stieltjes",
        after(larger),
        few,
        size=0.02,
        setting=rung(20),
    ),
    Flaw(
        "G3",
        "a shifted distribution",
        f"{KRONECKER}.spectrum:tabulate",
        after(field("cumulative", shifted)),
        few,
        size=0.035,
        setting=rung(20),
    ),
    Flaw(
        "G4", "nothing stands out", OUTLIERS, nothing, few, size=1.0, setting=rung(16)
    ),
    Flaw(
        "G4",
        "outliers too large",
        OUTLIERS,
        after(field("each", field("values", larger))),
        few,
        size=0.01,
        setting=rung(16),
    ),
    Flaw(
        "G4",
        "one outlier too large",
        OUTLIERS,
        after(field("each", first)),
        few,
        size=0.08,
        setting=rung(16),
    ),
    *(
        Flaw(
            "G6",
            what,
            place,
            after(wrong),
            few,
            size=size,
            setting=coupled,
        )
        for what, place, wrong, size in (
            (
                "a shifted distribution",
                f"{KRONECKER}.spectrum:tabulate",
                field("cumulative", shifted),
                0.07,
            ),
            (
                "outliers too large",
                OUTLIERS,
                field("each", field("values", larger)),
                0.06,
            ),
        )
    ),
    Flaw(
        "G5",
        "products too large",
        f"{KRONECKER}.kfac:kfac_eigenvalues",
        after(larger),
        gradients,
    ),
)
REASONS: dict[str, str] = {}
