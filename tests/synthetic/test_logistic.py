"""Theorem 8.1 and its consequences."""

import math
from fractions import Fraction as F

import array_api_strict
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from refspec import rounding, synthetic
from refspec.synthetic import geometry, groups, logistic

U = 2.0**-53


def moments(C, D, s):
    out = np.stack([np.eye(D) for _ in range(C)])
    out[np.arange(C), np.arange(C), np.arange(C)] += s
    return out


@pytest.mark.parametrize(("C", "D"), [(2, 2), (3, 3), (3, 5), (5, 6)])
@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.5])
def test_the_world_is_lemma_8_1(C, D, alpha):
    """Expected Fisher of the drawn world = (s/C) blkdiag(U^c) + I (x) U."""
    rng = np.random.default_rng(0)
    world = logistic.canonical(C, D, 3, signal=4.0, alpha=alpha, rng=rng)
    p = geometry.confusion(C, alpha)
    H = [np.diag(x) - np.outer(x, x) for x in p]
    lemma = np.kron(sum(H) / C, np.eye(D))
    for c in range(C):
        lemma += 4.0 / C * np.kron(H[c], np.diag((np.arange(D) == c) * 1.0))
    size = float(np.linalg.norm(lemma))
    bound = rounding.gamma(40 * 3 * C * C, U) * 4 * (size + C)
    other = logistic.mixture_fisher(np.full(C, 1 / C), moments(C, D, 4.0), p)
    for found in (synthetic.expected_fisher(world), other):
        assert np.linalg.norm(found - lemma) <= bound
    # mutant: the mean of the inputs, not their second moment
    flat = logistic.mixture_fisher(np.full(C, 1 / C), moments(C, D, 4.0 / C), p)
    assert not np.linalg.norm(flat - lemma) <= bound
    # the other order of the Kronecker product
    if C > 2:
        turned = lemma.reshape(C, D, C, D).transpose(1, 0, 3, 2).reshape(C * D, -1)
        assert not np.linalg.norm(turned - lemma) <= bound


@pytest.mark.parametrize(("C", "D"), [(2, 2), (3, 4), (6, 6)])
def test_outlier_eigenvectors(C, D):
    s, alpha = 4.0, 0.2
    G = logistic.mixture_fisher(
        np.full(C, 1 / C), moments(C, D, s), geometry.confusion(C, alpha)
    )
    V = logistic.outlier_eigenvectors(C, D)
    value = groups.canonical_groups(C, D, signal=s, alpha=alpha)[0].value
    bound = rounding.gamma(20 * C * D, U) * C * (np.linalg.norm(G) + value)
    assert np.linalg.norm(G @ V - value * V) <= bound
    assert np.linalg.norm(V.T @ V - np.eye(C)) <= rounding.gamma(20 * C, U) * C
    if C > 2:  # paired with the feature mean of another class
        swapped = np.roll(V.reshape(C, D, C), 1, axis=1).reshape(C * D, C)
        assert not np.linalg.norm(G @ swapped - value * swapped) <= bound


def exact_ratio(C, s, alpha):
    return 1 + s * (1 - alpha) / (2 - alpha * F(C, C - 1))


@given(
    st.integers(2, 9),
    st.fractions(F(1, 100), 50, max_denominator=100),
    st.fractions(F(1, 100), 1, max_denominator=100),
    st.fractions(F(1, 100), 1, max_denominator=100),
)
def test_ratio_falls_with_misclassification(C, s, x, y):
    """Monotone in alpha and s: exact sign of the difference, no tolerance."""
    top = F(C - 1, C)
    low, high = sorted((x * top, y * top))
    change = exact_ratio(C, s, high) - exact_ratio(C, s, low)
    assert change == 0 if C == 2 or low == high else change < 0
    assert exact_ratio(C, s + 1, low) > exact_ratio(C, s, low)
    # closed form of the change: s (kappa - 2)(high - low) / both denominators
    kappa = F(C, C - 1)
    claim = s * (kappa - 2) * (high - low) / (2 - low * kappa) / (2 - high * kappa)
    assert change == claim
    assert exact_ratio(C, s, top) == 1 + s / C  # merged with the bump at chance
    mutant = s * (kappa - 1) * (high - low) / (2 - low * kappa) / (2 - high * kappa)
    assert low == high or change != mutant


