"""The samples of a loader, gathered and sorted by class: what a derivative is taken at.

A sample is one of the S that an input holds. Inputs stay as they come, and a sample is
found by its place among all: an input that holds several is run once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from refspec.exporters import checking, feeding
from refspec.exporters.reading import Layout, Reading, normalised


class Runner(Protocol):
    """A model of some framework, as `gathered` runs it."""

    def read(self, step: int, given: Any) -> tuple[Any, int]:
        """Return what the model takes of a batch, and how many inputs that is."""

    def logits(self, step: int, inputs: Any) -> np.ndarray:
        """Return what it gives, on the host."""

    def part(self, inputs: Any, index: Any) -> Any:
        """Return some inputs, by their numbers or a slice."""

    def joined(self, parts: Sequence[Any]) -> Any:
        """Return the inputs of all batches as those of one."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """All samples sorted by class, beside the inputs that hold S of them each."""

    inputs: Any
    labels: np.ndarray  # (N,)
    logits: np.ndarray  # (N, C)
    weights: np.ndarray  # (N,), sum 1
    places: np.ndarray  # (N,): the number of the input times S, plus s
    how: Reading
    layout: Layout
    largest: int  # inputs of a batch

    @property
    def S(self) -> int:
        """Samples of an input."""
        return self.layout.samples

    def flat(self, z: Any, xp: Any) -> Any:
        """Return the logits (n S, C) that a model gives for n inputs."""
        return self.how.chosen(self.layout.flat(z, xp))

    def at(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the input of each sample i to j, and which of its S it is."""
        inputs, which = np.divmod(self.places[i:j], self.S)
        return inputs, which

    def pieces(self, i: int, j: int, step: int) -> Iterator[Piece]:
        """Yield samples i to j by their inputs, so many of these at a time."""
        inputs, which = self.at(i, j)
        each, number = np.unique(inputs, return_inverse=True)
        for a in range(0, len(each), step):
            mine = np.flatnonzero((number >= a) & (number < a + step))
            rows = (number[mine] - a) * self.S + which[mine]
            yield Piece(each[a : a + step], mine, rows)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some inputs, and where samples of theirs are."""

    inputs: np.ndarray  # (m,): their numbers
    samples: np.ndarray  # of those asked for, which ones these are
    rows: np.ndarray  # where they are among all m S of these inputs


def gathered_in_both(
    wide: Runner, narrow: Runner, loader: Iterable[Any], how: Reading, *, single: bool
) -> tuple[list[Any], Samples]:
    """Gather samples by a model in float64; return it in both, the one asked for first.

    Where float32 is asked for, a model that runs in nothing else is returned alone.
    """
    if not single:
        return [wide, narrow], gathered(wide, loader, how)
    _, batches, _ = feeding.open_loader(loader)
    kept = list(batches)  # a stream can be read once
    try:
        return [narrow, wide], gathered(wide, kept, how)
    except ValueError:
        # constants in float32 of its own: there is nothing to compare with
        return [narrow], gathered(narrow, kept, how)


def gathered(model: Runner, loader: Iterable[Any], how: Reading) -> Samples:
    """Run all batches once; return the samples that count, sorted by class."""
    _, batches, _ = feeding.open_loader(loader)
    parts, rows, sizes, layout = [], [], [], Layout()
    how.read = 0
    for step, (given, labels) in enumerate(batches):
        inputs, n = model.read(step, given)
        z = model.logits(step, inputs)
        found = how.layout(step, z.shape, labels, n)
        if step == 0:
            layout, some = found, max(1, n // 2)
            few = model.logits(step, model.part(inputs, slice(some)))
            checking.expect_company(z[:some], few)
        if found != layout:
            raise ValueError(
                f"inputs must have samples at {layout.positions or 'no'} positions, as "
                f"in the first batch, got {found.positions} in batch {step}; pad them, "
                "and tell the labels of padding by ignore_index"
            )
        z = how.chosen(layout.flat(z, np))
        made = how.outputs(step, z, labels, n, layout)
        checking.expect_no_softmax(step, made["logits"])
        parts.append(inputs)
        rows.append(made)
        sizes.append(n)
    how.expect_all()
    every = {key: np.concatenate([x[key] for x in rows]) for key in rows[0]}
    places = np.argsort(every["labels"], kind="stable")
    places = places[every["labels"][places] >= 0]
    if not len(places):
        raise ValueError(
            "loader must give samples, got none whose label counts; check ignore_index"
        )
    with feeding.answering(0, "inputs must have one shape", "pad or resize them"):
        inputs = model.joined(parts)
    weights = every.get("sample_weights", np.ones(len(every["labels"])))
    return Samples(
        inputs,
        every["labels"][places],
        every["logits"][places],
        normalised(weights[places]),
        places,
        how,
        layout,
        max(sizes),
    )
