r"""How many coordinates of the features a law needs whole, at each point.

Far up the spectrum the leading coordinates are the law; the further down, the more of
them it depends on. Heads that double are tried on the way down: one is left where the
next one moves the count by more than is allowed (Theory: theory/conditional.md#Y1).
The last that is small enough to be iterated is corrected by those after it, up to the
layer itself, and so is none where nothing is left of enough classes: what these add is
eliminated once (Theory: theory/conditional.md#Y6). Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec.random_matrix.conditional import counting
from refspec.random_matrix.conditional.constant import parted
from refspec.random_matrix.conditional.design import (
    SIDE,
    ConditionalDesign,
    fitting,
    narrowed,
)


@dataclass(slots=True, eq=False)
class Frames:
    """Frames of growing heads, alone or corrected; limits: down to where they are used.

    The last one is used below all limits. layer: what the last is all of.
    """

    pairs: tuple[counting.Pair, ...]
    limits: list[float]
    layer: ConditionalDesign

    def at(self, x: float) -> counting.Pair:
        """Return the frame that is used at x, and what corrects it."""
        return self.pairs[sum(x < limit for limit in self.limits)]

    @property
    def wider(self) -> counting.Pair | None:
        """What follows the frame that is used furthest down, if anything does."""
        k = len(self.limits) + 1
        return self.pairs[k] if k < len(self.pairs) else None


def frames_of(design: ConditionalDesign) -> Frames:
    """Halve the head while half of it holds as many as classes and regressors.

    Theory: theory/conditional.md#Y1, #Y6
    """
    if design.positions > 1:
        return Frames(((design, None),), [], design)
    # outliers come from means and slopes: a head of fewer would not hold them
    least = sum(design.slopes.shape[::2]) * len(np.unique(design.layers[0]))
    heads = [min(design.slopes.shape[1], max(least, fitting(design, SIDE)))]
    while heads[-1] >= 2 * least:
        heads.append(-(-heads[-1] // 2))
    wide, full = heads[0], design.slopes.shape[1]
    pairs: list[counting.Pair] = [(narrowed(design, h), None) for h in heads[::-1]]
    less = parted(design)
    if less is not design:  # in so few directions as a frame that is cut off more
        few = [x for x in pairs if x[0].slopes.shape[1] < less.slopes.shape[1]]
        return Frames((*few, (less, None)), [], design)
    frame = pairs[-1][0]
    # a step of a layer that costs less than eight of its last frame is no loss
    iterated = design.reached <= 2 * SIDE
    while wide < full:
        wide = full if iterated else min(2 * wide, full)
        next_ = narrowed(design, wide)
        pairs.append((next_, None) if iterated else (frame, next_))
    return Frames(tuple(pairs), [], design)
