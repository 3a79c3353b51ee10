"""Checks of theory/weights.md: weights under decay, and the loss they minimise."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from refspec import backend, curvature, rounding
from refspec.classes import Layer, class_slices
from refspec.factors import lengths
from refspec.models.network import weight_matrices
from refspec.theorems.quantities import error_norms, score_accuracy
from refspec.theorems.registry import Comparison, identity
from refspec.theorems.study import Study


def _own_errors(study: Study, layer: Layer) -> np.ndarray:
    """Return the errors at the observed labels, shape (N, T, b)."""
    rows = np.arange(len(study.snapshot.labels))
    return np.asarray(backend.to_host(layer.errors)[rows, study.snapshot.labels])


def _product(errors: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return sum_i sum_t errors_it features_it', shape (b, a)."""
    left = errors.reshape(-1, errors.shape[2])
    return np.asarray(left.T @ features.reshape(-1, features.shape[2]))


def _size(study: Study, layer: Layer) -> float:
    """Return sum_i s_i ||delta_{i,c}|| ||h_i||."""
    s, h = (
        backend.to_host(study.snapshot.sample_weights),
        backend.to_host(layer.features),
    )
    own = _own_errors(study, layer)
    norms = [lengths(x, (1, 2)) for x in (own, h)]
    return float(np.sum(s * norms[0] * norms[1]))


def _stationary(study: Study) -> str:
    """Say what the export does not tell of its training."""
    given = study.snapshot.provenance
    if study.snapshot.model is None:
        return "needs a model section"
    decay, slope = given.get("weight_decay", 0), given.get("gradient_norm", math.inf)
    if not (isinstance(decay, (int, float)) and decay > 0):
        return "needs weight_decay > 0 in the export's provenance"
    if not (isinstance(slope, (int, float)) and slope < math.inf):
        return "needs gradient_norm, of the objective, in the export's provenance"
    return ""


@identity(
    "Weights under decay",
    "W = -(1/eta) sum_i s_i delta_{i,c} h_i' at a stationary point",
    _stationary,
    as_stored=True,
    question="data",
)
def D1(study: Study) -> Iterator[Comparison]:
    """Compare every weight matrix with the mean of errors times features."""
    s, given = backend.to_host(study.snapshot.sample_weights), study.snapshot.provenance
    eta, slope = float(given["weight_decay"]), float(given["gradient_norm"])
    weights = weight_matrices(study.snapshot.model)
    for x in study.snapshot.layers:
        h, W = (backend.to_host(y) for y in (x.features, weights[x.name]))
        own = _own_errors(study, x)
        gap = W + _product(s[:, None, None] * own, h) / eta
        largest = s * error_norms(study, x.name).max(axis=1)
        norms = lengths(h, (1, 2))
        stored = 2 * score_accuracy(study) * float(np.sum(largest * norms)) / eta
        stored += study.stored * float(np.linalg.norm(W))
        k = 2 * len(s) * h.shape[1] + 32
        rounded = rounding.gamma(k, study.u) * _size(study, x) / eta
        bound = slope * (1 + study.stored) / eta + stored + 2 * rounded
        size = float(np.linalg.norm(W))
        yield float(np.linalg.norm(gap)), bound, size, f"weights of {x.name}"


