"""Singular covariances, which real layers have: bias columns, dead pixels, logits.

Counts are exact; means of the eigenvalues over draws are compared with the prediction,
which is resolved to its `resolution` and right to about one eigenvalue of d.
"""

import numpy as np
import pytest

from refspec.populations import KroneckerPopulation, Population, as_matrix
from refspec.random_matrix import discrepancy, predict
from refspec.random_matrix.nested.design import certain_rank, nested_design
from refspec.spectra import Spectrum

D, DRAWS = 40, 24
U = np.linalg.qr(np.random.default_rng(0).standard_normal((D, D)))[0]
LOWER = (U[:, :20] * np.linspace(1, 2, 20)) @ U[:, :20].T
UPPER = (U[:, 15:] * np.linspace(1, 2, 25)) @ U[:, 15:].T
ONES = np.ones((90, 1))
BIAS = np.append(np.linspace(0.5, 2, D - 1), 0.0)


def root(covariance):
    values, vectors = np.linalg.eigh(as_matrix(covariance, D))
    return vectors * np.sqrt(np.maximum(values, 0))


def spectra(population):
    """Eigenvalues of draws, descending, shape (DRAWS, d)."""
    rng, labels, found = np.random.default_rng(1), population.labels, []
    roots = [root(s) for s in population.within]
    for _ in range(DRAWS):
        X = population.fixed_means()[labels, 0]
        if population.class_covariance is not None:
            g = rng.standard_normal((population.C, D))
            X = X + (g @ root(population.class_covariance).T)[labels]
        g = rng.standard_normal((population.N, D))
        X = X + np.stack([roots[c] @ x for c, x in zip(labels, g, strict=True)])
        X = X * np.sqrt(population.weights)
        found.append(np.linalg.eigvalsh(X.T @ X)[::-1])
    return np.stack(found)


def by_class(**given):
    return Population((30,) * 3, D, ONES, **given)


@pytest.mark.slow
@pytest.mark.theorem("R11")
@pytest.mark.parametrize(
    ("population", "zeros"),
    [
        (by_class(within_covariance=LOWER), 20),
        (by_class(within_covariance=LOWER, class_means=3 * U[:, 18:21].T), 19),
        (by_class(within_covariance=BIAS, class_means=4 * np.eye(3, D)), 1),
        (by_class(within_covariance=BIAS, global_mean=np.eye(1, D, D - 1)[0]), 0),
        (Population((30, 60), D, ONES, (LOWER, UPPER)), 0),
        (Population((6, 84), D, ONES, (LOWER, UPPER)), 9),
        (Population((9,) * 10, D, ONES, LOWER, class_covariance=1.0), 10),
        (Population((8, 8), D, np.ones((16, 1)), LOWER), 24),
        (
            Population((8, 8), D, np.ones((16, 1)), 1.0, class_means=np.eye(2, D) / 10),
            24,
        ),
        (
            Population(
                (30, 60), D, ONES, (np.zeros(D), BIAS), class_means=np.eye(2, D) * 3
            ),
            1,
        ),
    ],
    ids=[
        "one for all",
        "means beside it",
        "bias column",
        "bias with a mean in the bulk",
        "ranges that overlap",
        "few rows of a range",
        "class effects beside it",
        "fewer rows than its rank",
        "weak means lift zeros",
        "a class without noise",
    ],
)
def test_as_simulated(population, zeros):
    """As many zeros as drawn; the rest in place, a mean over draws in each."""
    made, drawn = predict(population), spectra(population)
    least = 2.0**-36 * drawn[:, :1]  # far above rounding, far below an eigenvalue
    assert np.all(np.sum(drawn <= least, axis=1) == zeros)
    assert np.sum(made.eigenvalues == 0) == zeros
    # The error of the law is a few of d eigenvalues, as for nonsingular covariances
    # (R14), and means over draws err by their own deviation.
    distances = []
    for values in drawn:
        spectrum = Spectrum(values, None, float(least[0, 0]), "eigh", D)
        distances.append(discrepancy(made, spectrum).distance)
    error = 4 * np.std(distances) / DRAWS**0.5
    assert np.mean(distances) <= 4 / D + error
    # each eigenvalue within the spacing of its neighbours, and six errors of its mean
    mean, error = np.mean(drawn, axis=0), 6 * np.std(drawn, axis=0) / DRAWS**0.5
    padded = np.concatenate([mean[:1] + (mean[0] - mean[1]), mean, [0.0]])
    spacing = np.maximum(padded[:-2] - mean, mean - padded[2:])
    gap = np.abs(made.eigenvalues - mean)[: D - zeros]  # the others were counted
    assert np.all(gap <= (spacing + error)[: D - zeros])


