"""Checks of theory/worlds.md, W11 to W16: multinomial logistic regression.

On the features of the last layer, where p may be made constant within a class, and in
the canonical model with the snapshot's classes, signal and misclassification.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from refspec import backend, curvature, rounding
from refspec.classes import Layer, Snapshot, class_slices
from refspec.kronecker import certified_spectrum
from refspec.synthetic import geometry, groups, logistic, regression
from refspec.theorems.canonical import (
    Canonical,
    canonical,
    exact_samples,
    few_classes,
    spread_out,
)
from refspec.theorems.quantities import norm
from refspec.theorems.registry import Comparison, Theorem, compared
from refspec.theorems.study import Study

__all__ = ["THEOREMS"]

_U = 2.0**-53
_DRAWS = 40000
_PARAMETERS = 700
_DECAY = 0.125


def _features(study: Study) -> np.ndarray:
    """Return features of the last layer, few enough, (N, d), of size at most 1."""
    s = study.snapshot
    h = backend.to_host(s.layers[-1].features)[:, 0].astype(np.float64)
    h = h[:, -(_PARAMETERS // s.probabilities.shape[1]) :]
    return np.asarray(h / (np.max(np.linalg.norm(h, axis=1)) or 1.0))


def _lemma(study: Study) -> Iterator[Comparison]:
    """W11: the samples' Fisher is sum_c pi_c U^c (x) M_c if p is constant in class."""
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
    errors = mean[s.labels][:, None, :] - np.eye(C)
    for c in range(C):  # p_c - 1 is minus the other p
        errors[:, c, c] = -np.delete(mean, c, axis=1).sum(axis=1)[s.labels]
    layer = Layer("softmax", h[:, None, :], errors[:, :, None, :])
    made = Snapshot((layer,), mean[s.labels], s.labels, w)
    moment = curvature.fisher(made)
    expected = logistic.mixture_fisher(pi, np.stack(moments), mean)
    k = 4 * N * C + 64
    # U = diag p - pp' as a difference, and p that sums to 1 within rounding
    bound = rounding.gamma(k, _U) * (moment.trace() + 4 * float(w @ np.sum(h**2, 1)))
    away = float(np.max(np.abs(moment.matrix() - expected)))
    yield away, bound, f"G and its {C} products, {moment.shape[1]} parameters"


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


def _groups(study: Study) -> Iterator[Comparison]:
    """W12: the four groups of eigenvalues and their multiplicities."""
    model = study.once(canonical)
    for alpha in (model.alpha, (model.C - 1) / model.C):
        at = Canonical(model.C, model.D, model.signal, alpha)
        G = _population(at)
        found = groups.canonical_groups(at.C, at.D, signal=at.signal, alpha=alpha)
        values, radius = certified_spectrum(G)
        away = float(np.max(np.abs(values - spread_out(found))))
        bound = radius + _formed(at, norm(G))
        yield (
            away,
            bound,
            f"C = {at.C}, D = {at.D}, s = {at.signal:.3g}, a = {alpha:.3g}",
        )


def _eigenvectors(study: Study) -> Iterator[Comparison]:
    """W13: class means of errors (x) class means of features."""
    model = study.once(canonical)
    C, D, t = model.C, model.D, model.signal**0.5
    G, V = _population(model), logistic.outlier_eigenvectors(C, D)
    found = groups.canonical_groups(C, D, signal=model.signal, alpha=model.alpha)
    bound = _formed(model, norm(G)) + rounding.gamma(4 * C * D, _U) * norm(G)
    yield float(np.max(np.abs(G @ V - found[0].value * V))), bound, "G v = lambda v"
    g = rounding.gamma(4 * C * D, _U)
    yield float(np.max(np.abs(V.T @ V - np.eye(C)))), g, "orthogonality"
    made = exact_samples(model)
    h, d = made.layers[0].features[:, 0], made.layers[0].errors[:, :, 0]
    for c, i, j in class_slices(made.offsets):
        away = float(np.max(np.abs(h[i:j].mean(axis=0) - t * np.eye(D)[c])))
        yield away, g * (t + D**0.5), f"inputs' mean of class {c}"
        own = np.delete(d[i:j], c, axis=1).mean(axis=(0, 1))
        want = (1 - model.alpha) * C / (C - 1) * (np.eye(C)[c] - 1 / C)
        yield float(np.max(np.abs(own - want))), 4 * g, f"errors' mean of class {c}"


