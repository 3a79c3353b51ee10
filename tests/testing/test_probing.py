"""Bounds on random probes and formats, as numbers."""

import math

import numpy as np
import pytest

from refspec import rounding
from refspec.testing.accuracy import format_roundoff
from refspec.testing.comparisons import Truth
from refspec.testing.probing import projector_spread, spread

T = math.log(2 * 3 / rounding.FAILURE)


@pytest.mark.parametrize("n", [1, 16])
def test_the_spread_of_a_probe_is_that_of_a_quadratic_form(n):
    """Laurent and Massart: 2 |B|_F sqrt(t / n) + 2 ||B|| t / n, B without its mean."""
    b = np.array([7.0, 3.0, 3.0, 3.0])
    F, S = math.sqrt(3**2 + 3 * 1), 3.0
    expected = (2 * F * math.sqrt(T / n) + 2 * S * T / n) / 4
    slack = rounding.gamma(32, 2.0**-53) * expected
    assert abs(spread(b, n, "gaussian", 3) - expected) <= slack
    a = 8 * T * 2 * S
    signs = (a + math.sqrt(a**2 + 32 * n * T * F**2)) / (2 * n) / 4
    assert (
        abs(spread(b, n, "rademacher", 3) - signs) <= slack + slack * signs / expected
    )


def test_the_spread_of_a_projector():
    """Rank 1 of 4: its matrix less a quarter of the identity has norm .75."""
    b = np.array([1.0, 0, 0, 0])
    (found,) = projector_spread(np.array([1.0]), 4, 8, "gaussian", 3)
    slack = rounding.gamma(32, 2.0**-53) * found
    assert abs(found - spread(b, 8, "gaussian", 3)) <= slack


def test_the_roundoff_of_every_format():
    """Half of the distance from 1 to the next number."""
    known = {
        "float64": -53,
        "float32": -24,
        "float16": -11,
        "tf32": -11,
        "bfloat16": -8,
    }
    assert {x: format_roundoff(x) for x in known} == {
        x: 2.0**k for x, k in known.items()
    }


def truth(values):
    """Moments of a probe with equal parts in all eigenvectors, exact in these sizes."""
    powers = np.arange(1, 5)[:, None]
    return Truth(values, 0.5, np.mean(values**powers, axis=1)[:, None])


def test_a_truth_can_be_multiplied_and_shifted():
    values = np.array([-1.0, 2.0, 3.0, 4.0])
    for found, exact, radius in (
        (truth(values).times(-2.0), np.sort(-2 * values), 1.0),
        (truth(values).times(3.0), 3 * values, 1.5),
        (truth(values).plus(3.0), values + 3, 0.5),
        (truth(values).plus(-2.0), values - 2, 0.5),
    ):
        assert found.values.tolist() == exact.tolist()
        assert found.moments.tolist() == truth(exact).moments.tolist()
        assert found.radius == radius
        assert found.top == np.abs(exact).max()
