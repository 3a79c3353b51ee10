"""Checks of theory/logistic.md: logistic regression, fitted and in the canonical model.

On the features of the last layer, where p may be made constant within a class, and in
the canonical model with the classes, signal and misclassification of the snapshot.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from refspec import backend, curvature, rounding
from refspec.classes import Layer, Snapshot, class_slices, misses
from refspec.kronecker.eigensystems import certified_spectrum
from refspec.synthetic import geometry, groups, logistic, regression
from refspec.theorems.canonical import (
    Canonical,
    canonical,
    exact_samples,
    few_classes,
    spread_out,
)
from refspec.theorems.quantities import norm
from refspec.theorems.registry import Comparison, identity, inequality, statistical
from refspec.theorems.study import Study

_U = 2.0**-53  # worlds are drawn and expected in float64
_DECISIONS = 2**17
_PARAMETERS = 700
_DECAY = 0.125
_FITTED = 2.0**-26  # of the gradient at 0 is left at a fit


def _features(study: Study) -> np.ndarray:
    """Return features of the last layer, few enough, (N, d), of size at most 1."""
    s = study.snapshot
    h = backend.to_host(s.layers[-1].features)[:, 0].astype(np.float64)
    h = h[:, -(_PARAMETERS // s.probabilities.shape[1]) :]
    return np.asarray(h / (np.max(np.linalg.norm(h, axis=1)) or 1.0))


@identity(
    "Lemma 8.1: the expected Fisher of logistic regression",
    "E G = sum_c pi_c U^c (x) M_c, U^c = diag p_c - p_c p_c', p constant in class",
    few_classes,
)
def W11(study: Study) -> Iterator[Comparison]:
    """Compare the samples' Fisher with sum_c pi_c U^c (x) M_c, p constant in class."""
    h, s = study.once(_features), study.snapshot
    N, C = s.probabilities.shape
    w = backend.to_host(s.sample_weights).astype(np.float64)
    w = w / w.sum()
    p = backend.to_host(s.probabilities).astype(np.float64)
    bounds = list(zip(s.offsets, s.offsets[1:], strict=False))
    mean = np.stack([p[i:j].mean(axis=0) for i, j in bounds])
    mean = mean / mean.sum(axis=1, keepdims=True)
    pi = np.asarray([w[i:j].sum() for i, j in bounds])
    moments = [
        (h[i:j].T * w[i:j]) @ h[i:j] / (pi[c] or 1) for c, (i, j) in enumerate(bounds)
    ]
    errors = misses(mean[:, None, :], np.eye(C), np)[s.labels]
    layer = Layer("softmax", h[:, None, :], errors[:, :, None, :])
    made = Snapshot((layer,), mean[s.labels], s.labels, w)
    moment = curvature.fisher(made)
    expected = logistic.mixture_fisher(pi, np.stack(moments), mean)
    bound = rounding.gamma(4 * N * C + 64, _U) * moment.trace()
    # U = diag p - pp' is a difference, and p sums to 1 within C roundings: few errors,
    # but relative to 1, where a certain network's U is far smaller
    bound += rounding.gamma(4 * C + 32, _U) * float(w @ np.sum(h**2, axis=1))
    away = float(np.max(np.abs(moment.matrix() - expected)))
    size = float(np.max(np.abs(expected)))
    yield away, bound, size, f"G and its {C} products, {moment.shape[1]} parameters"


def _population(model: Canonical) -> np.ndarray:
    """Return E G of the canonical model, errors (x) features."""
    C, D = model.C, model.D
    moments = np.stack([np.eye(D)] * C)
    moments[np.arange(C), np.arange(C), np.arange(C)] += model.signal
    p = geometry.confusion(C, model.alpha)
    return logistic.mixture_fisher(np.full(C, 1 / C), moments, p)


def _formed(model: Canonical, size: float) -> float:
    """Bound the rounding of C summed products of p, 1 - p and moments.

    1 - alpha - (1 - alpha)^2 cancels: its error is relative to 1, not to alpha.
    """
    return rounding.gamma(64, _U) * (size + 4 * model.C * model.D * (1 + model.signal))


