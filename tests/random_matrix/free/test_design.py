"""The exact reduction against the dense covariance of the rows."""

import numpy as np
import pytest
from hypothesis import assume, example, given

from refspec import rounding
from refspec.populations import Population
from refspec.random_matrix.free.design import reduction
from support.designs import designs

U = 2.0**-53


def dense(population):
    """Covariance T of the weighted rows and their means, by loops over pairs."""
    rows = [
        (i, c, k)
        for i, c in enumerate(population.labels)
        for k in range(population.K)
        if population.weights[i, k] > 0
    ]
    s1 = population.class_covariance or 0.0
    s2 = population.cross_covariance or 0.0
    T = np.zeros((len(rows), len(rows)))
    for a, (i, c, k) in enumerate(rows):
        for b, (j, e, m) in enumerate(rows):
            cov = (c == e) * (s1 + (k == m) * (s2 + (i == j) * population.within[c]))
            T[a, b] = np.sqrt(population.weights[i, k] * population.weights[j, m]) * cov
    fixed = population.fixed_means()
    means = [np.sqrt(population.weights[i, k]) * fixed[c, k] for i, c, k in rows]
    return T, np.asarray(means)


@given(designs())
@example(Population((2, 1), 3, np.ones((3, 2)), 1.0, cross_covariance=0.5))
def test_law_is_the_spectrum_of_the_rows(population):
    made = reduction(population)
    T, _ = dense(population)
    exact = np.linalg.eigvalsh(T)
    found = np.repeat(made.law.scales, made.law.counts.astype(int))
    n = len(T)
    # two eigensolvers, formation, and the merging of equal eigenvalues, one by one
    bound = (n + 4) * rounding.eigensolver_radius(n, exact[-1], U)
    bound += rounding.gamma(n + 8, U) * np.trace(T)
    assert len(found) == np.sum(exact > bound)
    assert np.max(np.abs(np.sort(found) - exact[n - len(found) :])) <= bound


@pytest.mark.parametrize("level", ["class", "cross", "global"])
def test_fixed_means(level):
    """Balanced: v = d t + theta^2 and noise of the remaining rows."""
    C, K, n, d, s2, s3 = 3, 4, 5, 11, 0.5, 1.5
    rng = np.random.default_rng(0)
    rows = {"class": C, "cross": C * K, "global": 1}[level]
    means = np.linalg.qr(rng.standard_normal((d, rows)))[0].T if rows <= d else None
    if means is None:
        means = rng.standard_normal((rows, d))
    scale = rng.uniform(1, 9, (rows, 1)) ** 0.5
    shape = {"class": (C, d), "cross": (C, K, d), "global": (d,)}[level]
    name = "global_mean" if level == "global" else f"{level}_means"
    given_means = {name: (scale * means).reshape(shape)}
    if level != "cross":
        given_means["cross_covariance"] = s2
    w = 0.25
    population = Population((n,) * C, d, np.full((C * n, K), w), s3, **given_means)
    made = reduction(population)
    t2 = w * (n * s2 + s3)
    size = {"class": w * n * K, "cross": w * n, "global": w * n * K * C}[level]
    t = {"class": t2, "cross": w * s3, "global": t2}[level]
    gram = size * (scale * means) @ (scale * means).T
    theta2 = np.linalg.eigvalsh(gram)[::-1][: min(rows, d)]
    bound = 8 * rounding.eigensolver_radius(rows + C * K, theta2[0] + d * t, U)
    bound += rounding.gamma(64, U) * float(np.trace(gram))
    above = made.signals.v > d * made.law.scales[-1] + 1
    assert np.all(np.abs(made.signals.v - d * t - theta2)[above] <= bound)
    assert np.all(np.abs(made.signals.strength - theta2)[above] <= bound * rows)
    assert np.sum(made.law.counts) + len(made.signals.v) == C * K * n
    assert made.means.shape == (min(rows, d), d)


@given(designs(fixed="class"))
@example(Population((1, 2), 1, np.ones((3, 1)), 1.0, class_means=np.ones((2, 1))))
def test_no_row_is_lost(population):
    assume(np.sum(population.weights > 0) > population.C)
    made = reduction(population)
    T, means = dense(population)
    total = np.sum(made.law.counts) + len(made.signals.v)
    assert total == len(T)
    assert len(made.signals.v) == np.linalg.matrix_rank(means)


def test_papyans_counts():
    """C outliers; C(C-1) bump eigenvalues, C(C-2) where c' = c is dropped."""
    C, n, d = 5, 20, 60
    weights = np.ones((C * n, C))
    levels = {"class_covariance": 3.0, "cross_covariance": 1.0}
    law = reduction(Population((n,) * C, d, weights, 1.0, **levels)).law
    assert law.counts.tolist() == [(n - 1) * C * C, C * (C - 1), C]
    weights[np.arange(C * n), np.repeat(np.arange(C), n)] = 0
    law = reduction(Population((n,) * C, d, weights, 1.0, **levels)).law
    assert law.counts.tolist() == [(n - 1) * C * (C - 1), C * (C - 2), C]


def test_bad_input():
    with pytest.raises(ValueError, match="got a vector"):
        reduction(Population((3,), 2, np.ones((3, 1)), np.ones(2)))
    rows = Population((1, 1), 2, np.ones((2, 1)), 1.0, class_means=np.eye(2))
    with pytest.raises(ValueError, match="got none"):
        reduction(rows)  # no row is left for the noise
    with pytest.raises(ValueError, match="got none"):
        reduction(Population((3,), 2, np.ones((3, 1)), 0.0))