def _class_part(study: Study, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return sum_c pi_c delta_cc h_c' and the covariances within classes, (b, a)."""
    s, h = (
        backend.to_host(study.snapshot.sample_weights),
        backend.to_host(layer.features),
    )
    own = _own_errors(study, layer)
    parts = np.zeros((2, own.shape[2], h.shape[2]))
    for _, i, j in class_slices(study.snapshot.offsets):
        mass = float(np.sum(s[i:j]))
        if mass == 0:
            continue
        q = (s[i:j] / mass)[:, None, None]
        error, mean = np.sum(q * own[i:j], axis=0), np.sum(q * h[i:j], axis=0)
        parts[0] += mass * error.T @ mean
        parts[1] += mass * _product(q * (own[i:j] - error), h[i:j] - mean)
    return parts[0], parts[1]


@identity(
    "Class means and covariances in the gradient",
    "sum_i s_i delta_{i,c} h_i' = sum_c pi_c delta_cc h_c' + sum_c pi_c Cov_c",
)
def D2(study: Study) -> Iterator[Comparison]:
    """Compare the gradient with its class part plus its part within classes."""
    s = backend.to_host(study.snapshot.sample_weights)
    for x in study.snapshot.layers:
        h, own = backend.to_host(x.features), _own_errors(study, x)
        means, within = _class_part(study, x)
        gradients = curvature.empirical_fisher(study.snapshot, [x.name])
        root = gradients.xp.sqrt(gradients.weights)[:, :, None]
        gradient = backend.to_host(gradients.cross(root)).reshape(means.shape)
        gap = gradient - means - within
        norms = [
            math.sqrt(float(np.sum(s * np.sum(y * y, axis=(1, 2))))) for y in (own, h)
        ]
        k = 4 * len(s) * h.shape[1] + 64
        bound = 8 * rounding.gamma(k, study.u) * norms[0] * norms[1] + study.tiny**0.5
        size = float(np.linalg.norm(means)) + float(np.linalg.norm(within))
        yield float(np.linalg.norm(gap)), bound, size, f"gradient of {x.name}"


def _stated(study: Study) -> str:
    """Say that the export does not state its loss, or that the loss is lost."""
    given = study.snapshot.provenance.get("mean_loss")
    if not (isinstance(given, (int, float)) and math.isfinite(given)):
        return "needs mean_loss in the export's provenance"
    p = backend.to_host(study.snapshot.probabilities)
    own = p[np.arange(len(p)), study.snapshot.labels]
    kept = bool(np.all(own >= np.finfo(p.dtype).smallest_normal))
    return "" if kept else "needs probabilities of the labels that do not underflow"


def _logarithm_errors(p: np.ndarray, labels: np.ndarray, u: float) -> np.ndarray:
    """Bound the error of log p at the label, from logits in precision u, shape (N,).

    A certain sample's is far below u. Theory: theory/weights.md#D3.
    """
    rows, C = np.arange(len(p)), p.shape[1]
    logs = np.log(np.maximum(p, np.finfo(p.dtype).smallest_normal))
    top = np.argmax(p, axis=1)
    others, wrong = p.copy(), p.copy()
    others[rows, top], wrong[rows, labels] = 0, 0
    # z_j - z_top, exp and sum: in an addition to the largest term at most the smaller
    # of both is lost, so that tiny terms lose themselves and no more
    below = logs[rows, top, None] - logs
    total = np.sum(np.minimum(u, others), axis=1)
    total += u * np.sum(others * (below + C + 2), axis=1)
    # the label's z_j - z_top, the logarithm of the sum, the difference of both
    total += u * 2 * np.abs(logs[rows, labels]) + u * np.abs(logs[rows, top])
    moved = rounding.gamma(2 * C + 16, u) * 2 * (1 - logs.min(axis=1))
    return np.asarray(2 * total + u + moved * np.sum(wrong, axis=1))


@identity(
    "The stated loss",
    "mean_loss = -sum_i s_i log p_{i,c(i)}",
    _stated,
    question="data",
)
def D3(study: Study) -> Iterator[Comparison]:
    """Compare the stated loss with the probabilities of the observed labels."""
    s, p = (
        backend.to_host(x).astype(np.float64)
        for x in (study.snapshot.sample_weights, study.snapshot.probabilities)
    )
    labels, N = study.snapshot.labels, len(s)
    found = -float(s @ np.log(p[np.arange(N), labels]))
    given = float(study.snapshot.provenance["mean_loss"])
    bound = float(s @ _logarithm_errors(p, labels, study.stored))
    bound += rounding.gamma(N + 4, study.stored) * (abs(given) + abs(found))
    yield abs(found - given), bound, abs(given), f"mean loss, {given:.6g} stated"
