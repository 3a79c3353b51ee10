"""Checks of theory/worlds.md: the parts that planted worlds are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import scipy.special

from refspec import backend, classes, rounding
from refspec.classes import class_slices
from refspec.kronecker.eigensystems import certified_spectrum
from refspec.populations import Population
from refspec.synthetic import covariances, geometry
from refspec.synthetic.worlds import draw
from refspec.theorems.quantities import norm
from refspec.theorems.registry import Comparison, identity, of_every_class, statistical
from refspec.theorems.samples import few_samples
from refspec.theorems.study import Study

_U = 2.0**-53  # worlds are drawn and expected in float64
_SIDE = 200  # of a covariance
_DRAWS = 2**18
_COORDINATES = 2**14  # of all class means together
_SUMS = 7  # of squares, for features and errors


@identity(
    "Covariances and their roots",
    "R R' = Sigma; F F' + tau I has eigenvalues tau + sigma_j(F)^2 and tau",
)
def W1(study: Study) -> Iterator[Comparison]:
    """Square a second moment's root; compare eigenvalues of low rank plus noise."""
    for x in study.snapshot.layers:
        h = backend.to_host(x.features)[:, 0, :_SIDE].astype(np.float64)
        h = h / (np.max(np.abs(h)) or 1.0)
        A = h.T @ h
        A = (A + A.T) / 2
        d, trace = len(A), float(np.trace(A))
        R = covariances.root(A)
        bound = 8 * rounding.eigensolver_radius(d, trace, _U)
        bound += 4 * rounding.gamma(d + 16, _U) * trace
        away = norm(R @ np.transpose(R) - A)
        yield away, bound * d**0.5, norm(A), f"root, {x.name}"
        F = h[: min(3, len(h))].T
        made = covariances.low_rank_plus_noise(F, 0.5)
        values, radius = certified_spectrum((made + made.T) / 2)
        above = np.zeros(d)
        above[: min(F.shape)] = np.linalg.svd(F, compute_uv=False) ** 2
        size = float(np.sum(F * F)) + d
        bound = radius + 8 * rounding.eigensolver_radius(d, size, _U)
        away = float(np.max(np.abs(values - 0.5 - above)))
        yield away, bound, float(values[0]), f"low rank plus noise, {x.name}"


@statistical(
    "Heavy tails of unit variance",
    "T sqrt((nu-2)/nu) and Laplace of scale 1/sqrt 2 have mean 0, variance 1",
    coarse="2^18 draws: sees .7 % of a distribution function",
)
def W2(study: Study) -> Iterator[Comparison]:
    """Compare four distributions by the Dvoretzky-Kiefer-Wolfowitz inequality."""
    root = math.sqrt(2)
    cdfs = {
        ("gaussian", None): scipy.special.ndtr,
        ("laplace", None): lambda x: 0.5 - np.sign(x) * np.expm1(-abs(x) * root) / 2,
        ("student", 3.0): lambda x: scipy.special.stdtr(3.0, x * 3**0.5),
        ("student", 8.0): lambda x: scipy.special.stdtr(8.0, x * (8 / 6) ** 0.5),
    }
    bound = math.sqrt(math.log(2 * len(cdfs) / rounding.FAILURE) / (2 * _DRAWS))
    rng = np.random.default_rng(study.seed)
    for (noise, dof), cdf in cdfs.items():
        x = np.sort(covariances.standard((_DRAWS,), rng=rng, noise=noise, dof=dof))
        steps, F = np.arange(_DRAWS + 1) / _DRAWS, cdf(x)
        away = max(np.max(steps[1:] - F), np.max(F - steps[:-1]))
        what = f"distribution of {noise} {dof or ''}".strip()
        yield float(away), bound, 1.0, what


@identity(
    "Means with a given Gram matrix",
    "m_c'm_c' = K iff K >= 0 of rank at most d; the simplex has rank C - 1",
    of_every_class,
)
def W3(study: Study) -> Iterator[Comparison]:
    """Means with the Gram matrix of the class means of every layer; the simplex."""
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
        made = geometry.means_of_gram((K + K.T) / 2, min(d, C), rng=rng)
        yield float(np.max(np.abs(made @ made.T - K))), bound, size, name


