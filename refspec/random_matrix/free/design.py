r"""Nested designs with isotropic covariances, reduced exactly to a sum of Wisharts.

The columns of the matrix of weighted vectors are independent Gaussian with one row
covariance, block diagonal by class,

.. math:: T = W^{1/2} \big(s_3 I + s_2 Z_2 Z_2' + s_1 Z_1 Z_1'\big) W^{1/2}

so the second moment is :math:`\sum_j t_j g_j g_j'` with the t_j the eigenvalues of T,
whatever the weights. Fixed means add few rows of known expectation, which are split off
and become `Signals`. No asymptotics here
(Theory: theory/random_matrix.md#R1, #R8). Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize

from refspec import rounding
from refspec.populations import Population
from refspec.random_matrix import scores
from refspec.random_matrix.free.edges import support
from refspec.random_matrix.free.law import FreeLaw


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    r"""Directions of the q fixed means, strongest first.

    v (q,) is where psi places the eigenvalue of an outlier (balanced, d t + theta^2),
    strength (q,) is theta^2, the squared length of the mean along its direction.
    """

    v: np.ndarray
    strength: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """A design as a law of noise, rows of the signals removed, and signals.

    means (q, d) is an orthonormal basis of the span of all fixed means; ends (bands, 2)
    of the law's support, in v.
    """

    law: FreeLaw
    signals: Signals
    means: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Rows split in fixed (orthonormal columns P) and noise (Q, diagonalising T).

    inner = P'TP, coupling = P'TQ, noise = diag Q'TQ, means = P'A.
    """

    inner: np.ndarray
    coupling: np.ndarray
    noise: np.ndarray
    means: np.ndarray


def is_isotropic(population: Population) -> bool:
    """Tell whether every covariance of a population is a number."""
    levels = (population.class_covariance, population.cross_covariance)
    return all(np.ndim(s) == 0 for s in (*levels, *population.within) if s is not None)


def fixed_level(population: Population) -> str:
    """Return the lowest level with fixed means: `none`, `global`, `class`, `cross`.

    Its rows are split off as signals. Theory: theory/random_matrix.md#R8
    """
    for level in ("cross", "class", "global"):
        name = "global_mean" if level == "global" else f"{level}_means"
        means = getattr(population, name)
        if means is not None and np.any(means):
            return level
    return "none"


def reduction(population: Population) -> Reduction:
    r"""Reduce a design whose covariances are all numbers.

    A balanced design costs C problems of size K; weights all different cost C problems
    of size n_c K. Theory: theory/random_matrix.md#R1, #R8
    """
    if not is_isotropic(population):
        raise ValueError(
            "the exact reduction needs isotropic covariances (numbers), got a vector "
            "or a matrix; refspec.random_matrix.predict takes those too"
        )
    level, d = fixed_level(population), population.dimension
    contrasts, blocks = _blocks(population, level)
    noise = [contrasts, *(b.noise for b in blocks)]
    if level == "none":
        law, none = _law(noise, d), np.zeros(0)
        signals = Signals(none, none)
        return Reduction(law, signals, np.zeros((0, d)), support(law))
    rows = np.concatenate([b.means for b in blocks])
    values, basis = np.linalg.eigh(rows @ rows.T)
    u = rounding.unit_roundoff(rows)
    silent = values <= rounding.eigensolver_radius(len(values), values[-1], u)
    inner = scipy.linalg.block_diag(*(b.inner for b in blocks))
    null, basis = basis[:, silent], basis[:, ~silent]
    noise.append(np.linalg.eigvalsh(null.T @ inner @ null))  # rows without a mean
    law = _law(noise, d)
    rows = basis.T @ rows
    secular = _Secular(
        d * basis.T @ inner @ basis + rows @ rows.T,
        d * basis.T @ scipy.linalg.block_diag(*(b.coupling for b in blocks)),
        d * np.concatenate([b.noise for b in blocks]),
    )
    ends = support(law)
    threshold = float(ends[-1, 1])
    heights, vectors = np.linalg.eigh(secular(threshold))
    v, strength = [], []
    for k, height in enumerate(heights[::-1]):
        c = vectors[:, -1 - k]
        if height > threshold:  # the root is below, as H decreases
            height = secular.root(k, threshold, 2 * float(height))
            c = np.linalg.eigh(secular(height))[1][:, -1 - k]
        v.append(float(height))
        strength.append(float(np.sum((c @ rows) ** 2)) / secular.steepness(v[-1], c))
    means = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return Reduction(law, Signals(np.asarray(v), np.asarray(strength)), means, ends)


