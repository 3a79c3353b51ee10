"""Weights that samples were averaged with, read as the setting that makes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from refspec import rounding

_SHOWN = 6  # weights that a sentence shows


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Weights over those that they should be, (N,), with a name and a sentence."""

    name: str
    sentence: str
    ratios: np.ndarray


def of_samples(
    ratios: np.ndarray, s: np.ndarray, labels: np.ndarray, unique: bool = True
) -> Iterator[Reading]:
    """Read ratios (N,) of found to true sample weights; amounts are rounded on the way.

    What is read is exact, so that the bound of the operator decides. Where others would
    do as well only a pattern among samples is read.
    """
    near = _grouped(ratios, s > 0)
    if near is None or np.min(near) < 0 or np.ptp(near) == 0:
        return
    looks = (_classes(near, labels), *_batches(near, s), _missing(near), _copies(near))
    found = [x for x in looks if x is not None]
    if found:  # a sample twice in a batch, and a last batch of half the size, are alike
        yield from found
        return
    if not unique:
        return
    shown = ", ".join(f"{x:.4g}" for x in near[:_SHOWN])
    text = f"samples are weighed with {shown}, ... times what they should be"
    yield Reading("sample weights", text, near)


def _grouped(ratios: np.ndarray, there: np.ndarray) -> np.ndarray | None:
    """Give ratios that differ by less than their error one value; None if it is large.

    Half of the digits are left by the solver.
    """
    if not np.any(there):
        return None
    size = float(np.max(np.abs(ratios[there])))
    step = np.sqrt(np.finfo(np.float64).eps) * size
    order = np.argsort(ratios)
    values = ratios[order]
    ends = [0, *(np.flatnonzero(np.diff(values) > step) + 1), len(values)]
    near = np.empty_like(ratios)
    for i, j in itertools.pairwise(ends):
        mean = float(np.mean(values[i:j]))
        near[order[i:j]] = 0.0 if abs(mean) <= step else mean
    near[~there] = 1.0
    return near


def _classes(near: np.ndarray, labels: np.ndarray) -> Reading | None:
    """Read one weight a class: loss weights, or classes that all count alike."""
    there, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    first = np.array([near[np.flatnonzero(labels == c)[0]] for c in there])
    if (
        not np.array_equal(first[index], near)
        or np.ptp(first) == 0
        or np.any(first == 0)
    ):
        return None
    alike = len(near) / (len(there) * counts)
    size = np.sqrt(np.finfo(np.float64).eps) * float(np.max(alike))
    if np.ptp(counts) > 0 and np.max(np.abs(first - alike)) <= size:
        text = (
            "every class counts alike, 1/C, though the classes are of "
            f"{', '.join(map(str, counts[:_SHOWN]))} samples: weigh a class mean with "
            "its share of the samples"
        )
        return Reading("classes weighed alike", text, alike[index])
    shown = ", ".join(f"{x:.4g}" for x in (first / first.min())[:_SHOWN])
    more = ", ..." * (len(first) > _SHOWN)
    text = f"class weights in the loss, {shown}{more} by class; ask without them"
    return Reading("class weights", text, first[index])


def _batches(near: np.ndarray, s: np.ndarray) -> Iterator[Reading]:
    """Read the mean of batch means: samples of a shorter last batch count more."""
    values, counts = np.unique(near, return_counts=True)
    uneven = np.ptp(s) > rounding.gamma(len(s), rounding.unit_roundoff(s)) * np.max(s)
    if len(values) != 2 or uneven or values[0] <= 0:
        return
    N, last = len(near), int(counts[1])
    batches = round(N / (last * float(values[1])))
    if batches < 2 or (N - last) % (batches - 1):
        return
    size = (N - last) // (batches - 1)
    exact = np.where(near == values[1], N / (batches * last), N / (batches * size))
    if size > last and np.max(np.abs(exact - near)) <= float(values[1]) / N:
        text = (
            f"the mean of the means of {batches} batches, the last of {last} samples, "
            f"the others of {size}: samples of the last count {size / last:.4g} times; "
            "weigh batches with their sizes"
        )
        yield Reading("uneven last batch", text, exact)


def _missing(near: np.ndarray) -> Reading | None:
    """Read samples that were left out."""
    left = int(np.sum(near == 0))
    N, rest = len(near), near[near != 0]
    if not left or not len(rest) or np.ptp(rest) > 0:
        return None
    kept = N - left
    for total, what in ((kept, "averaged over the others"), (N, "still divided by N")):
        if abs(float(rest[0]) - N / total) <= 1 / N / N:
            text = (
                f"{left} of N = {N} samples are not there (a last batch dropped?), "
                f"{what}; take all of them"
            )
            return Reading("samples missing", text, np.where(near == 0, 0.0, N / total))
    return None


def _copies(near: np.ndarray) -> Reading | None:
    """Read samples taken more than once, as padding of a batch or of a rank."""
    least = float(np.min(near))
    N, times = len(near), np.round(near / least) if least > 0 else near
    total = float(np.sum(times))
    if least <= 0 or total <= N or total > 2 * N:
        return None
    exact = times * N / total
    if np.max(np.abs(exact - near)) > least / N:
        return None
    text = (
        f"{int(total) - N} samples are counted again, copies that pad a batch or a "
        f"rank: {int(total)} were averaged over; leave the copies out"
    )
    return Reading("padding", text, exact)
