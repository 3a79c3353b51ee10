"""Checks of theory/conditional.md: layers whose errors depend on their features.

Moments of the law are compared with those in closed form on small designs of our own.
What holds in the limit is checked on mixtures drawn in growing dimensions with fixed
seeds; the outcome does not depend on the snapshot and is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import scipy.stats

from refspec import rounding
from refspec.populations import Population
from refspec.random_matrix import predict
from refspec.random_matrix.conditional import counting, law, positions, spectrum
from refspec.random_matrix.conditional.design import (
    ConditionalDesign,
    Regression,
    conditional,
    conditional_design,
    regression,
)
from refspec.random_matrix.conditional.together import correlated
from refspec.theorems.deviations import Deviations, deviations, in_deviations
from refspec.theorems.registry import Comparison, asymptotic, identity
from refspec.theorems.study import Study

#: Dimensions d of the mixtures, and how often each is drawn.
LADDER = ((16, 96), (32, 48), (64, 24))
#: The same of each of two layers together.
TOGETHER = ((8, 96), (16, 48), (32, 24))
#: The same of a layer with so many positions, and so many errors at each.
SHARED, POSITIONS, ERRORS = ((16, 96), (32, 48), (64, 24)), 3, 2
#: Eigenvalues that distances, and deviations that outliers may be off by.
DISTANCE, SCORE = 4.0, 4.5
#: Dimensions of isotropic noise with one mean.
ALONE = (50, 100, 200)

_U = 2.0**-53
_ERRORS = 6.0  # standard errors of a mean over draws, exceeded once in 10^9
_CLASSES = 3
_RATE = 1.25  # times the rate: terms of the next order, measured 1.12 at most
_RING = 48  # points of a circle around the support, in its upper half


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """A mixture given its outputs: means (N, d), roots (C, d, d), errors (N, C, b).

    parameters (b, d): which errors and features are of the same layer. Positions, of
    errors and of features, are side by side.
    """

    design: ConditionalDesign
    means: np.ndarray
    noise: np.ndarray
    errors: np.ndarray
    parameters: np.ndarray


def mixture(d: int, seed: int, inner: int = 0) -> Mixture:
    """Plant C Gaussians and a softmax in d dimensions; fix the outputs of 6 d samples.

    Covariances do not commute; the weights point to the means. The first `inner`
    dimensions are the features of another layer, whose errors come from the last one's.
    """
    rng, C = np.random.default_rng([seed, d, inner][: 2 + (inner > 0)]), _CLASSES
    labels = np.sort(np.arange(6 * d) % C)
    means = 3 * np.linalg.qr(rng.standard_normal((d, C)))[0].T
    W = means / 3 + rng.standard_normal((C, d)) / d**0.5
    W -= np.mean(W, axis=0)
    W[:, :inner] = 0
    slopes, residual, roots = [], [], []
    z = np.empty((len(labels), C))
    for c in range(C):
        turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
        S = (turn * np.linspace(0.3, 1.5, d)) @ turn.T
        joint = np.block([[S, S @ W.T], [W @ S, W @ S @ W.T]])
        K, rest = conditional((joint + joint.T) / 2, d)
        slopes.append(np.concatenate([means[c, :, None], K], axis=1))
        residual.append(rest)
        values, vectors = np.linalg.eigh(rest)
        roots.append(vectors * np.sqrt(np.maximum(values, 0)))
        i = labels == c
        drawn = (
            rng.standard_normal((int(np.sum(i)), d)) * np.linspace(0.3, 1.5, d) ** 0.5
        )
        z[i] = (means[c] + drawn @ turn.T) @ W.T
    p = np.exp(z - np.max(z, axis=1, keepdims=True))
    p /= np.sum(p, axis=1, keepdims=True)
    errors = np.sqrt(p / len(p))[:, :, None] * (p[:, None, :] - np.eye(C))
    of = np.zeros(C, np.int64), np.zeros(d, np.int64)
    if inner:
        errors = np.concatenate([errors @ rng.standard_normal((C, C)), errors], axis=2)
        of = np.repeat([0, 1], C), np.repeat([0, 1], [inner, d - inner])
    xi = np.concatenate([np.ones((len(z), 1)), z - means[labels] @ W.T], axis=1)
    U = np.stack(slopes)
    fitted = Regression(U, np.stack(residual), np.full(C, np.inf))
    design = conditional_design(errors, labels, fitted, xi, head=d, layers=of)
    m = np.einsum("ndq,nq->nd", U[labels], xi)
    return Mixture(design, m, np.stack(roots), errors, of[0][:, None] == of[1])


def draw(planted: Mixture, rng: np.random.Generator) -> np.ndarray:
    """Draw features given the outputs; return all eigenvalues, descending."""
    N, d = planted.means.shape
    noise = planted.noise[planted.design.labels]
    h = planted.means + (noise @ rng.standard_normal((N, d, 1)))[:, :, 0]
    T, K = planted.design.positions, planted.errors.shape[1]
    h, errors = h.reshape(N, T, -1), planted.errors.reshape(N, K, T, -1)
    rows = np.einsum("iktb,itd->ikbd", errors, h)[:, :, planted.parameters]
    X = rows.reshape(N * K, -1)
    return np.linalg.eigvalsh(X.T @ X)[::-1]


def convolved(d: int, seed: int) -> Mixture:
    """Plant C Gaussians at three positions, correlated; errors know the class alone."""
    rng, C, T = np.random.default_rng([seed, d, 2]), _CLASSES, POSITIONS
    labels = np.sort(np.arange(6 * d) % C)
    N = len(labels)
    lengths = 1 + np.arange(T) / T
    # outliers that do not mix: means, and errors, of different lengths
    means = (
        np.linalg.qr(rng.standard_normal((d, C)))[0].T * 2.0 ** np.arange(2, 5)[:, None]
    )
    means = (lengths[:, None] * means[:, None]).reshape(C, T * d)
    blocks = np.zeros((C, T, d, T, d))
    for S in blocks:  # what positions have in common, and each its own
        turns = np.linalg.qr(rng.standard_normal((T + 1, d, d)))[0]
        common, *own = (turns * np.linspace(0.3, 1.5, d)) @ np.swapaxes(turns, 1, 2)
        S += np.einsum("t,u,pq->tpuq", lengths, lengths, common)
        for t, V in enumerate(own):
            S[t, :, t] += V / 4
    residual = blocks.reshape(C, T * d, T * d)
    e = rng.standard_normal((2, N, C, T, ERRORS))
    e = (e[0] + e[1, :, :, :1]) * rng.uniform(0.2, 1, (N, 1, 1, 1)) / N**0.5
    e *= [1, 0.7]
    fitted = Regression(means[:, :, None], residual, np.full(C, np.inf))
    design = positions.positions_design(e, labels, fitted)
    noise = np.linalg.cholesky(residual)
    errors = e.reshape(N, C, T * ERRORS)
    return Mixture(design, means[labels], noise, errors, np.ones((ERRORS, d), bool))


@dataclass(frozen=True, slots=True, eq=False)
class Rung:
    """Draws of one size against the law."""

    size: int  # d
    distance: float  # the mean Kolmogorov-Smirnov distance, in eigenvalues
    counted: tuple[float, float, float]  # above the bulk: mean off, its error, expected
    outliers: Deviations


@cache
def drawn(
    d: int, draws: int, seed: int, inner: int | None = 0
) -> tuple[ConditionalDesign, np.ndarray]:
    """Draw a mixture again and again; return its design and all eigenvalues.

    With positions where `inner` is None.
    """
    planted = convolved(d, seed) if inner is None else mixture(d, seed, inner)
    rng = np.random.default_rng([seed, d, 1])
    return planted.design, np.stack([draw(planted, rng) for _ in range(draws)])


def climbed(d: int, draws: int, seed: int, inner: int | None = 0) -> Rung:
    """Compare draws of a mixture with its law."""
    design, found = drawn(d, draws, seed, inner)
    table, outliers = spectrum.tabulate(design, resolution=0.1)
    P, reached, r = design.dimension, design.reached, len(outliers.values)
    distances, scores, counts = [], [], []
    middle = table.bands[0].upper
    if r:
        middle = (middle + table.bands[1].lower) / 2
    for values in found[:, :reached]:
        expected = P * (1 - np.interp(values, table.x, table.cumulative))
        ranks = np.arange(reached)
        off = np.maximum(np.abs(expected - ranks), np.abs(expected - ranks - 1))
        distances.append(np.max(off))
        scores.append((values[:r] - outliers.values) / outliers.deviations)
        counts.append(np.sum(values > middle) - r)
    # an outlier next to the bulk is found below the middle of the gap now and then
    lost = scipy.stats.norm.cdf((middle - outliers.values) / outliers.deviations)
    error = float(np.std(counts)) / draws**0.5
    counted = abs(float(np.mean(counts))), error, float(np.sum(lost))
    scored = deviations(np.asarray(scores), outliers)
    return Rung(d, float(np.mean(distances)), counted, scored)


@asymptotic(
    "Errors that depend on the features through the outputs",
    "Q = (sum B_c (x) S_c + sum E_i (x) m_i m_i' - z)^-1; KS distance below 4/(2d)",
    deep=True,
    coarse="errors of order 1/d: sees a KS distance of .05, 4 deviations of an outlier",
)
def Y1(study: Study) -> Iterator[Comparison]:
    """Compare mixtures drawn in growing dimensions with their law."""
    for d, draws in LADDER:
        yield from _rung(climbed(d, draws, study.seed), 2 * d, f"d = {d}")


def _rung(rung: Rung, size: int, at: str) -> Iterator[Comparison]:
    """Compare what draws of so many eigenvalues were found to be."""
    yield rung.distance, DISTANCE, size, f"{at}: KS distance, in eigenvalues"
    away, error, lost = rung.counted
    yield away, lost + _ERRORS * error, 1.0, f"{at}: mean count of outliers"
    yield from in_deviations(rung.outliers, SCORE, f"{at}: an outlier")


def small(seed: int, layers: int = 1) -> ConditionalDesign:
    """Return a design of a few samples, its covariances whole in three coordinates."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(2), (4, 5))
    S = rng.standard_normal((2, 3, 3))
    return ConditionalDesign(
        rng.standard_normal((9, 2, 3)),
        labels,
        np.concatenate([np.ones((9, 1)), rng.standard_normal((9, 2))], axis=1),
        rng.standard_normal((2, 3, 3)),
        S @ np.swapaxes(S, 1, 2),
        rng.uniform(0.5, 2, (2, 2)),
        (np.arange(2) % layers, np.asarray([0, 1, 1, 0, 1]) % layers),
        14,
    )


