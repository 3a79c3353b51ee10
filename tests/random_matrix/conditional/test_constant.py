"""Classes of which nothing is left, eliminated once: the same law in few directions."""

from dataclasses import replace

import numpy as np
import pytest

import refspec
from refspec import rounding
from refspec.random_matrix import law_of
from refspec.random_matrix.conditional import counting, law, spectrum
from refspec.random_matrix.conditional.constant import parted
from refspec.random_matrix.conditional.design import narrowed
from refspec.random_matrix.conditional.frames import frames_of
from refspec.theorems.conditional import mixture, small


@pytest.fixture(scope="module")
def whole():
    """A layer of ten classes, nine of them with no more samples than regressors."""
    return law_of(refspec.datasets.mnist_cnn()).design


@pytest.mark.parametrize("x", [1.0, 0.01])
def test_a_step_is_that_of_the_layer(whole, x):
    """Unknowns, trace, count and overlaps: as an inverse of the layer is known."""
    less, z = parted(whole), x * (1 + 1j)
    left = np.any(whole.inside, axis=(1, 2))
    assert 0 < np.sum(left) < len(left)
    start = law.far(whole, z)
    one, two = law.step(less, start, z), law.step(whole, start, z)
    # |Q| <= 1 / Im z, and an inverse is off by |Q|^2 |H| roundings of each sum in it
    n, size = whole.reached, np.linalg.norm(two.pivots[0], 2)
    Q = rounding.gamma(8 * n, 2.0**-53) * size / z.imag**2
    squares = np.max(np.abs(law.far(whole, z)[1]))
    traces = np.max(np.trace(whole.inside, axis1=1, axis2=2))
    means = np.max(np.sum(whole.slopes**2, axis=(1, 2)))
    off = np.abs(one.unknowns - two.unknowns)[:, left]
    assert np.max(off[0]) <= Q * traces * whole.roots.shape[1]
    assert np.max(off[1]) <= Q * means * squares**2
    assert abs(one.trace - two.trace) <= n * Q
    counts = [counting.counted(*pair) for pair in ((less, one), (whole, two))]
    assert abs(counts[0] - counts[1]) <= n * Q * size
    seen = [spectrum._along_means(*pair) for pair in ((less, one), (whole, two))]
    assert abs(seen[0] - seen[1]) <= n * Q


def test_it_is_solved_alone(whole):
    """In the directions that other classes have, and no frame has as many."""
    ((less, corrects),) = frames_of(whole).pairs
    assert corrects is None
    assert (less.reached, less.dimension) == (whole.reached, whole.dimension)
    assert len(less.labels) == np.sum(whole.labels == np.unique(less.labels))
    side = len(less.slopes[0]) * less.roots.shape[1]
    assert side + len(less.constant.values) == whole.reached > 4 * side
    x = 6.53e-7  # between two eigenvalues
    made = counting.solved((less, None), x * (1 + 2.0**-12 * 1j), resolution=0.25)
    assert abs(made.continued - round(made.continued)) <= 2.0**-10


def test_others_are_left_as_they_are():
    """Classes with noise, one covariance of all, tails, and several layers."""
    one, two = mixture(16, 0).design, small(0, 2)
    for design in (one, narrowed(one, 8), two, replace(one, inside=one.inside[:1])):
        assert parted(design) is design
    none = replace(one, inside=0 * one.inside)
    assert parted(none) is none  # nothing is left of any: no unknowns, but a step
    few = replace(one, inside=one.inside * np.asarray([1, 0, 0])[:, None, None])
    assert parted(few) is few  # of features that one class has all of
