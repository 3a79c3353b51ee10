"""Flaws of theory/attribution.md, where its inequalities are equalities."""

from dataclasses import replace

import numpy as np

import refspec
from refspec import Layer
from support.flaws import Flaw, after, field, larger, smaller
from support.snapshots import sampled, typical

SHARES = "refspec.attribution.shares"
KNOCKOUT = f"{SHARES}:knockout"


def apart(within=0.65):
    """B and M in orthogonal spaces, all of B above M: two classes at the logits.

    Features are e_c and, of both signs, another unit vector: means have the one part,
    what is within has the other.
    """
    labels = np.asarray([0, 0, 1, 1])
    p = np.asarray([[0.7, 0.3], [0.7, 0.3], [0.4, 0.6], [0.4, 0.6]])
    h = np.concatenate(
        [np.eye(2)[labels], np.asarray([[within, -within] * 2]).T], axis=1
    )
    errors = p[:, None, :] - np.eye(2)
    layer = Layer("fc", h[:, None], errors[:, :, None])
    return refspec.snapshot([layer], labels, probabilities=p)


def below():
    """B and M in orthogonal spaces, M above B: its edge is the whole's."""
    return apart(2.0)


def one_parameter():
    """B and M of one dimension: their eigenvalues add up to the whole's."""
    return sampled(0, (4, 3, 5), ((1, 1),), equal=True)


def separated(seed=0):
    """Errors almost constant within a class: outliers far above the rest."""
    snapshot = typical(seed, counts=(5, 5, 5))
    p = 0.7 * np.eye(3)[snapshot.labels] + 0.1
    rng = np.random.default_rng(seed)
    h = np.eye(3)[snapshot.labels] + 0.01 * rng.standard_normal((15, 3))
    layer = replace(
        snapshot.layers[1],
        features=h[:, None],
        errors=(p[:, None] - np.eye(3))[:, :, None],
    )
    return replace(snapshot, layers=(layer,), probabilities=p)


def one_small_direction():
    """A layer whose one parameter is all but nothing beside the others."""
    made = typical()
    errors = made.layers[1].errors[:, :, :, :1]
    last = Layer("last", np.full((len(errors), 1, 1), 2.0**-17), errors)
    return replace(made, layers=(made.layers[0], last))


def knocked(by, change):
    """Change the spectrum of one kind of knock-out."""

    def wrong(right, size):
        def knockout(basis, levels, **how):
            values, radius = right(basis, levels, **how)
            mine = how.get("by", "subtraction") == by
            return change(basis, values, size) if mine else values, radius

        return knockout

    return wrong


def scaled(change):
    return lambda _, values, size: change(values, size)


def lower(basis, values, size):
    """Take off a part of the whole's largest eigenvalue."""
    return values - size * basis.values[0]


def each(change):
    """Change what there is of every level."""
    return lambda found, size: {n: change(x, size) for n, x in found.items()}


def rows(change):
    """Change the rows of all levels of means in an eigenbasis."""
    return field("rows", each(change))


def cut(basis, _):
    """Leave the smallest eigenvalue out."""
    fewer = {n: x[:, :-1] for n, x in basis.rows.items()}
    return replace(basis, values=basis.values[:-1], rows=fewer)


def turned(basis, size):
    """Turn the means against the eigenvectors."""
    r = len(basis.values)
    skew = np.triu(np.ones((r, r)), 1)
    Q = np.linalg.qr(np.eye(r) + size * (skew - skew.T))[0]
    return replace(basis, rows={n: x @ Q for n, x in basis.rows.items()})


def beyond(found, size):
    """Put the angles a little beyond what the sine is bounded by."""
    sines = {k: min(1.0, x + size) for k, x in found.angle_bounds.items()}
    angles = {k: 0 * x + np.arcsin(sines[k]) for k, x in found.angles.items()}
    return replace(found, angles=angles)


def moved(found, size):
    """Move shares from what is within to the class means."""
    by = {"within_cross_class": -size, "between_class": size}
    return {name: x + by.get(name, 0) for name, x in found.items()}


VALUES = "refspec.spectra:spectrum"
FLAWS = (
    Flaw("A1", "the whole below B", VALUES, after(field("values", smaller)), apart),
    Flaw(
        "A1",
        "the whole above B and the edge of M",
        KNOCKOUT,
        knocked("subtraction", scaled(smaller)),
        one_parameter,
    ),
    Flaw(
        "A1",
        "a rest that is no second moment",
        KNOCKOUT,
        knocked("subtraction", lower),
        apart,
    ),
    Flaw(
        "A2",
        "a projected whole above the edge of M",
        KNOCKOUT,
        knocked("projection", scaled(larger)),
        apart,
    ),
    Flaw(
        "A2",
        "a projected whole below the whole's later eigenvalues",
        KNOCKOUT,
        knocked("projection", scaled(smaller)),
        apart,
    ),
    Flaw(
        "A2",
        "a projected whole above the whole",
        KNOCKOUT,
        knocked("projection", scaled(larger)),
        below,
    ),
    Flaw(
        "A3",
        "angles a little beyond the bound",
        "refspec.attribution.assembly:assembled",
        after(beyond),
        separated,
    ),
    Flaw(
        "A3",
        "complementary angles",
        f"{SHARES}:span_angles",
        after(lambda angles, size: size - angles),
        separated,
        size=np.pi / 2,
    ),
    Flaw(
        "A4",
        "shares of more than all",
        f"{SHARES}:_shares",
        after(each(larger)),
        typical,
    ),
    Flaw("A4", "shares a little off", f"{SHARES}:_shares", after(moved), typical),
    Flaw(
        "A5",
        "an eigenvalue cut",
        f"{SHARES}:eigenbasis",
        after(cut),
        one_small_direction,
    ),
    Flaw(
        "A5", "levels too large", f"{SHARES}:eigenbasis", after(rows(larger)), typical
    ),
    Flaw(
        "A6",
        "an edge too low",
        KNOCKOUT,
        knocked("subtraction", scaled(smaller)),
        apart,
    ),
    Flaw(
        "A6",
        "a whole above B and an edge too low",
        KNOCKOUT,
        knocked("subtraction", scaled(smaller)),
        one_parameter,
    ),
    Flaw("A7", "sines too large", f"{SHARES}:sines", after(larger), apart),
    Flaw("A7", "means too small", f"{SHARES}:eigenbasis", after(rows(smaller)), apart),
    Flaw(
        "A7",
        "no eigenvectors",
        f"{SHARES}:eigenbasis",
        after(turned),
        separated,
        size=1,
    ),
)
REASONS: dict[str, str] = {}
