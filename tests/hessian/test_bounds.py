"""Errors of the factors, roundings on a path, the norm of a matrix of errors."""

import numpy as np
import pytest

from refspec import models, rounding
from refspec.hessian import assembly, bounds
from refspec.models import operations, running
from refspec.models.activations import EVALUATION


@pytest.mark.parametrize("rank", [1, 3])
def test_the_norm_of_errors_is_bounded_and_not_by_much(rank):
    """B = FF' >= 0 with entries of many sizes."""
    network = models.mlp([3, 4, 2], rng=np.random.default_rng(0))
    P = models.flatten(network).size
    F = np.random.default_rng(1).random((P, rank)) * 2.0 ** -np.arange(P)[:, None]
    B = F @ F.T
    found = bounds.norm_of(lambda v: B @ v, network, np.ones((1, 3)))
    true = float(np.linalg.norm(B, 2))
    assert true <= found * (1 + rounding.gamma(4 * P, 2.0**-53))
    assert found <= 2 * true


def matrices_of_errors(P):
    """Symmetric, >= 0, with their largest eigenvalues."""
    corner, star = np.zeros((P, P)), 5 * np.eye(P)
    corner[:2, :2] = [[2, 1], [1, 0]]  # the steps come to it from below
    star[0, 1:] = star[1:, 0] = 1  # one row has a sum far above
    return [(corner, 1 + 2**0.5), (star, 5 + (P - 1) ** 0.5)]


def test_no_step_of_the_power_method_is_taken_for_a_bound():
    network = models.mlp([3, 4, 2], rng=np.random.default_rng(0))
    P = models.flatten(network).size
    for B, true in matrices_of_errors(P):
        found = bounds.norm_of(lambda v, B=B: B @ v, network, np.ones((1, 3)))
        assert true <= found * (1 + rounding.gamma(4 * P, 2.0**-53))
        assert found <= 1.5 * true


def test_roundings_are_counted_from_the_maps_themselves():
    """A sum of as many products as a row of a step's map has entries; back, a column.

    Twice, with 4 more; sums of branches, the logits, and the sum over N T.
    """
    chain = [
        {"op": "conv2d", "name": "c1", "weight": "c1", "bias": "b1"}
        | {"stride": [1, 2], "padding": [1, 0]},
        {"op": "avg_pool2d", "kernel": [2, 2], "stride": [1, 1]},
        {"op": "conv2d", "name": "c2", "weight": "c2", "bias": None}
        | {"stride": [1, 1], "padding": [0, 0]},
        {"op": "tanh"},
        {"op": "identity", "of": [3, 4]},
        {"op": "flatten"},
        {"op": "linear", "name": "fc", "weight": "W", "bias": "b"},
    ]
    rng = np.random.default_rng(0)
    shapes = {"c1": (2, 1, 2, 2), "b1": (2,), "c2": (1, 2, 2, 1), "b": (2,)}
    parameters = {k: rng.normal(size=v) for k, v in (shapes | {"W": (2, 9)}).items()}
    network = models.Network(chain, parameters)
    X, labels = rng.normal(size=(2, 1, 4, 8)), np.asarray([0, 1])
    steps, curvature, _ = assembly.at_logits(network, X, labels, "hessian", None)
    count = 4 * EVALUATION + 2 * 2 + 4 * (2 - 1) + 2 * max(5 * 4, 3 * 3)
    for step in steps:
        n = int(np.prod(step.shape))
        unit = np.broadcast_to(
            np.eye(n).reshape(1, n, *step.shape), (2, n, *step.shape)
        )
        one = operations.push(step, unit, np)[0].reshape(n, -1) != 0
        count += 2 * (one.sum(axis=0).max() + one.sum(axis=1).max() + 4)
    assert bounds.roundings(steps, curvature) == count


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_of_factors_add_to_their_sizes(dtype):
    rng = np.random.default_rng(0)
    network = models.mlp([3, 4, 2], "tanh", rng=rng)
    network = models.Network(
        network.operations, {k: x.astype(dtype) for k, x in network.parameters.items()}
    )
    X, labels = rng.normal(size=(5, 3)).astype(dtype), np.asarray([0, 1, 0, 1, 1])
    seeded, u = assembly.at_logits(network, X, labels, "hessian", None), 2.0**-20
    plain, run = bounds._absolute(seeded, np), running.forward(network, X, u, np)
    tau, lost, seeds = (np.full(x, u, dtype=dtype) for x in ((5,), (5, 2), (5, 2)))
    steps, curvature, errors = bounds._with_errors(
        plain, run, network, tau, lost, seeds, u, np
    )
    least = bounds._SCALE * u
    for small, large, (_, e) in zip(plain[0], steps, run.into, strict=True):
        if small.matrix is not None:
            grown = (large.features - small.features)[:, 0, : e.shape[1]]
            assert np.all(grown >= 0)
            assert np.all(grown[e > 0] > 0)
            assert np.all(large.features[:, 0, -1] == 1)  # of the bias
        else:
            assert np.all(large.slope > small.slope)
            assert np.all(large.bend > small.bend)
    assert curvature.dtype == errors.dtype == dtype
    assert np.all(curvature > plain[1])
    more = np.einsum("nkk->nk", curvature - plain[1])
    assert np.all(more >= least)
    assert np.all(errors - plain[2] >= least)


