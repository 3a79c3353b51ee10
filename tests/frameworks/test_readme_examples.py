"""The README's examples of exporters run as written, after `import refspec`."""

import pathlib
import re

import numpy as np
import onnx
import pytest
import torch
from jax import numpy as jnp
from onnx import helper, numpy_helper
from sklearn.neural_network import MLPClassifier
from torch import nn

import refspec

README = pathlib.Path(__file__).parents[2] / "README.md"
X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
y = np.arange(12) % 3


def examples():
    """Yield the indented blocks that name an exporter."""
    text = README.read_text(encoding="utf-8")
    for block in re.findall(r"(?:^    .+\n)+", text, re.MULTILINE):
        if re.search(r"refspec\.(exporters|torch|jax)\.", block):
            yield "\n".join(line[4:] for line in block.splitlines())


def classifier():
    tensor = numpy_helper.from_array(np.eye(4, 3, dtype="float32"), "W")
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["z"], name="last"),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    kind = onnx.TensorProto.FLOAT
    given = helper.make_tensor_value_info("x", kind, ["N", 4])
    made = helper.make_tensor_value_info("y", kind, ["N", 3])
    graph = helper.make_graph(nodes, "g", [given], [made], [tensor])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_examples_run_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(classifier(), "model.onnx")
    names = {
        "refspec": refspec,
        "MLPClassifier": MLPClassifier,
        "X": X,
        "y": y,
        "batches": [(X, y)],
        "loader": [(torch.as_tensor(X), torch.as_tensor(y))],
        "model": nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)),
        "parameters": {"W": jnp.ones((4, 3))},
        "apply": lambda parameters, x: x @ parameters["W"],
    }
    found = list(examples())
    assert len(found) >= 4
    for text in found:
        exec(text, names)
    assert "covers 43 of 53 parameters" in capsys.readouterr().out
    assert refspec.load("mine.npz").probabilities.shape == (12, 3)
