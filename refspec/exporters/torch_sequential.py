"""A PyTorch Sequential as the operations that `refspec.models` knows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

_ACTIVATIONS = {
    nn.Dropout: "identity",  # in eval mode
    nn.Identity: "identity",
    nn.ReLU: "relu",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
}
_DIMENSIONS = {"linear": 2, "conv2d": 4, "avg_pool2d": 4}


def sequential_operations(model: nn.Module, ndim: int) -> list[dict[str, Any]] | None:
    """Describe a Sequential of known modules by operations, or return None."""
    if type(model) is not nn.Sequential:
        return None
    operations, unit = [], torch.finfo(next(model.parameters()).dtype).eps / 2
    for name, module in model.named_modules(remove_duplicate=False):
        if type(module) is nn.Sequential:
            continue
        operation = _operation(name, module, unit)
        if operation is None or _DIMENSIONS.get(operation["op"], ndim) != ndim:
            return None
        ndim = 2 if operation["op"] == "flatten" else ndim
        operations.append(operation)
    return operations


def _operation(name: str, module: nn.Module, unit: float) -> dict[str, Any] | None:
    """Return one operation; exact types only, for a subclass may do anything."""
    kind = type(module)
    own = dict(module.named_parameters(recurse=False))
    made = (x for x in ("weight", "bias") if getattr(module, x, None) is not None)
    if any(x not in own for x in made):
        return None  # pruned or normalised: made of other parameters
    if kind is nn.Linear:
        return {"op": "linear"} | _weights(name, module)
    if kind is nn.Conv2d and _plain(module):
        shape = {"stride": list(module.stride), "padding": list(module.padding)}
        return {"op": "conv2d"} | _weights(name, module) | shape
    if kind is nn.AvgPool2d:
        if _pair(module.padding) != [0, 0] or module.ceil_mode:
            return None
        if module.divisor_override is not None:
            return None
        shape = {"kernel": _pair(module.kernel_size), "stride": _pair(module.stride)}
        return {"op": "avg_pool2d"} | shape
    if kind is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return {"op": "flatten"}
    if kind is nn.GELU:
        return {"op": "gelu" if module.approximate == "none" else "gelu_tanh"}
    if kind is nn.Softplus:
        # above its threshold torch drops exp(-z): exact only if that is rounding
        exact = module.beta == 1 and math.exp(-module.threshold) <= unit
        return {"op": "softplus"} if exact else None
    return {"op": _ACTIVATIONS[kind]} if kind in _ACTIVATIONS else None


def _plain(module: nn.Conv2d) -> bool:
    return (
        not isinstance(module.padding, str)
        and module.padding_mode == "zeros"
        and module.groups == 1
        and tuple(module.dilation) == (1, 1)
    )


def _weights(name: str, module: nn.Module) -> dict[str, Any]:
    bias = None if module.bias is None else f"{name}.bias"
    return {"name": name, "weight": f"{name}.weight", "bias": bias}


def _pair(size: int | tuple[int, ...]) -> list[int]:
    return [size, size] if isinstance(size, int) else [int(x) for x in size]
