"""Linear maps of a PyTorch model: which modules are some, and what enters them.

A convolution is the linear map of its patches. Everything else that has parameters is
left out, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from refspec.exporters import delivery, feeding
from refspec.exporters.checking import LayerError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_KINDS = " (modules of kind Linear, Conv1d, Conv2d, Conv3d)"


def refusal(name: str, why: str) -> LayerError:
    """Say which module cannot be exported, why, and what can be done."""
    return LayerError(
        "an export must hold ungrouped Linear and Conv modules, each used once in a "
        f"forward pass, on the batch, got one that differs: module {name!r} {why}; "
        f"leave it out by exclude=[{name!r}], or take rows by differentiation "
        "(refspec.torch.moment)",
        name,
    )


def linear(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that are linear maps of their inputs, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, *CONVOLUTIONS))
        # of MultiheadAttention, which never calls it
        and not isinstance(module, NonDynamicallyQuantizableLinear)
    }


def choose(
    model: nn.Module,
    layers: Sequence[str] | None,
    exclude: Sequence[str],
    *,
    halves: bool,
) -> dict[str, nn.Module]:
    """Return the modules to export by name, by default all that can be.

    Those in half precision only if they are to be converted.
    """
    there = linear(model)
    plain = [name for name, x in there.items() if getattr(x, "groups", 1) == 1]
    names = delivery.choose_layers(layers, plain, list(there), _KINDS, exclude)
    owners: dict[int, set[int]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(id(module))
    for name in names:
        _expect_exportable(name, there[name], owners, halves)
    return {name: there[name] for name in names}


def _expect_exportable(
    name: str, module: nn.Module, owners: Mapping[int, set[int]], halves: bool
) -> None:
    """Refuse a module of which it is plain that it cannot be exported."""
    own = dict(module.named_parameters(recurse=False))
    for role in ("weight", "bias"):
        if role not in own and getattr(module, role, None) is not None:
            made = [x for x, _ in module.named_parameters() if role in x] or list(own)
            raise refusal(
                name,
                f"makes its {role} of other parameters ({', '.join(made)}), by a "
                "parametrization, weight_norm or pruning: remove that on a copy, as by "
                "torch.nn.utils.parametrize.remove_parametrizations or "
                "torch.nn.utils.prune.remove",
            )
    for parameter in own.values():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise refusal(name, "is lazy and has no weights yet")
        if parameter.is_meta:
            raise refusal(name, "is on the device 'meta' and has no weights")
        if len(owners[id(parameter)]) > 1:
            raise refusal(name, "shares a parameter with another module")
        if not halves and parameter.dtype not in (torch.float32, torch.float64):
            raise refusal(
                name, f"is {parameter.dtype}; export with dtype=torch.float32"
            )
    if getattr(module, "groups", 1) != 1:
        raise refusal(name, f"is a convolution of {module.groups} groups")


def statement(model: nn.Module, chosen: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Return what `refspec.coverage` states: what is left out, and the biases.

    A parameter counts once, for the module that is named first.
    """
    taken = {id(x) for m in chosen.values() for x in (m.weight, m.bias)}
    left_out: dict[str, int] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise refusal(name, "is lazy and has no weights yet")
            if id(parameter) not in taken and parameter.numel():
                where = name or type(module).__name__
                left_out[where] = left_out.get(where, 0) + parameter.numel()
            taken.add(id(parameter))
    biases = {name: module.bias is not None for name, module in chosen.items()}
    return {"left_out": left_out, "biases": biases}


@torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
def features(module: nn.Module, x: Tensor) -> np.ndarray | None:
    """Return inputs (n, T, a) of a module, patches of a convolution, bias appended.

    None without a batch axis.
    """
    convolution = isinstance(module, CONVOLUTIONS)
    if x.ndim < 2 or (convolution and x.ndim != len(module.kernel_size) + 2):
        return None
    x = _patches(module, x) if convolution else x.reshape(len(x), -1, x.shape[-1])
    if module.bias is not None:
        return delivery.pad(host(x, copy=False))
    return host(x, copy=not convolution)  # what enters may be changed in place


def _patches(module: nn.Module, x: Tensor) -> Tensor:
    """Copy (n, in, *space) into (n, T, in k...), the order of weight.reshape(b, -1).

    So a convolution is ``patches @ weight.reshape(b, -1).T``, in any dimension.
    """
    n, dims = len(x), len(module.kernel_size)
    around = [_around(module, axis) for axis in range(dims)]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    if any(map(any, around)):  # torch counts from the last axis
        x = nn.functional.pad(x, [y for pair in around[::-1] for y in pair], mode)
    for axis, (k, s, d) in enumerate(
        zip(module.kernel_size, module.stride, module.dilation, strict=True), start=2
    ):
        x = x.unfold(axis, d * (k - 1) + 1, s)[..., ::d]
    space, kernel = range(2, 2 + dims), range(2 + dims, 2 + 2 * dims)
    x = x.permute(0, *space, 1, *kernel)
    x = x.clone(memory_format=torch.contiguous_format)
    return x.reshape(n, math.prod(x.shape[1 : 1 + dims]), -1)


def _around(module: nn.Module, axis: int) -> tuple[int, int]:
    """Return the padding before and after an axis."""
    if module.padding == "same":  # the odd one goes to the end, as in torch
        total = module.dilation[axis] * (module.kernel_size[axis] - 1)
        return total // 2, total - total // 2
    pad = module.padding[axis] if isinstance(module.padding, tuple) else 0
    return pad, pad


def host(x: Tensor, *, copy: bool = True) -> np.ndarray:
    """Return on the host in float64 or, if narrower, float32; a copy, or the same."""
    feeding.expect_real(x.dtype)
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    return np.asarray(x.detach().to("cpu", kind, copy=copy).numpy())
