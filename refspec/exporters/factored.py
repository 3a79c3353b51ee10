"""Rows of a classifier as factors, wherever a framework's layer is understood.

Of most networks nearly all parameters are the weights and biases of linear maps. Their
rows are errors (x) features, which an export gathers and checks; what cannot be
exported is left to differentiation. A framework supplies the batches (`Gathered.rows`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from refspec import backend, memory
from refspec.backend import Array
from refspec.classes import log_softmax
from refspec.differentiated import fits
from refspec.exporters.checking import LayerError
from refspec.exporters.gathering import Samples
from refspec.factors import Factor, Factors, weighted
from refspec.layerwise import Source
from refspec.rows import fewer

_COPIES = 3  # of features and errors: gathered, scaled, and C - 1 rows of C

#: Numbers of samples, ascending, and (features, errors) of each layer at these.
Batch = tuple[np.ndarray, Iterator[tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True, slots=True)
class Part:
    """Some outputs of a layer with T positions and a features: b from `first` on."""

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

    def cut(self, N: int, K: int, most: int) -> list[Part]:
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
    """Features and errors of some layers, as factors: of all, or of some at a time.

    They are gathered when they are asked for. `own`: the names of a layer's weight and,
    if it has one, its bias; `chosen`: those that rows are wanted of.
    """

    samples: Samples
    like: Array
    own: Mapping[str, Sequence[str]]
    chosen: Mapping[str, int]
    parts: list[Part]

    @abstractmethod
    def rows(self, names: Sequence[str]) -> Iterator[Batch]:
        """Yield features (n, T, a) and errors (n, C, T, b) of layers, all samples once.

        Checked as those of an export are, a `LayerError` where they are no factors.
        """

    @abstractmethod
    def expect_understood(self) -> None:
        """Refuse a layer whose rows are not what the framework says of some samples."""

    @property
    def places(self) -> dict[str, np.ndarray]:
        """Where in its block the columns of a weight are, if that is elsewhere."""
        return {}

    @property
    def fit(self) -> bool:
        """Whether all factors fit into memory together."""
        (N, C), size = self.samples.logits.shape, backend.itemsize(self.like)
        held = sum(N * x.T * (x.a + C * x.b) for x in self.parts)
        return bool(_COPIES * size * held <= memory.limit())

    def every(self) -> dict[str, Factor]:
        """Return the rows of weights, and of biases, whose feature is the last."""
        made: dict[str, Factor] = {}
        for part, f in zip(self.parts, self._filled(self.parts), strict=True):
            weight, *bias = self.own[part.name]
            if weight in self.chosen:
                made[weight] = _of_weight(f) if bias else f
            if bias and bias[0] in self.chosen:
                made[bias[0]] = _of_bias(f)
        return made

    @property
    def parameters(self) -> set[str]:
        """The names of those that it has rows of."""
        own = {x for part in self.parts for x in self.own[part.name]}
        return own & {*self.chosen}

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
        together: list[Part] = []
        parts = [x for whole in self.parts for x in whole.cut(N, K, most)]
        for part in (*parts, None):
            full = sum(x.size(N, K) for x in (*together, part) if x) > most
            again = part is not None and part.name in [x.name for x in together]
            if together and (part is None or full or again):
                yield Factors(tuple(self._filled(together, unit, offsets, form=True)))
                together = []
            together += [] if part is None else [part]

    def _chosen(self, part: Part, f: Factor) -> Factor:
        """Return the rows of those parameters of a layer that are chosen."""
        weight, *bias = (x in self.chosen for x in self.own[part.name])
        if f.features is None or all((weight, *bias)):
            return f
        return _of_weight(f) if weight else _of_bias(f)

    def _filled(
        self,
        parts: Sequence[Part],
        unit: Array | None = None,
        offsets: tuple[int, ...] = (),
        *,
        form: bool = False,
    ) -> list[Factor]:
        """Gather some layers: every number goes to its place as soon as it is seen.

        Rows are formed where they take less than their factors, if `form` says so.
        """
        known, made = self.samples, list[Factor]()
        p, s = np.exp(log_softmax(known.logits)), known.weights
        for mine, pairs in self.rows([x.name for x in parts]):
            for k, (part, (h, errors)) in enumerate(zip(parts, pairs, strict=True)):
                some = slice(part.first, part.first + part.b)
                f = weighted(errors[..., some], h, (s[mine], p[mine]))
                if unit is not None:
                    u = backend.to_host(unit)[mine]
                    ends = tuple(np.searchsorted(mine, offsets).tolist())
                    f = replace(f, roots=fewer(f.roots, u, ends))
                if form:
                    f = self._chosen(part, f)
                if form and part.formed(f.roots.shape[1]):
                    f = f.explicit()
                if len(made) == k:
                    made.append(_empty(f, len(s), self.like))
                for whole, x in zip(_arrays(made[k]), _arrays(f), strict=True):
                    whole[mine] = x
        every = ([backend.from_host(x, self.like) for x in _arrays(f)] for f in made)
        return [Factor(x[0], x[1] if x[1:] else None) for x in every]


Own = TypeVar("Own", bound=Gathered)


def factors(
    gather: Callable[[Sequence[str]], Own],
    own: Mapping[str, Sequence[str]],
    chosen: Mapping[str, int],
    samples: Samples,
) -> tuple[dict[str, Factor], dict[str, np.ndarray], Own | None]:
    """Return the rows of each parameter that is one of a linear map, and their places.

    None of a layer that an export would refuse, none where explicit rows of the others
    do not fit. What does not fit together is gathered layer by layer: a source.
    """
    N, C = samples.logits.shape
    names = [name for name, roles in own.items() if any(x in chosen for x in roles)]

    def others() -> int:
        seen = {x for name in names for x in own[name]}
        return sum(size for name, size in chosen.items() if name not in seen)

    while names and fits((N, C, others())):
        try:
            some = gather(names)
            if some.fit:
                return some.every(), some.places, None
            some.expect_understood()
        except LayerError as error:
            names.remove(error.layer)
        except ValueError:  # of the network as a whole
            break
        else:
            return {}, {}, some
    return {}, {}, None


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
    """Return the rows of a bias, the last feature of a layer: sums over positions."""
    xp = backend.namespace(f.roots)
    one = f.features[:, None, :, -1:]  # type: ignore[index]
    return Factor(xp.sum(f.roots * one, axis=2, keepdims=True), None)
