"""A PyTorch classifier as a function of any choice of its parameters.

Nothing has to be understood of the modules: their parameters and buffers are replaced
by name (torch.func.functional_call) in the forward pass that is the model's own.
"""

from __future__ import annotations

import copy
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as tree

from refspec import checks
from refspec.exporters import feeding

_FEW = 16  # positions, of which one sample's product is no faster than reading weights

Choice = Sequence[str] | Callable[[str, nn.Parameter], bool] | None
_TAKES = (
    "model must take the inputs of the loader",
    "compare shapes and dtypes; one with float32 constants takes dtype=torch.float32",
)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return what DataParallel and torch.compile were put around, if anything."""
    while True:
        inner = getattr(model, "_orig_mod", None)  # torch.compile
        if inner is None and isinstance(
            model, (nn.DataParallel, nn.parallel.DistributedDataParallel)
        ):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def eager() -> AbstractContextManager[Any]:
    """Run parts that torch.compile has made as they were written."""
    # if it has made any: to import the compiler takes longer than most exports
    there = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if there else nullcontext()


def choose(
    model: nn.Module, parameters: Choice
) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Return the parameters chosen and the others, by name; weights that are tied once.

    By default those that are trained; else names, of parameters or of modules that hold
    some, or a predicate of name and parameter.
    """
    every = dict(model.named_parameters())
    if not every:
        raise ValueError("model must have parameters, got none; give a torch.nn.Module")
    for name, x in every.items():
        if isinstance(x, nn.parameter.UninitializedParameter) or x.is_meta:
            raise ValueError(
                f"parameters must hold numbers, got {name!r} that is lazy or on the "
                "device 'meta'; run the model once, or load its weights"
            )
        if not x.is_floating_point():
            raise ValueError(
                f"parameters must be real floating, got {name!r} of {x.dtype}; leave "
                "the model out, or take its real and imaginary parts apart"
            )
    if parameters is None:
        wanted = {name for name, x in every.items() if x.requires_grad}
        if not wanted:
            raise ValueError(
                "parameters must be some that are trained, got a model in which all "
                f"{len(every)} are frozen; name some of {shown_names(every)}"
            )
    elif callable(parameters):
        wanted = {name for name, x in every.items() if parameters(name, x)}
    else:
        wanted = _named(model, every, parameters)
    if not wanted:
        raise ValueError(
            f"parameters must choose some of {shown_names(every)}, got none of them; "
            "correct the names or the predicate"
        )
    return (
        {name: x for name, x in every.items() if name in wanted},
        {name: x for name, x in every.items() if name not in wanted},
    )


def _named(model: nn.Module, every: Mapping[str, Any], given: Any) -> set[str]:
    """Return names of parameters that are given, or are in modules that are given."""
    advice = "give names of parameters or modules in a list, or a predicate"
    if isinstance(given, str):
        raise TypeError(f"parameters must be a list, got {given!r}; {advice}")
    checks.expect_type("parameters", given, Iterable, advice)
    first = {id(x): name for name, x in every.items()}
    wanted: set[str] = set()
    for each in given:
        checks.expect_type("each of parameters", each, str, advice)
        found = {
            first[id(x)]
            for name, x in model.named_parameters(remove_duplicate=False)
            if name == each or name.startswith(f"{each}.")
        }
        if not found:
            raise ValueError(
                "parameters must name parameters, or modules that hold some, among "
                f"{shown_names(every)}, got {each!r}; correct the name"
            )
        wanted |= found
    return wanted


def shown_names(names: Iterable[str]) -> str:
    """List names, of many the first and the last."""
    some = list(names)
    return str(some if len(some) < 12 else [*some[:6], "...", *some[-4:]])


