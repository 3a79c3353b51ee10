"""The same networks as functions of JAX, for the peers that are written in it.

Parameters are a list in torch's order, in JAX's layouts: a kernel is (in, out), that of
a convolution (height, width, in, out).
"""

import jax
import numpy as np
import torch

jnp = jax.numpy


def to_jax(x):
    """Bring a tensor of a parameter's shape into JAX's layout."""
    axes = {2: (1, 0), 4: (2, 3, 1, 0)}.get(x.ndim, tuple(range(x.ndim)))
    return jnp.asarray(x.detach().numpy().transpose(axes))


def to_torch(x):
    """Bring an array of JAX's layout back."""
    axes = {2: (1, 0), 4: (3, 2, 0, 1)}.get(x.ndim, tuple(range(x.ndim)))
    return torch.tensor(np.asarray(x).transpose(axes))


def of_case(case):
    """Return the function of parameters and inputs, the parameters and the inputs."""
    forward = _norm(case.model) if case.name == "norm" else _FORWARD[case.name]
    return forward, [to_jax(p) for p in case.parameters], jnp.asarray(case.X.numpy())


def _conv(x, w, stride, padding):
    how = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    return jax.lax.conv_general_dilated(x, w, (stride, stride), padding, **how)


def _flat(x):
    """Flatten images as torch does, channels first."""
    return jnp.transpose(x, (0, 3, 1, 2)).reshape(len(x), -1)


def _mlp(w, x):
    h = x
    for k in range(0, len(w), 2):
        h = (jax.nn.relu(h) if k else h) @ w[k] + w[k + 1]
    return h


def _cnn(w, x):
    h = jnp.transpose(x, (0, 2, 3, 1))
    h = jax.nn.relu(_conv(h, w[0], 1, "SAME") + w[1])
    h = jax.nn.relu(_conv(h, w[2], 2, "VALID") + w[3])
    return _flat(h) @ w[4] + w[5]


def _norm(model):
    """Batch norm, evaluated: its statistics are numbers."""
    _, norm, *_ = model
    mean = jnp.asarray(norm.running_mean.numpy())
    scale = jnp.sqrt(jnp.asarray(norm.running_var.numpy()) + norm.eps)

    def forward(w, x):
        h = _conv(jnp.transpose(x, (0, 2, 3, 1)), w[0], 2, "VALID") + w[1]
        h = jax.nn.relu((h - mean) / scale * w[2] + w[3])
        return _flat(h) @ w[4] + w[5]

    return forward


def _residual(w, x):
    h = jnp.tanh(x.reshape(len(x), -1) @ w[0] + w[1])
    return (h + jnp.tanh(h @ w[2] + w[3])) @ w[4] + w[5]


def _attention(w, x):
    x = x.reshape(len(x), 8, 8)
    q, k, v = (x @ w[j] + w[j + 1] for j in (0, 2, 4))
    h = x + jax.nn.softmax(q @ jnp.swapaxes(k, 1, 2) / 8**0.5, axis=2) @ v
    h = h - h.mean(axis=2, keepdims=True)
    h = h / jnp.sqrt((h * h).mean(axis=2, keepdims=True) + 1e-5)  # torch's epsilon
    return (h * w[6] + w[7]).mean(axis=1) @ w[8] + w[9]


_FORWARD = {"mlp": _mlp, "cnn": _cnn, "residual": _residual, "attention": _attention}
