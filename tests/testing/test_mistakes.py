"""Every mistake of the table gets its name and no other; what is outside gets none.

Here at the first seed; `make oracle` takes three, and 1,000 right answers.
"""

from pathlib import Path

import pytest

from refspec.testing import assert_density, assert_operator, assert_spectrum
from support.mistakes import (
    DENSITIES,
    LEVELS,
    OPERATORS,
    OUTSIDE,
    SMOOTHED,
    SPECTRA,
    UNTOLD,
    answer,
    at,
    case,
    eigenvalues,
    quadrature,
    smooth,
)
from support.operators import names_of
from support.right_answers import drawn

EVERY = [
    (x, kind) for x in (*OPERATORS, *LEVELS, *SPECTRA, *DENSITIES) for kind in x.kinds
]
EVERY += [(x, "cnn") for x in SMOOTHED]


def title(x):
    return x if isinstance(x, str) else x.told


@pytest.mark.parametrize(("row", "kind"), EVERY, ids=title)
def test_a_mistake_gets_its_name(row, kind):
    with pytest.raises(AssertionError) as error:
        answer(row, case(kind, 0))
    assert names_of(error) == [row.told], str(error.value)


@pytest.mark.parametrize(
    ("row", "kind"), [(x, kind) for x in OUTSIDE for kind in x.kinds], ids=title
)
def test_a_mistake_outside_gets_none(row, kind):
    with pytest.raises(AssertionError, match="none of the usual") as error:
        answer(row, case(kind, 0))
    assert not names_of(error), str(error.value)


@pytest.mark.parametrize("row", UNTOLD, ids=title)
def test_what_cannot_be_told_says_what_would_tell(row):
    with pytest.raises(ValueError, match="cannot tell") as error:
        answer(row, case("cnn", 0))
    assert row.told in str(error.value)


@pytest.mark.parametrize("kind", ["mlp", "cnn", "moment"])
def test_the_right_answers_they_are_made_of_pass(kind):
    seen = case(kind, 0)
    A, (x, U, Z) = seen.fisher(), quadrature(seen)
    assert_operator(A, seen.expected)
    assert_operator(lambda v: A @ v, seen.expected)
    assert_operator(
        seen.fisher(labels=seen.hot()), seen.expected, of="empirical_fisher"
    )
    assert_spectrum(eigenvalues(A), seen.expected)
    assert_spectrum(eigenvalues(A.astype("f4")), seen.expected)
    assert_density(x, U, seen.expected)
    assert_density(x, U[:, 0] ** 2, seen.expected, vectors=Z)
    grid, density, how = smooth(seen)
    assert_density(grid, density, seen.expected, **how)
    if kind != "moment":
        H = seen.hessian()
        assert_operator(H, seen.expected, of="hessian")
        assert_operator(seen.kfac(), seen.expected, of="kfac")
        assert_spectrum(eigenvalues(H)[:5], seen.expected, of="hessian")


@pytest.mark.parametrize("seed", range(40))
def test_no_right_answer_is_rejected(seed):
    """The first of `make oracle`'s 1,000; that nothing can be told is no failure."""
    _, ask = drawn(seed)
    try:
        ask()
    except ValueError as error:
        assert str(error).startswith("cannot tell")  # noqa: PT017 not all raise


def test_the_proof_is_there_and_without_exception():
    """The committed table: every mistake named, 1,000 right answers, none rejected."""
    lines = (Path(__file__).parent / "oracle.md").read_text().splitlines()
    rows = [x.strip("| ").split(" | ") for x in lines if x.startswith("| ")]
    named = [x for x in rows if len(x) >= 4 and x[2].isdigit() and not x[1].isdigit()]
    assert all(x[2] == x[3] for x in named)
    every = (*OPERATORS, *LEVELS, *SPECTRA, *DENSITIES, *SMOOTHED, *OUTSIDE)
    assert len(named) == len(every)
    (whole,) = (x for x in rows if x[0] == "all")
    passed, untold, rejected = (int(x) for x in whole[1:4])
    assert passed + untold >= 1000
    assert rejected == 0


def test_which_number_how_much_and_how_far_are_said():
    """The sentences carry what the mistake was made with."""
    said = {
        "damping": "0.01 times the identity",
        "damping in part": "identity of linear1's weight, linear1's bias alone",
        "damping by parameter": "0.03, 0.03, 0.01, 0.01 times the identity",
        "class weights": "2, 6, 1, 4 by class",
        "label smoothing": "e = 0.1",
        "uneven last batch": "3 batches, the last of 4 samples, the others of 5",
        "samples missing": "2 of N = 14 samples",
        "frozen parameter": "linear1's weight are 0",
        "missing parameter": "linear1's weight are missing",
        "frozen layer": "columns of linear1 are 0",
        "ghost": "is counted twice",
        "missed": f"number {at(case('mlp', 0)) + 1} is missed",
        "not converged": "radii",
        "shift": "every value is off by 0.05",
        "weights of sum P": "P = 44",
    }
    seen = case("mlp", 0)
    for row in (*OPERATORS, *SPECTRA, *DENSITIES):
        words = said.pop(row.told, None)
        if words and "mlp" in row.kinds:
            with pytest.raises(AssertionError) as error:
                answer(row, seen)
            assert words in str(error.value)
    assert not said
