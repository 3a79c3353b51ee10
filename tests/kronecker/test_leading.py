"""The largest eigenvalues from products: residual, probes, and what they must catch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refspec import backend, rounding
from refspec.kronecker import KroneckerSum
from refspec.kronecker import leading as at

U = 2.0**-53
P = 250


def basis(seed):
    """An orthogonal matrix Q, a product of three reflections, and how to apply it."""
    W = np.random.default_rng(seed).standard_normal((3, P))
    W /= np.linalg.norm(W, axis=1, keepdims=True)

    def turn(V, order=slice(None)):
        for w in W[order]:
            V = V - 2 * np.multiply.outer(w, w @ V)
        return V

    return turn


def turned(values, seed):
    """A = Q diag(values) Q': its products, and the dense matrix."""
    turn = basis(seed)

    def product(V):
        inner = turn(V, slice(None, None, -1))
        return turn(values * inner if V.ndim == 1 else values[:, None] * inner)

    return product, lambda: product(np.eye(P))


@settings(max_examples=12)
@pytest.mark.theorem("K15")
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 12),
    decay=st.sampled_from([0.5, 0.9, 0.99]),
    double=st.booleans(),
)
def test_leading_of_a_large_operator(seed, k, decay, double):
    """K15: every value is within the radius, repeated ones and a null space too."""
    values = np.where(np.arange(P) < 200, decay ** np.arange(P), 0)
    if double:
        values = np.repeat(values[: P // 2], 2)
    product, matrix = turned(values, seed)
    found = at.leading(at.OnHost(product, np.zeros(P), matrix), k, dense=9)
    assert found.kind == "measured residual and probes"
    form = rounding.gamma(12 * P, U) * values[0]  # the reflections' own rounding
    assert np.max(np.abs(found.values - values[:k])) <= found.radius + form
    assert found.radius + form < values[0] / 2  # says something
    shifted = np.abs(found.values + 2 * (found.radius + form) - values[:k])
    assert np.max(shifted) > found.radius + form  # the mutant
    off = np.linalg.norm(found.vectors.T @ found.vectors - np.eye(k))
    assert off <= rounding.gamma(8 * P, U) * k


def test_small_operators_are_solved_whole():
    A = np.diag([3.0, 1.0, 2.0])
    whole = at.OnHost(lambda V: A @ V, A[0], lambda: A)
    found = at.leading(whole, 3)
    assert found.values.tolist() == [3.0, 2.0, 1.0]
    assert found.kind == "a posteriori"
    with pytest.raises(ValueError, match="got 4"):
        at.leading(whole, 4)


def test_leading_of_a_sum_of_kronecker_products(asarray):
    """K3, K15: the Gram side, the dense side and the products agree."""
    rng = np.random.default_rng(0)
    roots = [(rng.standard_normal((1, 9)), rng.standard_normal((2, 11)))] * 2
    lefts, rights = (
        np.stack([pair[side].T @ pair[side] for pair in roots]) for side in (0, 1)
    )
    c = asarray([0.3, 0.7])
    made = tuple((asarray(L), asarray(R)) for L, R in roots)
    operator = KroneckerSum(c, asarray(lefts), asarray(rights), made)
    values, radius = operator.certified_eigenvalues()
    found = at.leading(at.OnHost.of(operator), 2, dense=9)
    form = rounding.gamma(4 * operator.dimension, U) * operator.trace()
    away = np.abs(found.values - backend.to_host(values)[:2])
    assert np.max(away) <= radius + found.radius + form


def test_an_operator_on_the_host_keeps_its_precision():
    eye = np.eye(3, dtype=np.float32)[None]
    seen = at.OnHost.of(KroneckerSum(np.ones(1, dtype=np.float32), eye, eye))
    assert seen.like.dtype == np.float32
    assert seen.product(np.ones((9, 2))).dtype == np.float32
