"""Export a PyTorch classifier: features and errors of its linear and conv modules.

Forward hooks see what enters each module; C backward passes over the whole batch, one
for each label c', give the derivative of ``-log_softmax(logits)[c']`` with respect to
what leaves it. In eval mode samples do not interact, so row n of the batch's
derivative belongs to sample n.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from refspec import checks
from refspec.classes import Snapshot
from refspec.export.errors import shown

try:
    import torch
    from torch import Tensor, nn

    from refspec.exporters import batches as shared
    from refspec.exporters.torch_moment import hessian as hessian
    from refspec.exporters.torch_moment import moment as moment
    from refspec.exporters.torch_sequential import sequential_operations
except ImportError as error:
    raise ImportError(
        "the PyTorch exporter needs torch and rich, which are not installed; "
        "pip install 'refspec[torch]'"
    ) from error

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ADVICE = "compare the shapes and dtypes of inputs and weights"
_TAKES = "model must take the inputs of the loader", _ADVICE
_DIFFERENTIABLE = (
    "logits must be differentiable by what leaves each module",
    "leave out what changes values in place, or is no function of the weights",
)

#: By name of a module: (features, output) of each call in one forward pass.
_Seen = dict[str, list[tuple[np.ndarray | None, Tensor]]]


def export(
    model: nn.Module,
    loader: Iterable[tuple[Any, Any]],
    path: str | os.PathLike[str] | None,
    layers: Sequence[str] | None = None,
    *,
    dtype: torch.dtype | None = None,
    class_names: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Path | Snapshot:
    """Write an export of a classifier over the samples of a loader.

    Parameters
    ----------
    model : torch.nn.Module
        Gives logits (batch, C) for a batch of inputs; any graph.
    layers : sequence of str, optional
        Names of modules (as in ``model.named_modules()``), each an ungrouped
        Linear, Conv1d, Conv2d or Conv3d; all of them by default.
    dtype : torch.float32 or torch.float64, optional
        Run a copy of the model in this precision; by default the model as it is.
    loader, path, class_names, provenance, progress
        See `refspec.exporters`.

    Returns
    -------
    Path or Snapshot
        The path, or the Snapshot if `path` is None.

    Raises
    ------
    TypeError
        If model, loader or an option is of another type.
    ValueError
        If a module cannot be exported (grouped, shared, padded otherwise than by
        zeros, or no part of the forward pass; it is named), or the batches do not fit.
    ExportError
        If the path cannot be written.

    Notes
    -----
    The seed of pass c' is ``p - e_c'`` with entry c' computed as minus the sum of the
    other probabilities, in float64 from the logits, so that the small errors of a
    fitted network keep their relative accuracy. The model runs in eval mode and is
    given back as it was. A sequential model of operations known to `refspec.models` is
    stored with it, weights and inputs. Cost: one forward and C backward passes a batch.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> batch = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    >>> [layer.errors.shape for layer in export(model, [batch], None).layers]
    [(5, 2, 1, 4), (5, 2, 1, 2)]
    """
    checks.expect_type("model", model, nn.Module, "give a torch.nn.Module")
    if not any(dtype is x for x in (None, torch.float32, torch.float64)):
        raise ValueError(
            f"dtype must be torch.float32, torch.float64 or None, got {dtype}; "
            "use one of these"
        )
    _expect_samplewise(model)
    if dtype is not None:
        model = _converted(model, dtype)
    chosen = _choose(model, layers)
    first, batches, total = shared.open_loader(loader)
    operations = sequential_operations(model, _inputs(0, first[0], None).ndim)
    roles = [x.get(role) for x in operations or () for role in ("weight", "bias")]
    named = sorted({x for x in roles if x is not None})
    with _evaluating(model), _watching(chosen) as seen:
        return shared.deliver(
            _rows(model, seen, chosen, batches, operations is not None),
            path,
            {x: _host(model.get_parameter(x)) for x in named},
            framework=("torch", str(torch.__version__)),
            architecture=repr(model),
            layers=list(chosen),
            operations=operations,
            class_names=class_names,
            provenance=provenance,
            total=total,
            progress=progress,
        )


def _converted(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    try:
        return copy.deepcopy(model).to(dtype)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"model must be copied for dtype = {dtype}, got {shown(str(error))}; "
            "convert it yourself and leave dtype out"
        ) from error


def _choose(model: nn.Module, layers: Sequence[str] | None) -> dict[str, nn.Module]:
    """Return the modules to export by name; refuse those that cannot be."""
    there = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, *_CONVOLUTIONS))
    }
    what = " (modules of kind Linear, Conv1d, Conv2d, Conv3d)"
    names = shared.choose_layers(layers, list(there), list(there), what)
    owners: dict[int, set[int]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(id(module))
    for name in names:
        module = there[name]
        for parameter in module.parameters(recurse=False):
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise _refusal(name, "is lazy and has no weights yet")
            if parameter.is_meta:
                raise _refusal(name, "is on the device 'meta' and has no weights")
            if len(owners[id(parameter)]) > 1:
                raise _refusal(name, "shares a parameter with another module")
            if parameter.dtype not in (torch.float32, torch.float64):
                raise _refusal(
                    name, f"is {parameter.dtype}; export with dtype=torch.float32"
                )
        if getattr(module, "groups", 1) != 1:
            raise _refusal(name, f"is a convolution of {module.groups} groups")
        if getattr(module, "padding_mode", "zeros") != "zeros":
            raise _refusal(name, f"pads by {module.padding_mode!r}, not by zeros")
    return {name: there[name] for name in names}


def _refusal(name: str, why: str) -> ValueError:
    return ValueError(
        "an export must hold ungrouped Linear and Conv modules, each used once in a "
        f"forward pass, on the batch, got one that differs: module {name!r} {why}; "
        "omit it with layers=[...]"
    )


def _expect_samplewise(model: nn.Module) -> None:
    """Refuse normalisation over the batch, which mixes samples even in eval mode."""
    for name, module in model.named_modules():
        if (
            isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.running_mean is None
        ):
            raise ValueError(
                f"module {name!r} normalises over the batch in eval mode too, so the "
                "errors of one sample depend on the others; use track_running_stats"
            )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode with gradients on, and every flag back after."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def _watching(
    chosen: dict[str, nn.Module],
) -> Iterator[_Seen]:
    """Yield a mapping that each forward pass fills with (features, output) by name."""
    seen: _Seen = {}
    handles = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
            features = _features(module, args[0] if args else kwargs["input"])
            if not output.requires_grad:
                output.requires_grad_()
            seen.setdefault(name, []).append((features, output))
            return output.clone()  # an in-place operation that follows spares ours

        return hook

    try:
        for name, module in chosen.items():
            handles.append(module.register_forward_hook(watch(name), with_kwargs=True))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _rows(
    model: nn.Module,
    seen: _Seen,
    chosen: dict[str, nn.Module],
    batches: Iterable[tuple[Any, Any]],
    with_inputs: bool,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of the schema batch by batch."""
    weight = next(iter(chosen.values())).weight
    for step, (given, labels) in enumerate(batches):
        inputs = _inputs(step, given, weight)
        stored = _host(inputs) if with_inputs else None
        seen.clear()
        with shared.answering(step, *_TAKES):
            logits = model(inputs)
        for name, calls in seen.items():
            if any(features is None for features, _ in calls):
                raise _refusal(name, "is given one sample without a batch axis")
        if not isinstance(logits, Tensor):
            raise ValueError(
                "model must give a tensor of logits (batch, C), got "
                f"{type(logits)}; wrap it so that it does"
            )
        shared.expect_precise(logits.dtype)
        labels = labels.cpu() if isinstance(labels, Tensor) else labels
        made = shared.outputs(step, _host(logits), labels, len(inputs))
        shared.expect_no_softmax(step, made["logits"])
        features = []
        for name in chosen:
            times = len(seen.get(name, ()))
            if times != 1:
                raise _refusal(name, f"is called {times} times in one forward pass")
            x = seen[name][0][0]
            if x is None or len(x) != len(inputs):
                raise _refusal(name, "does not see the batch on its first axis")
            features.append(x)
        errors = _errors(step, logits, seen, chosen)
        yield shared.row(stored, made, list(zip(features, errors, strict=True)))


