"""The canonical classification model of Theorem 8.1, with a snapshot's parameters.

The theorem is exact for the model: the snapshot says how many classes, how often the
network expects to be wrong, and how far apart its classes are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from refspec import backend, curvature, structure
from refspec.classes import Layer, Snapshot, misses, snapshot
from refspec.synthetic import geometry
from refspec.synthetic.groups import Group
from refspec.theorems.registry import of_every_class
from refspec.theorems.study import Study

_CLASSES = 24  # with D = C + 2 a matrix of side CD = 624


@dataclass(frozen=True, slots=True, eq=False)
class Canonical:
    """Parameters of the model: C classes, D = C + 2 inputs."""

    C: int
    D: int
    signal: float  # s = t^2: a class mean's squared length over an input's variance
    alpha: float  # predicted misclassification


def canonical(study: Study) -> Canonical:
    """Take C, s and alpha from a snapshot, s from the features of its last layer."""
    s = study.snapshot
    p, w = backend.to_host(s.probabilities), backend.to_host(s.sample_weights)
    C = p.shape[1]
    missed = np.sum(np.where(np.arange(C) == s.labels[:, None], 0.0, p), axis=1)
    # softmax outputs that underflow leave nothing to divide by
    alpha = min(max(float(w @ missed), 2.0**-10), (C - 1) / C)
    moment = curvature.features(s, s.layers[-1].name)
    levels = structure.decompose(moment).levels
    between, within = levels["between_class"].trace(), levels["within_class"].trace()
    noise = within / moment.shape[1]
    signal = between / noise if noise > 0 and math.isfinite(between / noise) else 4.0
    return Canonical(C, C + 2, min(max(signal, 2.0**-10), 2.0**10), alpha)


def few_classes(study: Study) -> str:
    """Need a matrix of the model of affordable size, and a sample of every class."""
    C = study.snapshot.probabilities.shape[1]
    if of_every_class(study):
        return of_every_class(study)
    return "" if C <= _CLASSES else f"needs C <= {_CLASSES} for a dense model, got {C}"


def exact_samples(model: Canonical) -> Snapshot:
    """Return samples whose second moments are the model's: x = t e_c +- sqrt(D) e_j."""
    C, D = model.C, model.D
    signs = np.concatenate([np.eye(D), -np.eye(D)]) * D**0.5
    labels = np.repeat(np.arange(C), 2 * D)
    x = model.signal**0.5 * np.eye(C, D)[labels] + np.tile(signs, (C, 1))
    p = geometry.confusion(C, model.alpha)[labels]
    errors = misses(p[:, None, :], np.eye(C), np)
    layer = Layer("softmax", x[:, None, :], errors[:, :, None, :])
    return snapshot([layer], labels, probabilities=p)


def spread_out(groups: tuple[Group, ...]) -> np.ndarray:
    """Return all eigenvalues of some groups, descending."""
    values = [np.full(g.multiplicity, g.value) for g in groups]
    return np.sort(np.concatenate(values))[::-1]
