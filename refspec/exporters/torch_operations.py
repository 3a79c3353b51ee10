"""A PyTorch module as the operations that `refspec.models` knows.

The forward pass is traced by torch.fx. Every call in it must be a module or a function
that is one of our operations, a sum, or a move of axes that flattening is; the first
that is none of these is the reason why an export goes without a model section.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from refspec.export.errors import shown
from refspec.exporters.sections import Section, UnknownOperationError, without

_WINDOWS = {
    **{getattr(nn, f"Conv{d}d"): f"conv{d}d" for d in (1, 2, 3)},
    **{getattr(nn, f"AvgPool{d}d"): f"avg_pool{d}d" for d in (1, 2, 3)},
    **{getattr(nn, f"MaxPool{d}d"): f"max_pool{d}d" for d in (1, 2, 3)},
    **{getattr(nn, f"AdaptiveAvgPool{d}d"): f"avg_pool{d}d" for d in (1, 2, 3)},
    **{getattr(nn, f"AdaptiveMaxPool{d}d"): f"max_pool{d}d" for d in (1, 2, 3)},
}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_PLAIN = {
    nn.Hardsigmoid: "hard_sigmoid",
    nn.Hardswish: "hard_swish",
    nn.Identity: "identity",
    nn.LogSigmoid: "log_sigmoid",
    nn.ReLU: "relu",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    **dict.fromkeys(_DROPOUTS, "identity"),  # in eval mode
}
#: Functions, and the modules that do the same.
_FUNCTIONS: dict[Any, type[nn.Module]] = {
    functional.celu: nn.CELU,
    functional.dropout: nn.Dropout,
    functional.elu: nn.ELU,
    functional.gelu: nn.GELU,
    functional.hardsigmoid: nn.Hardsigmoid,
    functional.hardswish: nn.Hardswish,
    functional.hardtanh: nn.Hardtanh,
    functional.leaky_relu: nn.LeakyReLU,
    functional.logsigmoid: nn.LogSigmoid,
    functional.relu6: nn.ReLU6,
    functional.selu: nn.SELU,
    functional.silu: nn.SiLU,
    functional.softplus: nn.Softplus,
    **dict.fromkeys((functional.relu, torch.relu, torch.relu_, "relu"), nn.ReLU),
    **dict.fromkeys((functional.tanh, torch.tanh, "tanh"), nn.Tanh),
    **dict.fromkeys((functional.sigmoid, torch.sigmoid, "sigmoid"), nn.Sigmoid),
    **{
        getattr(functional, f"{kind}_pool{d}d"): getattr(nn, f"{name}Pool{d}d")
        for kind, name in (("avg", "Avg"), ("max", "Max"))
        for d in (1, 2, 3)
    },
    **{
        getattr(functional, f"adaptive_{kind}_pool{d}d"): getattr(
            nn, f"Adaptive{name}Pool{d}d"
        )
        for kind, name in (("avg", "Avg"), ("max", "Max"))
        for d in (1, 2, 3)
    },
}
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_MOVES = (
    *(torch.flatten, torch.reshape, torch.squeeze),
    *("flatten", "reshape", "view", "squeeze", "contiguous", "clone", "detach"),
)


def describe(model: nn.Module, inputs: Tensor) -> Section:
    """Describe a module in eval mode by operations, or say why that cannot be.

    The inputs are some samples of a batch, as the model takes them.
    """
    try:
        with torch.no_grad():
            operations = _operations(model, inputs)
    except UnknownOperationError as error:
        return without(str(error))
    if inputs.dtype == torch.float64 and any(map(_single, operations)):
        return without("torch differentiates CELU and Hardsigmoid in single precision")
    keys = [
        x[role]
        for x in operations
        for role in ("weight", "bias", "mean", "variance")
        if x.get(role) is not None
    ]
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    return Section(operations, {key: _host(state[key]) for key in keys})


def _operations(model: nn.Module, inputs: Tensor) -> list[dict[str, Any]]:
    if isinstance(model, (nn.Linear, *_WINDOWS)):
        raise UnknownOperationError(
            "the model is one layer without a name: put it in a torch.nn.Sequential"
        )
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise UnknownOperationError(f"module {name!r} has a hook")
    try:
        graph = fx.Tracer().trace(model)
        traced = fx.GraphModule(model, graph)
        graph.eliminate_dead_code()
        shapes = _Shapes(traced)
        shapes.run(inputs)
    except Exception as error:  # what a model does when it is traced is its own
        raise UnknownOperationError(
            "torch.fx cannot trace its forward pass: "
            f"{type(error).__name__} {shown(' '.join(str(error).split()), 120)}"
        ) from error
    operations: list[dict[str, Any]] = []
    made: dict[fx.Node, list[int]] = {}  # the outputs that a node is the sum of
    for node in graph.nodes:
        if node.op == "placeholder":
            if made:
                raise UnknownOperationError("its forward pass takes several inputs")
            made[node] = [0]
        elif node.op == "output":
            _end(operations, made, node.args[0])
        elif node in shapes.found:
            _add(operations, made, node, traced, shapes.found)
        elif node.op == "call_module":
            raise UnknownOperationError(
                f"{_name(node, traced)} is no operation of refspec.models"
            )
    return operations


def _single(operation: Mapping[str, Any]) -> bool:
    """Whether torch rounds a constant of the derivative to float32 in any precision."""
    alpha = operation.get("alpha", 1.0)
    inverse = operation.get("rate", 1.0) != 1.0  # CELU's 1 / alpha
    exact = float(torch.tensor(alpha, dtype=torch.float32)) == alpha
    return operation["op"] == "hard_sigmoid" or (inverse and not exact)


class _Shapes(fx.Interpreter):  # type: ignore[misc, unused-ignore]
    """Run a traced module and note the shapes of its tensors."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        made = super().run_node(n)
        if isinstance(made, Tensor):
            self.found[n] = tuple(made.shape)
        return made