@identity(
    "Theorem 8.1: four groups of eigenvalues",
    "ks(1-a)+b C times, ks/C+b C(C-2), b (D-C)(C-1), 0 D; k = a/(C-1)",
    few_classes,
)
def W12(study: Study) -> Iterator[Comparison]:
    """Compare the four groups of eigenvalues, with their multiplicities."""
    model = study.once(canonical)
    for alpha in (model.alpha, (model.C - 1) / model.C):
        at = Canonical(model.C, model.D, model.signal, alpha)
        G = _population(at)
        found = groups.canonical_groups(at.C, at.D, signal=at.signal, alpha=alpha)
        values, radius = certified_spectrum((G + G.T) / 2)
        away = float(np.max(np.abs(values - spread_out(found))))
        bound = radius + _formed(at, norm(G))
        what = f"C = {at.C}, D = {at.D}, s = {at.signal:.3g}, a = {alpha:.3g}"
        yield away, bound, float(values[0]), what


@identity(
    "Outlier eigenvectors: Kronecker products of means",
    "(e_c - 1/C) (x) e_c, delta_c = (1-alpha) C/(C-1) (e_c - 1/C)",
    few_classes,
)
def W13(study: Study) -> Iterator[Comparison]:
    """Class means of errors (x) class means of features."""
    model = study.once(canonical)
    C, D, t = model.C, model.D, model.signal**0.5
    G, V = _population(model), logistic.outlier_eigenvectors(C, D)
    found = groups.canonical_groups(C, D, signal=model.signal, alpha=model.alpha)
    bound = _formed(model, norm(G)) + rounding.gamma(4 * C * D, _U) * norm(G)
    away = float(np.max(np.abs(G @ V - found[0].value * V)))
    yield away, bound, found[0].value * float(np.max(np.abs(V))), "G v = lambda v"
    g = rounding.gamma(4 * C * D, _U)
    yield float(np.max(np.abs(V.T @ V - np.eye(C)))), g, 1.0, "orthogonality"
    made = exact_samples(model)
    h, d = made.layers[0].features[:, 0], made.layers[0].errors[:, :, 0]
    for c, i, j in class_slices(made.offsets):
        away = float(np.max(np.abs(h[i:j].mean(axis=0) - t * np.eye(D)[c])))
        yield away, g * (t + D**0.5), t, f"inputs' mean of class {c}"
        own = np.delete(d[i:j], c, axis=1).mean(axis=(0, 1))
        want = (1 - model.alpha) * C / (C - 1) * (np.eye(C)[c] - 1 / C)
        away, size = float(np.max(np.abs(own - want))), float(np.max(np.abs(want)))
        yield away, 4 * g, size, f"errors' mean of class {c}"


@inequality(
    "Outlier over bulk falls with misclassification",
    "R = 1 + s(1-alpha)/(2 - alpha kappa) rises with s and falls with alpha",
)
def W14(study: Study) -> Iterator[Comparison]:
    """values, differences and their signs on a grid of alpha and of s."""
    model = study.once(canonical)
    C, s = model.C, model.signal
    chance, g = (C - 1) / C, rounding.gamma(64, _U)
    kappa = C / (C - 1)
    grid = [chance * k / 16 for k in range(1, 17)]
    for low, high in itertools.pairwise(grid):
        R = [logistic.outlier_ratio(C, s, x) for x in (low, high)]
        M = [logistic.bump_ratio(C, s, x) for x in (low, high)]
        bottom = (2 - low * kappa) * (2 - high * kappa)
        want = s * (kappa - 2) * (high - low) / bottom
        yield abs(R[1] - R[0] - want), g * max(R), max(R), "R(alpha') - R(alpha)"
        yield R[1] - R[0], g * max(R), max(R), "R falls with alpha"
        yield M[0] - M[1], g * max(M), max(M), "the bump's ratio rises with alpha"
        more = logistic.outlier_ratio(C, 2 * s, low)
        yield R[0] - more, g * more, more, "R rises with s"
        of = groups.canonical_groups(C, C + 1, signal=s, alpha=low)
        outlier, bump, bulk = (x.value for x in of[:3])
        yield abs(R[0] * bulk - outlier), g * outlier, outlier, "R of the groups"
        yield abs(M[0] * bulk - bump), g * bump, bump, "bump's ratio"
    last, bump = logistic.outlier_ratio(C, s, chance), logistic.bump_ratio(C, s, chance)
    away = max(abs(last - 1 - s / C), abs(last - bump))
    yield away, g * last, last, "at chance 1 + s/C"


