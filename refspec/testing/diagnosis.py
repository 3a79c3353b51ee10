"""Which mistake explains what was found: every candidate that fits, or what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from refspec.curvature import SecondMoment
from refspec.factors import Factor, Factors
from refspec.kronecker import kfac
from refspec.testing.accuracy import accuracy
from refspec.testing.inputs import frobenius
from refspec.testing.mistakes import Mistake, scales, structures
from refspec.testing.questions import Operator, Question, operator

_LABELS = 600  # samples times classes up to which drawn labels are solved for
_DRAWS = 8  # labels drawn a sample that are tried


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A mistake that explains the answer: `ratio` is distance over bound, at most 1."""

    name: str
    sentence: str
    ratio: float


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

    Single mistakes; a factor on top of another mistake only where none fits.
    """
    size = frobenius(Z)

    def products(true: Operator) -> np.ndarray:
        return true.apply(Z)

    candidates = structures(question, order)
    fits = _fits(question, candidates, found, products, size, u)
    fits = fits or _damped(question, Z, found, u) or _frozen(question, Z, found, u)
    if not fits and question.of in ("fisher", "gauss_newton"):
        fits = _drawn_labels(question, Z, found, u)
    if not fits and question.of == "kfac":
        fits = _other_factor(question, Z, found, u)
    return fits


def of_spectrum(question: Question, found: np.ndarray, u: float) -> list[Fit]:
    """Explain descending eigenvalues (r,), the largest r or all of them."""

    def values(true: Operator) -> np.ndarray:
        return true.eigenvalues()[: len(found)]

    # the sorted eigenvalues of two matrices are apart by at most ||difference||_F
    seen = (x for x in structures(question, "row_major") if not x.same_spectrum)
    fits = _fits(question, seen, found, values, 1.0, u)
    every, radius = operator(question).eigenvalues(), accuracy(question, u).radius
    others = {
        "square roots": (
            found**2 if np.all(found >= 0) else found,
            every[: len(found)],
            "square roots: singular values of the gradients, not eigenvalues",
        ),
        "sign": (found, -every[::-1][: len(found)], scales(question)["sign"][1]),
    }
    for name, (seen_values, true, text) in others.items():
        gap = frobenius(seen_values - true)
        if gap <= radius < frobenius(true) / 4:
            fits.append(Fit(name, text, gap / radius))
    return fits


def _damped(
    question: Question, Z: np.ndarray, found: np.ndarray, u: float
) -> list[Fit]:
    """Ask whether a multiple of the identity is inside the matrix, and which."""
    away = found - operator(question).apply(Z)
    damping, left = best_scale(away, Z)
    radius = accuracy(question, u).radius * frobenius(Z)
    if not left <= radius < frobenius(away) / 4:
        return []
    text = (
        f"{damping:.6g} times the identity is inside the matrix: damping, or weight "
        "decay in the loss; take it off"
    )
    return [Fit("damping", text, left / radius)]


def _frozen(
    question: Question, Z: np.ndarray, found: np.ndarray, u: float
) -> list[Fit]:
    """Ask whether rows and columns of some layers are zero."""
    ends = np.cumsum([0, *(b * a for b, a in question.shapes)])
    kept, gone = np.ones(len(Z), dtype=bool), []
    for name, i, j in zip(question.layers, ends, ends[1:], strict=False):
        if not np.any(found[i:j]):
            kept[i:j] = False
            gone.append(name)
    if not gone or not np.any(kept):
        return []
    rest = kept[:, None] * operator(question).apply(kept[:, None] * Z)
    gap, radius = frobenius(found - rest), accuracy(question, u).radius * frobenius(Z)
    if not gap <= radius < frobenius(found) / 4:
        return []
    text = (
        f"rows and columns of {', '.join(gone)} are 0: frozen, or missing from the "
        "parameters; leave them out of the question too"
    )
    return [Fit("frozen layer", text, gap / radius)]


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
    if single:
        return single
    return [x for candidate in tried for x in fitting(*candidate, factors, found)]


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
    out = []
    for factor, (s, text) in factors.items():
        gap, bound = frobenius(found - s * seen), abs(s) * radius
        if gap <= bound < frobenius(found) / 4:
            names, sentences = [name, factor], [sentence, text]
            out.append(
                Fit(
                    ", ".join(x for x in names if x),
                    "; and ".join(x for x in sentences if x),
                    gap / bound,
                )
            )
    return out


def _drawn_labels(
    question: Question, Z: np.ndarray, found: np.ndarray, u: float
) -> list[Fit]:
    """Solve for every label's weight; Monte Carlo if they are counts over draws."""
    snapshot = question.snapshot
    N, C = snapshot.probabilities.shape
    if N * C > _LABELS:
        return []
    chosen = [snapshot.layer(x) for x in question.layers]
    rows = Factors(tuple(Factor(x.errors, x.features) for x in chosen))
    ones = np.ones((N, C))
    plain = SecondMoment(rows, ones, snapshot.offsets)
    Y, R = (plain.dot(x).reshape(N * C, -1) for x in (Z, found))
    # A Z = sum w g (g'Z) is linear in the weights w (N C), and its normal matrix the
    # Hadamard product of two Gram matrices; weights rounded to counts give a candidate
    # whose own bound decides
    normal = plain.gram() * (Y @ Y.T)
    w = np.linalg.lstsq(normal, np.sum(Y * R, axis=1))[0].reshape(N, C)
    s = snapshot.sample_weights[:, None]
    shares = np.divide(w, s, out=np.zeros_like(w), where=s > 0)
    radius = accuracy(question, u).radius * frobenius(Z)
    for M in range(1, _DRAWS + 1):
        counts = np.round(shares * M)
        if np.any(counts < 0) or np.any(counts.sum(axis=1)[s[:, 0] > 0] != M):
            continue
        drawn = plain.cross((s * counts / M)[:, :, None] * plain.dot(Z))
        gap = frobenius(found - drawn)
        if gap <= radius < frobenius(found) / 4:
            text = (
                f"Monte-Carlo labels: the Fisher of {M} label{'s' * (M > 1)} a sample "
                "drawn from p, found one by one; use the exact Fisher, or average"
            )
            return [Fit("Monte-Carlo labels", text, gap / radius)]
    return []


