"""The operations a network is made of: values, two derivatives, adjoints.

Every operation is linear in what enters it, or is so near the point (max pooling), or
acts on each entry by itself, so that a network is made of linear maps (`push` applies
one to tangents, `pull` its adjoint to errors) and of elementwise functions with a slope
and a bend. `record` runs one operation and keeps what these need. What enters is what
the operation before gives, or a sum of earlier outputs: `entering` and `leave` say so
for values and for errors. Arrays are sample-major, (N, width) or (N, channels, *space);
tangents and errors carry one more axis, (N, K, ...).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refspec import backend
from refspec.backend import Array, Namespace
from refspec.models.activations import ACTIVATIONS, activate

#: Operations on images, by how many axes of space they have.
SPACE = {
    f"{kind}{d}d": d for kind in ("conv", "avg_pool", "max_pool") for d in (1, 2, 3)
}
#: Operations with parameters of the network.
LAYERS = ("linear", *(kind for kind in SPACE if kind.startswith("conv")))
_FLATTEN = ("flatten", "flatten_channels_last")
#: All operations a network may name.
OPERATIONS = (*LAYERS, *SPACE.keys() - {*LAYERS}, *_FLATTEN, "batch_norm", *ACTIVATIONS)


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
    of : tuple of int
        Which outputs enter, added: 0 the inputs, k what operation k gives, from 1.
    matrix : Array, shape (b, a), or None (the default, as for all that follow)
        Weights of a layer, a convolution's as (out, in k...), without the bias.
    features : Array, shape (N, T, a) or (N, T, a + 1), or None
        What a layer's weights multiply, a bias as a last feature equal to 1.
    slope, bend : Array, shape (N, ...), or None
        First and second derivative of what acts on each entry by itself.
    window : tuple of four tuples, or None
        Kernel, stride, padding and dilation of a convolution or a pooling.
    choice : Array, shape (N, channels, k, *space), or None
        1 where max pooling takes an entry of a window, else 0.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    of: tuple[int, ...]
    matrix: Array = None
    features: Array = None
    slope: Array = None
    bend: Array = None
    window: tuple[tuple[int, ...], ...] | None = None
    choice: Array = None


def entering(of: Sequence[int], made: Sequence[Array]) -> Array:
    """Add the outputs that enter a step; None stands for zero."""
    there = [made[k] for k in of if made[k] is not None]
    total = there[0] if there else None
    for x in there[1:]:
        total = total + x
    return total


def leave(of: Sequence[int], errors: Array, found: list[Array]) -> None:
    """Add the errors of what entered a step to those of each output in the sum."""
    for k in of:
        found[k] = errors if found[k] is None else found[k] + errors


def run(
    operations: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Array],
    X: Array,
    xp: Namespace,
) -> tuple[list[Step], list[Array]]:
    """Run all operations; return the steps, and X with what each of them gives."""
    steps: list[Step] = []
    made = [X]
    for k, operation in enumerate(operations):
        of = sources(operation, k)
        shapes = {made[i].shape for i in of}
        if len(shapes) > 1:
            raise ValueError(
                f"what enters operation {k} ({operation['op']}) must be a sum of "
                f"arrays of one shape, got {sorted(shapes)}; correct of = {list(of)}"
            )
        x = entering(of, made)
        step, y = record(operation, parameters, x, of, xp)
        steps.append(step)
        made.append(y)
    return steps, made


def sources(operation: Mapping[str, Any], k: int) -> tuple[int, ...]:
    """Return which outputs enter operation k, from 0: by default the one before."""
    of = operation.get("of")
    return (k,) if of is None else tuple(of)


def record(
    operation: Mapping[str, Any],
    parameters: Mapping[str, Array],
    x: Array,
    of: tuple[int, ...],
    xp: Namespace,
) -> tuple[Step, Array]:
    """Run one operation on x (N, ...); return its step and what comes out."""
    kind, name = operation["op"], operation.get("name", "")
    shape = tuple(x.shape[1:])
    if kind in ACTIVATIONS:
        value, slope, bend = activate(operation, x, xp)
        return Step(kind, name, shape, of, slope=slope, bend=bend), value
    if kind == "batch_norm":
        value, slope = _normalised(operation, parameters, x, xp)
        bend = xp.broadcast_to(xp.zeros_like(x[:1, ...]), x.shape)
        return Step(kind, name, shape, of, slope=slope, bend=bend), value
    if kind in _FLATTEN:
        step = Step(kind, name, shape, of)
        return step, push(step, x[:, None, ...], xp)[:, 0, ...]
    if kind in SPACE and kind not in LAYERS:
        window = _window(operation, tuple(operation["kernel"]))
        _expect_image(operation, shape, window, None)
        step = Step(kind, name, shape, of, window=window)
        if kind.startswith("max"):
            return _maximum(step, x, xp)
        return step, push(step, x[:, None, ...], xp)[:, 0, ...]
    weight, window = parameters[operation["weight"]], None
    if kind == "linear" and shape != (weight.shape[1],):
        raise ValueError(
            f"samples entering linear {name!r} must have shape (a,) = "
            f"({weight.shape[1]},), got {shape}; check the inputs, or flatten first"
        )
    if kind != "linear":
        window = _window(operation, tuple(weight.shape[2:]))
        _expect_image(operation, shape, window, weight.shape[1])
    matrix = xp.reshape(weight, (weight.shape[0], -1))
    step = Step(kind, name, shape, of, matrix, window=window)
    features = unfold(step, x, xp)
    z = _times(features, xp.matrix_transpose(matrix), xp)
    if operation.get("bias") is not None:
        z = z + parameters[operation["bias"]]
        features = xp.concat([features, xp.ones_like(features[..., :1])], axis=2)
    step = Step(kind, name, shape, of, matrix, features, window=window)
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
        y = windows(step, x, xp)
        if step.choice is None:
            y = xp.mean(y, axis=2)
        else:
            y = xp.reshape(y, (N, K, *y.shape[1:])) * step.choice[:, None, ...]
            return xp.sum(y, axis=3)
    else:
        if step.kind == "flatten_channels_last":
            x = xp.moveaxis(x, 1, -1)
        y = xp.reshape(x, (N * K, -1))
    return xp.reshape(y, (N, K, *y.shape[1:]))


def pull(step: Step, errors: Array, xp: Namespace) -> Array:
    """Apply the adjoint of `push` to errors (N, K, ...)."""
    N, K = errors.shape[:2]
    if step.slope is not None:
        return step.slope[:, None, ...] * errors
    g = xp.reshape(errors, (N * K, *errors.shape[2:]))
    if step.matrix is not None:
        x = transposed(step, g, step.matrix, xp)
    elif step.window is not None:
        k = math.prod(step.window[0])
        spread = xp.expand_dims(errors, axis=3)
        if step.choice is None:
            shape = (*errors.shape[:3], k, *errors.shape[3:])
            spread = xp.broadcast_to(spread / k, shape)
        else:
            spread = spread * step.choice[:, None, ...]
        x = _add_windows(step, xp.reshape(spread, (N * K, *spread.shape[2:])), xp)
    elif step.kind == "flatten_channels_last":
        channels, *space = step.shape
        x = xp.moveaxis(xp.reshape(g, (N * K, *space, channels)), -1, 1)
    else:
        x = g
    return xp.reshape(x, (N, K, *step.shape))


def unfold(step: Step, x: Array, xp: Namespace) -> Array:
    """Cut x (M, ...) into the vectors (M, T, a) that a layer's weights multiply."""
    if step.window is None:
        return x[:, None, :]
    cut = windows(step, x, xp)
    M, channels, k, *space = cut.shape
    cut = xp.permute_dims(cut, (0, *range(3, cut.ndim), 1, 2))
    return xp.reshape(cut, (M, math.prod(space), channels * k))


