"""The fixed point: independent of frames and of what has no weight."""

import dataclasses

import numpy as np
import pytest

from refspec.populations import KroneckerPopulation, Population
from refspec.random_matrix.kronecker import law as kronecker_law
from refspec.random_matrix.kronecker.design import kronecker_design
from refspec.random_matrix.kronecker.spectrum import stieltjes
from support.kronecker_worlds import world

#: The last step is STEP relative; the steps to come add up to less than its root.
CLOSE = np.sqrt(kronecker_law.STEP)


def m(design, z):
    return stieltjes(design, kronecker_law.equivalent(design, z))


def test_full_covariances_and_frames_agree():
    population = world(6, 5, 2, 4)
    full = KroneckerPopulation(
        dataclasses.replace(population.errors, within_covariance=np.eye(6)),
        dataclasses.replace(population.features, within_covariance=np.ones(5)),
    )
    for z in (1 + 1j, 30 + 2j):
        one, two = (m(kronecker_design(x), z) for x in (population, full))
        assert abs(one - two) <= CLOSE * abs(one)


def test_what_has_no_weight_has_no_effect():
    population = world(6, 5, 3, 4)
    weights = np.array(population.errors.weights)
    weights[population.errors.labels[:, None] == np.arange(3)] = 0
    laws = []
    for value in (0.0, 100.0):
        cells = np.array(population.errors.cross_means)
        cells[range(3), range(3)] = value
        errors = dataclasses.replace(
            population.errors, weights=weights, cross_means=cells
        )
        laws.append(kronecker_design(KroneckerPopulation(errors, population.features)))
    one, two = (m(x, 3 + 1j) for x in laws)
    assert abs(one - two) <= CLOSE * abs(one)
    kept = m(kronecker_design(population), 3 + 1j)
    assert not abs(one - kept) <= CLOSE * abs(one)


@pytest.mark.parametrize("C", [2, 3])
def test_degenerate_designs_solve(C):
    """One sample in a class, no noise in the errors, no means, d < C."""
    ones = np.ones((C, C)) / C
    features = Population((1,) * C, 2, ones[:, :1], 1.0)
    for errors in (
        Population((1,) * C, 1, ones, 1.0),
        Population((1,) * C, 4, ones, 0.0, class_means=np.eye(C, 4)),
        Population((1,) * C, 4, ones, (1.0,) * (C - 1) + (2.0,)),
    ):
        found = m(kronecker_design(KroneckerPopulation(errors, features)), 1 + 1j)
        assert found.imag > 0
