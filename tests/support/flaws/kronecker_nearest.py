"""Flaws of theory/kronecker_nearest.md."""

from support.flaws import Flaw, after, field, larger
from support.flaws.kronecker import SUM, layer
from support.flaws.kronecker_spectra import repeated
from support.snapshots import sampled

NEAREST = "refspec.kronecker.nearest:nearest"


def alike():
    """Features that are all 1: KFAC is the Fisher."""
    return sampled(1, sides=((1, 3),))


def added(x, size):
    """Return x with something added, even to 0."""
    return x + size**0.5


FLAWS = (
    Flaw("K17", "errors too large", NEAREST, after(field("errors", larger)), layer),
    Flaw("K17", "terms too large", f"{SUM}.matrix", after(larger), layer),
    Flaw("K17", "a product too far off", NEAREST, after(field("errors", added)), alike),
    Flaw(
        "K17", "C terms too far off", NEAREST, after(field("errors", added)), repeated
    ),
    Flaw("K18", "CFAC too large", f"{SUM}.matrix", after(larger), repeated),
)
REASONS: dict[str, str] = {}
