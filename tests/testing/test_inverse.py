"""assert_inverse passes solves with A + damping and names what else was solved."""

import numpy as np
import pytest
import scipy.linalg

from refspec.testing import assert_inverse
from support.mistakes import N, case
from support.operators import apart, blocks, names_of

KINDS = ("mlp", "cnn", "moment")
D = 0.05


def solve(A, damping=D):
    factor = scipy.linalg.cho_factor(A + damping * np.eye(len(A)))
    return lambda v: scipy.linalg.cho_solve(factor, v)


def nearest(B):
    """A singular matrix's pseudo-inverse: what is added to all logits is not seen."""
    inverse = np.linalg.pinv(B, hermitian=True)
    return lambda v: inverse @ v


def stopped(B, steps=5):
    """Conjugate gradients, too few."""

    def product(v):
        x, r, p = 0 * v, v, v
        for _ in range(steps):
            Bp, before = B @ p, r @ r
            x, r = (y + before / (p @ Bp) * z for y, z in ((x, p), (r, -Bp)))
            p = r + (r @ r) / before * p
        return x

    return product


def aside(right):
    """What leaves a residual orthogonal to v, and to nothing else."""

    def product(v):
        e = np.random.default_rng(0).standard_normal(len(v))
        return right(v + (e - v * (v @ e) / (v @ v)) / 8)

    return product


def series(A, terms=20):
    """A Neumann series that is too short."""

    def product(v):
        s, x = 1 / np.trace(A), 0 * v
        for _ in range(terms):
            x = x + s * (v - A @ x - D * x)
        return x

    return product


@pytest.mark.parametrize("kind", KINDS)
def test_right_solves_pass(kind):
    seen = case(kind, 0)
    A = seen.fisher()
    off, bound = assert_inverse(solve(A), seen.expected, damping=D)
    assert off <= bound < 2.0**-20
    dense = np.linalg.inv(A + D * np.eye(len(A)))
    assert_inverse(dense, seen.expected, damping=D)
    assert_inverse(dense.astype(np.float32), seen.expected, damping=D)
    if kind != "moment":
        assert_inverse(solve(seen.kfac()), seen.expected, damping=D, of="kfac")


def test_an_iterative_solver_says_what_it_left():
    seen, small = case("mlp", 0), 2.0**-12
    right, rng = solve(seen.fisher()), np.random.default_rng(0)
    A = seen.fisher() + D * np.eye(len(seen.parts))

    def stopped(v):
        e = rng.standard_normal(len(v))
        left = small * np.linalg.norm(v) * e / np.linalg.norm(e)
        return right(v) - np.linalg.solve(A, left)

    with pytest.raises(AssertionError, match="none of the usual"):
        assert_inverse(stopped, seen.expected, damping=D)
    assert_inverse(stopped, seen.expected, damping=D, residual=small)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_mistakes_are_named(kind, seed):
    seen = case(kind, seed)
    A = seen.fisher()
    own, undamped = seen.fisher(labels=seen.hot()), np.diag(1.0 * seen.biases())
    wrong = {
        "other damping": solve(A, 3 * D),
        "weight decay": nearest(A + D * (np.eye(len(A)) - undamped)),
        "no damping": nearest(A),
        "damping by parameter": solve(A + D * undamped),
        "not converged": stopped(A + D * np.eye(len(A))),
        "factor 2 of the matrix, other damping": solve(2 * A, 3 * D),
        "empirical Fisher, other damping": solve(own, 3 * D),
        "factor N of the matrix": solve(N * A),
        "factor 1/N of the inverse": lambda v: solve(A)(v) / N,
        "sign of the inverse": lambda v: -solve(A)(v),
        "empirical Fisher": solve(own),
        "no inverse": lambda v: A @ v + D * v,
    }
    if kind != "moment":
        wrong["bias apart"] = solve(apart(A, seen.biases()))
    for name, found in wrong.items():
        with pytest.raises(AssertionError) as error:
            assert_inverse(found, seen.expected, damping=D)
        assert names_of(error) == [name]
    others = [solve(0.87 * A), solve(A @ A), solve(0.87 * A, 2 * D), series(A)]
    others.append(solve(A + D * np.diag(np.arange(len(A)) % 3)))
    others.append(aside(solve(A)))
    for found in others:
        with pytest.raises(AssertionError, match="none of the usual"):
            assert_inverse(found, seen.expected, damping=D)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_damping_of_the_factors_is_named(kind):
    """Each by the root, or by the roots' ratio of traces (Martens and Grosse 2015)."""
    seen, root = case(kind, 0), np.sqrt(D)
    pairs = [seen.factors(x) for x in seen.layers]
    for balanced in (False, True):
        parts = []
        for L, R in pairs:
            pi = np.trace(R) / len(R) / (np.trace(L) / len(L)) if balanced else 1.0
            left = L + root / np.sqrt(pi) * np.eye(len(L))
            parts.append(np.kron(left, R + root * np.sqrt(pi) * np.eye(len(R))))
        found = np.linalg.inv(blocks(parts))
        with pytest.raises(AssertionError) as error:
            assert_inverse(found, seen.expected, damping=D, of="kfac")
        assert names_of(error) == ["damping of the factors"]
        assert ("eigenvalues, pi" in str(error.value)) == balanced


def test_which_damping_and_how_much_are_said():
    seen = case("mlp", 0)
    A, weights = seen.fisher(), np.diag(1.0 - seen.biases())
    said = {
        "0.00357143, not 0.05: it is divided by N = 14": solve(A, D / N),
        "0.1 of the weights, not of the biases, where 0.05 of all": nearest(
            A + 2 * D * weights
        ),
    }
    for words, found in said.items():
        with pytest.raises(AssertionError) as error:
            assert_inverse(found, seen.expected, damping=D)
        assert f"the damping is {words}" in str(error.value)