def _add(
    operations: list[dict[str, Any]],
    made: dict[fx.Node, list[int]],
    node: fx.Node,
    traced: fx.GraphModule,
    shapes: Mapping[fx.Node, tuple[int, ...]],
) -> None:
    """Add what a node does to the operations, or note the sum or move that it is."""
    given = [x for x in node.all_input_nodes if x in shapes]
    if any(x not in made for x in given) or not given:
        raise UnknownOperationError(
            f"{_name(node)} reads a tensor that is not made of the inputs"
        )
    out, into = shapes[node], shapes[given[0]]
    sums = node.target in _SUMS and not node.kwargs
    if sums and len(node.args) == 2 and all(x in made for x in node.args):
        if any(shapes[x] != out for x in given):
            raise UnknownOperationError(
                f"{_name(node)} adds tensors of different shapes"
            )
        made[node] = [k for x in node.args for k in made[x]]
        return
    if len(given) > 1:
        raise UnknownOperationError(
            f"{_name(node)} combines {len(given)} tensors otherwise than +"
        )
    (source,) = given
    if node.op != "call_module" and node.target in _MOVES:
        if out == into:
            made[node] = made[source]
            return
        if out != (into[0], math.prod(into[1:])):
            raise UnknownOperationError(
                f"{_name(node)} makes {out} of {into}, which is no flattening"
            )
        found: list[dict[str, Any]] = [{"op": "flatten"}]
    else:
        try:
            if node.target in ("mean", torch.mean):
                found = _mean(node, into, out)
            else:
                found = [_known(node, traced, into, out)]
        except UnknownOperationError as error:
            why = f"{_name(node, traced)} {error}"
            raise UnknownOperationError(why) from None
    made[node] = made[source]
    for operation in found:
        _append(operations, operation, made[node])
        made[node] = [len(operations)]


def _append(
    operations: list[dict[str, Any]], found: dict[str, Any], of: list[int]
) -> None:
    """Append an operation, with what enters it where that is not the one before."""
    named = {} if of == [len(operations)] else {"of": of}
    operations.append(found | named)


def _end(
    operations: list[dict[str, Any]], made: Mapping[fx.Node, list[int]], last: Any
) -> None:
    """See that the logits are what the last operation gives."""
    if not isinstance(last, fx.Node) or last not in made:
        raise UnknownOperationError("its forward pass gives no single tensor")
    if made[last] != [len(operations)]:
        _append(operations, {"op": "identity"}, made[last])


