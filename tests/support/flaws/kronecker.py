"""Flaws of theory/kronecker.md."""

from dataclasses import replace

import numpy as np

from support.flaws import Flaw, after, field, larger
from support.snapshots import sampled

KRONECKER = "refspec.kronecker.products:Kronecker"
SUM = "refspec.kronecker.products:KroneckerSum"
MOMENT = "refspec.curvature:SecondMoment"
KFAC, CFAC = "refspec.kronecker.kfac:kfac", "refspec.kronecker.kfac:cfac"
CLASSES = "refspec.kronecker.classwise"
SPECTRUM = "refspec.kronecker.eigensystems:certified_spectrum"

_left = field("left", larger)
_features, _errors = field("features", larger), field("errors", larger)
_coefficients, _values = field("coefficients", larger), field("values", larger)


def layer(counts=(3, 1, 4), **given):
    """Samples of one layer, as wide as C^2 means of three classes have ranks."""
    return sampled(1, counts, ((5, 5),), **given)


def positions():
    """The same at three positions."""
    return layer(T=3)


def alone():
    """Two classes have one sample each, so that every other sample leaves one out."""
    return layer((1, 1, 4))


def repeated():
    """All samples of a class are one: its means are all that there is of it."""
    return layer(ties=True, equal=True)


def first(change):
    """Change the first of what a function returns: values, not their radius."""
    return after(lambda found, size: (change(found[0], size), *found[1:]))


def shares(kind):
    """Enlarge the shares of one kind."""
    return after(lambda found, size: found | {kind: larger(found[kind], size)})


def where(option, value=None):
    """Enlarge KFAC's first factor where it is made with an option."""

    def wrong(right, size):
        def kfac(*args, **given):
            made, chosen = right(*args, **given), given.get(option)
            return _left(made, size) if chosen and value in (None, chosen) else made

        return kfac

    return wrong


def forgotten(right, size):
    """Forget a part of a class that a batch has no sample of."""

    def running_average(old, batch, decay):
        made, gone = right(old, batch, decay), (batch.frequencies == 0)[:, None, None]
        return replace(made, errors=made.errors * (1 - size * gone))

    return running_average


def of_one_class(right, _):
    """Leave no class mean of errors but the first."""

    def decompose(moment):
        split = right(moment)
        means = split.levels["between_class"]
        inside = np.arange(len(moment.weights)) < moment.offsets[1]
        if moment.weights.shape[1] == 1:
            return split

        def kept(rows):
            return means.projection(rows) * inside[:, None, None]

        level = replace(moment, projection=kept)
        return replace(split, levels=split.levels | {"between_class": level})

    return decompose


FLAWS = (
    Flaw("K1", "products too large", f"{KRONECKER}.matvec", after(larger), layer),
    Flaw(
        "K1",
        "stacked columns too large",
        "refspec.kronecker.operators:column_stacked",
        after(larger),
        layer,
    ),
    Flaw("K1", "a norm too large", f"{KRONECKER}.frobenius_norm", after(larger), layer),
    Flaw(
        "K2",
        "eigenvalues too large",
        f"{KRONECKER}.certified_eigenvalues",
        first(larger),
        layer,
    ),
    Flaw("K2", "a trace too large", f"{KRONECKER}.trace", after(larger), layer),
    Flaw(
        "K3",
        "eigenvalues too large",
        f"{SUM}.certified_eigenvalues",
        first(larger),
        layer,
    ),
    Flaw(
        "K4",
        "features of classes too large",
        f"{CLASSES}:class_factors",
        after(_features),
        layer,
    ),
    Flaw(
        "K4",
        "errors of classes too large",
        f"{CLASSES}:class_factors",
        after(_errors),
        layer,
    ),
    Flaw("K4", "KFAC too large", KFAC, after(_left), layer),
    Flaw("K4", "CFAC's trace too large", f"{SUM}.trace", after(larger), layer),
    Flaw("K5", "KFAC too large", KFAC, after(_left), layer),
    Flaw("K5", "CFAC too large", CFAC, after(_coefficients), layer),
    Flaw(
        "K5",
        "a covariance too large",
        f"{CLASSES}:kfac_error",
        after(_coefficients),
        layer,
    ),
    Flaw("K6", "CFAC too large", CFAC, after(_coefficients), layer),
    Flaw("K6", "the Fisher too large", f"{MOMENT}.matvec", after(larger), layer),
    Flaw(
        "K7",
        "a factor of drawn labels too large",
        KFAC,
        where("fisher", "monte_carlo"),
        layer,
        size=0.15,
    ),
    Flaw("K8", "conventions too large", KFAC, where("convention"), positions),
    Flaw(
        "K8",
        "a scale too large",
        "refspec.kronecker.conventions:placement",
        after(field("block", larger)),
        positions,
    ),
    Flaw(
        "K8",
        "features of single positions too large",
        f"{CLASSES}:class_factors",
        after(_features),
        positions,
    ),
    Flaw(
        "K9",
        "variances too large",
        "refspec.kronecker.kfac:ekfac",
        after(_values),
        layer,
    ),
    Flaw(
        "K9",
        "EKFAC too large",
        "refspec.kronecker.eigenbasis:KroneckerBasis.matrix",
        after(larger),
        layer,
    ),
    Flaw(
        "K10",
        "an inverse too large",
        "refspec.kronecker.damping:factored_tikhonov",
        after(_values),
        layer,
    ),
    Flaw(
        "K11",
        "averages too large",
        f"{CLASSES}:running_average",
        after(_errors),
        layer,
    ),
    Flaw(
        "K11",
        "frequencies too large",
        f"{CLASSES}:running_average",
        after(field("frequencies", larger)),
        layer,
    ),
    Flaw(
        "K11",
        "an absent class forgotten",
        f"{CLASSES}:running_average",
        forgotten,
        alone,
    ),
    Flaw(
        "K12",
        "a solution too large",
        "refspec.kronecker.damping:damped_solve",
        after(field("value", larger)),
        layer,
    ),
    Flaw("K13", "factors too large", f"{MOMENT}.matrix", after(larger), layer),
    Flaw("K13", "eigenvalues too large", SPECTRUM, first(larger), layer),
    Flaw(
        "K13",
        "eigenvalues of a sum too large",
        f"{SUM}.certified_eigenvalues",
        first(larger),
        layer,
    ),
    Flaw(
        "K13",
        "one class mean in place of C",
        "refspec.structure:decompose",
        of_one_class,
        layer,
        size=1.0,
    ),
    *(
        Flaw("K14", f"{what} too large", f"{place}.matrix", after(larger), layer)
        for what, place in (("KFAC", KRONECKER), ("CFAC", SUM), ("the Fisher", MOMENT))
    ),
    Flaw("K14", "another trace", f"{KRONECKER}.trace", after(larger), layer),
    *(
        Flaw(
            "K16",
            f"{function} of the {kind} too large",
            f"refspec.kronecker.origins:{function}",
            shares(kind),
            layer,
            times=64.0,
        )
        for function in ("fisher_shares", "class_shares")
        for kind in ("outlier", "bump")
    ),
    Flaw(
        "K16",
        "parts of CFAC larger than it",
        "refspec.kronecker.origins:class_shares",
        shares("outlier"),
        repeated,
    ),
    Flaw(
        "K16",
        "parts of KFAC larger than it",
        "refspec.kronecker.origins:factor_means",
        after(_features),
        repeated,
    ),
)
REASONS = {"K15": "a lemma: its program is that of S3, and has its flaw"}