def transposed(step: Step, g: Array, matrix: Array, xp: Namespace) -> Array:
    """Convolve errors (M, b, *space) back: `fold` of their products with (b, a)."""
    if step.window is None:
        return g @ matrix
    # images last: what is added up then lies side by side
    last = xp.permute_dims(g, (*range(1, g.ndim), 0))
    cut = xp.matrix_transpose(matrix) @ xp.reshape(last, (g.shape[1], -1))
    shape = (1, step.shape[0], -1, *_outputs(step), g.shape[0])
    return xp.moveaxis(_add_windows(step, xp.reshape(cut, shape), xp)[0, ...], -1, 0)


def fold(step: Step, patches: Array, xp: Namespace) -> Array:
    """Apply the adjoint of `unfold` to patches (M, T, a)."""
    if step.window is None:
        return patches[:, 0, :]
    shape = (patches.shape[0], *_outputs(step), step.shape[0], -1)
    cut = xp.reshape(patches, shape)
    d = len(step.window[0])
    return _add_windows(
        step, xp.permute_dims(cut, (0, d + 1, d + 2, *range(1, d + 1))), xp
    )


def arrange(step: Step, z: Array, xp: Namespace) -> Array:
    """Turn a layer's outputs (M, T, b) into (M, b) or (M, b, *space)."""
    if step.window is None:
        return z[:, 0, :]
    image = (z.shape[0], z.shape[2], *_outputs(step))
    return xp.reshape(xp.matrix_transpose(z), image)


