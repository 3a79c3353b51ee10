"""assert_trace passes Hutchinson's and Hutch++'s estimates and names wrong ones."""

import numpy as np
import pytest

from refspec.testing import assert_trace
from support.mistakes import C, N, case
from support.operators import names_of

KINDS = ("mlp", "cnn", "moment")


def sketch(seen, k=6, n=8, seed=0):
    rng, A = np.random.default_rng(seed), seen.fisher()
    Q = np.linalg.qr(A @ rng.standard_normal((len(A), k)))[0]
    Z = rng.standard_normal((len(A), n))
    rest = Z - Q @ (Q.T @ Z)
    parts = np.trace(Q.T @ A @ Q), np.trace(rest.T @ A @ rest) / n
    return A, Q, Z, *parts


@pytest.mark.parametrize("kind", KINDS)
def test_right_estimates_pass(kind):
    seen = case(kind, 0)
    A, Q, Z, exact, rest = sketch(seen)
    off, bound = assert_trace(exact + rest, seen.expected, basis=Q, vectors=Z)
    assert off <= bound < np.trace(A) * 2.0**-20
    plain = np.trace(Z.T @ A @ Z) / Z.shape[1]
    assert_trace(plain, seen.expected, vectors=Z)
    for draws in ("gaussian", "rademacher"):
        z = np.random.default_rng(1).standard_normal((len(A), 4000))
        z = np.sign(z) if draws == "rademacher" else z
        mean = float(np.mean(np.sum(z * (A @ z), axis=0)))
        assert_trace(mean, seen.expected, draws=draws, probes=4000)
    with pytest.raises(ValueError, match="cannot tell"):
        assert_trace(np.trace(A), seen.expected, probes=1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_mistakes_are_named(kind, seed):
    seen = case(kind, seed)
    A, Q, Z, exact, rest = sketch(seen, seed=seed)
    own = seen.fisher(labels=seen.hot())
    left = Z - Q @ (Q.T @ Z)
    wrong = {
        "factor N": N * (exact + rest),
        "factor 1/C": (exact + rest) / C,
        "sketch alone": exact,
        "probes not projected": exact + np.trace(Z.T @ A @ Z) / 8,
        "sum over probes": exact + 8 * rest,
        "all probes divided by": exact + rest * 8 / 14,
        "probes normalised": exact + rest / np.mean(np.sum(Z * Z, axis=0)),
        "empirical Fisher": np.trace(Q.T @ own @ Q) + np.trace(left.T @ own @ left) / 8,
    }
    for name, value in wrong.items():
        with pytest.raises(AssertionError) as error:
            assert_trace(value, seen.expected, basis=Q, vectors=Z)
        assert names_of(error) == [name]
    with pytest.raises(AssertionError, match="none of the usual"):
        assert_trace(0.913 * (exact + rest), seen.expected, basis=Q, vectors=Z)


def test_a_basis_that_is_none_is_refused():
    seen = case("mlp", 0)
    _, Q, Z, exact, rest = sketch(seen)
    with pytest.raises(ValueError, match="basis must have orthonormal columns"):
        assert_trace(exact + rest, seen.expected, basis=2 * Q, vectors=Z)