@identity(
    "Probabilities",
    "rows sum to 1: softmax within gamma_{2C+16}, the even confusion of alpha",
)
def W4(study: Study) -> Iterator[Comparison]:
    """Sum softmax outputs, of the snapshot's logits, and an even confusion."""
    p = backend.to_host(study.snapshot.probabilities)
    C = p.shape[1]
    logits = np.log(np.maximum(p, np.finfo(p.dtype).smallest_normal))
    outputs = np.exp(classes.log_softmax(logits))
    away = float(np.max(np.abs(outputs.sum(axis=1) - 1)))
    yield away, rounding.gamma(2 * C + 16, study.u), 1.0, "sum of softmax outputs"
    for alpha in (0.0, 0.25, (C - 1) / C, 1.0):
        made = geometry.confusion(C, alpha)
        away = float(np.max(np.abs(made.sum(axis=1) - 1)))
        away = max(away, float(np.max(np.abs(1 - np.diag(made) - alpha))))
        yield away, rounding.gamma(2 * C + 4, _U), 1.0, f"confusion of {alpha:.3g}"


def _chi_square(found: float, dof: int, what: str) -> Comparison:
    """Compare a chi-square over its degrees of freedom with 1, by its quantiles."""
    tail = rounding.FAILURE / (2 * _SUMS)
    low, high = scipy.special.chdtri(dof, [1 - tail, tail]) / dof
    width = max(high - 1, 1 - low)
    return abs(found / dof - 1), float(width), 1.0, what


def _hierarchy(population: Population, x: np.ndarray, of: str) -> Iterator[Comparison]:
    """Split draws into independent sums of squares, one for each level, whitened."""
    C, (N, K, d) = population.C, x.shape
    labels, spread = population.labels, np.asarray(population.within)[:, None]
    first, second = (
        0.0 if s is None else s
        for s in (population.class_covariance, population.cross_covariance)
    )
    cells = np.stack([x[labels == c].mean(axis=0) for c in range(C)])
    scale = second + spread / np.asarray(population.sizes)[:, None]  # of a cell's mean
    away = cells - population.fixed_means()
    own = away.mean(axis=1) / np.sqrt(first + scale / K)
    grand = own.mean(axis=0)
    yield _chi_square(C * float(np.sum(grand**2)), d, f"grand mean of {of}")
    found = float(np.sum((own - grand) ** 2))
    yield _chi_square(found, (C - 1) * d, f"class means of {of}")
    if K > 1:
        gaps = (away - away.mean(axis=1, keepdims=True)) ** 2
        found = float(np.sum(gaps / scale[:, None]))
        yield _chi_square(found, C * (K - 1) * d, f"cross-class means of {of}")
    if N > C:
        inner = np.sum((x - cells[labels]) ** 2, axis=(1, 2)) / spread[labels, 0]
        found = float(np.sum(inner))
        yield _chi_square(found, (N - C) * K * d, f"noise of {of}")


@statistical(
    "The planted hierarchy",
    "Cov(F_icc', F_jcc'') = S_1 + [c'=c''] S_2 + [i=j][c'=c''] S_{3,c}",
    of_every_class,
    coarse="2^14 effects of classes: sees 10 % of a variance, 27 % of a grand mean's",
)
def W5(study: Study) -> Iterator[Comparison]:
    """Every level's sum of squares, whitened, is a chi-square of its own."""
    few = study.once(few_samples)
    C, rng = few.p.shape[1], np.random.default_rng(study.seed)
    d = -(-_COORDINATES // C)
    spread = tuple(np.asarray(rng.uniform(0.5, 2, C)).tolist())
    first, second = rng.uniform(0.5, 2, (2, d))
    m, nu = rng.standard_normal((C, d)), rng.standard_normal((C, C, d))
    features = few.features(d, spread, class_means=m, class_covariance=first)
    yield from _hierarchy(features, draw(features, rng=rng), "features")
    random = {"class_covariance": first, "cross_covariance": second}
    errors = few.errors(d, spread, cross_means=nu, **random)
    yield from _hierarchy(errors, draw(errors, rng=rng), "errors")
