"""What a network is: a validated chain of operations, its parameters as one vector.

The operations are those of `refspec.models.operations`, named by plain mappings as in
`refspec.classes.ModelSection`. The parameter vector runs layer by layer; a layer's part
is its (b, a) or, with a bias as last column, (b, a + 1) matrix raveled row-major, the
order of errors (x) features everywhere in refspec.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from refspec import backend, checks
from refspec.backend import Array
from refspec.classes import ModelSection, Snapshot
from refspec.models.operations import ACTIVATIONS, LAYERS, OPERATIONS


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A chain of operations and the arrays they name.

    Parameters
    ----------
    operations : sequence of mappings
        ``{"op": "linear", "name": .., "weight": key, "bias": key or None}``,
        ``{"op": "conv2d", .., "stride": [s, s], "padding": [p, p]}``, ``{"op":
        "avg_pool2d", "kernel": [k, k], "stride": [s, s]}``, ``{"op": "flatten"}`` or
        one of the activations tanh, relu, sigmoid, softplus, gelu (exact), gelu_tanh,
        silu, identity.
    parameters : mapping of str to Array
        Weights (b, a), or (out, in, kh, kw) for conv2d; biases (b,). One dtype.

    Raises
    ------
    ValueError
        If an operation is unknown or incomplete, a parameter is missing or has the
        wrong shape, or two layers do not chain.

    Examples
    --------
    >>> import numpy as np
    >>> linear = {"op": "linear", "name": "fc", "weight": "W", "bias": None}
    >>> layer_shapes(Network([linear], {"W": np.ones((3, 2))}))
    {'fc': (3, 2)}
    """

    operations: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Array]

    def __post_init__(self) -> None:
        advice = "see refspec.models.Network"
        checks.expect_type("operations", self.operations, (list, tuple), advice)
        checks.expect_type("parameters", self.parameters, Mapping, advice)
        for k, x in enumerate(self.operations):
            checks.expect_type(f"operation {k} of operations", x, Mapping, advice)
        frozen = tuple(MappingProxyType(dict(x)) for x in self.operations)
        object.__setattr__(self, "operations", frozen)
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))
        _expect_operations(self)
        _expect_chain(self)

    def __repr__(self) -> str:
        """Name the operations, and count the parameters."""
        steps = [str(x["op"]) for x in self.operations]
        shown = steps if len(steps) <= 12 else [*steps[:6], "...", *steps[-6:]]
        count = sum(b * a for b, a in layer_shapes(self).values())
        return f"Network({' -> '.join(shown)}; {count} parameters)"


def layer_shapes(network: Network) -> dict[str, tuple[int, int]]:
    """Return (outputs, inputs with the bias) of each layer, in parameter order."""
    shapes = {}
    for operation in _layers(network):
        out, *inner = network.parameters[operation["weight"]].shape
        bias = operation.get("bias") is not None
        shapes[operation["name"]] = (int(out), math.prod(inner) + bias)
    return shapes


def flatten(network: Network) -> Array:
    """Return the parameter vector, shape (P,), layer by layer.

    Examples
    --------
    >>> network = mlp([2, 3], rng=np.random.default_rng(0))
    >>> flatten(unflatten(network, np.arange(9.0))).tolist() == list(range(9))
    True
    """
    layers = _layers(network)
    xp = backend.namespace(*network.parameters.values())
    pieces = []
    for operation in layers:
        weight = network.parameters[operation["weight"]]
        matrix = xp.reshape(weight, (weight.shape[0], -1))
        if operation.get("bias") is not None:
            bias = network.parameters[operation["bias"]]
            matrix = xp.concat([matrix, bias[:, None]], axis=1)
        pieces.append(xp.reshape(matrix, (-1,)))
    return xp.concat(pieces)


def unflatten(network: Network, vector: Array) -> Network:
    """Return the network with its parameters read from a vector of shape (P,).

    Raises
    ------
    ValueError
        If the vector does not have P entries.
    """
    shapes = layer_shapes(network)
    if not hasattr(vector, "dtype"):
        checks.expect_array("vector", vector, "(P,)")
    xp = backend.namespace(vector)
    P = sum(b * a for b, a in shapes.values())
    if tuple(vector.shape) != (P,):
        raise ValueError(
            f"the parameter vector must have shape (P,) = ({P},), got "
            f"{tuple(vector.shape)}; refspec.models.flatten gives its order"
        )
    parameters, start = {}, 0
    for operation, (b, a) in zip(_layers(network), shapes.values(), strict=True):
        matrix = xp.reshape(vector[start : start + b * a], (b, a))
        start += b * a
        if operation.get("bias") is not None:
            parameters[operation["bias"]] = matrix[:, -1]
            matrix = matrix[:, :-1]
        shape = network.parameters[operation["weight"]].shape
        parameters[operation["weight"]] = xp.reshape(matrix, tuple(shape))
    return Network(network.operations, parameters)


