"""Quantities that the checks of several pages share; each is kept by `Study.once`."""

from __future__ import annotations

import numpy as np

from refspec import backend, rounding, structure
from refspec.classes import class_slices
from refspec.curvature import SecondMoment
from refspec.factors import lengths
from refspec.theorems.study import Study

#: What is below it may have been lost in a file of float32.
LEAST = float(np.finfo(np.float32).tiny)


def level_roundings(moment: SecondMoment) -> float:
    """Return k: a computed projection of Y is within gamma_k ||Y||_F of the exact."""
    N, K = moment.weights.shape
    return float(4 * (N + K * K) + 32)


def score_roundings(study: Study) -> float:
    """Return k: errors are within gamma_k of exact, relative to the sample's largest.

    What the softmax (2 C + 16) and back-propagation through every layer suffer.
    """
    C = study.snapshot.probabilities.shape[1]
    sizes = [x.features.shape[2] + x.errors.shape[3] for x in study.snapshot.layers]
    return float(2 * C + 16 + sum(sizes))


def score_accuracy(study: Study) -> float:
    """Return gamma_k of `score_roundings`, in the precision of the file."""
    return rounding.gamma(score_roundings(study), study.stored)


def norm(x: np.ndarray) -> float:
    """Return the Frobenius norm, of entries whose squares may underflow too."""
    return float(lengths(x, tuple(range(x.ndim))))


def error_norms(study: Study, name: str) -> np.ndarray:
    """Return ||delta_{i,c'}|| over positions and outputs, shape (N, C)."""
    x = backend.to_host(study.snapshot.layer(name).errors)
    return np.asarray(lengths(x, (2, 3)))


def gradient_norms(study: Study) -> dict[str, np.ndarray]:
    """Bound gradients by ||delta_{i,c'}|| ||h_i||, shape (N, C), for every layer."""
    found = {}
    for x in study.snapshot.layers:
        h = backend.to_host(x.features)
        size = lengths(h, (1, 2))
        found[x.name] = error_norms(study, x.name) * size[:, None]
    return found


def seed_accuracy(study: Study) -> np.ndarray:
    """Bound the error of p_k at the logits, relative, shape (N,).

    Of the softmax, and of a logit rounded at its size. Theory: theory/levels.md#L8.
    """
    p = backend.to_host(study.snapshot.probabilities)
    safe = np.maximum(p, np.finfo(p.dtype).tiny)
    spread = 2 - 2 * np.log(safe.min(axis=1))
    g = rounding.gamma(2 * p.shape[1] + 16, study.stored)
    return np.asarray(g + 2 * study.stored * spread)


def seeds_kept(study: Study) -> np.ndarray:
    """Say in which samples p - 1 was no difference, shape (N,).

    Where the last layer gives the logits its errors are the seeds, and they show it.
    """
    x, p = study.snapshot.layers[-1], backend.to_host(study.snapshot.probabilities)
    N, C = p.shape
    if tuple(x.errors.shape[2:]) != (1, C):
        return np.zeros(N, dtype=bool)
    others = p[:, None, :] * (1 - np.eye(C, dtype=p.dtype))
    exact = others - np.sum(others, axis=2, keepdims=True) * np.eye(C, dtype=p.dtype)
    bound = study.once(seed_accuracy)[:, None, None] * np.abs(exact) + LEAST
    gaps = np.abs(backend.to_host(x.errors)[:, :, 0, :] - exact)
    return np.asarray((gaps <= bound).all(axis=(1, 2)))


