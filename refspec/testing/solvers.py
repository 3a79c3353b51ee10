"""What an eigensolver did wrong, from its values, the whole spectrum known.

The values found are matched with the true ones, both descending, from the top: a true
one that is passed over was missed, a found one without partner is extra. Which of the
usual accidents that is follows from what is missing and what is extra. Vectors, where
they are given, say more: what residual each leaves, and which are copies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refspec.testing.fits import Fit


@dataclass(frozen=True, slots=True)
class _Matching:
    """Places of true values passed over, and of found values without partner."""

    missed: list[int]
    extra: list[int]


def of_values(
    found: np.ndarray, every: np.ndarray, radius: float, coarse: float = 0.0
) -> list[Fit]:
    """Explain values (r,) of a matrix with the eigenvalues (P,), both descending.

    A value may be off by `radius`, one that was computed in float32 by `coarse`.
    """
    fits = _in_float32(found, every, coarse)
    fits += [*_other_end(found, every, radius), *_shifted(found, every, radius)]
    if not fits and _sparse(every, found, radius):
        fits = _matched(found, every, radius)
    return fits


def of_vectors(
    found: np.ndarray,
    V: np.ndarray,
    apply: Callable[[np.ndarray], np.ndarray],
    every: np.ndarray,
    radius: float,
) -> list[Fit]:
    """Explain pairs of a value (r,) and a vector, the columns of V (P, r).

    What is right of each pair by itself is left to the values.
    """
    size = np.linalg.norm(V, axis=0)
    V = V / np.where(size > 0, size, 1.0)
    AV = apply(V)
    quotients = np.sum(V * AV, axis=0)
    residuals = np.linalg.norm(AV - quotients * V, axis=0)
    alike = np.abs(V.T @ V) - np.eye(len(found))
    copies = np.flatnonzero(np.max(np.triu(alike, 1), axis=0) > np.sqrt(0.5))
    if len(copies):
        text = (
            f"{_numbers(list(copies))} counted twice: a ghost, its vector is one of "
            "those before; orthogonalise against all vectors"
        )
        return [Fit("ghost", text, 0.0)]
    # the value of a step before is as far off as its vector's residual may say
    if np.any(np.abs(found - quotients) > residuals + radius):
        return []
    late = [int(i) for i in np.flatnonzero(residuals > radius)]
    if not late:
        return []
    worst = max(late, key=lambda i: residuals[i])
    # one more step of power iteration has the quotient v'A^3v / v'A^2v
    further = np.sum(AV * apply(AV), axis=0)
    turned = [
        i for i in late if min(further[i] * quotients[i], every[i] * quotients[i]) < 0
    ]
    if turned:
        text = (
            f"power iteration was stopped at a sign change: {_numbers(turned)} the "
            f"quotient v'Av = {quotients[turned[0]]:.4g} of a vector with a residual "
            f"of {residuals[turned[0]]:.3g}, and of another sign than what it is on "
            "its way from or to; compare sizes, and stop by the residual"
        )
        return [Fit("stopped at a sign change", text, 0.0)]
    ratio = residuals[worst] / radius if radius > 0 else np.inf
    text = (
        f"not converged: {_numbers(late)} v'Av of a vector with a residual, the "
        f"largest {residuals[worst]:.3g} = {ratio:.3g} radii; more steps"
    )
    return [Fit("not converged", text, 0.0)]


def _matched(found: np.ndarray, every: np.ndarray, radius: float) -> list[Fit]:
    """Explain what is left without a partner."""
    made = _match(found, every, radius)
    if not made.extra:
        return [Fit("missed", _missed(made.missed, every), 0.0)] if made.missed else []
    if all(i > 0 and found[i - 1] - found[i] <= 2 * radius for i in made.extra):
        text = (
            f"{_numbers(made.extra)} counted twice: a ghost, the copy of an eigenvalue "
            "that lost orthogonality brings; orthogonalise against all vectors"
        )
        return [Fit("ghost", text, 0.0)]
    fits = _unconverged(found, every, radius)
    return fits or _turned(found, every, made.extra, radius)


def _turned(
    found: np.ndarray, every: np.ndarray, extra: list[int], radius: float
) -> list[Fit]:
    """Explain a negative quotient where the eigenvalue is positive, inside of both."""
    low, high = every[-1] + radius, every[0] - radius
    turned = [i for i in extra if found[i] < -radius and every[i] > radius]
    if not turned or any(not low < found[i] < high for i in extra):
        return []
    text = (
        f"power iteration was stopped at a sign change: {_numbers(turned)} negative, "
        f"{found[turned[0]]:.4g}, and no eigenvalue, where {every[turned[0]]:.4g} is "
        "expected: a quotient v'Av on its way; compare sizes, and stop by the residual"
    )
    return [Fit("stopped at a sign change", text, 0.0)]


def _in_float32(found: np.ndarray, every: np.ndarray, coarse: float) -> list[Fit]:
    """Explain float32 numbers as far off as a computation in float32 leaves them."""
    top, u = float(np.max(np.abs(every))), 2.0**-24
    gap = float(np.max(np.abs(found - every[: len(found)])))
    narrow = np.array_equal(found, found.astype(np.float32))
    if not (narrow and gap <= coarse < top / 4):
        return []
    text = (
        f"float32 numbers, off by {gap / (u * top):.3g} of its roundings relative to "
        "the largest, as a computation in float32 leaves them: say dtype='float32', or "
        "compute in float64"
    )
    return [Fit("float32", text, gap / coarse)]


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
    # copies of one value are in one place: where they should be is wider
    width = max(found[0] - found[-1], every[0] - every[len(found) - 1])
    return 4 * radius * len(inside) < float(width) or len(found) == 1


def _numbers(places: list[int]) -> str:
    """Name places, counted from 1."""
    if len(places) == 1:
        return f"number {places[0] + 1} is"
    shown = ", ".join(str(i + 1) for i in places[:4])
    return f"numbers {shown}{', ...' * (len(places) > 4)} are"
