"""The Hessian against torch.func.hessian and jax.hessian, within certified bounds.

Both libraries compute in float64 from the same parameter vector. Either program is
within the radius of the exact matrix, so the two differ by at most twice that.
"""

import jax
import numpy as np
import pytest
import torch

from refspec import models
from refspec.hessian import hessian, hessian_vector_product
from refspec.hessian.bounds import hessian_radius
from refspec.models import operations

jax.config.update("jax_enable_x64", True)
# torch.func.hessian itself calls what torch deprecates
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")
F = torch.nn.functional
#: By name: a function of z and the operation's options.
TORCH = {
    "clip": lambda z, low=-1.0, high=1.0: F.hardtanh(z, low, high),
    "elu": lambda z, alpha=1.0, scale=1.0, rate=1.0: torch.where(
        z > 0, scale * z, scale * alpha * torch.expm1(rate * z)
    ),
    "hard_sigmoid": lambda z: F.relu6(z + 3) / 6,
    "hard_swish": lambda z: z * F.relu6(z + 3) / 6,
    "leaky_relu": lambda z, slope=0.01: F.leaky_relu(z, slope),
    "log_sigmoid": F.logsigmoid,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": torch.nn.GELU("tanh"),
    "identity": lambda z: z,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "softplus": lambda z, beta=1.0, threshold=1e9: F.softplus(z, beta, threshold),
    "tanh": torch.tanh,
}
JAX = {
    "clip": jax.nn.hard_tanh,
    "elu": jax.nn.elu,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_swish": jax.nn.hard_swish,
    "leaky_relu": jax.nn.leaky_relu,
    "log_sigmoid": jax.nn.log_sigmoid,
    "gelu": lambda z: jax.nn.gelu(z, False),
    "gelu_tanh": lambda z: jax.nn.gelu(z, True),
    "identity": lambda z: z,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jax.numpy.tanh,
}


def split(network, theta):
    """Weights (as given) and biases of each layer from refspec's vector."""
    start = 0
    shapes = models.layer_shapes(network)
    for operation in network.operations:
        if operation.get("name") in shapes:
            b, a = shapes[operation["name"]]
            matrix = theta[start : start + b * a].reshape(b, a)
            start += b * a
            shape = network.parameters[operation["weight"]].shape
            bias = operation["bias"] is not None
            yield (
                (matrix[:, :-1] if bias else matrix).reshape(shape),
                (matrix[:, -1] if bias else None),
            )


def torch_loss(network, theta, X, labels):
    layers, made = split(network, theta), [X]
    for k, operation in enumerate(network.operations):
        x = sum(made[i] for i in operation.get("of", [k]))
        made.append(torch_output(network, operation, layers, x))
    return F.cross_entropy(made[-1], labels)


def torch_output(network, operation, layers, x):
    kind, how = operation["op"], dict(operation)
    if kind == "linear":
        return F.linear(x, *next(layers))
    if kind.startswith("conv"):
        where = how["stride"], how["padding"], how.get("dilation", 1)
        return getattr(F, kind)(x, *next(layers), *where)
    if kind.startswith(("avg_pool", "max_pool")):
        where = how["kernel"], how["stride"], how.get("padding", 0)
        return getattr(F, kind)(x, *where)
    if kind == "batch_norm":
        roles = ("mean", "variance", "weight", "bias")
        fixed = [network.parameters.get(how[x] or "") for x in roles]
        fixed = [None if x is None else torch.tensor(x) for x in fixed]
        return F.batch_norm(x, *fixed, eps=how["epsilon"])
    if kind.startswith("flatten"):
        return (x if kind == "flatten" else x.movedim(1, -1)).flatten(1)
    options = {k: v for k, v in how.items() if k not in ("op", "of")}
    return TORCH[kind](x, **options)


