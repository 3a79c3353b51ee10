"""Deep linear networks: the rank of their Fisher information in closed form."""

from __future__ import annotations

from collections.abc import Sequence

from refspec import checks
from refspec.populations import WIDEST, expect_count


def fisher_rank(widths: Sequence[int], inputs_rank: int) -> int:
    """Return the rank for weights and inputs in general position, without biases.

    widths: inputs, hidden layers, C; inputs_rank: dimensions that the samples span.
    Theory: theory/curvature.md#C10.
    """
    checks.expect_type("widths", widths, (list, tuple), "give [inputs, ..., C]")
    sides = [expect_count("each of widths", x) for x in widths]
    if len(sides) < 2:
        raise ValueError(
            f"widths must be those of inputs, hidden layers and logits, got {sides}; "
            "give two at least"
        )
    expect_count("the last of widths", sides[-1], 2, WIDEST)
    before = [min(expect_count("inputs_rank", inputs_rank), sides[0])]
    for side in sides[1:-1]:
        before.append(min(before[-1], side))
    after = [sides[-1] - 1]  # logits that differ by a multiple of 1 are the same
    for side in reversed(sides[1:-1]):
        after.insert(0, min(after[0], side))
    each = sum(a * b for a, b in zip(after, before, strict=True))
    shared = sum(a * b for a, b in zip(after[:-1], before[1:], strict=True))
    return each - shared
