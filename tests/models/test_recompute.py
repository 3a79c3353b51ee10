import dataclasses

import numpy as np
import pytest

import refspec
from refspec import models
from refspec.models.recompute import _difference, recompute

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
