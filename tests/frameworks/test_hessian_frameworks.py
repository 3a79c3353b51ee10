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
TORCH = {
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": torch.nn.GELU("tanh"),
    "identity": lambda z: z,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "softplus": lambda z: torch.nn.functional.softplus(z, threshold=1e9),
    "tanh": torch.tanh,
}
JAX = {
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
    layers = split(network, theta)
    for operation in network.operations:
        kind = operation["op"]
        if kind == "linear":
            X = torch.nn.functional.linear(X, *next(layers))
        elif kind == "conv2d":
            where = operation["stride"], operation["padding"]
            X = torch.nn.functional.conv2d(X, *next(layers), *where)
        elif kind == "avg_pool2d":
            pool = operation["kernel"], operation["stride"]
            X = torch.nn.functional.avg_pool2d(X, *pool)
        else:
            X = X.flatten(1) if kind == "flatten" else TORCH[kind](X)
    return torch.nn.functional.cross_entropy(X, labels)


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
