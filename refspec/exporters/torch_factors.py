"""Rows of a PyTorch classifier as factors, wherever a layer is understood.

Of most networks nearly all parameters are the weights and biases of linear maps. Their
rows are errors (x) features, which an export gathers and checks; what cannot be
exported is left to differentiation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from refspec import backend, memory
from refspec.backend import Array
from refspec.classes import log_softmax
from refspec.differentiated import fits
from refspec.exporters import checking, feeding
from refspec.exporters.checking import LayerError
from refspec.exporters.gathering import Samples
from refspec.exporters.torch_layers import choose, linear
from refspec.exporters.torch_network import Network
from refspec.exporters.torch_rows import (
    Exporter,
    converted,
    evaluating,
    expect_samplewise,
    watching,
)
from refspec.factors import Factor, Factors, weighted
from refspec.layerwise import Source
from refspec.rows import fewer

_COPIES = 3  # of features and errors: gathered, scaled, and C - 1 rows of C


def factors(
    network: Network, batches: Sequence[Any], samples: Samples, like: Array
) -> tuple[dict[str, Factor], Gathered | None]:
    """Return the rows of each parameter that is one of a linear map, by its name.

    None of a layer that an export would refuse, none where explicit rows of the others
    do not fit. What does not fit together is gathered layer by layer.
    """
    chosen, (N, C) = network.chosen, samples.logits.shape
    own = {name: _parameters(name, x) for name, x in linear(network.model).items()}
    names = [name for name, roles in own.items() if any(x in chosen for x in roles)]

    def others() -> list[str]:
        seen = {x for name in names for x in own[name]}
        return [name for name in chosen if name not in seen]

    while names and fits((N, C, sum(chosen[x].numel() for x in others()))):
        try:
            some = Gathered(network, batches, samples, like, names)
            if some.fit:
                return some.every(), None
            some.expect_understood()
        except LayerError as error:
            names.remove(error.layer)
        except ValueError:  # of the model as a whole
            break
        else:
            return {}, some
    return {}, None


def _parameters(name: str, module: nn.Module) -> list[str]:
    """Return the names of a module's parameters: of its weight, of its bias."""
    roles = [x for x in ("weight", "bias") if getattr(module, x, None) is not None]
    return [f"{name}.{x}" if name else x for x in roles]


