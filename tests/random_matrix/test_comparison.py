"""The Kolmogorov-Smirnov distance sees eigenvalues too large, too small, and ties."""

import numpy as np
import pytest

from refspec.populations import Population
from refspec.random_matrix import predict
from refspec.random_matrix.comparison import kolmogorov


def one_by_one(prediction, values):
    """The largest difference of the two counts, at every jump from both sides."""
    gaps = []
    for x in [*values, *prediction.fixed.values]:
        for side, below in (("left", values < x), ("right", values <= x)):
            (expected,) = prediction.count(np.asarray([x]), side=side)
            gaps.append(abs(int(np.sum(below)) - expected))
    return max(gaps) / prediction.dimension


@pytest.mark.parametrize("means", [None, 4 * np.eye(1, 40)])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_distance_of_values_that_are_too_small_and_too_large(factor, means):
    made = predict(Population((80,), 40, np.ones((80, 1)), 1.0, class_means=means))
    values = factor * made.eigenvalues
    found = kolmogorov(made, values)
    assert found == one_by_one(made, values)
    assert (found > 0.25) == (factor != 1)


def test_distance_of_ties():
    """All eigenvalues at the median: half of them too early, half too late."""
    made = predict(Population((80,), 40, np.ones((80, 1)), 1.0))
    values = np.full(40, np.median(made.eigenvalues))
    assert abs(kolmogorov(made, values) - 0.5) <= 1 / 40


def test_distance_above_a_floor():
    """What is wrong at or below it alone is not seen, and all of it without one."""
    made = predict(Population((80,), 40, np.ones((80, 1)), 1.0))
    right, values = made.eigenvalues, np.sort(made.eigenvalues)
    floor = values[9]
    values[:10] = floor
    assert kolmogorov(made, values, floor) <= kolmogorov(made, right, floor)
    assert kolmogorov(made, values) > kolmogorov(made, right)
    assert kolmogorov(made, values, np.inf) == 0
