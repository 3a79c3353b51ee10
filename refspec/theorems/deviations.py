"""Outliers of drawn spectra, in the deviations that are predicted of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from refspec.random_matrix.outliers import Outliers
from refspec.theorems.registry import Comparison


@dataclass(frozen=True, slots=True)
class Deviations:
    """Outliers of all draws of one size: (measured - expected) / deviation, the score.

    one: the largest of a draw; mean: of an outlier's mean, in its deviations; spread:
    mean square of all less 1, and its standard error; height: the least of an
    outlier's value, in deviations. All 0 where there are none.
    """

    one: float
    mean: float
    spread: tuple[float, float]
    height: float
    draws: int


def deviations(scores: np.ndarray, outliers: Outliers) -> Deviations:
    """Say how scores (draws, r) lie."""
    draws, r = scores.shape
    if not r:
        return Deviations(0.0, 0.0, (0.0, 0.0), 0.0, draws)
    squares = np.mean(scores**2, axis=1)
    return Deviations(
        float(np.max(np.abs(scores))),
        float(np.max(np.abs(np.mean(scores, axis=0)))) * draws**0.5,
        (float(np.mean(squares)) - 1, float(np.std(squares)) / draws**0.5),
        float(np.min(outliers.values / outliers.deviations)),
        draws,
    )


def in_deviations(found: Deviations, most: float, of: str) -> Iterator[Comparison]:
    """Compare a draw and the mean with the scores that are allowed at most."""
    many = found.draws**0.5
    yield found.one, most, found.height, f"{of} of one draw, in deviations"
    yield found.mean, most, many * found.height, f"{of}'s mean, in its deviations"
