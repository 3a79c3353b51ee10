"""Flaws of theory/conditional.md."""

from dataclasses import replace

from refspec.theorems import Study, conditional
from support.flaws import Flaw, after, larger, smaller
from support.snapshots import sampled

SPECTRUM = "refspec.random_matrix.conditional.spectrum"
LAW = "refspec.random_matrix.conditional.law"

#: `refspec selftest --deep` climbs the full ladder.
SHORT = ((16, 96), (32, 48))


def few():
    """Few samples of two classes."""
    return Study(sampled(0, (2, 3), [(1, 1)]))


def short(monkeypatch):
    """A short ladder."""
    monkeypatch.setattr(conditional, "LADDER", SHORT)


def of_the_table(change):
    """Change the law's table."""

    def wrong(found, size):
        return change(found[0], size), found[1]

    return wrong


def of_the_outliers(name, change):
    """Change one quantity of the outliers."""

    def wrong(found, size):
        values = change(getattr(found[1], name), size)
        return found[0], replace(found[1], **{name: values})

    return wrong


def shifted(table, size):
    """Shift a distribution function down."""
    return replace(table, cumulative=table.cumulative - size)


def away(found, size):
    """Move outliers by as many of their deviations."""
    table, outliers = found
    values = outliers.values + size * outliers.deviations
    return table, replace(outliers, values=values)


def one_less(found, size):
    """Put the least outlier in the bulk."""
    table, outliers = found
    kept = len(outliers.values) - int(size)
    columns = {k: getattr(outliers, k)[:kept] for k in ("values", "deviations")}
    return table, replace(outliers, **columns)


def larger_unknowns(found, size):
    """Take the unknowns for larger."""
    head, tail = found.resolvents
    return replace(found, resolvents=((1 + size) * head, (1 + size) * tail))


TABULATE = f"{SPECTRUM}:tabulate"
FLAWS = (
    Flaw(
        "Y1",
        "a shifted distribution",
        TABULATE,
        after(of_the_table(shifted)),
        few,
        size=0.05,
        setting=short,
    ),
    Flaw(
        "Y1", "one outlier less", TABULATE, after(one_less), few, size=1, setting=short
    ),
    Flaw("Y1", "outliers away", TABULATE, after(away), few, size=4.5, setting=short),
    Flaw(
        "Y2", "a resolvent too large", f"{LAW}:equivalent", after(larger_unknowns), few
    ),
    *(
        Flaw(
            "Y3",
            f"{name} {what}",
            TABULATE,
            after(of_the_outliers(name, change)),
            few,
            size=0.03,
        )
        for name in ("values", "deviations", "overlaps")
        for what, change in (("too large", larger), ("too small", smaller))
    ),
    Flaw("Y3", "no outlier", TABULATE, after(one_less), few, size=1),
)
REASONS: dict[str, str] = {}