def small_convolved(seed: int) -> ConditionalDesign:
    """Return a design of a few samples with three positions."""
    rng, C, T, a, h = np.random.default_rng(seed), 2, 3, 2, 3
    S = rng.standard_normal((C, T * h, T * h))
    S = (S @ np.swapaxes(S, 1, 2)).reshape(C, T, h, T, h)
    return ConditionalDesign(
        rng.standard_normal((9, T * a, 3)),
        np.repeat(np.arange(C), (4, 5)),
        np.ones((9, 1)),
        rng.standard_normal((C, T * h, 1)),
        np.ascontiguousarray(np.swapaxes(S, 2, 3)),
        np.zeros((C, 0)),
        (np.zeros(a, np.int64), np.zeros(h, np.int64)),
        8,
        positions=T,
    )


def _of_positions(design: ConditionalDesign) -> tuple[float, float, float]:
    """Return what `moments` does, of sums over positions."""
    (N, _, k), (_, T, _, h, _) = design.roots.shape, design.inside.shape
    roots = design.roots.reshape(N, T, -1, k)
    means = design.slopes.reshape(-1, T, h)
    n = design.reached
    total, planar, real = np.zeros((n, n)), 0.0, 0.0
    for R, c in zip(roots, design.labels, strict=True):
        # means of the rows, and covariances between two of them
        y = np.einsum("tak,tp->kap", R, means[c]).reshape(k, n)
        K = np.einsum("tak,ubl,tupq->klapbq", R, R, design.inside[c])
        K = K.reshape(k, k, n, n)
        total += np.einsum("kkij->ij", K) + y.T @ y
        traces, products = np.trace(K, axis1=2, axis2=3), y @ y.T
        planar += float(np.sum(traces**2 + 2 * traces * products))
        real += float(np.einsum("klij,klji->", K, K))
        real += 2 * float(np.einsum("ki,lkij,lj->", y, K, y))
    second = float(np.sum(total * total)) + planar
    return float(np.trace(total)), second, second + real


