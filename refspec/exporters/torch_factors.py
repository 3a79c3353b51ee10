"""Rows of a PyTorch classifier's Linear and Conv modules as factors, as an export's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from refspec.backend import Array
from refspec.exporters import checking, factored, feeding
from refspec.exporters.factored import Batch, Part
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
from refspec.factors import Factor


def factors(
    network: Network, batches: Sequence[Any], samples: Samples, like: Array
) -> tuple[dict[str, Factor], Gathered | None]:
    """Return the rows of parameters of modules, or a source: see `factored.factors`."""
    own = {name: _parameters(name, x) for name, x in linear(network.model).items()}
    chosen = {name: x.numel() for name, x in network.chosen.items()}
    found, _, source = factored.factors(
        lambda names: Gathered(network, batches, samples, like, names),
        own,
        chosen,
        samples,
    )
    return found, source


def _parameters(name: str, module: nn.Module) -> list[str]:
    """Return the names of a module's parameters: of its weight, of its bias."""
    roles = [x for x in ("weight", "bias") if getattr(module, x, None) is not None]
    return [f"{name}.{x}" if name else x for x in roles]


class Gathered(factored.Gathered):
    """Features and errors of some modules, `names`, as the model gives them."""

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
        self.batches, self.samples = batches, samples
        self.like, self.model = like, converted(network.model, network.dtype)
        self.own = {x: _parameters(x, network.model.get_submodule(x)) for x in names}
        self.chosen = {name: x.numel() for name, x in network.chosen.items()}
        self.first, _, self.total = feeding.open_loader(batches)
        with self._watched(names) as exporter:
            sizes = exporter.sizes(self.first[0])
        self.parts = [Part(name, *x) for name, x in sizes.items()]

    def expect_understood(self) -> None:
        """Refuse a module whose rows are not what torch says of some samples."""
        with self._watched([x.name for x in self.parts]) as exporter:
            exporter.expect_understood(*self.first)

    def rows(self, names: Sequence[str]) -> Iterator[Batch]:
        """Yield features and errors of some modules batch by batch."""
        order = np.argsort(self.samples.places)  # of samples as they come, among all
        seen = 0
        with self._watched(names) as exporter:
            for row in exporter.rows(self.batches):
                mine = order[seen : seen + len(row["labels"])]
                seen, by = seen + len(mine), np.argsort(mine)
                keys = [f"layers/{k}/" for k in range(len(names))]
                pairs = (
                    (row.pop(f"{x}features")[by], row.pop(f"{x}errors")[by])
                    for x in keys
                )
                yield mine[by], pairs

    @contextmanager
    def _watched(self, names: Sequence[str]) -> Iterator[Exporter]:
        """Let the model tell what enters and leaves some of its modules."""
        chosen = {name: self.model.get_submodule(name) for name in names}
        checked = checking.checked_steps(self.total, np.random.default_rng(0))
        how = replace(self.samples.how, read=0)
        exporter = Exporter(self.model, chosen, how, checked)
        with evaluating(self.model, chosen), watching(chosen, exporter.seen):
            yield exporter