@statistical(
    "The Bayes error falls with the signal",
    "beta(t) = 1 - E Phi(t+Z)^(C-1), strictly decreasing from (C-1)/C",
    coarse="2^17 decisions: sees a rate of errors that is off by .01",
)
def W15(study: Study) -> Iterator[Comparison]:
    """Drawn decisions by Hoeffding, and beta falls with t."""
    model = study.once(canonical)
    C, rng = model.C, np.random.default_rng(study.seed)
    ts = [0.0, 0.5, 1.0, min(model.signal**0.5, 8.0), 2.0]
    bound = math.sqrt(math.log(2 * len(ts) / rounding.FAILURE) / (2 * _DECISIONS))
    z = rng.standard_normal((_DECISIONS, C))
    best = z[:, 1:].max(axis=1)
    found = {t: logistic.bayes_error(C, t) for t in ts}
    for t, x in found.items():
        wrong = float(np.mean(z[:, 0] + t < best))
        away = abs(wrong - x.value)
        yield away, bound + x.radius, 1.0, f"errors drawn at t = {t:.3g}"
    chance = found[0.0]
    yield abs(chance.value - (C - 1) / C), chance.radius, 1.0, "chance at t = 0"
    rising = sorted(found)
    for t, r in itertools.pairwise(rising):
        both = found[t].radius + found[r].radius
        yield found[r].value - found[t].value, both, 1.0, "beta falls with t"


def _gradient(x: np.ndarray, labels: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Return the gradient of the penalised loss, from the observed errors."""
    seen = regression.observe_logistic(x, labels, W).layers[0].errors[:, :, 0]
    own = seen[np.arange(len(labels)), labels]
    return np.asarray(own.T @ x / len(labels) + _DECAY * W)


@inequality(
    "Fitted logistic regression",
    "|W - W*| <= |grad L(W)| / eta; W* = -Ave delta x' / eta",
    few_classes,
)
def W16(study: Study) -> Iterator[Comparison]:
    """Look at the fit, at a point beside it, and at one Newton step on."""
    x, labels = study.once(_features), study.snapshot.labels
    one = regression.fit_logistic(x, labels, decay=_DECAY)
    G = curvature.fisher(regression.observe_logistic(x, labels, one)).matrix()
    first = _gradient(x, labels, one)
    step = np.linalg.solve(G + _DECAY * np.eye(len(G)), first.reshape(-1))
    two = one - step.reshape(one.shape)
    second = _gradient(x, labels, two)
    N, (C, D) = len(labels), one.shape
    # softmax in 2C + 16 roundings, its logits in D, sums of N; |x| <= 1
    beside = np.ones((C, 1)) * x.mean(axis=0)  # what the softmax is blind to
    slack = rounding.gamma(2 * (C + D + N) + 32, _U) * 8 * (C + D)
    slack *= 1 + norm(two) + norm(beside)
    start = float(np.max(np.abs(_gradient(x, labels, 0 * one))))
    away = float(np.max(np.abs(first)))
    yield away, _FITTED * start + slack, start, "gradient at the fit, and at 0"
    # columns of W* sum to 0, and so do the fit's: beside it is at a right angle
    far = norm(_gradient(x, labels, one + beside))
    bound = 2 * slack + _DECAY * norm(one.sum(axis=0))
    what = "|W - W*| - |gradient| / eta, an equality where p stays as it is"
    yield _DECAY * norm(beside) - far, bound, far, what
    what = "W* = -Ave delta x' / eta, one Newton step on"
    yield norm(second), slack, _DECAY * norm(two), what