def moments(design: ConditionalDesign) -> tuple[float, float, float]:
    """Return tr G and tr G^2 of the law in closed form, and the E tr G^2 of real draws.

    Theory: theory/conditional.md#Y2, #Y7
    """
    if design.positions > 1:
        return _of_positions(design)
    h, kept = design.slopes.shape[1], np.flatnonzero(design.parameters)
    total = np.zeros((design.reached, design.reached))
    # sums over the errors, and over the features, of each layer
    errors, features = (x == np.arange(1 + max(x))[:, None] for x in design.layers)
    planar = real = 0.0
    for R, c, xi in zip(design.roots, design.labels, design.regressors, strict=True):
        S = np.diag(np.concatenate([np.zeros(h), design.outside[c]]))
        S[:h, :h] = design.inside[c]
        m = np.concatenate([design.slopes[c] @ xi, np.zeros(len(S) - h)])
        A = R @ R.T
        total += np.kron(A, S + np.outer(m, m))[np.ix_(kept, kept)]
        squares = errors @ (A * A) @ errors.T
        size, length = features @ np.diag(S), features @ m**2
        both = np.outer(size + length, size + length) - np.outer(length, length)
        planar += float(np.sum(squares * both))
        bent = features @ (S * S + 2 * np.outer(m, m) * S) @ features.T
        real += float(np.sum(squares * bent))
    second = float(np.sum(total * total)) + planar
    return float(np.trace(total)), second, second + real


