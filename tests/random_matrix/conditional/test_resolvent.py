"""Inverses of H - z: by halves where that is as good, with pivots where it is not."""

import numpy as np
import pytest

from refspec import rounding
from refspec.random_matrix import definite
from refspec.random_matrix.conditional import resolvent


def drawn(height):
    """A complex symmetric matrix, its imaginary part -height."""
    X = np.random.default_rng(0).standard_normal((48, 48))
    return X + X.T - 1j * height * np.eye(len(X))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(definite, "LEAF", 3)
    monkeypatch.setattr(resolvent, "_WHOLE", 12)


def test_halves_are_taken_far_from_the_axis():
    head = drawn(4.0)
    Q, pivots = resolvent.inverted(head)
    expected, blocks = definite.by_halves(head)
    assert np.array_equal(Q, expected)
    assert len(pivots) == len(blocks) > 1


def test_halves_that_lose_digits_are_not_used():
    """What a backward stable inverse leaves, though z is small beside the head."""
    head = drawn(2.0**-30)
    n, u, one = len(head), 2.0**-53, np.eye(len(head))
    Q, pivots = resolvent.inverted(head)
    bound = rounding.gamma(8 * n, u) * np.linalg.norm(np.abs(Q) @ np.abs(head))
    lost = definite.by_halves(head)[0]
    assert np.linalg.norm(lost @ head - one) > bound  # a block between is near singular
    assert np.linalg.norm(Q @ head - one) <= bound
    assert np.array_equal(Q, Q.T)
    assert len(pivots) == 1
