"""Logistic regression: stationarity, its snapshot, and its refusals."""

import array_api_strict
import numpy as np
import pytest

from refspec import backend, curvature, models, rounding
from refspec.models import network
from refspec.synthetic import logistic, regression

U = 2.0**-53
DECAY = 0.05


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    world = logistic.canonical(4, 6, 30, signal=4.0, alpha=0.3, rng=rng)
    layer = world.snapshot.layers[0]
    x, labels = layer.features[:, 0], world.snapshot.labels
    return x, labels, regression.fit_logistic(x, labels, decay=DECAY)


def test_fit_is_the_mean_of_observed_errors(data):
    """Stationary: W = -(1/decay) Ave delta_{i,c,c} x', within what the fit states."""
    x, labels, W = data

    def gradient(weight):
        seen = regression.observe_logistic(x, labels, weight)
        own = seen.layers[0].errors[np.arange(len(labels)), labels, 0, :]
        return own.T @ x / len(labels) + DECAY * weight

    # the computed gradients differ by rounding: softmax in 2C + 16, sums of N
    slack = rounding.gamma(2 * 4 + 16 + 2 * len(labels), U) * 2 * np.mean(np.abs(x))
    slack *= x.shape[1]
    goal = 2.0**-26 * np.max(np.abs(gradient(np.zeros_like(W)))) + slack
    assert np.max(np.abs(gradient(W))) <= goal
    assert not np.max(np.abs(gradient(1.001 * W))) <= goal


def test_snapshot_agrees_with_the_network(data):
    """An independent program, back-propagation, sees the same errors."""
    x, labels, W = data
    seen = regression.observe_logistic(x, labels, W)
    other = models.snapshot(network.from_section(seen.model), x, labels)
    assert [a.name for a in seen.layers] == [b.name for b in other.layers]
    a, b = seen.layers[0], other.layers[0]
    assert np.array_equal(a.features, b.features)
    # logits err by gamma_D |x||W|, and the softmax is 1-Lipschitz in relative terms
    logits = np.max(np.abs(x) @ np.abs(W).T)
    bound = 4 * (rounding.gamma(x.shape[1], U) * logits + rounding.gamma(32, U))
    assert np.max(np.abs(a.errors - b.errors)) <= bound
    assert not np.max(np.abs(a.errors + b.errors)) <= bound


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_observe_in_a_namespace(data, dtype):
    x, labels, W = data
    order = np.random.default_rng(1).permutation(len(labels))
    seen = regression.observe_logistic(
        x[order], labels[order], W, dtype=dtype, xp=array_api_strict
    )
    plain = regression.observe_logistic(x[order], labels[order], W)
    u = rounding.unit_roundoff(seen.probabilities)
    errors = backend.to_host(seen.layers[0].errors).astype(np.float64)
    bound = rounding.gamma(2, u) * np.abs(plain.layers[0].errors)
    assert np.all(np.abs(errors - plain.layers[0].errors) <= bound)
    assert np.array_equal(seen.labels, labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: regression.fit_logistic(np.ones((2, 1)), np.zeros(3, int), decay=1),
            r"\(3,\)",
        ),
        (
            lambda: regression.fit_logistic(np.ones((2, 1)), np.zeros(2, int), decay=0),
            "got 0;",
        ),
        (
            lambda: regression.fit_logistic(
                np.asarray([[1.0], [-3.0]]), np.arange(2), decay=1e-9, max_steps=1
            ),
            "after 1 steps",
        ),
        (
            lambda: regression.observe_logistic(
                np.ones((2, 3)), np.arange(2), np.ones((2, 2))
            ),
            r"D = 3, got \(2, 2\)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_why_a_fit_is_not_monotone():
    """W14: inputs and how unsure a fit is of them go together, less so with noise."""
    C, D, n, t = 5, 10, 400, 4.0
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(C), n)
    x = rng.standard_normal((C * n, D))
    x[np.arange(C * n), y] += t
    v = (np.eye(C) - 1 / C) / np.sqrt(1 - 1 / C)
    whole, apart = [], []
    for q in (0.0, 0.05, 0.2, 0.4):
        again, noisy = np.random.default_rng(1), y.copy()
        some = again.permutation(len(y))[: round(q * len(y))]
        noisy[some] = (noisy[some] + again.integers(1, C, len(some))) % C
        W = regression.fit_logistic(x, noisy, decay=1e-3)
        logits = x @ W.T
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        unsure = p @ (v.T**2) - (p @ v.T) ** 2  # u_i of every c, (N, C)
        seen = regression.observe_logistic(x, noisy, W)
        F = curvature.fisher(seen).matrix()
        values = np.linalg.eigvalsh(F)[::-1]
        bulk = values[C * (C - 1) : D * (C - 1)].mean()
        first = second = 0.0
        for k in range(C):
            u, square = unsure[y == k], x[y == k, :C] ** 2
            first += np.sum(u.mean(axis=0) * square.mean(axis=0))
            second += np.sum(np.mean(u * square, axis=0))
            second -= np.sum(u.mean(axis=0) * square.mean(axis=0))
        outliers = [np.kron(v[c], np.eye(D)[c]) for c in range(C)]
        forms = sum(w @ F @ w for w in outliers)
        size = np.abs(F).sum()
        # the identity: both terms are the form of W13's vectors
        away = abs(forms - (first + second) / C)
        assert away <= rounding.gamma(64 * len(x) * D, 2.0**-53) * size
        assert second < 0
        whole.append(values[:C].mean() / bulk)
        apart.append(first / C / C / bulk)
    assert all(np.diff(apart) < 0)
    assert not all(np.diff(whole) < 0)
