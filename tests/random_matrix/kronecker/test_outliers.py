"""Outliers of gradients against draws: each in order, overlaps; KFAC's are wrong."""

import dataclasses
import functools

import numpy as np
import pytest

from refspec import rounding
from refspec.populations import KroneckerPopulation, Population
from refspec.random_matrix.assumptions import (
    effective_dimension,
    second_order,
    sides,
)
from refspec.random_matrix.kronecker.design import (
    kronecker_design,
    lifted,
    mean_span,
)
from refspec.random_matrix.kronecker.kfac import kfac_eigenvalues
from refspec.random_matrix.kronecker.outliers import kronecker_outliers
from refspec.random_matrix.kronecker.spectrum import tabulate
from support.kronecker_worlds import gradients, spectra, world

POPULATION = world(10, 10, 4, 10)
DRAWS, EDGE, C = 400, 33.0, 4


@functools.cache
def found():
    return kronecker_outliers(kronecker_design(POPULATION), EDGE)


def test_each_in_order_mixes_as_drawn():
    """Expected order statistics, not the centres; deviations to a fourth."""
    values = spectra(world(10, 10, 4, 10, cross=0.0), DRAWS)[:, :C]
    made = kronecker_outliers(kronecker_design(world(10, 10, 4, 10, cross=0.0)), EDGE)
    error = 4 * np.std(values, axis=0) / np.sqrt(DRAWS)
    bound = error + np.mean(values, axis=0) / 100
    assert np.all(np.abs(made.each.values - np.mean(values, axis=0)) <= bound)
    assert not np.all(np.abs(made.centres - np.mean(values, axis=0)) <= bound)
    ratio = np.std(values, axis=0) / made.each.deviations
    assert np.all(ratio <= 4 / 3)
    assert np.all(ratio >= 3 / 4)


def power_laws(errors, features):
    """Three classes whose noise has few directions: power-law factors."""
    plain = world(12, 8, 3, 15, errors=errors, features=features)

    def falling(side):
        values = 1 / np.arange(1, side.dimension + 1.0)
        shape = values * side.dimension / np.sum(values)
        return dataclasses.replace(side, within_covariance=shape)

    return KroneckerPopulation(falling(plain.errors), falling(plain.features))


@pytest.mark.slow
@pytest.mark.theorem("G4")
@pytest.mark.parametrize("lengths", [(2.0, 3.0), (3.0, 3.0), (4.0, 5.0)])
def test_few_effective_dimensions_cost_the_second_order(lengths):
    """(E / lambda)^2 / r of an outlier, E / lambda of its deviation; 1 / 2P is not."""
    population = power_laws(*lengths)
    design, draws = kronecker_design(population), 150
    edge = tabulate(design, resolution=1.0).bands[-1].upper
    made = kronecker_outliers(design, edge)
    found, r = made.each.values, len(made.each.values)
    values = spectra(population, draws)[:, :r]
    centre, spread = np.mean(values, axis=0), np.std(values, axis=0)
    size = min(effective_dimension(x) for x in sides(population))
    total = np.sum(values, axis=1)
    error = 6 * np.std(total) / draws**0.5
    away = abs(np.mean(total) - made.total)
    assert away <= np.sum(second_order(edge, found, size) * found) + error
    near = edge / found
    assert np.all(spread - made.each.deviations <= near * spread + 6 * spread / 17)
    if lengths == (2.0, 3.0):
        assert away > centre.sum() / (2 * population.dimension) + error / 2


def test_overlaps_with_the_span_of_the_means():
    design = kronecker_design(POPULATION)
    basis = lifted(design, mean_span(design))
    rng, shares = np.random.default_rng(1), []
    for _ in range(60):
        x = gradients(POPULATION, rng)
        vectors = np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :C]
        shares.append(np.sum((basis @ vectors) ** 2, axis=0))
    error = 4 * np.std(shares, axis=0) / np.sqrt(60)
    off = np.abs(found().each.overlaps[:C] - np.mean(shares, axis=0))
    assert np.all(off <= 0.02 + error)


def test_nothing_stands_out_above_everything():
    none = kronecker_outliers(kronecker_design(POPULATION), 1e4)
    assert (len(none.each.values), none.total) == (0, 0.0)


@pytest.mark.theorem("G5")
def test_kfac_has_the_products_of_both_factors():
    """Dense factors as the oracle; C^2 values where there are C, too small by C."""
    errors, features = POPULATION.errors, POPULATION.features
    means = errors.fixed_means()
    w = errors.weights[0, 0] * 10
    left = w * np.einsum("ckb,ckd->bd", means, means) + w * C * C * np.eye(10)
    h = features.fixed_means()[:, 0]
    right = h.T @ h / C + np.eye(10)
    dense = np.linalg.eigvalsh(np.kron(left, right))[::-1]
    kfac = kfac_eigenvalues(kronecker_design(POPULATION))
    assert np.max(np.abs(kfac - dense)) <= rounding.gamma(5000, 2.0**-53) * dense[0]
    one = np.full((C, C), 1 / (C * C))
    bare = KroneckerPopulation(
        Population((1,) * C, 5, one, 0.0, class_means=2 * np.eye(C, 5)),
        Population((1,) * C, 6, one[:, :1], 0.0, class_means=3 * np.eye(C, 6)),
    )
    bound = rounding.gamma(200, 2.0**-53) * 36
    found = kfac_eigenvalues(kronecker_design(bare))
    assert np.max(np.abs(found[: C * C] - 36 / C**2)) <= bound
    assert np.max(np.abs(found[C * C :])) <= bound
    assert not np.max(np.abs(found[:C] - 36 / C)) <= bound


def test_kfac_weighs_the_noise_of_every_class():
    """Unequal classes, each with its noise, in more dimensions than means span."""
    sizes, rng = (2, 5, 3), np.random.default_rng(1)
    weights, labels = rng.uniform(0.5, 2, (10, 3)), np.repeat([0, 1, 2], sizes)
    errors = Population(
        sizes, 12, weights, (1.0, 2.0, 4.0), class_means=3 * np.eye(3, 12)
    )
    ones = np.full((10, 1), 1 / 10)
    features = Population(sizes, 6, ones, (3.0, 0.5, 1.0), class_means=np.eye(3, 6))
    mass = [weights[labels == c].sum() for c in range(3)]
    left = np.diag(np.r_[9 * np.asarray(mass), np.zeros(9)])
    left += np.dot(mass, [1, 2, 4]) * np.eye(12)
    share = np.asarray(sizes) / 10
    right = np.diag(np.r_[share, np.zeros(3)]) + share @ [3, 0.5, 1] * np.eye(6)
    exact = np.sort(np.outer(np.diag(left), np.diag(right)), axis=None)[::-1]
    found = kfac_eigenvalues(kronecker_design(KroneckerPopulation(errors, features)))
    assert np.max(np.abs(found - exact)) <= rounding.gamma(5000, 2.0**-53) * exact[0]