def jax_loss(network, theta, X, labels):
    layers = split(network, theta)
    for operation in network.operations:
        kind = operation["op"]
        if kind == "linear":
            W, b = next(layers)
            X = X @ W.T + (0 if b is None else b)
        elif kind == "conv2d":
            W, b = next(layers)
            padding = [(p, p) for p in operation["padding"]]
            X = jax.lax.conv_general_dilated(X, W, operation["stride"], padding)
            X = X + (0 if b is None else b[None, :, None, None])
        elif kind == "avg_pool2d":
            window = (1, 1, *operation["kernel"])
            steps = (1, 1, *operation["stride"])
            X = jax.lax.reduce_window(X, 0.0, jax.lax.add, window, steps, "VALID")
            X = X / np.prod(operation["kernel"])
        else:
            X = X.reshape(len(X), -1) if kind == "flatten" else JAX[kind](X)
    return -jax.nn.log_softmax(X)[np.arange(len(labels)), labels].mean()


def problems():
    for activation in sorted(operations.ACTIVATIONS):
        rng = np.random.default_rng(1)
        start = models.mlp([5, 6, 4, 3], activation, rng=rng)
        yield f"{activation}-mlp", start, rng.normal(size=(9, 5)), rng
        start = models.cnn(
            (2, 7, 6), [3, 4], 3, activation=activation, stride=1, padding=1, rng=rng
        )
        yield f"{activation}-cnn", start, rng.normal(size=(4, 2, 7, 6)), rng


def layer(name, kind="linear", bias=True, **more):
    return {
        "op": kind, "name": name, "weight": name, "bias": f"{name}.b" * bias or None
    } | more  # fmt: skip


NORM = {
    "op": "batch_norm", "mean": "mean", "variance": "var",
    "weight": "gamma", "bias": "beta", "epsilon": 1e-5,
}  # fmt: skip
ONE, HALF = {"stride": [1, 1], "padding": [1, 1]}, {"stride": [2, 2], "padding": [1, 1]}
SOFTPLUS = {"op": "softplus", "beta": 2.0, "threshold": 3.0}
#: Operations, the shapes of their parameters, the shape of an input.
BUILT = {
    "a residual perceptron": (
        [
            layer("a"), {"op": "tanh"}, layer("b"), {"op": "silu", "of": [2, 3]},
            layer("c"), {"op": "elu", "of": [2, 4, 5], "alpha": 0.7}, layer("d"),
        ],
        {"a": (4, 3), "b": (4, 4), "c": (4, 4), "d": (3, 4)},
        (3,),
    ),
    "a sum of the inputs, twice": (
        [layer("a"), {"op": "tanh", "of": [0, 1, 1]}, layer("d")],
        {"a": (3, 3), "d": (3, 3)},
        (3,),
    ),
    "a residual network of convolutions": (
        [
            layer("a", "conv2d", False, **ONE), NORM, {"op": "relu"},
            {"op": "max_pool2d", "kernel": [3, 3], **HALF},
            layer("b", "conv2d", False, **HALF), NORM, {"op": "relu"},
            layer("c", "conv2d", **ONE),
            layer("s", "conv2d", False, stride=[2, 2], padding=[0, 0], of=[4]),
            {"op": "relu", "of": [8, 9]},
            {"op": "avg_pool2d", "kernel": [2, 2], "stride": [2, 2]},
            {"op": "flatten"}, layer("d"),
        ],
        {
            "a": (2, 1, 3, 3), "b": (2, 2, 3, 3), "c": (3, 2, 3, 3), "s": (3, 2, 1, 1),
            "d": (3, 3),
        },
        (1, 7, 7),
    ),
    "convolutions of a line": (
        [
            layer("a", "conv1d", stride=[1], padding=[2], dilation=[2]), SOFTPLUS,
            {"op": "max_pool1d", "kernel": [2], "stride": [2]},
            layer("b", "conv1d", stride=[2], padding=[0]),
            {"op": "leaky_relu", "slope": 0.3},
            {"op": "avg_pool1d", "kernel": [3], "stride": [2], "padding": [1]},
            {"op": "flatten_channels_last"}, layer("d"),
        ],
        {"a": (3, 2, 3), "b": (2, 3, 2), "d": (3, 4)},
        (2, 12),
    ),
    "convolutions of a volume": (
        [
            layer("a", "conv3d", stride=[1] * 3, padding=[1, 0, 1]), {"op": "gelu"},
            {"op": "avg_pool3d", "kernel": [2] * 3, "stride": [2] * 3},
            layer("b", "conv3d", stride=[1] * 3, padding=[0] * 3), {"op": "tanh"},
            {"op": "max_pool3d", "kernel": [1, 1, 2], "stride": [1, 1, 1]},
            {"op": "flatten"}, layer("d"),
        ],
        {"a": (2, 1, 2, 2, 2), "b": (2, 2, 2, 1, 2), "d": (3, 2)},
        (1, 4, 4, 5),
    ),
    "a normalised perceptron": (
        [layer("a"), NORM, {"op": "hard_swish"}, layer("d"), {"op": "log_sigmoid"}],
        {"a": (2, 3), "d": (3, 2)},
        (3,),
    ),
    "options": (
        [
            layer("a"), {"op": "elu", "alpha": 1.6, "scale": 1.05},
            layer("b"), {"op": "clip", "low": -0.5, "high": 2.0},
            layer("c"), SOFTPLUS, layer("d"),
        ],
        {"a": (4, 3), "b": (4, 4), "c": (4, 4), "d": (3, 4)},
        (3,),
    ),
}  # fmt: skip


