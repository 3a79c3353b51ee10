r"""How many coordinates of the features a law needs whole, at each point.

Far up the spectrum the leading coordinates are the law; the further down, the more of
them it depends on. Heads that double are tried on the way down: one is left where the
next one moves the count by more than is allowed
(Theory: theory/conditional.md#Y1). Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec.random_matrix.conditional.design import ConditionalDesign, narrowed


@dataclass(slots=True, eq=False)
class Frames:
    """Frames of growing heads; limits: down to where each but the last is used."""

    designs: tuple[ConditionalDesign, ...]
    limits: list[float]

    def at(self, x: float) -> ConditionalDesign:
        """Return the layer in the frame that is used at x."""
        return self.designs[sum(x < limit for limit in self.limits)]

    @property
    def wider(self) -> ConditionalDesign | None:
        """The frame after the one that is used furthest down, if there is one."""
        k = len(self.limits) + 1
        return self.designs[k] if k < len(self.designs) else None


def frames_of(design: ConditionalDesign) -> Frames:
    """Halve the head while half of it holds as many as classes and regressors.

    Theory: theory/conditional.md#Y1
    """
    # outliers come from means and slopes: a head of fewer would not hold them
    least = sum(design.slopes.shape[::2]) * len(np.unique(design.layers[0]))
    heads = [design.slopes.shape[1]]
    while heads[-1] >= 2 * least:
        heads.append(-(-heads[-1] // 2))
    return Frames(tuple(narrowed(design, h) for h in heads[::-1]), [])
