"""A few samples of a snapshot, in whose place worlds are planted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec import backend
from refspec.classes import Layer, Snapshot
from refspec.populations import Population
from refspec.theorems.study import Study

_CELLS = 500  # (sample, cross class) pairs of a small world
_LEAST = 2.0**-256  # of a weight beside the largest: squares must not underflow


@dataclass(frozen=True, slots=True, eq=False)
class Few:
    """A few samples of each class: labels (n,), weights (n,), probabilities (n, C)."""

    labels: np.ndarray
    s: np.ndarray
    p: np.ndarray

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples of each class."""
        return tuple(np.bincount(self.labels).tolist())

    @property
    def w(self) -> np.ndarray:
        """Weights of the errors."""
        return np.asarray(self.s[:, None] * self.p)

    def errors(self, d: int, within: Any, **given: Any) -> Population:
        """Return a population of errors with the samples' weights."""
        return Population(self.sizes, d, self.w, within, **given)

    def features(self, d: int, within: Any, **given: Any) -> Population:
        """Return a population of features with the samples' weights."""
        return Population(self.sizes, d, self.s[:, None], within, **given)

    def snapshot(self, features: np.ndarray, errors: np.ndarray) -> Snapshot:
        """Give the samples features (n, a) and errors (n, C, b)."""
        layer = Layer("x", features[:, None, :], errors[:, :, None, :])
        return Snapshot((layer,), self.p, self.labels, self.s)


def few_samples(study: Study) -> Few:
    """Take the first samples of each class, their weights and probabilities."""
    s = study.snapshot
    C = s.probabilities.shape[1]
    most = max(1, _CELLS // C**2)
    offsets = zip(s.offsets, s.offsets[1:], strict=False)
    index = np.concatenate([np.arange(i, min(j, i + most)) for i, j in offsets])
    w = backend.to_host(s.sample_weights)[index].astype(np.float64)
    p = backend.to_host(s.probabilities)[index].astype(np.float64)
    w = np.where(w < _LEAST * np.max(w), 0, w)
    w = w / w.sum() if w.any() else np.full(len(w), 1 / len(w))
    return Few(s.labels[index], w, p / p.sum(axis=1, keepdims=True))


def softened(study: Study) -> Few:
    """Mix the probabilities with chance, so that none is 0."""
    few, share = study.once(few_samples), 2.0**-6
    return Few(few.labels, few.s, (1 - share) * few.p + share / few.p.shape[1])
