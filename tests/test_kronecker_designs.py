"""Designs: frames hold the means, kinds of samples add up to the samples."""

import dataclasses

import numpy as np
import pytest
from generated import holds, rejected
from kronecker_worlds import world

from refspec import rounding
from refspec.populations import KroneckerPopulation, Population
from refspec.random_matrix.kronecker_designs import kronecker_design
from refspec.synthetic import Recipe
from refspec.theorems import Study
from refspec.theorems import kronecker_designs as theorems
from refspec.theorems.kronecker_designs import THEOREMS

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


@pytest.mark.theorem("G1")
@pytest.mark.parametrize("counts", [(5, 5, 5), (1, 4, 2)])
def test_expectation_in_the_frame(counts, monkeypatch):
    """The check of the registry; the mutant, features of one class for all, fails."""
    recipe = Recipe(
        classes=3,
        dim=6,
        per_class=counts,
        means="orthogonal",
        cross_strength=2.0,
        feature_dim=4,
        confidence=1.0,
        spread=1.0,
    )
    world = recipe.plant()
    study = Study(world.snapshot, world=world)
    holds(THEOREMS, "G1", study)
    holds(THEOREMS, "G5", study)
    true = theorems.kronecker_design

    def mixed(law):
        design = true(law)
        side = design.features
        means = np.repeat(side.means[:1], 3, axis=0)
        return dataclasses.replace(
            design, features=dataclasses.replace(side, means=means)
        )

    monkeypatch.setattr(theorems, "kronecker_design", mixed)
    rejected(THEOREMS, "G1", study)


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
