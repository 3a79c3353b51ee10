"""The last linear map of an ONNX graph: a MatMul with its Add, or a Gemm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from refspec.export.errors import shown
from refspec.exporters import feeding

_PRODUCTS = ("MatMul", "Gemm")


@dataclass(frozen=True, slots=True, eq=False)
class Last:
    """The last linear map of a graph, by the names of its tensors."""

    name: str
    output: str
    features: str
    logits: str
    weight: np.ndarray  # (C, a)
    bias: np.ndarray | None
    others: dict[str, int]  # entries of the other constants, by name


def find_last(graph: Any, output: str | None) -> Last:
    """Return the last linear map on the way to an output, by default the first."""
    floating = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
    there = [x.name for x in graph.output if x.type.tensor_type.elem_type in floating]
    if output is None and there:
        output = there[0]
    if output is None or output not in there:
        raise ValueError(
            f"output must be one of {there}, the outputs of floating numbers, got "
            f"{output!r}; a classifier gives logits or probabilities (of a sequence of "
            "maps, export without ZipMap)"
        )
    makers = {name: node for node in graph.node for name in node.output}
    constants = {x.name: _array(x.name, x) for x in graph.initializer}
    origin = {name: name for name in constants}  # before it was moved or renamed
    for node in graph.node:
        if not node.output or (not node.input and node.op_type != "Constant"):
            continue
        if node.op_type == "Constant" and [x.name for x in node.attribute] == ["value"]:
            name = node.output[0]
            constants[name] = _array(name, node.attribute[0].t)
            origin[name] = name
        elif node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
            origin[node.output[0]] = origin[node.input[0]]
        elif node.op_type == "Transpose" and node.input[0] in constants:
            axes = [list(x.ints) for x in node.attribute]
            constants[node.output[0]] = constants[node.input[0]].transpose(*axes)
            origin[node.output[0]] = origin[node.input[0]]
    before: set[str] = set()
    queue = [output]
    while queue:
        name = queue.pop()
        if name in makers and name not in before:
            queue.extend(makers[name].input)
        before.add(name)
    for node in reversed(graph.node):
        product = node.op_type in _PRODUCTS and len(node.input) > 1 and node.output
        if product and node.input[1] in constants and node.output[0] in before:
            last, own = _read(graph, node, before, constants, output)
            used = {origin[x] for x in before if x in origin}
            used -= {origin[x] for x in own}
            sizes = {x: constants[x] for x in sorted(used)}
            counts = {k: int(x.size) for k, x in sizes.items() if _is_parameter(x)}
            return replace(last, others=counts)
    kinds = sorted({x.op_type for x in graph.node if before & {*x.output}})
    raise ValueError(
        f"the graph must have a MatMul or Gemm with constant weights before output "
        f"{output!r}, got none among the operations {kinds}; export an unquantised "
        "network with a linear last layer"
    )


def _array(name: str, x: Any) -> np.ndarray:
    """Return the values of a tensor of the graph."""
    try:
        return np.asarray(numpy_helper.to_array(x))
    except Exception as error:  # onnx has no one class of errors
        raise ValueError(
            f"tensor {name!r} of the graph must hold its values, got "
            f"{type(error).__name__} {shown(str(error))}; give the path of the file, "
            "its external data beside it"
        ) from error


def _is_parameter(x: np.ndarray) -> bool:
    """Whether a constant is an array of real numbers, and no lone number."""
    return x.dtype.kind == "f" and x.size > 1


def _read(
    graph: Any, node: Any, before: set[str], constants: Any, output: str
) -> tuple[Last, list[str]]:
    """Return a MatMul with its Add, or a Gemm, as logits = features W' + bias.

    Beside it the names of its constants.
    """
    own = [node.input[1]]
    weight, logits = constants[node.input[1]], node.output[0]
    how = {x.name: x.f if x.type == x.FLOAT else x.i for x in node.attribute}
    name = node.name or logits
    bias = None
    if node.op_type == "Gemm":
        weight = weight if how.get("transB", 0) else weight.T
        weight = weight * np.asarray(how.get("alpha", 1), weight.dtype)
        if len(node.input) > 2 and node.input[2]:
            bias = constants.get(node.input[2])
            if bias is None or how.get("transA", 0):
                raise refusal(name, "has a bias that is not constant")
            own.append(node.input[2])
            bias = bias * np.asarray(how.get("beta", 1), weight.dtype)
        elif how.get("transA", 0):
            raise refusal(name, "multiplies its input transposed")
    else:
        weight = weight.T
        for add in graph.node:
            if add.op_type == "Add" and logits in add.input and add.output[0] in before:
                other = [x for x in add.input if x != logits]
                if other and other[0] in constants:
                    bias, logits = constants[other[0]], add.output[0]
                    own.append(other[0])
                    break
    if weight.ndim != 2 or (bias is not None and bias.size not in (1, len(weight))):
        shape = None if bias is None else bias.shape
        raise refusal(name, f"has weights {weight.shape} and bias {shape}")
    if bias is not None:
        bias = feeding.host(np.broadcast_to(bias.ravel(), len(weight)))
    weight = feeding.host(weight)
    return Last(name, output, node.input[0], logits, weight, bias, {}), own


def refusal(name: str, why: str) -> ValueError:
    """Say why a node cannot be exported."""
    return ValueError(
        "an export must hold a last layer x W' + b with constant W (C, a) and b (C,), "
        f"got one that differs: node {name!r} {why}; export the network with such a "
        "layer last"
    )
