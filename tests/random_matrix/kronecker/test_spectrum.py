"""Bands and distribution function, against one Wishart matrix and counts."""

import dataclasses

import numpy as np
import pytest

from refspec.populations import KroneckerPopulation, Population
from refspec.random_matrix.free import law as free_law
from refspec.random_matrix.free.edges import support
from refspec.random_matrix.free.law import FreeLaw
from refspec.random_matrix.kronecker import spectrum as kronecker_spectrum
from refspec.random_matrix.kronecker.design import kronecker_design
from support.kronecker_worlds import world


def plain(N, b, a):
    """One class without means: the law is that of one Wishart matrix of N rows."""
    ones = np.ones((N, 1))
    return kronecker_design(
        KroneckerPopulation(
            Population((N,), b, ones, 1.0), Population((N,), a, ones, 1.0)
        )
    )


@pytest.mark.parametrize(("N", "b", "a"), [(90, 5, 4), (10, 5, 4), (20, 5, 4)])
def test_one_wishart_matrix(N, b, a):
    resolution, P = 0.05, b * a
    table = kronecker_spectrum.tabulate(plain(N, b, a), resolution=resolution)
    law = FreeLaw([1.0], [N], P)
    assert table.atom == law.atom
    (band,) = table.bands
    assert round(band.mass * P) == min(N, P)
    low, high = (np.sqrt(N) - np.sqrt(P)) ** 2, (np.sqrt(N) + np.sqrt(P)) ** 2
    slack = 4 * kronecker_spectrum.EDGE * high
    assert abs(band.lower - low) <= slack
    assert abs(band.upper - high) <= slack
    v = support(law)[0]
    u = np.linspace(*v, 50)[1:-1]
    points = free_law.curve(law, u)
    x, F = free_law.location(law, points).real, free_law.cumulative(law, points)
    assert np.max(np.abs(np.interp(x, table.x, table.cumulative) - F)) <= resolution / P


def test_bump_and_bulk_split():
    """Strong features make b directions a class of their own: bC eigenvalues."""
    C, b, a, n = 2, 6, 40, 2000
    ones, N = np.ones((C * n, 1)), C * n
    errors = Population((n,) * C, b, ones / N, 1.0)
    features = Population((n,) * C, a, ones, 1.0, class_means=6 * np.eye(C, a))
    design = kronecker_design(KroneckerPopulation(errors, features))
    table = kronecker_spectrum.tabulate(design, resolution=0.25)
    assert [round(x.mass * b * a) for x in table.bands] == [b * (a - C), b * C]


def test_means_take_eigenvalues_from_the_law():
    """What is added beyond the edges is a whole number: minus that of the outliers."""
    population = world(10, 10, 4, 10, cross=0.0)
    design = kronecker_design(population)
    table = kronecker_spectrum.tabulate(design, resolution=0.25)
    assert (table.added[0], table.added[-1]) == (0, -4)
    no_means = dataclasses.replace(population.errors, class_means=None)
    bare = kronecker_design(
        KroneckerPopulation(
            dataclasses.replace(no_means, cross_means=None), population.features
        )
    )
    found = kronecker_spectrum.tabulate(bare, resolution=0.25)
    assert np.all(found.added == 0)