def _ratios(study: Study) -> Iterator[Comparison]:
    """W14: values, differences and their signs on a grid of alpha and of s."""
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
        yield abs(R[1] - R[0] - want), g * max(R), "R(alpha') - R(alpha)"
        yield R[1] - R[0], g * max(R), "R falls with alpha"
        yield M[0] - M[1], g * max(M), "the bump's ratio rises with alpha"
        more = logistic.outlier_ratio(C, 2 * s, low)
        yield R[0] - more, g * more, "R rises with s"
        of = groups.canonical_groups(C, C + 1, signal=s, alpha=low)
        yield abs(R[0] * of[2].value - of[0].value), g * of[0].value, "R of the groups"
        yield abs(M[0] * of[2].value - of[1].value), g * of[1].value, "bump's ratio"
    last, bump = logistic.outlier_ratio(C, s, chance), logistic.bump_ratio(C, s, chance)
    away = max(abs(last - 1 - s / C), abs(last - bump))
    yield away, g * last, "at chance 1 + s/C"


def _bayes(study: Study) -> Iterator[Comparison]:
    """W15: drawn decisions by Hoeffding, and beta falls with t."""
    model = study.once(canonical)
    C, rng = model.C, np.random.default_rng(study.seed)
    ts = [0.0, 0.5, 1.0, min(model.signal**0.5, 8.0), 2.0]
    bound = math.sqrt(math.log(2 * len(ts) / rounding.FAILURE) / (2 * _DRAWS))
    z = rng.standard_normal((_DRAWS, C))
    best = z[:, 1:].max(axis=1)
    found = {t: logistic.bayes_error(C, t) for t in ts}
    for t, x in found.items():
        wrong = float(np.mean(z[:, 0] + t < best))
        yield abs(wrong - x.value), bound + x.radius, f"errors drawn at t = {t:.3g}"
    chance = found[0.0]
    yield abs(chance.value - (C - 1) / C), chance.radius, "chance at t = 0"
    rising = sorted(found)
    for t, r in itertools.pairwise(rising):
        both = found[t].radius + found[r].radius
        yield found[r].value - found[t].value, both, "beta falls with t"


def _gradient(x: np.ndarray, labels: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Return the gradient of the penalised loss, from the observed errors."""
    seen = regression.observe(x, labels, W).layers[0].errors[:, :, 0]
    own = seen[np.arange(len(labels)), labels]
    return np.asarray(own.T @ x / len(labels) + _DECAY * W)


def _fitted(study: Study) -> Iterator[Comparison]:
    """W16: the fit, and one Newton step on: apart by at most |gradients| / eta."""
    x, labels = study.once(_features), study.snapshot.labels
    one = regression.fit(x, labels, decay=_DECAY)
    G = curvature.fisher(regression.observe(x, labels, one)).matrix()
    first = _gradient(x, labels, one)
    step = np.linalg.solve(G + _DECAY * np.eye(len(G)), first.reshape(-1))
    two = one - step.reshape(one.shape)
    second = _gradient(x, labels, two)
    N, (C, D) = len(labels), one.shape
    # softmax in 2C + 16 roundings, its logits in D, sums of N; |x| <= 1
    slack = rounding.gamma(2 * (C + D + N) + 32, _U) * 8 * (C + D) * (1 + norm(two))
    apart = (norm(first) + norm(second) + 2 * slack) / _DECAY
    yield norm(one - two), apart, "two fits, |W - W*| <= |gradient| / eta"
    yield norm(second), slack, "W* = -Ave delta x' / eta, one Newton step on"


_PAGE, _TEST = "worlds.md", "tests/test_theorems_worlds.py::test_"

THEOREMS = (
    Theorem(
        "W11", "Lemma 8.1: the expected Fisher of logistic regression", "identity",
        "E G = sum_c pi_c U^c (x) M_c, U^c = diag p_c - p_c p_c', p constant in class",
        _PAGE, _TEST + "W11", compared(_lemma), few_classes,
    ),
    Theorem(
        "W12", "Theorem 8.1: four groups of eigenvalues", "identity",
        "ks(1-a)+b C times, ks/C+b C(C-2), b (D-C)(C-1), 0 D; k = a/(C-1)",
        _PAGE, _TEST + "W12", compared(_groups), few_classes,
    ),
    Theorem(
        "W13", "Outlier eigenvectors: Kronecker products of means", "identity",
        "(e_c - 1/C) (x) e_c, delta_c = (1-alpha) C/(C-1) (e_c - 1/C)",
        _PAGE, _TEST + "W13", compared(_eigenvectors), few_classes,
    ),
    Theorem(
        "W14", "Outlier over bulk falls with misclassification", "inequality",
        "R = 1 + s(1-alpha)/(2 - alpha kappa) rises with s and falls with alpha",
        _PAGE, _TEST + "W14", compared(_ratios),
    ),
    Theorem(
        "W15", "The Bayes error falls with the signal", "statistical",
        "beta(t) = 1 - E Phi(t+Z)^(C-1), strictly decreasing from (C-1)/C",
        _PAGE, _TEST + "W15", compared(_bayes),
    ),
    Theorem(
        "W16", "Fitted logistic regression", "inequality",
        "|W - W*| <= |grad L(W)| / eta; W* = -Ave delta x' / eta",
        _PAGE, _TEST + "W16", compared(_fitted), few_classes,
    ),
)  # fmt: skip
