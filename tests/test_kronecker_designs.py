"""Designs: frames hold the means, kinds of samples add up to the samples."""

import dataclasses

import numpy as np
import pytest
from kronecker_worlds import world

from refspec import rounding
from refspec.populations import KroneckerPopulation, Population
from refspec.random_matrix.kronecker_designs import kronecker_design

U = 2.0**-53


def test_frames_keep_inner_products():
    population = world(9, 7, 3, 5)
    design = kronecker_design(population)
    for side, law in (
        (design.errors, population.errors),
        (design.features, population.features),
    ):
        flat, full = side.means.reshape(-1, side.means.shape[2]), law.fixed_means()
        full = full.reshape(-1, law.dimension)
        bound = rounding.gamma(100 * len(full), U) * float(np.sum(full**2))
        assert np.max(np.abs(flat @ flat.T - full @ full.T)) <= bound
        assert side.dimension == law.dimension
    assert design.features.means.shape[2] == 3
    assert design.multiplicities == (1, 4, 0, 0)


@pytest.mark.parametrize("lengths", [False, True])
def test_kinds_add_up_to_the_samples(lengths):
    population = world(5, 6, 3, 4)
    weights = np.array(population.errors.weights)
    weights[:2] *= 2
    weights[5, 1] = 0
    errors = dataclasses.replace(population.errors, weights=weights)
    population = KroneckerPopulation(errors, population.features)
    samples = kronecker_design(population, lengths=lengths).samples
    assert np.all(samples.over(np.ones(len(samples.counts))) == 4)
    bound = rounding.gamma(1000, U) * float(np.sum(weights))
    for c, mass in enumerate(samples.over(samples.weights)):
        assert np.max(np.abs(mass - weights[4 * c : 4 * c + 4].sum(axis=0))) <= bound
    for x in (samples.features, samples.errors):
        assert lengths or np.all(x == 1)
        for c in range(3):
            mine = x[samples.labels == c]
            off = np.max(np.abs(np.mean(mine, axis=0) - 1))
            assert off <= (1.0 if lengths else 0.0)
            assert np.all(mine > 0)


def test_lengths_have_the_variance_of_chi_square():
    """2 / b for errors, 2 / a for features, from 128 points of a quadrature."""
    samples = kronecker_design(world(10, 40, 4, 5), lengths=True).samples
    found = np.var(samples.errors), np.var(samples.features)
    for value, d in zip(found, (10, 40), strict=True):
        assert abs(value - 2 / d) <= 0.2 * 2 / d
        assert not abs(value - 1 / d) <= 0.2 * 2 / d


@pytest.mark.parametrize(
    ("errors", "features", "message"),
    [
        ({"class_covariance": 1.0}, {}, "means of the errors must be fixed"),
        ({"cross_covariance": 1.0}, {}, "cross-class means random"),
        ({}, {"class_covariance": 1.0}, "means of the features must be fixed"),
    ],
)
def test_random_levels_are_refused(errors, features, message):
    ones = np.ones((4, 2))
    law = KroneckerPopulation(
        Population((2, 2), 3, ones, 1.0, **errors),
        Population((2, 2), 3, ones[:, :1], 1.0, **features),
    )
    with pytest.raises(ValueError, match=message):
        kronecker_design(law)
