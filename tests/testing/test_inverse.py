"""assert_inverse passes solves with A + damping and names what else was solved."""

import numpy as np
import pytest
import scipy.linalg

from refspec.testing import assert_inverse
from support.mistakes import N, case
from support.operators import apart, names_of

KINDS = ("mlp", "cnn", "moment")
D = 0.05


def solve(A, damping=D):
    factor = scipy.linalg.cho_factor(A + damping * np.eye(len(A)))
    return lambda v: scipy.linalg.cho_solve(factor, v)


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
    own = seen.fisher(labels=seen.hot())
    wrong = {
        "other damping": solve(A, 3 * D),
        "factor N of the matrix": solve(N * A),
        "factor 1/N of the inverse": lambda v: solve(A)(v) / N,
        "sign of the inverse": lambda v: -solve(A)(v),
        "empirical Fisher": solve(own),
        "no inverse": lambda v: A @ v + D * v,
    }
    if kind != "moment":
        bias = np.array([x == "bias" for _, x in seen.parts])
        wrong["bias apart"] = solve(apart(A, bias))
    for name, found in wrong.items():
        with pytest.raises(AssertionError) as error:
            assert_inverse(found, seen.expected, damping=D)
        assert names_of(error) == [name]
    with pytest.raises(AssertionError, match="none of the usual"):
        assert_inverse(solve(0.87 * A), seen.expected, damping=D)
