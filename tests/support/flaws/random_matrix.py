"""Flaws of theory/random_matrix.md."""

from dataclasses import replace

import numpy as np

from refspec.theorems import Study, random_matrix
from support.flaws import Flaw, after, field, larger, smaller
from support.snapshots import sampled

FREE = "refspec.random_matrix.free"
PREDICTION = "refspec.random_matrix.prediction:Prediction"
#: Where outliers of fixed, and of random means are predicted.
FIXED = f"{FREE}.outliers:fixed_outliers"
RANDOM = "refspec.random_matrix.random_means:random_outliers"
NESTED = "refspec.random_matrix.nested.outliers:nested_outliers"

#: The full ladder is climbed by `refspec selftest --deep` and by tests/benchmarks.
SHORT = ((100, 60), (200, 20))


def few():
    """Few samples of two classes."""
    return Study(sampled(0, (2, 3), [(1, 1)]))


def three():
    """Few samples of three classes."""
    return sampled(1)


def short(monkeypatch):
    """A short ladder."""
    monkeypatch.setattr(random_matrix, "LADDER", SHORT)


def shifted(x, size):
    """Shift a distribution function."""
    return np.minimum(x + size, 1.0)


def one_less(found, size):
    """Take eigenvalues from the first band."""
    return found[0] - size, *found[1:]


def away(found, size):
    """Move outliers by as many of their deviations."""
    return replace(found, values=found.values + size * found.deviations)


def moved(found, size):
    """Move a mean by a part of a deviation."""
    return found[0] + size * found[1], found[1]


def narrowed(found, size):
    """Take from a deviation."""
    return found[0], (1 - size) * found[1]


def on_the_ladder(id, outliers, value):
    """Return flaws of what is drawn on a ladder: of a distance of .04 and so on."""
    return tuple(
        Flaw(id, what, place, after(wrong), few, size=size, setting=short)
        for what, place, wrong, size in (
            (
                "a shifted distribution",
                f"{FREE}.spectrum:tabulate",
                field("cumulative", shifted),
                0.04,
            ),
            ("an eigenvalue in no band", f"{PREDICTION}.counts", one_less, 1),
            ("outliers away", outliers, away, 4.0),
            ("outliers too large", outliers, field("values", larger), value),
            ("overlaps too small", outliers, field("overlaps", smaller), 0.03),
            ("deviations twice", outliers, field("deviations", larger), 1.0),
        )
    )


FLAWS = (
    Flaw(
        "R1",
        "scales too large",
        f"{FREE}.design:reduction",
        after(field("law", field("scales", larger))),
        few,
    ),
    Flaw("R5", "masses too large", f"{FREE}.law:cumulative", after(larger), three),
    Flaw(
        "R5",
        "more than all of it",
        f"{FREE}.spectrum:tabulate",
        after(field("cumulative", larger)),
        three,
    ),
    Flaw(
        "R6",
        "a threshold too high",
        f"{FREE}.edges:split_threshold",
        after(larger),
        few,
    ),
    Flaw(
        "R6",
        "a threshold too low",
        f"{FREE}.edges:split_threshold",
        after(smaller),
        few,
    ),
    Flaw(
        "R7", "a mean away", f"{PREDICTION}.bulk_maximum", after(moved), few, size=0.5
    ),
    Flaw(
        "R7",
        "a deviation too small",
        f"{PREDICTION}.bulk_maximum",
        after(narrowed),
        few,
        size=0.25,
    ),
    *on_the_ladder("R8", FIXED, 0.02),
    Flaw(
        "R8",
        "one outlier too large",
        FIXED,
        after(field("values", larger)),
        few,
        size=0.0012,
        setting=short,
    ),
    *(
        Flaw(
            "R13",
            f"{name} too large",
            NESTED,
            after(field(name, larger)),
            few,
            times=1.5,
        )
        for name in ("values", "deviations", "overlaps")
    ),
    *on_the_ladder("R14", RANDOM, 0.04),
    Flaw(
        "R16",
        "roots too large",
        "refspec.random_matrix.scores:roots",
        after(larger),
        few,
    ),
    Flaw(
        "R16",
        "scales too large",
        f"{FREE}.design:reduction",
        after(field("law", field("scales", larger))),
        few,
    ),
    Flaw(
        "R17",
        "means too large",
        "refspec.populations:stacked",
        after(field("class_means", larger)),
        few,
    ),
    Flaw(
        "R15", "spacings too large", f"{PREDICTION}.count", after(larger), few, size=0.3
    ),
    Flaw(
        "R15",
        "ratios too small",
        "refspec.random_matrix.repulsion:ratios",
        after(smaller),
        few,
        size=0.15,
    ),
)
REASONS = {
    "R2": "a lemma on a map, in 40 digits: the mutants of free/law.py",
    "R3": "a lemma on a map: the mutants of free/edges.py",
    "R4": "a lemma on a map: the mutants of free/law.py",
    "R9": "a lemma on a sweep: the mutants of nested/tree.py",
    "R10": "a lemma, in high precision: the mutants of nested/law.py",
    "R11": "a lemma: the mutants of nested/spectrum.py",
    "R12": "a lemma: the mutants of nested/edges.py",
}
