"""What a setting leaves in KFAC's factors: each block is still a Kronecker product.

Products with probes give a factor back, the other one known, or both up to a scale by
turns. What stands in its place is then read: damping, class weights, labels drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import scipy.optimize
import scipy.sparse

from refspec.kronecker import kfac
from refspec.testing.fits import Fit, explained
from refspec.testing.inputs import frobenius
from refspec.testing.questions import Question
from refspec.testing.readings import Reading, of_samples
from refspec.testing.settings import Asked, combination, labels_of

_TURNS = 60  # of the two factors; each halves what is left many times over
_DRAWS = 5  # labels drawn a sample that are tried
_NODES, _SECONDS = 100, 8.0  # of the search for whole numbers, for each draw
_COMBINED = 24  # outputs, of a layer that has more, are combined to so many
_LABELS = 1000  # samples times classes up to which drawn labels are solved for


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
    for look in (_damped, partial(_one, k=0), partial(_one, k=1), _both):
        fits = list(look(x, blocks))
        if fits:
            return fits
    return []


def _blocks(x: Asked) -> list[_Block]:
    q, m, out = x.question, x.Z.shape[1], []
    for name, (b, a), part in zip(q.layers, q.shapes, q.slices, strict=True):
        K = kfac(q.snapshot, name, setting=q.setting, fisher=q.fisher)
        layer = q.snapshot.layer(name)
        d, h = layer.errors, layer.features
        if q.setting == "reduce":
            d, h = d.sum(axis=2, keepdims=True), h.mean(axis=1, keepdims=True)
        V, Y = (y[part].T.reshape(m, b, a) for y in (x.Z, x.found))
        out.append(_Block(K.left, K.right, d, h, V, Y))
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
        amounts, _, _ = combination(y.found - y.left @ y.Z @ y.right.T, terms)
        a, b = float(amounts[0]), float(amounts[1])
        factors.append((y.left + a * one, y.right + b * other))
        said.append(f"{name}: {a:.4g} and {b:.4g}")
    text = (
        "damping is inside the factors, of the errors' and of the features', "
        f"{'; '.join(said)}; take it off"
    )
    true = _products(blocks, factors)
    yield from explained("damping of the factors", text, true, x.found, x.radius)


def _one(x: Asked, blocks: list[_Block], k: int) -> Iterator[Fit]:
    """Look for another factor, of the errors (k = 0) or of the features (k = 1)."""
    name, other = (_SIDES[k][0], _SIDES[1 - k][0])
    found = [_given(y, k, (y.right, y.left)[k]) for y in blocks]
    text = f"{('H', 'Delta')[k]}, the {other}, is right; the {name} is not"
    true = _replaced(blocks, k, found)
    rest = list(explained(name, text, true, x.found, x.radius))
    if not rest:
        return
    build = [_SIDES[k][1](x.question, y) for y in blocks]
    reading = _read(x.question, found, build)
    if reading is not None:
        text = f"in the {name}: {reading.sentence}"
        true = _replaced(blocks, k, [make(reading.ratios) for make in build])
        yield from explained(reading.name, text, true, x.found, x.radius)
        return
    drawn, open_ = ([], "") if k else _drawn(x, blocks, found)
    yield from drawn or [replace(y, sentence=y.sentence + open_) for y in rest]


def _replaced(blocks: list[_Block], k: int, found: list[np.ndarray]) -> np.ndarray:
    """Return the products with factor k of each layer another one."""
    pairs = [
        (y.left, F) if k else (F, y.right) for F, y in zip(found, blocks, strict=True)
    ]
    return _products(blocks, pairs)


def _both(x: Asked, blocks: list[_Block]) -> Iterator[Fit]:
    """Look for other factors both, known up to a scale: sample weights of sum 1."""
    found = [_by_turns(y) for y in blocks]
    if frobenius(x.found - _products(blocks, found)) > x.radius:
        return
    q, s = x.question, x.question.snapshot.sample_weights
    sides = []
    for k, (_, make) in enumerate(_SIDES):
        # each layer's scale is its own: the largest factor is read
        build = [make(q, y) for y in blocks]
        most = max(range(len(blocks)), key=lambda i: len(found[i][k]))
        reading = _read(q, [found[most][k]], [build[most]], unit=True)
        if reading is None:
            return
        ratios = reading.ratios / float(np.sum(s * reading.ratios))
        sides.append((reading, [factor(ratios) for factor in build]))
    reading, left = sides[0]
    factors = list(zip(left, sides[1][1], strict=True))
    text = f"in both factors: {reading.sentence}"
    made = _products(blocks, factors)
    yield from explained(reading.name, text, made, x.found, x.radius)


def _given(y: _Block, k: int, other: np.ndarray) -> np.ndarray:
    """Return factor k of S Z H' = found by least squares, the other one known."""
    found, Z = (np.swapaxes(x, 1, 2) if k else x for x in (y.found, y.Z))
    side = found.shape[1]
    W = np.swapaxes(Z @ other.T, 0, 1).reshape(side, -1)
    flat = np.swapaxes(found, 0, 1).reshape(side, -1)
    return np.asarray(np.linalg.lstsq(W.T, flat.T)[0].T)


