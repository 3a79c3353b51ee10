"""theory/certificates.md: every check on generated numbers."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import rounding
from refspec.theorems import certificates as page
from support.snapshots import samples
from support.verdicts import holds

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


@pytest.mark.theorem("Q11")
@given(samples(layers=3))
def test_Q11(study):
    holds("Q11", study)


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
