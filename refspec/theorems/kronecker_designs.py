"""Checks of theory/kronecker_designs.md: gradients of planted worlds, features shared.

Statements about a world's population are compared with its expectations in closed form,
statements about a limit with worlds drawn again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from refspec import curvature, rounding, spectra
from refspec.populations import KroneckerPopulation, expect_predictable
from refspec.random_matrix import KroneckerPrediction, predict
from refspec.random_matrix.comparison import kolmogorov
from refspec.random_matrix.kronecker.design import kronecker_design
from refspec.random_matrix.kronecker.kfac import kfac_eigenvalues
from refspec.random_matrix.kronecker.law import equivalent, expectation
from refspec.random_matrix.kronecker.spectrum import stieltjes
from refspec.synthetic import expectations, planted
from refspec.theorems.registry import Comparison, asymptotic, identity, of_a_world
from refspec.theorems.study import Study

_U = 2.0**-53  # populations are float64
_DRAWS = 16


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
def G1(study: Study) -> Iterable[Comparison]:
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
        yield float(np.max(np.abs(np.sort(found) - exact))), bound, name


@identity(
    "What KFAC predicts instead",
    "all products of the eigenvalues of both expected factors: C^2 for C outliers",
    _of_gradients,
    test="tests/random_matrix/kronecker/test_outliers.py::test_kfac_has_the_products_of_both_factors",
)
def G5(study: Study) -> Iterable[Comparison]:
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
        yield float(np.max(np.abs(found - exact))), bound, name


def _predictions(study: Study) -> dict[str, KroneckerPrediction]:
    """Predict every layer."""
    made = {name: predict(population) for name, population in _populations(study)}
    return {k: x for k, x in made.items() if isinstance(x, KroneckerPrediction)}


def _spectra(study: Study) -> dict[str, np.ndarray]:
    """Draw the worlds again: eigenvalues (draws, P) of every layer."""
    found: dict[str, np.ndarray] = {}
    for name, population in _populations(study):
        assert study.world is not None
        rng, p = np.random.default_rng([study.seed, 5]), study.world.probabilities
        rows = []
        for _ in range(_DRAWS):
            drawn = planted({name: population}, rng=rng, probabilities=p)
            made = spectra.spectrum(curvature.fisher(drawn.snapshot))
            rows.append(np.append(made.values, np.zeros(made.n_zero)))
        found[name] = np.stack(rows)
    return found


@asymptotic(
    "Deterministic equivalent with shared features",
    "H = sum_c D'B_c D (x) S_h + tr(B_c) S_d (x) (S_h + hh'), B_c = (1/W + A_c)^-1",
    _of_gradients,
    test="tests/random_matrix/kronecker/test_law.py::test_stieltjes_transform_within_5_over_P",
)
def G2(study: Study) -> Iterable[Comparison]:
    """Compare Stieltjes transforms above the spectrum, where lengths matter least."""
    values = study.once(_spectra)
    for name, population in _populations(study):
        z = complex(2, 1) * float(np.mean(values[name]))
        drawn = np.mean(1 / (values[name] - z), axis=1)
        centre = np.mean(drawn)
        spread = np.sqrt(np.mean(np.abs(drawn - centre) ** 2) / _DRAWS)
        design = kronecker_design(population)
        made = stieltjes(design, equivalent(design, z))
        bound = 5 / _smaller(population) ** 2 * abs(centre) + 6 * spread
        yield float(abs(made - centre)), float(bound), name


@asymptotic(
    "Lengths of the noise vectors broaden the bulk",
    "given |epsilon|^2 and |eta|^2, S_d and S_h are scaled by them",
    _of_gradients,
    deep=True,
    test="tests/random_matrix/kronecker/test_spectrum.py::test_distance_with_and_without_lengths",
)
def G3(study: Study) -> Iterable[Comparison]:
    """Bound the mean Kolmogorov-Smirnov distance."""
    for name, made in study.once(_predictions).items():
        drawn = study.once(_spectra)[name]
        b = _smaller(dict(_populations(study))[name])
        distance = float(np.mean([kolmogorov(made, v) for v in drawn]))
        yield distance, 0.7 / b, name


def _smaller(population: KroneckerPopulation) -> int:
    """Return the smaller of b and a, whose square is P in a square layer."""
    return min(population.errors.dimension, population.features.dimension)


@asymptotic(
    "Outliers of gradients",
    "an eigenvalue of H(lambda) + sum_c D'B_c D (x) hh' equals lambda",
    _of_gradients,
    deep=True,
    test="tests/random_matrix/kronecker/test_outliers.py::test_sum_of_the_top_C",
)
def G4(study: Study) -> Iterable[Comparison]:
    """Compare the sum of the outliers with its mean over draws."""
    for name, made in study.once(_predictions).items():
        r = len(made.fixed.values)
        drawn = np.sum(study.once(_spectra)[name][:, :r], axis=1)
        spread = float(np.std(drawn)) / np.sqrt(_DRAWS)
        bound = made.total / (2 * made.dimension) + 6 * spread
        yield abs(float(np.mean(drawn)) - made.total), bound, f"{name}, {r} outliers"
