"""assert_levels passes the paper's levels and names what others mixed up."""

import numpy as np
import pytest

from refspec import attribution, curvature, structure
from refspec.testing import assert_levels
from support import mistakes
from support.operators import CASES, C, N, names_of

NAMES = ("diagonal", "between_class", "between_cross_class", "within_cross_class")


def levels_of(case, names=None, p=None, plain=False):
    """The four matrices by loops over classes (Papyan 2020, eq. 6.4)."""
    p = case.p if p is None else p
    g = case.gradients(names=names)
    w = case.s[:, None] * p
    if plain:  # the 2019 convention: sqrt(p) in the vectors, weights 1/N
        g, w = np.sqrt(p)[:, :, None] * g, np.full((N, C), 1 / N)
    P = g.shape[2]
    out = {name: np.zeros((P, P)) for name in NAMES}
    y = case.snapshot.labels
    for c in range(C):
        mine = np.flatnonzero(y == c)
        mean, mass = {}, {}
        for k in range(C):
            v, m = g[mine, k], w[mine, k]
            mass[k], mean[k] = m.sum(), (m[:, None] * v).sum(axis=0) / m.sum()
            off = v - mean[k]
            out["within_cross_class"] += (m[:, None] * off).T @ off
        others = [k for k in range(C) if k != c]
        total = sum(mass[k] for k in others)
        center = sum(mass[k] * mean[k] for k in others) / total
        out["diagonal"] += mass[c] * np.outer(mean[c], mean[c])
        out["between_class"] += total * np.outer(center, center)
        for k in others:
            off = mean[k] - center
            out["between_cross_class"] += mass[k] * np.outer(off, off)
    return out


@pytest.mark.parametrize("kind", CASES)
def test_right_levels_pass(kind):
    case = CASES[kind]
    mine = levels_of(case)
    assert_levels(mine, case.snapshot)
    assert_levels({k: (lambda v, A=A: A @ v) for k, A in mine.items()}, case.snapshot)
    assert_levels({k: float(np.trace(A)) for k, A in mine.items()}, case.snapshot)
    assert_levels(levels_of(case, plain=True), case.snapshot, convention="2019")
    one = next(iter(case.layers))
    assert_levels(levels_of(case, [one]), case.snapshot, layer=one)
    for of in ("errors", "features"):
        moment = getattr(curvature, of)(case.snapshot, one)
        split = structure.decompose(moment).levels
        found = {k: x.matrix() for k, x in split.items()}
        assert_levels(found, case.snapshot, of=of, layer=one)
    swapped = {k: case.swap(A) for k, A in mine.items()}
    assert_levels(swapped, case.snapshot, order="column_stacked")


MISTAKES = {
    "diagonal + between_class": ("between_class", lambda a, _: a[0] + a[1]),
    "between_class + between_cross_class": (
        "between_cross_class",
        lambda a, _: a[1] + a[2],
    ),
    "between_class": ("diagonal", lambda a, _: a[1]),
    "convention": ("between_class", lambda _, b: b[1]),
    "factor C - 1": ("between_class", lambda a, _: (C - 1) * a[1]),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("kind", CASES)
def test_mixed_up_levels_are_named(kind, name):
    case = CASES[kind]
    level, make = MISTAKES[name]
    both = [list(levels_of(case, plain=x).values()) for x in (False, True)]
    wrong = make(*both)
    with pytest.raises(AssertionError, match=f"level {level}") as error:
        assert_levels({level: wrong}, case.snapshot)
    assert name in names_of(error)
    if name.startswith(("diagonal +", "factor")):
        with pytest.raises(AssertionError, match=f"trace of {level}") as error:
            assert_levels({level: float(np.trace(wrong))}, case.snapshot)
        assert name in names_of(error)


def test_wrong_arguments():
    case = CASES["mlp"]
    with pytest.raises(ValueError, match="levels of fisher must be some of"):
        assert_levels({"between": 1.0}, case.snapshot)
    with pytest.raises(ValueError, match="those of one layer"):
        assert_levels({"between_class": 1.0}, case.snapshot, of="errors")
    with pytest.raises(ValueError, match="convention must be one of '2020'"):
        assert_levels({"between_class": 1.0}, case.snapshot, convention="2018")


@pytest.mark.parametrize("kind", ["mlp", "cnn", "moment"])
def test_right_means_pass(kind):
    """As vectors: class means, cross-class means, and of features the global mean."""
    seen = mistakes.case(kind, 0)
    for narrow in (np.float64, np.float32):
        found = mistakes.means(seen)
        mine = {
            "class_means": found.classes.astype(narrow),
            "cross_class_means": found.cells.astype(narrow),
        }
        assert_levels(mine, seen.expected)
    for name in seen.layers if kind != "moment" else ():
        h, d = seen.layers[name]
        for of, vectors in (("features", h[:, None]), ("errors", d)):
            found = mistakes.means(seen, vectors.reshape(*vectors.shape[:2], -1))
            mine = {"class_means": found.classes}
            if of == "features":
                mine["global_mean"] = found.mass.sum(1) @ found.classes
            else:
                mine["cross_class_means"] = found.cells
            assert_levels(mine, seen.expected, of=of, layer=name)


def test_means_are_those_that_refspec_gives():
    """Its own coordinates are others; distances between means are the same."""
    seen = mistakes.case("mlp", 0)
    found, mine = mistakes.means(seen), attribution.class_means(seen.expected)
    for a, b in ((found.classes, mine.classes), (found.cells, mine.cells)):
        flat = [x.reshape(-1, x.shape[-1]) for x in (a, b)]
        gram = [x @ x.T for x in flat]
        assert np.max(np.abs(gram[0] - gram[1])) <= 2.0**-44 * np.trace(gram[0])


@pytest.mark.parametrize("year", ["2020", "2019"])
def test_the_other_convention_of_means_is_named(year):
    seen = mistakes.case("mlp", 0)
    g = np.sqrt(seen.p)[:, :, None] * seen.gradients
    plain = mistakes.means(seen, g, np.full_like(seen.p, 1 / len(g)))
    right, other = mistakes.means(seen), plain
    if year == "2019":
        right, other = other, right
    for key in ("classes", "cells"):
        name = "class_means" if key == "classes" else "cross_class_means"
        assert_levels({name: getattr(right, key)}, seen.expected, convention=year)
        with pytest.raises(AssertionError, match=f"^{name} of the fisher") as error:
            assert_levels({name: getattr(other, key)}, seen.expected, convention=year)
        assert names_of(error) == ["convention"]


def test_wrong_means_are_refused():
    seen = mistakes.case("mlp", 0)
    found = mistakes.means(seen)
    with pytest.raises(ValueError, match=r"class_means must have shape \(C, P\)"):
        assert_levels({"class_means": found.cells}, seen.expected)
    how = {"of": "features", "layer": "linear1"}
    with pytest.raises(ValueError, match="levels of features must be some of"):
        assert_levels({"cross_class_means": found.cells}, seen.expected, **how)
    with pytest.raises(ValueError, match="must be finite"):
        assert_levels({"class_means": np.nan * found.classes}, seen.expected)
