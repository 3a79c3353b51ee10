"""Flaws of theory/collapse.md."""

from dataclasses import replace

from support.flaws import Flaw, after, features, larger
from support.flaws.logistic import of_groups
from support.flaws.worlds import few

COLLAPSE = "refspec.synthetic.collapse"


def part(name):
    """Enlarge one part of what says how the gradient lies."""
    return lambda found, size: replace(
        found, **{name: getattr(found, name) * (1 + size)}
    )


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
        after(part("first")),
        few,
    ),
)
REASONS: dict[str, str] = {}
