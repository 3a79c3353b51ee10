"""What a setting of the training leaves in an operator: known parts, unknown amounts.

Damping, class weights, an uneven last batch, padding, label smoothing, drawn labels: in
each case the operator is a combination of parts that refspec knows. The amounts are
solved for, read as the setting that makes them, and put in again exactly; a setting is
named only if the operator is that one within its own bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from refspec import models
from refspec.curvature import SecondMoment
from refspec.factors import Factor, Factors
from refspec.testing.accuracy import accuracy
from refspec.testing.damping import dampings
from refspec.testing.fits import Fit, explained
from refspec.testing.inputs import frobenius
from refspec.testing.questions import (
    MOMENTS,
    Question,
    hessian_products,
    operator,
    parameter_groups,
)
from refspec.testing.readings import of_samples

_LABELS = 2400  # samples times other classes up to which drawn labels are solved for
_DRAWS = 8  # labels drawn a sample that are tried
_SAMPLES = 1000  # samples that are solved for


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Products found (P, m) with probes Z, the true ones, and how far they may be."""

    question: Question
    Z: np.ndarray
    found: np.ndarray
    true: np.ndarray
    radius: float


def asked(q: Question, Z: np.ndarray, found: np.ndarray, u: float) -> Asked:
    """Put the true products beside those found in a format of roundoff u."""
    radius = accuracy(q, u).radius * frobenius(Z)
    return Asked(q, Z, found, operator(q).apply(Z), radius)


def of_operator(x: Asked) -> list[Fit]:
    """Name the setting that explains what was found, if one does."""
    for look in _TABLE:
        fits = list(look(x))
        if fits:
            return fits
    return []


def untried(q: Question, seen: int) -> list[str]:
    """Say which settings are not asked for: what is solved for would be too large.

    `seen` is the size of the products.
    """
    (N, C), most = q.snapshot.probabilities.shape, _most_samples(seen)
    out = []
    if q.of in ("fisher", "gauss_newton") and N * (C - 1) > _LABELS:
        out.append(
            f"Monte-Carlo labels, solved for up to N(C - 1) = {_LABELS}, here "
            f"{N * (C - 1)}; give fewer samples"
        )
    if (q.of in MOMENTS or q.of == "hessian") and most < N:
        out.append(
            "weights of single samples (an uneven last batch, copies, samples left "
            f"out), solved for up to N = {most}, here {N}; give fewer samples"
        )
    return out


