"""Flaws of theory/logistic.md."""

from dataclasses import replace

from support.flaws import Flaw, after, before, errors, features, field, larger, smaller
from support.flaws.worlds import CLASSES, SYNTHETIC, few, shifted

LOGISTIC = f"{SYNTHETIC}.logistic"
GROUPS = f"{SYNTHETIC}.groups"


def lowered(found, size):
    """Take off a number."""
    return found - size


def value(change):
    """Change a number that is known to a radius."""
    return after(field("value", change))


def of_groups(found, size):
    """Enlarge all eigenvalues."""
    return tuple(replace(x, value=larger(x.value, size)) for x in found)


def instead(other):
    """Put another formula, of the right one and its arguments."""
    return lambda right, _: lambda *args: other(right, *args)


def mirrored(right, C, s, alpha):
    """Fall where the right one rises, by as much."""
    return 2 * right(C, s, (C - 1) / C) - right(C, s, alpha)


def without_miss(_, C, s, alpha):
    """Forget 1 - alpha: the ratio rises."""
    return 1 + s / (2 - alpha * C / (C - 1))


def weaker(right, C, s, alpha):
    """Let a signal make outliers the weaker, the stronger it is."""
    return right(C, 1 / s, alpha)


def backwards(right, C, t):
    """Let errors rise with the signal."""
    return right(C, max(0.0, 8.0 - t))


FLAWS = (
    Flaw(
        "W11", "a mixture too large", f"{LOGISTIC}:mixture_fisher", after(larger), few
    ),
    Flaw(
        "W12", "groups too large", f"{GROUPS}:canonical_groups", after(of_groups), few
    ),
    Flaw(
        "W13", "groups too large", f"{GROUPS}:canonical_groups", after(of_groups), few
    ),
    Flaw(
        "W13",
        "eigenvectors too long",
        f"{LOGISTIC}:outlier_eigenvectors",
        after(larger),
        few,
    ),
    Flaw(
        "W13", "inputs too large", f"{CLASSES}:snapshot", after(features(larger)), few
    ),
    Flaw("W13", "errors too large", f"{CLASSES}:snapshot", after(errors(larger)), few),
    Flaw("W14", "R too large", f"{LOGISTIC}:outlier_ratio", after(larger), few),
    Flaw("W14", "M too large", f"{LOGISTIC}:bump_ratio", after(larger), few),
    *(
        Flaw("W14", what, f"{LOGISTIC}:{name}", instead(other), few, size=1.0)
        for what, name, other in (
            ("R without 1 - alpha", "outlier_ratio", without_miss),
            ("M falls", "bump_ratio", mirrored),
            ("R falls with s", "outlier_ratio", weaker),
        )
    ),
    Flaw(
        "W15", "a rate off", f"{LOGISTIC}:bayes_error", value(shifted), few, size=0.01
    ),
    Flaw(
        "W15",
        "a rate that rises",
        f"{LOGISTIC}:bayes_error",
        instead(backwards),
        few,
        size=1.0,
    ),
    Flaw(
        "W16",
        "a fit too large",
        f"{SYNTHETIC}.regression:fit_logistic",
        after(larger),
        few,
    ),
    Flaw(
        "W16",
        "errors that do not add up to 0",
        f"{SYNTHETIC}.regression:observe_logistic",
        after(errors(lowered)),
        few,
    ),
    Flaw(
        "W16",
        "a Fisher without its half",
        "refspec.curvature:fisher",
        before(errors(smaller)),
        few,
        size=0.5,
    ),
)
REASONS: dict[str, str] = {}
