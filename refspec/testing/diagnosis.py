"""Which mistake explains what was found: every candidate that fits, or what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from refspec.testing import factor_settings, settings
from refspec.testing.accuracy import accuracy
from refspec.testing.fits import Fit, explained, told
from refspec.testing.inputs import frobenius
from refspec.testing.mistakes import Mistake, scales, structures
from refspec.testing.questions import Operator, Question, operator


def best_scale(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Return s that minimises ||found - s true||, and the norm that is left."""
    square = float(np.sum(true * true))
    s = float(np.sum(found * true)) / square if square > 0 else 0.0
    return s, frobenius(found - s * true)


def of_operator(
    question: Question,
    order: str | np.ndarray,
    Z: np.ndarray,
    found: np.ndarray,
    u: float,
) -> list[Fit]:
    """Explain products (P, m) with probes Z, both in refspec's order of parameters.

    Single mistakes; a factor on top of another only where none fits; then settings.
    """
    size = frobenius(Z)

    def products(true: Operator) -> np.ndarray:
        return true.apply(Z)

    candidates = structures(question, order)
    fits = _fits(question, candidates, found, products, size, u)
    if fits:
        return fits
    asked = settings.asked(question, Z, found, u)
    fits = settings.of_operator(asked)
    if not fits and question.of == "kfac":
        fits = factor_settings.of_kfac(asked)
    return fits


def of_noise(
    found: np.ndarray, again: np.ndarray, z: np.ndarray, radius: float
) -> list[Fit]:
    """Ask whether two products with one vector differ."""
    gap, allowed = frobenius(found - again), radius * frobenius(z)
    if gap <= allowed:
        return []
    text = (
        f"two products with one vector differ by {gap / allowed:.3g} radii: dropout or "
        "batch norm in training mode, labels or batches drawn anew; call model.eval(), "
        "or fix the generator"
    )
    return [Fit("not deterministic", text, 0.0)]


def of_spectrum(question: Question, found: np.ndarray, u: float) -> list[Fit]:
    """Explain descending eigenvalues (r,), the largest r or all of them."""

    def values(true: Operator) -> np.ndarray:
        return true.eigenvalues()[: len(found)]

    # the sorted eigenvalues of two matrices are apart by at most ||difference||_F
    seen = (x for x in structures(question, "row_major") if not x.same_spectrum)
    fits = _fits(question, seen, found, values, 1.0, u)
    every, radius = operator(question).eigenvalues(), accuracy(question, u).radius
    squares, r = found**2 if np.all(found >= 0) else found, len(found)
    roots = "square roots: singular values of the gradients, not eigenvalues"
    turned = scales(question)["sign"][1]
    others = (
        ("square roots", roots, squares, every[:r]),
        ("sign", turned, found, -every[::-1][:r]),  # the largest of -A
        ("sign", turned, found, -every[:r][::-1]),  # the largest of A, turned
    )
    for name, text, values_seen, true in others:
        gap, known = frobenius(values_seen - true), {x.name for x in fits}
        if gap <= radius < frobenius(true) / 4 and name not in known:
            fits.append(Fit(name, text, gap / radius))
    return fits


def _fits(
    question: Question,
    candidates: Iterable[Mistake],
    found: np.ndarray,
    see: Callable[[Operator], np.ndarray],
    size: float,
    u: float,
) -> list[Fit]:
    """Try factors, then other questions, then both."""
    factors = scales(question)
    own, radius = see(operator(question)), size * accuracy(question, u).radius
    single, tried = fitting("", "", own, radius, factors, found), []
    for mistake in candidates:
        with np.errstate(all="ignore"):
            seen = see(mistake.build())
        radius = size * accuracy(mistake.question, u).radius
        tried.append((mistake.name, mistake.sentence, seen, radius))
        single += fitting(*tried[-1], {"": (1.0, "")}, found)
    single = told(single, len(factors) + len(tried))
    if single:
        return single
    both = [x for candidate in tried for x in fitting(*candidate, factors, found)]
    return told(both, len(factors) * len(tried))


def fitting(
    name: str,
    sentence: str,
    seen: np.ndarray,
    radius: float,
    factors: dict[str, tuple[float, str]],
    found: np.ndarray,
) -> list[Fit]:
    """Return the factors with which a candidate fits; a bound must be able to fail."""
    if seen.shape != found.shape:
        return []
    out: list[Fit] = []
    for factor, (s, text) in factors.items():
        both = ", ".join(x for x in (name, factor) if x)
        said = "; and ".join(x for x in (sentence, text) if x)
        out += explained(both, said, s * seen, found, abs(s) * radius)
    return out