def _other_factor(
    question: Question, Z: np.ndarray, found: np.ndarray, u: float
) -> list[Fit]:
    """Ask whether each block is S (x) H, with another errors' factor S than Delta."""
    radius, left, start = accuracy(question, u).radius * frobenius(Z), 0.0, 0
    away = spread = 0.0
    for name, (b, a) in zip(question.layers, question.shapes, strict=True):
        K = kfac(question.snapshot, name, setting=question.setting)
        stop, m = start + a * b, Z.shape[1]
        V, Y = (x[start:stop].T.reshape(m, b, a) for x in (Z, found))
        W = np.swapaxes(V @ K.right.T, 0, 1).reshape(b, -1)
        flat = np.swapaxes(Y, 0, 1).reshape(b, -1)
        S = np.linalg.lstsq(W.T, flat.T)[0].T
        left = float(np.hypot(left, frobenius(flat - S @ W)))
        away += frobenius(S - K.left) ** 2
        spread += _label_variance(question, name)
        start = stop
    if not left <= radius < frobenius(found) / 4 or not away > 0:
        return []
    text = "H, the features' factor, is right; the errors' factor is not"
    draws = spread / away
    if 1 / 9 <= draws <= 9 * _DRAWS:  # sd of a mean of M draws within a factor of 3
        text += (
            f": it is as far off as about {max(1, round(draws))} Monte-Carlo labels a "
            "sample would leave it; use the exact Fisher, or more labels"
        )
        return [Fit("Monte-Carlo labels", text, left / radius)]
    return [Fit("errors' factor", text, left / radius)]


def _label_variance(question: Question, name: str) -> float:
    """E ||Delta_1 - Delta||_F^2 for one label drawn a sample."""
    snapshot = question.snapshot
    p, s = snapshot.probabilities, snapshot.sample_weights
    d = snapshot.layer(name).errors
    if question.setting == "reduce":
        d = d.sum(axis=2, keepdims=True)
    each = np.swapaxes(d, 2, 3) @ d  # (N, C, b, b)
    mean = np.sum(p[:, :, None, None] * each, axis=1, keepdims=True)
    squares = np.sum((each - mean) ** 2, axis=(2, 3))
    return float(np.sum(s[:, None] ** 2 * p * squares))