@identity(
    "Moments of the law, and a functional that counts",
    "tr G exact, tr G^2 short of E tr G^2 by sum tr A_i^2 (tr S^2 + 2 m' S m)",
)
def Y2(study: Study) -> Iterator[Comparison]:
    """Integrate the resolvent around the support, of a layer and of two together."""
    for layers in (1, 2):
        yield from _moments(small(study.seed, layers), f"of {layers}")


def _moments(design: ConditionalDesign, what: str) -> Iterator[Comparison]:
    """Compare integrals around the support with moments."""
    first, second, _ = moments(design)
    radius = 4 * law.reach(design)
    # the trapezoid rule on a circle misses moments of order 2 _RING only
    angles = np.pi * (np.arange(_RING) + 0.5) / _RING
    tolerance = 2.0**-44
    found = np.zeros(2)
    for angle in angles:
        z = radius * np.exp(1j * angle)
        made = law.equivalent(design, z, tolerance=tolerance)
        head, tail = made.resolvents
        m = np.trace(head) + np.sum(np.trace(tail, axis1=1, axis2=2))
        found -= (np.asarray([z**2, z**3]) * m).real / _RING
    n = design.reached
    for k, (here, there) in enumerate(zip(found, (first, second), strict=True), 1):
        bound = (tolerance + rounding.gamma(8 * n, _U)) * n * radius**k
        yield abs(here - there), bound, there, f"moment {k} {what}"


