"""Checks of theory/weights.md: weights under decay, and the loss they minimise."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from refspec import backend, rounding
from refspec.classes import Layer, class_slices
from refspec.factors import lengths
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


def _weights(study: Study) -> dict[str, np.ndarray]:
    """Return the weight matrix (b, a) of every layer, its bias the last column."""
    model, found = study.snapshot.model, {}
    for step in model.operations if model is not None else ():
        name, weight = step.get("name"), step.get("weight")
        if name is None or weight is None or model is None:
            continue
        W = backend.to_host(model.parameters[weight])
        W = W.reshape(W.shape[0], -1)
        if step.get("bias") is not None:
            bias = backend.to_host(model.parameters[step["bias"]])
            W = np.concatenate([W, bias[:, None]], axis=1)
        found[str(name)] = W
    return found


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
    weights = _weights(study)
    for x in study.snapshot.layers:
        h, W = backend.to_host(x.features), weights[x.name]
        own = _own_errors(study, x)
        gap = W + _product(s[:, None, None] * own, h) / eta
        largest = s * error_norms(study, x.name).max(axis=1)
        norms = lengths(h, (1, 2))
        stored = 2 * score_accuracy(study) * float(np.sum(largest * norms)) / eta
        stored += study.stored * float(np.linalg.norm(W))
        k = 2 * len(s) * h.shape[1] + 32
        rounded = rounding.gamma(k, study.u) * _size(study, x) / eta
        bound = slope * (1 + study.stored) / eta + stored + 2 * rounded
        yield float(np.linalg.norm(gap)), bound, f"weights of {x.name}"


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
    C = len(study.snapshot.offsets) - 1
    for x in study.snapshot.layers:
        h, own = backend.to_host(x.features), _own_errors(study, x)
        means, within = _class_part(study, x)
        gap = _product(s[:, None, None] * own, h) - means - within
        norms = [
            math.sqrt(float(np.sum(s * np.sum(y * y, axis=(1, 2))))) for y in (own, h)
        ]
        k = 4 * len(s) * h.shape[1] + 64
        bound = 8 * rounding.gamma(k, study.u) * norms[0] * norms[1] + study.tiny**0.5
        yield float(np.linalg.norm(gap)), bound, f"gradient of {x.name}"
        rank, values = C * h.shape[1], np.linalg.svd(means, compute_uv=False)
        if rank < len(values):
            yield float(values[rank]), bound, f"rank of the class part of {x.name}"


def _stated(study: Study) -> str:
    """Say that the export does not state its loss."""
    given = study.snapshot.provenance.get("mean_loss")
    known = isinstance(given, (int, float)) and math.isfinite(given)
    return "" if known else "needs mean_loss in the export's provenance"


@identity(
    "The stated loss",
    "mean_loss = -sum_i s_i log p_{i,c(i)}",
    _stated,
    question="data",
)
def D3(study: Study) -> Iterator[Comparison]:
    """Compare the stated loss with the probabilities of the observed labels."""
    s, p = (
        backend.to_host(x)
        for x in (study.snapshot.sample_weights, study.snapshot.probabilities)
    )
    p = np.maximum(p, np.finfo(p.dtype).tiny)
    own = -np.log(p[np.arange(len(s)), study.snapshot.labels])
    found, given = float(s @ own), float(study.snapshot.provenance["mean_loss"])
    spread = 2 - 2 * np.log(p.min(axis=1))
    N, C = p.shape
    bound = rounding.gamma(2 * C + 16, study.stored) * float(s @ spread)
    bound += rounding.gamma(N + 4, study.stored) * (abs(given) + abs(found))
    yield abs(found - given), bound, f"mean loss, {given:.6g} stated"