def _most_samples(seen: int) -> int:
    """Return how many samples' weights may be solved for from as many numbers."""
    return min(_SAMPLES, seen // 4)


def _damped(x: Asked) -> Iterator[Fit]:
    """Look for a multiple of the identity, of all parameters or of some."""
    away = x.found - x.true
    for damping in dampings(x.question, away, x.Z, x.radius):
        left = frobenius(away - damping.each[:, None] * x.Z)
        if left <= x.radius < frobenius(away) / 4:
            text = (
                f"inside the matrix is {damping.amount} times the identity{damping.of}"
                ": damping, or weight decay in the loss; take it off"
            )
            yield Fit(damping.name, text, left / x.radius)
            return


def _frozen(x: Asked) -> Iterator[Fit]:
    """Look for rows and columns of some parameters that are zero."""
    groups = parameter_groups(x.question)
    gone = [y for y in groups if not np.any(x.found[y[2]])]
    kept = ~np.any([mask for _, _, mask in gone], axis=0) if gone else np.array([])
    if not np.any(kept):
        return
    rest = kept[:, None] * operator(x.question).apply(kept[:, None] * x.Z)
    named = {y[0]: [z[1] for z in gone if z[0] == y[0]] for y in gone}
    whole = {
        y: len(parts) == sum(z[0] == y for z in groups) for y, parts in named.items()
    }
    words = [
        y if whole[y] else f"{y}'s {' and '.join(parts)}" for y, parts in named.items()
    ]
    text = (
        f"rows and columns of {', '.join(words)} are 0: frozen, or missing from the "
        "parameters; leave them out of the question too"
    )
    layers = all(whole.values()) and not x.question.named
    name = "frozen layer" if layers else "frozen parameter"
    yield from explained(name, text, rest, x.found, x.radius)


def _padded(x: Asked) -> Iterator[Fit]:
    """Look for samples that are not there: zeros, or a network's answer to zeros."""
    N = len(x.question.snapshot.labels)
    size = float(np.sum(x.true * x.true))
    s = float(np.sum(x.found * x.true)) / size if size > 0 else 0.0
    more = round(N / s) - N if s > 0 else 0
    if 0 < more < N:
        text = (
            f"averaged over N + {more} = {N + more} samples in place of N = {N}: "
            f"{more} of padding, that add nothing, are counted; divide by N"
        )
        true = N / (N + more) * x.true
        yield from explained("padding", text, true, x.found, x.radius)
    blank = _blank(x.question)
    if blank is None:
        return
    zeros = operator(blank).apply(x.Z)
    (a, b), _, unique = combination(x.found, np.stack([x.true, zeros]))
    more = round(N * b / a) if a > 0 and unique else 0
    if 0 < more < 8 * N:
        text = (
            f"{more} samples of padding, inputs of zeros, are among the {N + more} "
            "averaged over; leave them out"
        )
        true = (N * x.true + more * zeros) / (N + more)
        yield from explained("padding", text, true, x.found, x.radius)


def _blank(q: Question) -> Question | None:
    """Ask the same of the network's answer to an input of zeros."""
    if q.snapshot.model is None or q.of not in ("fisher", "gauss_newton"):
        return None
    try:
        network, X = models.of_snapshot(q.snapshot)
        C = q.snapshot.probabilities.shape[1]
        seen = models.snapshot(network, np.zeros_like(X[:C]), np.arange(C))
    except ValueError:  # operations that refspec does not know
        return None
    return replace(q, snapshot=seen)


def _weighed(x: Asked) -> Iterator[Fit]:
    """Look for other weights of the classes, then of the samples."""
    snapshot = x.question.snapshot
    N, C = snapshot.probabilities.shape
    labels = snapshot.labels
    there = np.unique(labels)
    by_class = [labels == c for c in there]
    fits = list(_reweighed(x, by_class)) if len(there) > 1 else []
    yield from fits
    if not fits and _most_samples(x.Z.size) >= N > C:
        yield from _reweighed(x, list(np.eye(N, dtype=bool)))


def _reweighed(x: Asked, groups: list[np.ndarray]) -> Iterator[Fit]:
    """Solve for the weights of groups of samples, and read them."""
    part = _part(x.question)
    if part is None:
        return
    s = x.question.snapshot.sample_weights
    m = min(x.Z.shape[1], 1 + 8 * len(groups) // len(x.Z))
    terms = np.stack([part(s * mask, x.Z[:, :m]) for mask in groups])
    amounts, left, unique = combination(x.found[:, :m], terms)
    # samples may be exchangeable, of classes that means that any factor fits
    if not (unique or len(groups) == len(s)) or left > frobenius(x.found[:, :m]) / 4:
        return
    each = sum(amount * mask for amount, mask in zip(amounts, groups, strict=True))
    for reading in of_samples(each, s, x.question.snapshot.labels, unique):
        true = part(s * reading.ratios, x.Z)
        yield from explained(reading.name, reading.sentence, true, x.found, x.radius)


def _part(q: Question) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
    """Return the product with Z of what samples of given weights (N,) contribute."""
    snapshot = q.snapshot
    if q.of in MOMENTS:
        rows = _rows(q)
        p = labels_of(q)

        def moment(s: np.ndarray, Z: np.ndarray) -> np.ndarray:
            on = np.flatnonzero(s)
            i, j = (on[0], on[-1] + 1) if len(on) else (0, 1)
            some = rows.part(int(i), int(j))
            w = (s[:, None] * p)[i:j, :, None]
            made: np.ndarray = np.asarray(some.cross(w * some.dot(Z)))
            return made

        return moment
    if q.of != "hessian":
        return None

    def curved(s: np.ndarray, Z: np.ndarray) -> np.ndarray:
        return hessian_products(q, snapshot.labels, s)(Z)

    return curved


def _smoothed(x: Asked) -> Iterator[Fit]:
    """Look for targets that are (1 - e) of the label and e of all classes alike."""
    q, snapshot = x.question, x.question.snapshot
    C = snapshot.probabilities.shape[1]
    s = snapshot.sample_weights
    if q.of == "hessian":
        every = (hessian_products(q, np.full(len(s), c), s)(x.Z) for c in range(C))
        uniform = sum(every) / C
        (_, e), _, unique = combination(x.found, np.stack([x.true, uniform]))
        true = (1 - e) * x.true + e * uniform
    elif q.of == "empirical_fisher":
        rows, hot = _rows(q), labels_of(q)
        Y, ones = np.asarray(rows.dot(x.Z)), np.full_like(hot, 1 / C)
        own, mean = (
            np.sum(w[:, :, None] * Y, axis=1, keepdims=True) for w in (hot, ones)
        )

        def spread(w: np.ndarray, y: np.ndarray) -> np.ndarray:
            return np.asarray(rows.cross((s[:, None] * w)[:, :, None] * y))

        parts = np.stack(
            [
                spread(hot, own),
                spread(hot, mean) + spread(ones, own),
                spread(ones, mean),
            ]
        )
        (a, b, _), _, unique = combination(x.found, parts)
        e = b / (a + b) if a + b else 0.0
        amounts = np.array([(1 - e) ** 2, e * (1 - e), e * e])
        true = np.tensordot(amounts, parts, axes=1)
    else:
        return
    if 0 < e < 1 and unique:
        text = (
            f"label smoothing: the targets are 1 - e of the label and e of all classes "
            f"alike, e = {e:.6g}; take the labels themselves"
        )
        yield from explained("label smoothing", text, true, x.found, x.radius)


def _drawn(x: Asked) -> Iterator[Fit]:
    """Look for labels drawn from p: counts over draws, a sample's sum known."""
    q, snapshot = x.question, x.question.snapshot
    N, C = snapshot.probabilities.shape
    if q.of not in ("fisher", "gauss_newton") or N * (C - 1) > _LABELS:
        return
    plain = SecondMoment(_rows(q), np.ones((N, C)), snapshot.offsets)
    Y, R = (plain.dot(y).reshape(N * C, -1) for y in (x.Z, x.found))
    # A Z = sum w g (g'Z) is linear in the weights w (N C), and its normal matrix the
    # Hadamard product of two Gram matrices. A sample's weights sum to s: one of them,
    # that of its likeliest label, follows, and nothing is lost where p is sharp
    normal, s = plain.gram() * (Y @ Y.T), snapshot.sample_weights
    likely = np.argmax(snapshot.probabilities, axis=1)
    own = np.arange(N) * C + likely
    others = np.setdiff1d(np.arange(N * C), own)
    mine = own[others // C]
    right = np.sum(Y * R, axis=1) - normal[:, own] @ s
    right = right[others] - right[mine]
    reduced = normal[np.ix_(others, others)] - normal[np.ix_(others, mine)]
    reduced += normal[np.ix_(mine, mine)] - normal[np.ix_(mine, others)]
    v = _scaled_solution(reduced, right)
    w = np.zeros(N * C)
    w[own], w[others] = s, v
    np.subtract.at(w, mine, v)
    w = w.reshape(N, C)
    shares = np.divide(w, s[:, None], out=np.zeros_like(w), where=s[:, None] > 0)
    for M in range(1, _DRAWS + 1):
        counts = np.round(shares * M)
        if np.any(counts < 0) or np.any(counts.sum(axis=1)[s > 0] != M):
            continue
        drawn = plain.cross((s[:, None] * counts / M)[:, :, None] * plain.dot(x.Z))
        text = (
            f"Monte-Carlo labels: the Fisher of {M} label{'s' * (M > 1)} a sample "
            "drawn from p, found one by one; use the exact Fisher, or average"
        )
        fits = list(explained("Monte-Carlo labels", text, drawn, x.found, x.radius))
        if fits:
            yield from fits
            return


def _scaled_solution(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Solve a semidefinite system with columns of very different sizes."""
    size = np.sqrt(np.abs(np.diagonal(A)))
    size = np.where(size > 0, size, 1.0)
    scaled = A / size[:, None] / size[None, :]
    values, Q = scipy.linalg.eigh(scaled)
    least = len(A) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    inverse = np.where(values > least, 1 / np.where(values > least, values, 1.0), 0.0)
    right = b / size
    found = Q @ (inverse * (Q.T @ right))
    found += Q @ (inverse * (Q.T @ (right - scaled @ found)))  # once refined
    return np.asarray(found / size)


def combination(found: np.ndarray, terms: np.ndarray) -> tuple[np.ndarray, float, bool]:
    """Return the amounts (r,) of terms (r, P, m) nearest to found, and what is left.

    And whether they are unique: if terms depend on each other, others do as well.
    """
    columns = terms.reshape(len(terms), -1).T
    size = np.linalg.norm(columns, axis=0)
    size = np.where(size > 0, size, 1.0)
    scaled, right = columns / size, found.reshape(-1)
    amounts, _, rank, _ = np.linalg.lstsq(scaled, right)
    left = float(np.linalg.norm(right - scaled @ amounts))
    return np.asarray(amounts / size), left, rank == len(terms)


def _rows(q: Question) -> Factors:
    """Return the gradients of all samples and labels as rows, without weights."""
    chosen = [q.snapshot.layer(x) for x in q.layers]
    return Factors(tuple(Factor(x.errors, x.features) for x in chosen))


def labels_of(q: Question) -> np.ndarray:
    """Return what the labels of a sample are weighed with, (N, C)."""
    p = q.snapshot.probabilities
    if q.of == "empirical_fisher" or q.fisher == "empirical":
        p = np.eye(p.shape[1])[q.snapshot.labels]
    return np.asarray(p)


_TABLE: tuple[Callable[[Asked], Iterator[Fit]], ...] = (
    _damped,
    _frozen,
    _padded,
    _smoothed,
    _weighed,
    _drawn,
)
