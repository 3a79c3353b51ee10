"""Flaws of theory/spectra.md."""

from dataclasses import replace

from support.flaws import Flaw, after, field, larger, smaller
from support.snapshots import typical

DUAL = "refspec.coordinates.pivots:dual"


def counts(found, size):
    """Shift the band of counts."""
    return replace(found, lower=found.lower + size, upper=found.upper + size)


def each(found, size):
    """Make the largest eigenvalues smaller, of all that are found together."""
    return {n: replace(x, values=x.values * (1 - size)) for n, x in found.items()}


FLAWS = (
    Flaw("S1", "a dual too large", DUAL, after(field("second", larger)), typical),
    Flaw("S1", "means too small", DUAL, after(field("means", smaller)), typical),
    Flaw("S2", "a dual too large", DUAL, after(field("second", larger)), typical),
    Flaw("S5", "a dual too large", DUAL, after(field("second", larger)), typical),
    Flaw("S5", "means too small", DUAL, after(field("means", smaller)), typical),
    Flaw(
        "S3",
        "largest eigenvalues too small",
        "refspec.leading:leading",
        after(field("values", smaller)),
        typical,
    ),
    Flaw(
        "S6",
        "largest eigenvalues too small",
        "refspec.leading:of_projections",
        after(each),
        typical,
    ),
    Flaw(
        "S4",
        "counts that are off",
        "refspec.quadrature:density",
        after(counts),
        typical,
        size=1,
    ),
)
REASONS: dict[str, str] = {}
