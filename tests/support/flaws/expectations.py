"""Flaws of theory/expectations.md."""

from dataclasses import replace

import numpy as np

from support.flaws import Flaw, after, errors, field, larger
from support.snapshots import sampled

SYNTHETIC = "refspec.synthetic"
EXPECTED = f"{SYNTHETIC}.expectations"
GROUPS = f"{SYNTHETIC}.groups"


def few():
    """Few samples of three classes."""
    return sampled(1)


def level(name):
    """Enlarge one expected level."""
    return after(lambda found, size: found | {name: larger(found[name], size)})


def of_groups(found, size):
    """Enlarge all eigenvalues."""
    return tuple(replace(x, value=larger(x.value, size)) for x in found)


def at_true_class(snapshot, size):
    """Enlarge the errors at the true class: scores no longer vanish."""
    own = np.eye(snapshot.probabilities.shape[1])[snapshot.labels]
    return errors(lambda x, size: x * (1 + size * own[:, :, None, None]))(
        snapshot, size
    )


FLAWS = (
    *(
        Flaw(
            "W6",
            f"{name} too large",
            f"{EXPECTED}:feature_levels",
            level(name),
            few,
            times=64.0,
        )
        for name in ("global_mean", "between_class", "within_class")
    ),
    *(
        Flaw(
            "W7",
            f"{name} too large",
            f"{EXPECTED}:error_levels",
            level(name),
            few,
            times=64.0,
        )
        for name in (
            "diagonal",
            "between_class",
            "between_cross_class",
            "within_cross_class",
        )
    ),
    Flaw(
        "W8",
        "the diagonal too large",
        f"{EXPECTED}:error_levels",
        level("diagonal"),
        few,
    ),
    Flaw(
        "W8",
        "errors at the true class too large",
        f"{SYNTHETIC}.worlds:planted",
        after(field("snapshot", at_true_class)),
        few,
    ),
    Flaw(
        "W9",
        "an expected Fisher too large",
        f"{EXPECTED}:fisher_of_layers",
        after(larger),
        few,
    ),
    Flaw(
        "W9",
        "a coupling too large",
        f"{EXPECTED}:fisher_coupling",
        after(larger),
        few,
        times=64.0,
    ),
    Flaw(
        "W10", "groups too large", f"{GROUPS}:independent_groups", after(of_groups), few
    ),
)
REASONS: dict[str, str] = {}