def _by_turns(y: _Block) -> tuple[np.ndarray, np.ndarray]:
    """Return both factors by least squares, one after the other, up to a scale."""
    S, H = y.left, y.right
    for _ in range(_TURNS):
        S = _given(y, 0, H)
        H = _given(y, 1, S)
    return S, H


def _errors_factor(q: Question, y: _Block) -> Callable[[np.ndarray], np.ndarray]:
    """Return the errors' factor as a function of ratios (N,) of sample weights."""
    s, p = q.snapshot.sample_weights, labels_of(q)
    return lambda ratios: _weighted(y.errors, (ratios * s)[:, None] * p)


def _features_factor(q: Question, y: _Block) -> Callable[[np.ndarray], np.ndarray]:
    """Return the features' factor as a function of ratios (N,) of sample weights."""
    s, T = q.snapshot.sample_weights, y.features.shape[1]
    return lambda ratios: _weighted(y.features, ratios * s / T)


def _weighted(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the sum of xx' over vectors (..., T, b), the weights (...) theirs."""
    flat = vectors.reshape(-1, vectors.shape[-1])
    each = np.repeat(weights.reshape(-1), vectors.shape[-2])
    return np.asarray((flat * each[:, None]).T @ flat)


def _read(
    q: Question,
    found: list[np.ndarray],
    build: list[Callable[[np.ndarray], np.ndarray]],
    unit: bool = False,
) -> Reading | None:
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
        amounts, left, unique = combination(right, terms)
        half = np.sqrt(np.finfo(np.float64).eps) * frobenius(right)
        each = amounts @ masks
        if unit:
            each = each / float(np.sum(s * each))
        if left <= half and (unique or len(masks) == N):
            reading = next(of_samples(each, s, labels, unique), None)
            if reading is not None:
                return reading
    return None


def _drawn(
    x: Asked, blocks: list[_Block], found: list[np.ndarray]
) -> tuple[list[Fit], str]:
    """Look for whole numbers of labels drawn from p; or say what was not looked for.

    Many weights of labels make the factors, hardly ever two sets of whole numbers:
    those that an integer programme finds are put in again.
    """
    p, s = x.question.snapshot.probabilities, x.question.snapshot.sample_weights
    if p.size > _LABELS:
        text = f" (drawn labels are solved for up to N C = {_LABELS}, here {p.size})"
        return [], text
    late: list[str] = []
    rows, numbers = _numbers(blocks, found)
    size = np.linalg.norm(rows * s[:, None, None], axis=(0, 1))
    seen = size > 0
    system = (s[:, None, None] * rows)[:, :, seen].reshape(p.size, -1).T
    system, right = system / size[seen, None], numbers[seen] / size[seen]
    half = np.sqrt(np.finfo(np.float64).eps)
    samples = scipy.sparse.kron(
        scipy.sparse.eye_array(len(p)), np.ones((1, p.shape[1]))
    )
    for M in range(1, _DRAWS + 1):
        made = scipy.optimize.milp(
            np.zeros(p.size),
            integrality=np.ones(p.size),
            bounds=scipy.optimize.Bounds(0, M),
            constraints=[
                scipy.optimize.LinearConstraint(system / M, right - half, right + half),
                scipy.optimize.LinearConstraint(samples, M, M),
            ],
            options={"node_limit": _NODES, "time_limit": _SECONDS},
        )
        late += [str(M)] if made.status == 1 else []
        if made.x is None:
            continue
        w = s[:, None] * np.round(made.x.reshape(p.shape)) / M
        text = (
            f"in the errors' factor: Monte-Carlo labels, {M} a sample drawn from p, "
            "found one by one; use the exact Fisher, or average"
        )
        true = _replaced(blocks, 0, [_weighted(y.errors, w) for y in blocks])
        fits = list(explained("Monte-Carlo labels", text, true, x.found, x.radius))
        if fits:
            return fits, ""
    text = f" (whether {' or '.join(late)} labels were drawn took too long to settle)"
    return [], text if late else ""


def _numbers(
    blocks: list[_Block], found: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers (N, K, D) of each sample's xx', and the sums (D,) that were found.

    Of few random combinations of many outputs.
    """
    rng, rows, sums = np.random.default_rng(0), [], []
    for y, S in zip(blocks, found, strict=True):
        G = np.eye(len(S))
        if len(S) > _COMBINED:
            G = rng.standard_normal((len(S), _COMBINED))
        upper = np.triu_indices(G.shape[1])
        x = y.errors @ G
        rows.append(np.einsum("ncti,nctj->ncij", x, x)[:, :, *upper])
        sums.append((G.T @ S @ G)[upper])
    return np.concatenate(rows, axis=2), np.concatenate(sums)


_SIDES = (("errors' factor", _errors_factor), ("features' factor", _features_factor))
