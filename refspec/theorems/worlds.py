"""Checks of theory/worlds.md: populations planted in the place of a snapshot.

#W1 to #W5 are about the parts of planted worlds. #W6 to #W10 take the classes of the
snapshot, their sizes, weights and probabilities. An expectation of a quadratic form in
independent unit noise is its sum over the unit vectors, so the expected levels are
compared exactly: the levels of `refspec.structure` on one unit vector of noise after
the other, against the closed form. #W11 to #W16 are about logistic regression: on the
features of the last layer, where p may be made constant within a class, and in the
canonical model with the snapshot's classes, signal and misclassification.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import scipy.special

from refspec import backend, classes, curvature, rounding, structure
from refspec.classes import Layer, Snapshot, class_slices
from refspec.curvature import SecondMoment
from refspec.kronecker.eigensystems import certified_spectrum
from refspec.populations import KroneckerPopulation, Population
from refspec.synthetic import (
    covariances,
    expectations,
    geometry,
    groups,
    logistic,
    planted,
    regression,
)
from refspec.synthetic.worlds import draw
from refspec.theorems.canonical import (
    Canonical,
    canonical,
    exact_samples,
    few_classes,
    spread_out,
)
from refspec.theorems.quantities import norm
from refspec.theorems.registry import (
    Comparison,
    identity,
    inequality,
    of_every_class,
    statistical,
)
from refspec.theorems.samples import Few, few_samples, softened
from refspec.theorems.study import Study

_U = 2.0**-53  # worlds are drawn and expected in float64
_SIDE = 200  # of a covariance
_DRAWS = 2**18
_COORDINATES = 2**14  # of all class means together
_SUMS = 7  # of squares, for features and errors
_COUPLING = 0.5
_DECISIONS = 2**17
_PARAMETERS = 700
_DECAY = 0.125
_FITTED = 2.0**-26  # of the gradient at 0 is left at a fit


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


def _each_vector(moment: SecondMoment) -> dict[str, np.ndarray]:
    """Return every level's quadratic form at every coordinate: its diagonal."""
    rows = moment.dot(np.eye(moment.shape[1]))
    levels = structure.decompose(moment).levels
    return {n: np.sum(x.project(rows) ** 2, axis=(0, 1)) for n, x in levels.items()}


@identity(
    "Expected levels of features",
    "E H_within = sum_c (s_c - q_c/s_c) S_{3,c}; E H_global, E H_between likewise",
    few_classes,
)
def W6(study: Study) -> Iterator[Comparison]:
    """Coefficients of S_{3,c} and S_1, and the levels of planted means."""
    few = study.once(few_samples)
    N, C = few.p.shape
    of_class = np.eye(C)[few.labels]
    design = np.concatenate([np.eye(N), of_class], axis=1)
    empty = np.zeros((N, C, 1))
    forms = _each_vector(curvature.features(few.snapshot(design, empty), "x"))
    g = rounding.gamma(16 * N + 64, _U)
    for c in range(C + 1):
        if c < C:
            population = few.features(1, tuple(np.eye(C)[c]))
            chosen = np.flatnonzero(few.labels == c)
        else:
            population = few.features(1, 0.0, class_covariance=1.0)
            chosen = N + np.arange(C)
        expected = expectations.feature_levels(population)
        total = sum(float(np.sum(x[chosen])) for x in forms.values())
        for name, form in forms.items():
            away = abs(float(np.sum(form[chosen])) - float(expected[name].item()))
            yield away, g * total, total, f"noise of class {c} in {name}"
    m = np.random.default_rng(study.seed).standard_normal((C, 3))
    population = few.features(3, 0.0, class_means=m)
    expected = expectations.feature_levels(population)
    moment = curvature.features(few.snapshot(m[few.labels], empty), "x")
    size = float(np.sum(m * m))
    for name, level in structure.decompose(moment).levels.items():
        away = norm(level.matrix() - expected[name])
        yield away, g * size, norm(moment.matrix()), f"means in {name}"