def score_bounds(study: Study) -> dict[str, np.ndarray]:
    """Bound ||sum_c' p_{i,c'} delta_{i,c'}|| of stored errors by layer, shape (N,).

    Theory: theory/levels.md#L3.
    """
    p, along = backend.to_host(study.snapshot.probabilities), score_accuracy(study)
    # sums of p are 1 to the precision of the numbers here; p - 1 is off by that of the
    # file where it is a difference
    own = rounding.gamma(2 * p.shape[1] + 16, study.u)
    # what is seen of a seed tells no difference from a p_k as small as its rounding
    kept, seen, found = study.once(seeds_kept), own + study.once(seed_accuracy), {}
    for x in study.snapshot.layers:
        size = error_norms(study, x.name)
        terms, largest = np.sum(p * size, axis=1), size.max(axis=1)
        lost = (own + 4 * study.stored) * largest
        lost = np.where(kept, seen * terms + LEAST * largest, lost)
        found[x.name] = along * terms + lost
    return found


def score_bound(study: Study, name: str) -> np.ndarray:
    """Bound ||sum_c' p_{i,c'} x_{i,c'}|| of a moment of errors or gradients, (N,)."""
    kind, _, layer = name.partition(" of ")
    known = study.once(score_bounds)
    if kind == "errors":
        return known[layer]
    total = np.zeros(study.snapshot.probabilities.shape[0])
    for x in study.snapshot.layers:
        if layer in ("", x.name):
            h = lengths(backend.to_host(x.features), (1, 2))
            total = np.hypot(total, h * known[x.name])
    return np.asarray(total)


def of_scores(study: Study) -> str:
    """Say that errors were planted without the score identity, in most samples."""
    if study.snapshot.provenance.get("framework") != "refspec.synthetic":
        return ""
    off = study.once(score_norms) > score_bound(study, "gradients")
    return "errors were planted without scores" if 2 * off.sum() > len(off) else ""


def sizes_of_rows(study: Study) -> np.ndarray:
    """Bound ||g_{i,c'}|| of all layers together, shape (N, C)."""
    squares = [x**2 for x in study.once(gradient_norms).values()]
    return np.asarray(np.sqrt(np.sum(squares, axis=0)))


def scores(study: Study) -> dict[str, np.ndarray]:
    """Return sum_c' p_{i,c'} delta_{i,c'}, shape (N, T, b), for every layer."""
    p = backend.to_host(study.snapshot.probabilities)
    return {
        x.name: np.sum(p[:, :, None, None] * backend.to_host(x.errors), axis=1)
        for x in study.snapshot.layers
    }


def score_norms(study: Study) -> np.ndarray:
    """Bound ||sum_c' p_{i,c'} g_{i,c'}|| of all layers together, shape (N,)."""
    total = np.zeros(study.snapshot.probabilities.shape[0])
    for x in study.snapshot.layers:
        h, score = backend.to_host(x.features), study.once(scores)[x.name]
        total = np.hypot(total, lengths(h, (1, 2)) * lengths(score, (1, 2)))
    return np.asarray(total)


def cell_rows(study: Study) -> dict[str, np.ndarray]:
    """Return Q'X, the means of the cells times the roots of their masses, (C, K, P)."""
    found = {}
    for name, moment in study.moments.items():
        norms = structure.cell_norms(moment)
        K, rows = norms.shape[1], []
        for c, i, j in class_slices(moment.offsets):
            xp, pick = backend.namespace(norms), structure.cell_rows(moment, norms, c)
            N = moment.weights.shape[0]
            Z = xp.zeros((N, K, K), dtype=norms.dtype, device=backend.device(norms))
            Z[i:j, ...] = pick
            rows.append(backend.to_host(xp.matrix_transpose(moment.cross(Z))))
        found[name] = np.stack(rows)
    return found


def level_rows(study: Study, name: str) -> dict[str, np.ndarray]:
    """Return the rows (C K, P) of every level of the means of a moment."""
    M, moment = study.once(cell_rows)[name], study.moments[name]
    there = backend.from_host(M, moment.weights)
    projections = structure.cell_projections(structure.cell_norms(moment))
    P = M.shape[2]
    return {
        n: backend.to_host(project(there)).reshape(-1, P)
        for n, project in projections.items()
    }