def built(name):
    """The network, some samples and labels, of numbers drawn at random."""
    chain, shapes, sample = BUILT[name]
    rng = np.random.default_rng(len(name))
    parameters = {}
    for key, shape in shapes.items():
        parameters[key] = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        parameters[f"{key}.b"] = rng.normal(size=shape[0])
    fixed = {k: rng.normal(size=2) for k in ("mean", "gamma", "beta")}
    parameters |= fixed | {"var": rng.uniform(0.5, 2, size=2)}
    X = rng.normal(size=(5, *sample))
    return models.Network(chain, parameters), X, np.asarray([0, 1, 2, 1, 0])


@pytest.mark.parametrize("name", BUILT)
def test_torch_gives_the_hessian_of_other_networks(name, record_property):
    network, X, labels = built(name)
    theta = models.flatten(network)
    of_torch = torch.func.hessian(
        lambda t: torch_loss(network, t, torch.tensor(X), torch.tensor(labels))
    )(torch.tensor(theta)).numpy()
    radius = hessian_radius(network, X, labels)
    H = hessian(network, X, labels)
    products = hessian_vector_product(network, X, labels, np.eye(theta.size))
    for other in (of_torch, products):
        assert np.linalg.norm(H - other, 2) <= 2 * radius
    assert radius < np.linalg.norm(H, 2) / 1000  # not vacuous
    away = float(np.linalg.norm(H - of_torch, 2))
    record_property("error over radius", away / float(radius))
    wrong = [
        dict(x) for x in network.operations
    ]  # mutants: what is particular, changed
    for x in wrong:
        if "of" in x and len(x["of"]) > 1:
            x["of"] = [*x["of"], x["of"][0]]
        if "alpha" in x or "slope" in x:
            x |= {"alpha": 0.9} if "alpha" in x else {"slope": 0.31}
        if x["op"].startswith("max"):
            x["op"] = x["op"].replace("max", "avg")
        if x["op"] == "batch_norm":
            x["epsilon"] = 1e-4
    mutant = models.Network(wrong, network.parameters)
    assert np.linalg.norm(hessian(mutant, X, labels) - of_torch, 2) > 2 * radius


def both(network, X, labels):
    """Return refspec's, torch's and jax's Hessian and the certified radius."""
    theta = models.flatten(network)
    of_torch = torch.func.hessian(
        lambda t: torch_loss(network, t, torch.tensor(X), torch.tensor(labels))
    )(torch.tensor(theta)).numpy()
    of_jax = jax.jit(jax.hessian(lambda t: jax_loss(network, t, X, labels)))(theta)
    H, radius = hessian(network, X, labels), hessian_radius(network, X, labels)
    return H, of_torch, np.asarray(of_jax), radius


