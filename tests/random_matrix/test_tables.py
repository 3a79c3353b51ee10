"""Cubics and powers that a table is interpolated by, where they are exact."""

import numpy as np
import pytest

from refspec import rounding
from refspec.populations import Population
from refspec.random_matrix import discrepancy, predict
from refspec.random_matrix.random_means import TRACY_WIDOM
from refspec.random_matrix.tables import Point, _hermite, _near_edge
from refspec.spectra import Spectrum


def test_the_middle_of_a_cubic_is_exact():
    f = np.polynomial.Polynomial([3.0, -2.0, 5.0, 4.0])
    df = f.deriv()
    assert _hermite(f(1.0), f(3.0), df(1.0), df(3.0), 2.0) == f(2.0)


@pytest.mark.parametrize(("hard", "power"), [(True, 0.5), (False, 1.5)])
@pytest.mark.parametrize("side", [-1, 1])
def test_powers_of_the_distance_to_an_edge_are_exact(hard, power, side):
    """F - F(edge) = t^p (2 + 3 t): its value and slope at a point give it all."""
    edge, width, start = 4.0, 0.25 * side, 0.125

    def F(t):
        return start + side * t**power * (2 + 3 * t)

    def density(t):  # for t = distance / |width|
        return (2 * power * t ** (power - 1) + 3 * (power + 1) * t**power) / abs(width)

    point = Point(edge + width, F(1.0), density(1.0), np.zeros(1), np.zeros(1))
    x, found, slope = _near_edge(edge, start, point, hard)
    t = ((x - edge) / width)[1:]
    u = rounding.gamma(64, 2.0**-53)
    assert np.abs(found[1:] - F(t)).max() <= u * 8
    assert np.abs(slope[1:] - density(t)).max() <= 64 * u * density(t).max()
    assert found[0] == start
    assert (x[0], x[-1], len(x)) == (edge, edge + width, 33)


def bumpy():
    """Random class means: three bands, the last two of the classes and their cells."""
    C, n, d = 4, 20, 60
    weights = np.ones((C * n, C)) / (C * C * n)
    more = {"class_covariance": 1.0, "cross_covariance": 1.0}
    return predict(Population((n,) * C, d, weights, 1.0, **more))


def test_the_largest_has_mean_and_deviation_of_its_law():
    """Tracy and Widom's, of real matrices: mean -1.20653, variance 1.60778."""
    mean, deviation = TRACY_WIDOM
    assert f"{mean:.5f} {deviation**2:.5f}" == "-1.20653 1.60778"
    made = bumpy()
    top = made.bands[-1]
    largest = top.upper + mean * top.upper_scale, deviation * top.upper_scale
    assert made.bulk_maximum == largest


def test_an_eigenvalue_in_a_gap_belongs_to_the_nearer_band():
    made = bumpy()
    low, middle, _ = made.bands
    for share, counts in ((0.25, (1, 0)), (0.75, (0, 1))):
        values = made.eigenvalues.copy()
        values[-1] = (1 - share) * low.upper + share * middle.lower
        found = discrepancy(made, Spectrum(np.sort(values)[::-1], None, 0, "x", 60))
        rest = discrepancy(made, Spectrum(made.eigenvalues, None, 0, "x", 60))
        moved = np.subtract(found.band_counts, rest.band_counts)
        assert tuple(moved) == (counts[0] - 1, counts[1], 0)
