"""Export the last layer of an ONNX classifier, without the framework it came from.

The last matrix product with constant weights before the output is found in the graph;
what enters it and what leaves it become outputs of the graph, and onnxruntime gives
both. The errors of a last layer are the softmax's own, p - e_c'.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refspec import rounding
from refspec.classes import Snapshot, log_softmax
from refspec.export.errors import shown

try:
    import onnx
    import onnxruntime

    from refspec.exporters import delivery, feeding
    from refspec.exporters.onnx_graph import Last, find_last, refusal
    from refspec.exporters.reading import Reading, expect_classes
except ImportError as error:
    raise ImportError(
        "the ONNX exporter needs onnx, onnxruntime and rich, which are not installed; "
        "pip install 'refspec[onnx]'"
    ) from error


def export(
    model: str | os.PathLike[str] | onnx.ModelProto,
    loader: Iterable[Any],
    path: str | os.PathLike[str] | None,
    output: str | None = None,
    *,
    classes: Sequence[int] | None = None,
    class_weights: Any = None,
    sample_weights: Any = None,
    ignore_index: int | None = None,
    class_names: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    recomputed: bool = False,
    progress: bool = True,
) -> Path | Snapshot:
    """Write an export of a classifier's last layer over the samples of a loader.

    Parameters
    ----------
    model : path or onnx.ModelProto
        A classifier with one output of shape (batch, C): logits, probabilities, their
        logarithms, or one column of probabilities from a sigmoid.
    loader : iterable of (inputs, labels)
        As in `refspec.exporters`; inputs may also be a mapping from the names of the
        graph's inputs to arrays.
    output : str, optional
        Name of the output; by default the first of floating numbers.
    classes : sequence of int, optional
        Keep these columns only, in this order, and number the labels by them. The
        probabilities are then those given that the class is one of them.
    path, class_weights, sample_weights, ignore_index, class_names
        See `refspec.exporters`.
    provenance, recomputed, progress
        See `refspec.exporters`.

    Returns
    -------
    Path or Snapshot
        The path, or the Snapshot if `path` is None.

    Raises
    ------
    TypeError
        If model, loader or an option is of another type.
    ValueError
        If the graph has no such layer or output, its output is not as above, or the
        batches do not fit.
    ExportError
        If the path cannot be written.

    Notes
    -----
    The layer is the last MatMul (with the Add that follows it) or Gemm whose weights
    are constant. That nothing but a softmax follows is checked on every batch, within
    the rounding of the output's dtype, and that it is what is read of the graph. All
    other real constants of the graph are stated as left out, running averages too. The
    layer is stored as a model section, a softmax regression whose inputs are the
    features. A single column z of a sigmoid becomes the two logits (0, z), which is
    exact: the first row of the weights is 0.
    Cost: one forward pass a batch.

    Examples
    --------
    >>> from onnx import helper
    >>> W = onnx.numpy_helper.from_array(np.eye(3, 2, dtype="float32"), "W")
    >>> kind = onnx.TensorProto.FLOAT
    >>> given = helper.make_tensor_value_info("x", kind, ["N", 3])
    >>> made = helper.make_tensor_value_info("z", kind, ["N", 2])
    >>> node = helper.make_node("MatMul", ["x", "W"], ["z"], name="last")
    >>> graph = helper.make_graph([node], "g", [given], [made], [W])
    >>> opset = [helper.make_opsetid("", 17)]
    >>> model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    >>> batch = np.eye(4, 3, dtype="float32"), [0, 1, 1, 0]
    >>> made = export(model, [batch], None)
    >>> [(x.name, x.features.shape, x.errors.shape) for x in made.layers]
    [('last', (4, 1, 3), (4, 2, 1, 2))]
    """
    model = _opened(model)
    last = find_last(model.graph, output)
    rows = _weights(last, classes)
    how = Reading(class_names, classes, class_weights, sample_weights, ignore_index)
    _, batches, total = feeding.open_loader(loader)
    session, inputs = _session(model, last)
    bias = None if last.bias is None else "bias"
    operation = {"op": "linear", "name": last.name, "weight": "weight", "bias": bias}
    return delivery.deliver(
        _rows(session, inputs, last, how, batches),
        path,
        rows,
        framework=("onnxruntime", onnxruntime.__version__),
        architecture=f"last layer of an ONNX graph of {len(model.graph.node)} nodes by "
        f"{model.producer_name or 'an unknown producer'}",
        layers=[last.name],
        operations=[operation],
        left_out=_left_out(last, rows),
        biases={last.name: last.bias is not None},
        class_names=class_names,
        provenance=provenance,
        total=total,
        recomputed=recomputed,
        progress=progress,
        how=how,
    )


def _opened(model: str | os.PathLike[str] | onnx.ModelProto) -> onnx.ModelProto:
    """Return the model, of a file if it is a path."""
    if isinstance(model, onnx.ModelProto):
        return model
    if not isinstance(model, str | os.PathLike):
        raise TypeError(
            "model must be an ONNX file or a ModelProto, got "
            f"{type(model).__name__}; export it to ONNX first"
        )
    if not os.path.isfile(model):
        raise ValueError(
            f"model must be an ONNX file or a ModelProto, got {str(model)!r}, "
            "which is no file; check the path"
        )
    try:
        return onnx.load(model)
    except Exception as error:  # protobuf, onnx and the system each have their own
        raise ValueError(
            f"model must be an ONNX file, got {str(model)!r}, which cannot be read: "
            f"{type(error).__name__} {shown(str(error))}; export it again, with its "
            "external data beside it"
        ) from error


def _weights(last: Last, classes: Sequence[int] | None) -> dict[str, np.ndarray]:
    """Return the parameters of the model section, of the chosen classes."""
    C = len(last.weight)
    if classes is not None:
        expect_classes(classes, C)
    both = {"weight": last.weight, "bias": last.bias}
    found = {key: x for key, x in both.items() if x is not None}
    if C == 1:
        return {key: np.concatenate([0 * x, x]) for key, x in found.items()}
    if classes is not None:
        found = {key: x[list(classes)] for key, x in found.items()}
    return found


def _left_out(last: Last, rows: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Count what is in no layer: other constants, and the rows of other classes."""
    whole = last.weight.size + (0 if last.bias is None else last.bias.size)
    dropped = whole - sum(x.size for x in rows.values())
    return last.others | ({last.name: dropped} if dropped > 0 else {})


