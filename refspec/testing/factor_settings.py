"""What a setting leaves in KFAC's factors: each block is still a Kronecker product.

Products with probes give a factor back, the other one known, or both up to a scale by
turns. What stands in its place is then read: damping, class weights, labels drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from refspec.kronecker import kfac
from refspec.testing.fits import Fit, explained
from refspec.testing.inputs import frobenius
from refspec.testing.questions import Question
from refspec.testing.readings import Reading, of_samples
from refspec.testing.settings import Asked, combination

_TURNS = 60  # of the two factors; each halves what is left many times over
_DRAWS = 8  # labels drawn a sample that are tried
_SIMULATED = 64  # sets of drawn labels that say how far off a factor may be


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """One layer: true factors, errors (N, K, T, b) and features that they come from.

    Z and found are (m, b, a).
    """

    left: np.ndarray
    right: np.ndarray
    errors: np.ndarray
    features: np.ndarray
    Z: np.ndarray
    found: np.ndarray


def of_kfac(x: Asked) -> list[Fit]:
    """Name the setting that explains products of a KFAC, if one does."""
    blocks = _blocks(x)
    for look in (_damped, _left, _right, _both):
        fits = list(look(x, blocks))
        if fits:
            return fits
    return []


def _blocks(x: Asked) -> list[_Block]:
    q, start, m, out = x.question, 0, x.Z.shape[1], []
    for name, (b, a) in zip(q.layers, q.shapes, strict=True):
        K = kfac(q.snapshot, name, setting=q.setting, fisher=q.fisher)
        layer, stop = q.snapshot.layer(name), start + a * b
        d, h = layer.errors, layer.features
        if q.setting == "reduce":
            d, h = d.sum(axis=2, keepdims=True), h.mean(axis=1, keepdims=True)
        V, Y = (y[start:stop].T.reshape(m, b, a) for y in (x.Z, x.found))
        out.append(_Block(K.left, K.right, d, h, V, Y))
        start = stop
    return out


def _products(
    blocks: list[_Block], factors: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Return the products (P, m) of other factors."""
    parts = [
        (S @ x.Z @ H.T).reshape(len(x.Z), -1).T
        for x, (S, H) in zip(blocks, factors, strict=True)
    ]
    return np.concatenate(parts)


def _damped(x: Asked, blocks: list[_Block]) -> Iterator[Fit]:
    """Look for a multiple of the identity in either factor, of each layer its own."""
    factors, said = [], []
    for name, y in zip(x.question.layers, blocks, strict=True):
        one, other = np.eye(len(y.left)), np.eye(len(y.right))
        pairs = ((one, y.right), (y.left, other), (one, other))
        terms = np.stack([S @ y.Z @ H.T for S, H in pairs])
        amounts, _ = combination(y.found - y.left @ y.Z @ y.right.T, terms)
        a, b = float(amounts[0]), float(amounts[1])
        factors.append((y.left + a * one, y.right + b * other))
        said.append(f"{name}: {a:.4g} and {b:.4g}")
    text = (
        "damping is inside the factors, of the errors' and of the features', "
        f"{'; '.join(said)}; take it off"
    )
    true = _products(blocks, factors)
    yield from explained("damping of the factors", text, true, x.found, x.radius)


def _left(x: Asked, blocks: list[_Block]) -> Iterator[Fit]:
    """Look for another errors' factor."""
    found = [_given(y.found, y.Z, y.right) for y in blocks]
    factors = [(S, y.right) for S, y in zip(found, blocks, strict=True)]
    text = "H, the features' factor, is right; the errors' factor is not"
    name = "errors' factor"
    rest = list(explained(name, text, _products(blocks, factors), x.found, x.radius))
    if not rest:
        return
    build = [_errors_factor(x.question, y) for y in blocks]
    for reading in _read(x.question, found, build):
        other = [
            (make(reading.ratios), y.right)
            for make, y in zip(build, blocks, strict=True)
        ]
        text = f"in the errors' factor: {reading.sentence}"
        true = _products(blocks, other)
        yield from explained(reading.name, text, true, x.found, x.radius)
        return
    M = _draws(x.question, blocks, found)
    if M:
        text = (
            f"{rest[0].sentence}: it is as far off as {M} Monte-Carlo "
            f"label{'s' * (M > 1)} a sample may leave it; use the exact Fisher, or "
            "more labels"
        )
        yield Fit("Monte-Carlo labels", text, rest[0].ratio)
        return
    yield from rest


def _right(x: Asked, blocks: list[_Block]) -> Iterator[Fit]:
    """Look for another features' factor."""
    swapped = [np.swapaxes(y.found, 1, 2) for y in blocks]
    found = [
        _given(f, np.swapaxes(y.Z, 1, 2), y.left)
        for f, y in zip(swapped, blocks, strict=True)
    ]
    factors = [(y.left, H) for H, y in zip(found, blocks, strict=True)]
    text = "Delta, the errors' factor, is right; the features' factor is not"
    true = _products(blocks, factors)
    rest = list(explained("features' factor", text, true, x.found, x.radius))
    if not rest:
        return
    build = [_features_factor(x.question, y) for y in blocks]
    for reading in _read(x.question, found, build):
        other = [
            (y.left, make(reading.ratios))
            for make, y in zip(build, blocks, strict=True)
        ]
        text = f"in the features' factor: {reading.sentence}"
        true = _products(blocks, other)
        yield from explained(reading.name, text, true, x.found, x.radius)
        return
    yield from rest


