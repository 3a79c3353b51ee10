"""Classifiers in JAX that differentiation is tested on: name -> (function, W, inputs).

Plain functions, Flax (linen and nnx) and Equinox.
"""

import equinox as eqx
import jax
import numpy as np
from flax import linen, nnx
from jax import lax
from jax import numpy as jnp

N, C = 6, 3
LABELS = np.asarray([1, 0, 2, 2, 0, 1])


def leaf(rng, *shape):
    return rng.normal(size=shape) / np.prod(shape[:-1]) ** 0.5


def dense(rng):
    W = {"a": leaf(rng, 4, 5), "b": leaf(rng, 5), "scale": leaf(rng, 5)}
    W["z"] = leaf(rng, 5, C)
    return lambda W, x: (jnp.tanh(x @ W["a"] + W["b"]) * W["scale"]) @ W["z"], W


def tied(rng):
    W = {"w": leaf(rng, 4, 4), "z": leaf(rng, 4, C)}
    return lambda W, x: jnp.tanh(jnp.tanh(x @ W["w"]) @ W["w"].T) @ W["z"], W


def scanned(rng):
    """A recurrence in a loop."""
    W = {"in": leaf(rng, 4, 5), "h": leaf(rng, 5, 5), "z": leaf(rng, 5, C)}

    def logits(W, x):
        def step(h, y):
            h = jnp.tanh(y @ W["in"] + h @ W["h"])
            return h, None

        start = jnp.zeros((len(x), 5), x.dtype)
        return lax.scan(step, start, jnp.swapaxes(x, 0, 1))[0] @ W["z"]

    return logits, W