class Network:
    """A model in eval mode and in one precision, as a function of some parameters."""

    def __init__(
        self,
        model: nn.Module,
        chosen: Mapping[str, nn.Parameter],
        dtype: torch.dtype,
    ) -> None:
        self.model, self.dtype = model, dtype
        self.chosen = {name: self._constant(x) for name, x in chosen.items()}
        others = {n: x for n, x in model.named_parameters() if n not in chosen}
        others |= dict(model.named_buffers())
        self.others = {name: self._constant(x) for name, x in others.items()}
        self.device = next(iter(self.chosen.values())).device
        self.sizes = [x.numel() for x in self.chosen.values()]

    def _constant(self, x: Tensor) -> Tensor:
        """Copy numbers, so that what is trained later changes nothing here."""
        x = x.detach().clone()
        return x.to(self.dtype) if x.is_floating_point() else x

    def of(self, some: Iterable[str]) -> Network:
        """Return the same model as a function of some of its parameters."""
        found, names = copy.copy(self), set(some)
        every = {**self.others, **self.chosen}
        found.chosen = {n: x for n, x in self.chosen.items() if n in names}
        found.others = {n: x for n, x in every.items() if n not in names}
        found.sizes = [x.numel() for x in found.chosen.values()]
        return found

    def __call__(self, parameters: Mapping[str, Tensor], inputs: Any) -> Tensor:
        """Return what the model gives for logits of a batch; parameters by name."""
        return logits_of(self.output(parameters, inputs))

    def read(self, step: int, given: Any) -> tuple[Any, int]:
        """Return a batch as a call of the model, and how many inputs that is."""
        inputs = call(self.model, step, given)
        return inputs, count(step, inputs)

    def logits(self, step: int, inputs: Any) -> np.ndarray:
        """Return what the model gives for logits, on the host."""
        with self.running(), feeding.answering(step, *_TAKES), torch.no_grad():
            out = self.output(self.chosen, inputs)
        z = logits_of(out)
        feeding.expect_precise(z.dtype)
        return np.asarray(z.cpu().numpy())

    def part(self, inputs: Any, index: Any) -> Any:
        """Return some inputs, by their numbers or a slice."""
        return tree.tree_map(lambda x: x[index] if x.ndim else x, inputs)

    def joined(self, parts: Sequence[Any]) -> Any:
        """Return the inputs of all batches as those of one."""

        def together(*x: Any) -> Any:
            return torch.cat(x) if x[0].ndim else x[0]

        return tree.tree_map(together, *parts)

    def output(self, parameters: Mapping[str, Tensor], inputs: Any) -> Any:
        """Return what the model gives for a batch."""
        args, kwargs = self.placed(inputs)
        every = {**self.others, **parameters}
        return functional_call(self.model, every, tuple(args), dict(kwargs))

    def placed(self, inputs: Any) -> Any:
        """Put inputs on the device; real ones in the precision of the model."""

        def put(x: Tensor) -> Tensor:
            return x.to(self.device, self.dtype if x.is_floating_point() else x.dtype)

        return tree.tree_map(put, inputs)

    def leaves(self) -> dict[str, Tensor]:
        """Return the parameters as new leaves of a graph."""
        return {name: x.detach() for name, x in self.chosen.items()}

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Return a vector (P,) as parameters by name."""
        parts = torch.split(vector, self.sizes)
        pairs = zip(self.chosen.items(), parts, strict=True)
        return {name: part.reshape(x.shape) for (name, x), part in pairs}

    def flat(self, parts: Sequence[Tensor]) -> Tensor:
        """Return arrays of the parameters' shapes as one vector (P,)."""
        return torch.cat([x.reshape(-1) for x in parts])

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the model in eval mode, with derivatives of all orders; it is unchanged.

        Fused attention and recurrent kernels know no forward mode, compiled code none.
        """
        kept = [
            (module, dict(vars(module)), dict(module._parameters))
            for module in self.model.modules()
        ]
        fused = torch.backends.mha.get_fastpath_enabled()
        recurrent = any(isinstance(x, nn.RNNBase) for x in self.model.modules())
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # of modes and kernels that we chose
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(torch.autocast(self.device.type, enabled=False))
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(Plain())
            stack.enter_context(eager())
            if recurrent:
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            try:
                torch.backends.mha.set_fastpath_enabled(False)
                self.model.eval()
                yield
            finally:
                torch.backends.mha.set_fastpath_enabled(fused)
                # the mode; weights that hooks have set; parameters of a module with
                # two names, which functional_call does not give back
                for module, state, parameters in kept:
                    vars(module).clear()
                    vars(module).update(state)
                    module._parameters.update(parameters)


class Plain(TorchFunctionMode):  # type: ignore[misc, unused-ignore]
    """Weight norm by its definition, convolutions of few positions as one product.

    The fused weight norm has no forward mode; its second derivatives leave the norm
    fixed. In float64 torch's convolution reads all weights once a sample.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch._weight_norm:
            v, g, dim = args
            return v * (g / torch.norm_except_dim(v, 2, dim))
        if func is torch.conv2d and len(args) == 7 and not kwargs:
            made = _at_once(*args)
            if made is not None:
                return made
        return func(*args, **(kwargs or {}))


def _at_once(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: str | tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor | None:
    """Return a convolution of all samples as one product, or None where that is slow.

    With its patches the features of each position; in float64, on the host.
    """
    slow = x.dtype == torch.float64 and x.device.type == "cpu" and x.ndim == 4
    if not slow or groups != 1 or isinstance(padding, str):
        return None
    around = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    space = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in around]
    if math.prod(space) > _FEW:
        return None
    patches = nn.functional.unfold(x, weight.shape[2:], dilation, padding, stride)
    made = patches.mT.reshape(-1, patches.shape[1]) @ weight.reshape(len(weight), -1).T
    made = made if bias is None else made + bias
    return made.reshape(len(x), -1, len(weight)).mT.reshape(len(x), -1, *space)


def logits_of(out: Any) -> Tensor:
    """Return the logits that a model gives: a tensor, or `logits` of an output."""
    if isinstance(out, Mapping) and "logits" in out:
        out = out["logits"]
    out = getattr(out, "logits", out)
    if not isinstance(out, Tensor):
        raise ValueError(
            "model must give a tensor of logits (batch, C), or an output that holds it "
            f"as `logits`, got {type(out).__name__}; wrap it so that it does"
        )
    return out


def call(
    model: nn.Module, step: int, given: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return inputs as a call: by name, or several by place, if it takes such."""
    several = isinstance(given, tuple) or (
        isinstance(given, list) and any(isinstance(x, Tensor) for x in given)
    )
    if isinstance(given, Mapping):
        whole: Any = {str(k): _tensor(step, x) for k, x in given.items()}
        call: tuple[tuple[Any, ...], dict[str, Any]] = (), whole
    elif several:
        whole = tuple(_tensor(step, x) for x in given)
        call = whole, {}
    else:
        return (_tensor(step, given),), {}
    try:
        inspect.signature(model.forward).bind(*call[0], **call[1])
    except (TypeError, ValueError):  # it takes them as one argument
        return (whole,), {}
    return call


def _tensor(step: int, x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x.detach().cpu()
    with feeding.answering(step, "inputs must be numbers that torch has", "convert"):
        return torch.tensor(feeding.as_numbers(step, x))


def count(step: int, inputs: Any) -> int:
    """Return the number of samples, the same in all inputs of a batch."""
    return feeding.count(step, tree.tree_leaves(inputs))
