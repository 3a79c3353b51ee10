"""Flaws of theory/kronecker_spectra.md."""

from dataclasses import replace

import numpy as np

from support.flaws import Flaw, after, entry, field, first, larger
from support.flaws.kronecker import KRONECKER, MOMENT, SUM, layer

SPECTRUM = "refspec.kronecker.eigensystems:certified_spectrum"
_features = field("features", larger)


def repeated():
    """All samples of a class are one: its means are all that there is of it."""
    return layer(ties=True, equal=True)


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
    Flaw("K13", "factors too large", f"{MOMENT}.matrix", after(larger), layer),
    Flaw("K13", "eigenvalues too large", SPECTRUM, after(first(larger)), layer),
    Flaw(
        "K13",
        "eigenvalues of a sum too large",
        f"{SUM}.certified_eigenvalues",
        after(first(larger)),
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
            after(entry(kind, larger)),
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
        after(entry("outlier", larger)),
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