@asymptotic(
    "An outlier is a band of one eigenvalue",
    "value, deviation and overlap of isotropic noise with one mean, to 1/d",
    coarse="errors of order 1/d: sees 2 % of a value, a deviation or an overlap",
)
def Y3(study: Study) -> Iterator[Comparison]:
    """Compare one mean in isotropic noise with theory/random_matrix.md#R8."""
    length = float(np.random.default_rng(study.seed).uniform(2, 2.5))
    for d in ALONE:
        N, mean = 3 * d, length * np.eye(1, d)
        design = ConditionalDesign(
            np.full((N, 1, 1), N**-0.5),
            np.zeros(N, dtype=np.int64),
            np.ones((N, 1)),
            np.full((1, 1, 1), length),
            np.ones((1, 1, 1)),
            np.ones((1, d - 1)),
            (np.zeros(1, np.int64), np.zeros(d, np.int64)),
            d,
        )
        found = spectrum.tabulate(design, resolution=0.1)[1]
        weights = np.full((N, 1), 1 / N)
        known = predict(Population((N,), d, weights, 1.0, class_means=mean)).fixed
        yield abs(len(found.values) - 1), 0.0, 1.0, f"d = {d}: outliers"
        for name in ("values", "deviations", "overlaps"):
            here, there = (float(np.sum(getattr(x, name))) for x in (found, known))
            yield abs(here - there), there / d, there, f"d = {d}: {name}"


@identity(
    "Samples weighed by their errors",
    "sum tr A_i (|m_i|^2 + tr S_c) = tr G, sum tr A_i xi_i (h_i - m_i)' = 0",
)
def Y4(study: Study) -> Iterator[Comparison]:
    """Fit features that are far from Gaussian, class by class and pooled."""
    rng = np.random.default_rng(study.seed)
    labels, d = np.repeat(np.arange(2), (12, 9)), 4
    h = rng.standard_normal((len(labels), d)) ** 3
    z = rng.standard_normal((len(labels), 2))
    sizes = np.sum(rng.standard_normal((len(labels), 3, 2)) ** 2, axis=(1, 2))
    total = float(sizes @ np.sum(h * h, axis=1))
    for covariances in ("class", "pooled"):
        fitted, xi = regression(h, z, labels, covariances, sizes)
        m = np.einsum("ndq,nq->nd", fitted.slopes[labels], xi)
        traces = np.trace(fitted.residual, axis1=1, axis2=2)
        own = labels if len(traces) > 1 else 0 * labels
        trace = float(sizes @ (np.sum(m * m, axis=1) + traces[own]))
        # slopes come from a moment of the outputs by its eigenvectors
        spread = np.linalg.eigvalsh((xi * sizes[:, None]).T @ xi)
        bound = rounding.gamma(64 * len(labels), _U) * total * spread[-1] / spread[0]
        yield abs(trace - total), bound, total, f"{covariances}: trace"
        left = (xi * sizes[:, None]).T @ (h - m)
        size = (total * float(np.sum(sizes @ xi**2))) ** 0.5
        reach = bound * size / total
        yield float(np.max(np.abs(left))), reach, size, f"{covariances}: residuals"


@asymptotic(
    "Layers together",
    "Q on the parameters, Delta and B of all errors; KS distance below 4 eigenvalues",
    deep=True,
    coarse="errors of order 1/d: sees a KS distance of .05, 4 deviations of an outlier",
)
def Y5(study: Study) -> Iterator[Comparison]:
    """Draw two layers, features correlated, in growing dimensions; join covariances."""
    for d, draws in TOGETHER:
        rung = climbed(2 * d, draws, study.seed, inner=d)
        yield from _rung(rung, 4 * d, f"d = {d} twice")
    yield from _joined(np.random.default_rng(study.seed))


def _joined(rng: np.random.Generator) -> Iterator[Comparison]:
    """Put correlations of few samples, so few that they are singular, beside."""
    x, parts = rng.standard_normal((4, 5)), (slice(2), slice(2, 5))
    J = x.T @ x
    seen = [J[None, i, i] for i in parts]
    own = [y.T @ y for y in rng.standard_normal((2, 12, 5))]
    blocks = [S[None, i, i] for S, i in zip(own, parts, strict=True)]
    size = sum(float(np.trace(S[0])) for S in (*seen, *blocks))
    spread = max(float(np.linalg.cond(S[0])) for S in seen)
    bound = rounding.gamma(10**3, _U) * spread * size
    same = correlated(seen, [J])[0] - J
    yield float(np.max(np.abs(same))), bound, size, "the covariance that they have"
    S = correlated(blocks, [J])[0]
    off = [np.abs(S[i, i] - y[0]) for i, y in zip(parts, blocks, strict=True)]
    yield float(max(map(np.max, off))), bound, size, "covariances of each"
    least = float(np.linalg.eigvalsh(S)[0])
    yield max(0.0, -least), bound, size, "least eigenvalue of all"


