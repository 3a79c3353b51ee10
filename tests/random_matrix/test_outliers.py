"""Outliers that mix, the span of means, and scores, where each is known in numbers."""

import numpy as np
import pytest

from refspec import rounding
from refspec.populations import Population
from refspec.random_matrix import discrepancy, predict
from refspec.random_matrix.outliers import DRAWN, mixed, row_space
from refspec.spectra import Spectrum


def test_a_lone_outlier_has_twice_the_variance_that_is_given():
    values, deviations = mixed(np.asarray([5.0]), np.asarray([[0.125]]), 0)
    assert (values.tolist(), deviations.tolist()) == ([5.0], [0.5])


def test_outliers_far_apart_move_as_perturbation_says():
    """Deviation sqrt(2 V_ii), shift sum of V_ij / gap; six standard errors of each."""
    centres = np.asarray([400.0, 100.0, 0.0])
    V = np.asarray([[1.0, 4.0, 0.5], [4.0, 2.0, 3.0], [0.5, 3.0, 0.25]])
    values, deviations = mixed(centres, V, 3)
    pairs = DRAWN // 27
    gaps = centres[:, None] - centres + np.diag(np.full(3, np.inf))
    shift = np.sum(V / gaps, axis=1)
    error = np.sqrt(np.sum(2 * (V / gaps) ** 2, axis=1) / pairs)
    # what is left is of fourth order in the noise beside the gap
    assert np.all(np.abs(values - centres - shift) <= 6 * error + shift**2)
    expected = np.sqrt(2 * np.diag(V))
    rest = np.sqrt(np.sum(2 * (V / gaps) ** 2, axis=1))
    assert np.all(np.abs(deviations - expected) <= 6 * expected / pairs**0.5 + rest)
    assert np.all(np.abs(shift) > 12 * error)


@pytest.mark.parametrize("scale", [1.0, 2.0**-40])
def test_rows_that_depend_on_each_other_span_fewer_dimensions(scale):
    rows = scale * np.asarray([[1.0, 0, 0, 0], [0, 1, 1, 0], [1, 2, 2, 0]])
    basis = row_space(rows)
    assert basis.shape == (2, 4)
    gap = np.linalg.norm(basis @ basis.T - np.eye(2)), basis[:, 3].any()
    assert gap[0] <= rounding.gamma(64, 2.0**-53)
    assert not gap[1]
    assert row_space(rows[:1]).shape == (1, 4)


def test_scores_count_deviations_in_the_order_of_the_values():
    C, n, d = 3, 10, 40
    means = np.sqrt([[90.0], [60.0], [40.0]]) * np.eye(C, d)
    made = predict(Population((n,) * C, d, np.ones((C * n, 1)), 1.0, class_means=means))
    expected, values = made.outliers, made.eigenvalues.copy()
    assert np.all(np.diff(expected.values) < 0)
    away = np.asarray([2.0, -1.0, 0.5])
    values[:C] = expected.values + away * expected.deviations
    found = discrepancy(made, Spectrum(values, None, 0.0, "given", d))
    slack = rounding.gamma(8, 2.0**-53) * values[0] / expected.deviations.min()
    assert np.all(np.abs(found.scores - away) <= slack)
