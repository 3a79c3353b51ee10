import dataclasses

import numpy as np
import pytest

import refspec
from refspec import models
from refspec.models.recompute import _difference, recompute, same_probabilities

ACTIVATIONS = ("tanh", "relu", "gelu", "softplus")


def snapshot(activation, seed=0):
    rng = np.random.default_rng(seed)
    network = models.mlp([4, 6, 5, 3], activation, rng=rng)
    X = rng.standard_normal((9, 4))
    return models.snapshot(network, X, np.repeat([0, 1, 2], [4, 3, 2]))


def cnn():
    rng = np.random.default_rng(1)
    network = models.cnn((1, 6, 6), [2], 3, rng=rng)
    X = rng.standard_normal((6, 1, 6, 6))
    return models.snapshot(network, X, [0, 0, 0, 1, 1, 2])


@pytest.mark.parametrize("make", [*ACTIVATIONS, "cnn"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_network_reproduces_itself(make, dtype, tmp_path):
    s = cnn() if make == "cnn" else snapshot(make)
    s = refspec.load(refspec.save(s, tmp_path / "x.npz", dtype=dtype))
    found = recompute(s)
    assert len(found) == 1 + 2 * len(s.layers)
    assert all(x.ratio <= 1 for x in found), found


@pytest.mark.parametrize("make", [*ACTIVATIONS, "cnn"])
def test_a_swapped_error_or_a_changed_weight_is_found(make):
    s = cnn() if make == "cnn" else snapshot(make)
    last = s.layers[-1]
    swapped = refspec.Layer(last.name, last.features, last.errors[:, [1, 0, 2]])
    wrong = dataclasses.replace(s, layers=(*s.layers[:-1], swapped))
    assert [x.name for x in recompute(wrong) if x.ratio > 1] == [
        f"errors of {last.name}"
    ]
    key = next(iter(s.model.parameters))
    parameters = dict(s.model.parameters)
    parameters[key] = parameters[key] * (1 + 1e-6)
    model = refspec.ModelSection(s.model.inputs, s.model.operations, parameters)
    assert any(x.ratio > 1 for x in recompute(dataclasses.replace(s, model=model)))


def summed_from_the_left(C, low):
    """Softmax regression by a float32 program: logits 0 and, of all others, `low`."""
    f, N = np.float32, 2
    W, b, X = np.zeros((C, 1), f), np.full(C, low, f), np.ones((N, 1), f)
    b[0] = 0
    exponentials = np.exp(np.tile(b, (N, 1)))
    total = np.zeros(N, f)
    for k in range(C):
        total = total + exponentials[:, k]
    p = exponentials / total[:, None]
    errors = p[:, None, :] - np.eye(C, dtype=f)
    step = {"op": "linear", "name": "x", "weight": "w", "bias": "b"}
    model = refspec.ModelSection(X, [step], {"w": W, "b": b})
    layer = refspec.Layer("x", np.ones((N, 1, 2), f), errors[:, :, None, :])
    return refspec.snapshot([layer], [0, 1], probabilities=p, model=model)


@pytest.mark.parametrize("low", [-5.0, -17.0, -17.4, -20.0])
def test_what_a_sum_of_many_small_terms_loses_is_no_disagreement(low):
    """Terms below the rounding of 1 are lost, each of them at most whole."""
    s = summed_from_the_left(400, low)
    assert all(x.ratio <= 1 for x in recompute(s))
    errors = s.layers[0].errors.copy()
    errors[0, 0, 0, 0] -= 2 * np.maximum(2.0**-24, s.probabilities[0, 1]) * 400
    wrong = dataclasses.replace(s.layers[0], errors=errors)
    found = {
        x.name: x.ratio for x in recompute(dataclasses.replace(s, layers=(wrong,)))
    }
    assert found["errors of x"] > 1


class Worst:
    """Arithmetic that errs as much as float32's may: always up, or down, or either."""

    def __init__(self, sign, rng):
        self.sign, self.rng = sign, rng

    def __call__(self, x):
        sign = self.sign or self.rng.choice([-1.0, 1.0], size=np.shape(x))
        return x * (1 + sign * 2.0**-24)

    def add(self, x, y):
        """Rounding to nearest loses no more than the smaller of both."""
        total, least = x + y, np.minimum(np.abs(x), np.abs(y))
        return total + np.clip(self(total) - total, -least, least)

    def times(self, x, W):
        """Sum the products of x (..., a) and W (b, a) from the left."""
        total = np.zeros((*x.shape[:-1], len(W)))
        for k in range(x.shape[-1]):
            total = self.add(total, self(x[..., k, None] * W[:, k]))
        return total


def badly_rounded(rng, C, sign):
    """Two layers, their sum with what entered both, and logits: (N, C', C) errors."""
    r, N, a = Worst(sign, rng), 5, 4
    shapes = [(a, a), (a, a), (a, a), (C, a), (N, a)]
    *W, X = (np.float64(rng.standard_normal(x).astype(np.float32)) for x in shapes)
    u = []
    u.append(np.maximum(r.times(X, W[0]), 0))
    u.append(r.times(u[0], W[1]))
    z = r.add(r.add(u[0], u[1]), r.times(u[1], W[2]))
    u.append(np.maximum(z, 0))
    f = r.times(u[2], W[3])
    e = r(np.exp(r.add(f, -f.max(axis=1, keepdims=True))))
    total = np.zeros(N)
    for k in range(C):
        total = r.add(total, e[:, k])
    p = r(e / total[:, None])
    errors = [r.add(p[:, None, :], -np.eye(C))]
    errors.append(r.times(errors[0], W[3].T) * (z > 0)[:, None, :])
    errors.append(r.add(r.times(errors[1], W[2].T), errors[1]))
    back = r.add(r.times(errors[2], W[1].T), errors[1])
    errors.append(back * (u[0] > 0)[:, None, :])
    steps = [
        {"op": "linear", "name": f"l{k}", "weight": f"l{k}", "bias": None}
        for k in range(4)
    ]
    steps = [
        steps[0],
        {"op": "relu"},
        *steps[1:3],
        {"op": "relu", "of": [2, 3, 4]},
        steps[3],
    ]
    parameters = {f"l{k}": x for k, x in enumerate(W)}
    model = refspec.ModelSection(X, steps, parameters)
    layers = [
        refspec.Layer(f"l{k}", h[:, None, :], d[:, :, None, :])
        for k, (h, d) in enumerate(zip([X, *u], errors[::-1], strict=True))
    ]
    given = {"probabilities": p / p.sum(axis=1, keepdims=True)}
    y = np.sort(rng.integers(0, C, N))
    return refspec.snapshot(
        layers, y, model=model, provenance={"dtype": "float32"}, **given
    )


@pytest.mark.parametrize("sign", [-1.0, 1.0, 0.0])
@pytest.mark.parametrize("C", [3, 30])
def test_a_program_that_rounds_as_badly_as_it_may(sign, C):
    """It agrees; no bound is sixteen times what such a program does."""
    found = {}
    for seed in range(8):
        for x in recompute(badly_rounded(np.random.default_rng(seed), C, sign)):
            found[x.name] = max(x.ratio, found.get(x.name, 0.0))
    assert max(found.values()) <= 1
    del found["features of l0"]  # those are the inputs
    if sign:
        assert min(found.values()) >= 0.0625, found


def test_without_a_model_section():
    s = dataclasses.replace(snapshot("tanh"), model=None)
    with pytest.raises(ValueError, match="got none"):
        recompute(s)


def test_the_worst_number_decides():
    zero, bound = np.zeros((2, 2)), np.full((2, 2), 0.25)
    for wrong in (1.0, -1.0):
        stored = zero.copy()
        stored[1, 0] = wrong
        found = _difference("errors", stored, zero, bound)
        assert (found.residual, found.ratio) == (1.0, 4.0)


def test_of_inputs_that_large_nothing_is_known_and_nothing_refused():
    """Logits are off by more than an exponential holds: any probabilities are near."""
    network = models.mlp([2, 3, 2], "tanh", rng=np.random.default_rng(0))
    X, p = np.array([[3e38, -0.1], [0.5, 1.0]]), np.array([[0.5, 0.5], [0.5, 0.5]])
    assert same_probabilities(network, X[:1], p[:1])
    assert not same_probabilities(network, X[1:], p[1:])  # the effect
    assert not same_probabilities(network, X, p)
