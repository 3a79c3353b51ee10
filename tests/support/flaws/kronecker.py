"""Flaws of theory/kronecker.md."""

from dataclasses import replace

import numpy as np

from refspec.kronecker import KroneckerSum, kfac
from support.flaws import Flaw, after, field, larger, smaller
from support.snapshots import sampled

PRODUCTS = "refspec.kronecker.products"
ORIGINS = "refspec.kronecker.origins"
CLASSWISE = "refspec.kronecker.classwise"


def world(**given):
    """Return a function that makes two layers without positions, or what is given."""
    return lambda: sampled(1, **given)


dense = world()
#: As many features and errors as classes, and more.
wide = world(sides=((5, 5),))
#: One sample a class: nothing lies within, and means are all there is.
single = world(counts=(1, 1, 1))
#: The samples of a class are all even ones: the odd batch has none of it.
absent = world(counts=(2, 1, 4))
positions = world(T=3)
#: Features that are all 1: KFAC is the Fisher.
alike = world(sides=((1, 3),))


def added(x, size):
    """Return x with something added, even to 0."""
    return x + size**0.5


def first(change):
    """Change the first of several."""
    return lambda found, size: (change(found[0], size), *found[1:])


def each(change):
    """Change every part."""
    return lambda found, size: {kind: change(x, size) for kind, x in found.items()}


def drawn(change):
    """Change KFAC's left factor where labels are drawn."""

    def wrong(right, size):
        def kfac(s, name, **options):
            made = right(s, name, **options)
            mine = options.get("fisher") == "monte_carlo"
            return replace(made, left=change(made.left, size)) if mine else made

        return kfac

    return wrong


def pooled(*_):
    """Pair all errors with all features."""

    def cfac(s, name):
        made = kfac(s, name)
        return KroneckerSum(np.ones(1), made.left[None], made.right[None])

    return cfac


def one_mean(right, _):
    """Leave one mean of errors: those of all classes but the first are taken out."""

    def decompose(moment):
        split = right(moment)
        if moment.weights.shape[1] == 1:
            return split
        means = split.levels["between_class"]
        inside = np.arange(len(moment.weights)) < moment.offsets[1]
        kept = replace(
            moment, projection=lambda x: means.projection(x) * inside[:, None, None]
        )
        return replace(split, levels=split.levels | {"between_class": kept})

    return decompose


MATVEC, SUM = f"{PRODUCTS}:Kronecker.matvec", f"{PRODUCTS}:KroneckerSum"
FACTORS = f"{CLASSWISE}:class_factors"
NEAREST = "refspec.kronecker.nearest:nearest"
FLAWS = (
    Flaw(
        "K1",
        "a last bit of the order",
        "refspec.kronecker.operators:column_stacked",
        after(larger),
        dense,
    ),
    Flaw("K1", "products too large", MATVEC, after(larger), dense),
    Flaw(
        "K1",
        "a norm too large",
        f"{PRODUCTS}:Kronecker.frobenius_norm",
        after(larger),
        dense,
    ),
    Flaw(
        "K2",
        "eigenvalues too large",
        f"{PRODUCTS}:Kronecker.certified_eigenvalues",
        after(first(larger)),
        dense,
    ),
    Flaw(
        "K3",
        "eigenvalues too small",
        f"{SUM}.certified_eigenvalues",
        after(first(smaller)),
        dense,
    ),
    Flaw("K4", "factors too large", FACTORS, after(field("errors", larger)), dense),
    Flaw("K4", "a trace too small", f"{SUM}.trace", after(smaller), dense),
    Flaw("K5", "products too large", MATVEC, after(larger), dense),
    Flaw(
        "K5",
        "an error too small",
        f"{CLASSWISE}:kfac_error",
        after(field("coefficients", smaller)),
        dense,
    ),
    Flaw("K6", "products too large", f"{SUM}.matvec", after(larger), dense),
    Flaw("K6", "KFAC for CFAC", "refspec.kronecker.kfac:cfac", pooled, dense, size=1),
    Flaw(
        "K7",
        "a factor from labels too large",
        "refspec.kronecker.kfac:kfac",
        drawn(larger),
        dense,
        size=0.15,
    ),
    Flaw(
        "K8",
        "a block's scale too large",
        "refspec.kronecker.conventions:placement",
        after(field("block", larger)),
        positions,
    ),
    Flaw("K8", "factors too large", FACTORS, after(field("errors", larger)), positions),
    Flaw(
        "K9",
        "variances too large",
        "refspec.kronecker.kfac:ekfac",
        after(field("values", larger)),
        dense,
    ),
    Flaw(
        "K10",
        "an inverse too large",
        "refspec.kronecker.damping:factored_tikhonov",
        after(field("values", larger)),
        dense,
    ),
    Flaw(
        "K11",
        "errors too large",
        f"{CLASSWISE}:running_average",
        after(field("errors", larger)),
        absent,
    ),
    Flaw(
        "K11",
        "frequencies too large",
        f"{CLASSWISE}:running_average",
        after(field("frequencies", larger)),
        absent,
    ),
    Flaw(
        "K12",
        "a solution too large",
        "refspec.kronecker.damping:damped_solve",
        after(field("value", larger)),
        dense,
    ),
    Flaw(
        "K13",
        "eigenvalues too large",
        "refspec.kronecker.eigensystems:certified_spectrum",
        after(first(larger)),
        wide,
    ),
    Flaw(
        "K13",
        "eigenvalues of a sum too large",
        f"{SUM}.certified_eigenvalues",
        after(first(larger)),
        wide,
    ),
    Flaw(
        "K13",
        "one mean of errors",
        "refspec.structure:decompose",
        one_mean,
        wide,
        size=1,
    ),
    Flaw(
        "K14",
        "matrices too large",
        f"{PRODUCTS}:Kronecker.matrix",
        after(larger),
        dense,
    ),
    Flaw(
        "K14", "a trace too small", f"{PRODUCTS}:Kronecker.trace", after(smaller), dense
    ),
    Flaw(
        "K16",
        "shares of the Fisher too large",
        f"{ORIGINS}:fisher_shares",
        after(each(larger)),
        dense,
    ),
    Flaw(
        "K16",
        "shares of CFAC too large",
        f"{ORIGINS}:class_shares",
        after(each(larger)),
        single,
    ),
    Flaw(
        "K16",
        "what means make too large",
        f"{ORIGINS}:mean_forms",
        after(each(larger)),
        single,
    ),
    Flaw("K17", "errors too small", NEAREST, after(field("errors", smaller)), dense),
    Flaw("K17", "terms too large", f"{SUM}.matrix", after(larger), single),
    Flaw("K17", "a product too far off", NEAREST, after(field("errors", added)), alike),
    Flaw("K17", "C terms too far off", NEAREST, after(field("errors", added)), single),
)
REASONS = {"K15": "a lemma: its test is of the algorithm, on operators that are known"}
