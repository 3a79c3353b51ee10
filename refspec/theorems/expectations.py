"""Checks of theory/expectations.md: populations planted in the place of a snapshot.

They take its classes, their sizes, weights and probabilities. An expectation of a
quadratic form in independent unit noise is its sum over the unit vectors, so the
expected levels are compared exactly: the levels of `refspec.structure` on one unit
vector of noise after the other, against the closed form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from refspec import curvature, rounding, structure
from refspec.curvature import SecondMoment
from refspec.kronecker.eigensystems import certified_spectrum
from refspec.populations import KroneckerPopulation, Population
from refspec.synthetic import expectations, geometry, groups, planted
from refspec.theorems.canonical import few_classes, spread_out
from refspec.theorems.quantities import norm
from refspec.theorems.registry import Comparison, identity
from refspec.theorems.samples import Few, few_samples, softened
from refspec.theorems.study import Study

_U = 2.0**-53  # worlds are drawn and expected in float64
_COUPLING = 0.5


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
