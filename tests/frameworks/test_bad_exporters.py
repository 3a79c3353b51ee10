"""Every bad call of the exporters: refused in a sentence, and no file is left.

Rows that are alike for all are made once for each; those of one framework follow.
"""

import tempfile
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
import torch
import torch.nn.utils.prune
from onnx import TensorProto, helper, numpy_helper
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.utils import parametrizations

from refspec import rounding
from refspec.exporters.jax import export as export_jax
from refspec.exporters.onnx import export as export_onnx
from refspec.exporters.sklearn import export as export_sklearn
from refspec.exporters.torch import export as export_torch
from support.clear import assert_clear

NAN, INF = float("nan"), float("inf")
N, C = 6, 3
rng = np.random.default_rng(0)
X = rng.normal(size=(N, 4)).astype("float32")
Y = np.array([0, 1, 2, 0, 1, 2])
WIDE = np.ones((N, 9), "float32")
TOKENS = rng.normal(size=(N, 2, 4)).astype("float32")
FOLDER = tempfile.TemporaryDirectory()
HERE = Path(FOLDER.name)
(HERE / "folder.npz").mkdir()
(HERE / "full.zarr").mkdir()
(HERE / "full.zarr" / "mine").touch()
(HERE / "file.zarr").touch()


def narrow(call):
    """Make a call with JAX's 32 bits, whatever another module has set."""

    def made():
        with jax.enable_x64(False):
            return call()

    return made


# --- one good model a framework -------------------------------------------------------

torch.manual_seed(0)
NET = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, C))
W = {
    "a": jnp.asarray(rng.normal(size=(4, 5)), jnp.float32),
    "z": jnp.asarray(rng.normal(size=(5, C)), jnp.float32),
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    MLP = MLPClassifier((5,), max_iter=3, random_state=0).fit(X, Y)
    SEVERAL = MLPClassifier((3,), max_iter=3, random_state=0).fit(X, np.eye(3)[Y])
    WORDS = LogisticRegression().fit(X, np.array(list("abc"))[Y])


def function(W, x):
    return jnp.tanh(x @ W["a"]) @ W["z"]


def graph(*nodes, kind=TensorProto.FLOAT, weight=True, output="y", name="x"):
    tensor = numpy_helper.from_array(np.eye(4, C, dtype="float32"), "W")
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, kind, ["N", 4])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", C])],
        [tensor] * weight,
    )
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


PRODUCT = helper.make_node("MatMul", ["x", "W"], ["z"], name="last")
SOFTMAX = helper.make_node("Softmax", ["z"], ["y"], axis=1)
GRAPH = graph(PRODUCT, SOFTMAX)
(HERE / "text.onnx").write_text("no graph")

EXPORTS = {
    "torch": (export_torch, (NET,)),
    "jax": (export_jax, (function, W)),
    "sklearn": (export_sklearn, (MLP,)),
    "onnx": (export_onnx, (GRAPH,)),
}
GOOD = [(X, Y)]


def to(name, loader=GOOD, path="out.npz", **how):
    """A call of an exporter with its good model."""
    export, model = EXPORTS[name]
    place = path if isinstance(path, bytes | int) else HERE / path
    return lambda: export(*model, loader, place, **how)


def of(name, *model, **how):
    """A call of an exporter with another model, or batches that suit it."""
    export, _ = EXPORTS[name]
    loader = how.pop("loader", GOOD)
    return lambda: export(*model, loader, HERE / "out.zarr", **how)


