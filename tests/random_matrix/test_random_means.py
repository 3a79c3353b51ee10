"""Deviations of the outliers of random class means, inner ones too, at three sizes."""

import numpy as np
import pytest

from refspec.populations import Population
from refspec.random_matrix import predict

DRAWS = 400


@pytest.mark.slow
@pytest.mark.theorem("R14")
@pytest.mark.parametrize(
    ("d", "C", "n", "strength"),
    [(40, 6, 20, 4.0), (60, 12, 16, 3.0), (100, 20, 10, 2.0)],
)
def test_deviations_of_ordered_outliers(d, C, n, strength):
    """Right to a tenth and the errors of the draws; those of the edges are not."""
    ones = np.ones((C * n, 1)) / (C * n)
    population = Population((n,) * C, d, ones, 1.0, class_covariance=strength)
    made, rng, found = predict(population), np.random.default_rng(0), []
    assert len(made.random.values) == C
    for _ in range(DRAWS):
        means = np.sqrt(strength) * rng.standard_normal((C, d))
        X = np.repeat(means, n, axis=0) + rng.standard_normal((C * n, d))
        found.append(np.linalg.eigvalsh(X.T @ X / (C * n))[::-1][:C])
    ratio = made.random.deviations / np.std(found, axis=0)
    error = 1 / (2 * DRAWS) ** 0.5  # of a standard deviation, relative
    assert np.all(np.abs(ratio - 1) <= 0.1 + 4 * error)
    assert abs(np.mean(ratio) - 1) <= 0.05
    band = made.bands[-1]
    at_the_edge = 1.268 * (band.upper_scale + band.lower_scale) / 2
    assert at_the_edge / np.std(found, axis=0)[C // 2] > 1.1


def test_one_class_alone_has_the_variance_of_a_random_effect():
    """2 v^2 psi' / d, to the accuracy of a law that is a semicircle in the limit."""
    d, n, s = 400, 40, 6.0
    population = Population((n,), d, np.ones((n, 1)), 1.0, class_covariance=s)
    made = predict(population)
    t = n * s + 1
    rate = 1 - (n - 1) * d / (d * t - d) ** 2  # psi' at v = d t, scales of 1
    (deviation,) = made.random.deviations
    exact = t * np.sqrt(2 * d * rate)
    assert abs(deviation - exact) <= exact / d**0.5