def _components(few: Few, consistent: bool) -> dict[str, np.ndarray]:
    """Return the errors (n, C, m) of unit noise, cross-class and class effects."""
    N, C = few.p.shape
    noise = np.eye(N * C).reshape(N, C, N * C)
    cross = np.eye(C * C).reshape(C, C, C * C)[few.labels]
    own = np.repeat(np.eye(C)[few.labels][:, None, :], C, axis=1)
    parts = {"noise": noise, "cross": cross, "class": own}
    if consistent:
        every = np.arange(N)
        for x in parts.values():
            x[every, few.labels] = 0
            score = np.sum(few.p[:, :, None] * x, axis=1)
            x[every, few.labels] = -score / few.p[every, few.labels][:, None]
    return parts


def _error_levels(study: Study, consistent: bool) -> Iterator[Comparison]:
    """Compare coefficients of S_{3,c}, S_2 and S_1."""
    few = study.once(softened if consistent else few_samples)
    N, C = few.p.shape
    g = rounding.gamma(32 * N * C + 64, _U)
    given = {"score_consistent": consistent}
    effects = {
        "cross": few.errors(1, 0.0, cross_covariance=1.0, **given),
        "class": few.errors(1, 0.0, class_covariance=1.0, **given),
    }
    one = np.ones((N, 1))
    for kind, design in _components(few, consistent).items():
        forms = _each_vector(curvature.errors(few.snapshot(one, design), "x"))
        columns = design.shape[2]
        if kind == "noise":  # noise of each class by itself
            owner = np.repeat(few.labels, C)
            chosen = [
                (f"noise of class {c}", owner == c, tuple(np.eye(C)[c]))
                for c in range(C)
            ]
            cases = [
                (name, which, few.errors(1, within, **given))
                for name, which, within in chosen
            ]
        else:
            cases = [(f"{kind} effects", np.ones(columns, dtype=bool), effects[kind])]
        for what, which, population in cases:
            expected = expectations.error_levels(population)
            total = sum(float(np.sum(x[which])) for x in forms.values())
            for name, form in forms.items():
                away = abs(float(np.sum(form[which])) - float(expected[name].item()))
                yield away, g * total, total, f"{what} in {name}"


@identity(
    "Expected levels of errors",
    "E V_1, E V_2, E V_=, E V_3 are known multiples of means, S_1, S_2, S_{3,c}",
    few_classes,
)
def W7(study: Study) -> Iterator[Comparison]:
    """Compare coefficients of independent errors, and levels of planted means."""
    yield from _error_levels(study, False)
    few = study.once(few_samples)
    N, C = few.p.shape
    m = np.random.default_rng(study.seed).standard_normal((C, C, 3))
    expected = expectations.error_levels(few.errors(3, 0.0, cross_means=m))
    moment = curvature.errors(few.snapshot(np.ones((N, 1)), m[few.labels]), "x")
    bound = rounding.gamma(32 * N * C + 64, _U) * float(np.sum(m * m))
    for name, level in structure.decompose(moment).levels.items():
        away = norm(level.matrix() - expected[name])
        yield away, bound, norm(moment.matrix()), f"means in {name}"


@identity(
    "Score-consistent errors",
    "sum_c' p delta = 0; V_1, V_2 as planted; the diagonal by the odds",
    few_classes,
)
def W8(study: Study) -> Iterator[Comparison]:
    """Scores of a planted world vanish; levels of score-consistent errors."""
    few = study.once(softened)
    C, rng = few.p.shape[1], np.random.default_rng(study.seed)
    errors = few.errors(4, 1.0, score_consistent=True)
    made = planted({"x": errors}, probabilities=few.p, rng=rng).snapshot
    e, p = made.layers[0].errors[:, :, 0], made.probabilities[:, :, None]
    bound = rounding.gamma(2 * C + 8, _U) * np.sum(p * np.abs(e), axis=1)
    away = np.abs(np.sum(p * e, axis=1))
    k = int(np.argmax(away / np.where(bound > 0, bound, 1)))
    size = float(np.sum(p * np.abs(e), axis=1).flat[k])
    yield away.flat[k], bound.flat[k], size, "score of a sample"
    yield from _error_levels(study, True)


def _second(few: Few, x: np.ndarray) -> np.ndarray:
    """Return the sum of squares over the last axis, weighted: (n,)."""
    return np.asarray(np.sum(few.w * np.sum(x**2, axis=2), axis=1))


