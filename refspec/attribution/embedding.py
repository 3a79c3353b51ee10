"""A map of points that keeps neighbours: t-SNE, exact, and the same every time.

Neighbours of a point are chosen with probabilities that fall as a Gaussian of the
distance, as wide as `perplexity` neighbours; on the map, as a Student's t. The map is
moved down the gradient of the Kullback-Leibler divergence between the two (van der
Maaten and Hinton 2008), from classical scaling, so that nothing is drawn at random.
"""

from __future__ import annotations

import numpy as np

from refspec.attribution.means import classical_scaling

#: Steps, of which the first exaggerate what attracts, so that clusters can form.
_STEPS = 600
_EARLY = 150


def tsne(matrix: np.ndarray, perplexity: float) -> np.ndarray:
    """Return points of the plane, (M, 2), that have the neighbours of distances (M, M).

    Cost M^2 a step.
    """
    M = len(matrix)
    P = _affinities(matrix / (matrix.max(initial=0.0) or 1.0), perplexity)
    x = classical_scaling(matrix)[0]
    x *= 1e-2 / (np.abs(x).max(initial=0.0) or 1.0)
    rate, moved, gain = max(M / 48, 10.0), np.zeros_like(x), np.ones_like(x)
    for step in range(_STEPS):
        slope = gradient(P * (12 if step < _EARLY else 1), x)
        gain = np.where(slope * moved < 0, gain + 0.2, np.maximum(gain * 0.8, 0.01))
        moved = (0.5 if step < _EARLY else 0.8) * moved - rate * gain * slope
        x = x + moved
        x = x - x.mean(axis=0)
    return x


def divergence(P: np.ndarray, x: np.ndarray) -> float:
    """Return the Kullback-Leibler divergence of the map's neighbours from P."""
    Q = _student(x)[0]
    some = P > 0
    return float(np.sum(P[some] * np.log(P[some] / Q[some])))


def gradient(P: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the gradient of `divergence` in the points, if P adds up to 1."""
    Q, near = _student(x)
    force = (P - Q) * near
    return np.asarray(4 * (force.sum(axis=1)[:, None] * x - force @ x))


def kept_neighbours(matrix: np.ndarray, x: np.ndarray, k: int = 3) -> float:
    """Return the part of the k nearest of every point that are so on a map too."""
    k = min(k, len(matrix) - 1)
    if k < 1:
        return 1.0
    away = np.linalg.norm(x[:, None] - x[None], axis=2)
    near = [_nearest(d, k) for d in (matrix, away)]
    return float(
        np.mean([len(set(a) & set(b)) / k for a, b in zip(*near, strict=True)])
    )


def _nearest(matrix: np.ndarray, k: int) -> list[list[int]]:
    """Return the k nearest others of every point."""
    others = matrix + np.diag(np.full(len(matrix), np.inf))
    found: list[list[int]] = np.argsort(others, axis=1, kind="stable")[:, :k].tolist()
    return found


def _student(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of pairs on the map, and their unnormalised sizes."""
    square = np.sum(x * x, axis=1)
    near = 1 / (1 + np.maximum(square[:, None] + square - 2 * x @ x.T, 0))
    np.fill_diagonal(near, 0)
    return near / (near.sum() or 1.0), near


def _affinities(matrix: np.ndarray, perplexity: float) -> np.ndarray:
    """Return the symmetric probabilities of pairs, (M, M), that add up to 1.

    The entropy of each point's neighbours is log perplexity, by bisection.
    """
    M, square = len(matrix), matrix**2
    low, high, width = np.zeros(M), np.full(M, np.inf), np.ones(M)
    for _ in range(60):
        log = -square * width[:, None]
        np.fill_diagonal(log, -np.inf)
        log = log - log.max(axis=1, keepdims=True, initial=-1e300)
        p = np.exp(log)
        p /= np.maximum(p.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        entropy = -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=1)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, width, low), np.where(wide, high, width)
        width = np.where(np.isinf(high), width * 2, (low + high) / 2)
    return np.asarray((p + p.T) / (p.sum() * 2 or 1.0))