@pytest.mark.slow
def test_gradients():
    """A bias among the features, errors without noise in one direction."""
    rng = np.random.default_rng(0)
    n, C, b, a = 40, 3, 6, 8
    noise = (np.append(np.ones(b - 1), 0.0), np.append(np.ones(a - 1), 0.0))
    means = 3 * np.eye(C, b), np.c_[4 * np.eye(C, a - 1), np.ones(C)]
    w = np.full((C * n, C), 1 / (C * C * n))
    made = predict(
        KroneckerPopulation(
            Population((n,) * C, b, w, noise[0], class_means=means[0]),
            Population((n,) * C, a, C * w[:, :1], noise[1], class_means=means[1]),
        )
    )
    drawn = []
    for _ in range(DRAWS):
        label = np.repeat(np.arange(C), n)
        delta = means[0][label][:, None] + np.sqrt(noise[0]) * rng.standard_normal(
            (C * n, C, b)
        )
        h = means[1][label] + np.sqrt(noise[1]) * rng.standard_normal((C * n, a))
        g = (delta[..., None] * h[:, None, None]).reshape(-1, b * a) * w[0, 0] ** 0.5
        drawn.append(np.linalg.eigvalsh(g.T @ g)[::-1])
    drawn = np.stack(drawn)
    assert np.all(np.sum(drawn <= 2.0**-36 * drawn[:, :1], axis=1) == a)
    assert np.sum(made.eigenvalues == 0) == a
    total = np.sum(drawn[:, : len(made.fixed.values)], axis=1)
    error = 6 * np.std(total) / DRAWS**0.5
    assert abs(np.mean(total) - made.total) <= made.total / (2 * b * a) + error


def test_the_rank_is_known_where_ranges_are_one():
    assert certain_rank(nested_design(by_class(within_covariance=LOWER))) == 20
    mixed = Population((30, 60), D, ONES, (LOWER, UPPER))
    assert certain_rank(nested_design(mixed)) is None
    silent = Population((30, 60), D, ONES, (np.zeros(D), BIAS))
    assert certain_rank(nested_design(silent)) is None


def test_no_fourth_moment_is_refused():
    """The largest eigenvalue of such noise is one sample's: no law knows it."""
    for dof, known in ((2.5, False), (4.0, False), (5.0, True)):
        population = Population(
            (20,), 4, np.ones((20, 1)), 1.0, noise="student", dof=dof
        )
        gradients = KroneckerPopulation(population, population)
        for each in (population, gradients):
            if known:
                predict(each)
                continue
            with pytest.raises(
                ValueError, match=f"fourth moment, got .* {dof:.3g} deg"
            ):
                predict(each)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"resolution": np.nan}, ValueError),
        ({"resolution": np.inf}, ValueError),
        ({"resolution": "0.1"}, TypeError),
        ({"resolution": 0.1j}, TypeError),
        ({"resolution": True}, TypeError),
        ({"resolution": np.ones(2)}, TypeError),
        ({"seed": -1}, ValueError),
        ({"seed": 1.0}, TypeError),
        ({"seed": None}, TypeError),
        ({"seed": np.random.default_rng(0)}, TypeError),
    ],
)
def test_bad_calls(given, error):
    with pytest.raises(error, match=f"{next(iter(given))} must"):
        predict(Population((4,), 3, np.ones((4, 1)), np.ones(3)), **given)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"vectors": np.full((3, 1), np.nan)}, ValueError),
        ({"vectors": np.ones((3, 1)) * 1j}, ValueError),
        ({"vectors": np.ones(3)}, ValueError),
        ({"vectors": np.ones((4, 1))}, ValueError),
        ({"vectors": np.ones((3, 0))}, ValueError),
        ({"vectors": "top"}, TypeError),
        ({"means": np.ones((1, 2))}, ValueError),
        ({"means": np.full((1, 3), np.inf)}, ValueError),
    ],
)
def test_bad_comparisons(given, error):
    means = np.full((1, 3), 9.0)
    made = predict(Population((40,), 3, np.ones((40, 1)), 1.0, class_means=means))
    own = Spectrum(np.ones(3), None, 0.0, "x", 3)
    with pytest.raises(error, match="must"):
        discrepancy(made, own, **given)
    with pytest.raises(TypeError, match="spectrum must be a Spectrum"):
        discrepancy(made, np.ones(3))
    with pytest.raises(TypeError, match="prediction must be a Prediction"):
        discrepancy(own, own)