@identity(
    "Expected Fisher: a Kronecker identity that fails",
    "E G = sum_c A_c (x) H_c + kappa sum_c nu_c S_{3,c} (x) S^h_c",
    few_classes,
)
def W9(study: Study) -> Iterator[Comparison]:
    """Signs enumerated, noise by its unit vectors, in one dimension."""
    few = study.once(softened)
    C = few.p.shape[1]
    rng = np.random.default_rng(study.seed)
    m, mu = (np.asarray(rng.standard_normal(x)) for x in ((C, C), C))
    S, T = (np.asarray(rng.uniform(0.5, 2, C)) for _ in range(2))
    for consistent in (False, True):
        parts = _components(few, consistent)
        planted_means = np.tensordot(parts["cross"], m.reshape(-1, 1), axes=1)
        unit = parts["noise"] * np.sqrt(np.repeat(S[few.labels], C))
        fixed, noisy = _second(few, planted_means), _second(few, unit)
        for coupling in (0.0, _COUPLING, -_COUPLING):
            r, sign = abs(coupling) ** 0.5, math.copysign(1.0, coupling)
            both = np.zeros(len(few.s))
            for z in (-1.0, 1.0):
                d = fixed + (1 + sign * r * z) * noisy
                h = mu[few.labels] ** 2 + (1 + r * z) * T[few.labels]
                both += d * h / 2
            alone = (fixed + noisy) * (mu**2 + T)[few.labels]
            errors = few.errors(
                1,
                tuple(S),
                cross_means=m[:, :, None],
                score_consistent=consistent,
            )
            features = few.features(1, tuple(T), class_means=mu[:, None])
            coupled = KroneckerPopulation(errors, features, coupling)
            expected = expectations.fisher_of_layers([coupled]).item()
            bound = rounding.gamma(64 * few.p.size, _U) * float(np.sum(alone + both))
            away = abs(float(np.sum(both)) - expected)
            yield away, bound, expected, f"E G, coupling {coupling}"
            mass = np.bincount(few.labels, few.s)[few.labels]
            share = few.s / np.where(mass > 0, mass, 1)
            gap = float(np.sum((both - alone) * (1 - share)))
            sampled = expectations.fisher_coupling(coupled, sampled=True)
            away = abs(gap - sampled.item())
            yield away, bound, expected, f"E[G - CFAC], coupling {coupling}"


@identity(
    "Orthogonal class means: five eigenvalues",
    "matched C, mismatched C(C-1), error C(d-C), feature C(b-C), noise the rest",
    few_classes,
)
def W10(study: Study) -> Iterator[Comparison]:
    """Five eigenvalues, for the probabilities of one sample of each class."""
    few = study.once(few_samples)
    C = few.p.shape[1]
    first = np.searchsorted(few.labels, np.arange(C))
    rng = np.random.default_rng(study.seed)
    d = C + 1
    (size, other), (noise, more) = rng.uniform(0.5, 2, (2, 2)).tolist()

    def side(weights: np.ndarray, length: float, variance: float) -> Population:
        m = geometry.means_of_gram(length**2 * np.eye(C), d, rng=rng)
        return Population((1,) * C, d, weights, variance, class_means=m)

    errors = side(few.p[first] / C, size, noise)
    features = side(np.full((C, 1), 1 / C), other, more)
    coupled = KroneckerPopulation(errors, features, _COUPLING)
    matrix = expectations.fisher_of_layers([coupled])
    found = groups.independent_groups(
        C,
        d,
        d,
        error_norm=size,
        feature_norm=other,
        error_noise=noise,
        feature_noise=more,
        coupling=_COUPLING,
    )
    values, radius = certified_spectrum((matrix + matrix.T) / 2)
    formed = rounding.gamma(16 * C * C + 64, _U) * float(np.trace(matrix)) * C
    away = float(np.max(np.abs(values - spread_out(found))))
    yield away, radius + formed, float(values[0]), f"C = {C}, b = a = {d}"


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
    errors = mean[s.labels][:, None, :] - np.eye(C)
    for c in range(C):  # p_c - 1 is minus the other p
        errors[:, c, c] = -np.delete(mean, c, axis=1).sum(axis=1)[s.labels]
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
