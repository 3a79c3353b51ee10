"""What a network is: validated operations in a row, its parameters as one vector.

The operations are those of `refspec.models.operations`, named by plain mappings as in
`refspec.classes.ModelSection`. Each takes what the one before gives, or the sum of
those earlier outputs that it names, so that residual sums need no operation of their
own. The parameter vector runs layer by layer; a layer's part is its (b, a) or, with a
bias as last column, (b, a + 1) matrix raveled row-major, the order of errors (x)
features everywhere in refspec. Running averages and the rest of a batch norm are fixed
numbers, as an evaluated network has them, and no part of the vector.
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
from refspec.models.activations import ACTIVATIONS, LIPSCHITZ, OPTIONS, steepness
from refspec.models.operations import LAYERS, OPERATIONS, SPACE, sources
from refspec.text import visible


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Operations in a row and the arrays they name.

    Parameters
    ----------
    operations : sequence of mappings
        - ``{"op": "linear", "name": .., "weight": key, "bias": key or None}``
        - ``{"op": "conv2d", .., "stride": [s, s], "padding": [p, p]}``, and conv1d,
          conv3d; ``"dilation": [d, d]`` if not 1
        - ``{"op": "max_pool2d", "kernel": [k, k], "stride": [s, s]}``, avg_pool2d, and
          both in 1d and 3d; ``"padding": [p, p]`` if not 0
        - ``{"op": "batch_norm", "mean": key, "variance": key, "weight": key or None,
          "bias": key or None, "epsilon": number}``, with the averages of training
        - ``{"op": "flatten"}``, or flatten_channels_last
        - an activation: tanh, relu, sigmoid, softplus, gelu (exact), gelu_tanh, silu,
          leaky_relu, elu, clip, hard_sigmoid, hard_swish, log_sigmoid, identity, some
          with options, see `refspec.models.activations`

        ``"of": [k, ...]`` beside any of them: it takes the sum of these outputs, 0 the
        inputs and k >= 1 what operation k gives, counted from 1; by default the one
        before.
    parameters : mapping of str to Array
        Weights (b, a), or `(out, in, *kernel)` of a convolution; biases (b,); of a
        batch norm (channels,). One dtype.

    Raises
    ------
    ValueError
        If an operation is unknown or incomplete, a parameter is missing or has the
        wrong shape, an output is not used, or two layers do not chain.

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
    matrices = (_matrix(x, network.parameters) for x in layers)
    return xp.concat([xp.reshape(matrix, (-1,)) for matrix in matrices])


def weight_matrices(
    section: ModelSection | None, *, biases: bool = True
) -> dict[str, Array]:
    """Return the weight matrix (b, a) of every layer, its bias the last column.

    Whether or not refspec knows the operations; {} without a model section.
    """
    steps = () if section is None else section.operations
    return {
        str(step["name"]): _matrix(step, section.parameters, biases)  # type: ignore[union-attr]
        for step in steps
        if step.get("name") is not None and step.get("weight") is not None
    }


def _matrix(
    operation: Mapping[str, Any], parameters: Mapping[str, Array], biases: bool = True
) -> Array:
    """Return the weights of a layer as a matrix, its bias the last column."""
    weight = parameters[operation["weight"]]
    xp = backend.namespace(weight)
    matrix = xp.reshape(weight, (weight.shape[0], -1))
    if not biases or operation.get("bias") is None:
        return matrix
    return xp.concat([matrix, parameters[operation["bias"]][:, None]], axis=1)


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
    parameters, start = dict(network.parameters), 0
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
        said = snapshot.provenance.get("without_network")
        why = f", because {visible(said, 300)}" if isinstance(said, str) else ""
        raise ValueError(
            f"snapshot must have a model section, got none{why}; export a network of "
            "operations that refspec.models.Network lists, or build the snapshot with "
            "refspec.models.snapshot"
        )
    network = from_section(snapshot.model)
    like = next(iter(network.parameters.values()))
    return network, backend.namespace(like).astype(snapshot.model.inputs, like.dtype)


def in_format(
    network: Network, X: Array, dtype: str = "float64"
) -> tuple[Network, Array]:
    """Return a network and its inputs in a format: in float64 the same numbers."""
    xp = backend.namespace(X)
    kind = getattr(xp, dtype)
    made = {k: xp.astype(v, kind) for k, v in network.parameters.items()}
    return Network(network.operations, made), xp.astype(X, kind)


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
        _expect_sources(step, operation)
        if kind in SPACE:
            _expect_window(step, operation)
        if kind in LAYERS:
            names.append(operation.get("name", ""))
        if kind in LAYERS or kind == "batch_norm":
            _expect_parameters(step, operation, network.parameters)
        if kind == "batch_norm":
            _expect_number(step, operation, "epsilon")
            variance = network.parameters[operation["variance"]]
            checks.expect_nonnegative(f"variance of operation {step}", variance)
        for option in OPTIONS.get(kind, ()):
            if option in operation:
                _expect_number(step, operation, option)
        if kind in ACTIVATIONS and not steepness(operation) <= LIPSCHITZ:
            raise ValueError(
                f"operation {step} ({kind}) must have options of a sense, with three "
                f"derivatives of at most {LIPSCHITZ:g} for the bounds, got "
                f"{dict(operation)}; rewrite it with others"
            )
    if not names or "" in names or len(set(names)) < len(names):
        raise ValueError(
            f"a network must have layers (linear, conv2d) with distinct names, got "
            f"{names}; name every layer"
        )


def _expect_number(step: int, operation: Mapping[str, Any], option: str) -> None:
    """Check that an option is a finite number."""
    x = operation.get(option)
    good = isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)
    if not good:
        raise ValueError(
            f"{option} of operation {step} ({operation['op']}) must be a finite "
            f"number, got {x!r}; give one"
        )


def _expect_sources(step: int, operation: Mapping[str, Any]) -> None:
    """Check that what enters an operation is made before it."""
    of = operation.get("of", [step])
    good = isinstance(of, list | tuple) and of and all(type(k) is int for k in of)
    if not good or not 0 <= min(of) <= max(of) <= step:
        raise ValueError(
            f"of in operation {step} must list outputs among 0..{step}, 0 the inputs "
            f"and k what operation k gives, from 1, got {of!r}; correct it"
        )


def _expect_window(step: int, operation: Mapping[str, Any]) -> None:
    """Check the sizes of a convolution's or a pooling's window."""
    kind, d = operation["op"], SPACE[operation["op"]]
    least = {"stride": 1}
    if kind not in LAYERS:
        least["kernel"] = 1
    if kind in LAYERS or operation.get("padding") is not None:
        least["padding"] = 0
    if operation.get("dilation") is not None:
        least["dilation"] = 1
    for role, smallest in least.items():
        sizes = operation.get(role)
        if (
            not isinstance(sizes, list | tuple)
            or [type(x) for x in sizes] != [int] * d
            or min(sizes) < smallest
        ):
            give = ("[length]", "[rows, columns]", "[depth, rows, columns]")[d - 1]
            raise ValueError(
                f"{role} of operation {step} ({kind}) must be {d} integers >= "
                f"{smallest}, got {sizes!r}; give {give}"
            )
    if kind not in LAYERS and "padding" in least:
        kernel, padding = operation["kernel"], operation["padding"]
        if any(2 * p > k for k, p in zip(kernel, padding, strict=True)):
            raise ValueError(
                f"padding of operation {step} ({kind}) must be at most half the kernel "
                f"{list(kernel)}, got {list(padding)}; a window of nothing has no value"
            )


def _expect_parameters(
    step: int, operation: Mapping[str, Any], parameters: Mapping[str, Array]
) -> None:
    """Check that an operation's parameters are there and of the right shape."""
    kind = operation["op"]
    roles = ["weight", "bias"]
    if kind == "batch_norm":
        roles = ["mean", "variance", *roles]
    axes = 1 if kind == "batch_norm" else 2 + SPACE.get(kind, 0)
    for role in roles:
        key = operation.get(role)
        if key is None and (role == "bias" or (role, axes) == ("weight", 1)):
            continue
        if key is None or key not in parameters:
            raise ValueError(
                f"operation {step} ({kind}) must name its {role}, got {key!r} "
                f"and parameters {sorted(parameters)}; add the array, or rename"
            )
        x, first = parameters[key], next(iter(parameters.values()))
        xp = backend.namespace(x, first)
        shape = tuple(x.shape)
        rows = next(iter(parameters[operation[roles[0]]].shape), 0)  # of a number, none
        count, wanted = 1, f"(b,) = ({rows},)"
        if role == "weight" and axes > 1:
            count, wanted = axes, "(b, a)" if axes == 2 else "(out, in, *kernel)"
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
    """Check that each operation takes what enters it, as far as it is known.

    Known of every output: the axes of space (0: flat, None: any), how many features
    or channels, and whether exactly or up to a factor, the positions of an image.
    """
    kinds = {0: "flat", 1: "line", 2: "image", 3: "volume", None: "any"}
    made: list[tuple[int | None, int, bool]] = [(None, 0, False)]
    used = {len(network.operations)}
    for step, operation in enumerate(network.operations):
        op, of = operation["op"], sources(operation, step)
        used.update(of)
        # of the outputs that are added the first that is known best stands for all
        axes, width, exact = min(
            (made[k] for k in of), key=lambda x: (not x[2], not x[1])
        )
        for other in (made[k] for k in of):
            if other[0] not in (None, axes) or (other[2] and other[1] != width):
                raise ValueError(
                    f"operation {step} ({op}) must be given a sum of like outputs, got "
                    f"{kinds[axes]} ones of {width} and {kinds[other[0]]} ones of "
                    f"{other[1]}; correct of"
                )
        wants = 0 if op == "linear" else SPACE.get(op)
        if wants is not None and axes not in (None, wants):
            raise ValueError(
                f"operation {step} ({op}) must be given {kinds[wants]} samples, got "
                f"{kinds[axes]} ones; put flatten between images and linear layers"
            )
        axes = axes if wants is None else wants
        if op.startswith("flatten") and axes != 0:
            axes, exact = 0, False
        inner = 0
        if op in LAYERS:
            out, inner = network.parameters[operation["weight"]].shape[:2]
        elif op == "batch_norm":
            out = inner = network.parameters[operation["mean"]].shape[0]
        if inner:
            if inner != width if exact else width and inner % width:
                raise ValueError(
                    f"weight of operation {step} ({operation.get('name', op)!r}) must "
                    f"take {'' if exact else 'a multiple of '}{width} inputs, what "
                    f"comes before it gives, got {inner}; the weights do not chain"
                )
            width, exact = out, True
        made.append((axes, width, exact))
    unused = sorted(set(range(len(made))) - used - {0})
    if unused:
        raise ValueError(
            f"every operation's output must be used, got none for {unused}, counted "
            "from 1; name them in of, or leave them out"
        )
