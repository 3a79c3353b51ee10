"""Random batches into the exporters: a snapshot that is right, or a sentence.

Right is: `refspec.load` reads it back, and its probabilities are the model's. A
sentence is an error of ours, and nothing is left on the disk. All else fails. `make
fuzz` tries as many as its seconds allow, a share of them for each framework; the
ordinary tests a few hundred. What is tried, and how it ends, is printed.
"""

import collections
import os
import shutil
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import refspec
from refspec import rounding
from refspec.classes import log_softmax

COUNT = int(os.environ.get("REFSPEC_FUZZ", "0"))
SECONDS = float(os.environ.get("REFSPEC_FUZZ_SECONDS", "600"))
SEED = int(os.environ.get("REFSPEC_FUZZ_SEED", "0"))
ROUND = 20  # examples after which the clock is looked at
TRIED = {"torch": 200, "jax": 40, "sklearn": 200, "onnx": 200}  # JAX compiles each
if COUNT:
    TRIED = dict.fromkeys(TRIED, COUNT // 20)
PACKAGE = Path(refspec.__file__).parent
A, B, C = 3, 4, 3
U = 2.0**-24  # the models are of float32, but those of scikit-learn

rng = np.random.default_rng(0)
V, W, BIAS = rng.normal(size=(A, B)), rng.normal(size=(B, C)), rng.normal(size=C)
V, W, BIAS = V.astype("f4"), W.astype("f4"), BIAS.astype("f4")


def probabilities(X):
    """The model's, by NumPy in float64, and a bound on what float32 makes of them.

    A sum of k products is off by gamma_k of the sum of their sizes; tanh has slopes up
    to 1, lies in [-1, 1] and is granted 64 roundings; an error d in every logit changes
    p by e^{2d} - 1 of it.
    """
    V64, W64 = V.astype(float), W.astype(float)
    terms = X[:, :, None] * V64  # infinite ones saturate, as they do in the models
    h = np.tanh(np.sum(terms, axis=1))
    off = rounding.gamma(A + 4, U) * np.sum(np.abs(terms), axis=1)
    off = np.minimum(off, 2) + 64 * U
    z = h @ W64 + BIAS
    d = off @ np.abs(W64) + rounding.gamma(B + 4, U) * (
        (np.abs(h) + off) @ np.abs(W64) + np.abs(BIAS)
    )
    return np.exp(log_softmax(z)), np.expm1(2 * np.max(d, axis=1, keepdims=True))


# --- one model a framework ------------------------------------------------------------


def exporter_of_torch():
    torch = pytest.importorskip("torch")
    from refspec.exporters.torch import export

    nn = torch.nn
    model = nn.Sequential(nn.Linear(A, B, bias=False), nn.Tanh(), nn.Linear(B, C))
    with torch.no_grad():
        for own, x in zip(model.parameters(), (V.T, W.T, BIAS), strict=True):
            own.copy_(torch.tensor(x))
    return lambda loader, path: export(model, loader, path)


def exporter_of_jax():
    jnp = pytest.importorskip("jax").numpy
    from refspec.exporters.jax import export

    tree = {"v": jnp.asarray(V), "w": jnp.asarray(W), "bias": jnp.asarray(BIAS)}

    def function(t, x):
        return jnp.tanh(x @ t["v"]) @ t["w"] + t["bias"]

    return lambda loader, path: export(function, tree, loader, path)


def exporter_of_sklearn():
    pytest.importorskip("sklearn")
    from sklearn.neural_network import MLPClassifier

    from refspec.exporters.sklearn import export

    X, y = np.eye(6, A), [0, 1, 2] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it does not converge in a step
        model = MLPClassifier((B,), activation="tanh", max_iter=1).fit(X, y)
    model.coefs_ = [x.astype(float) for x in (V, W)]
    model.intercepts_ = [np.zeros(B), BIAS.astype(float)]
    return lambda loader, path: export(model, loader, path)


def exporter_of_onnx():
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from refspec.exporters.onnx import export

    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    arrays = {"v": V, "w": W, "bias": BIAS}
    nodes = [
        make.make_node("MatMul", ["x", "v"], ["u"]),
        make.make_node("Tanh", ["u"], ["h"]),
        make.make_node("Gemm", ["h", "w", "bias"], ["z"], name="last"),
        make.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    graph = make.make_graph(
        nodes,
        "g",
        [make.make_tensor_value_info("x", kind, ["N", A])],
        [make.make_tensor_value_info("y", kind, ["N", C])],
        [onnx.numpy_helper.from_array(x, name) for name, x in arrays.items()],
    )
    opset = [make.make_opsetid("", 17)]
    model = make.make_model(graph, opset_imports=opset, ir_version=8)
    return lambda loader, path: export(model, loader, path)


EXPORTERS = {
    "torch": exporter_of_torch,
    "jax": exporter_of_jax,
    "sklearn": exporter_of_sklearn,
    "onnx": exporter_of_onnx,
}

# --- batches --------------------------------------------------------------------------

SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-310, 3e38, 1e300, np.inf, -np.inf, np.nan]
DTYPES = ["f4", "f4", "f8", "f2", "i4", "i8", "u1", "?", ">f4"]
WILD = [*DTYPES, "g", "c8", "O", "U", "S"]
SHAPES = [(A,), (A,), (A,), (A,), (), (A + 1,), (0,), (2, A), (A, 1)]
NOTHING = [None, 7, "x", {}, {"x": 1}, [], [[]], (), b"", {1}, object(), 1j]


@st.composite
def inputs(draw, n, wild):
    """Inputs of n samples, well-formed unless they are `wild`."""
    if wild and draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(NOTHING))
    shape = (n, *(draw(st.sampled_from(SHAPES)) if wild else (A,)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = random.normal(size=shape) * 10.0 ** draw(st.integers(-3, 2))
    if X.size and draw(st.booleans()):
        special = st.sampled_from(SPECIAL if wild else SPECIAL[:6])
        for x in draw(st.lists(special, max_size=4)):
            X.flat[random.integers(X.size)] = x
    dtype = draw(st.sampled_from(WILD if wild else DTYPES))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X = X.astype(dtype)
    how = draw(st.sampled_from(["plain"] * 4 + ["list", "back", "strided", "frozen"]))
    if how == "list":
        return X.tolist()
    if how == "frozen":
        X.flags.writeable = False
    return {"back": X[::-1], "strided": X.repeat(2, 0)[::2]}.get(how, X)


@st.composite
def labels(draw, n, wild):
    """Labels of n samples: as they should be, or of another kind, shape or range."""
    y = np.arange(n) % C
    y = y[draw(st.permutations(range(n)))] if n else y
    if not wild:
        return y.astype(draw(st.sampled_from(["i8", "i4", "u1", ">i2"])))
    good = st.just(y)
    others = [y - 1, y + 1, y / 1, y + 0.5, y[:-1], y[:, None], np.eye(C)[y], y * 0]
    others += [y.astype("U"), y.astype("O"), y.tolist(), y > 0, y + 2**40, y * np.nan]
    return draw(good | st.sampled_from(others) | st.sampled_from(NOTHING))


@st.composite
def loaders(draw):
    """A list of batches, or what is none."""
    if draw(st.integers(0, 39)) == 0:
        return draw(st.sampled_from(NOTHING))
    made = []
    for _ in range(draw(st.integers(0, 3) if draw(st.booleans()) else st.just(1))):
        wild = draw(st.integers(0, 3)) == 0
        n = draw(st.integers(0, 7)) if wild else draw(st.integers(C, 7))
        batch = draw(inputs(n, wild)), draw(labels(n, wild))
        if wild and draw(st.integers(0, 9)) == 0:
            others = [batch[:1], (*batch, 1), list(batch), batch[0]]
            batch = draw(st.sampled_from(others))
        made.append(batch)
    return draw(st.sampled_from([made, tuple(made)]))


# --- outcomes -------------------------------------------------------------------------


def expected(loader):
    """Inputs and labels of all batches in one, as a model takes them, in float64."""
    X = [np.asarray(x).astype(np.float64) for x, _ in loader]
    y = [np.asarray(y) for _, y in loader]
    return np.concatenate(X), np.concatenate(y).astype(int)


def expect_refusal(error, folder):
    """Assert that an error is a sentence of ours that left nothing."""
    where = traceback.extract_tb(error.__traceback__)[-1].filename
    assert PACKAGE in Path(where).parents, f"raised in {where}"
    assert "got" in str(error), f"does not say what arrived: {error}"
    assert len(str(error)) < 2000, "a sentence is short"
    assert not list(folder.iterdir()), "something is left"


def attempt(export, loader, path):
    """Export, and return how it ended; raise where that is no end of ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            export(loader, path)
    except (ValueError, TypeError) as error:
        expect_refusal(error, path.parent)
        return type(error).__name__
    found = refspec.load(path)
    X, y = expected(loader)
    order = np.argsort(y, kind="stable")
    p, relative = probabilities(X[order])
    assert np.array_equal(found.labels, y[order])
    off = np.abs(found.probabilities - p)
    assert np.all(off <= relative * p + np.finfo("f4").tiny), "other probabilities"
    return "right"


@pytest.mark.parametrize("name", EXPORTERS)
def test_batches(name, tmp_path):
    export = EXPORTERS[name]()
    outcomes, start = collections.Counter(), time.monotonic()
    folder = tmp_path / "out"
    folder.mkdir()

    def run(loader, ending):
        path = folder / f"run{ending}"
        try:
            outcomes[attempt(export, loader, path)] += 1
        finally:
            for x in folder.iterdir():
                shutil.rmtree(x) if x.is_dir() else x.unlink()

    left, k = TRIED[name], SEED
    print(f"\n{name}: seeds from {SEED}")
    while left > 0 and time.monotonic() - start < SECONDS / len(EXPORTERS):
        how = settings(
            max_examples=min(left, ROUND),
            deadline=None,
            database=None,
            derandomize=False,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        endings = st.sampled_from([".npz"] * 9 + [".zarr"])
        seed(k)(how(given(loaders(), endings)(run)))()
        left, k = left - ROUND, k + 1
    seconds = time.monotonic() - start
    print(f"{name}: {outcomes.total()} in {seconds:.0f} s: {dict(outcomes)}")
    assert outcomes["right"], "nothing was exported"
