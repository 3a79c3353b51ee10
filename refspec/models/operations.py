"""The operations a network is made of: values, two derivatives, adjoints.

Every operation but an activation is linear in what enters it, so a network is a chain
of linear maps (`push` applies one to tangents, `pull` its adjoint to errors) and of
elementwise functions with a slope and a bend. `record` runs one operation and keeps
what these need. Arrays are sample-major, (N, width) or (N, channels, height, width);
tangents and errors carry one more axis, (N, K, ...).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import scipy.special

from refspec import backend
from refspec.backend import Array, Namespace

#: No activation of `ACTIVATIONS`, slope or bend has a larger derivative.
LIPSCHITZ = 2.0
#: Roundings granted to one activation, slope, bend or softmax entry.
EVALUATION = 64


def _tanh(z: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """t, sech^2, -2 t sech^2; sech^2 = 4e/(1+e)^2 keeps its digits where t = 1."""
    t, e = xp.tanh(z), xp.exp(-2 * xp.abs(z))
    slope = 4 * e / (1 + e) ** 2
    return t, slope, -2 * t * slope


def _relu(z: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """max(z, 0), 1[z > 0], 0: the derivatives at the kink are those on its left."""
    slope = xp.astype(z > 0, z.dtype)
    return slope * z, slope, xp.zeros_like(z)


def _sigmoid(z: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """s, s(1 - s), s(1 - s)(1 - 2s) from e = exp(-|z|), which cannot overflow."""
    e = xp.exp(-xp.abs(z))
    s = xp.where(z >= 0, 1 / (1 + e), e / (1 + e))
    slope = e / (1 + e) ** 2
    return s, slope, -slope * xp.tanh(z / 2)


def _softplus(z: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """log(1 + exp z); its derivatives are the sigmoid and the sigmoid's slope."""
    s, slope, _ = _sigmoid(z, xp)
    return xp.where(z > 0, z, xp.zeros_like(z)) + xp.log1p(xp.exp(-xp.abs(z))), s, slope