def of_snapshot(snapshot: Snapshot) -> tuple[Network, Array]:
    """Return the network a snapshot holds, and its inputs in the network's precision.

    Parameters
    ----------
    snapshot : Snapshot, with a model section

    Returns
    -------
    Network, Array (N, ...)
        In the order of the snapshot's samples.

    Raises
    ------
    ValueError
        If there is no model section, or it is not a network that refspec knows.

    Examples
    --------
    >>> import refspec
    >>> network, X = of_snapshot(refspec.datasets.digits_mlp())
    >>> list(layer_shapes(network)), X.shape
    (['fc1', 'fc2', 'fc3'], (400, 64))
    """
    checks.expect_type(
        "snapshot", snapshot, Snapshot, "make one with refspec.snapshot(...)"
    )
    if snapshot.model is None:
        raise ValueError(
            "snapshot must have a model section, got none; export the network "
            "as a sequential model, or build the snapshot with refspec.models.snapshot"
        )
    network = from_section(snapshot.model)
    like = next(iter(network.parameters.values()))
    return network, backend.namespace(like).astype(snapshot.model.inputs, like.dtype)


def in_double(network: Network, X: Array) -> tuple[Network, Array]:
    """Return a network and its inputs in float64: the same numbers."""
    xp = backend.namespace(X)
    wide = {k: xp.astype(v, xp.float64) for k, v in network.parameters.items()}
    return Network(network.operations, wide), xp.astype(X, xp.float64)


def from_section(section: ModelSection) -> Network:
    """Return the network that an export's model section holds."""
    checks.expect_type(
        "section", section, ModelSection, "take the model of a snapshot that has one"
    )
    return Network(section.operations, section.parameters)


def to_section(network: Network, X: Array) -> ModelSection:
    """Return the network with its inputs X (N, ...) as an export's model section."""
    checks.expect_type("network", network, Network, "make one, e.g. with mlp")
    return ModelSection(
        X, [dict(x) for x in network.operations], dict(network.parameters)
    )


def softmax_regression(features: int, classes: int) -> Network:
    """Build multinomial logistic regression, all parameters zero.

    The loss is convex, so training needs no random start.

    Examples
    --------
    >>> layer_shapes(softmax_regression(4, 3))
    {'linear1': (3, 5)}
    """
    features = checks.expect_size("features", features, least=1)
    classes = checks.expect_size("classes", classes, least=2)
    weights = {"linear1.weight": np.zeros((classes, features))}
    return Network([_linear(1)], weights | {"linear1.bias": np.zeros(classes)})


def mlp(
    dims: Sequence[int],
    activations: str | Sequence[str] = "tanh",
    *,
    rng: np.random.Generator,
) -> Network:
    """Build a multilayer perceptron with Glorot weights and zero biases.

    Parameters
    ----------
    dims : sequence of int: inputs, hidden widths, classes
    activations : str or sequence of str
        One for all hidden layers, or one each.
    rng : numpy.random.Generator
        Draws the weights (NumPy, float64).

    Returns
    -------
    Network
        Layers ``linear1``, ``linear2``, ...

    Raises
    ------
    ValueError
        If there are fewer than two dims, or not one activation per hidden layer.

    Examples
    --------
    >>> layer_shapes(mlp([4, 5, 3], "relu", rng=np.random.default_rng(0)))
    {'linear1': (5, 5), 'linear2': (3, 6)}
    """
    checks.expect_type("dims", dims, (list, tuple), "e.g. [64, 32, 10]")
    checks.expect_type(
        "activations",
        activations,
        (str, list, tuple),
        "one name, or one each",
    )
    dims = [checks.expect_size("each of dims", n, least=1) for n in dims]
    checks.expect_generator("rng", rng)
    hidden = len(dims) - 2
    given = [activations] * hidden if isinstance(activations, str) else [*activations]
    if hidden < 0 or len(given) != hidden:
        raise ValueError(
            f"an MLP takes dims of length L + 1 >= 2 and L - 1 activations, got "
            f"{len(dims)} dims and {len(given)} activations; give one activation, or "
            "one per hidden layer"
        )
    for name in given:
        checks.expect_choice("each of activations", name, ACTIVATIONS)
    chain: list[dict[str, Any]] = []
    parameters = {}
    for k, (a, b) in enumerate(itertools.pairwise(dims), start=1):
        chain += [_linear(k), *({"op": x} for x in given[k - 1 : k])]
        parameters[f"linear{k}.weight"] = rng.normal(size=(b, a)) * (2 / (a + b)) ** 0.5
        parameters[f"linear{k}.bias"] = np.zeros(b)
    return Network(chain, parameters)


