"""A mistake that explains what was found, and when it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from refspec.testing.inputs import frobenius

_ACCIDENT = 2.0**-10  # chance of a name that is none


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A mistake that explains the answer: `ratio` is distance over bound, at most 1.

    `chance` is that of numbers put down at random to be as near to one candidate.
    """

    name: str
    sentence: str
    ratio: float
    chance: float = 0.0


def explained(
    name: str, sentence: str, true: np.ndarray, found: np.ndarray, radius: float
) -> Iterator[Fit]:
    """Yield the fit if what a mistake makes is what was found; it must be able to fail.

    The bound is less than a quarter of what was found.
    """
    gap, size = frobenius(found - true), frobenius(found)
    if gap <= radius < size / 4:
        yield Fit(name, sentence, gap / radius, (2 * gap / size) ** found.size)


def told(fits: Iterable[Fit], tried: int) -> list[Fit]:
    """Return those fits that are no accident: one of `tried` candidates is soon near.

    That is so of one number in a coarse format, and of no matrix.
    """
    return [x for x in fits if tried * x.chance <= _ACCIDENT]
