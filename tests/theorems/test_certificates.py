"""theory/certificates.md: every check on generated numbers, and a mutant it rejects."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import rounding
from refspec.coordinates import certified
from refspec.rounding import errorfree
from refspec.theorems import Study
from refspec.theorems import certificates as page
from support.arithmetic import Single
from support.snapshots import sampled, samples
from support.verdicts import holds, rejected

NUMBERS = samples(layers=1)


@pytest.mark.theorem("Q0")
@given(samples(largest=8))
def test_Q0(study):
    holds("Q0", study)


@pytest.mark.theorem("Q1")
@given(samples(largest=8))
def test_Q1(study):
    holds("Q1", study)


@pytest.mark.theorem("Q2")
@given(samples(largest=8))
def test_Q2(study):
    holds("Q2", study)


@pytest.mark.theorem("Q3")
@given(samples(largest=8))
def test_Q3(study):
    holds("Q3", study)


@pytest.mark.theorem("Q4")
@given(NUMBERS)
def test_Q4(study):
    holds("Q4", study)


@pytest.mark.theorem("Q5")
@given(NUMBERS)
def test_Q5(study):
    holds("Q5", study)


@pytest.mark.theorem("Q6")
@given(samples(largest=8))
def test_Q6(study):
    holds("Q6", study)


@pytest.mark.theorem("Q7")
@given(samples(layers=3))
def test_Q7(study):
    holds("Q7", study)


@pytest.mark.theorem("Q8")
@given(samples(layers=3))
def test_Q8(study):
    holds("Q8", study)


@pytest.mark.theorem("Q9")
@given(NUMBERS)
def test_Q9(study):
    holds("Q9", study)


@pytest.mark.theorem("Q10")
@given(NUMBERS)
def test_Q10(study):
    holds("Q10", study)


@given(st.lists(st.integers(-3, 3), min_size=6, max_size=6), st.integers(-4, 4))
def test_inertia_counts_eigenvalues(entries, x):
    """A congruence of a diagonal matrix; zero diagonals and zero pivots included."""
    D, M = np.diag([2, -1, 0]), np.tril(np.ones((3, 3)))
    M[np.tril_indices(3)] = [1, entries[0], 1, entries[1], entries[2], 1]
    A = M @ (D + 0.0) @ M.T
    assert page.inertia(A, Fraction(0)) == (1, 1)
    B = np.asarray([[0.0, *entries[3:5]], [entries[3], 0, entries[5]], [0, 0, 0]])
    B = np.tril(B.T) + np.tril(B.T, -1).T
    values = np.linalg.eigvalsh(B)
    below, above = page.inertia(B, Fraction(x) + Fraction(1, 3))
    bound = rounding.eigensolver_radius(3, 20.0, 2.0**-53)
    assert below >= np.sum(values < x + 1 / 3 - bound)
    assert above >= np.sum(values > x + 1 / 3 + bound)
    assert below + above <= 3


def in_single(monkeypatch):
    """A machine with a shorter mantissa than the bound's."""
    true = page._small

    def wrong(study):
        return ((name, x.view(Single)) for name, x in true(study))

    monkeypatch.setattr(page, "_small", wrong)


def fast_sum(monkeypatch):
    """The three-operation sum, right for |a| >= |b| only."""

    def wrong(a, b):
        s = a + b
        return s, b - (s - a)

    monkeypatch.setattr(errorfree, "two_sum", wrong)


def too_many_bits(monkeypatch):
    """Six more bits in the high parts."""
    true = errorfree.split_rows

    def wrong(x, bits=None):
        return true(x, true(x, bits).bits + 6)

    monkeypatch.setattr(errorfree, "split_rows", wrong)


def lost_tail(monkeypatch):
    """The head alone, with the bound of both."""
    true = errorfree.row_product

    def wrong(a, b):
        made = true(a, b)
        return dataclasses.replace(made, tail=0 * made.tail)

    monkeypatch.setattr(errorfree, "row_product", wrong)


def smaller_radii(factor):
    def mutate(monkeypatch):
        true = page.certificates.certified_eigenvalues

        def wrong(A, **options):
            found = true(A, **options)
            return dataclasses.replace(found, radii=found.radii / factor)

        monkeypatch.setattr(page.certificates, "certified_eigenvalues", wrong)

    return mutate


def shifted_values(monkeypatch):
    """Values off by three radii."""
    true = page.certificates.certified_eigenvalues

    def wrong(A, **options):
        found = true(A, **options)
        return dataclasses.replace(found, values=found.values + 3 * found.radii)

    monkeypatch.setattr(page.certificates, "certified_eigenvalues", wrong)


def thousandth(name):
    """A bound a thousand times too small."""

    def mutate(monkeypatch):
        true = getattr(page.forming, name)

        def wrong(*args):
            found = true(*args)
            if isinstance(found, tuple):
                return found[0], found[1] / 1000
            if dataclasses.is_dataclass(found):
                return dataclasses.replace(found, error=found.error / 1000)
            return found / 1000

        monkeypatch.setattr(page.forming, name, wrong)

    return mutate


def without_residual(monkeypatch):
    """Coordinates that take rows for what the factorisation made of them."""
    monkeypatch.setattr(certified, "_REST", 2.0**-51)
    monkeypatch.setattr(page.forming, "residual_norm", lambda *_: 0.0)


MUTANTS = {
    "Q0": in_single,
    "Q1": fast_sum,
    "Q2": too_many_bits,
    "Q3": lost_tail,
    "Q4": smaller_radii(2.0**20),
    "Q5": smaller_radii(2.0**10),
    "Q6": shifted_values,
    "Q7": thousandth("split_error"),
    "Q8": thousandth("gram"),
    "Q9": thousandth("residual_norm"),
    "Q10": without_residual,
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_rejected(name, monkeypatch):
    world = {"counts": (6, 4, 8), "sides": ((40, 30),)}
    holds(name, Study(sampled(1, **world)))
    MUTANTS[name](monkeypatch)
    rejected(name, Study(sampled(1, **world)))
