"""What an eigensolver did wrong, from its values alone, the whole spectrum known.

The values found are matched with the true ones, both descending, from the top: a true
one that is passed over was missed, a found one without partner is extra. Which of the
usual accidents that is follows from what is missing and what is extra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec.testing.diagnosis import Fit


@dataclass(frozen=True, slots=True)
class _Matching:
    """Places of true values passed over, and of found values without partner."""

    missed: list[int]
    extra: list[int]


def of_values(found: np.ndarray, every: np.ndarray, radius: float) -> list[Fit]:
    """Explain values (r,) of a matrix with the eigenvalues (P,), both descending.

    A value may be off by `radius`.
    """
    fits = [*_other_end(found, every, radius), *_shifted(found, every, radius)]
    if fits or not _sparse(every, found, radius):
        return fits
    made = _match(found, every, radius)
    if not made.extra:
        return [Fit("missed", _missed(made.missed, every), 0.0)] if made.missed else []
    if all(i > 0 and found[i - 1] - found[i] <= 2 * radius for i in made.extra):
        text = (
            f"{_numbers(made.extra)} counted twice: a ghost, the copy of an eigenvalue "
            "that lost orthogonality brings; orthogonalise against all vectors"
        )
        return [Fit("ghost", text, 0.0)]
    return _unconverged(found, every, radius)


def _missed(places: list[int], every: np.ndarray) -> str:
    """Say which eigenvalues are not there."""
    values = ", ".join(f"{every[i]:.6g}" for i in places[:4])
    more = ", ..." * (len(places) > 4)
    return (
        f"{_numbers(places)} missed ({values}{more}): the start vector lacked it, or "
        "it is multiple; use a block, or more steps"
    )


def _other_end(found: np.ndarray, every: np.ndarray, radius: float) -> list[Fit]:
    """Values from another end of the spectrum, or without their signs."""
    r = len(found)
    order = np.argsort(-np.abs(every), kind="stable")[:r]
    candidates = {
        "largest by magnitude": (
            every[order],
            "the largest by magnitude, of both signs, in place of the largest "
            "(ARPACK's 'LM'): ask for 'LA'",
        ),
        "smallest": (
            every[-r:],
            "the smallest in place of the largest: ask for 'LA', or flip the order",
        ),
        "signs lost": (
            np.abs(every[order]),
            "norms ||A v|| in place of Rayleigh quotients v'A v: signs are lost",
        ),
    }
    for j in range(1, r):
        candidates[f"deflation left in, {j}"] = (
            np.concatenate([every[j:r], np.zeros(j)]),
            f"the {j} largest are 0: a deflation was left in; add what was taken out",
        )
    fits = []
    for name, (values, text) in candidates.items():
        values = np.sort(values)[::-1]
        gap = float(np.max(np.abs(found - values)))
        off = float(np.max(np.abs(values - every[:r])))
        if gap <= radius < off / 2:
            ratio = gap / radius if radius > 0 else 0.0
            fits.append(Fit(name.partition(",")[0], text, ratio))
    return fits


def _shifted(found: np.ndarray, every: np.ndarray, radius: float) -> list[Fit]:
    """All values off by the same: a multiple of the identity inside the matrix."""
    away = found - every[: len(found)]
    if len(away) < 2:
        return []
    shift = (float(np.max(away)) + float(np.min(away))) / 2
    gap = float(np.max(np.abs(away - shift)))
    spread = float(np.ptp(every[: len(found)]))
    if not gap <= radius < min(abs(shift), spread) / 2:
        return []
    text = (
        f"every value is off by {shift:.6g}: a shift, damping or weight decay inside "
        "the matrix; take it off the values"
    )
    return [Fit("shift", text, gap / radius if radius > 0 else 0.0)]


def _unconverged(found: np.ndarray, every: np.ndarray, radius: float) -> list[Fit]:
    """Ritz values: none above the true one of its rank, the first ones are there."""
    away = every[: len(found)] - found
    arrived = int(np.argmax(np.abs(away) > radius))
    if not (np.all(away >= -radius) and arrived > 0):
        return []
    worst = float(np.max(away))
    text = (
        f"not converged: the first {arrived} are there, none of the others is above "
        f"the true one, number {int(np.argmax(away)) + 1} is "
        f"{worst / radius if radius > 0 else np.inf:.3g} radii below it; more steps"
    )
    return [Fit("not converged", text, 0.0)]


def _match(found: np.ndarray, every: np.ndarray, radius: float) -> _Matching:
    """Match both from the top, each true value once."""
    missed: list[int] = []
    extra: list[int] = []
    k = 0
    for i, value in enumerate(found):
        while k < len(every) and every[k] > value + radius:
            missed.append(k)
            k += 1
        if k < len(every) and every[k] >= value - radius:
            k += 1
        else:
            extra.append(i)
    return _Matching(missed, extra)


def _sparse(every: np.ndarray, found: np.ndarray, radius: float) -> bool:
    """Whether a value put down at random would more likely have no partner."""
    inside = every[(every >= found[-1] - radius) & (every <= found[0] + radius)]
    return 4 * radius * len(inside) < float(found[0] - found[-1]) or len(found) == 1


def _numbers(places: list[int]) -> str:
    """Name places, counted from 1."""
    if len(places) == 1:
        return f"number {places[0] + 1} is"
    shown = ", ".join(str(i + 1) for i in places[:4])
    return f"numbers {shown}{', ...' * (len(places) > 4)} are"
