"""Checks of theory/regressions.md: Hessians of regressions, and a regression fitted.

Both are limits: spectra are drawn in growing dimensions with fixed seeds and compared
with their law; the outcome does not depend on the snapshot and is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.optimize

from refspec import curvature, rounding
from refspec.populations import Population
from refspec.random_matrix import fitted, regressions
from refspec.random_matrix.comparison import kolmogorov
from refspec.random_matrix.prediction import Prediction
from refspec.synthetic.regression import fit_logistic, observe_logistic
from refspec.synthetic.worlds import draw
from refspec.theorems.deviations import deviations, in_deviations
from refspec.theorems.registry import Comparison, asymptotic
from refspec.theorems.study import Study

#: Dimensions of the inputs, and how often each is drawn.
LADDER = ((40, 480), (80, 48), (160, 12))
#: Dimensions of the fitted regressions, and how often each is drawn and fitted.
FITS = ((12, 48), (24, 24), (48, 12))
#: Classes, length of a mean, decay and label noise of those.
FITTED = (3, 3.0, 0.01, 0.2)
#: Units of 1 / d, share of the rank that a table may err by, deviations.
DISTANCE, TABLE, SCORE = 4.0, 0.01, 4.5

_ERRORS = 6.0  # standard errors of a mean over draws, exceeded once in 10^9
_ROWS = 12  # samples for each dimension
_FITTED_ROWS = 3  # of a class, where a regression is fitted


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A regression: inputs, directions and the curvature of its loss."""

    inputs: Population
    directions: np.ndarray
    curvature: Callable[[np.ndarray, np.ndarray], np.ndarray]


