"""The embedded exports are the networks they say they are."""

import os
from importlib import resources

import numpy as np
import pytest

from refspec import curvature, datasets, rounding, spectra
from refspec.export import containers
from refspec.models.recompute import recompute

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


#: Framework, class sizes, (T, a, b) of each layer, operations, narrowest dtype.
EXPECTED = {
    "digits_decay": (
        "torch",
        [99, 102, 100, 104, 98, 100, 101, 99, 98, 99],
        [(1, 65, 12), (1, 13, 10)],
        "linear tanh linear",
        "float64",
    ),
    "digits_jax": (
        "jax",
        range(11, 30, 2),
        [(1, 65, 24), (1, 25, 16), (1, 17, 10)],
        "linear tanh linear tanh linear",
        "float32",
    ),
    "digits_mlp": (
        "torch",
        range(31, 50, 2),
        [(1, 65, 32), (1, 33, 16), (1, 17, 10)],
        "linear relu linear relu linear",
        "float32",
    ),
    "iris_decay": (
        "torch",
        [50, 50, 50],
        [(1, 5, 8), (1, 9, 6), (1, 7, 3)],
        "linear tanh linear tanh linear",
        "float64",
    ),
    "magika": (
        "onnxruntime",
        [12, 8, 18, 10, 16, 9, 8, 9, 10, 25, 20, 11],
        [(1, 513, 12)],
        "linear",
        "float32",
    ),
    "mnist_cnn": (
        "torch",
        range(2, 12),
        [(36, 10, 6), (16, 55, 12), (1, 193, 10)],
        "avg_pool2d conv2d relu conv2d relu flatten linear",
        "float32",
    ),
    "wine_sklearn": (
        "sklearn",
        [59, 71, 48],
        [(1, 14, 10), (1, 11, 8), (1, 9, 3)],
        "linear sigmoid linear sigmoid linear",
        "float64",
    ),
}


@pytest.fixture(scope="module", params=sorted(EXPECTED))
def network(request):
    return request.param, getattr(datasets, request.param)()


def test_names_are_all_of_them():
    files = [x.name for x in resources.files("refspec.data").iterdir()]
    assert datasets.names() == tuple(sorted(EXPECTED))
    assert sorted(x for x in files if x.endswith(".npz")) == [
        f"{name}.npz" for name in sorted(EXPECTED)
    ]
    sizes = [os.path.getsize(FILE.parent / f"{x}.npz") for x in EXPECTED]
    assert max(sizes) < 2**20
    assert sum(sizes) < 3 * 2**20


def test_each_is_what_its_docstring_says(network):
    name, snapshot = network
    framework, counts, shapes, operations, dtype = EXPECTED[name]
    provenance = snapshot.provenance
    assert provenance["framework"] == framework
    assert framework in provenance["versions"]
    assert provenance["dtype"] == dtype
    assert provenance["digest"] == containers.digest(FILE.parent / f"{name}.npz")
    assert len(provenance["class_names"]) == len(counts)
    assert np.array_equal(np.diff(snapshot.offsets), counts)
    for layer, (T, a, b) in zip(snapshot.layers, shapes, strict=True):
        assert layer.features.shape == (len(snapshot.labels), T, a)
        assert layer.errors.shape == (len(snapshot.labels), len(counts), T, b)
    assert " ".join(x["op"] for x in snapshot.model.operations) == operations
    if name != "digits_mlp":  # made before exports said so
        assert (
            "sklearn" in provenance["data"]
            or "BSD-3" in provenance["data"]
            or (name == "magika" and provenance["licence"].startswith("Apache-2.0"))
        )


def test_each_network_gives_its_features_and_errors(network):
    _, snapshot = network
    assert all(x.ratio <= 1 for x in recompute(snapshot))


def test_each_network_fits(network):
    """All samples; but not the published one, nor one held back by weight decay."""
    name, snapshot = network
    missed = int(np.sum(snapshot.probabilities.argmax(axis=1) != snapshot.labels))
    assert missed == {"magika": 3, "iris_decay": 2}.get(name, 0)


@pytest.mark.slow
def test_each_spectrum_is_that_of_the_rows_written_out(network):
    """The Fisher from every gradient, one by one, and LAPACK."""
    name, snapshot = network
    chosen = [x.name for x in snapshot.layers][-2:]
    N, C = snapshot.probabilities.shape
    rows = [
        np.einsum("nctb,nta->ncba", x.errors, x.features).reshape(N * C, -1)
        for x in (snapshot.layer(y) for y in chosen)
    ]
    root = np.sqrt(snapshot.probabilities * snapshot.sample_weights[:, None])
    X = root.reshape(-1, 1) * np.concatenate(rows, axis=1)
    A = X @ X.T if X.shape[0] < X.shape[1] else X.T @ X
    values = np.linalg.eigvalsh(A)[::-1]
    found = spectra.spectrum(curvature.fisher(snapshot, chosen))
    T = max(x.features.shape[1] for x in snapshot.layers)
    # sum_t |e||f| may exceed |sum_t e f|: the trace is that of absolute rows
    size = sum(
        np.einsum("nctb,nta->ncba", abs(x.errors), abs(x.features)).reshape(N * C, -1)
        ** 2
        @ np.ones(x.parameters)
        for x in (snapshot.layer(y) for y in chosen)
    )
    trace = float(np.sum(root.reshape(-1) ** 2 * size))
    u = 2.0**-53
    own = rounding.second_moment_radius(2 * max(X.shape) + 4 * T + 16, trace, u)
    own += rounding.eigensolver_radius(len(A) + 32, float(values[0]), u)
    n = max(len(values), len(found.values))
    mine, theirs = np.zeros(n), np.zeros(n)
    mine[: len(found.values)], theirs[: len(values)] = found.values, values
    assert np.max(np.abs(mine - theirs)) <= found.radius + own
    assert found.radius + own < found.values[0] / 1e6  # not vacuous
    equal = sum(float(np.sum(x * x)) for x in rows) / N  # the mutant: no probabilities
    assert equal - float(found.values.sum()) > n * (found.radius + own), name
