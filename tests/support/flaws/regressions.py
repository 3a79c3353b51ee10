"""Flaws of theory/regressions.md."""

from refspec.theorems import regressions
from support.flaws import Flaw, after, field, larger, smaller
from support.flaws.conditional import of_the_outliers, one_less, shifted
from support.flaws.random_matrix import away, few

TABULATE = "refspec.random_matrix.conditional.spectrum:tabulate"
ALONG = "refspec.theorems.regressions:outlier_along"
FIT = "refspec.random_matrix.fitted:predict_fit"


def short(monkeypatch):
    """A short ladder."""
    monkeypatch.setattr(regressions, "LADDER", regressions.LADDER[:1])
    monkeypatch.setattr(regressions, "FITS", regressions.FITS[:1])


def of_the_table(change):
    """Change the law's table, not the outliers."""
    return lambda found, size: (change(found[0], size), found[1])


FLAWS = (
    *(
        Flaw("Z1", what, TABULATE, after(wrong), few, size=size, setting=short)
        for what, wrong, size in (
            (
                "a shifted distribution",
                of_the_table(field("cumulative", shifted)),
                0.1,
            ),
            ("no outlier", of_the_outliers(one_less), 1),
            ("outliers away", of_the_outliers(away), 5.0),
            (
                "deviations twice",
                of_the_outliers(field("deviations", larger)),
                1.0,
            ),
        )
    ),
    Flaw(
        "Z1",
        "a value in closed form too large",
        "refspec.random_matrix.conditional.spectrum:tabulate",
        after(of_the_outliers(field("values", larger))),
        few,
        size=0.03,
        setting=short,
    ),
    *(
        Flaw("Z2", what, FIT, after(wrong), few, size=size, setting=short)
        for what, wrong, size in (
            ("an alignment too large", field("alignment", larger), 0.2),
            ("an alignment too small", field("alignment", smaller), 0.2),
            (
                "eigenvalues too large",
                field("prediction", field("eigenvalues", larger)),
                0.2,
            ),
        )
    ),
    Flaw(
        "Z2",
        "a shifted distribution",
        TABULATE,
        after(of_the_table(field("cumulative", shifted))),
        few,
        size=0.15,
        setting=short,
    ),
)
REASONS: dict[str, str] = {}
