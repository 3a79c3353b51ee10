"""Checks of theory/worlds.md, W1 to W5: the parts that planted laws are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.special

from refspec import backend, curvature, rounding
from refspec.classes import Layer, Snapshot, class_slices
from refspec.kronecker import certified_spectrum
from refspec.synthetic import covariances, geometry
from refspec.synthetic.hierarchy import Hierarchy, draw
from refspec.theorems.quantities import norm
from refspec.theorems.registry import Comparison, Theorem, compared
from refspec.theorems.study import Study

__all__ = ["THEOREMS", "Few", "few_samples", "softened"]

_U = 2.0**-53  # worlds are drawn and expected in float64
_CELLS = 500  # (sample, cross class) pairs of a small world
_SIDE = 200  # of a covariance
_DRAWS = 20000


@dataclass(frozen=True, slots=True, eq=False)
class Few:
    """A few samples of each class: labels (n,), weights (n,), probabilities (n, C)."""

    labels: np.ndarray
    s: np.ndarray
    p: np.ndarray

    @property
    def w(self) -> np.ndarray:
        """Weights of the errors."""
        return np.asarray(self.s[:, None] * self.p)

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
    w = w / w.sum() if w.any() else np.full(len(w), 1 / len(w))
    return Few(s.labels[index], w, p / p.sum(axis=1, keepdims=True))


def softened(study: Study) -> Few:
    """Mix the probabilities with chance, so that none is 0 (W8)."""
    few, share = study.once(few_samples), 2.0**-6
    return Few(few.labels, few.s, (1 - share) * few.p + share / few.p.shape[1])


def _roots(study: Study) -> Iterator[Comparison]:
    """W1: the root of a layer's second moment; eigenvalues of low rank plus noise."""
    for x in study.snapshot.layers:
        h = backend.to_host(x.features)[:, 0, :_SIDE].astype(np.float64)
        h = h / (np.max(np.abs(h)) or 1.0)
        A = h.T @ h
        A = (A + A.T) / 2
        d, trace = len(A), float(np.trace(A))
        R = covariances.root(A, d)
        bound = 8 * rounding.eigensolver_radius(d, trace, _U)
        bound += 4 * rounding.gamma(d + 16, _U) * trace
        yield norm(R @ np.transpose(R) - A), bound * d**0.5, f"root, {x.name}"
        F = h[: min(3, len(h))].T
        values, radius = certified_spectrum(covariances.low_rank_plus_noise(F, 0.5))
        above = np.zeros(d)
        above[: min(F.shape)] = np.linalg.svd(F, compute_uv=False) ** 2
        size = float(np.sum(F * F)) + d
        bound = radius + 8 * rounding.eigensolver_radius(d, size, _U)
        away = float(np.max(np.abs(values - 0.5 - above)))
        yield away, bound, f"low rank plus noise, {x.name}"


def _laws(study: Study) -> Iterator[Comparison]:
    """W2: Massart's form of the Dvoretzky-Kiefer-Wolfowitz inequality, four laws."""
    root = math.sqrt(2)
    cdfs = {
        ("gaussian", None): scipy.special.ndtr,
        ("laplace", None): lambda x: 0.5 - np.sign(x) * np.expm1(-abs(x) * root) / 2,
        ("student", 3.0): lambda x: scipy.special.stdtr(3.0, x * 3**0.5),
        ("student", 8.0): lambda x: scipy.special.stdtr(8.0, x * (8 / 6) ** 0.5),
    }
    bound = math.sqrt(math.log(2 * len(cdfs) / rounding.FAILURE) / (2 * _DRAWS))
    rng = np.random.default_rng(study.seed)
    for (law, dof), cdf in cdfs.items():
        x = np.sort(covariances.standard((_DRAWS,), rng=rng, law=law, dof=dof))
        steps, F = np.arange(_DRAWS + 1) / _DRAWS, cdf(x)
        away = max(np.max(steps[1:] - F), np.max(F - steps[:-1]))
        yield float(away), bound, f"distribution of {law} {dof or ''}".strip()


