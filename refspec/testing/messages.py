"""Failures that read like a good test message: what differs, where, how far, why."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from refspec import coverage
from refspec.testing.accuracy import Accuracy
from refspec.testing.diagnosis import best_scale
from refspec.testing.fits import Fit
from refspec.testing.inputs import frobenius
from refspec.testing.questions import Question


def heading(question: Question, what: str) -> str:
    """Return the first line: which curvature of which layers is off."""
    snapshot, names = question.snapshot, question.layers
    N, C = snapshot.probabilities.shape
    every = tuple(x.name for x in snapshot.layers)
    where = ", ".join(names)
    if names == every and len(every) > 1:
        where = coverage.of_snapshot(snapshot).title
    kind = question.of
    if kind in ("kfac", "ekfac", "cfac"):
        kind += f" ({question.setting})"
    return f"{kind} of {where}: {what} (N = {N}, C = {C}, P = {question.parameters})"


def radii(distance: float, radius: float) -> str:
    """Say a distance in units of the radius it was allowed."""
    if radius > 0:
        return f"{distance:.3g} = {distance / radius:.3g} radii of {radius:.3g}"
    return f"{distance:.3g}, where equality was required"


def accuracy_line(accuracy: Accuracy) -> str:
    """Say what the radius was made of."""
    if accuracy.measured:
        return f"measured on random probes, u = {accuracy.u:.2g} of the coarser format"
    return (
        f"u = {accuracy.u:.2g} of the coarser format, {accuracy.operations} operations "
        f"on a path, {accuracy.rows} rows summed"
    )


def blocks(
    question: Question, residual: np.ndarray, true: np.ndarray, allowed: float
) -> list[tuple[str, str]]:
    """Say where the residual is, layer by layer."""
    lines = []
    for name, rows in zip(question.layers, question.slices, strict=True):
        off, size = frobenius(residual[rows]), frobenius(true[rows])
        share = f", relative to the block {off / size:.3g}" if size > 0 else ""
        lines.append((f"in {name}", f"{off / allowed:.3g} radii{share}"))
    return lines if len(lines) > 1 else []


def diagnosis(
    fits: Sequence[Fit], found: np.ndarray, true: np.ndarray, allowed: float
) -> list[tuple[str, str]]:
    """Name the mistakes that fit, or say that none does and how near a factor comes.

    Some factor makes any number out of any other: of one number it is not said.
    """
    if fits:
        return [
            ("diagnosis", f"{x.sentence} [{x.name}; fits within {x.ratio:.2g} radii]")
            for x in sorted(fits, key=lambda x: x.ratio)
        ]
    none = ("diagnosis", "none of the usual convention mistakes fits")
    if found.size == 1:
        return [none]
    s, left = best_scale(found, true)
    size = frobenius(found)
    share = left / size if size > 0 else math.inf
    return [
        none,
        (
            "nearest",
            f"found ~ {s:.6g} x expected leaves {share:.3g} of it, "
            f"{left / allowed if allowed > 0 else math.inf:.3g} radii",
        ),
    ]


def message(first: str, lines: Sequence[tuple[str, str]]) -> str:
    """Join a heading and its labelled lines."""
    width = max((len(label) for label, _ in lines), default=0)
    return "\n".join([first, *(f"  {label:<{width}}  {text}" for label, text in lines)])
