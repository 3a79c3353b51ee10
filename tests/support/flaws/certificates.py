"""Flaws of theory/certificates.md."""

from dataclasses import replace

from refspec.coordinates import certified
from support.arithmetic import coarse
from support.flaws import Flaw, after, field, first, larger, smaller
from support.snapshots import sampled

ERRORFREE = "refspec.rounding.errorfree"
FORMING = "refspec.rounding.forming"
SECOND = "refspec.rounding.second"
EIGENVALUES = "refspec.rounding.certificates:certified_eigenvalues"


def numbers():
    return sampled(1, (6, 4, 8), ((40, 30),))


def one_direction():
    """Features of rank one: a norm bound is closest."""
    return sampled(1, (6, 4, 8), ((1, 1),))


def three_radii(found, _):
    """Move eigenvalues by three of their radii."""
    return replace(found, values=found.values + 3 * found.radii)


def more_bits(right, size):
    """Cut with more bits in the high part."""
    return lambda x, bits=None: right(x, right(x, bits).bits + int(size))


def fast_sum(*_):
    """Make the three-operation sum, right for |a| >= |b| only."""

    def two_sum(a, b):
        s = a + b
        return s, b - (s - a)

    return two_sum


def second(change):
    """Change a bound that comes second."""
    return lambda found, size: (found[0], change(found[1], size))


def early(monkeypatch):
    """Stop the factorisation early, so that the residual counts."""
    monkeypatch.setattr(certified, "_REST", 2.0**-51)


THOUSANDTH, MILLIONTH = 1 - 2.0**-10, 1 - 2.0**-20
FLAWS = (
    Flaw("Q0", "products too large", f"{ERRORFREE}:scaled", after(coarse), numbers),
    Flaw("Q1", "sums off", f"{ERRORFREE}:two_sum", after(first(larger)), numbers),
    Flaw(
        "Q1", "products off", f"{ERRORFREE}:two_product", after(first(larger)), numbers
    ),
    Flaw("Q1", "a fast sum", f"{ERRORFREE}:two_sum", fast_sum, numbers, size=1),
    Flaw(
        "Q2",
        "a cut off",
        f"{ERRORFREE}:split_rows",
        after(field("high", larger)),
        numbers,
    ),
    Flaw("Q2", "more bits", f"{ERRORFREE}:split_rows", more_bits, numbers, size=6),
    Flaw(
        "Q3",
        "a head off",
        f"{ERRORFREE}:row_product",
        after(field("head", larger)),
        numbers,
    ),
    Flaw(
        "Q3",
        "a norm too small",
        "refspec.rounding.certificates:spectral_norm_bound",
        after(smaller),
        one_direction,
        size=2.0**-14,
    ),
    Flaw(
        "Q3",
        "a tail lost",
        f"{ERRORFREE}:row_product",
        after(field("tail", smaller)),
        numbers,
        size=1,
    ),
    Flaw("Q4", "values three radii off", EIGENVALUES, after(three_radii), numbers),
    Flaw(
        "Q4",
        "radii of a millionth",
        EIGENVALUES,
        after(field("radii", smaller)),
        numbers,
        size=MILLIONTH,
    ),
    Flaw("Q5", "values three radii off", EIGENVALUES, after(three_radii), numbers),
    Flaw(
        "Q5",
        "radii of a thousandth",
        EIGENVALUES,
        after(field("radii", smaller)),
        numbers,
        size=THOUSANDTH,
    ),
    Flaw(
        "Q6", "values too large", EIGENVALUES, after(field("values", larger)), numbers
    ),
    Flaw("Q6", "values three radii off", EIGENVALUES, after(three_radii), numbers),
    Flaw(
        "Q6",
        "radii too large",
        EIGENVALUES,
        after(field("radii", larger)),
        numbers,
        size=2.0**10,
    ),
    Flaw(
        "Q7",
        "a head off",
        f"{ERRORFREE}:row_product",
        after(field("head", larger)),
        numbers,
    ),
    Flaw(
        "Q7",
        "a thousandth of the bound",
        f"{FORMING}:split_error",
        after(smaller),
        numbers,
        size=THOUSANDTH,
    ),
    Flaw(
        "Q8", "products too large", f"{FORMING}:close_product", after(larger), numbers
    ),
    Flaw(
        "Q8",
        "a thousandth of the bound",
        f"{FORMING}:gram",
        after(field("error", smaller)),
        numbers,
        size=THOUSANDTH,
    ),
    Flaw(
        "Q9",
        "a residual too small",
        f"{FORMING}:residual_norm",
        after(smaller),
        numbers,
        times=64,  # the bound is of so many roundings itself
    ),
    Flaw(
        "Q9",
        "squares too large",
        f"{FORMING}:squared_columns",
        after(first(larger)),
        numbers,
    ),
    Flaw(
        "Q9",
        "a bound too small",
        f"{FORMING}:squared_columns",
        after(second(smaller)),
        numbers,
        size=THOUSANDTH,
    ),
    Flaw(
        "Q10",
        "values too large",
        "refspec.coordinates.certified:certified",
        after(field("second", larger)),
        numbers,
    ),
    Flaw(
        "Q10",
        "no residual",
        f"{FORMING}:residual_norm",
        after(smaller),
        numbers,
        size=1,
        setting=early,
    ),
    Flaw(
        "Q11",
        "products too large",
        f"{FORMING}:close_product",
        after(larger),
        numbers,
    ),
    Flaw(
        "Q11",
        "a thousandth of the bound",
        f"{SECOND}:second_moment",
        after(second(smaller)),
        numbers,
        size=THOUSANDTH,
    ),
    Flaw(
        "Q11",
        "means too large",
        f"{SECOND}:cell_means",
        after(first(larger)),
        numbers,
    ),
)
REASONS: dict[str, str] = {}
