"""Designs: frames hold the means, kinds of samples add up to the samples."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import rounding
from refspec.populations import KroneckerPopulation, Population
from refspec.random_matrix.kronecker.design import kronecker_design
from refspec.theorems import kronecker_designs as theorems
from support.kronecker_worlds import planted, world
from support.verdicts import holds, rejected

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
@given(
    st.integers(2, 4),
    st.integers(1, 6),
    st.integers(1, 5),
    st.lists(st.integers(1, 5), min_size=4, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_expectation_in_the_frame(C, b, a, counts, seed):
    drawn = planted(C, b, a, counts, seed)
    holds("G1", drawn)
    holds("G5", drawn)


def test_features_of_one_class_for_all_are_rejected(monkeypatch):
    true = theorems.kronecker_design

    def mixed(law):
        design = true(law)
        means = np.repeat(design.features.means[:1], 3, axis=0)
        side = dataclasses.replace(design.features, means=means)
        return dataclasses.replace(design, features=side)

    monkeypatch.setattr(theorems, "kronecker_design", mixed)
    for id_ in ("G1", "G5"):
        rejected(id_, planted(3, 6, 4, (1, 4, 2), 0))


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
    for c, mass in enumerate(samples.moments):
        assert (
            np.max(np.abs(mass - np.diag(weights[4 * c : 4 * c + 4].sum(axis=0))))
            <= bound
        )
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


@pytest.mark.parametrize("full", [False, True])
def test_lengths_have_the_variance_of_vectors_that_are_drawn(full):
    """Off isotropy degrees of freedom are fewer than dimensions, here 3 of 8."""
    rng = np.random.default_rng(0)
    S, Q = 0.5 ** np.arange(8), np.linalg.qr(rng.standard_normal((8, 8)))[0]
    covariance = Q.T @ np.diag(S) @ Q if full else S
    population = world(8, 8, 4, 8)
    sides = (
        dataclasses.replace(x, within_covariance=(covariance + covariance.T) / 2)
        for x in (population.errors, population.features)
    )
    samples = kronecker_design(KroneckerPopulation(*sides), lengths=True).samples
    lengths = np.sum(rng.standard_normal((40000, 8)) ** 2 * S, axis=1) / np.sum(S)
    expected = np.var(lengths)
    for found in (np.var(samples.errors), np.var(samples.features)):
        assert abs(found - expected) <= 0.2 * expected
        assert not abs(2 / 8 - expected) <= 0.2 * expected


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
