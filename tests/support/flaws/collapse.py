"""Flaws of theory/collapse.md."""

from support.flaws import Flaw, after, features, field, larger
from support.flaws.logistic import of_groups
from support.flaws.worlds import few

COLLAPSE = "refspec.synthetic.collapse"

FLAWS = (
    *(
        Flaw(id, f"{what} too large", f"{COLLAPSE}:{name}", after(of_groups), few)
        for id, what, name in (
            ("N1", "groups", "collapsed_groups"),
            ("N2", "groups", "collapsed_groups"),
            ("N3", "groups of KFAC", "collapsed_kfac_groups"),
        )
    ),
    *(
        Flaw(
            id,
            "features too large",
            f"{COLLAPSE}:collapsed",
            after(features(larger)),
            few,
        )
        for id in ("N1", "N2", "N3")
    ),
    Flaw(
        "N2",
        "a part of the gradient too large",
        "refspec.attribution.alignment:gradient_alignment",
        after(field("first", larger)),
        few,
    ),
)
REASONS: dict[str, str] = {}
