"""The ONNX exporter against graphs made by hand, onnxruntime and a published network.

The last layer is recomputed from its features, W and b: `refspec.models.recompute` has
the bounds. The errors are those of the softmax, to the last digits.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from refspec import classes, export, rounding
from refspec.exporters.onnx import export as export_onnx
from refspec.models.recompute import recompute

LABELS = np.asarray([2, 0, 1, 0, 0, 2, 1, 0])
ORDER = np.argsort(LABELS, kind="stable")
N, C = len(LABELS), 3
rng = np.random.default_rng(0)
X = rng.normal(size=(N, 5)).astype("float32")
V = rng.normal(size=(5, 4)).astype("float32")
W = rng.normal(size=(4, C)).astype("float32")
B = rng.normal(size=C).astype("float32")


def graph(tail, outputs=("y",), kind=TensorProto.FLOAT, arrays=(), width=C):
    """x V, relu, then the nodes of `tail`, which read h."""
    head = [
        helper.make_node("MatMul", ["x", "V"], ["u"]),
        helper.make_node("Relu", ["u"], ["h"]),
    ]
    given = {"V": V, "W": W, "b": B, "Wt": W.T.copy()} | dict(arrays)
    double = kind == TensorProto.DOUBLE
    given = {k: x.astype("float64") if double else x for k, x in given.items()}
    made = helper.make_graph(
        head + tail,
        "network",
        [helper.make_tensor_value_info("x", kind, ["N", 5])],
        [helper.make_tensor_value_info(y, kind, ["N", width]) for y in outputs],
        [numpy_helper.from_array(x, k) for k, x in given.items()],
    )
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def node(kind, given, made, **how):
    return helper.make_node(kind, given, [made], name=f"{kind}-{made}", **how)


MATMUL = [node("MatMul", ["h", "W"], "m"), node("Add", ["m", "b"], "z")]
SOFTMAX = [node("Softmax", ["z"], "y", axis=1)]
GRAPHS = {
    "softmax": MATMUL + SOFTMAX,
    "log softmax": [*MATMUL, node("LogSoftmax", ["z"], "y", axis=1)],
    "logits": [MATMUL[0], node("Add", ["b", "m"], "y")],
    "gemm": [node("Gemm", ["h", "W", "b"], "z"), *SOFTMAX],
    "gemm, transposed": [node("Gemm", ["h", "Wt", "b"], "z", transB=1), *SOFTMAX],
    "gemm, scaled": [
        node("Gemm", ["h", "W", "b"], "z", alpha=0.5, beta=2.0),
        *SOFTMAX,
    ],
    "moved weights": [
        node("Transpose", ["Wt"], "Wtt", perm=[1, 0]),
        node("Identity", ["b"], "bb"),
        node("MatMul", ["h", "Wtt"], "m"),
        node("Add", ["m", "bb"], "z"),
        *SOFTMAX,
    ],
    "by hand": [
        *MATMUL,
        node("ReduceMax", ["z"], "top", axes=[1]),
        node("Sub", ["z", "top"], "d"),
        node("Exp", ["d"], "e"),
        helper.make_node("ReduceSum", ["e", "one"], ["s"]),
        node("Div", ["e", "s"], "y"),
    ],
    "no bias": [node("MatMul", ["h", "W"], "z"), *SOFTMAX],
}


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_the_last_layer_is_recomputed(name, kind):
    model = graph(GRAPHS[name], kind=kind)
    if name == "by hand":
        one = numpy_helper.from_array(np.asarray([1]), "one")
        model.graph.initializer.append(one)
    made = export_onnx(model, [(X[:3], LABELS[:3]), (X[3:], LABELS[3:])], None)
    dtype = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}[kind]
    assert made.provenance["dtype"] == dtype
    found = recompute(made)
    assert [x.name.split()[0] for x in found] == ["probabilities", "features", "errors"]
    assert all(x.ratio <= 1 for x in found)
    # what enters the layer, by hand: one product and a relu
    Y = X[ORDER].astype("float64")
    h = np.maximum(Y @ V, 0)
    bound = rounding.gamma(8, rounding.unit_roundoff(np.zeros(1, dtype))) * (
        np.abs(Y) @ np.abs(V)
    )
    assert np.all(np.abs(made.model.inputs - h) <= bound)
    a, b = made.layers[0].features.shape[2], made.model.operations[0]["bias"]
    assert a == (4 if name == "no bias" else 5)
    assert (b is None) == (name == "no bias")
    scale = 0.5 if name == "gemm, scaled" else 1
    assert np.array_equal(made.model.parameters["weight"], scale * W.T)
    if b is not None:
        assert np.array_equal(made.model.parameters["bias"], B / scale)


def test_errors_are_the_softmaxs_own():
    """A saturated network: an error is a sum of small ones, never 1 - p."""
    made = export_onnx(
        graph(GRAPHS["softmax"], arrays={"W": 30 * W}), [(X, LABELS)], None
    )
    z = classes.log_softmax(np.log(made.probabilities))
    p = np.exp(z)
    exact = np.repeat(p[:, None, :], C, axis=1)
    for c in range(C):
        exact[:, c, c] = 0
        exact[:, c, c] = -exact[:, c].sum(axis=1)
    errors = made.layers[0].errors[:, :, 0, :]
    u = 2.0**-24
    slack = rounding.gamma(64, u) * np.abs(exact) + np.finfo("float32").tiny
    assert np.all(np.abs(errors - exact) <= slack)
    cancelled = (p[:, None, :] - np.eye(C)).astype("float32")
    assert not np.all(np.abs(cancelled - exact) <= slack)


def test_a_sigmoid_becomes_two_logits():
    tail = [
        node("MatMul", ["h", "w"], "m"),
        node("Add", ["m", "one"], "z"),
        node("Sigmoid", ["z"], "y"),
    ]
    arrays = {"w": W[:, :1], "one": B[:1]}
    made = export_onnx(
        graph(tail, arrays=arrays, width=1),
        [(X, LABELS % 2)],
        None,
        class_names=["a", "b"],
    )
    assert made.probabilities.shape == (N, 2)
    assert all(x.ratio <= 1 for x in recompute(made))
    assert not np.any(made.model.parameters["weight"][0])
    assert np.array_equal(made.model.parameters["weight"][1], W[:, 0])
    order = np.argsort(LABELS % 2, kind="stable")
    session = onnxruntime.InferenceSession(
        graph(tail, arrays=arrays, width=1).SerializeToString()
    )
    (p,) = session.run(["y"], {"x": X[order]})
    z = np.max(np.abs(np.log(made.probabilities)))
    bound = rounding.gamma(64, 2.0**-24) * (1 + 2 * z) * p
    assert np.all(np.abs(made.probabilities[:, 1:] - p) <= bound)


def test_some_classes_only():
    """Given that the class is one of them: probabilities divided by their sum."""
    model = graph(GRAPHS["softmax"])
    two = LABELS > 0
    made = export_onnx(model, [(X[two], LABELS[two] % 2)], None, classes=[2, 1])
    whole = export_onnx(model, [(X, LABELS)], None)
    assert np.array_equal(made.model.parameters["bias"], B[[2, 1]])
    assert all(x.ratio <= 1 for x in recompute(made))
    p = whole.probabilities[4:][:, [2, 1]]
    p = p[np.argsort(whole.labels[4:] % 2, kind="stable")]
    p = p / p.sum(axis=1, keepdims=True)
    bound = rounding.gamma(64, 2.0**-53) * (1 + 2 * np.max(-np.log(p))) * p
    assert np.all(np.abs(made.probabilities - p) <= bound)
    for bad in ([1], [0, 3], [1, 1], [0.5, 1]):
        with pytest.raises(ValueError, match=r"columns in 0\.\.C-1 = 0\.\.2"):
            export_onnx(model, [(X, LABELS)], None, classes=bad)


def test_files_names_and_outputs(tmp_path):
    model = graph([*GRAPHS["softmax"], node("Relu", ["h"], "aside")], ("aside", "y"))
    source = tmp_path / "network.onnx"
    onnx.save(model, source)
    batch = {"x": X.astype("float64")}, LABELS
    paths = [
        export_onnx(source, [batch], tmp_path / f"run{kind}", "y")
        for kind in (".npz", ".zarr")
    ]
    assert export.digest(paths[0]) == export.digest(paths[1])
    made = export.load(paths[0])
    assert made.layers[0].name == "MatMul-m"
    assert made.provenance["framework"] == "onnxruntime"
    with pytest.raises(ValueError, match=r"output 'aside' must"):
        export_onnx(source, [batch], None)


def test_what_is_refused(tmp_path):
    out = tmp_path / "run.npz"
    batch = X, LABELS
    with pytest.raises(ValueError, match=r"got 'nowhere\.onnx', which is no file"):
        export_onnx("nowhere.onnx", [batch], out)
    product = node("MatMul", ["h", "W"], "z")
    between = {"scaled": [*MATMUL, node("Mul", ["z", "b"], "y")]}
    between["normalised"] = [product, node("Relu", ["z"], "r")]
    between["normalised"].append(node("Softmax", ["r"], "y"))
    for tail in between.values():
        with pytest.raises(ValueError, match=r"output 'y' must be the softmax of"):
            export_onnx(graph(tail), [batch], out)
    with pytest.raises(ValueError, match=r"output must be one of \['y'\], .* got 'q'"):
        export_onnx(graph(GRAPHS["softmax"]), [batch], out, "q")
    none = helper.make_graph(
        [node("Relu", ["x"], "y")],
        "none",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
    )
    model = helper.make_model(
        none, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    with pytest.raises(ValueError, match=r"got none among the operations \['Relu'\]"):
        export_onnx(model, [batch], out)
    good = graph(GRAPHS["softmax"])
    for loader, message in [
        ([], "at least one batch"),
        ([X], "for two arrays X and y"),
        ([(X, LABELS + 1)], r"0\.\.2, got 1\.\.3 in batch 0"),
        ([(X, LABELS), (X[:0], LABELS[:0])], "batch 1 must hold a sample"),
        ([(X[:, :3], LABELS)], "inputs must be what the graph takes, got in batch 0"),
        ([({"q": X}, LABELS)], r"the graph's inputs \['x'\], got \['q'\]"),
        ([(X.astype(complex), LABELS)], "'x' must be float32, got complex128"),
        ([(X * np.nan, LABELS)], "finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            export_onnx(good, loader, out)
    assert not list(tmp_path.iterdir())


def test_a_published_network():
    """magika from its package names the kinds that its own library names."""
    magika = pytest.importorskip("magika")
    folder = Path(magika.__file__).parent / "models"
    (path,) = folder.glob("*/model.onnx")
    config = json.loads((path.parent / "config.min.json").read_text())
    names = config["target_labels_space"]
    texts = {
        "json": json.dumps({"name": "x", "list": list(range(99))}, indent=2).encode(),
        "python": Path(__file__).read_bytes(),
    }
    tokens = np.full((2, 2048), config["padding_token"], np.int32)
    for row, text in zip(tokens, texts.values(), strict=True):
        head, tail = text[:4096].lstrip()[:1024], text[-4096:].rstrip()[-1024:]
        row[: len(head)], row[2048 - len(tail) :] = list(head), list(tail)
    columns = [names.index(x) for x in texts]
    made = export_onnx(path, [(tokens, [0, 1])], None, classes=columns)
    assert made.layers[0].features.shape == (2, 1, 513)
    assert all(x.ratio <= 1 for x in recompute(made))
    assert np.array_equal(made.probabilities.argmax(axis=1), [0, 1])
    library = magika.Magika()
    for text, name in zip(texts.values(), texts, strict=True):
        assert library.identify_bytes(text).dl.label == name


def test_without_onnxruntime_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "refspec.exporters.onnx")
    with pytest.raises(ImportError, match=r"refspec\[onnx\]"):
        import refspec.exporters.onnx  # noqa: F401