@dataclass(frozen=True, slots=True)
class _Part:
    """Some outputs of a module with T positions and a features: b from `first` on."""

    name: str
    T: int
    a: int
    b: int
    first: int = 0

    def size(self, N: int, K: int) -> int:
        """Count the numbers of its factors, the fewer of those and of its rows."""
        return min(N * self.T * (self.a + K * self.b), N * K * self.a * self.b)

    def formed(self, K: int) -> bool:
        """Whether rows take less than the factors that they are made of."""
        return K * self.a * self.b < self.T * (self.a + K * self.b)

    def cut(self, N: int, K: int, most: int) -> list[_Part]:
        """Cut it by outputs, so that each part has no more numbers, if it can be."""
        for count in range(1, self.b):
            step = -(-self.b // count)
            if replace(self, b=step).size(N, K) <= most:
                break
        else:
            step = 1
        each = ((i, min(i + step, self.b)) for i in range(0, self.b, step))
        return [replace(self, b=j - i, first=i) for i, j in each]


class Gathered(Source):
    """Features and errors of some modules, as factors: of all, or of some at a time.

    names: of the modules. They are gathered when they are asked for.
    """

    def __init__(
        self,
        network: Network,
        batches: Sequence[Any],
        samples: Samples,
        like: Array,
        names: Sequence[str],
    ) -> None:
        expect_samplewise(network.model)
        choose(network.model, names, (), halves=True)
        self.network, self.batches, self.samples = network, batches, samples
        self.like, self.model = like, converted(network.model, network.dtype)
        self.first, _, self.total = feeding.open_loader(batches)
        with self._watched(names) as exporter:
            sizes = exporter.sizes(self.first[0])
        self.parts = [_Part(name, *x) for name, x in sizes.items()]

    @property
    def fit(self) -> bool:
        """Whether all factors fit into memory together."""
        (N, C), size = self.samples.logits.shape, backend.itemsize(self.like)
        held = sum(N * x.T * (x.a + C * x.b) for x in self.parts)
        return bool(_COPIES * size * held <= memory.limit())

    def expect_understood(self) -> None:
        """Refuse a module whose rows are not what torch says of some samples."""
        with self._watched([x.name for x in self.parts]) as exporter:
            exporter.expect_understood(*self.first)

    def every(self) -> dict[str, Factor]:
        """Return the rows of weights, and of biases, whose feature is the last."""
        made: dict[str, Factor] = {}
        for part, f in zip(self.parts, self._filled(self.parts), strict=True):
            weight, *bias = self._own(part.name)
            if weight in self.network.chosen:
                made[weight] = _of_weight(f) if bias else f
            if bias and bias[0] in self.network.chosen:
                made[bias[0]] = _of_bias(f)
        return made

    @property
    def parameters(self) -> set[str]:
        """The names of those that it has rows of."""
        own = {x for part in self.parts for x in self._own(part.name)}
        return own & {*self.network.chosen}

    @property
    def shapes(self) -> Factors:
        """All factors, of the right shapes, without their numbers."""
        N, C = self.samples.logits.shape
        zero = np.zeros((), backend.to_host(self.like[:0]).dtype)
        shapes = [((N, C, x.T, x.b), (N, x.T, x.a)) for x in self.parts]
        each = (Factor(*(np.broadcast_to(zero, y) for y in x)) for x in shapes)
        return Factors(tuple(each))

    def gathered(
        self, room: int, unit: Array | None, offsets: tuple[int, ...]
    ) -> Iterator[Factors]:
        """Yield factors of a part of the columns of X, all parts once."""
        N, C = self.samples.logits.shape
        K, most = C - (unit is not None), room // backend.itemsize(self.like)
        together: list[_Part] = []
        parts = [x for whole in self.parts for x in whole.cut(N, K, most)]
        for part in (*parts, None):
            full = sum(x.size(N, K) for x in (*together, part) if x) > most
            again = part is not None and part.name in [x.name for x in together]
            if together and (part is None or full or again):
                yield Factors(tuple(self._filled(together, unit, offsets, form=True)))
                together = []
            together += [] if part is None else [part]

    def _own(self, name: str) -> list[str]:
        """Return the names of a module's parameters."""
        return _parameters(name, self.network.model.get_submodule(name))

    def _chosen(self, part: _Part, f: Factor) -> Factor:
        """Return the rows of those parameters of a module that are chosen."""
        weight, *bias = (x in self.network.chosen for x in self._own(part.name))
        if f.features is None or all((weight, *bias)):
            return f
        return _of_weight(f) if weight else _of_bias(f)

    @contextmanager
    def _watched(self, names: Sequence[str]) -> Iterator[Exporter]:
        """Let the model tell what enters and leaves some of its modules."""
        chosen = {name: self.model.get_submodule(name) for name in names}
        checked = checking.checked_steps(self.total, np.random.default_rng(0))
        how = replace(self.samples.how, read=0)
        exporter = Exporter(self.model, chosen, how, checked)
        with evaluating(self.model, chosen), watching(chosen, exporter.seen):
            yield exporter

    def _filled(
        self,
        parts: Sequence[_Part],
        unit: Array | None = None,
        offsets: tuple[int, ...] = (),
        *,
        form: bool = False,
    ) -> list[Factor]:
        """Gather some modules: every number goes to its place as soon as it is seen.

        Rows are formed where they take less than their factors, if `form` says so.
        """
        known, seen, made = self.samples, 0, list[Factor]()
        p, s = np.exp(log_softmax(known.logits)), known.weights
        order = np.argsort(known.places)  # of samples as they come, among all
        with self._watched([x.name for x in parts]) as exporter:
            for row in exporter.rows(self.batches):
                mine = order[seen : seen + len(row["labels"])]
                first, seen, by = seen == 0, seen + len(mine), np.argsort(mine)
                mine = mine[by]
                for k, part in enumerate(parts):
                    h = row.pop(f"layers/{k}/features")[by]
                    some = slice(part.first, part.first + part.b)
                    errors = row.pop(f"layers/{k}/errors")[by][..., some]
                    f = weighted(errors, h, (s[mine], p[mine]))
                    if unit is not None:
                        u = backend.to_host(unit)[mine]
                        ends = tuple(np.searchsorted(mine, offsets).tolist())
                        f = replace(f, roots=fewer(f.roots, u, ends))
                    if form:
                        f = self._chosen(part, f)
                    if form and part.formed(f.roots.shape[1]):
                        f = f.explicit()
                    if first:
                        made.append(_empty(f, len(order), self.like))
                    for whole, x in zip(_arrays(made[k]), _arrays(f), strict=True):
                        whole[mine] = x
        every = ([backend.from_host(x, self.like) for x in _arrays(f)] for f in made)
        return [Factor(x[0], x[1] if x[1:] else None) for x in every]


def _arrays(f: Factor) -> list[Array]:
    """Return the roots and, if there are any, the features."""
    return [f.roots] if f.features is None else [f.roots, f.features]


def _empty(f: Factor, N: int, like: Array) -> Factor:
    """Return room for the rows of N samples on the host, of the dtype of `like`."""
    kind = backend.to_host(like[:0]).dtype
    made = [np.empty((N, *x.shape[1:]), kind) for x in _arrays(f)]
    return Factor(made[0], made[1] if made[1:] else None)


def _of_weight(f: Factor) -> Factor:
    """Return the rows of a weight, without the last feature, that of the bias."""
    return Factor(f.roots, f.features[..., :-1])  # type: ignore[index]


def _of_bias(f: Factor) -> Factor:
    """Return the rows of a bias, the last feature of a module: sums over positions."""
    xp = backend.namespace(f.roots)
    one = f.features[:, None, :, -1:]  # type: ignore[index]
    return Factor(xp.sum(f.roots * one, axis=2, keepdims=True), None)
