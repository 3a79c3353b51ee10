"""Flaws of theory/worlds.md."""

from dataclasses import replace

import numpy as np

from support.flaws import Flaw, after, before, errors, features, field, larger, smaller
from support.snapshots import sampled

SYNTHETIC = "refspec.synthetic"
EXPECTED = f"{SYNTHETIC}.expectations"
LOGISTIC = f"{SYNTHETIC}.logistic"
DRAW = f"{SYNTHETIC}.worlds:draw"
GROUPS = f"{SYNTHETIC}.groups"
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


def lowered(found, size):
    """Take off a number."""
    return found - size


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


def level(name):
    """Enlarge one expected level."""
    return after(lambda found, size: found | {name: larger(found[name], size)})


def value(change):
    """Change a number that is known to a radius."""
    return after(field("value", change))


def of_groups(found, size):
    """Enlarge all eigenvalues."""
    return tuple(replace(x, value=larger(x.value, size)) for x in found)


def at_true_class(snapshot, size):
    """Enlarge the errors at the true class: scores no longer vanish."""
    own = np.eye(snapshot.probabilities.shape[1])[snapshot.labels]
    return errors(lambda x, size: x * (1 + size * own[:, :, None, None]))(
        snapshot, size
    )


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
