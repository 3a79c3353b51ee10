"""Flaws of theory/conditional.md."""

from dataclasses import replace

import numpy as np

from refspec.theorems import conditional
from support.flaws import Flaw, after, field, first, larger, smaller
from support.flaws.random_matrix import away, few

SPECTRUM = "refspec.random_matrix.conditional.spectrum"
LAW = "refspec.random_matrix.conditional.law"
SOLVED = "refspec.random_matrix.conditional.counting:solved"

#: `refspec selftest --deep` climbs the full ladder.
SHORT = ((16, 96), (32, 48))
SHORTER = ((8, 96), (16, 48))


def short(monkeypatch):
    """A short ladder."""
    monkeypatch.setattr(conditional, "LADDER", SHORT)
    monkeypatch.setattr(conditional, "TOGETHER", SHORTER)
    monkeypatch.setattr(conditional, "SHARED", SHORT)


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


def less(S, size):
    """Take a variance from each direction."""
    return S - size * np.eye(S.shape[-1])


def miscounted(found, size):
    """Count eigenvalues that are not there."""
    return replace(found, above=found.above + size)


def another_step(found, size):
    """Take B for larger: the functional is stationary elsewhere."""
    delta, B = found.unknowns
    return replace(found, unknowns=np.stack([delta, (1 + size) * B]))


JOINED = "refspec.random_matrix.conditional.together:correlated"
REGRESSION = "refspec.random_matrix.conditional.design:regression"
STATISTICS = "refspec.random_matrix.conditional.positions:statistics"
EQUIVALENT = f"{LAW}:equivalent"
TABULATE = f"{SPECTRUM}:tabulate"
FLAWS = (
    *(
        Flaw(id, what, TABULATE, after(change), few, size=size, setting=short)
        for id in ("Y1", "Y5", "Y7")
        for what, change, size in (
            ("a shifted distribution", first(field("cumulative", shifted)), 0.05),
            ("one outlier less", of_the_outliers(one_less), 1),
            ("outliers away", of_the_outliers(away), 4.5),
        )
    ),
    Flaw("Y2", "a resolvent too large", EQUIVALENT, after(larger_unknowns), few),
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
    Flaw("Y5", "covariances too large", JOINED, after(larger), few, size=2.0**-20),
    Flaw("Y5", "too little of each", JOINED, after(less), few, size=2.0**-20),
    Flaw(
        "Y7",
        "a resolvent too large",
        EQUIVALENT,
        after(larger_unknowns),
        few,
        size=2.0**-20,
        setting=short,
    ),
    *(
        Flaw(
            "Y7",
            f"{x} too large",
            STATISTICS,
            after(field(x, larger)),
            few,
            size=2.0**-20,
            setting=short,
        )
        for x in ("slopes", "residual")
    ),
    Flaw("Y6", "a count off", SOLVED, after(miscounted), few, size=2.0**-20),
    Flaw("Y6", "another step", f"{LAW}:step", after(another_step), few, size=2.0**-4),
)
REASONS: dict[str, str] = {}
