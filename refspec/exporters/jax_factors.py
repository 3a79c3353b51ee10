"""Rows of a JAX classifier's linear maps as factors, as an export's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jax import numpy as jnp

from refspec.exporters import checking, delivery, factored, feeding
from refspec.exporters.factored import Batch, Part
from refspec.exporters.gathering import Samples
from refspec.exporters.jax_rows import TRACED, Pair, Traced
from refspec.exporters.jax_tracing import Program, trace
from refspec.factors import Factor

if TYPE_CHECKING:
    from refspec.exporters.jax_moment import Passes

_ROOM = 2**28  # bytes that the numbers of one pass may take
_FEW = 8  # inputs that are checked where all of them are not gathered at once


def factors(
    passes: Passes, samples: Samples
) -> tuple[dict[str, Factor], dict[str, np.ndarray], Gathered | None]:
    """Return the rows of leaves of linear maps, or a source: see `factored.factors`.

    None of a function that cannot be traced for a sample.
    """
    S, several = samples.S, (samples.S,) if samples.S > 1 else ()

    def logits(leaves: Sequence[Any], inputs: Any) -> Any:
        z = samples.flat(passes.whole(leaves, inputs), jnp)
        return z.reshape(len(z) // S, *several, -1)

    try:
        with passes.running(), feeding.answering(0, *TRACED):
            one = passes.placed(passes.part(samples.inputs, 0))
            program = trace(logits, passes.every, one)
    except ValueError:
        return {}, {}, None
    maps = tuple(m for m in program.maps if m.leaf not in program.problems)
    names = passes.leaves.names
    own = {
        names[m.leaf]: [names[n] for n in (m.leaf, m.bias) if n is not None]
        for m in maps
    }
    program = replace(program, maps=maps)
    return factored.factors(
        lambda some: Gathered(passes, samples, program, logits, own, some),
        own,
        dict(passes.leaves.sizes(chosen=True)),
        samples,
    )


class Gathered(factored.Gathered):
    """Features and errors of some linear maps, each named as its weights are."""

    def __init__(
        self,
        passes: Passes,
        samples: Samples,
        program: Program,
        logits: Callable[[Sequence[Any], Any], Any],
        own: dict[str, list[str]],
        names: Sequence[str],
    ) -> None:
        self.samples, self.like = samples, passes.like
        self.own, self.chosen = own, dict(passes.leaves.sizes(chosen=True))
        self._passes, self._program, self._logits = passes, program, logits
        self._made: dict[tuple[str, ...], Traced] = {}  # what was compiled
        traced = self._traced(names)
        with passes.running():
            sizes = traced.sizes(self._inputs(np.zeros(1, int)))
        self.parts = [Part(n, *x) for n, x in zip(traced.names, sizes, strict=True)]
        most = _ROOM // (traced.numbers * passes.dtype.itemsize)
        self._step = int(min(max(1, most), samples.largest))

    @property
    def places(self) -> dict[str, np.ndarray]:
        """Where in its leaf the columns (b, a) of a map's weights are."""
        names, found = self._passes.leaves.names, {}
        for m in self._program.maps:
            order = m.order.ravel()
            if names[m.leaf] in self.parameters and np.any(np.diff(order) != 1):
                found[names[m.leaf]] = order
        return found

    def expect_understood(self) -> None:
        """Refuse a map whose rows are not what JAX says of some samples."""
        few = np.unique(self.samples.at(0, len(self.samples.labels))[0])[:_FEW]
        traced = self._traced([x.name for x in self.parts])
        self._pairs(traced, 0, few, np.random.default_rng(1))

    def rows(self, names: Sequence[str]) -> Iterator[Batch]:
        """Yield features and errors of some maps, some inputs at a time."""
        traced, N = self._traced(names), len(self.samples.labels)
        pieces = list(self.samples.pieces(0, N, self._step))
        checked = checking.checked_steps(len(pieces), np.random.default_rng(0))
        rng = np.random.default_rng(1)
        for step, piece in enumerate(pieces):
            # all of one size, or each is compiled by itself
            same = np.resize(piece.inputs, len(pieces[0].inputs))
            drawn = rng if step in checked else None
            pairs = self._pairs(traced, step, same, drawn)
            yield piece.samples, ((h[piece.rows], e[piece.rows]) for h, e in pairs)

    def _pairs(
        self,
        traced: Traced,
        step: int,
        numbers: np.ndarray,
        rng: np.random.Generator | None,
    ) -> list[Pair]:
        """Return features and errors of some inputs, checked if there is an `rng`."""
        with self._passes.running():
            inputs = self._inputs(numbers)
            z, features = traced.forward(step, inputs)
            flat = feeding.host(z).reshape(len(numbers) * self.samples.S, -1)
            seeds = delivery.all_seeds(flat)
            pairs = traced.pairs(step, inputs, features, seeds)
            if rng is not None:
                traced.check(step, inputs, z, seeds, pairs, rng)
        return pairs

    def _inputs(self, numbers: np.ndarray) -> Any:
        """Return inputs by their numbers, on the device."""
        of = self._passes
        return of.placed(of.part(self.samples.inputs, numbers))

    def _traced(self, names: Sequence[str]) -> Traced:
        """Return the function at work on some maps, compiled once."""
        key, of = tuple(names), self._passes
        if key not in self._made:
            every = {of.leaves.names[m.leaf]: m for m in self._program.maps}
            program = replace(self._program, maps=tuple(every[x] for x in names))
            given = program, of.leaves.names, of.every, self._logits, self.samples.S
            self._made[key] = Traced(*given)
        return self._made[key]
