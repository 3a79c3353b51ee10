"""predict and compare, as a user calls them."""

import numpy as np
import pytest

from refspec.populations import Population
from refspec.random_matrix import discrepancy, predict
from refspec.spectra import Spectrum


def drawn(population, rng):
    """A draw of an isotropic population: spectrum, eigenvectors, class means."""
    C, K, d, n = population.C, population.K, population.dimension, population.sizes[0]
    means = population.fixed_means()
    random = np.zeros((C, d))
    if population.class_covariance is not None:
        random = population.class_covariance**0.5 * rng.standard_normal((C, d))
    means = means + random[:, None]
    if population.cross_covariance is not None:
        spread = population.cross_covariance**0.5
        means = means + spread * rng.standard_normal((C, K, d))
    noise = population.within_covariance**0.5 * rng.standard_normal((C, n, K, d))
    X = (means[:, None] + noise).reshape(C * n, K, d)
    X = (X * np.sqrt(population.weights)[..., None]).reshape(-1, d)
    values, vectors = np.linalg.eigh(X.T @ X)
    radius = 2.0**-40 * values[-1]
    spectrum = Spectrum(values[::-1], None, radius, "eigh", d)
    return spectrum, vectors[:, ::-1], random


def test_random_class_means():
    C, n, d = 7, 20, 200
    population = Population(
        (n,) * C,
        d,
        np.ones((C * n, C)) / (C * C * n),
        1.0,
        class_covariance=1.0,
        cross_covariance=1.0,
    )
    made = predict(population)
    assert made.counts == (d - C * C, C * (C - 1), C)
    assert len(made.fixed.values) == 0
    assert len(made.outliers.values) == C
    radius = 2.0**-48 * made.eigenvalues[0]
    assert np.all(np.abs(made.eigenvalues[:C] - made.random.values) <= radius)
    rng = np.random.default_rng(0)
    spectrum, vectors, means = drawn(population, rng)
    found = discrepancy(made, spectrum, vectors=vectors, means=means)
    assert found.distance <= 4 / d
    assert found.band_counts == found.expected_counts
    assert np.all(np.abs(found.scores) <= 4)
    assert np.all(np.abs(found.overlap_errors) <= 0.05)


def test_global_and_random_class_means():
    C, n, d = 5, 30, 100
    population = Population(
        (n,) * C,
        d,
        np.ones((C * n, 1)),
        1.0,
        global_mean=np.full(d, 0.7),
        class_covariance=1.5,
    )
    made = predict(population)
    assert made.counts == (d - C, C - 1)  # one row of noise carries the mean
    assert len(made.fixed.values) == 1
    assert len(made.random.values) == C - 1
    found = discrepancy(made, drawn(population, np.random.default_rng(0))[0])
    assert found.distance <= 4 / d
    assert found.band_counts == made.counts


def test_fewer_samples_than_dimensions():
    C, n, d = 3, 10, 80
    means = 4 * np.eye(C, d)
    population = Population((n,) * C, d, np.ones((C * n, 1)), 1.0, class_means=means)
    made = predict(population)
    assert np.sum(made.eigenvalues == 0) == d - C * n
    assert len(made.outliers.values) == C
    spectrum, vectors, _ = drawn(population, np.random.default_rng(0))
    found = discrepancy(made, spectrum, vectors=vectors)
    assert found.distance <= 4 / d
    assert np.all(np.abs(found.scores) <= 4)
    assert found.band_counts == found.expected_counts == (C * n - C,)


def test_fewer_dimensions_than_classes():
    C, n, d = 12, 10, 6
    population = Population((n,) * C, d, np.ones((C * n, 1)), 1.0, class_covariance=2.0)
    made = predict(population)
    assert len(made.outliers.values) == 0
    assert len(made.eigenvalues) == d
    assert abs(made.eigenvalues.sum() - d * C * n * 3) < 0.1 * made.eigenvalues.sum()


def test_two_classes_and_one_sample():
    population = Population((1, 1), 4, np.ones((2, 1)), 1.0)
    made = predict(population)
    assert np.sum(made.eigenvalues == 0) == 2
    with pytest.raises(ValueError, match="got none"):
        predict(Population((1, 1), 4, np.ones((2, 1)), 1.0, class_means=np.eye(2, 4)))


def test_nested_and_isotropic_predictions_agree():
    """One covariance given as a vector takes the other road."""
    C, n, d = 4, 15, 60
    means = np.eye(C, d) * np.sqrt([[9.0], [8.0], [7.0], [6.0]])
    weights = np.ones((C * n, 1))
    one = predict(Population((n,) * C, d, weights, 1.0, class_means=means))
    two = predict(Population((n,) * C, d, weights, np.ones(d), class_means=means))
    assert one.method != two.method
    assert len(one.outliers.values) == len(two.outliers.values) == C
    gap = np.abs(one.outliers.values - two.outliers.values)
    assert np.all(gap <= one.outliers.deviations / 4)  # the shift of order 1 / d
    inner = slice(C, d)
    spacing = np.ptp(one.eigenvalues[inner]) / d
    assert np.mean(np.abs(one.eigenvalues - two.eigenvalues)[inner]) <= spacing / 4
    assert np.linalg.norm(two.means @ one.means.T, 2) <= 1 + 2.0**-48


def test_bulk_maximum():
    d = 100
    made = predict(Population((300,), d, np.ones((300, 1)), 1.0))
    rng = np.random.default_rng(0)
    tops = [np.linalg.norm(rng.standard_normal((300, d)), 2) ** 2 for _ in range(40)]
    mean, deviation = made.bulk_maximum
    assert abs(np.mean(tops) - mean) <= 4 * deviation / 40**0.5


def test_bad_input():
    population = Population((4,), 3, np.ones((4, 1)), 1.0)
    made = predict(population)
    with pytest.raises(TypeError, match="got ndarray"):
        predict(np.ones(3))
    with pytest.raises(ValueError, match="got 2"):
        predict(population, resolution=2.0)
    other = Spectrum(np.ones(2), None, 0.0, "x", 2)
    with pytest.raises(ValueError, match="got 3 and 2"):
        discrepancy(made, other)
    means = predict(
        Population((40,), 3, np.ones((40, 1)), 1.0, class_means=np.full((1, 3), 9.0))
    )
    own = Spectrum(np.ones(3), None, 0.0, "x", 3)
    with pytest.raises(ValueError, match=r"got \(2, 1\)"):
        discrepancy(means, own, vectors=np.ones((2, 1)))
    with pytest.raises(ValueError, match="positive semidefinite"):
        Population((4,), 2, np.ones((4, 1)), np.asarray([[1.0, 2], [2, 1]]))
