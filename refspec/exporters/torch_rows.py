"""Features and errors of a PyTorch model's linear and conv modules, batch by batch.

Forward hooks see what enters each module; C backward passes over the whole batch, one
for each label c', give the derivative of ``-log_softmax(logits)[c']`` with respect to
what leaves it. In eval mode samples do not interact, so row n of the batch's
derivative belongs to sample n. That all of this is so is not taken for granted: rows
of some samples are compared with torch's own gradient of the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as tree

from refspec.export.errors import shown
from refspec.exporters import checking, delivery, feeding
from refspec.exporters.reading import Layout, Reading
from refspec.exporters.sections import Section, confirmed, without
from refspec.exporters.torch_layers import CONVOLUTIONS, features, host, refusal
from refspec.exporters.torch_network import Plain, call, count, eager, logits_of
from refspec.exporters.torch_operations import describe

_SEEN = 8  # samples of a batch that are checked
_ADVICE = "compare the shapes and dtypes of inputs and weights"
_TAKES = "model must take the inputs of the loader", _ADVICE
_DIFFERENTIABLE = (
    "logits must be differentiable by what leaves each module",
    "leave out what changes values in place, or is no function of the weights",
)

#: By name of a module: (features, output) of each call in one forward pass.
_Calls = dict[str, list[tuple[np.ndarray | str | None, Tensor]]]


def converted(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a model in another precision."""
    try:
        return copy.deepcopy(model).to(dtype)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"model must be copied for dtype = {dtype}, got {shown(str(error))}; "
            "convert it yourself and leave dtype out"
        ) from error


def expect_samplewise(model: nn.Module) -> None:
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
def evaluating(model: nn.Module, chosen: Mapping[str, nn.Module]) -> Iterator[None]:
    """Run the model in eval mode, its own code, in its own precision; then undo it."""
    flags = [(module, module.training) for module in model.modules()]
    own = [x for m in chosen.values() for x in (m.weight, m.bias) if x is not None]
    trained = [(x, x.requires_grad) for x in own]
    fused = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(own[0].device.type, enabled=False))
        stack.enter_context(eager())
        stack.enter_context(Plain())
        try:
            torch.backends.mha.set_fastpath_enabled(False)  # which calls no module
            model.eval()
            with feeding.answering(0, "weights must take gradients", "copy the model"):
                for x in own:
                    x.requires_grad_()
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for x, flag in trained:
                if not x.is_inference():
                    x.requires_grad_(flag)
            for module, training in flags:
                module.training = training


@dataclass(eq=False)
class _Seen:
    """What one forward pass shows of each module: (features, output) of every call.

    Features are None without a batch axis, or text that says what else is wrong.
    """

    calls: _Calls = field(default_factory=dict)
    looking: bool = True


