"""The elementwise functions of a network: each with its slope and its bend.

Some have options, numbers beside the name in an operation; some have kinks, points
where a derivative jumps and the Hessian of the network need not exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
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


def _leaky_relu(
    z: Array, xp: Namespace, slope: float = 0.01
) -> tuple[Array, Array, Array]:
    """Z above 0 and slope z below."""
    one = xp.ones_like(z)
    tilt = xp.where(z > 0, one, slope * one)
    return tilt * z, tilt, xp.zeros_like(z)


def _elu(
    z: Array, xp: Namespace, alpha: float = 1.0, scale: float = 1.0, rate: float = 1.0
) -> tuple[Array, Array, Array]:
    """Scale z above 0, scale alpha (exp(rate z) - 1) below: elu, selu and celu."""
    zero = xp.zeros_like(z)
    below = xp.where(z > 0, zero, rate * z)
    e = scale * alpha * rate * xp.exp(below)
    value = xp.where(z > 0, scale * z, scale * alpha * xp.expm1(below))
    return value, xp.where(z > 0, scale + zero, e), xp.where(z > 0, zero, rate * e)


def _clip(
    z: Array, xp: Namespace, low: float = -1.0, high: float = 1.0
) -> tuple[Array, Array, Array]:
    """Z between low and high: relu6 and hardtanh."""
    zero = xp.zeros_like(z)
    value = xp.where(z > low, xp.where(z < high, z, zero + high), zero + low)
    return value, xp.astype((z > low) & (z < high), z.dtype), zero


def _hard_sigmoid(z: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """z/6 + 1/2, cut at 0 and 1."""
    value, slope, zero = _clip(z + 3, xp, 0.0, 6.0)
    return value / 6, slope / 6, zero


def _hard_swish(z: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """Z times its hard sigmoid."""
    value, slope, _ = _hard_sigmoid(z, xp)
    return z * value, value + z * slope, 2 * slope


def _sigmoid(z: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """s, s(1 - s), s(1 - s)(1 - 2s) from e = exp(-|z|), which cannot overflow."""
    e = xp.exp(-xp.abs(z))
    s = xp.where(z >= 0, 1 / (1 + e), e / (1 + e))
    slope = e / (1 + e) ** 2
    return s, slope, -slope * xp.tanh(z / 2)


def _softplus(
    z: Array, xp: Namespace, beta: float = 1.0, threshold: float = math.inf
) -> tuple[Array, Array, Array]:
    """log(1 + exp(beta z)) / beta, and z where beta z exceeds a threshold.

    Its derivatives are the sigmoid and beta times the sigmoid's slope.
    """
    y = beta * z
    s, slope, _ = _sigmoid(y, xp)
    soft = xp.where(y > 0, y, xp.zeros_like(y)) + xp.log1p(xp.exp(-xp.abs(y)))
    if threshold == math.inf:
        return soft / beta, s, beta * slope
    far, zero = y > threshold, xp.zeros_like(y)
    value = xp.where(far, z, soft / beta)
    return value, xp.where(far, zero + 1, s), xp.where(far, zero, beta * slope)


def _log_sigmoid(z: Array, xp: Namespace) -> tuple[Array, Array, Array]:
    """-softplus(-z)."""
    value, slope, bend = _softplus(-z, xp)
    return -value, slope, -bend


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
ACTIVATIONS: Mapping[str, Callable[..., tuple[Array, Array, Array]]] = {
    "clip": _clip,
    "elu": _elu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "identity": _identity,
    "leaky_relu": _leaky_relu,
    "log_sigmoid": _log_sigmoid,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "softplus": _softplus,
    "tanh": _tanh,
}
#: What may stand beside the name of an activation, and its default.
OPTIONS: Mapping[str, Mapping[str, float]] = {
    "clip": {"low": -1.0, "high": 1.0},
    "elu": {"alpha": 1.0, "scale": 1.0, "rate": 1.0},
    "leaky_relu": {"slope": 0.01},
    "softplus": {"beta": 1.0, "threshold": math.inf},
}


def activate(operation: Mapping[str, Any], z: Array, xp: Namespace) -> Any:
    """Return the value, slope and bend of an activation, its options heeded."""
    kind = operation["op"]
    return ACTIVATIONS[kind](z, xp, **_given(operation))


def kinks(operation: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the points where an activation, its slope or its bend jumps."""
    kind, x = operation["op"], options(operation)
    if kind == "clip":
        return x["low"], x["high"]
    if kind == "softplus":
        return () if x["threshold"] == math.inf else (x["threshold"] / x["beta"],)
    if kind in ("hard_sigmoid", "hard_swish"):
        return -3.0, 3.0
    return (0.0,) if kind in ("relu", "leaky_relu", "elu") else ()


def jumps(operation: Mapping[str, Any]) -> tuple[float, float]:
    """Return by how much the value and the slope jump at a kink at most."""
    at = np.asarray(kinks(operation))
    near = 8 * np.spacing(1 + np.abs(at))
    below, above = (activate(operation, at + x, np) for x in (-near, near))
    value, slope = (
        float(np.max(np.abs(below[k] - above[k]), initial=0)) for k in (0, 1)
    )
    return value, slope


def doubtful(
    operation: Mapping[str, Any], z: Array, error: Array, xp: Namespace
) -> Any:
    """Return where a z that is off by an error may lie on either side of a kink."""
    found = xp.zeros_like(z) != 0
    for point in kinks(operation):
        found = found | ((xp.abs(z - point) <= error) & (error > 0))
    return found


def bends(operation: Mapping[str, Any]) -> bool:
    """Whether an activation has a second derivative other than 0."""
    flat = ("clip", "hard_sigmoid", "identity", "leaky_relu", "relu")
    return operation["op"] in ACTIVATIONS and operation["op"] not in flat


def steepness(operation: Mapping[str, Any]) -> float:
    """Bound the first three derivatives between the kinks, as the options set them.

    Theory: theory/hessian.md#H7, part (e); infinite for options that make no sense.
    """
    kind, x = operation["op"], options(operation)
    if kind == "leaky_relu":
        return max(1.0, abs(x["slope"]))
    if kind == "elu":
        steep = x["scale"] * x["alpha"] * x["rate"] * max(1.0, x["rate"] ** 2)
        return max(x["scale"], steep) if min(x.values()) > 0 else math.inf
    if kind == "softplus":
        beta, threshold = x["beta"], x["threshold"]
        steep = max(1.0, beta / 4, beta * beta / 8)
        return steep if beta > 0 and threshold > 0 else math.inf
    if kind == "clip" and not x["low"] < x["high"]:
        return math.inf
    return LIPSCHITZ


def options(operation: Mapping[str, Any]) -> dict[str, float]:
    """Return the options of an activation, defaults filled in."""
    return dict(OPTIONS.get(operation["op"], {})) | _given(operation)


def _given(operation: Mapping[str, Any]) -> dict[str, float]:
    known = OPTIONS.get(operation["op"], {})
    return {key: float(operation[key]) for key in known if key in operation}