def test_errors_of_probabilities_are_in_every_product():
    """H7 of one layer: an entry of diag p - pp' is off by 3 tau, nothing else is."""
    rng = np.random.default_rng(0)
    network = models.softmax_regression(4, 3)
    theta = 8 * rng.normal(size=models.flatten(network).size)
    network = models.unflatten(network, theta)
    X, labels, u = rng.normal(size=(5, 4)), np.asarray([0, 1, 2, 0, 1]), 2.0**-53
    seeded = assembly.at_logits(network, X, labels, "hessian", None)
    least = float(np.finfo(np.float64).smallest_normal) / u
    run = running.forward(network, X, u, np, least=least)
    moved, own = running.probability_errors(run.logits, run.errors, u, np)
    g, tau = rounding.gamma(bounds.roundings(*seeded[:2]), u), np.min(moved + own)
    shapes, v = models.layer_shapes(network), np.ones(theta.size)
    low = assembly.multiplied(bounds._absolute(seeded, np), shapes, v[None, :], np)[0]
    found = bounds.product_errors(network, X, labels, subtracted=False)(v)
    assert np.all(found >= 2 * (g + 3 * tau) * low * (1 - rounding.gamma(512, u)))
    assert 3 * tau > g  # it is not the smaller part


def test_every_sample_adds_as_many_roundings_as_it_has_positions():
    network = models.mlp([3, 4, 2], rng=np.random.default_rng(0))
    counts = []
    for n in (2, 3):
        labels = np.zeros(n, dtype=int)
        seeded = assembly.at_logits(network, np.ones((n, 3)), labels, "hessian", None)
        counts.append(bounds.roundings(*seeded[:2]))
    assert counts[1] - counts[0] == 1


def test_a_maximum_that_two_entries_may_be_is_not_certain():
    """By as much as they are off; where one is larger, the bound is a number."""
    chain = [
        {"op": "conv2d", "name": "c1", "weight": "c1", "bias": None}
        | {"stride": [1, 1], "padding": [0, 0]},
        {"op": "max_pool2d", "kernel": [1, 2], "stride": [1, 2]},
        {"op": "flatten"},
        {"op": "linear", "name": "fc", "weight": "W", "bias": None},
    ]
    parameters = {"c1": np.full((1, 1, 1, 1), 0.75), "W": np.eye(2)}
    network = models.Network(chain, parameters)
    X = np.array([[[[1.0, 2.0, 4.0, 3.0]]]])
    assert np.isfinite(bounds.hessian_radius(network, X, [0]))
    X[0, 0, 0, 3] = 4.0
    assert bounds.hessian_radius(network, X, [0]) == np.inf