class Numbered(torch.utils.data.Dataset):
    """Samples one by one, as a Dataset has them."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        return torch.as_tensor(X[i]), int(Y[i])


def nested(depth):
    found = []
    for _ in range(depth):
        found = [found]
    return found


def labels(y):
    return {"loader": [(X, y)]}


def inputs(x, y=Y):
    return {"loader": [(x, y)]}


#: What is bad for every exporter: its row, how it is called, what the refusal names.
COMMON = [
    # loaders
    ("loader None", {"loader": None}, "loader"),
    ("loader 7", {"loader": 7}, "loader"),
    ("loader a type", {"loader": list}, "loader"),
    ("loader empty", {"loader": []}, "loader"),
    ("loader two arrays", {"loader": (X, Y)}, "[(X, y)]"),
    ("loader an array", {"loader": X}, "[(X, y)]"),
    ("loader a text", {"loader": "batches"}, "loader"),
    ("loader a dict", {"loader": {"x": X, "y": Y}}, "loader"),
    ("a Dataset", {"loader": Numbered()}, "a Dataset goes into a DataLoader"),
    ("samples", {"loader": list(zip(X, Y, strict=True))}, "one sample"),
    # batches
    ("batch of 1", {"loader": [(X,)]}, "tuple of 1"),
    ("batch of 3", {"loader": [(X, Y, Y)]}, "tuple of 3"),
    ("batch a dict", {"loader": [{"x": X, "y": Y}]}, "['x', 'y']"),
    ("batch None", {"loader": [(X, Y), None]}, "batch 1"),
    ("second of 3", {"loader": [(X, Y), (X, Y, Y)]}, "batch 1"),
    ("no samples", inputs(X[:0], Y[:0]), "batch 0"),
    ("none the second time", {"loader": [(X, Y), (X[:0], Y[:0])]}, "batch 1"),
    (
        "wide the second time",
        {"loader": [(X, Y), (WIDE, Y)]},
        ("(9,)", "9)", "batch 1"),
    ),
    # inputs
    ("inputs None", inputs(None), "inputs"),
    ("inputs a word", inputs("abc"), "inputs"),
    ("inputs words", inputs(X.astype(str)), "inputs"),
    ("inputs bytes", inputs(X.astype("S")), "inputs"),
    ("inputs a dict", inputs({"q": X}), "inputs"),
    ("inputs a set", inputs({1.0}), "inputs"),
    ("inputs two", inputs((X, X)), ("one array", "must take")),
    ("inputs ragged", inputs([[1.0, 2.0], [1.0]], Y[:2]), "rows of one length"),
    ("inputs objects", inputs(np.full((N, 4), "a", object)), "inputs"),
    ("inputs dates", inputs(np.zeros((N, 4), "M8[s]")), "inputs"),
    ("inputs records", inputs(np.zeros((N, 4), [("a", "f8")])), "inputs"),
    ("inputs masked", inputs(np.ma.masked_less(X, 0)), "masked"),
    ("inputs a number", inputs(np.float32(1)), "inputs"),
    ("inputs flat", inputs(X[:, 0]), "inputs"),
    ("inputs wide", inputs(WIDE), ("inputs", "(9,)")),
    ("inputs a = 0", inputs(X[:, :0]), ("inputs", "(0,)")),
    ("inputs nan", inputs(X * NAN), "finite"),
    ("inputs inf", inputs(X * INF), "finite"),
    ("inputs 1e300", inputs(np.full((N, 4), 1e300)), "finite"),
    ("inputs complex", inputs(X + 1j), ("complex64", "complex128", "ComplexFloat")),
    # labels
    ("labels None", labels(None), "labels"),
    ("labels float", labels(Y + 0.5), "labels"),
    ("labels nan", labels(Y * NAN), "labels"),
    ("labels -1", labels(Y - 1), "labels"),
    ("labels high", labels(Y + 1), "labels"),
    ("labels unsigned", labels(np.full(N, 2**64 - 1, "uint64")), "labels"),
    ("labels huge", labels([10**30] * N), "labels"),
    ("labels short", labels(Y[:3]), "labels"),
    ("labels words", labels(list("abcabc")), "labels"),
    ("labels one-hot", labels(np.eye(C, dtype=int)[Y]), "argmax"),
    ("labels a column", labels(Y[:, None]), "labels"),
    ("labels ragged", labels([[0], [1, 2]]), "labels"),
    ("labels objects", labels(np.array([0, 1, 2, 0, 1, None])), "labels"),
    ("labels a set", labels({0, 1}), "labels"),
    ("labels dates", labels(Y.astype("M8[s]")), "labels"),
    ("labels a number", labels(1), "one sample"),
    # the manifest
    ("class names a word", {"class_names": "abc"}, "class_names"),
    ("class names few", {"class_names": ["a"]}, "class_names"),
    ("class names many", {"class_names": list("abcd")}, "class_names"),
    ("class names 7", {"class_names": 7}, "class_names"),
    ("class names a dict", {"class_names": {"a": 1}}, "class_names"),
    ("class names lists", {"class_names": [["a"]] * C}, "class_names"),
    ("provenance a list", {"provenance": [("seed", 1)]}, "provenance"),
    ("provenance a word", {"provenance": "mine"}, "provenance"),
    ("provenance 7", {"provenance": 7}, "provenance"),
    ("provenance a set", {"provenance": {"x": {1}}}, "provenance"),
    ("provenance nan", {"provenance": {"x": NAN}}, "provenance"),
    ("provenance an array", {"provenance": {"x": X}}, "provenance"),
    ("provenance key 7", {"provenance": {7: 1}}, "provenance"),
    ("provenance a pair", {"provenance": {(1, 2): 1}}, "provenance"),
    ("provenance deep", {"provenance": {"x": nested(99)}}, "deep"),
    ("provenance deeper", {"provenance": {"x": nested(9999)}}, "provenance"),
    ("provenance large", {"provenance": {"x": "x" * 2**24}}, "characters"),
    ("progress a word", {"progress": "no"}, "progress"),
    ("progress 1", {"progress": 1}, "progress"),
    # the path
    ("path another ending", {"path": "x.pt"}, "x.pt"),
    ("path no ending", {"path": "x"}, "x"),
    ("path no folder", {"path": "no/x.npz"}, "no"),
    ("path /dev/null", {"path": "/dev/null"}, "/dev/null"),
    ("path under a file", {"path": "file.zarr/x.npz"}, "file.zarr"),
    ("path a folder", {"path": "folder.npz"}, "folder.npz"),
    ("path of others", {"path": "full.zarr"}, "full.zarr"),
    ("path a file", {"path": "file.zarr"}, "file.zarr"),
    ("path a null", {"path": "a\0.npz"}, "npz"),
    ("path long", {"path": "x" * 300 + ".npz"}, "cannot be written"),
    ("path bytes", {"path": b"x.npz"}, "path"),
    ("path 7", {"path": 7}, "path"),
]
#: Names of layers; ONNX has its last one only.
LAYERS = [
    ("layers a word", "0", "layers"),
    ("layers unknown", ["nine"], "layers"),
    ("layers none", [], "layers"),
    ("layers 7", 7, "layers"),
    ("layers of 7", [7], "layers"),
    ("layers of lists", [["0"]], "layers"),
]
FIRST = {"torch": "0", "jax": "a", "sklearn": "coefs_0"}


class Wrapped(nn.Module):
    """Any forward pass over one linear module."""

    def __init__(self, forward, sizes=(4, C)):
        super().__init__()
        self.w = nn.Linear(*sizes)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def wrapped(forward, **how):
    return of("torch", Wrapped(forward), **how)


def plain(forward, **how):
    return of("jax", forward, W, **how)


TORCH = [
    ("model a class", of("torch", nn.Linear), "model"),
    ("model a function", of("torch", lambda x: x), "model"),
    ("model None", of("torch", None), "model"),
    ("model a state", of("torch", NET.state_dict()), "model"),
    (
        "no linear layer",
        of("torch", nn.Sequential(nn.Flatten())),
        "layers that can be exported",
    ),
    ("a lazy layer", of("torch", nn.Sequential(nn.LazyLinear(C))), "lazy"),
    ("no weights", of("torch", nn.Linear(4, C, device="meta")), "meta"),
    ("half", of("torch", nn.Linear(4, C).half()), "float16"),
    ("tokens", wrapped(lambda m, x: m.w(x), loader=[(TOKENS, Y)]), "(batch, C)"),
    ("one logit", of("torch", nn.Linear(4, 1)), "0..1"),
    ("regression", of("torch", nn.Linear(4, C), loader=[(X, X[:, :3])]), "labels"),
    ("softmax", of("torch", nn.Sequential(nn.Linear(4, C), nn.Softmax(1))), "softmax"),
    ("half logits", wrapped(lambda m, x: m.w(x).half()), "float16"),
    ("complex logits", wrapped(lambda m, x: m.w(x) + 0j), "complex64"),
    ("no logits", wrapped(lambda m, x: {"scores": m.w(x)}), "dict"),
    ("NumPy logits", wrapped(lambda m, x: m.w(x).detach().numpy()), "logits"),
    ("an error within", wrapped(lambda m, x: m.w(x)[:, 9]), "IndexError"),
    ("no gradient", wrapped(lambda m, x: m.w(x.detach()).detach()), "'w'"),
    (
        "changed in place",
        wrapped(lambda m, x: m.w(torch.sigmoid(m.w(x)[:, :1]).mul_(2).expand(-1, 4))),
        "'w'",
    ),
    ("a batch lost", wrapped(lambda m, x: m.w(x)[:3]), "batch = 6"),
    ("integers", of("torch", NET, loader=[(X.astype(int), Y)]), "inputs"),
    ("dtype float16", of("torch", NET, dtype=torch.float16), "dtype"),
    ("dtype a word", of("torch", NET, dtype="float32"), "dtype"),
    ("dtype NumPy's", of("torch", NET, dtype=np.float32), "dtype"),
    ("dtype an array", of("torch", NET, dtype=X), "dtype"),
]
JAX = [
    ("function None", of("jax", None, W), "function"),
    ("function a tree", of("jax", W, function), "function"),
    ("parameters None", of("jax", function, None), "parameters"),
    ("parameters words", of("jax", function, {"a": "b"}), "parameters"),
    ("parameters objects", of("jax", function, {"a": np.array([None])}), "parameters"),
    ("mixed keys", of("jax", function, {"a": W["a"], 1: W["z"]}), "parameters"),
    ("another tree", of("jax", function, {"b": W["a"]}), "parameters"),
    ("one parameter", of("jax", lambda W: W, W), "function"),
    (
        "half",
        of("jax", function, {k: x.astype("float16") for k, x in W.items()}),
        "float16",
    ),
    ("half logits", plain(lambda W, x: function(W, x).astype("bfloat16")), "bfloat16"),
    ("complex logits", plain(lambda W, x: function(W, x) + 0j), "complex64"),
    (
        "no linear layer",
        plain(lambda W, x: x[:, :C] * W["a"][0, 0]),
        "layers that can be exported",
    ),
    ("tokens", plain(function, loader=[(TOKENS, Y)]), "(batch, C)"),
    ("one logit", plain(lambda W, x: function(W, x)[:, :1]), "0..1"),
    (
        "probabilities",
        plain(
            lambda W, x: (lambda z: jnp.exp(z) / jnp.exp(z).sum(1)[:, None])(
                function(W, x)
            )
        ),
        "softmax",
    ),
    ("a dict", plain(lambda W, x: {"scores": function(W, x)}), "logits"),
    ("host code", plain(lambda W, x: np.asarray(x) @ W["a"][:, :3]), "function"),
    ("branches", plain(lambda W, x: function(W, x) if x.sum() > 0 else x), "function"),
    ("an error within", plain(lambda W, x: function(W, x)[9, 9, 9]), "function"),
    (
        "wrapping integers",
        narrow(of("jax", function, W, loader=[(np.full((N, 4), 2**40), Y)])),
        "integers of int32",
    ),
    (
        "integers the second time",
        of("jax", function, W, loader=[(X, Y), (X.astype(int), Y)]),
        "dtype",
    ),
    ("a bias", of("jax", function, W, layers=["nine"]), "layers"),
]
SKLEARN = [
    ("model a class", of("sklearn", MLPClassifier), "model"),
    ("model None", of("sklearn", None), "model"),
    ("another model", of("sklearn", SGDClassifier()), "SGDClassifier"),
    ("regression", of("sklearn", MLPRegressor()), "MLPRegressor"),
    ("linear regression", of("sklearn", LinearRegression()), "LinearRegression"),
    ("no steps", of("sklearn", Pipeline([])), "Pipeline"),
    ("a last step", of("sklearn", make_pipeline(StandardScaler())), "StandardScaler"),
    ("passed through", of("sklearn", Pipeline([("a", "passthrough")])), "str"),
    ("not fitted", of("sklearn", MLPClassifier()), "not fitted"),
    ("not fitted, linear", of("sklearn", LogisticRegression()), "not fitted"),
    ("a step", of("sklearn", make_pipeline(StandardScaler(), MLP)), "pipeline"),
    ("several labels", of("sklearn", SEVERAL), "3 outputs"),
    ("unknown words", of("sklearn", WORDS, loader=[(X, list("abcxyz"))]), "'x'"),
    ("numbers for words", of("sklearn", WORDS), "classes"),
    ("mixed", of("sklearn", WORDS, loader=[(X, np.array(["a", None] * 3))]), "classes"),
    ("tokens", of("sklearn", MLP, loader=[(TOKENS, Y)]), ("shape", "layer")),
]
ONNX = [
    ("model None", of("onnx", None), "model"),
    ("model 7", of("onnx", 7), "model"),
    ("model bytes", of("onnx", GRAPH.SerializeToString()), "model"),
    ("a graph", of("onnx", GRAPH.graph), "model"),
    ("no file", of("onnx", HERE / "no.onnx"), "no.onnx"),
    ("text", of("onnx", HERE / "text.onnx"), "text.onnx"),
    ("an empty model", of("onnx", onnx.ModelProto()), "output"),
    ("no product", of("onnx", graph(helper.make_node("Relu", ["x"], ["y"]))), "MatMul"),
    ("no input", of("onnx", graph(helper.make_node("MatMul", [], ["y"]))), "MatMul"),
    (
        "no constant",
        of("onnx", graph(PRODUCT, SOFTMAX, weight=False)),
        "constant weights",
    ),
    (
        "an unknown operator",
        of("onnx", graph(PRODUCT, helper.make_node("Softest", ["z"], ["y"]))),
        "onnxruntime",
    ),
    (
        "text inputs",
        of(
            "onnx",
            graph(
                helper.make_node("StringNormalizer", ["s"], ["t"]),
                helper.make_node("Identity", ["x"], ["u"]),
                PRODUCT,
                SOFTMAX,
                kind=TensorProto.STRING,
            ),
        ),
        "graph",
    ),
    (
        "more than a softmax",
        of("onnx", graph(PRODUCT, helper.make_node("Relu", ["z"], ["y"]))),
        "softmax",
    ),
    ("an unknown output", of("onnx", GRAPH, output="q"), "output"),
    ("output 7", of("onnx", GRAPH, output=7), "output"),
    ("output a list", of("onnx", GRAPH, output=["y"]), "output"),
    ("one class", of("onnx", GRAPH, classes=[1]), "classes"),
    ("classes twice", of("onnx", GRAPH, classes=[1, 1]), "classes"),
    ("an unknown class", of("onnx", GRAPH, classes=[0, 3]), "classes"),
    ("a class -1", of("onnx", GRAPH, classes=[0, -1]), "classes"),
    ("classes 0.5", of("onnx", GRAPH, classes=[0.5, 1]), "classes"),
    ("classes flags", of("onnx", GRAPH, classes=[True, False]), "classes"),
    ("classes 7", of("onnx", GRAPH, classes=7), "classes"),
    ("classes a word", of("onnx", GRAPH, classes="01"), "classes"),
    ("tokens", of("onnx", GRAPH, loader=[(TOKENS, Y)]), "graph"),
    (
        "wrapping integers",
        of(
            "onnx",
            graph(
                helper.make_node("Cast", ["i"], ["x"], to=1),
                PRODUCT,
                SOFTMAX,
                kind=TensorProto.INT32,
                name="i",
            ),
            loader=[(np.full((N, 4), 2**40), Y)],
        ),
        "integers of int32",
    ),
]
CALLS = [
    *(
        (f"{name}: {row}", to(name, **how), names)
        for name in EXPORTS
        for row, how, names in COMMON
    ),
    *(
        (f"{name}: {row}", to(name, layers=layers), names)
        for name in FIRST
        for row, layers, names in LAYERS
    ),
    *(
        (f"{name}: layers twice", to(name, layers=[first, first]), "layers")
        for name, first in FIRST.items()
    ),
    *((f"torch: {x}", *rest) for x, *rest in TORCH),
    *((f"jax: {x}", *rest) for x, *rest in JAX),
    *((f"sklearn: {x}", *rest) for x, *rest in SKLEARN),
    *((f"onnx: {x}", *rest) for x, *rest in ONNX),
]


def state():
    """Every name in the folder and what it holds."""
    return {x: x.read_bytes() if x.is_file() else None for x in HERE.rglob("*")}


@pytest.mark.parametrize(
    ("call", "names"), [x[1:] for x in CALLS], ids=[x[0] for x in CALLS]
)
def test_a_bad_call_is_refused_in_a_sentence_and_leaves_nothing(call, names):
    before = state()
    assert_clear(call, names=names)
    assert state() == before


# --- what looks bad and is not --------------------------------------------------------


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return zip(X, Y, strict=True)


HALF = X.astype("float16")
BACK = [(np.array(X[::-1]), Y[::-1])]
KINDS = {
    "a list": ([[X, Y]], GOOD),
    "lists": ([(X.tolist(), Y.tolist())], GOOD),
    "objects": ([(X.astype(object), Y.astype("uint8"))], GOOD),
    "half": ([(HALF, Y)], [(HALF.astype("float32"), Y)]),
    "big-endian": ([(X.astype(">f4"), Y.astype(">i8"))], GOOD),
    "backwards": ([(X[::-1], Y[::-1])], BACK),
    "Fortran": ([(np.asfortranarray(X), Y)], GOOD),
    "longdouble": ([(X.astype(np.longdouble), Y)], GOOD),
    "torch": ([(torch.as_tensor(X), torch.as_tensor(Y))], GOOD),
    "JAX": ([(jnp.asarray(X), jnp.asarray(Y))], GOOD),
    "without a length": (
        torch.utils.data.DataLoader(Stream(), batch_size=3),
        [(X[:3], Y[:3]), (X[3:], Y[3:])],
    ),
}


@pytest.mark.parametrize("name", EXPORTS)
@pytest.mark.parametrize("some", [[1, 4], [0, 2, 3, 5], [1]])
def test_classes_may_have_no_sample_and_samples_may_be_few(name, some):
    export, model = EXPORTS[name]
    made = export(*model, [(X[some], Y[some])], None)
    assert made.probabilities.shape == (len(some), C)
    assert made.offsets == (0, *np.cumsum(np.bincount(Y[some], minlength=C)))
    right = export(*model, GOOD, None)
    order = np.argsort(Y, kind="stable").tolist()
    places = sorted(order.index(i) for i in some)
    for one, other in zip(made.layers, right.layers, strict=True):
        # a batch of another size is another product
        gap = np.abs(one.errors - other.errors[places]).max()
        size = max(1.0, np.abs(other.errors).max())
        assert gap <= rounding.gamma(64 * (N + 9 + C), 2.0**-24) * size


@pytest.mark.parametrize("name", EXPORTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_good_batch_may_come_in_many_kinds(name, kind):
    (export, model), (loader, plainly) = EXPORTS[name], KINDS[kind]
    made = export(*model, loader, None, provenance={"digest": "x", "operations": 1})
    right = export(*model, plainly, None)
    assert np.array_equal(made.probabilities, right.probabilities)
    for one, other in zip(made.layers, right.layers, strict=True):
        assert np.array_equal(one.features, other.features)
        assert np.array_equal(one.errors, other.errors)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: torch.nn.utils.prune.l1_unstructured(m, "weight", 0.3),
        parametrizations.weight_norm,
    ],
)
def test_a_weight_made_of_others_has_no_model_section(change):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, C))
    change(model[0])
    assert export_torch(model, GOOD, None, layers=["1"]).model is None


def test_sparse_coefficients_are_those_they_were():
    model = LogisticRegression().fit(X, Y)
    right = export_sklearn(model, GOOD, None)
    made = export_sklearn(model.sparsify(), GOOD, None)
    assert np.array_equal(made.probabilities, right.probabilities)