@dataclass(frozen=True, slots=True, eq=False)
class _Secular:
    """H(v) = H_0 + B (v - D)^{-1} B', whose eigenvalues v = eig_k(H(v)) are sought.

    H_0 = d P'TP + A A' for the fixed rows, B = d P'T Q and D = d Q'TQ for the others.
    H decreases on v > D, so each k has one root at most.
    """

    fixed: np.ndarray
    coupling: np.ndarray
    poles: np.ndarray

    def __call__(self, v: float) -> np.ndarray:
        return np.asarray(
            self.fixed + self.coupling @ (self.coupling / (v - self.poles)).T
        )

    def root(self, k: int, low: float, high: float) -> float:
        """Return the k-th largest root, between low and high."""

        def excess(v: float) -> float:
            return v - float(np.linalg.eigvalsh(self(v))[-1 - k])

        return float(scipy.optimize.brentq(excess, low, high, xtol=np.spacing(low)))

    def steepness(self, v: float, c: np.ndarray) -> float:
        """Return the derivative of v - c'H(v)c."""
        return 1 + float(np.sum(((c @ self.coupling) / (v - self.poles)) ** 2))


def _blocks(population: Population, level: str) -> tuple[np.ndarray, list[_Block]]:
    """Split the rows of each class in contrasts within cells and summed rows."""
    s1, s2 = population.class_covariance or 0.0, population.cross_covariance or 0.0
    offsets, fixed = np.cumsum([0, *population.sizes]), population.fixed_means()
    contrasts, covariances, frames, means = [], [], [], []
    for c, s3 in enumerate(population.within):
        weights = population.weights[offsets[c] : offsets[c + 1]]
        if population.score_consistent:
            inner, own, Z2 = _mixed_rows(weights, c)
        else:
            inner, own, Z2 = _rows(weights)
        contrasts.append(inner * float(s3))
        Z1 = np.sum(Z2, axis=1, keepdims=True)
        T = own * float(s3) + s2 * Z2 @ Z2.T + s1 * Z1 @ Z1.T
        Z = {"cross": Z2, "none": Z1[:, :0]}.get(level, Z1)
        seen = np.any(Z, axis=0)
        frame, lengths = _orthonormal(Z[:, seen])
        covariances.append(T)
        frames.append(frame)
        means.append(lengths @ fixed[c, : Z.shape[1]][seen])
    if level == "global":  # one row across the classes
        share = np.linalg.norm(np.concatenate(means), axis=1)
        share = share / np.linalg.norm(share)
        means = [share[None] @ np.concatenate(means)]
        frames = [scipy.linalg.block_diag(*frames) @ share[:, None]]
        covariances = [scipy.linalg.block_diag(*covariances)]
    split = zip(covariances, frames, means, strict=True)
    return np.concatenate(contrasts), [_split(*parts) for parts in split]


def _rows(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights of contrasts, weights of summed rows (m, m), their cells (m, K).

    Rows of equal weight w in a cell have contrasts, each of variance w s_3 and
    orthogonal to every mean and effect; what is left of them is one row, their sum.
    """
    contrasts, columns, diagonal = [], [], []
    for k in range(weights.shape[1]):
        w, n = np.unique(weights[weights[:, k] > 0, k], return_counts=True)
        contrasts.append(np.repeat(w, n - 1))
        columns.append(np.sqrt(w * n))
        diagonal.append(w)
    Z2 = scipy.linalg.block_diag(*(x[:, None] for x in columns))
    return np.concatenate(contrasts), np.diag(np.concatenate(diagonal)), Z2


def _mixed_rows(
    weights: np.ndarray, c: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Do the same for score-consistent errors of class c: R' in place of a weight.

    Theory: theory/random_matrix.md#R16
    """
    w, n = np.unique(weights, axis=0, return_counts=True)
    R = scores.roots(w, c)
    squares = np.swapaxes(R, 1, 2) @ R
    contrasts = np.repeat(np.linalg.eigvalsh(squares), n - 1, axis=0)
    columns = np.swapaxes(R, 1, 2) * np.sqrt(n)[:, None, None]
    return (
        np.ravel(contrasts),
        scipy.linalg.block_diag(*squares),
        np.concatenate(columns),
    )


def _orthonormal(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Q, T with Z = Q T, columns of Q orthonormal, the diagonal of T >= 0."""
    Q, T = np.linalg.qr(Z)
    signs = np.where(np.diag(T) < 0, -1.0, 1.0)
    return Q * signs, T * signs[:, None]


def _split(T: np.ndarray, P: np.ndarray, means: np.ndarray) -> _Block:
    """Diagonalise T on the complement of the fixed rows."""
    Q = np.linalg.qr(P, mode="complete")[0][:, P.shape[1] :]
    noise, vectors = np.linalg.eigh(Q.T @ T @ Q)
    return _Block(P.T @ T @ P, P.T @ T @ Q @ vectors, noise, means)


def _law(parts: list[np.ndarray], d: int) -> FreeLaw:
    """Collect eigenvalues of T, merging those that rounding does not tell apart."""
    t = np.sort(np.concatenate(parts))
    u = rounding.unit_roundoff(t)
    same = rounding.eigensolver_radius(len(t), float(t[-1]), u) if len(t) else 0.0
    t = t[t > same]
    if not len(t):
        raise ValueError(
            "a law needs noise: rows of positive weight and variance, more than there "
            "are fixed means, got none; give more samples or random means"
        )
    new = np.concatenate([[True], np.diff(t) > same])
    group = np.cumsum(new) - 1
    counts = np.bincount(group)
    return FreeLaw(np.bincount(group, weights=t) / counts, counts, d)
