"""Flaws of theory/kronecker.md."""

from support.flaws import Flaw, after, field, first, larger
from support.snapshots import sampled

KRONECKER = "refspec.kronecker.products:Kronecker"
SUM = "refspec.kronecker.products:KroneckerSum"
MOMENT = "refspec.curvature:SecondMoment"
KFAC, CFAC = "refspec.kronecker.kfac:kfac", "refspec.kronecker.kfac:cfac"
CLASSES = "refspec.kronecker.classwise"
_left = field("left", larger)
_features, _errors = field("features", larger), field("errors", larger)
_coefficients, _values = field("coefficients", larger), field("values", larger)


def layer(counts=(3, 1, 4), **given):
    """Samples of one layer, as wide as C^2 means of three classes have ranks."""
    return sampled(1, counts, ((5, 5),), **given)


def positions():
    """The same at three positions."""
    return layer(T=3)


def where(option, value=None):
    """Enlarge KFAC's first factor where it is made with an option."""

    def wrong(right, size):
        def kfac(*args, **given):
            made, chosen = right(*args, **given), given.get(option)
            return _left(made, size) if chosen and value in (None, chosen) else made

        return kfac

    return wrong


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
        after(first(larger)),
        layer,
    ),
    Flaw("K2", "a trace too large", f"{KRONECKER}.trace", after(larger), layer),
    Flaw(
        "K3",
        "eigenvalues too large",
        f"{SUM}.certified_eigenvalues",
        after(first(larger)),
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
)
REASONS: dict[str, str] = {}
