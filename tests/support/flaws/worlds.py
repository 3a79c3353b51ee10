"""Flaws of theory/worlds.md."""

from dataclasses import replace

import numpy as np

from support.flaws import Flaw, after, larger
from support.snapshots import sampled

SYNTHETIC = "refspec.synthetic"
DRAW = f"{SYNTHETIC}.worlds:draw"
CLASSES = "refspec.classes"


def few():
    """Few samples of three classes."""
    return sampled(1)


def many():
    """More classes, each of more samples, so that its mean has little noise."""
    return sampled(1, (13,) * 6)


def shifted(found, size):
    """Add a number."""
    return found + size


def shifted_law(noise, dof=None):
    """Shift one law: its distribution function is off by as much at the median."""
    density = {"gaussian": 0.3989, "laplace": 0.7071, "student": {3: 0.6366, 8: 0.4465}}

    def wrong(right, size):
        def standard(shape, **given):
            x = right(shape, **given)
            if (given.get("noise"), given.get("dof")) != (noise, dof):
                return x
            top = density[noise]
            return x + size / (top[int(dof)] if dof else top)

        return standard

    return wrong


def variance(name):
    """Draw with one level's covariance too large."""

    def wrong(right, size):
        def draw(law, *, rng):
            given = getattr(law, name)
            if given is not None:
                grown = (1 + size) * np.asarray(given)
                one = isinstance(given, tuple)
                law = replace(law, **{name: tuple(grown.tolist()) if one else grown})
            return right(law, rng=rng)

        return draw

    return wrong


def common(right, size):
    """Classes that depend on each other: their mean has too large a variance."""

    def draw(law, *, rng):
        x = right(law, rng=rng)
        cells = np.stack([x[law.labels == c].mean(axis=0) for c in range(law.C)])
        grand = (cells - law.fixed_means()).mean(axis=(0, 1))
        return x + ((1 + size) ** 0.5 - 1) * grand

    return draw


FLAWS = (
    Flaw("W1", "roots too large", f"{SYNTHETIC}.covariances:root", after(larger), few),
    Flaw(
        "W1",
        "low rank plus noise too large",
        f"{SYNTHETIC}.covariances:low_rank_plus_noise",
        after(larger),
        few,
    ),
    *(
        Flaw(
            "W2",
            f"{noise} {dof or ''} off at the median".replace("  ", " "),
            f"{SYNTHETIC}.covariances:standard",
            shifted_law(noise, dof),
            few,
            size=0.007,
        )
        for noise, dof in (
            ("gaussian", None),
            ("laplace", None),
            ("student", 3.0),
            ("student", 8.0),
        )
    ),
    Flaw(
        "W3",
        "means too large",
        f"{SYNTHETIC}.geometry:means_of_gram",
        after(larger),
        few,
    ),
    Flaw("W4", "logarithms too large", f"{CLASSES}:log_softmax", after(shifted), few),
    Flaw(
        "W4",
        "probabilities too large",
        f"{SYNTHETIC}.geometry:confusion",
        after(larger),
        few,
    ),
    *(
        Flaw("W5", f"{name} too large", DRAW, variance(name), many, size=0.1)
        for name in ("class_covariance", "cross_covariance", "within_covariance")
    ),
    Flaw("W5", "classes that depend on each other", DRAW, common, few, size=0.27),
)
REASONS: dict[str, str] = {}
