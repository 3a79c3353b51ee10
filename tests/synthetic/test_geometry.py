"""Means have the Gram matrix asked for; probabilities are probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import rounding
from refspec.synthetic import geometry

U = 2.0**-53
Y = np.asarray([0, 0, 0, 1, 1])


def gram_bound(gram, d):
    """Backward error of eigh plus the rounding of M M' (and of the turn)."""
    size = float(np.trace(gram))
    solver = 4 * rounding.eigensolver_radius(len(gram), size, U)
    return solver + rounding.gamma(4 * d * d + 4 * len(gram), U) * size


@given(st.integers(2, 7), st.integers(0, 4), st.booleans(), st.integers(0, 2**32))
def test_means_have_the_gram_matrix(C, extra, turned, seed):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((C, C))
    norms = rng.uniform(0.5, 2, C)
    half = 0.5 * np.eye(C) + 0.5
    for gram, d in (
        (root @ root.T, C + extra),
        (geometry.simplex_gram(C, 3.0), C - 1 + extra),
        (geometry.orthogonal_gram(norms), C + extra),
        (geometry.overlap_gram(half, norms), C + extra),
    ):
        m = geometry.means_of_gram(gram, d, rng=rng if turned else None)
        assert m.shape == (C, d)
        assert np.max(np.abs(m @ m.T - gram)) <= gram_bound(gram, d)
        assert not np.max(np.abs(1.01 * m @ m.T - gram)) <= gram_bound(gram, d)


def test_simplex_is_centred():
    m = geometry.means_of_gram(geometry.simplex_gram(5, 2.0), 4)
    bound = 5 * np.sqrt(gram_bound(geometry.simplex_gram(5, 2.0), 4))
    assert np.linalg.norm(m.sum(axis=0)) <= bound


def test_confusion():
    p = geometry.confusion(4, 0.3)
    assert np.max(np.abs(p.sum(axis=1) - 1)) <= rounding.gamma(8, U)
    assert np.array_equal(p, p.T)
    assert np.all(geometry.confusion(4) == 0.25)


def test_softmax_outputs_prefer_the_true_class():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 50)
    p = geometry.softmax_outputs(labels, 3, confidence=20.0, spread=0.5, rng=rng)
    assert geometry.per_sample(p, labels) is not None
    assert np.array_equal(np.argmax(p, axis=1), labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geometry.means_of_gram(-np.eye(2), 2), "eigenvalue of -1"),
        (lambda: geometry.means_of_gram(np.eye(3), 2), "got rank 3"),
        (lambda: geometry.means_of_gram(np.triu(np.ones((2, 2))), 2), "symmetric"),
        (lambda: geometry.means_of_gram(np.ones((2, 3)), 2), r"got \(2, 3\)"),
        (lambda: geometry.simplex_gram(1), "got 1"),
        (
            lambda: geometry.overlap_gram(2 * np.eye(2), np.ones(2)),
            r"diagonal of \[2.0, 2.0\]",
        ),
        (lambda: geometry.overlap_gram(np.eye(3), np.ones(2)), r"got \(3, 3\)"),
        # three unit vectors cannot all be at cosine -1 from each other
        (
            lambda: geometry.means_of_gram(
                geometry.overlap_gram(2 * np.eye(3) - 1, np.ones(3)), 3
            ),
            "eigenvalue of -1",
        ),
        (lambda: geometry.confusion(3, 1.5), "got 1.5"),
        (lambda: geometry.per_sample(np.ones((2, 2)), Y), "off by 1"),
        (lambda: geometry.per_sample(np.ones((3, 2)), Y), r"got \(3, 2\)"),
        (
            lambda: geometry.per_sample(np.asarray([[1.5, -0.5], [0.5, 0.5]]), Y),
            "value of -0.5",
        ),
        (
            lambda: geometry.softmax_outputs(
                np.zeros(1, int), 2, confidence=0, spread=-1, rng=None
            ),
            "got -1",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
