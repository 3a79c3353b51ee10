"""Extrapolation of an iteration whose fixed point is known: an affine map's."""

import numpy as np
import pytest

from refspec import rounding
from refspec.random_matrix import anderson


@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_an_affine_map_is_solved_in_as_many_steps_as_it_has_unknowns(shape):
    """It expands, so that iterating alone would run away."""
    rng, n = np.random.default_rng(0), int(np.prod(shape))
    A = 3 * np.linalg.qr(rng.standard_normal((n, n)))[0]
    true = rng.standard_normal(n)
    x, steps = np.zeros(shape), anderson.Steps()
    for _ in range(n + 1):
        image = true + A @ (np.ravel(x) - true)
        x = steps.extrapolated(x, np.reshape(image, shape))
    assert x.shape == shape
    moved = np.diff(np.stack(steps.mapped) - np.stack(steps.tried), axis=0)
    error = rounding.gamma(8 * n, 2.0**-53) * np.linalg.cond(moved)
    largest = np.max(np.abs(steps.mapped))
    assert np.max(np.abs(np.ravel(x) - true)) <= error * n * largest


def test_old_steps_are_forgotten():
    steps = anderson.Steps()
    for k in range(2 * anderson.MEMORY):
        steps.extrapolated(np.asarray([float(k)]), np.asarray([k / 2 + 1]))
    assert len(steps.tried) == len(steps.mapped) == anderson.MEMORY
    assert steps.tried[-1] == 2 * anderson.MEMORY - 1