def cnn(
    shape: tuple[int, int, int],
    channels: Sequence[int],
    classes: int,
    *,
    activation: str = "relu",
    kernel: int = 3,
    stride: int = 1,
    padding: int = 1,
    pool: int = 2,
    rng: np.random.Generator,
) -> Network:
    """Build a small CNN: conv2d, activation, avg_pool2d per stage; flatten; linear.

    Parameters
    ----------
    shape : (channels, height, width), of one input
    channels : sequence of int, outputs of each stage
    classes : int, number of logits
    activation : str, after every convolution
    kernel, stride, padding : int, of every convolution
    pool : int
        Kernel and stride of every pooling; 1 leaves it out.
    rng : numpy.random.Generator
        Draws the weights (NumPy, float64), Glorot; biases are zero.

    Returns
    -------
    Network
        Layers ``conv1``, ..., and the last ``linear``.

    Raises
    ------
    ValueError
        If an image becomes smaller than a window.

    Examples
    --------
    >>> network = cnn((1, 8, 8), [4, 6], 10, rng=np.random.default_rng(0))
    >>> layer_shapes(network)
    {'conv1': (4, 10), 'conv2': (6, 37), 'linear3': (10, 25)}
    """
    chain: list[dict[str, Any]] = []
    parameters = {}
    for name, x in (("shape", shape), ("channels", channels)):
        checks.expect_type(name, x, (list, tuple), "e.g. (1, 8, 8) and [4, 6]")
    shape_of, stages = (
        [checks.expect_size(f"each of {name}", n, least=1) for n in x]
        for name, x in (("shape", shape), ("channels", channels))
    )
    if len(shape_of) != 3 or not stages:
        raise ValueError(
            "shape must be (channels, height, width) and channels not empty, got "
            f"{shape_of} and {stages}; describe one input and each stage"
        )
    sizes = {"classes": (classes, 2), "kernel": (kernel, 1), "stride": (stride, 1)}
    sizes |= {"padding": (padding, 0), "pool": (pool, 1)}
    for name, (n, least) in sizes.items():
        checks.expect_size(name, n, least=least)
    checks.expect_choice("activation", activation, ACTIVATIONS)
    checks.expect_generator("rng", rng)
    a, *size = shape_of
    for k, b in enumerate(stages, start=1):
        chain += [
            _linear(k, "conv")
            | {"op": "conv2d", "stride": [stride] * 2}
            | {"padding": [padding] * 2},
            {"op": activation},
        ]
        chain += [{"op": "avg_pool2d", "kernel": [pool] * 2, "stride": [pool] * 2}] * (
            pool > 1
        )
        scale = (2 / ((a + b) * kernel**2)) ** 0.5
        parameters[f"conv{k}.weight"] = rng.normal(size=(b, a, kernel, kernel)) * scale
        parameters[f"conv{k}.bias"] = np.zeros(b)
        before, a = size, b
        size = [((n + 2 * padding - kernel) // stride + 1) // pool for n in size]
        if min(size) < 1:
            raise ValueError(
                f"stage {k} must leave an image of at least 1 x 1, got {before} in "
                f"and {size} out; use fewer stages, padding, or a smaller pool"
            )
    k, width = len(stages) + 1, a * math.prod(size)
    chain += [{"op": "flatten"}, _linear(k)]
    scale = (2 / (width + classes)) ** 0.5
    parameters[f"linear{k}.weight"] = rng.normal(size=(classes, width)) * scale
    parameters[f"linear{k}.bias"] = np.zeros(classes)
    return Network(chain, parameters)


def _linear(k: int, kind: str = "linear") -> dict[str, Any]:
    name = f"{kind}{k}"
    return {"op": kind, "name": name} | {x: f"{name}.{x}" for x in ("weight", "bias")}


def _layers(network: Network) -> list[Mapping[str, Any]]:
    checks.expect_type("network", network, Network, "make one, e.g. with mlp")
    return [x for x in network.operations if x["op"] in LAYERS]


def _expect_operations(network: Network) -> None:
    """Check each operation on its own: known, complete, its parameters there."""
    names: list[str] = []
    for step, operation in enumerate(network.operations):
        kind = operation.get("op")
        if kind not in OPERATIONS:
            raise ValueError(
                f"operation {step} must be one of {', '.join(OPERATIONS)}, got "
                f"{kind!r}; rewrite the network with these"
            )
        pairs = {"conv2d": ("stride", "padding"), "avg_pool2d": ("kernel", "stride")}
        for role in pairs.get(kind, ()):
            pair, least = operation.get(role), int(role != "padding")
            if (
                not isinstance(pair, list | tuple)
                or [type(x) for x in pair] != [int, int]
                or min(pair) < least
            ):
                raise ValueError(
                    f"{role} of operation {step} ({kind}) must be two integers >= "
                    f"{least}, got {pair!r}; give [rows, columns]"
                )
        if kind in LAYERS:
            names.append(operation.get("name", ""))
            _expect_weights(step, operation, network.parameters)
    if not names or "" in names or len(set(names)) < len(names):
        raise ValueError(
            f"a network must have layers (linear, conv2d) with distinct names, got "
            f"{names}; name every layer"
        )


def _expect_weights(
    step: int, operation: Mapping[str, Any], parameters: Mapping[str, Array]
) -> None:
    """Check that a layer's parameters are there and of the right shape."""
    kind = operation["op"]
    for role in ("weight", "bias"):
        key = operation.get(role)
        if role == "bias" and key is None:
            continue
        if key is None or key not in parameters:
            raise ValueError(
                f"operation {step} ({kind}) must name its {role}, got {key!r} "
                f"and parameters {sorted(parameters)}; add the array, or rename"
            )
        x, first = parameters[key], next(iter(parameters.values()))
        xp = backend.namespace(x, first)
        shape = tuple(x.shape)
        rows = next(iter(parameters[operation["weight"]].shape), 0)  # of a number, none
        wanted = {
            "weight": "(out, in, kh, kw)" if kind == "conv2d" else "(b, a)",
            "bias": f"(b,) = ({rows},)",
        }[role]
        count = {"weight": 4 if kind == "conv2d" else 2, "bias": 1}[role]
        if len(shape) != count or 0 in shape or (count == 1 and shape != (rows,)):
            raise ValueError(
                f"{role} {key!r} of {kind} must have shape {wanted}, got {shape}; "
                "transpose or reshape it"
            )
        if not xp.isdtype(x.dtype, "real floating") or x.dtype != first.dtype:
            raise ValueError(
                f"parameters must share one real floating dtype, got {x.dtype} for "
                f"{key!r} and {first.dtype}; convert with xp.astype"
            )
        checks.expect_finite(f"parameter {key!r}", x)


def _expect_chain(network: Network) -> None:
    """Check that each layer takes what the one before gives, as far as it is known.

    `width` counts features (channels of an image); after flattening an image it is
    known only up to a factor, the number of positions.
    """
    kind, width, exact = "any", 0, False
    for step, operation in enumerate(network.operations):
        op = operation["op"]
        wants = {"linear": "flat", "conv2d": "image", "avg_pool2d": "image"}.get(op)
        if wants and kind not in ("any", wants):
            raise ValueError(
                f"operation {step} ({op}) must be given {wants} samples, got {kind} "
                "ones; put flatten between images and linear layers"
            )
        kind = wants or kind
        if op == "flatten" and kind == "image":
            kind, exact = "flat", False
        if op in LAYERS:
            out, inner = network.parameters[operation["weight"]].shape[:2]
            if inner != width if exact else width and inner % width:
                raise ValueError(
                    f"weight of operation {step} ({operation['name']!r}) must take "
                    f"{'' if exact else 'a multiple of '}{width} inputs, what comes "
                    f"before it gives, got {inner}; the weights do not chain"
                )
            width, exact = out, True
