"""Checks of theory/kronecker_designs.md: gradients of planted worlds, features shared.

Statements about a world's population are compared with its expectations in closed form.
Statements about a limit are compared with worlds of our own, drawn with fixed seeds in
growing sizes, up to where a theory without shared features separates from this one; the
outcome does not depend on the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from refspec import curvature, rounding, spectra
from refspec.populations import KroneckerPopulation, Population, expect_predictable
from refspec.random_matrix import KroneckerPrediction, predict
from refspec.random_matrix.comparison import kolmogorov
from refspec.random_matrix.kronecker.design import kronecker_design
from refspec.random_matrix.kronecker.kfac import kfac_eigenvalues
from refspec.random_matrix.kronecker.law import equivalent, expectation
from refspec.random_matrix.kronecker.spectrum import stieltjes
from refspec.synthetic import expectations, planted
from refspec.theorems.registry import Comparison, asymptotic, identity, of_a_world
from refspec.theorems.study import Study

#: Sides b = a of the worlds, and how often each is drawn.
LADDER = ((10, 120), (16, 80), (20, 40))
#: Sides and draws of coupled worlds, and their coupling.
COUPLED, COUPLING = ((10, 40), (16, 24), (20, 12)), 0.9
#: Classes, whose means are orthogonal.
CLASSES = 4

_U = 2.0**-53  # populations are float64
_ERRORS = 6.0  # standard errors of a mean over draws, exceeded once in 10^9
_DISTANCES = 16  # draws of a rung whose distribution functions are compared


def _populations(study: Study) -> Iterator[tuple[str, KroneckerPopulation]]:
    """Find the layers whose gradients are products with fixed means."""
    populations = study.world.populations if study.world else {}
    for name, population in populations.items():
        try:
            expect_predictable(population)
        except ValueError:  # no population: dependent given the means
            continue
        if isinstance(population, KroneckerPopulation):
            kinds = (population.errors, population.features)
            if not any("random" in (x.class_kind, x.cross_kind) for x in kinds):
                yield name, population


def _of_gradients(study: Study) -> str:
    """Ask for a planted layer with features, its means fixed."""
    missing = of_a_world(study)
    return missing or (
        ""
        if any(_populations(study))
        else "needs a layer with features and fixed means"
    )


@identity(
    "Gradients of one sample are correlated",
    "Cov(g_k, g_k') = delta_k delta_k'' (x) S_h + [k = k'] S_d (x) (S_h + h h')",
    _of_gradients,
    test="tests/random_matrix/kronecker/test_design.py::test_expectation_in_the_frame",
)
def G1(study: Study) -> Iterator[Comparison]:
    """Blocks of the frame against the expected Fisher matrix in closed form."""
    for name, population in _populations(study):
        design, dense = (
            kronecker_design(population),
            expectations.fisher_of_layers([population]),
        )
        made = expectation(design)
        blocks = made.blocks[0] + made.signal, *made.blocks[1:]
        found = np.concatenate(
            [
                np.tile(np.linalg.eigvalsh(x.real), n)
                for x, n in zip(blocks, design.multiplicities, strict=True)
            ]
        )
        exact, P = np.linalg.eigvalsh(dense), design.dimension
        trace = float(np.sum(np.abs(exact)))
        bound = 2 * rounding.eigensolver_radius(P, trace, _U)
        bound += rounding.gamma(16 * population.errors.weights.size, _U) * trace
        yield float(np.max(np.abs(np.sort(found) - exact))), bound, exact[-1], name


@identity(
    "What KFAC predicts instead",
    "all products of the eigenvalues of both expected factors: C^2 for C outliers",
    _of_gradients,
    test="tests/random_matrix/kronecker/test_outliers.py::test_kfac_has_the_products_of_both_factors",
)
def G5(study: Study) -> Iterator[Comparison]:
    """Products of the eigenvalues of both expected factors."""
    for name, population in _populations(study):
        C, w = population.errors.C, population.errors.weights
        left = sum(expectations.cross_moment(population.errors, c) for c in range(C))
        levels = expectations.feature_levels(population.features)
        sides = [np.linalg.eigvalsh(x) for x in (left, sum(levels.values()))]
        exact = np.sort(np.outer(*sides), axis=None)[::-1]
        trace = float(np.sum(np.abs(exact)))
        bound = 4 * rounding.eigensolver_radius(len(exact), trace, _U)
        bound += rounding.gamma(16 * w.size, _U) * trace
        found = kfac_eigenvalues(kronecker_design(population))
        yield float(np.max(np.abs(found - exact))), bound, exact[0], name


@dataclass(frozen=True, slots=True, eq=False)
class Rung:
    """Draws of one size: eigenvalues (draws, P), descending, and their population.

    along (draws,) is the sum of u'Mu over the leading eigenvectors of E M, less its
    expectation: what the top eigenvalues fluctuate with, to first order.
    """

    population: KroneckerPopulation
    values: np.ndarray
    along: np.ndarray

    @property
    def side(self) -> int:
        """Length b of the errors and of the features."""
        return self.population.errors.dimension


def gradients(b: int) -> KroneckerPopulation:
    """Return orthogonal class means, fixed cross-class means and unit noise in b x b.

    There are b^2 / 10 samples in a class.
    """
    rng = np.random.default_rng(0)
    C, n = CLASSES, b * b // 10
    delta, h = (
        size * np.linalg.qr(rng.standard_normal((b, C)))[0].T for size in (4.0, 5.0)
    )
    cells = 2 * rng.standard_normal((C, C, b)) / b**0.5
    w = np.full((C * n, C), 1 / (C * C * n))
    errors = Population((n,) * C, b, w, 1.0, class_means=delta, cross_means=cells)
    features = Population((n,) * C, b, C * w[:, :1], 1.0, class_means=h)
    return KroneckerPopulation(errors, features)


def climb(
    ladder: tuple[tuple[int, int], ...], seed: int, coupling: float = 0.0
) -> tuple[Rung, ...]:
    """Draw `gradients` in growing sizes, each so often."""
    return tuple(_rung(b, draws, seed, coupling) for b, draws in ladder)


@cache
def _rung(b: int, draws: int, seed: int, coupling: float) -> Rung:
    """Draw the spectrum of one size again and again."""
    population = replace(gradients(b), coupling=coupling)
    rng = np.random.default_rng([seed, population.dimension])
    expected, U = np.linalg.eigh(expectations.fisher_of_layers([population]))
    top, found, along = U[:, -CLASSES:], [], []
    for _ in range(draws):
        moment = curvature.fisher(planted({"x": population}, rng=rng).snapshot)
        made = spectra.spectrum(moment)
        found.append(np.append(made.values, np.zeros(made.n_zero)))
        along.append(np.sum(moment.dot(top) ** 2) - np.sum(expected[-CLASSES:]))
    return Rung(population, np.stack(found), np.asarray(along))


@asymptotic(
    "Deterministic equivalent with shared features",
    "H = sum_c D'B_c D (x) S_h + tr(B_c) S_d (x) (S_h + hh'), B_c = (1/W + A_c)^-1",
    deep=True,
    coarse="of the order 1/b^2 at b = 20: sees 2 %; sharing features changes 3 %",
)
def G2(study: Study) -> Iterator[Comparison]:
    """Compare Stieltjes transforms above the spectrum, where lengths matter least."""
    for rung in climb(LADDER, study.seed):
        z = complex(2, 1) * float(np.mean(rung.values))
        drawn = np.mean(1 / (rung.values - z), axis=1)
        centre = np.mean(drawn)
        spread = np.sqrt(np.mean(np.abs(drawn - centre) ** 2) / len(drawn))
        design = kronecker_design(rung.population)
        away = abs(stieltjes(design, equivalent(design, z)) - centre)
        bound = 5 / rung.side**2 * abs(centre) + _ERRORS * spread
        yield (
            float(away),
            float(bound),
            float(abs(centre)),
            f"m(z), b = a = {rung.side}",
        )


@asymptotic(
    "Coupled features and errors are two kinds of samples",
    "given its sign a sample's noise is scaled: G2, G3 with s, t = 1 +- |kappa|^.5",
    deep=True,
    coarse="of the order 1/b at b = 20: sees .07 of a distribution, 6 % of a sum",
)
def G6(study: Study) -> Iterator[Comparison]:
    """Compare spectra of coupled gradients, and their top C, with the law."""
    for rung in climb(COUPLED, study.seed, COUPLING):
        made, at = predict(rung.population), f"b = a = {rung.side}"
        away = [kolmogorov(made, v) for v in rung.values]
        yield float(np.mean(away)), 1.4 / rung.side, 1.0, f"KS distance, {at}"
        total = np.sum(rung.values[:, :CLASSES], axis=1) - rung.along
        centre = float(np.mean(total))
        spread = float(np.std(total)) / len(total) ** 0.5
        off = abs(float(np.sum(made.eigenvalues[:CLASSES])) - centre)
        bound = centre / 50 + _ERRORS * spread
        yield off, bound, centre, f"sum of the top {CLASSES}, {at}"


def _predictions(study: Study) -> list[tuple[Rung, KroneckerPrediction]]:
    """Predict every rung."""
    found = []
    for rung in climb(LADDER, study.seed):
        made = predict(rung.population)
        assert isinstance(made, KroneckerPrediction)
        found.append((rung, made))
    return found


@asymptotic(
    "Lengths of the noise vectors broaden the bulk",
    "given |epsilon|^2 and |eta|^2, S_d and S_h are scaled by them",
    deep=True,
    coarse="of the order 1/b at b = 20: sees .035 of a distribution function",
)
def G3(study: Study) -> Iterator[Comparison]:
    """Bound the mean Kolmogorov-Smirnov distance."""
    for rung, made in study.once(_predictions):
        away = [kolmogorov(made, v) for v in rung.values[:_DISTANCES]]
        at = f"KS distance, b = a = {rung.side}"
        yield float(np.mean(away)), 0.7 / rung.side, 1.0, at


@asymptotic(
    "Outliers of gradients",
    "an eigenvalue of H(lambda) + sum_c D'B_c D (x) hh' equals lambda",
    deep=True,
    coarse="of the order 1/P at P = 100 to 400: sees 1 % of the sum, 8 % of each",
)
def G4(study: Study) -> Iterator[Comparison]:
    """Compare the top C eigenvalues, in order and their sum, with means over draws."""
    for rung, made in study.once(_predictions):
        C, at = CLASSES, f"b = a = {rung.side}"
        predicted = made.fixed.values[:C]
        yield C - len(predicted), 0.0, C, f"outliers, {at}"
        # what the draws have along the expected eigenvectors is known, and taken off
        drawn = rung.values[:, :C]
        total = np.sum(drawn, axis=1) - rung.along
        centre = float(np.mean(total))
        spread = float(np.std(total)) / len(total) ** 0.5
        bound = centre / (2 * made.dimension) + _ERRORS * spread
        away = abs(float(np.sum(predicted)) - centre)
        yield away, bound, centre, f"sum of the top {C}, {at}"
        spreads = np.std(drawn, axis=0) / len(drawn) ** 0.5
        for k, centre in enumerate(np.mean(drawn, axis=0)[: len(predicted)].tolist()):
            bound = centre / 100 + _ERRORS * float(spreads[k])
            yield abs(predicted[k] - centre), bound, centre, f"outlier {k + 1}, {at}"
