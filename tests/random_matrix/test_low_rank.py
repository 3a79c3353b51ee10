"""Classes of low rank, noise and means: what a planted layer is made of.

Bands of few eigenvalues, and means that stand between them: the law says in which gaps
the count of one draw is certain, and there it is counted in every draw.
"""

import numpy as np
import pytest

from refspec.populations import Population
from refspec.random_matrix import discrepancy, predict
from refspec.spectra import Spectrum

DRAWS = 40


def low_rank(seed, d, C, n, strengths, noise, length):
    """Classes of covariance U diag(strengths) U' + noise I, means of a length."""
    rng, ranks = np.random.default_rng(seed), len(strengths)
    frames = [np.linalg.qr(rng.standard_normal((d, ranks)))[0] for _ in range(C)]
    parts = [(U * strengths) @ U.T + noise * np.eye(d) for U in frames]
    means = length * np.linalg.qr(rng.standard_normal((d, C)))[0].T
    ones = np.ones((C * n, 1)) / (C * n)
    return Population((n,) * C, d, ones, tuple(parts), class_means=means)


def drawn(population):
    """Eigenvalues of draws, descending, shape (DRAWS, d)."""
    rng, found = np.random.default_rng(1), []
    roots = [
        np.linalg.svd(S)[0] * np.linalg.svd(S)[1] ** 0.5 for S in population.within
    ]
    means = population.fixed_means()[:, 0]
    for _ in range(DRAWS):
        g = rng.standard_normal((population.C, population.sizes[0], len(means[0])))
        parts = zip(g, roots, means, strict=True)
        X = np.concatenate([x @ root.T + m for x, root, m in parts])
        X *= np.sqrt(population.weights)
        found.append(np.linalg.eigvalsh(X.T @ X)[::-1])
    return np.stack(found)


@pytest.mark.slow
@pytest.mark.theorem("R13")
@pytest.mark.parametrize(
    ("given", "inner"),
    [
        ((0, 24, 3, 72, [40.0, 12.0], 0.01, 1.5), 3),  # between bulk and low rank
        ((1, 24, 2, 72, [60.0], 1e-6, 1.0), 2),  # the bulk beside them is nothing
        ((2, 30, 2, 10, [9.0, 3.0], 1e-6, 0.5), 2),  # fewer samples than dimensions
        ((3, 26, 2, 78, [5.0, 1.0, 0.5], 0.0, 0.1), 2),  # lifted from 0
        ((4, 24, 3, 48, [20.0, 5.0], 0.1, 9.0), 1),  # and what they push out of a band
    ],
    ids=["between", "no bulk", "few samples", "singular", "above"],
)
def test_counts_at_clear_gaps(given, inner):
    """And values of means between bands, each with the deviation that is predicted."""
    population = low_rank(*given)
    made, values = predict(population), drawn(population)
    assert len(made.inner.values) == inner
    assert len(made.fixed.values) == (population.C if given[-1] > 2 else 0)
    assert any(made.clear) or population.dimension > population.N
    radius, d = 2.0**-40 * values[0, 0], population.dimension
    sure, distances = np.asarray(made.clear), []
    for x in values:
        found = discrepancy(made, Spectrum(x, None, radius, "eigh", d))
        distances.append(found.distance)
        counts = [np.cumsum(c)[:-1] for c in (found.band_counts, made.counts)]
        assert np.array_equal(counts[0][sure], counts[1][sure])
    assert np.mean(distances) <= 4 / d
    # where its neighbours leave it alone a mean is where it is expected, but for the
    # shift of order 1 / d
    ranks = [int(np.sum(made.eigenvalues > x)) for x in made.inner.values]
    at, deviations = values[:, ranks], made.inner.deviations
    error = 6 * np.std(at, axis=0) / DRAWS**0.5
    assert np.all(np.abs(np.mean(at, axis=0) - made.inner.values) <= deviations + error)


def test_a_mean_between_bulk_and_bump():
    """The exact reduction knows them too, and the tree agrees."""
    C, K, n, d = 3, 4, 30, 60
    means = 1.5 * np.eye(C, d)
    given = {"class_means": means, "cross_covariance": 6.0}
    weights = np.ones((C * n, K)) / (C * n * K)
    one = predict(Population((n,) * C, d, weights, 0.1, **given))
    other = predict(Population((n,) * C, d, weights, np.full(d, 0.1), **given))
    assert one.method != other.method
    assert one.counts == other.counts
    assert len(one.inner.values) == len(other.inner.values)
    assert one.clear == other.clear
