"""The embedded export is the network it says it is."""

import os
from importlib import resources

import numpy as np
import pytest

from refspec import datasets, rounding
from refspec.export import containers

FILE = resources.files("refspec.data") / "digits_mlp.npz"


@pytest.fixture(scope="module")
def digits():
    return datasets.digits_mlp()


def test_it_is_small_and_of_unequal_classes(digits):
    assert os.path.getsize(FILE) < 2**20
    assert np.array_equal(np.diff(digits.offsets), np.arange(31, 50, 2))
    assert digits.provenance["framework"] == "torch"
    assert digits.provenance["class_names"] == list("0123456789")
    assert [x.name for x in digits.layers] == ["fc1", "fc2", "fc3"]
    assert digits.provenance["digest"] == containers.digest(FILE)


def test_every_sample_is_fitted(digits):
    assert np.array_equal(digits.probabilities.argmax(axis=1), digits.labels)


def test_its_model_gives_its_features_and_logits(digits):
    """Features and logits, recomputed in float64, agree within float32 rounding."""
    _, arrays = containers.read(FILE)
    order = np.argsort(arrays["labels"], kind="stable")
    u = rounding.unit_roundoff(np.zeros(1, "float32"))
    weights = digits.model.parameters
    x, bound = digits.model.inputs, np.zeros(digits.model.inputs.shape)
    for k, layer in enumerate(digits.layers, start=1):
        features = layer.features[:, 0, :]
        assert np.all(features[:, -1] == 1)
        assert np.all(np.abs(features[:, :-1] - x) <= bound)
        W, b = weights[f"fc{k}.weight"], weights[f"fc{k}.bias"]
        # fl(W x + b): gamma_{a+1} of the absolute products, beside the old error
        g = rounding.gamma(W.shape[1] + 2, u)
        size = (np.abs(x) + bound) @ np.abs(W).T + np.abs(b)
        bound = bound @ np.abs(W).T + g * size
        z = x @ W.T + b
        x = np.maximum(z, 0)
    assert np.all(np.abs(arrays["logits"][order] - z) <= bound)
    assert not np.all(np.abs(arrays["logits"][order] - z) <= bound / 1e6)


def test_its_last_errors_are_probabilities_less_the_label(digits):
    u = rounding.unit_roundoff(np.zeros(1, "float32"))
    p, C = digits.probabilities, digits.probabilities.shape[1]
    exact = np.repeat(p[:, None, :], C, axis=1)
    for c in range(C):  # minus the sum of the others: nothing cancels
        exact[:, c, c] = 0
        exact[:, c, c] = -exact[:, c].sum(axis=1)
    errors = digits.layers[-1].errors[:, :, 0, :]
    tiny = float(np.finfo("float32").tiny)
    assert np.all(np.abs(errors - exact) <= 2 * u * np.abs(exact) + tiny)
    cancelled = (p[:, None, :] - np.eye(C)).astype("float32")  # the mutant
    assert np.any(np.abs(cancelled - exact) > 2 * u * np.abs(exact) + tiny)