def _known(
    node: fx.Node, traced: fx.GraphModule, into: tuple[int, ...], out: tuple[int, ...]
) -> dict[str, Any]:
    """Return the operation that a call of a module or a function is, or say why not."""
    if node.op == "call_module":
        name = str(node.target)
        return _operation(name, traced.get_submodule(name), into, out)
    kind = _FUNCTIONS.get(node.target)
    if kind is None:
        raise _unlike()
    given: dict[str, Any] = {}
    try:
        full = node.normalized_arguments(traced, normalize_to_only_use_kwargs=True)
        given = {} if full is None else dict(full.kwargs)
    except RuntimeError:  # of tanh there are several, all without options
        pass
    if given.pop("training", False):
        raise _unlike("is told to train in evaluation mode too")
    if given.get("return_indices", False):
        raise _unlike("gives the indices of the maxima too")
    if given.get("stride", ...) in ([], ()):
        given["stride"] = None
    given = {k: x for k, x in given.items() if k not in ("input", "inplace")}
    return _operation("", kind(**given), into, out)


def _unlike(why: str = "is no operation of refspec.models") -> UnknownOperationError:
    """Say what a module or a function does; its name is put before."""
    return UnknownOperationError(why)


#: Of Klambauer et al. (2017), in the digits that torch has.
_SELU = 1.6732632423543772, 1.0507009873554805


def _operation(
    name: str, module: nn.Module, into: tuple[int, ...], out: tuple[int, ...]
) -> dict[str, Any]:
    """Return one operation; exact types only, for a subclass may do anything."""
    kind = type(module)
    own = dict(module.named_parameters(recurse=False))
    roles = (x for x in ("weight", "bias") if isinstance(getattr(module, x, 0), Tensor))
    if any(x not in own for x in roles):  # pruned or normalised
        raise _unlike("makes its weights of other parameters")
    if kind is nn.Linear:
        if len(into) != 2:
            raise _unlike(
                f"is given inputs of shape {_batch(into)}, a vector at each position, "
                f"and a Linear of refspec.models takes {_batch(into[:1] + into[-1:])}"
            )
        return {"op": "linear"} | _weights(name, module)
    if kind in _WINDOWS:
        return _window(name, module, _WINDOWS[kind], into, out)
    if kind in _NORMS:
        return _norm(name, module)
    if kind is nn.Flatten:
        if out != (into[0], math.prod(into[1:])):
            raise _unlike(
                f"makes {_batch(out)} of {_batch(into)}, and a Flatten of "
                "refspec.models one axis beside the samples'"
            )
        return {"op": "flatten"}
    return _activation(module)


def _batch(shape: tuple[int, ...]) -> str:
    return f"(batch, {', '.join(map(str, shape[1:]))}{',' * (len(shape) == 1)})"


def _activation(module: nn.Module) -> dict[str, Any]:
    """Return an elementwise function with its options."""
    kind = type(module)
    if kind in _PLAIN:
        return {"op": _PLAIN[kind]}
    if kind is nn.GELU:
        return {"op": "gelu" if module.approximate == "none" else "gelu_tanh"}
    if kind is nn.Softplus:
        options = {"beta": module.beta, "threshold": module.threshold}
        return _options("softplus", **options)
    if kind is nn.LeakyReLU:
        return _options("leaky_relu", slope=module.negative_slope)
    if kind is nn.PReLU:
        if module.num_parameters != 1:
            raise _unlike("has a slope for each channel, and not one")
        return _options("leaky_relu", slope=module.weight.item())
    if kind is nn.ELU:
        return _options("elu", alpha=module.alpha)
    if kind is nn.CELU:
        return _options("elu", alpha=module.alpha, rate=1 / module.alpha)
    if kind is nn.SELU:
        return _options("elu", alpha=_SELU[0], scale=_SELU[1])
    if kind in (nn.ReLU6, nn.Hardtanh):
        return _options("clip", low=module.min_val, high=module.max_val)
    raise _unlike()


def _options(kind: str, **options: Any) -> dict[str, Any]:
    return {"op": kind} | {k: float(x) for k, x in options.items()}


def _norm(name: str, module: nn.Module) -> dict[str, Any]:
    """Return a batch norm with the averages of training."""
    if module.running_mean is None or module.running_var is None:
        raise _unlike("has no averages of training")
    weight = None if module.weight is None else f"{name}.weight"
    bias = None if module.bias is None else f"{name}.bias"
    kept = {"mean": f"{name}.running_mean", "variance": f"{name}.running_var"}
    scale = {"weight": weight, "bias": bias, "epsilon": float(module.eps)}
    return {"op": "batch_norm", "name": name} | kept | scale


