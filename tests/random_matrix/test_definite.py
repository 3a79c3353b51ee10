"""Inverses and arguments of complex symmetric matrices with Im B < 0, by halves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import rounding
from refspec.random_matrix import definite


def drawn(seed, n, height=1.0):
    """A complex symmetric matrix, Im B <= -height."""
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((2, n, n))
    return X + X.T - 1j * (Y @ Y.T / n + height * np.eye(n))


def away(B, Q):
    """The defect of an inverse beside the rounding of an elimination, Im B <= -1."""
    n, u = len(B), 2.0**-53
    # every block inverse is at most 1 (Im B <= -1), every block pivot |B| + |B|^2
    size = np.linalg.norm(B) ** 2 + 1
    bound = rounding.gamma(16 * n, u) * size**2
    return np.linalg.norm(B @ Q - np.eye(n)), bound


@pytest.mark.parametrize("n", [1, 2, 5, 9, 40])
def test_halves_invert(monkeypatch, n):
    monkeypatch.setattr(definite, "LEAF", 3)
    B = drawn(n, n)
    Q, pivots = definite.by_halves(B)
    found, bound = away(B, Q)
    assert found <= bound
    assert max(len(x) for x in pivots) <= 3
    assert sum(len(x) for x in pivots) == n


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_argument_is_that_of_the_eigenvalues(seed, n):
    """Eigenvalues one by one, arguments in (-pi, 0), against blocks of two."""
    B, leaf = drawn(seed, n), definite.LEAF
    whole = float(np.sum(np.angle(np.linalg.eigvals(B))))
    definite.LEAF = 2
    try:
        pivots = definite.by_halves(B)[1]
    finally:
        definite.LEAF = leaf
    # arguments of eigenvalues with |Im| >= 1 move by less than the matrix does, times
    # the condition of the eigenvectors; a wrong branch is 2 pi away
    assert all(np.all(np.linalg.eigvalsh(x.imag) < 0) for x in pivots)
    assert round((definite.argument(pivots) - whole) / np.pi) == 0
    assert round((definite.argument([B]) - whole) / np.pi) == 0


def test_a_principal_argument_of_the_determinant_is_another():
    B = drawn(0, 12)
    assert round((np.angle(np.linalg.det(B)) - definite.argument([B])) / np.pi) != 0


def test_a_singular_matrix_has_no_inverse():
    assert np.all(np.isnan(definite.inverse(np.zeros((2, 2)))))


def test_nothing_has_no_argument():
    assert definite.argument([np.zeros((0, 0), dtype=complex)]) == 0
