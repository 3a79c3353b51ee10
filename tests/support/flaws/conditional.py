"""Flaws of theory/conditional.md."""

from dataclasses import replace

from refspec.theorems import conditional
from support.flaws import Flaw, after, field, first, larger, smaller
from support.flaws.random_matrix import away, few

SPECTRUM = "refspec.random_matrix.conditional.spectrum"
LAW = "refspec.random_matrix.conditional.law"

#: `refspec selftest --deep` climbs the full ladder.
SHORT = ((16, 96), (32, 48))


def short(monkeypatch):
    """A short ladder."""
    monkeypatch.setattr(conditional, "LADDER", SHORT)


def of_the_outliers(change):
    """Change the outliers, not the law's table."""
    return lambda found, size: (found[0], change(found[1], size))


def shifted(x, size):
    """Shift a distribution function down."""
    return x - size


def one_less(found, size):
    """Put the least outlier in the bulk."""
    kept = len(found.values) - int(size)
    columns = {k: getattr(found, k)[:kept] for k in ("values", "deviations")}
    return replace(found, **columns)


def larger_unknowns(found, size):
    """Take the unknowns for larger."""
    head, tail = found.resolvents
    return replace(found, resolvents=((1 + size) * head, (1 + size) * tail))


REGRESSION = "refspec.random_matrix.conditional.design:regression"
TABULATE = f"{SPECTRUM}:tabulate"
FLAWS = (
    Flaw(
        "Y1",
        "a shifted distribution",
        TABULATE,
        after(first(field("cumulative", shifted))),
        few,
        size=0.05,
        setting=short,
    ),
    Flaw(
        "Y1",
        "one outlier less",
        TABULATE,
        after(of_the_outliers(one_less)),
        few,
        size=1,
        setting=short,
    ),
    Flaw(
        "Y1",
        "outliers away",
        TABULATE,
        after(of_the_outliers(away)),
        few,
        size=4.5,
        setting=short,
    ),
    Flaw(
        "Y2", "a resolvent too large", f"{LAW}:equivalent", after(larger_unknowns), few
    ),
    *(
        Flaw(
            "Y3",
            f"{name} {what}",
            TABULATE,
            after(of_the_outliers(field(name, change))),
            few,
            size=0.03,
        )
        for name in ("values", "deviations", "overlaps")
        for what, change in (("too large", larger), ("too small", smaller))
    ),
    Flaw("Y3", "no outlier", TABULATE, after(of_the_outliers(one_less)), few, size=1),
    *(
        Flaw(
            "Y4",
            f"{name} too large",
            REGRESSION,
            after(first(field(name, larger))),
            few,
        )
        for name in ("slopes", "residual")
    ),
)
REASONS: dict[str, str] = {}