def _both(x: Asked, blocks: list[_Block]) -> Iterator[Fit]:
    """Look for other factors both, known up to a scale: sample weights of sum 1."""
    found = [_by_turns(y) for y in blocks]
    if frobenius(x.found - _products(blocks, found)) > x.radius:
        return
    q, s = x.question, x.question.snapshot.sample_weights
    sides = []
    for k, make in enumerate((_errors_factor, _features_factor)):
        # each layer's scale is its own: the largest factor is read
        build = [make(q, y) for y in blocks]
        most = max(range(len(blocks)), key=lambda i: len(found[i][k]))
        readings = list(_read(q, [found[most][k]], [build[most]], unit=True))
        if not readings:
            return
        ratios = readings[0].ratios / float(np.sum(s * readings[0].ratios))
        sides.append((readings[0], [factor(ratios) for factor in build]))
    reading, left = sides[0]
    factors = list(zip(left, sides[1][1], strict=True))
    text = f"in both factors: {reading.sentence}"
    made = _products(blocks, factors)
    yield from explained(reading.name, text, made, x.found, x.radius)


def _given(found: np.ndarray, Z: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return S with S Z right' = found, all (m, b, a), by least squares."""
    b = found.shape[1]
    W = np.swapaxes(Z @ right.T, 0, 1).reshape(b, -1)
    flat = np.swapaxes(found, 0, 1).reshape(b, -1)
    return np.asarray(np.linalg.lstsq(W.T, flat.T)[0].T)


def _by_turns(y: _Block) -> tuple[np.ndarray, np.ndarray]:
    """Return both factors by least squares, one after the other, up to a scale."""
    S, H = y.left, y.right
    for _ in range(_TURNS):
        S = _given(y.found, y.Z, H)
        turned = np.swapaxes(y.found, 1, 2), np.swapaxes(y.Z, 1, 2)
        H = _given(*turned, S)
    return S, H


def _errors_factor(q: Question, y: _Block) -> Callable[[np.ndarray], np.ndarray]:
    """Return the errors' factor as a function of ratios (N,) of sample weights."""
    s, p = q.snapshot.sample_weights, q.snapshot.probabilities
    if q.fisher == "empirical":
        p = np.eye(p.shape[1])[q.snapshot.labels]
    _, _, _, b = y.errors.shape

    def factor(ratios: np.ndarray) -> np.ndarray:
        w = (ratios * s)[:, None] * p
        flat = y.errors.reshape(-1, b)
        each = np.repeat(w.reshape(-1), y.errors.shape[2])
        return np.asarray((flat * each[:, None]).T @ flat)

    return factor


def _features_factor(q: Question, y: _Block) -> Callable[[np.ndarray], np.ndarray]:
    """Return the features' factor as a function of ratios (N,) of sample weights."""
    s, (_, T, a) = q.snapshot.sample_weights, y.features.shape

    def factor(ratios: np.ndarray) -> np.ndarray:
        flat, each = y.features.reshape(-1, a), np.repeat(ratios * s, T) / T
        return np.asarray((flat * each[:, None]).T @ flat)

    return factor


def _read(
    q: Question,
    found: list[np.ndarray],
    build: list[Callable[[np.ndarray], np.ndarray]],
    unit: bool = False,
) -> Iterator[Reading]:
    """Read factors of layers together as those of other sample weights, or of sum 1."""
    labels, s = q.snapshot.labels, q.snapshot.sample_weights
    N, there = len(s), np.unique(labels)
    right = np.concatenate([x.ravel() for x in found])
    groups = [np.stack([labels == c for c in there])]
    if sum(len(x) * (len(x) + 1) for x in found) >= 4 * N:
        groups.append(np.eye(N, dtype=bool))
    for masks in groups:
        if len(masks) < 2:
            continue
        terms = np.stack(
            [np.concatenate([f(1.0 * mask).ravel() for f in build]) for mask in masks]
        )
        amounts, left = combination(right, terms)
        half = np.sqrt(np.finfo(np.float64).eps) * frobenius(right)
        each = amounts @ masks
        if unit:
            each = each / float(np.sum(s * each))
        if left <= half:
            for reading in of_samples(each, s, labels):
                yield reading
                return


def _draws(q: Question, blocks: list[_Block], found: list[np.ndarray]) -> int:
    """Return how many labels drawn a sample leave factors as far off; 0 if no number.

    Drawn a few times, since the distance has no simple law where p is sharp.
    """
    p, s = q.snapshot.probabilities, q.snapshot.sample_weights
    away = np.sqrt(
        sum(frobenius(S - y.left) ** 2 for S, y in zip(found, blocks, strict=True))
    )
    rng, best, nearest = np.random.default_rng(0), 0, np.inf
    for M in range(1, _DRAWS + 1):
        sizes = []
        for _ in range(_SIMULATED):
            w = s[:, None] * rng.multinomial(M, p / p.sum(axis=1, keepdims=True)) / M
            squares = 0.0
            for y in blocks:
                b = y.errors.shape[3]
                flat = y.errors.reshape(-1, b)
                each = np.repeat(w.reshape(-1), y.errors.shape[2])
                squares += frobenius((flat * each[:, None]).T @ flat - y.left) ** 2
            sizes.append(np.sqrt(squares))
        off = (
            abs(float(np.log(np.median(sizes) / away)))
            if np.median(sizes) > 0
            else np.inf
        )
        if min(sizes) <= away <= max(sizes) and off < nearest:
            best, nearest = M, off
    return best