def _gram(study: Study) -> Iterator[Comparison]:
    """W3: means with the Gram matrix of the class means of every layer; the simplex."""
    few = study.once(few_samples)
    C = few.p.shape[1]
    rng = np.random.default_rng(study.seed)
    grams = {f"simplex of {C}": (geometry.simplex_gram(C), C - 1)}
    for x in study.snapshot.layers:
        h = backend.to_host(x.features)[:, 0].astype(np.float64)
        m = np.stack(
            [h[i:j].mean(axis=0) for _, i, j in class_slices(study.snapshot.offsets)]
        )
        m = m / (np.max(np.abs(m)) or 1.0)
        grams[f"class means of {x.name}"] = (m @ m.T, m.shape[1])
    for name, (K, d) in grams.items():
        size = float(np.trace(K))
        bound = 8 * rounding.eigensolver_radius(C, size, _U)
        bound += rounding.gamma(4 * C * C + 4 * d + 32, _U) * size
        made = geometry.means((K + K.T) / 2, min(d, C), rng=rng)
        yield float(np.max(np.abs(made @ made.T - K))), bound, name


def _probabilities(study: Study) -> Iterator[Comparison]:
    """W4: sums of the snapshot's softmax outputs, and of an even confusion."""
    p = backend.to_host(study.snapshot.probabilities)
    C = p.shape[1]
    away = float(np.max(np.abs(p.sum(axis=1) - 1)))
    yield away, rounding.gamma(2 * C + 16, study.u), "sum of softmax outputs"
    for alpha in (0.0, 0.25, (C - 1) / C, 1.0):
        made = geometry.confusion(C, alpha)
        away = float(np.max(np.abs(made.sum(axis=1) - 1)))
        away = max(away, float(np.max(np.abs(1 - np.diag(made) - alpha))))
        yield away, rounding.gamma(2 * C + 4, _U), f"confusion of {alpha:.3g}"


def _squares(found: float, dof: int, tests: int) -> tuple[float, float]:
    """Compare a chi-square with its mean by Laurent and Massart's inequality."""
    x = math.log(2 * tests / rounding.FAILURE)
    return abs(found - dof), 2 * math.sqrt(dof * x) + 2 * x


def _nested(study: Study) -> Iterator[Comparison]:
    """W5: means of the classes and of the cross classes, whitened, are chi-square."""
    few = study.once(few_samples)
    labels, C, d = few.labels, few.p.shape[1], 16
    n = np.bincount(labels, minlength=C)
    rng = np.random.default_rng(study.seed)
    spread = tuple(1.0 + np.arange(C))
    m = rng.standard_normal((C, d))
    law = Hierarchy(C, d, class_means=m, class_covariance=2.0, within=spread)
    h = draw(law, labels, 1, rng=rng)[:, 0]
    means = np.stack([h[labels == c].mean(axis=0) for c in range(C)])
    scale = 2.0 + np.asarray(spread) / n
    found = float(np.sum(np.sum((means - m) ** 2, axis=1) / scale))
    yield *_squares(found, C * d, 2), "class means"
    law = Hierarchy(C, d, class_covariance=2.0, cross_covariance=3.0, within=spread)
    e = draw(law, labels, C, rng=rng)
    cells = np.stack([e[labels == c].mean(axis=0) for c in range(C)])
    gaps = cells - cells.mean(axis=1, keepdims=True)
    scale = 3.0 + np.asarray(spread) / n
    found = float(np.sum(np.sum(gaps**2, axis=(1, 2)) / scale))
    yield *_squares(found, C * (C - 1) * d, 2), "cross-class means"


_PAGE, _TEST = "worlds.md", "tests/test_theorems_worlds.py::test_"

THEOREMS = (
    Theorem(
        "W1", "Covariances and their roots", "identity",
        "R R' = Sigma; F F' + tau I has eigenvalues tau + sigma_j(F)^2 and tau",
        _PAGE, _TEST + "W1", compared(_roots),
    ),
    Theorem(
        "W2", "Heavy tails of unit variance", "statistical",
        "T sqrt((nu-2)/nu) and Laplace of scale 1/sqrt 2 have mean 0, variance 1",
        _PAGE, _TEST + "W2", compared(_laws),
    ),
    Theorem(
        "W3", "Means with a given Gram matrix", "identity",
        "m_c'm_c' = K iff K >= 0 of rank at most d; the simplex has rank C - 1",
        _PAGE, _TEST + "W3", compared(_gram),
    ),
    Theorem(
        "W4", "Probabilities", "identity",
        "rows sum to 1: softmax within gamma_{2C+16}, the even confusion of alpha",
        _PAGE, _TEST + "W4", compared(_probabilities),
    ),
    Theorem(
        "W5", "The planted hierarchy", "statistical",
        "Cov(F_icc', F_jcc'') = S_1 + [c'=c''] S_2 + [i=j][c'=c''] S_{3,c}",
        _PAGE, _TEST + "W5", compared(_nested),
    ),
)  # fmt: skip