def _window(
    name: str, module: nn.Module, op: str, into: tuple[int, ...], out: tuple[int, ...]
) -> dict[str, Any]:
    """Return a convolution or a pooling, if its windows are of our kind."""
    d = int(op[-2])
    if len(into) != d + 2:
        raise _unlike(
            f"is given inputs of shape {_batch(into)}, and takes {d} axes of space"
        )
    if type(module).__name__.startswith("Adaptive"):
        if any(n % m for n, m in zip(into[2:], out[2:], strict=True)):
            raise _unlike(
                f"makes {_batch(out)} of {_batch(into)}, by windows of several sizes"
            )
        kernel = [n // m for n, m in zip(into[2:], out[2:], strict=True)]
        return {"op": op, "kernel": kernel, "stride": kernel}
    kernel, stride = _sizes(module.kernel_size, d), _sizes(module.stride, d)
    dilation = _sizes(getattr(module, "dilation", 1), d)
    padding = module.padding
    if isinstance(padding, str):
        around = [
            s * (k - 1) * (padding == "same")
            for s, k in zip(dilation, kernel, strict=True)
        ]
        if any(x % 2 for x in around):
            raise _unlike(f"pads its inputs on one side more, for {padding=!s}")
        padding = [x // 2 for x in around]
    padding = _sizes(padding, d)
    fits = tuple(
        (n + 2 * p - s * (k - 1) - 1) // step + 1
        for n, p, s, k, step in zip(
            into[2:], padding, dilation, kernel, stride, strict=True
        )
    )
    if fits != out[2:]:  # in ceil mode
        raise _unlike("has windows that end outside of its inputs")
    how: dict[str, Any] = {"stride": stride, "padding": padding}
    if dilation != [1] * d:
        how["dilation"] = dilation
    if op.startswith("conv"):
        if module.groups != 1:
            raise _unlike(f"is of {module.groups} groups, and not of one")
        if module.padding_mode != "zeros":
            raise _unlike(f"pads by {module.padding_mode!r}, and not by zeros")
        return {"op": op} | _weights(name, module) | how
    if getattr(module, "divisor_override", None) is not None:
        raise _unlike("divides by a number of its own")
    if not getattr(module, "count_include_pad", True) and any(padding):
        raise _unlike("leaves what pads its inputs out of its averages")
    if getattr(module, "return_indices", False):
        raise _unlike("gives the indices of the maxima too")
    if not any(padding):
        del how["padding"]
    return {"op": op, "kernel": kernel} | how


def _mean(
    node: fx.Node, into: tuple[int, ...], out: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Return a mean over all of space as a pooling, and flatten what it leaves."""
    d = len(into) - 2
    kept, flat, space = (*into[:2], *[1] * d), into[:2], list(range(2, d + 2))
    axes: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    given = [axes] if isinstance(axes, int) else list(axes or ())
    whole = 1 <= d <= 3 and sorted(k % (d + 2) for k in given) == space
    if not whole or out not in (kept, flat):
        raise _unlike(
            f"makes {_batch(out)} of {_batch(into)}, which is no mean over all of space"
        )
    size = list(into[2:])
    pool = {"op": f"avg_pool{d}d", "kernel": size, "stride": size}
    return [pool] if out == kept else [pool, {"op": "flatten"}]


def _weights(name: str, module: nn.Module) -> dict[str, Any]:
    bias = None if module.bias is None else f"{name}.bias"
    return {"name": name, "weight": f"{name}.weight", "bias": bias}


def _sizes(size: Any, d: int) -> list[int]:
    return [int(size)] * d if isinstance(size, int) else [int(x) for x in size]


def _name(node: fx.Node, traced: fx.GraphModule | None = None) -> str:
    """Say which module, parameter or function a node is."""
    if node.op == "call_module" and traced is not None:
        kind = type(traced.get_submodule(str(node.target))).__name__
        return f"module {node.target!r} ({kind})"
    if isinstance(node.target, str):
        what = {"call_module": "module ", "get_attr": "parameter "}.get(node.op, "")
        return f"{what}{node.target!r}"
    return f"{getattr(node.target, '__name__', node.target)}()"


def _host(x: Tensor) -> Any:
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.detach().to("cpu", wide, copy=True).numpy()
