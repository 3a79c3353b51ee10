"""Bands, distribution function and outliers of nested designs."""

import numpy as np
import pytest

from refspec.populations import Population
from refspec.random_matrix import tables
from refspec.random_matrix.free import law as free_law
from refspec.random_matrix.free import outliers
from refspec.random_matrix.free import spectrum as free_spectrum
from refspec.random_matrix.free.design import reduction
from refspec.random_matrix.nested import spectrum as nested_spectrum
from refspec.random_matrix.nested.design import nested_design
from refspec.random_matrix.nested.edges import EDGE
from refspec.random_matrix.nested.outliers import ACCURACY, nested_outliers
from support import fixed_means

RESOLUTION = 0.05
WEIGHTS = np.random.default_rng(0).choice([0.5, 1.0, 1.5], (60, 5))


def both(population):
    """The law by the exact reduction and by the tree."""
    made = reduction(population)
    exact = free_spectrum.tabulate(made.law, made.signals.v.tolist())
    design = nested_design(population)
    return made, exact, design, nested_spectrum.tabulate(design, resolution=RESOLUTION)


@pytest.mark.theorem("R11")
@pytest.mark.parametrize(
    "population",
    [
        Population((30, 30), 40, np.ones((60, 1)), 1.0),
        Population((20, 40), 50, WEIGHTS, 1.0, cross_covariance=2.0),
        Population((5,) * 4, 30, np.ones((20, 1)), 1.0, class_covariance=0.5),
        Population((15,) * 4, 90, np.ones((60, 5)), 1.0, cross_covariance=9.0),
        Population((2,) * 30, 20, np.ones((60, 1)), 1.0, class_covariance=1.0),
    ],
    ids=["plain", "weights", "N<d", "bump", "d<C"],
)
def test_isotropic_designs_agree(population):
    """Bands and F of the tree are those of the exact reduction."""
    d = population.dimension
    _, exact, _, table = both(population)
    assert abs(table.atom - exact.atom) <= 2.0**-52
    assert len(table.bands) == len(exact.bands)
    for a, b in zip(table.bands, exact.bands, strict=True):
        assert abs(a.lower - b.lower) <= 4 * EDGE * exact.x[-1]
        assert abs(a.upper - b.upper) <= 4 * EDGE * b.upper
        assert abs(a.mass - b.mass) <= 2.0**-40
        # the scale is a cube root of a curvature by secants
        assert abs(a.upper_scale - b.upper_scale) <= b.upper_scale / 20
    x = tables.quantiles(exact, (np.arange(d) + 0.5) / d)
    found = np.interp(x[x > 0], table.x, table.cumulative)
    expected = np.interp(x[x > 0], exact.x, exact.cumulative)
    assert np.all(np.abs(found - expected) <= RESOLUTION / d)
    assert abs(table.cumulative[-1] - 1) <= 2.0**-50


def test_fixed_means_agree():
    """Outliers, deviations and overlaps of two theories, and the count below."""
    rng = np.random.default_rng(1)
    d, C = 40, 3
    means = np.linalg.qr(rng.standard_normal((d, C)))[0].T
    means *= np.sqrt([[30.0], [20.0], [10.0]])
    population = Population(
        (12,) * C, d, np.ones((36, 4)), 1.0, class_means=means, cross_covariance=0.5
    )
    made, exact, design, table = both(population)
    top = table.bands[-1]
    found = nested_outliers(design, top.upper, top.upper_scale)
    v, theta2 = made.signals.v, made.signals.strength
    assert len(found.values) == C
    assert np.all(
        np.abs(found.overlaps - outliers.overlaps(made.law, v, theta2)) < 1e-6
    )
    # the same location and deviation before outliers repel
    one = Population(
        (12,), d, np.ones((12, 4)), 1.0, class_means=means[:1], cross_covariance=0.5
    )
    made, exact, design, table = both(one)
    top, v = table.bands[-1], made.signals.v
    found = nested_outliers(design, top.upper, top.upper_scale)
    theta2 = made.signals.strength
    exact_value = free_law.location(made.law, v)
    accuracy = 16 * ACCURACY
    assert np.all(np.abs(found.values - exact_value) <= accuracy * exact_value)
    deviation = fixed_means.deviations(made.law, v, theta2)
    # through H by differences, twice
    assert np.all(np.abs(found.deviations - deviation) <= 2.0**-20 * deviation)
    x = np.linspace(exact.bands[-1].lower, exact.bands[-1].upper, 9)[1:-1]
    added = np.interp(x, table.x, table.added) - np.interp(x, exact.x, exact.added)
    assert np.all(np.abs(added) <= 0.1)


def test_full_covariances_by_simulation():
    """Three covariances that do not commute, random weights: one draw in d = 80."""
    rng = np.random.default_rng(5)
    d, C, n = 80, 6, 10

    def covariance(power):
        Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
        values = np.arange(1, d + 1.0) ** -power
        return (Q * (values * d / values.sum())) @ Q.T

    S = [covariance(p) for p in (0.3, 0.2, 0.1)]
    weights = rng.lognormal(0, 0.5, (C * n, C))
    population = Population(
        (n,) * C, d, weights, S[0], cross_covariance=0.3 * S[1], class_covariance=S[2]
    )
    design = nested_design(population)
    table = nested_spectrum.tabulate(design, resolution=0.2)
    roots = [np.linalg.cholesky(s) for s in (S[0], 0.3 * S[1], S[2])]
    distances = []
    for _ in range(4):
        e = rng.standard_normal((C, n, C, d)) @ roots[0].T
        nu = rng.standard_normal((C, 1, C, d)) @ roots[1].T
        mu = rng.standard_normal((C, 1, 1, d)) @ roots[2].T
        X = (mu + nu + e).reshape(C * n, C, d) * np.sqrt(weights)[..., None]
        X = X.reshape(-1, d)
        F = np.interp(np.linalg.eigvalsh(X.T @ X), table.x, table.cumulative)
        rank = np.arange(d)
        distances.append(max(np.max(F * d - rank), np.max(rank + 1 - F * d)))
    assert np.mean(distances) <= 4  # the documented 4 / d