@contextmanager
def watching(chosen: Mapping[str, nn.Module], seen: _Seen) -> Iterator[None]:
    """Let each forward pass tell what is seen of the modules."""
    handles = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            if not seen.looking:
                return output
            x = next(iter((*args, *kwargs.values())), None)
            calls = seen.calls.setdefault(name, [])
            if not isinstance(x, Tensor) or not isinstance(output, Tensor):
                calls.append(("takes or gives no tensor", torch.empty(0)))
                return output
            if output.dtype not in (torch.float32, torch.float64):
                why = f"computes in {output.dtype}; leave automatic casting"
                calls.append((why, output))
                return output
            if not output.requires_grad:
                output.requires_grad_()
            calls.append((features(module, x), output))
            return output.clone()  # an in-place operation that follows spares ours

        return hook

    try:
        for name, module in chosen.items():
            handles.append(module.register_forward_hook(watch(name), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(eq=False)
class Exporter:
    """A model at work on batches."""

    model: nn.Module
    chosen: Mapping[str, nn.Module]
    how: Reading
    checked: set[int]
    section: Section = field(default_factory=lambda: without("not looked for"))
    seen: _Seen = field(default_factory=_Seen)

    def described(self, given: Any) -> Section:
        """Describe the model by operations that give its logits of some samples."""
        args, kwargs = self._placed(call(self.model, 0, given))
        if self.how.classes is not None:
            return without("classes= leaves out some of its logits")
        if len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
            return without("its inputs are not one array")
        few = args[0][:4]
        section = describe(self.model, few)
        if section.operations is None:
            return section
        with feeding.answering(0, *_TAKES), torch.no_grad():
            z = self.model(few)
        if not isinstance(z, Tensor) or z.ndim != 2 or z.shape[1] < 2:
            return without("it does not give logits (batch, C), C >= 2, for its inputs")
        return confirmed(section, host(few), host(z))

    def sizes(self, given: Any) -> dict[str, tuple[int, int, int]]:
        """Return positions, features and errors (T, a, b) of each module in an input.

        Of one input, which may hold several samples.
        """
        part = _part(self._placed(call(self.model, 0, given)), np.arange(1))
        _, found = self._seen(self._run(0, part)[1], 1)
        pairs = zip(found, self.chosen.items(), strict=True)
        return {n: (*x.shape[1:], len(module.weight)) for x, (n, module) in pairs}

    def rows(self, batches: Iterable[tuple[Any, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the arrays of the schema batch by batch."""
        rng = np.random.default_rng(1)
        for step, (given, labels) in enumerate(batches):
            inputs = self._placed(call(self.model, step, given))
            n = count(step, inputs)
            stored = None
            if self.section.operations is not None:
                stored = host(inputs[0][0])
            out, calls = self._run(step, inputs)
            outputs, found = self._seen(calls, n)
            z = logits_of(out)
            feeding.expect_precise(z.dtype)
            layout = self.how.layout(step, z.shape, labels, n)
            z = self.how.chosen(layout.flat(z, torch))
            made = self.how.outputs(step, host(z), labels, n, layout)
            checking.expect_no_softmax(step, made["logits"])
            if step in self.checked:
                some = np.sort(rng.choice(n, min(n, _SEEN), replace=False))
                self._check(step, _part(inputs, some), inputs, layout, rng)
            errors = self._errors(step, z, n, outputs)
            features = _repeated(found, layout.samples)
            pairs = list(zip(features, errors, strict=True))
            yield delivery.row(stored, made, pairs)

    def expect_understood(self, given: Any, labels: Any) -> None:
        """Check the modules on some samples of a batch, without the errors of all."""
        inputs = self._placed(call(self.model, 0, given))
        n, rng = count(0, inputs), np.random.default_rng(1)
        out, calls = self._run(0, inputs)
        self._seen(calls, n)
        layout = self.how.layout(0, logits_of(out).shape, labels, n)
        some = np.sort(rng.choice(n, min(n, _SEEN), replace=False))
        self._check(0, _part(inputs, some), inputs, layout, rng)

    def _placed(self, inputs: Any) -> Any:
        """Put inputs on the device, real ones in the dtype of the weights."""
        weight = next(iter(self.chosen.values())).weight

        def put(x: Tensor) -> Tensor:
            return x.to(weight if x.is_floating_point() else weight.device)

        return tree.tree_map(put, inputs)

    def _run(self, step: int, inputs: Any) -> tuple[Any, _Calls]:
        """Return what the model gives, and the calls of its modules."""
        args, kwargs = inputs
        calls: _Calls = {}
        self.seen.calls = calls
        with feeding.answering(step, *_TAKES):
            return self.model(*args, **kwargs), calls

    def _seen(self, calls: _Calls, n: int) -> tuple[list[Tensor], list[np.ndarray]]:
        """Return outputs and features of each module; refuse what is not one call."""
        outputs, found = [], []
        for name, each in calls.items():
            for x, _ in each:
                if isinstance(x, str):
                    raise refusal(name, x)
                if x is None:
                    raise refusal(name, "is given one sample without a batch axis")
        for name in self.chosen:
            each = calls.get(name, [])
            if len(each) != 1:
                raise refusal(name, f"is called {len(each)} times in one forward pass")
            x, output = each[0]
            if not isinstance(x, np.ndarray) or len(x) % n:
                raise refusal(name, "does not see the batch on its first axis")
            outputs.append(output)
            # tokens or frames that were flattened into the batch are positions; that
            # they are in this order the gradient tells
            found.append(x.reshape(n, -1, x.shape[-1]))
        return outputs, found

    def _errors(
        self, step: int, z: Tensor, n: int, outputs: Sequence[Tensor]
    ) -> list[np.ndarray]:
        """Return errors (n S, C, T, b) of each module, by a backward pass per label."""
        C, S = z.shape[1], len(z) // n
        found: list[np.ndarray] = []
        for c, seed in enumerate(delivery.seeds(host(z))):
            each = self._of_label(step, z, n, seed, outputs, c < C - 1)
            for s, parts in enumerate(each):
                for k, x in enumerate(parts):
                    if c == s == 0:
                        found.append(np.empty((n, S, C, *x.shape[1:]), x.dtype))
                    found[k][:, s, c] = x
        return [x.reshape(n * S, *x.shape[2:]) for x in found]

    def _of_label(
        self,
        step: int,
        z: Tensor,
        n: int,
        seed: np.ndarray,
        outputs: Sequence[Tensor],
        keep: bool,
    ) -> Iterator[list[np.ndarray]]:
        """Yield what a seed (n S, C) gives each module, (n, T, b), of s = 0, 1, ..."""
        S, whole = len(z) // n, torch.as_tensor(seed).to(z)
        for s in range(S):  # samples of one input meet in it: one at a time
            only = whole
            if S > 1:
                only = torch.zeros_like(whole)
                only[s::S] = whole[s::S]
            parts = self._pulled(step, z, only, outputs, keep or s < S - 1)
            found = []
            for (name, module), x in zip(self.chosen.items(), parts, strict=True):
                if x is None:
                    raise refusal(name, "does not reach the logits")
                # as it lies in memory: it is copied once, to its place among the errors
                x = host(x, copy=False)
                if isinstance(module, CONVOLUTIONS):
                    found.append(x.reshape(n, x.shape[1], -1).swapaxes(1, 2))
                else:
                    found.append(x.reshape(n, -1, x.shape[-1]))
            yield found

    def _pulled(
        self, step: int, z: Tensor, seed: Tensor, by: Sequence[Tensor], keep: bool
    ) -> Sequence[Tensor | None]:
        """Return the derivative of seed . z by each of some tensors, None if none."""
        if not z.requires_grad:
            return [None] * len(by)
        with feeding.answering(step, *_DIFFERENTIABLE):
            parts: Sequence[Tensor | None] = torch.autograd.grad(
                z, by, seed, retain_graph=keep, allow_unused=True
            )
        return parts

    def _check(
        self,
        step: int,
        part: Any,
        whole: Any,
        layout: Layout,
        rng: np.random.Generator,
    ) -> None:
        """Check the model on a part of a batch, or on all if it takes no other size."""
        try:
            out, calls = self._run(step, part)
        except ValueError:
            part = whole
            out, calls = self._run(step, part)
        logits, n = logits_of(out), count(step, part)
        outputs, found = self._seen(calls, n)
        z, S = self.how.chosen(layout.flat(logits, torch)), layout.samples
        # rows of one label, by their own pass, and torch's gradient by another
        drawn = checking.probe(n * S, z.shape[1], rng)
        seed = delivery.all_seeds(host(z))[:, drawn.label]
        each = zip(*self._of_label(step, z, n, seed, outputs, keep=True), strict=True)
        rows = [np.stack(x, 1).reshape(n * S, 1, *x[0].shape[1:]) for x in each]
        modules = list(self.chosen.values())
        weights = [x for m in modules for x in (m.weight, m.bias) if x is not None]
        given = torch.as_tensor(seed * drawn.weights[:, None]).to(z)
        parts = iter(self._pulled(step, z, given, weights, keep=False))
        alone, path, unit = checking.Probe(drawn.weights, 0), self._path(), _unit(z)
        for name, x, e in zip(self.chosen, _repeated(found, S), rows, strict=True):
            gradient = _joined(self.chosen[name], parts)
            checking.expect_gradient(step, name, (x, e), alone, gradient, path, unit)
        self._check_alone(step, part, logits, path)

    def _check_alone(self, step: int, inputs: Any, z: Tensor, path: int) -> None:
        """Compare logits with those of the same samples among others."""
        others, same = checking.replaced(len(z))
        if not same:
            return
        self.seen.looking = False
        with torch.no_grad():
            again = logits_of(self._run(step, _part(inputs, others))[0])
        self.seen.looking = True
        one, other = host(z[:same]), host(again[:same])
        checking.expect_alone(step, one, other, path, _unit(z))

    def _path(self) -> int:
        sizes = ((len(x), x[0].numel()) for x in self.model.parameters() if x.ndim > 1)
        return checking.path_length(sizes)


def _part(inputs: Any, index: np.ndarray) -> Any:
    """Return some samples of a batch."""
    return tree.tree_map(
        lambda x: x[torch.as_tensor(index, device=x.device)] if x.ndim else x, inputs
    )


def _repeated(found: Sequence[np.ndarray], S: int) -> list[np.ndarray]:
    """Return the features of each of S samples that one input holds."""
    return [np.repeat(x, S, axis=0) if S > 1 else x for x in found]


def _joined(module: nn.Module, parts: Iterator[Tensor | None]) -> np.ndarray:
    """Return a gradient by [weight bias], (b, a), from the next of the parts."""
    columns = []
    for x in (module.weight, module.bias):
        if x is not None:
            part = next(parts)
            part = torch.zeros_like(x) if part is None else part
            columns.append(part.reshape(len(x), -1))
    return host(torch.cat(columns, 1) if columns[1:] else columns[0], copy=False)


def _unit(z: Tensor) -> float:
    """Return the unit roundoff of products, coarser than the dtype's if that is on."""
    if z.dtype == torch.float64:
        return 2.0**-53
    if torch.get_float32_matmul_precision() == "medium":
        return 2.0**-8  # bfloat16
    backends = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    return 2.0**-11 if z.is_cuda and any(backends) else 2.0**-24
