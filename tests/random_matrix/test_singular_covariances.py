"""Singular covariances, which real layers have: bias columns, dead pixels, logits.

Counts are exact; means of the eigenvalues over draws are compared with the prediction,
which is resolved to its `resolution` and right to about one eigenvalue of d.
"""

import numpy as np
import pytest

from refspec.populations import KroneckerPopulation, Population, as_matrix
from refspec.random_matrix import discrepancy, predict
from refspec.random_matrix.assumptions import mean_eigenvalue
from refspec.random_matrix.nested.design import certain_rank, nested_design
from refspec.spectra import Spectrum
from refspec.synthetic.expectations import cross_moment, fisher_of_layers

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


#: Two layers of few dimensions: no noise in half of them; a column of ones.
HALF = Population(
    (50, 50),
    8,
    np.ones((100, 1)),
    np.diag([1.0, 1, 1, 1, 0, 0, 0, 0]),
    class_means=3 * np.eye(2, 8),
)
BIASED = Population(
    (30, 30, 30),
    5,
    ONES,
    np.diag([2.0, 1, 0.5, 0.1, 0]),
    class_means=np.c_[np.eye(3, 4), np.ones(3)],
)


@pytest.mark.slow
@pytest.mark.parametrize("population", [HALF, BIASED], ids=["half", "biased"])
def test_a_layer_of_few_dimensions(population):
    """Means over 400 draws: right to a deviation, which 1 / d is here."""
    made, rng, found = predict(population), np.random.default_rng(0), []
    deviation = np.sqrt(np.diag(population.within_covariance))
    mean = population.fixed_means()[population.labels, 0]
    for _ in range(400):
        X = mean + deviation * rng.standard_normal(mean.shape)
        found.append(np.linalg.eigvalsh(X.T @ X)[::-1])
    centre, spread = np.mean(found, axis=0), np.std(found, axis=0)
    r = len(made.fixed.values)
    away = np.abs(made.fixed.values - centre[:r])
    assert r == (1 if population is BIASED else 2)
    assert np.all(away <= made.fixed.deviations / 8 + 6 * spread[:r] / 20)
    # four deviations of draw to draw are what an eigenvalue of the bulk has to move in
    rest = np.abs(made.eigenvalues - centre)[r:]
    assert np.all(rest <= spread[r:] / 2 + 6 * spread[r:] / 20)


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
                assert any("5 degrees" in x for x in predict(each).assumes)
                continue
            said = f"fourth moment, got .* {dof:.3g} deg.* eigenvalues, 20,"
            with pytest.raises(ValueError, match=said):
                predict(each)


def test_the_mean_of_all_eigenvalues():
    """The trace of the expectation, of vectors and of gradients."""
    rng = np.random.default_rng(0)
    S, T = (np.diag(rng.uniform(0, 1, 5)) for _ in range(2))
    means = rng.standard_normal((2, 5))
    w = rng.uniform(0.5, 1, (7, 2))
    errors = Population((3, 4), 5, w, (S, T), class_means=means, cross_covariance=0.5)
    features = Population((3, 4), 5, w[:, :1], T, class_means=means)
    E = sum(cross_moment(errors, c) for c in range(2))
    bound = 2.0**-48 * np.trace(E)
    assert abs(5 * mean_eigenvalue(errors) - np.trace(E)) <= bound
    both = KroneckerPopulation(errors, features)
    G = np.trace(fisher_of_layers([both]))
    assert abs(25 * mean_eigenvalue(both) - G) <= 2.0**-48 * G