def grouped(rng):
    """A depthwise convolution, and a transposed one."""
    W = {"c": leaf(rng, 3, 3, 1, 4), "t": leaf(rng, 2, 2, 4, 2), "z": leaf(rng, 2, C)}
    numbers = ("NHWC", "HWIO", "NHWC")

    def logits(W, x):
        x = lax.conv_general_dilated(
            x, W["c"], (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=2
        )
        x = lax.conv_transpose(jnp.tanh(x), W["t"], (2, 2), "VALID")
        return jax.nn.softplus(x).mean((1, 2)) @ W["z"]

    return logits, W


@jax.custom_vjp
def squared(x):
    return x * x


squared.defvjp(lambda x: (x * x, x), lambda x, g: (2 * x * g,))


def reverse_only(rng):
    """A reverse mode of its own, and no forward mode."""
    W = {"a": leaf(rng, 4, 5), "z": leaf(rng, 5, C)}
    return lambda W, x: squared(jnp.tanh(x @ W["a"])) @ W["z"], W


class Norms(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(4, (3, 3), feature_group_count=2)(x)
        x = linen.BatchNorm(use_running_average=True)(x)
        x = linen.GroupNorm(2)(linen.relu(x))
        x = linen.ConvTranspose(2, (2, 2), strides=(2, 2))(x).mean((1, 2))
        return linen.Dense(C)(linen.LayerNorm()(x))


class Attending(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Embed(9, 8)(x)
        x = x + linen.MultiHeadDotProductAttention(2)(linen.LayerNorm()(x))
        return linen.Dense(C)(x.mean(1))


class Recurrent(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(C)(
            linen.RNN(linen.OptimizedLSTMCell(5, param_dtype=x.dtype))(x)[:, -1]
        )


def flax(module, example):
    def build(rng):
        W = module.init(jax.random.key(0), example)
        moved = jax.tree.map(lambda x: x + 0.3 * np.abs(leaf(rng, *x.shape)), W)
        return module.apply, moved

    return build


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(4, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs, use_running_average=True)
        self.z = nnx.Linear(5, C, rngs=rngs)

    def __call__(self, x):
        return self.z(jnp.tanh(self.norm(self.a(x))))


def of_nnx(kind):
    def build(_):
        graph, state, rest = nnx.split(kind(nnx.Rngs(0)), nnx.Param, ...)
        return lambda state, x: nnx.merge(graph, state, rest)(x), state

    return build


class NnxImages(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Conv(2, 4, (3, 3), feature_group_count=2, rngs=rngs)
        self.norm = nnx.GroupNorm(4, num_groups=2, rngs=rngs)
        self.b = nnx.ConvTranspose(4, 3, (2, 2), strides=(2, 2), rngs=rngs)
        self.z = nnx.Linear(3, C, rngs=rngs)

    def __call__(self, x):
        return self.z(jnp.tanh(self.b(self.norm(self.a(x)))).mean((1, 2)))


class Convolutions(linen.Module):
    """Kernels of two shapes, strides, a dilation, and no bias of the second."""

    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(3, (3, 2), strides=(1, 2))(x))
        x = linen.tanh(linen.Conv(2, (2, 2), kernel_dilation=2, use_bias=False)(x))
        return linen.Dense(C)(linen.tanh(linen.Dense(4)(x.reshape(len(x), -1))))


def channels_first(rng):
    """A convolution of torch's layout, and a weight that is transposed."""
    W = {"c": leaf(rng, 3, 2, 2, 2), "b": leaf(rng, 3), "z": leaf(rng, C, 27)}
    numbers = ("NCHW", "OIHW", "NCHW")

    def logits(W, x):
        x = jnp.moveaxis(x, 3, 1)
        x = lax.conv_general_dilated(
            x, W["c"], (1, 1), "VALID", dimension_numbers=numbers
        )
        x = jnp.tanh(x + W["b"][:, None, None])
        return x.reshape(len(x), -1) @ W["z"].T

    return logits, W


class Equinox(eqx.Module):
    cell: eqx.nn.GRUCell
    norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    head: eqx.nn.Linear

    def __call__(self, x):
        def step(h, y):
            h = self.cell(y, h)
            return h, h

        x = lax.scan(step, jnp.zeros(4, x.dtype), x)[1]
        x = x + self.attention(x, x, x)
        return self.head(jax.vmap(self.norm)(x).mean(0))


def of_equinox(_):
    keys = jax.random.split(jax.random.key(0), 3)
    model = Equinox(
        eqx.nn.GRUCell(3, 4, key=keys[0]),
        eqx.nn.LayerNorm(4),
        eqx.nn.MultiheadAttention(2, 4, key=keys[1]),
        eqx.nn.Linear(4, C, key=keys[2]),
    )
    return lambda model, x: jax.vmap(model)(x), model


class EquinoxImages(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.GroupNorm
    up: eqx.nn.ConvTranspose2d
    scale: eqx.nn.PReLU
    head: eqx.nn.MLP

    def __call__(self, x):
        x = self.scale(self.up(self.norm(self.conv(jnp.moveaxis(x, 2, 0)))))
        return self.head(x.mean((1, 2)))


def of_equinox_images(_):
    keys = jax.random.split(jax.random.key(0), 3)
    model = EquinoxImages(
        eqx.nn.Conv2d(2, 4, 3, groups=2, key=keys[0]),
        eqx.nn.GroupNorm(2, 4),
        eqx.nn.ConvTranspose2d(4, 3, 2, stride=2, key=keys[1]),
        eqx.nn.PReLU(),
        eqx.nn.MLP(3, C, 4, 1, key=keys[2]),
    )
    return lambda model, x: jax.vmap(model)(x), model


def two_inputs(rng):
    W = {"a": leaf(rng, 3, C), "b": leaf(rng, 4, C)}
    return lambda W, x: jnp.sin(x["one"] @ W["a"]) + x["two"] @ W["b"], W


RNG = np.random.default_rng(1)
FLAT, IMAGES = RNG.normal(size=(N, 4)), RNG.normal(size=(N, 4, 4, 2))
SEQUENCES, TOKENS = RNG.normal(size=(N, 5, 4)), RNG.integers(9, size=(N, 5))
NETWORKS = {
    "dense": (dense, FLAT),
    "a weight used twice": (tied, FLAT),
    "a recurrence": (scanned, SEQUENCES),
    "depthwise, transposed": (grouped, IMAGES),
    "reverse mode only": (reverse_only, FLAT),
    "channels first": (channels_first, IMAGES),
    "two inputs": (two_inputs, {"one": FLAT[:, :3], "two": FLAT}),
    "flax, norms": (flax(Norms(), IMAGES), IMAGES),
    "flax, convolutions": (flax(Convolutions(), IMAGES), IMAGES),
    "flax, attention": (flax(Attending(), TOKENS), TOKENS),
    "flax, lstm": (flax(Recurrent(), SEQUENCES), SEQUENCES),
    "nnx": (of_nnx(Nnx), FLAT),
    "nnx, images": (of_nnx(NnxImages), IMAGES),
    "equinox": (of_equinox, SEQUENCES[:, :, :3]),
    "equinox, images": (of_equinox_images, IMAGES),
}


def network(name):
    """Build one of `NETWORKS`, always the same, in float64 under x64."""
    build, inputs = NETWORKS[name]
    function, W = build(np.random.default_rng(0))

    def wide(x):
        real = eqx.is_array(x) and jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(x, jnp.float64) if real else x

    return function, jax.tree.map(wide, W), inputs


def loader(inputs, size=3):
    """Batches of `size` samples."""
    parts = [slice(i, i + size) for i in range(0, N, size)]
    return [(jax.tree.map(lambda x, s=s: x[s], inputs), LABELS[s]) for s in parts]