def positions(step: Step, g: Array, xp: Namespace) -> Array:
    """Turn errors (M, b) or (M, b, *space) into (M, T, b)."""
    if step.window is None:
        return g[:, None, :]
    return xp.matrix_transpose(xp.reshape(g, (*g.shape[:2], -1)))


def windows(step: Step, x: Array, xp: Namespace, fill: float = 0.0) -> Array:
    """Stack the kernel's shifts of images (M, channels, *space): axis 2 is the shift.

    What pads them is 0, or -inf for a maximum.
    """
    if any(step.window[2]):  # type: ignore[index]
        size, inside = _padded(step)
        wide = xp.full((*x.shape[:2], *size), fill, dtype=x.dtype, device=_on(x))
        wide[(slice(None), slice(None), *inside)] = x
        x = wide
    return xp.stack([x[s] for s in _shifts(step)], axis=2)


def near_the_maximum(step: Step, x: Array, error: Array, xp: Namespace) -> Array:
    """Return 1 for the entries of a window that may be its maximum, if several may.

    Shape (M, channels, k, *space); x is off by an error.
    """
    low = windows(step, x - error, xp, fill=-math.inf)
    high = windows(step, x + error, xp, fill=-math.inf)
    near = xp.astype(high >= xp.max(low, axis=2, keepdims=True), x.dtype)
    several = xp.astype(xp.sum(near, axis=2, keepdims=True) > 1, x.dtype)
    return several * near