def squared(d: int) -> Model:
    """Return isotropic inputs of mean 0 and min(z^2, 4): an outlier along w."""
    N = _ROWS * d
    inputs = Population((N,), d, np.full((N, 1), 1 / N), 1.0)

    def capped(z: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.asarray(np.minimum(z[:, 0] ** 2, 4))

    return Model(inputs, np.eye(1, d), capped)


def logistic(d: int) -> Model:
    """Return two classes and p (1 - p), times what another direction says of it."""
    n, mean = _ROWS * d // 2, 3 * np.eye(1, d)
    means = np.concatenate([mean, -mean])
    weights = np.full((2 * n, 1), 0.5 / n)
    within = np.linspace(0.5, 1.5, d)
    inputs = Population((n, n), d, weights, within, class_means=means)
    w = np.zeros((2, d))
    w[0, [0, 3]], w[1, 4] = (0.9, 0.5), 1

    def bent(z: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.asarray((1 + 0.5 * np.tanh(z[:, 1])) / (2 + 2 * np.cosh(z[:, 0])))

    return Model(inputs, w, bent)


@cache
def _drawn(make: Callable[[int], Model], d: int, draws: int, seed: int) -> np.ndarray:
    """Draw Hessians, inputs and all; return eigenvalues (draws, d), descending."""
    model, rng, found = make(d), np.random.default_rng([seed, d]), []
    for _ in range(draws):
        x = draw(model.inputs, rng=rng)[:, 0]
        g = model.curvature(x @ model.directions.T, model.inputs.labels)
        H = (x * (g * model.inputs.weights[:, 0])[:, None]).T @ x
        found.append(np.linalg.eigvalsh(H)[::-1])
    return np.stack(found)


def outlier_along(g: np.ndarray, xi: np.ndarray, d: int) -> float:
    """Return where the outlier of isotropic inputs along their one direction is.

    Of curvatures g / N (N,) and outputs of unit variance xi.
    Theory: theory/regressions.md#Z1
    """

    def located(delta: float) -> tuple[float, float]:
        e = g / (1 + g * delta)
        return float(np.sum(e)) - (d - 1) / delta, float(np.sum(e * xi**2))

    def excess(delta: float) -> float:
        x, along = located(delta)
        return x - along

    # delta rises from 0 (x infinite) down to the first pole; the last sign change
    grid = -np.geomspace(2.0**-20, 1 - 2.0**-20, 400) / float(np.max(g))
    signs = np.asarray([excess(float(x)) for x in grid]) > 0
    k = int(np.argmin(signs))
    return located(float(scipy.optimize.brentq(excess, grid[k - 1], grid[k])))[0]


def _against(
    made: Prediction, values: np.ndarray, d: int, at: str
) -> Iterator[Comparison]:
    """Compare drawn spectra with a prediction: distribution, count, outliers."""
    away = [made.dimension * kolmogorov(made, v) for v in values]
    bound = DISTANCE + TABLE * made.dimension
    yield float(np.mean(away)), bound, made.dimension, f"{at}: KS distance, in values"
    r = len(made.outliers.values)
    yield abs(r - 1), 0.0, 1.0, f"{at}: outliers"
    if not r:
        return
    scores = (values[:, :r] - made.outliers.values) / made.outliers.deviations
    found = deviations(scores, made.outliers)
    yield from in_deviations(found, SCORE, f"{at}: an outlier")
    wide, error = found.spread
    bound = 10 / d + _ERRORS * error
    yield abs(wide), bound, 1.0, f"{at}: its variance, over predicted"


@asymptotic(
    "Hessians of generalised linear models",
    "sum w_i g_i x_i x_i', g of a few outputs: Y1 with numbers; an outlier along w",
    deep=True,
    coarse="errors of order 1/d: sees a KS distance of .1, 4 deviations of an outlier",
)
def Z1(study: Study) -> Iterator[Comparison]:
    """Compare Hessians drawn in growing dimensions with their law."""
    for d, draws in LADDER:
        for make in (logistic, squared):
            model = make(d)
            args = model.inputs, model.directions, model.curvature
            made = regressions.predict_glm(*args)
            values = _drawn(make, d, draws, study.seed)
            yield from _against(made, values, d, f"{make.__name__}, d = {d}")
        z = regressions.outputs_of(model.inputs, model.directions, 0)
        g = model.curvature(z, model.inputs.labels) / len(z)
        there = outlier_along(g, z[:, 0], d)
        here = float(np.sum(made.outliers.values))
        yield abs(here - there), there / d, there, f"in closed form, d = {d}"


@cache
def _fits(D: int, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit regressions; return alignments (draws,) and eigenvalues (draws, C D)."""
    C, t, decay, noise = FITTED
    n, rng = _FITTED_ROWS * D, np.random.default_rng([seed, D])
    labels, centre = np.repeat(np.arange(C), n), np.eye(C) - 1 / C
    aligned, found = [], []
    for _ in range(draws):
        x = rng.standard_normal((C * n, D))
        x[np.arange(C * n), labels] += t
        noisy = labels.copy()
        some = rng.permutation(C * n)[: round(noise * C * n)]
        noisy[some] = (noisy[some] + rng.integers(1, C, len(some))) % C
        W = fit_logistic(x, noisy, decay=decay)
        aligned.append(np.sum(W[:, :C] * centre) / (C - 1))
        G = curvature.fisher(observe_logistic(x, noisy, W)).matrix()
        values = np.linalg.eigvalsh(G)[::-1]
        least = rounding.eigensolver_radius(len(G), float(values[0]), 2.0**-53)
        found.append(np.where(values > least, values, 0.0))  # what all classes share
    return np.asarray(aligned), np.stack(found)


@asymptotic(
    "Logistic regression that is fitted",
    "three numbers solve three equations; Y1 given the logits without the sample",
    deep=True,
    coarse="errors of order 1/D: sees 10 % of an alignment, a KS distance of .1",
)
def Z2(study: Study) -> Iterator[Comparison]:
    """Compare regressions that are fitted in growing dimensions with their law."""
    C, t, decay, noise = FITTED
    for D, draws in FITS:
        made = fitted.predict_fit(
            C, D, _FITTED_ROWS * D, signal=t * t, decay=decay, label_noise=noise
        )
        aligned, values = _fits(D, draws, study.seed)
        mean, spread = float(np.mean(aligned)), float(np.std(aligned)) / draws**0.5
        away = abs(made.alignment - mean)
        yield away, mean / D + _ERRORS * spread, mean, f"alignment, D = {D}"
        distances = [kolmogorov(made.prediction, v) for v in values]
        P, at = C * D, f"KS distance in values, D = {D}"
        yield P * float(np.mean(distances)), DISTANCE + TABLE * P, P, at
        for what, part in (("top", slice(C)), ("rest", slice(C, (C - 1) * D))):
            seen = np.mean(values[:, part], axis=1)
            mean, spread = float(np.mean(seen)), float(np.std(seen)) / draws**0.5
            here = float(np.mean(made.prediction.eigenvalues[part]))
            bound = mean / D + _ERRORS * spread
            yield abs(here - mean), bound, mean, f"mean of the {what}, D = {D}"
