"""t-SNE: its gradient is that of the divergence, and clusters stay together."""

import numpy as np
import pytest

from refspec.attribution.embedding import (
    _affinities,
    divergence,
    gradient,
    kept_neighbours,
    tsne,
)
from refspec.attribution.means import classical_scaling


def away(x):
    return np.linalg.norm(x[:, None] - x[None], axis=2)


def clusters(seed, groups=5, each=7, d=20):
    rng = np.random.default_rng(seed)
    centres = np.repeat(10 * np.eye(groups, d), each, axis=0)
    return np.repeat(np.arange(groups), each), centres + rng.standard_normal((35, d))


def test_the_gradient_is_that_of_the_divergence():
    """Central differences: halving the step quarters what they miss."""
    rng = np.random.default_rng(0)
    P = _affinities(away(rng.standard_normal((9, 4))), 3.0)
    x, v = rng.standard_normal((2, 9, 2))
    slope = float(np.sum(gradient(P, x) * v))
    missed = [
        abs((divergence(P, x + h * v) - divergence(P, x - h * v)) / (2 * h) - slope)
        for h in (2.0**-5, 2.0**-6, 2.0**-7)
    ]
    assert missed[1] < missed[0] / 3
    assert missed[2] < missed[1] / 3


def test_neighbours_have_the_entropy_that_was_asked_for():
    P = _affinities(away(clusters(0)[1]), 5.0)
    assert np.array_equal(P, P.T)
    assert abs(P.sum() - 1) <= len(P) * np.finfo(float).eps
    assert np.all(np.diag(P) == 0)


@pytest.mark.parametrize("seed", range(3))
def test_clusters_stay_together_where_the_plane_has_no_room_for_them(seed):
    members, points = clusters(seed)
    matrix = away(points)
    x = tsne(matrix, 5.0)
    nearest = np.argmin(away(x) + np.diag(np.full(len(x), np.inf)), axis=1)
    assert np.all(members[nearest] == members)
    linear = classical_scaling(matrix)[0]
    assert kept_neighbours(matrix, x) > kept_neighbours(matrix, linear)
    assert np.array_equal(x, tsne(matrix, 5.0))


def test_neighbours_kept_are_counted():
    line = np.arange(6.0)[:, None]
    assert kept_neighbours(away(line), np.hstack([line, 0 * line]), 1) == 1
    assert kept_neighbours(away(line), np.hstack([line, 0 * line])) == 1
    turned = np.hstack([np.roll(line, 3), 0 * line])
    assert kept_neighbours(away(line), turned) < 1
    assert kept_neighbours(np.zeros((1, 1)), np.zeros((1, 2))) == 1
