"""Class-indexed arrays: the canonical layout, stated once, and every shape check.

Letters used throughout refspec: N samples in all, C classes, K = C cross classes (or 1
where there is no cross class), T positions that share a layer's weights, a inputs and
b outputs of a layer, d the dimension of a vector, P the number of parameters.

Arrays are sample-major and sorted by class: class c is the slice
``offsets[c]:offsets[c + 1]`` of the first axis, so class means are contiguous
reductions and unequal classes cost nothing. Axis 1 of errors is the cross class c',
the label against which the loss was evaluated. A layer with shared weights has one
more axis t; its gradient is ``sum_t errors_t (x) features_t``, a bias is an appended
feature equal to 1, and ``vec`` is row-major: the gradient of a weight W (b, a) is
``ravel(errors features')``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from refspec import backend, checks
from refspec.backend import Array
from refspec.results import Result, View


@dataclass(frozen=True, slots=True, eq=False)
class ClassArray:
    """Vectors x_{i,c,c'} with weights w_{i,c,c'}, sorted by class.

    Parameters
    ----------
    values : Array, shape (N, K, d)
        K = C for errors and gradients, K = 1 for features.
    weights : Array, shape (N, K)
        Non-negative. The 2020 convention is ``p_{i,c,c'} / N``.
    labels : array of int, shape (N,)
        Non-decreasing, every class 0..C-1 present. Kept on the host.
    offsets : tuple of int, length C + 1
        Derived: class c is the slice ``offsets[c]:offsets[c + 1]``.

    Raises
    ------
    ValueError
        If a shape, a label, a weight or a value is not as above.
    TypeError
        If the arrays are of different namespaces.

    Examples
    --------
    >>> import numpy as np
    >>> ClassArray(np.ones((3, 1, 2)), np.full((3, 1), 1 / 3), [0, 0, 1]).offsets
    (0, 2, 3)
    """

    values: Array
    weights: Array
    labels: np.ndarray
    offsets: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        checks.expect_floating("values", self.values, "(N, K, d)", self.weights)
        N, K = self.values.shape[:2]
        checks.expect_shape(
            "weights", self.weights, "(N, K)", (N, K), "to match values"
        )
        labels, offsets = checks.sorted_labels(self.labels, N, None)
        if K not in (1, len(offsets) - 1):
            raise ValueError(
                f"values must have K = 1 or K = C = {len(offsets) - 1} on axis 1, got "
                f"{K}; axes are (sample, cross class, dimension)"
            )
        checks.expect_finite("values", self.values)
        checks.expect_finite("weights", self.weights)
        checks.expect_nonnegative("weights", self.weights)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "offsets", offsets)

    def __repr__(self) -> str:
        """Say the sizes, not the entries."""
        N, K, d = self.values.shape
        return f"ClassArray(N={N}, C={len(self.offsets) - 1}, K={K}, d={d})"


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One linear map of a network: what enters it and what comes back to it.

    Parameters
    ----------
    name : str
        As in the network it came from.
    features : Array, shape (N, T, a)
        Inputs of the map; T positions share the weights (T = 1 for a dense layer). A
        bias is an appended feature equal to 1.
    errors : Array, shape (N, C, T, b)
        Derivative of the loss at label c' with respect to the map's output.

    Raises
    ------
    ValueError
        If shapes do not fit together or a value is not finite.
    TypeError
        If the arrays are of different namespaces.

    Examples
    --------
    >>> import numpy as np
    >>> Layer("fc", np.ones((4, 1, 3)), np.ones((4, 2, 1, 5))).parameters
    15
    """

    name: str
    features: Array
    errors: Array

    def __post_init__(self) -> None:
        checks.expect_type("name of a layer", self.name, str, "name it, e.g. 'fc1'")
        where = f"features of layer {self.name!r}"
        checks.expect_floating(where, self.features, "(N, T, a)", self.errors)
        N, T = self.features.shape[:2]
        shape = tuple(self.errors.shape)
        if len(shape) != 4 or shape[0] != N or shape[2] != T:
            raise ValueError(
                f"errors of layer {self.name!r} must have shape (N, C, T, b) with "
                f"N = {N}, T = {T} to match features, got {shape}; axes are (sample, "
                "cross class, position, output), use T = 1 for a dense layer"
            )
        if 0 in (*self.features.shape, *shape):
            raise ValueError(
                f"layer {self.name!r} must have N, C, T, a, b >= 1, got features of "
                f"shape {tuple(self.features.shape)} and errors of shape {shape}; "
                "leave out a layer without parameters"
            )
        checks.expect_finite(where, self.features)
        checks.expect_finite(f"errors of layer {self.name!r}", self.errors)

    def __repr__(self) -> str:
        """Say the name and the sizes."""
        (N, T, a), b = self.features.shape, self.outputs
        return f"Layer({self.name!r}, N={N}, T={T}, a={a}, b={b})"

    @property
    def outputs(self) -> int:
        """Number of outputs b of the map."""
        return int(self.errors.shape[3])

    @property
    def parameters(self) -> int:
        """Number of parameters a b of the map, its bias included."""
        return int(self.features.shape[2]) * self.outputs

    def chosen(self, index: Array) -> Layer:
        """Return the same layer of chosen samples."""
        xp = backend.namespace(self.features)
        h, d = (xp.take(x, index, axis=0) for x in (self.features, self.errors))
        return Layer(self.name, h, d)


class OutputLayer(Layer):
    """The layer before the softmax, of errors p - e_c' that are formed when asked for.

    N C numbers in place of N C^2: `refspec.load` makes one of a large layer whose
    stored errors are these.

    Parameters
    ----------
    name : str
        As in the network it came from.
    features : Array, shape (N, 1, a)
        Inputs of the map; a bias is an appended feature equal to 1.
    probabilities : Array, shape (N, C)
        Softmax outputs.

    Raises
    ------
    ValueError
        If shapes do not fit together or a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.asarray([[0.25, 0.75]])
    >>> OutputLayer("fc", np.ones((1, 1, 3)), p).errors[0, :, 0]
    array([[-0.75,  0.75],
           [ 0.25, -0.25]])
    """

    __slots__ = ("probabilities",)
    probabilities: Array

    def __init__(self, name: str, features: Array, probabilities: Array) -> None:
        checks.expect_array("probabilities", probabilities, "(N, C)")
        sizes = {"N": probabilities.shape[0], "T": 1}
        checks.expect_array("features", features, "(N, T, a)", sizes=sizes)
        checks.expect_alike(features=features, probabilities=probabilities)
        checks.expect_type("name of a layer", name, str, "name it, e.g. 'fc1'")
        for key, x in (("name", name), ("features", features)):
            object.__setattr__(self, key, x)
        object.__setattr__(self, "probabilities", probabilities)

    @property
    def errors(self) -> Array:
        """The errors, shape (N, C, 1, C), formed anew each time they are asked for."""
        p = self.probabilities
        xp, C = backend.namespace(p), p.shape[1]
        own = xp.eye(C, dtype=p.dtype, device=backend.device(p))
        return misses(p[:, None, :], own, xp)[:, :, None, :]

    @property
    def outputs(self) -> int:
        """Number of outputs b of the map."""
        return int(self.probabilities.shape[1])

    def chosen(self, index: Array) -> Layer:
        """Return the same layer of chosen samples."""
        xp = backend.namespace(self.features)
        h, p = (xp.take(x, index, axis=0) for x in (self.features, self.probabilities))
        return OutputLayer(self.name, h, p)


@dataclass(frozen=True, slots=True, eq=False)
class ModelSection:
    """A network as plain data: enough to recompute features and errors.

    Parameters
    ----------
    inputs : Array, shape (N, ...)
        In the order of the snapshot's samples.
    operations : sequence of mappings
        One JSON-able mapping per step, e.g. ``{"op": "linear", "name": "fc1", "weight":
        "fc1.weight", "bias": "fc1.bias"}`` then ``{"op": "tanh"}``; see
        `refspec.models` for the operations it knows.
    parameters : mapping of str to Array
        The arrays that the operations name. Linear weights are (b, a).

    Raises
    ------
    ValueError
        If an operation names a parameter that is not there, or a value is not finite.
    """

    inputs: Array
    operations: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Array]

    def __post_init__(self) -> None:
        named = {"model inputs": self.inputs}
        advice = "give arrays by name, as refspec.models.section does"
        checks.expect_type("model parameters", self.parameters, Mapping, advice)
        named |= {f"model parameter {k!r}": x for k, x in self.parameters.items()}
        for name, value in named.items():
            checks.expect_some_array(name, value)
            checks.expect_finite(name, value)
        advice = "give one mapping a step"
        checks.expect_type("model operations", self.operations, Sequence, advice)
        for step, operation in enumerate(self.operations):
            checks.expect_type(f"model operation {step}", operation, Mapping, advice)
            for role in ("weight", "bias"):
                key = operation.get(role)
                if key is not None and key not in self.parameters:
                    raise ValueError(
                        f"model operation {step} ({operation.get('op')}) must name its "
                        f"{role} {key!r} among the parameters, got "
                        f"{sorted(self.parameters)}; add the array or correct the name"
                    )

    def __repr__(self) -> str:
        """Name the operations, and count the parameters."""
        steps = " -> ".join(str(x.get("op")) for x in self.operations)
        count = sum(math.prod(x.shape) for x in self.parameters.values())
        return f"ModelSection({steps}; {count} parameters)"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot(Result):
    """A classifier at one moment, seen through its samples; what all of refspec reads.

    Use `snapshot` to build one from unsorted arrays, logits or default weights.

    Parameters
    ----------
    layers : tuple of Layer
        At least one, names distinct.
    probabilities : Array, shape (N, C)
        Softmax outputs; rows sum to 1 within their rounding error.
    labels : array of int, shape (N,)
        Non-decreasing, in 0..C-1; a class may have no sample, and then no mass in any
        mean. Kept on the host.
    sample_weights : Array, shape (N,)
        Non-negative, sum 1 within rounding (1/N for a plain average).
    provenance : mapping
        Where it came from: framework, versions, architecture, class names, loss.
    model : ModelSection or None
        The network itself, if known.
    offsets : tuple of int, length C + 1
        Derived: class c is the slice ``offsets[c]:offsets[c + 1]``.

    Raises
    ------
    ValueError
        If anything is not as above; the message says what was expected.
    TypeError
        If arrays of different namespaces are mixed.
    """

    layers: tuple[Layer, ...]
    probabilities: Array
    labels: np.ndarray
    sample_weights: Array
    provenance: Mapping[str, Any] = field(default_factory=dict)
    model: ModelSection | None = None
    offsets: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", _expect_layers(self.layers))
        arrays = _arrays(self.layers)
        p = self.probabilities
        s = self.sample_weights
        checks.expect_floating("sample_weights", s, "(N,)")
        checks.expect_floating("probabilities", p, "(N, C)", s, *arrays)
        N, C = p.shape
        if C < 2:
            raise ValueError(
                f"probabilities must have C >= 2 columns, got {C}; a classifier has "
                "two classes at least (give both columns of a binary one)"
            )
        labels, offsets = checks.sorted_labels(self.labels, N, C)
        for what, x in (("probabilities", p), ("sample_weights", s)):
            checks.expect_finite(what, x)
            checks.expect_nonnegative(what, x)
        checks.expect_shape("sample_weights", s, "(N,)", (N,), "")
        checks.expect_sum_one("probabilities", p, 1)
        checks.expect_sum_one("sample_weights", s, 0)
        names = [layer.name for layer in self.layers]
        if len(set(names)) < len(names):
            raise ValueError(f"layer names must be distinct, got {names}; rename one")
        for layer in self.layers:
            if isinstance(layer, OutputLayer):
                if layer.probabilities.shape != (N, C):
                    raise ValueError(
                        f"probabilities of layer {layer.name!r} must have shape (N, C) "
                        f"= {(N, C)}, got {tuple(layer.probabilities.shape)}; give "
                        "those of the snapshot"
                    )
            elif layer.errors.shape[:2] != (N, C):
                raise ValueError(
                    f"errors of layer {layer.name!r} must have shape (N, C, T, b) with "
                    f"(N, C) = {(N, C)} to match probabilities, got "
                    f"{tuple(layer.errors.shape)}; axes are (sample, cross class, "
                    "position, output)"
                )
        advice = "give a mapping, e.g. {'framework': 'torch'}"
        checks.expect_type("provenance", self.provenance, Mapping, advice)
        kinds = (ModelSection, type(None))
        checks.expect_type("model", self.model, kinds, "None if it is not known")
        if self.model is not None and self.model.inputs.shape[0] != N:
            raise ValueError(
                f"model inputs must have N = {N} samples to match probabilities, got "
                f"{self.model.inputs.shape[0]}; keep them in the order of the labels"
            )
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    def __repr__(self) -> str:
        """Say the sizes and name the layers."""
        N, C = self.probabilities.shape
        P = sum(x.parameters for x in self.layers)
        names = [x.name for x in self.layers]
        shown = names if len(names) < 8 else [*names[:3], "...", *names[-2:]]
        network = "" if self.model is None else ", with its network"
        return f"Snapshot(N={N}, C={C}, P={P}; {', '.join(shown)}{network})"

    def view(self) -> View:
        """Give the sizes of every layer."""
        sizes = [(*x.features.shape[1:], x.errors.shape[3]) for x in self.layers]
        columns = dict(zip("Tab", zip(*sizes, strict=True), strict=True))
        columns |= {"parameters": tuple(x.parameters for x in self.layers)}
        N, C = self.probabilities.shape
        return View(
            "layer", [x.name for x in self.layers], columns, facts={"N": N, "C": C}
        )

    def layer(self, name: str) -> Layer:
        """Return the layer called `name`."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(
            f"layer must be one of {[x.name for x in self.layers]}, got {name!r}; "
            "choose one of these"
        )


def snapshot(
    layers: Sequence[Layer],
    labels: Array,
    *,
    logits: Array | None = None,
    probabilities: Array | None = None,
    sample_weights: Array | None = None,
    provenance: Mapping[str, Any] | None = None,
    model: ModelSection | None = None,
) -> Snapshot:
    """Build a Snapshot from arrays in any sample order.

    Samples are sorted by class (stably), probabilities come from the logits by a
    log-softmax (small ones keep their relative accuracy), weights default to 1/N.

    Parameters
    ----------
    layers : sequence of Layer
        Features (N, T, a) and errors (N, C, T, b).
    labels : Array of int, shape (N,)
        In 0..C-1; a class may have no sample.
    logits, probabilities : Array, shape (N, C)
        Exactly one of the two.
    sample_weights : Array, shape (N,), optional
        Non-negative, sum 1.
    provenance : mapping, optional
        Where the data came from.
    model : ModelSection, optional
        The network itself.

    Returns
    -------
    Snapshot
        Sorted by class.

    Raises
    ------
    ValueError
        If not exactly one of logits and probabilities is given, or as in Snapshot.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Layer("fc", np.ones((3, 1, 2)), np.zeros((3, 2, 1, 4)))
    >>> snapshot([layer], [1, 0, 1], logits=np.zeros((3, 2))).offsets
    (0, 1, 3)
    """
    if logits is not None and probabilities is None:
        checks.expect_floating("logits", logits, "(N, C)")
        checks.expect_finite("logits", logits)
        probabilities = backend.namespace(logits).exp(log_softmax(logits))
    elif probabilities is None or logits is not None:
        raise ValueError(
            "exactly one of logits and probabilities must be given, got "
            f"{'both' if logits is not None else 'neither'}; they tell the same"
        )
    layers = _expect_layers(layers)
    arrays = _arrays(layers)
    checks.expect_floating("probabilities", probabilities, "(N, C)", *arrays)
    if sample_weights is not None:
        checks.expect_floating("sample_weights", sample_weights, "(N,)", *arrays)
    xp = backend.namespace(probabilities)
    N = probabilities.shape[0]
    host = checks.host_labels(labels, N)
    if all(x.features.shape[0] == N for x in layers):
        order = np.argsort(host, kind="stable")
        if not np.array_equal(order, np.arange(N)):
            index = backend.from_host(order, probabilities)

            def sort(x: Array) -> Array:
                return xp.take(x, index, axis=0)

            host, probabilities = host[order], sort(probabilities)
            layers = tuple(x.chosen(index) for x in layers)
            sample_weights = None if sample_weights is None else sort(sample_weights)
            if isinstance(model, ModelSection) and model.inputs.shape[0] == N:
                inputs = sort(model.inputs)
                model = ModelSection(inputs, model.operations, model.parameters)
    if sample_weights is None:
        sample_weights = xp.full_like(probabilities[:, 0], 1 / max(N, 1))
    return Snapshot(
        layers,
        probabilities,
        host,
        sample_weights,
        {} if provenance is None else provenance,
        model,
    )


def _arrays(layers: Sequence[Layer]) -> list[Array]:
    """Return the arrays that layers are made of."""
    kept = [x.features for x in layers]
    return kept + [
        x.probabilities if isinstance(x, OutputLayer) else x.errors for x in layers
    ]


def misses(p: Array, hot: Array, xp: Any) -> Array:
    """Return p - e_y along the last axis, its entry y as minus the sum of the others.

    Then each vector sums to 0 and keeps its relative accuracy where p_y is nearly 1.
    """
    others = p * (1 - hot)
    return others - hot * xp.sum(others, axis=-1, keepdims=True)


def _expect_layers(layers: Any) -> tuple[Layer, ...]:
    """Refuse all but one or more layers; return them."""
    advice = "put each in a list: [Layer(name, features, errors)]"
    checks.expect_type("layers", layers, Sequence, advice)
    for layer in layers:
        checks.expect_type("each of layers", layer, Layer, advice)
    if not layers:
        raise ValueError("layers must hold at least one Layer, got none; add one")
    return tuple(layers)


def class_slices(offsets: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (c, start, stop) of the samples of every class."""
    yield from zip(range(len(offsets)), offsets, offsets[1:], strict=False)


def log_softmax(logits: Array) -> Array:
    """Return log probabilities, shape (N, C), without overflow or lost small ones."""
    xp = backend.namespace(logits)
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