@given(st.integers(2, 9), st.floats(0.1, 50), st.floats(0.01, 1))
def test_ratios_are_those_of_the_groups(C, s, share):
    alpha = share * (C - 1) / C
    outlier, bump, bulk, _ = groups.canonical_groups(C, C + 1, signal=s, alpha=alpha)
    exact = exact_ratio(C, F(s), F(alpha))
    spent = rounding.gamma(32, U) * 2  # 2 - alpha kappa >= 1: no cancellation
    for value in (logistic.outlier_ratio(C, s, alpha), outlier.value / bulk.value):
        assert abs(value - float(exact)) <= spent * float(exact)
    found = logistic.bump_ratio(C, s, alpha)
    assert abs(found - bump.value / bulk.value) <= spent * found
    assert logistic.bump_ratio(C, s, alpha / 2) <= found * (1 + spent)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 2.5, 6.0, 30.0])
def test_bayes_error_of_two_classes(t):
    """C = 2: P(t + z1 < z2) = Phi(-t / sqrt 2)."""
    found = logistic.bayes_error(2, t)
    exact = scipy.special.ndtr(-t / math.sqrt(2))
    slack = rounding.gamma(t * t + 32, U) * exact
    assert abs(found.value - exact) <= found.radius + slack
    wrong = scipy.special.ndtr(-t)
    assert t in (0.0, 30.0) or not abs(found.value - wrong) <= found.radius + slack


@pytest.mark.parametrize("C", [2, 3, 10, 400])
def test_bayes_error_at_chance_and_monotone(C):
    found = logistic.bayes_error(C, 0.0)
    assert abs(found.value - (C - 1) / C) <= found.radius
    previous = found
    for t in (0.25, 0.5, 1.0, 2.0, 4.0):
        now = logistic.bayes_error(C, t)
        assert now.value + now.radius < previous.value - previous.radius
        previous = now


def test_bayes_error_by_hoeffding():
    C, t, N = 5, 1.5, 40000
    rng = np.random.default_rng(1)
    x = rng.standard_normal((N, C))
    x[:, 0] += t
    wrong = np.mean(np.argmax(x, axis=1) != 0)
    bound = math.sqrt(math.log(2 / rounding.FAILURE) / (2 * N))
    found = logistic.bayes_error(C, t)
    assert abs(wrong - found.value) <= bound + found.radius
    other = logistic.bayes_error(C + 1, t)
    assert not abs(wrong - other.value) <= bound + other.radius


def test_sampled_fisher_approaches_lemma_8_1():
    """Within a class the Fisher is U^c (x) Z'Z/n: Davidson-Szarek bounds Z."""
    C, D, n, s, alpha = 4, 6, 2000, 4.0, 0.3
    rng = np.random.default_rng(2)
    world = logistic.canonical(C, D, n, signal=s, alpha=alpha, rng=rng)
    x = world.snapshot.layers[0].features[:, 0].reshape(C, n, D)
    p = geometry.confusion(C, alpha)
    G = logistic.mixture_fisher(np.full(C, 1 / C), x.swapaxes(1, 2) @ x / n, p)
    exact = synthetic.expected_fisher(world)
    t = math.sqrt(2 * math.log(8 * C / rounding.FAILURE))
    off = (math.sqrt(D) + t) / math.sqrt(n)
    # |X'X/n - (I + mm')| <= (2 off + off^2) + 2 |m| |mean z|, |mean z| <= off
    noise = 2 * off + off**2 + 2 * math.sqrt(s) * off
    bound = np.linalg.norm(logistic.softmax_hessian(p[0]), 2) * noise
    assert np.linalg.norm(G - exact, 2) <= bound
    assert not np.linalg.norm(2 * G - exact, 2) <= bound


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_canonical_in_a_namespace(dtype):
    world = logistic.canonical(
        3,
        4,
        2,
        signal=1.0,
        alpha=0.5,
        rng=np.random.default_rng(3),
        dtype=dtype,
        xp=array_api_strict,
    )
    assert isinstance(world.snapshot.probabilities, type(array_api_strict.zeros(1)))
    assert world.snapshot.provenance["model"] == "canonical"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda rng: logistic.canonical(3, 2, 1, signal=1, alpha=0.1, rng=rng),
            "D = 2",
        ),
        (
            lambda rng: logistic.canonical(3, 3, 0, signal=1, alpha=0.1, rng=rng),
            "got 0",
        ),
        (lambda _: logistic.outlier_ratio(3, 1.0, 0.9), "got 0.9"),
        (lambda _: logistic.bump_ratio(1, 1.0, 0.5), "got 1"),
        (lambda _: logistic.bayes_error(3, -1.0), "got -1"),
        (lambda _: logistic.outlier_eigenvectors(3, 2), "D = 2"),
        (
            lambda _: logistic.mixture_fisher(
                np.ones(2) / 2, np.ones((3, 1, 1)), np.eye(2)
            ),
            r"got \(3, 1, 1\)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))
