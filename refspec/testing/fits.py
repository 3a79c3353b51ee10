"""A mistake that explains what was found, and when it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from refspec.testing.inputs import frobenius


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A mistake that explains the answer: `ratio` is distance over bound, at most 1."""

    name: str
    sentence: str
    ratio: float


def explained(
    name: str, sentence: str, true: np.ndarray, found: np.ndarray, radius: float
) -> Iterator[Fit]:
    """Yield the fit if what a mistake makes is what was found; it must be able to fail.

    The bound is less than a quarter of what was found.
    """
    gap = frobenius(found - true)
    if gap <= radius < frobenius(found) / 4:
        yield Fit(name, sentence, gap / radius)