@identity(
    "A frame corrected by the layer",
    "a step of the layer at a frame's unknowns counts up to e^2, corrected up to e^3",
    coarse="a rate: sees 1/4 of an error that has fallen to 1/4, or to 1/8",
)
def Y6(study: Study) -> Iterator[Comparison]:
    """Halve how far the covariances of a frame are from those of the layer."""
    for layers in (1, 2):
        whole = small(study.seed, layers)
        wide, narrow = (_corrected(whole, e) for e in (2.0**-5, 2.0**-6))
        for k, what in enumerate(("at a frame's unknowns", "corrected"), 2):
            at_most = _RATE * wide[k - 2] / 2**k
            yield narrow[k - 2], at_most, wide[k - 2], f"{what}, layers: {layers}"


def _corrected(whole: ConditionalDesign, e: float) -> tuple[float, float]:
    """Return by how much counts are off at unknowns of a frame, and corrected."""
    off = 1 - np.eye(whole.inside.shape[1])
    S = whole.inside * (1 - e * off)
    frame = replace(whole, inside=S, outside=(1 + e) * whole.outside)
    tolerance, left = 2.0**-44, []
    for z in (5 + 5j, 10 + 5j, 20 + 5j, 40 + 5j):  # one error may vanish by chance
        found = law.equivalent(whole, z, tolerance=tolerance)
        near = law.equivalent(frame, z, tolerance=tolerance).unknowns
        once = counting.counted(whole, law.step(whole, near, z))
        made = counting.solved(
            (frame, whole), z, resolution=np.inf, tolerance=tolerance
        )
        left.append(np.asarray([once, made.above]) - counting.counted(whole, found))
    one, two = np.linalg.norm(left, axis=0)
    return float(one), float(two)


@asymptotic(
    "A layer with positions",
    "Q on the shared parameters, moments and trace exact; KS distance below 4",
    deep=True,
    coarse="errors of order 1/d: sees a KS distance of .05, 4 deviations of an outlier",
)
def Y7(study: Study) -> Iterator[Comparison]:
    """Draw sums over positions in growing dimensions; moments, and a trace."""
    for d, draws in SHARED:
        rung = climbed(d, draws, study.seed, inner=None)
        yield from _rung(rung, ERRORS * d, f"d = {d}, {POSITIONS} positions")
    yield from _moments(small_convolved(study.seed), "with positions")
    yield from _weighed_positions(np.random.default_rng(study.seed))


def _weighed_positions(rng: np.random.Generator) -> Iterator[Comparison]:
    """Estimate statistics of features that are far from Gaussian; compare traces."""
    labels, T, d = np.repeat(np.arange(2), (12, 9)), 3, 4
    h = rng.standard_normal((len(labels), T, d)) ** 3
    rows = rng.standard_normal((len(labels), 3, T, 2))
    total = float(np.sum(np.einsum("iktb,itd->ikbd", rows, h) ** 2))
    for covariances in ("class", "pooled"):
        fitted = positions.statistics(h, rows, labels, covariances)
        m = fitted.slopes.reshape(2, T, d)[labels]
        trace = float(np.sum(np.einsum("iktb,itd->ikbd", rows, m) ** 2))
        own = labels if len(fitted.residual) > 1 else 0 * labels
        S = fitted.residual.reshape(-1, T, d, T, d)[own]
        trace += float(np.einsum("iktb,ikub,itpup->", rows, rows, S))
        r = np.swapaxes(rows, 2, 3).reshape(len(labels), -1, T)
        spread = max(
            np.linalg.cond(np.tensordot(x, x, ((0, 1), (0, 1))))
            for x in (r[labels == c] for c in range(2))
        )
        bound = rounding.gamma(64 * r.size, _U) * spread * total
        yield abs(trace - total), bound, total, f"{covariances}: trace"
