"""The Fisher information and the Hessian of any PyTorch classifier, by derivatives.

No layer need be understood, and none is left out: forward mode gives J V, reverse mode
J'S, in any choice of parameters (`refspec.differentiated`); the derivative of the
loss's gradient gives products with its Hessian (`refspec.implicit`). Where rows are too
many to be formed, those of layers that are understood are factors (`torch_factors`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap
from torch.utils import _pytree as tree

from refspec import checks
from refspec.backend import Array
from refspec.differentiated import Jacobian, NetworkMoment, fits
from refspec.differentiated import moment as moment_of_jacobian
from refspec.export.errors import shown
from refspec.exporters import feeding
from refspec.exporters.gathering import Samples, gathered_in_both
from refspec.exporters.reading import Reading, expect_smoothing
from refspec.exporters.torch_factors import factors
from refspec.exporters.torch_network import (
    Choice,
    Network,
    choose,
    shown_names,
    unwrapped,
)
from refspec.factors import Factor
from refspec.implicit import HessianOperator, operator

_ROOM = 2**30  # bytes that one pass may keep, on a device a share of what is free


def moment(
    model: nn.Module,
    loader: Iterable[Any],
    parameters: Choice = None,
    *,
    dtype: torch.dtype = torch.float64,
    classes: Sequence[int] | None = None,
    class_weights: Any = None,
    sample_weights: Any = None,
    ignore_index: int | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> NetworkMoment:
    """Return the Fisher information of any classifier, in any of its parameters.

    Parameters
    ----------
    model : torch.nn.Module
        Gives logits (batch, C), or an output that holds them as ``logits``; any graph
        that is differentiable and treats every sample by itself in eval mode. It is
        given back as it was.
    loader
        See `refspec.exporters`. Inputs may be a mapping (named arguments of the model)
        or a tuple (its arguments).
    parameters : sequence of str or callable, optional
        Names of parameters, or of modules with all that they hold; or a predicate of
        name and parameter. By default all that are trained (``requires_grad``).
    dtype : torch.float64 or torch.float32
        The precision in which the model is run and differentiated.
    classes, class_weights, sample_weights, ignore_index, class_names, seed
        See `refspec.exporters`.

    Returns
    -------
    NetworkMoment
        Its ``coverage`` says which parameters it is of, ``blocks`` their names. Arrays
        are NumPy's, or torch's on the device of the model.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If a name is unknown, samples are mixed, the model cannot be differentiated or
        run in the precision, or the batches do not fit.

    Notes
    -----
    Theory: theory/curvature.md#C8, #C11.

    J V by forward mode where all operations have it; else the reverse mode is
    differentiated; else J is formed by it. Rows are formed where they fit in 256 MiB: C
    reverse products a sample, all samples of a chunk at once where operations can be
    batched. Where they do not, those of Linear and Conv layers that an export would
    take are factors, gathered and checked as there, if these fit in a third of the
    memory and the rows of all other parameters in 256 MiB; they are compared with four
    products of forward mode. Where factors do not fit together, they are gathered layer
    by layer for the Gram matrix XX', if that is what is asked for, and it is compared
    with four products with X and X'. Else rows are known by products alone. Parameters
    are copied: what is trained later changes nothing.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    >>> batch = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    >>> print(moment(model, [batch]).coverage)
    covers all 34 parameters (3 modules)
    >>> print(moment(model, [batch], ["1"]).coverage)
    covers 8 of 34 parameters (1 of 3 modules); left out: 0 16, 2 10
    """
    how = Reading(class_names, classes, class_weights, sample_weights, ignore_index)
    _, pairs, _ = feeding.open_loader(loader)
    batches = list(pairs)  # a stream can be read once
    pair, samples, found = _opened(model, batches, parameters, dtype, how, Derivative)
    network, source, rest = pair[0].network, None, None
    seen: dict[str, Factor] = {}
    if not fits(pair[0].shape):
        seen, source = factors(network, batches, samples, pair[0].like)
        there = {*seen} if source is None else source.parameters
        left = {n: x for n, x in network.chosen.items() if n not in there}
        if there and left:
            rest = Derivative(network.of(left), samples)
    return moment_of_jacobian(
        pair[0],
        samples.logits,
        samples.labels,
        sample_weights=samples.weights,
        other=pair[1] if len(pair) > 1 else None,
        factors=seen,
        source=source,
        rest=rest,
        seed=seed,
        **found,
    )


def hessian(
    model: nn.Module,
    loader: Iterable[Any],
    parameters: Choice = None,
    *,
    dtype: torch.dtype = torch.float64,
    classes: Sequence[int] | None = None,
    class_weights: Any = None,
    sample_weights: Any = None,
    ignore_index: int | None = None,
    class_names: Sequence[str] | None = None,
    label_smoothing: float = 0.0,
    seed: int = 0,
) -> HessianOperator:
    """Return the Hessian of the mean cross-entropy of any classifier, by its products.

    Parameters
    ----------
    model, loader, parameters, dtype
        See `moment`.
    classes, class_weights, sample_weights, ignore_index, class_names
        See `refspec.exporters`.
    label_smoothing, seed
        See `refspec.exporters`.

    Returns
    -------
    HessianOperator
        ``ends(k)`` has the largest and the smallest eigenvalues, ``matrix()`` is dense;
        `refspec.attribution.attribute_hessian` attributes it through `moment` of the
        same parameters.

    Raises
    ------
    TypeError, ValueError
        See `moment`; operations must be differentiable twice.

    Notes
    -----
    Theory: theory/hessian.md#H11. The exact Hessian, not the Gauss-Newton matrix: the
    reverse pass is differentiated again in the direction of each column. At a kink (of
    a relu, of max pooling) second derivatives are those of the branch taken.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 2))
    >>> batch = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    >>> H = hessian(model, [batch])
    >>> H.matrix().shape, len(H.ends(2).values)
    ((26, 26), 4)
    """
    expect_smoothing(label_smoothing)
    how = Reading(class_names, classes, class_weights, sample_weights, ignore_index)
    pair, _, found = _opened(model, loader, parameters, dtype, how, SecondDerivative)
    one, *other = ((partial(x.dot, smoothing=label_smoothing), x.like) for x in pair)
    return operator(
        *one,
        sum(pair[0].network.sizes),
        other=other[0] if other else None,
        seed=seed,
        **found,
    )


def _opened(
    model: nn.Module,
    loader: Iterable[Any],
    parameters: Choice,
    dtype: torch.dtype,
    how: Reading,
    kind: type[_Passes],
) -> tuple[list[Any], Samples, dict[str, Any]]:
    """Return passes in the precision asked for and, where it runs, in the other one.

    With the samples, and which parameters are chosen.
    """
    checks.expect_type("model", model, nn.Module, "give a torch.nn.Module")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"dtype must be torch.float32 or torch.float64, got {dtype}; use one of "
            "these"
        )
    model = unwrapped(model)
    chosen, others = choose(model, parameters)
    wide, narrow = (Network(model, chosen, x) for x in (torch.float64, torch.float32))
    networks, samples = gathered_in_both(
        wide, narrow, loader, how, single=dtype == torch.float32
    )
    pair = [kind(x, samples) for x in networks]
    blocks, left_out = (
        [(name, x.numel()) for name, x in some.items()] for some in (chosen, others)
    )
    return pair, samples, {"blocks": blocks, "left_out": left_out}


class _Passes:
    """Passes of a network over samples sorted by class, a chunk at a time."""

    def __init__(self, network: Network, samples: Samples) -> None:
        self.network, self.samples = network, samples
        self._sample = self._kept()

    @property
    def example(self) -> Array:
        """An array as results are: NumPy's on the host, torch's on a device."""
        device, dtype = self.network.device, self.network.dtype
        return _given_back(torch.zeros(1, dtype=dtype, device=device))

    def _variables(self) -> dict[str, Tensor]:
        """Return the parameters as what is differentiated by."""
        return {n: x.requires_grad_() for n, x in self.network.leaves().items()}

    def _placed(self, x: Array) -> Tensor:
        return torch.as_tensor(x).to(self.network.device, self.network.dtype)

    def _logits(self, at: Mapping[str, Tensor], inputs: np.ndarray) -> Tensor:
        """Return logits (m S, C) of m inputs by their numbers."""
        given = self.network.part(self.samples.inputs, inputs)
        return self.samples.flat(self.network(at, given), torch)

    def _step(self, copies: int) -> int:
        """Return how many inputs' passes fit in the memory that is there."""
        room, device = _ROOM, self.network.device
        if device.type == "cuda":
            room = max(room, torch.cuda.mem_get_info(device)[0] // 4)
        return int(max(1, room // max(1, copies * self._sample)))

    def _kept(self) -> int:
        """Count the bytes that one sample's pass keeps for the way back."""
        sizes, own = [0], {x.data_ptr() for x in self.network.chosen.values()}

        def seen(x: Tensor) -> Tensor:
            if x.data_ptr() not in own:
                sizes.append(x.nbytes)
            return x

        with (
            self._differentiating(),
            torch.autograd.graph.saved_tensors_hooks(seen, lambda x: x),
        ):
            z = self._logits(self._variables(), np.arange(1))
        if not z.requires_grad:
            raise ValueError(
                "logits must be a function of the parameters chosen, got logits that "
                f"none of {shown_names(self.network.chosen)} reaches; choose others"
            )
        return sum(sizes)

    @contextmanager
    def _differentiating(self) -> Iterator[None]:
        """Run the model; whatever a framework says of it becomes a sentence."""
        try:
            with self.network.running():
                yield
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except (RuntimeError, TypeError, IndexError) as error:
            raise ValueError(
                "logits must be differentiable by the parameters in "
                f"{self.network.dtype}, got {type(error).__name__} "
                f"{shown(' '.join(str(error).split()))}; leave out what changes values "
                "in place or has a precision of its own, or choose other parameters"
            ) from error


class Derivative(_Passes, Jacobian):
    """J of a network at samples that are sorted by class."""

    def __init__(self, network: Network, samples: Samples) -> None:
        super().__init__(network, samples)
        # until an operation has no such mode; when none is left, J is formed
        self._ways: list[Any] = [self._by_forward_mode, self._by_reverse_mode]
        self._batched = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """N samples, C logits, P parameters."""
        N, C = self.samples.logits.shape
        return N, C, sum(self.network.sizes)

    @property
    def like(self) -> Array:
        """NumPy's on the host, torch's on a device."""
        return self.example

    def dot(self, V: Array, i: int, j: int) -> Array:
        """Return J V of samples i to j, shape (j - i, C, m)."""
        columns = self._placed(V).T
        image = columns.new_empty((j - i, self.shape[1], len(columns)))
        with self._differentiating():
            for piece in self.samples.pieces(i, j, self._step(2)):
                made = self._pushed(piece.inputs, columns)
                if made is None:
                    return self._formed(columns, i, j)
                image[piece.samples] = made[piece.rows]
            return _given_back(image)

    def cross(self, S: Array, i: int, j: int) -> Array:
        """Return sum_i J_i'S_i, shape (P, m)."""
        seeds = self._placed(S)
        total = seeds.new_zeros((seeds.shape[2], sum(self.network.sizes)))
        with self._differentiating():
            for piece in self.samples.pieces(i, j, self._step(1)):
                at = self._variables()
                z = self._logits(at, piece.inputs)
                each = seeds.new_zeros((len(z), *seeds.shape[1:]))
                each[piece.rows] = seeds[piece.samples]
                for row, seed in zip(total, each.unbind(2), strict=True):
                    row += self.network.flat(_pulled(z, at, seed))
        return _given_back(total.T)

    def explicit(self, i: int, j: int) -> Array:
        """Return J_i of samples i to j, (j - i, C, P)."""
        _, C, P = self.shape
        if not self._batched:
            return super().explicit(i, j)
        step, parts = self._step(2 * C), []
        try:
            with self._differentiating():
                for a in range(i, j, step):
                    b = min(a + step, j)
                    parts.append(self._each(a, b).reshape(b - a, C, P))
                return _given_back(torch.cat(parts))
        except ValueError:  # an operation that cannot be batched over samples
            self._batched = False
            return super().explicit(i, j)

    def _pushed(self, inputs: np.ndarray, columns: Tensor) -> Tensor | None:
        """Return J V of some inputs, (m S, C, k), columns (k, P) of V; None: no way."""
        while self._ways:
            try:
                found: Tensor = self._ways[0](inputs, columns)
                return found
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # of which NotImplementedError is one
                self._ways.pop(0)
        return None

    def _formed(self, columns: Tensor, i: int, j: int) -> Array:
        """Return J V of samples i to j, of J as it is formed."""
        step, parts = self._step(2 * self.shape[1]), []
        for a in range(i, j, step):
            J = torch.as_tensor(self.explicit(a, min(a + step, j)))
            parts.append(torch.stack([J @ v for v in columns], 2))
        return _given_back(torch.cat(parts))

    def _by_reverse_mode(self, inputs: np.ndarray, columns: Tensor) -> Tensor:
        """Return J V: J'u is linear in u, its derivative in the direction V is J V."""
        at = self._variables()
        z = self._logits(at, inputs)
        u = torch.zeros_like(z, requires_grad=True)
        found = _pulled(z, at, u, create_graph=True)
        some = [k for k, x in enumerate(found) if x.requires_grad]
        images = []
        for v in columns:
            parts = list(self.network.named(v).values())
            (image,) = torch.autograd.grad(
                [found[k] for k in some],
                [u],
                [parts[k] for k in some],
                retain_graph=True,
                materialize_grads=True,
            )
            images.append(image)
        return torch.stack(images, 2)

    def _by_forward_mode(self, inputs: np.ndarray, columns: Tensor) -> Tensor:
        """Return J V, a pass for each column."""
        return torch.stack([self._ahead(inputs, v) for v in columns], 2)

    def _ahead(self, inputs: np.ndarray, v: Tensor) -> Tensor:
        """Return J v by forward mode, (m S, C)."""
        primals, tangents = (self.network.chosen,), (self.network.named(v),)
        image: Tensor
        _, image = jvp(lambda x: self._logits(x, inputs), primals, tangents)
        return image

    def _each(self, a: int, b: int) -> Tensor:
        """Return J of samples a to b, each by itself, all at once."""
        C, S = self.shape[1], self.samples.S
        kind = {"dtype": self.network.dtype, "device": self.network.device}
        one, which = torch.eye(C, **kind), torch.eye(S, **kind)
        numbers, of = self.samples.at(a, b)

        def rows(sample: Any, own: Tensor) -> Tensor:
            def logits(x: Mapping[str, Tensor]) -> Tensor:
                alone = tree.tree_map(lambda y: y[None], sample)
                z = self.samples.flat(self.network(x, alone), torch)
                return (own[:, None] * z).sum(0)  # its own among S of an input

            _, pull = vjp(logits, self.network.chosen)
            (parts,) = vmap(pull)(one)
            return torch.cat([x.reshape(C, -1) for x in parts.values()], 1)

        given = self.network.part(self.samples.inputs, numbers)
        every: Tensor = vmap(rows)(self.network.placed(given), which[of])
        return every


class SecondDerivative(_Passes):
    """The Hessian of the cross-entropy, by its products."""

    @property
    def like(self) -> Array:
        """NumPy's on the host, torch's on a device."""
        return self.example

    def dot(self, V: Array, smoothing: float) -> Array:
        """Return H V, shape (P, m)."""
        columns, total = self._placed(V).T, self._placed(0 * V).T
        known, N = self.samples, len(self.samples.labels)
        with self._differentiating():
            for piece in known.pieces(0, N, self._step(4)):
                at = self._variables()
                z = self._logits(at, piece.inputs)
                s, labels = z.new_zeros(len(z)), torch.zeros(len(z), dtype=torch.int64)
                s[piece.rows] = self._placed(known.weights[piece.samples])
                labels[piece.rows] = torch.as_tensor(known.labels[piece.samples])
                losses = _losses(z, labels.to(z.device), smoothing)
                gradient = self.network.flat(_pulled(losses, at, s, create_graph=True))
                for row, v in zip(total, columns, strict=True):
                    row += self.network.flat(_pulled(gradient, at, v))
        return _given_back(total.T)


def _losses(z: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return -log p of smoothed labels, (n,), by differences from the largest logit.

    So p - e_c, its derivative, keeps its digits where the sample is fitted.
    """
    top = z.argmax(1, keepdim=True)
    gaps = z - z.gather(1, top)
    others = gaps.exp().scatter(1, top, 0.0)
    own = gaps.gather(1, labels[:, None])[:, 0]
    own = (1 - smoothing) * own + smoothing * gaps.mean(1)
    return torch.log1p(others.sum(1)) - own


def _pulled(
    z: Tensor, at: Mapping[str, Tensor], seed: Tensor, *, create_graph: bool = False
) -> Sequence[Tensor]:
    """Return J'S in every parameter, 0 in those that do not reach the logits."""
    parts: Sequence[Tensor] = torch.autograd.grad(
        z,
        list(at.values()),
        seed,
        retain_graph=True,
        create_graph=create_graph,
        materialize_grads=True,
    )
    return parts


def _given_back(x: Tensor) -> Array:
    """Return an array of NumPy where there is no device."""
    x = x.detach()
    return x.numpy() if x.device.type == "cpu" else x
