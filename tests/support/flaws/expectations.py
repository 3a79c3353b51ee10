"""Flaws of theory/expectations.md."""

import numpy as np

from support.flaws import Flaw, after, entry, errors, field, larger
from support.flaws.logistic import GROUPS, of_groups
from support.flaws.worlds import SYNTHETIC, few

EXPECTED = f"{SYNTHETIC}.expectations"


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
            after(entry(name, larger)),
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
            after(entry(name, larger)),
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
        after(entry("diagonal", larger)),
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