def _silu(z: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """Return z s, s + z s', 2 s' + z s''."""
    s, slope, bend = _sigmoid(z, xp)
    return z * s, s + z * slope, 2 * slope + z * bend


def _gelu(z: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """Return z Phi(z), Phi + z phi, (2 - z^2) phi, with Phi from SciPy on the host.

    The array API has no erf, so this one function leaves the device and comes back.
    """
    Phi = backend.from_host(scipy.special.ndtr(backend.to_host(z)), z)
    phi = xp.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return z * Phi, Phi + z * phi, (2 - z * z) * phi


def _gelu_tanh(z: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """Return z s(2g) with g = sqrt(2/pi) (z + 0.044715 z^3)."""
    root = 2 * math.sqrt(2 / math.pi)  # of 2g, so that (1 + tanh g)/2 = sigmoid(2g)
    s, s1, s2 = _sigmoid(root * (z + 0.044715 * z * z * z), xp)
    g1, g2 = root * (1 + 3 * 0.044715 * z * z), root * 6 * 0.044715 * z
    slope, bend = s1 * g1, s2 * g1 * g1 + s1 * g2
    return z * s, s + z * slope, 2 * slope + z * bend


def _identity(z: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """z, 1, 0."""
    return z, xp.ones_like(z), xp.zeros_like(z)


#: Each gives the value, the first and the second derivative at z.
ACTIVATIONS: Mapping[str, Callable[[Array, Namespace], tuple[Array, Array, Array]]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "identity": _identity,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "softplus": _softplus,
    "tanh": _tanh,
}
#: Operations with parameters.
LAYERS = ("linear", "conv2d")
#: All operations a network may name.
OPERATIONS = (*LAYERS, "avg_pool2d", "flatten", *ACTIVATIONS)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One operation at work on N samples, with what its derivatives need.

    Parameters
    ----------
    kind : str
        A member of `OPERATIONS`.
    name : str
        A layer's name, else empty.
    shape : tuple of int
        The shape of one sample that enters.
    matrix : Array, shape (b, a), or None (the default, as for all that follow)
        Weights of a layer, a convolution's as (out, in kh kw), without the bias.
    features : Array, shape (N, T, a) or (N, T, a + 1), or None
        What a layer's weights multiply, a bias as a last feature equal to 1.
    slope, bend : Array, shape (N, ...), or None
        First and second derivative of an activation.
    window : tuple of three pairs, or None
        Kernel, stride and padding of a convolution or a pooling.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    matrix: Array = None
    features: Array = None
    slope: Array = None
    bend: Array = None
    window: tuple[tuple[int, int], ...] | None = None


def record(
    operation: Mapping[str, Any],
    parameters: Mapping[str, Array],
    x: Array,
    xp: Namespace,
) -> tuple[Step, Array]:
    """Run one operation on x (N, ...); return its step and what comes out."""
    kind, name = operation["op"], operation.get("name", "")
    shape = tuple(x.shape[1:])
    if kind in ACTIVATIONS:
        value, slope, bend = ACTIVATIONS[kind](x, xp)
        return Step(kind, name, shape, slope=slope, bend=bend), value
    if kind == "flatten":
        step = Step(kind, name, shape)
        return step, push(step, x[:, None, ...], xp)[:, 0, ...]
    if kind == "avg_pool2d":
        pool = (tuple(operation["kernel"]), tuple(operation["stride"]), (0, 0))
        step = Step(kind, name, _image(operation, shape, pool, None), window=pool)
        return step, push(step, x[:, None, ...], xp)[:, 0, ...]
    weight = parameters[operation["weight"]]
    if kind == "conv2d":
        window = (
            tuple(weight.shape[2:]),
            tuple(operation["stride"]),
            tuple(operation["padding"]),
        )
        _image(operation, shape, window, weight.shape[1])
        matrix = xp.reshape(weight, (weight.shape[0], -1))
        step = Step(kind, name, shape, matrix, window=window)
    else:
        if shape != (weight.shape[1],):
            raise ValueError(
                f"samples entering linear {name!r} must have shape (a,) = "
                f"({weight.shape[1]},), got {shape}; check the inputs, or flatten first"
            )
        matrix, step = weight, Step(kind, name, shape, weight)
    features = unfold(step, x, xp)
    z = _times(features, xp.matrix_transpose(matrix), xp)
    if operation.get("bias") is not None:
        z = z + parameters[operation["bias"]]
        features = xp.concat([features, xp.ones_like(features[..., :1])], axis=2)
    step = Step(kind, name, shape, matrix, features, window=step.window)
    return step, arrange(step, z, xp)


def push(step: Step, tangents: Array, xp: Namespace) -> Array:
    """Apply a step's derivative to tangents (N, K, ...), its parameters fixed."""
    N, K = tangents.shape[:2]
    if step.slope is not None:
        return step.slope[:, None, ...] * tangents
    x = xp.reshape(tangents, (N * K, *tangents.shape[2:]))
    if step.matrix is not None:
        z = _times(unfold(step, x, xp), xp.matrix_transpose(step.matrix), xp)
        y = arrange(step, z, xp)
    elif step.window is not None:
        kernel, stride, _ = step.window
        y = xp.mean(_windows(x, kernel, stride, xp), axis=2)
    else:
        y = xp.reshape(x, (N * K, -1))
    return xp.reshape(y, (N, K, *y.shape[1:]))


def pull(step: Step, errors: Array, xp: Namespace) -> Array:
    """Apply the adjoint of `push` to errors (N, K, ...)."""
    N, K = errors.shape[:2]
    if step.slope is not None:
        return step.slope[:, None, ...] * errors
    g = xp.reshape(errors, (N * K, *errors.shape[2:]))
    if step.matrix is not None:
        x = fold(step, _times(positions(step, g, xp), step.matrix, xp), xp)
    elif step.window is not None:
        kernel, stride, _ = step.window
        spread = xp.expand_dims(g / math.prod(kernel), axis=2)
        shape = (*g.shape[:2], math.prod(kernel), *g.shape[2:])
        spread = xp.broadcast_to(spread, shape)
        x = _add_windows(spread, kernel, stride, step.shape[1:], xp)
    else:
        x = xp.reshape(g, (N * K, *step.shape))
    return xp.reshape(x, (N, K, *step.shape))


def unfold(step: Step, x: Array, xp: Namespace) -> Array:
    """Cut x (M, ...) into the vectors (M, T, a) that a layer's weights multiply."""
    if step.window is None:
        return x[:, None, :]
    kernel, stride, (top, left) = step.window
    if top or left:
        height, width = x.shape[2:]
        padded = _zeros((*x.shape[:2], height + 2 * top, width + 2 * left), x, xp)
        padded[:, :, top : top + height, left : left + width] = x
        x = padded
    cut = xp.permute_dims(_windows(x, kernel, stride, xp), (0, 3, 4, 1, 2))
    M, rows, columns, channels, k = cut.shape
    return xp.reshape(cut, (M, rows * columns, channels * k))


def fold(step: Step, patches: Array, xp: Namespace) -> Array:
    """Apply the adjoint of `unfold` to patches (M, T, a)."""
    if step.window is None:
        return patches[:, 0, :]
    kernel, stride, (top, left) = step.window
    channels, height, width = step.shape
    padded = (height + 2 * top, width + 2 * left)
    shape = (patches.shape[0], *_outputs(padded, kernel, stride), channels, -1)
    cut = xp.permute_dims(xp.reshape(patches, shape), (0, 3, 4, 1, 2))
    image = _add_windows(cut, kernel, stride, padded, xp)
    return image[:, :, top : top + height, left : left + width]


def arrange(step: Step, z: Array, xp: Namespace) -> Array:
    """Turn a layer's outputs (M, T, b) into (M, b) or (M, b, height, width)."""
    if step.window is None:
        return z[:, 0, :]
    kernel, stride, padding = step.window
    size = [n + 2 * p for n, p in zip(step.shape[1:], padding, strict=True)]
    image = (z.shape[0], z.shape[2], *_outputs(size, kernel, stride))
    return xp.reshape(xp.matrix_transpose(z), image)


def positions(step: Step, g: Array, xp: Namespace) -> Array:
    """Turn errors (M, b) or (M, b, height, width) into (M, T, b)."""
    if step.window is None:
        return g[:, None, :]
    return xp.matrix_transpose(xp.reshape(g, (*g.shape[:2], -1)))


def _times(x: Array, matrix: Array, xp: Namespace) -> Array:
    """Multiply x (M, T, a) by a matrix (a, b) in one GEMM, not M small products."""
    M, T, a = x.shape
    return xp.reshape(xp.reshape(x, (M * T, a)) @ matrix, (M, T, matrix.shape[1]))


def _windows(x: Array, kernel: Any, stride: Any, xp: Namespace) -> Array:
    """Stack the kernel's shifts of an image: (M, channels, kh kw, rows, columns)."""
    return xp.stack([x[s] for s in _shifts(x.shape[2:], kernel, stride)], axis=2)


def _add_windows(
    cut: Array, kernel: Any, stride: Any, size: Any, xp: Namespace
) -> Array:
    """Apply the adjoint of `_windows`: overlapping windows add up."""
    image = _zeros((*cut.shape[:2], *size), cut, xp)
    for k, s in enumerate(_shifts(size, kernel, stride)):
        image[s] += cut[:, :, k, ...]
    return image


def _shifts(size: Any, kernel: Any, stride: Any) -> list[tuple[slice, ...]]:
    every = slice(None)
    rows, columns = (
        [slice(i, i + s * (n - 1) + 1, s) for i in range(k)]
        for n, k, s in zip(_outputs(size, kernel, stride), kernel, stride, strict=True)
    )
    return [(every, every, row, column) for row in rows for column in columns]


def _outputs(size: Any, kernel: Any, stride: Any) -> list[int]:
    """Rows and columns of windows that fit."""
    return [(n - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True)]


def _zeros(shape: tuple[int, ...], like: Array, xp: Namespace) -> Array:
    return xp.zeros(shape, dtype=like.dtype, device=backend.device(like))


def _image(
    operation: Mapping[str, Any], shape: Any, window: Any, channels: int | None
) -> tuple[int, ...]:
    """Check that a sample is an image with the right channels and room for a window."""
    kernel, _, padding = window
    fits = len(shape) == 3 and channels in (None, shape[0])
    if not fits or any(
        n + 2 * p < k for n, p, k in zip(shape[1:], padding, kernel, strict=True)
    ):
        raise ValueError(
            f"samples entering {operation['op']} must have shape (channels, height, "
            f"width) with {'any' if channels is None else channels} channels and room "
            f"for a window of {tuple(kernel)}, got {tuple(shape)}; check the inputs"
        )
    return tuple(shape)
