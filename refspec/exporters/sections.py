"""The model section of an export: operations and parameters, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refspec.models import Network
from refspec.models.recompute import same_logits


class UnknownOperationError(ValueError):
    """What a model does that is no operation of refspec.models."""


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A model as operations, or None and the reason."""

    operations: list[dict[str, Any]] | None
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    reason: str = ""
    order: np.ndarray | None = (
        None  # places of a sample's entries as the network has it
    )

    def arranged(self, inputs: np.ndarray) -> np.ndarray:
        """Return inputs (n, ...) as the operations take them."""
        if self.order is None:
            return inputs
        rows = inputs.reshape(len(inputs), -1)[:, self.order.ravel()]
        return rows.reshape(len(inputs), *self.order.shape)


def without(reason: str) -> Section:
    """Return no section, and why."""
    return Section(None, reason=reason)


def confirmed(section: Section, inputs: np.ndarray, logits: np.ndarray) -> Section:
    """Return the section if it gives the model's own logits of some samples."""
    if section.operations is None:
        return section
    try:
        network = Network(section.operations, section.parameters)
        with np.errstate(all="ignore"):  # what is not finite is refused later
            same = same_logits(network, section.arranged(inputs), logits)
    except ValueError as error:
        return without(str(error))
    if not same:
        return without(
            "the operations that its forward pass consists of do not give its logits"
        )
    return section