@pytest.mark.parametrize(
    ("name", "start", "X", "rng"),
    [pytest.param(*x, id=x[0]) for x in problems()],
)
def test_torch_and_jax_give_this_hessian(name, start, X, rng):
    theta = models.flatten(start)
    theta = theta + 0.2 * rng.normal(size=theta.shape)
    network = models.unflatten(start, theta)
    labels = rng.integers(0, 3, len(X))
    H, of_torch, of_jax, radius = both(network, X, labels)
    products = hessian_vector_product(network, X, labels, np.eye(theta.size))
    for other in (of_torch, of_jax, products):
        assert np.linalg.norm(H - other, 2) <= 2 * radius
    fisher = hessian(network, X, labels, part="fisher")
    assert np.linalg.norm(fisher - of_torch, 2) > 2 * radius
    if name.startswith("gelu-"):  # the two gelu differ by less than 0.001, and it shows
        chain = [
            {"op": "gelu_tanh"} if x["op"] == "gelu" else x for x in network.operations
        ]
        mutant = models.Network(chain, network.parameters)
        assert np.linalg.norm(hessian(mutant, X, labels) - of_jax, 2) > 2 * radius
    assert radius < np.linalg.norm(H, 2) / 1000  # not vacuous


def dead():
    """A relu unit that no sample turns on, in the first of two hidden layers."""
    rng = np.random.default_rng(2)
    network = models.mlp([3, 4, 3, 3], "relu", rng=rng)
    bias = np.asarray([-100.0, 0.1, 0.2, 0.3])
    network = models.Network(
        network.operations, dict(network.parameters) | {"linear1.bias": bias}
    )
    return network, rng.normal(size=(6, 3)), rng.integers(0, 3, 6)


def saturated():
    """Logits so far apart that probabilities underflow."""
    rng = np.random.default_rng(3)
    network = models.mlp([3, 4, 3], "tanh", rng=rng)
    weight = 2000 * network.parameters["linear2.weight"]
    network = models.Network(
        network.operations, dict(network.parameters) | {"linear2.weight": weight}
    )
    X = rng.normal(size=(5, 3))
    assert models.snapshot(network, X[:3], [0, 1, 2]).probabilities.min() == 0
    return network, X, rng.integers(0, 3, 5)


def small(N, C, labels):
    rng = np.random.default_rng(4)
    network = models.mlp([3, 4, C], "tanh", rng=rng)
    return network, rng.normal(size=(N, 3)), np.asarray(labels)


DEGENERATE = {
    "a dead relu unit": dead(),
    "a saturated softmax": saturated(),
    "one sample of two classes": small(1, 2, [1]),
    "one sample a class": small(4, 4, [2, 0, 3, 1]),
    "a class without samples": small(5, 3, [0, 2, 2, 0, 0]),
}


@pytest.mark.parametrize("name", sorted(DEGENERATE))
def test_degenerate_networks(name):
    network, X, labels = DEGENERATE[name]
    H, of_torch, of_jax, radius = both(network, X, labels)
    assert np.linalg.norm(H - of_torch, 2) <= 2 * radius
    assert np.linalg.norm(H - of_jax, 2) <= 2 * radius
    assert radius < np.linalg.norm(H, 2) / 1000  # not vacuous
    if name == "a dead relu unit":
        assert not np.any(of_torch[:4])
    fisher = hessian(network, X, labels, part="fisher")  # the mutant: no residual
    assert np.linalg.norm(fisher - of_jax, 2) > 2 * radius


def test_softmax_regression_is_convex_and_has_no_residual():
    rng = np.random.default_rng(5)
    network = models.softmax_regression(4, 3)
    network = models.unflatten(network, rng.normal(size=15))
    X, labels = rng.normal(size=(7, 4)), rng.integers(0, 3, 7)
    _, of_torch, of_jax, radius = both(network, X, labels)
    fisher = hessian(network, X, labels, part="fisher")
    assert not np.any(hessian(network, X, labels, part="residual"))
    assert np.linalg.norm(fisher - of_torch, 2) <= 2 * radius
    assert np.linalg.norm(fisher - of_jax, 2) <= 2 * radius