def overlap(step: Step) -> int:
    """Count the windows that hold one pixel, at most; 1 for a dense layer."""
    if step.window is None:
        return 1
    kernel, stride, _, dilation = step.window
    steps = [s // math.gcd(s, d) for s, d in zip(stride, dilation, strict=True)]
    return math.prod(-(-k // s) for k, s in zip(kernel, steps, strict=True))


def shift(
    step: Step, operation: Mapping[str, Any], parameters: Mapping[str, Array]
) -> Array:
    """Return the size of what a step adds to a linear map of what enters, or 0."""
    bias = parameters.get(operation.get("bias") or "")
    size = 0.0 if bias is None else abs(bias)
    if step.kind != "batch_norm":
        return size
    size = size + abs(parameters[operation["mean"]]) * _scale(operation, parameters)
    return _by_channel(size, len(step.shape) + 1)


def _normalised(
    operation: Mapping[str, Any], parameters: Mapping[str, Array], x: Array, xp: Any
) -> tuple[Array, Array]:
    """Return (x - mean) scale + bias by channel, and scale, as large as x."""
    mean, bias = parameters[operation["mean"]], operation.get("bias")
    if len(x.shape) < 2 or x.shape[1] != mean.shape[0]:
        raise ValueError(
            f"samples entering batch_norm must have {mean.shape[0]} channels, got "
            f"shape {tuple(x.shape[1:])}; check the inputs"
        )
    sign = 1.0
    if operation.get("weight") is not None:
        sign = xp.sign(parameters[operation["weight"]])
    slope = _by_channel(_scale(operation, parameters) * sign, x.ndim)
    value = (x - _by_channel(mean, x.ndim)) * slope
    if bias is not None:
        value = value + _by_channel(parameters[bias], x.ndim)
    return value, xp.broadcast_to(slope, x.shape)


def _scale(operation: Mapping[str, Any], parameters: Mapping[str, Array]) -> Array:
    """Return |weight| / sqrt(variance + epsilon) of each channel."""
    variance, weight = parameters[operation["variance"]], operation.get("weight")
    xp = backend.namespace(variance)
    scale = 1 / xp.sqrt(variance + operation["epsilon"])
    return scale if weight is None else scale * abs(parameters[weight])


def _by_channel(x: Array, ndim: int) -> Array:
    """Give one number a channel the axes of (N, channels, ...)."""
    return backend.namespace(x).reshape(x, (1, -1, *[1] * (ndim - 2)))


def _maximum(step: Step, x: Array, xp: Namespace) -> tuple[Step, Array]:
    """Take the largest entry of each window, the first of several."""
    cut = windows(step, x, xp, fill=-math.inf)
    best = xp.expand_dims(xp.argmax(cut, axis=2), axis=2)
    every = xp.reshape(
        xp.arange(cut.shape[2], device=_on(x)), (1, 1, -1, *[1] * (cut.ndim - 3))
    )
    choice = xp.astype(every == best, x.dtype)
    made = Step(
        step.kind, step.name, step.shape, step.of, window=step.window, choice=choice
    )
    return made, xp.max(cut, axis=2)


def _times(x: Array, matrix: Array, xp: Namespace) -> Array:
    """Multiply x (M, T, a) by a matrix (a, b) in one GEMM, not M small products."""
    M, T, a = x.shape
    return xp.reshape(xp.reshape(x, (M * T, a)) @ matrix, (M, T, matrix.shape[1]))


def _add_windows(step: Step, cut: Array, xp: Namespace) -> Array:
    """Apply the adjoint of `windows`, whatever follows: overlaps add up."""
    (size, inside), more = _padded(step), cut.shape[3 + len(step.window[0]) :]  # type: ignore[index]
    shape = (*cut.shape[:2], *size, *more)
    image = xp.zeros(shape, dtype=cut.dtype, device=_on(cut))
    for k, s in enumerate(_shifts(step)):
        image[(*s, ...)] += cut[:, :, k, ...]
    return image[(slice(None), slice(None), *inside, ...)]


def _shifts(step: Step) -> list[tuple[slice, ...]]:
    """Return the places of the kernel's entries in padded images, one slice each."""
    kernel, stride, _, dilation = step.window  # type: ignore[misc]
    axes = [
        [slice(i * d, i * d + s * (n - 1) + 1, s) for i in range(k)]
        for n, k, s, d in zip(_outputs(step), kernel, stride, dilation, strict=True)
    ]
    every = slice(None), slice(None)
    return [(*every, *places) for places in itertools.product(*axes)]


def _outputs(step: Step) -> list[int]:
    """Count the windows that fit along each axis of space."""
    kernel, stride, _, dilation = step.window  # type: ignore[misc]
    size, _ = _padded(step)
    return [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]


def _padded(step: Step) -> tuple[list[int], list[slice]]:
    """Return the size of padded images, and where the image lies in them."""
    pairs = list(zip(step.shape[1:], step.window[2], strict=True))  # type: ignore[index]
    return [n + 2 * p for n, p in pairs], [slice(p, p + n) for n, p in pairs]


def _window(operation: Mapping[str, Any], kernel: tuple[int, ...]) -> Any:
    """Return kernel, stride, padding and dilation, the last two by default 0 and 1."""
    d = len(kernel)
    padding, dilation = operation.get("padding"), operation.get("dilation")
    return (
        kernel,
        tuple(operation["stride"]),
        (0,) * d if padding is None else tuple(padding),
        (1,) * d if dilation is None else tuple(dilation),
    )


def _on(x: Array) -> Any:
    return backend.device(x)


def _expect_image(
    operation: Mapping[str, Any], shape: Any, window: Any, channels: int | None
) -> None:
    """Check that a sample is an image with the right channels and room for a window."""
    kernel, _, padding, dilation = window
    fits = len(shape) == 1 + len(kernel) and channels in (None, shape[0])
    if not fits or any(
        n + 2 * p < d * (k - 1) + 1
        for n, p, k, d in zip(shape[1:], padding, kernel, dilation, strict=True)
    ):
        space = {1: "length", 2: "height, width", 3: "depth, height, width"}
        raise ValueError(
            f"samples entering {operation['op']} must have shape (channels, "
            f"{space[len(kernel)]}) with {'any' if channels is None else channels} "
            f"channels and room for a window of {tuple(kernel)}, got {tuple(shape)}; "
            "check the inputs"
        )