def _inputs(step: int, given: Any, weight: Tensor | None) -> Tensor:
    """Return a batch of inputs, on the device and in the dtype of a weight."""
    if not isinstance(given, Tensor):
        given = shared.as_numbers(step, given)
        with shared.answering(step, "inputs must be numbers that torch has", _ADVICE):
            given = torch.tensor(given)
    shared.expect_samples(step, given.shape)
    if weight is None:
        return given
    return given.to(weight if given.is_floating_point() else weight.device)


def _errors(
    step: int,
    logits: Tensor,
    seen: _Seen,
    chosen: dict[str, nn.Module],
) -> list[np.ndarray]:
    """Return errors (n, C, T, b) of each module by one backward pass per label."""
    n, C = logits.shape
    outputs = [seen[name][0][1] for name in chosen]
    found: list[list[np.ndarray]] = [[] for _ in outputs]
    for c, seed in enumerate(shared.seeds(_host(logits))):
        gradients: Sequence[Tensor | None] = [None] * len(outputs)
        if logits.requires_grad:
            with shared.answering(step, *_DIFFERENTIABLE):
                gradients = torch.autograd.grad(
                    logits,
                    outputs,
                    torch.as_tensor(seed).to(logits),
                    retain_graph=c < C - 1,
                    allow_unused=True,
                )
        for name, gradient, rows in zip(chosen, gradients, found, strict=True):
            if gradient is None:
                raise _refusal(name, "does not reach the logits")
            if isinstance(chosen[name], _CONVOLUTIONS):
                gradient = gradient.flatten(2).transpose(1, 2)
            rows.append(_host(gradient.reshape(n, -1, gradient.shape[-1])))
    return [np.stack(rows, axis=1) for rows in found]


@torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
def _features(module: nn.Module, x: Tensor) -> np.ndarray | None:
    """Return inputs (n, T, a) of a module, patches of a convolution, bias appended.

    None without a batch axis.
    """
    convolution = isinstance(module, _CONVOLUTIONS)
    if x.ndim < 2 or (convolution and x.ndim != len(module.kernel_size) + 2):
        return None
    x = _patches(module, x) if convolution else x
    x = x.reshape(len(x), -1, x.shape[-1])
    return _host(x) if module.bias is None else shared.pad(_host(x))


def _patches(module: nn.Module, x: Tensor) -> Tensor:
    """Unfold (n, in, *space) into (n, T, in k...), the order of weight.reshape(b, -1).

    So a convolution is ``patches @ weight.reshape(b, -1).T``, in any dimension.
    """
    n, dims = len(x), len(module.kernel_size)
    for axis, (k, s, d) in enumerate(
        zip(module.kernel_size, module.stride, module.dilation, strict=True), start=2
    ):
        pad = module.padding[axis - 2] if isinstance(module.padding, tuple) else 0
        around = [pad, pad]
        if module.padding == "same":  # the odd one goes to the end, as in torch
            around = [d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2]
        x = nn.functional.pad(x, [0, 0] * (x.ndim - 1 - axis) + around)
        x = x.unfold(axis, d * (k - 1) + 1, s)[..., ::d]
    space, kernel = range(2, 2 + dims), range(2 + dims, 2 + 2 * dims)
    x = x.permute(0, *space, 1, *kernel)
    return x.reshape(n, math.prod(x.shape[1 : 1 + dims]), -1)


def _host(x: Tensor) -> np.ndarray:
    """Copy to the host in float64 or, if narrower, float32."""
    shared.expect_real(x.dtype)
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    return np.asarray(x.detach().to("cpu", kind, copy=True).numpy())