def _session(model: Any, last: Last) -> tuple[Any, dict[str, np.dtype]]:
    """Return onnxruntime at work on the graph with its two tensors as outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {x.name for x in copy.graph.output} | {x.name for x in copy.graph.input}
    for name in {last.features, last.logits} - there:
        copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: the library is quiet
    try:
        session = onnxruntime.InferenceSession(
            copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has a class of its own for each code
        raise ValueError(
            "model must be a graph that onnxruntime runs, got the error "
            f"{shown(' '.join(str(error).split()))}; check its operators and versions"
        ) from error
    return session, {x.name: _dtype(x) for x in session.get_inputs()}


def _dtype(given: Any) -> np.dtype:
    """Return the dtype of a graph's input."""
    kinds = {"float": "float32", "double": "float64"}
    name = given.type.removeprefix("tensor(").removesuffix(")")
    try:
        kind: np.dtype = np.dtype(kinds.get(name, name))
    except TypeError:
        kind = np.dtype(object)
    if kind.kind not in "biuf":
        raise ValueError(
            f"the graph's inputs must be tensors of numbers, got {given.name!r} of "
            f"type {given.type}; export the network without what makes numbers of it"
        )
    return kind


def _rows(
    session: Any,
    inputs: Mapping[str, np.dtype],
    last: Last,
    how: Reading,
    batches: Iterable[tuple[Any, Any]],
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of the schema batch by batch."""
    direct = {x: x for x in inputs}
    wanted = [last.output, last.logits]
    if last.features not in direct:
        wanted.append(last.features)
    for step, (given, labels) in enumerate(batches):
        feed = _feed(step, given, inputs)
        n = len(next(iter(feed.values())))
        advice = "compare their shapes and dtypes"
        with feeding.answering(step, "inputs must be what the graph takes", advice):
            made, z, *rest = session.run(wanted, feed)
        h = rest[0] if rest else feed[last.features]
        if z.ndim != 2 or h.ndim != 2 or len(z) != n:
            raise refusal(
                last.name, f"takes {h.shape} and gives {z.shape}, not (batch, C)"
            )
        _expect_softmax(step, last, made, z)
        _expect_product(step, last, h, z)
        z = how.chosen(how.layout(step, z.shape, labels, n).flat(z, np))
        found, h = how.outputs(step, z, labels, n), feeding.host(h)
        features = h[:, None, :] if last.bias is None else delivery.pad(h[:, None, :])
        errors = delivery.all_seeds(found["logits"])[:, :, None, :].astype(h.dtype)
        yield delivery.row(h, found, [(features, errors)])


def _feed(step: int, given: Any, inputs: Mapping[str, np.dtype]) -> dict[str, Any]:
    """Return a batch by the names of the graph's inputs, in their dtypes."""
    if not isinstance(given, Mapping) and len(inputs) == 1:
        given = {next(iter(inputs)): given}
    if not isinstance(given, Mapping) or set(given) != set(inputs):
        got = sorted(given) if isinstance(given, Mapping) else type(given).__name__
        raise ValueError(
            f"inputs must be a mapping with the graph's inputs {sorted(inputs)}, got "
            f"{got} in batch {step}; name each array"
        )
    feed = {name: feeding.as_numbers(step, given[name]) for name in inputs}
    for name, dtype in inputs.items():
        x = feed[name]
        if not np.can_cast(x.dtype, dtype, "same_kind"):
            raise ValueError(
                f"input {name!r} must be {dtype}, got {x.dtype} in batch {step}; "
                "convert it"
            )
        with np.errstate(over="ignore"):  # an infinity is refused later
            feed[name] = x.astype(dtype)
        if dtype.kind in "iu":
            feeding.same_numbers(step, x, feed[name])
    return feed


def _expect_product(step: int, last: Last, h: np.ndarray, z: np.ndarray) -> None:
    """Check that the map multiplies its features by what was read of the graph."""
    wide, W = h.astype(np.float64), last.weight.astype(np.float64)
    if wide.shape[1:] != W.shape[1:] or not np.all(np.isfinite(z)):
        return  # said elsewhere
    bias = 0 if last.bias is None else last.bias.astype(np.float64)
    g = rounding.gamma(W.shape[1] + 4, rounding.unit_roundoff(z))
    bound = g * (np.abs(wide) @ np.abs(W).T + np.abs(bias))
    if not np.all(
        np.abs(wide @ W.T + bias - z) <= bound + float(np.finfo(z.dtype).tiny)
    ):
        raise refusal(last.name, f"gives other values in batch {step}")


def _expect_softmax(step: int, last: Last, made: Any, z: np.ndarray) -> None:
    """Check that the output is the logits, their softmax or sigmoid, or its log.

    A softmax of z is off by gamma_{2C+16} of itself times 1 + 2 max|z|, as `save` has
    it; the graph's and ours both are.
    """
    if np.shape(made) != z.shape:
        raise ValueError(
            f"output {last.output!r} must have the shape {z.shape} of the last linear "
            f"map {last.name!r}, got {np.shape(made)}; name the output of the logits"
        )
    if not np.all(np.isfinite(z)):
        return  # said later
    u, wide = rounding.unit_roundoff(z), z.astype(np.float64)
    if z.shape[1] == 1:
        log_p = log_softmax(np.concatenate([0 * wide, wide], axis=1))[:, 1:]
    else:
        log_p = log_softmax(wide)
    spread = 1 + 2 * np.max(np.abs(wide), axis=1, keepdims=True)
    g = 2 * rounding.gamma(2 * z.shape[1] + 16, u) * spread
    p, tiny = np.exp(log_p), float(np.finfo(z.dtype).tiny)
    near = np.abs(made - p) <= p * np.expm1(g) + tiny
    logarithm = np.all(np.abs(made - log_p) <= g)
    if not (np.array_equal(made, z) or np.all(near) or logarithm):
        raise ValueError(
            f"output {last.output!r} must be the softmax of the last linear map "
            f"{last.name!r} or its values, got others in batch {step}; a graph with "
            "more than a softmax after its last linear map cannot be exported"
        )
