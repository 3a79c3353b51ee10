"""Training in plain arrays: the loss falls, and a convex problem is solved."""

import array_api_strict
import numpy as np
import pytest

from refspec import models, rounding
from refspec.models import training

U = 2.0**-53


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_fit_lowers_the_decayed_loss(method):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(60, 2))
    labels = (X[:, 0] * X[:, 1] > 0).astype(int)
    start = models.mlp([2, 8, 2], "tanh", rng=rng)
    end = training.fit(start, X, labels, method=method, weight_decay=1e-4, steps=150)
    assert models.loss(end, X, labels) < models.loss(start, X, labels) / 2
    again = training.fit(
        start, X, labels, method="adam", batch=20, steps=5, rng=np.random.default_rng(0)
    )
    assert models.loss(again, X, labels) < np.inf
    assert not np.array_equal(models.flatten(again), models.flatten(start))


def test_fit_finds_the_minimum_of_a_convex_problem():
    """At a minimum W = -gradient / eta, to the size of what L-BFGS cannot improve."""
    rng = np.random.default_rng(6)
    X, labels, eta = rng.normal(size=(30, 3)), rng.integers(0, 3, 30), 0.1
    start = models.softmax_regression(3, 3)
    end = training.fit(start, X, labels, weight_decay=eta, steps=500)
    value, gradient = models.loss_and_gradient(end, X, labels)
    theta = models.flatten(end)
    # the objective is eta-strongly convex: |grad|^2 <= 2 L (value - minimum), and the
    # search stops where it cannot see a smaller value
    slope = np.linalg.norm(gradient + eta * theta)
    smooth = np.max(np.sum(X * X, axis=1)) + 1 + eta
    resolution = rounding.gamma(4000, U) * (value + eta * theta @ theta)
    assert slope <= np.sqrt(2 * smooth * resolution)
    assert np.linalg.norm(gradient) > np.sqrt(2 * smooth * resolution)  # without decay


def test_fit_in_another_namespace():
    X = array_api_strict.asarray([[-1.0], [0.5], [1.0]])
    start = models.softmax_regression(1, 2)
    strict = {k: array_api_strict.asarray(v) for k, v in start.parameters.items()}
    start = models.Network(start.operations, strict)
    for method in ("lbfgs", "adam"):
        end = training.fit(start, X, [0, 1, 1], method=method, steps=5)
        assert models.loss(end, X, [0, 1, 1]) < models.loss(start, X, [0, 1, 1])


def test_fit_refuses_what_it_does_not_know():
    network, X = models.softmax_regression(1, 2), np.ones((2, 1))
    for bad, message in (
        ({"method": "sgd"}, "got 'sgd'"),
        ({"weight_decay": -1.0}, "got -1"),
        ({"steps": 0}, "got 0"),
        ({"batch": 2}, "got batch 2 and method lbfgs"),
        ({"batch": 2, "method": "adam"}, "got batch 2 and method adam"),
    ):
        with pytest.raises(ValueError, match=message):
            training.fit(network, X, [0, 1], **bad)


def test_the_first_step_of_adam_has_the_learning_rate():
    """mean / root = g / |g|: every parameter moves by it, against its gradient."""
    network = models.mlp([3, 2], rng=np.random.default_rng(0))
    X, y = np.random.default_rng(1).standard_normal((6, 3)), [0, 1, 0, 1, 1, 1]
    _, gradient = models.loss_and_gradient(network, X, y)
    made = training.fit(network, X, y, method="adam", steps=1, learning_rate=0.25)
    moved = models.flatten(made) - models.flatten(network)
    least = 1e-8 / np.abs(gradient).min()  # Adam's own, beside the root
    slack = least + rounding.gamma(64, 2.0**-53) * (1 + 4 * np.abs(moved).max())
    assert np.abs(moved + 0.25 * np.sign(gradient)).max() <= slack
