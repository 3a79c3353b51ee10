"""Counting, moments and outliers against draws."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from refspec import rounding
from refspec.random_matrix import tables
from refspec.random_matrix.conditional import counting, law, spectrum
from refspec.random_matrix.tables import Point
from refspec.theorems.conditional import (
    drawn,
    mixture,
    moments,
    small,
    small_convolved,
)


@pytest.mark.parametrize("make", [small, small_convolved])
def test_count_is_stationary(make):
    """Unknowns off by e change it by e^2: a quarter for a half."""
    design, z = make(0), 20 + 5j
    made = law.equivalent(design, z, tolerance=2.0**-44)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(made.unknowns.shape)
    noise = (noise + np.swapaxes(noise, 2, 3)) * np.abs(made.unknowns)
    true = counting.counted(design, made)
    off = []
    for e in (2.0**-6, 2.0**-7, 2.0**-8):
        moved = law.step(design, made.unknowns + e * noise, z)
        off.append(counting.counted(design, moved) - true)
    first = 2.0**-6 * np.max(np.abs(noise))
    assert abs(off[0]) <= first
    for one, two in pairwise(off):
        assert abs(one / two - 4) <= 1


def test_count_is_continued_to_the_axis():
    """A step of Taylor's leaves the square of the height: a quarter for a half."""
    design, x = small(0), 20.0
    true = counting.counted(
        design, law.equivalent(design, complex(x, x * 2.0**-20), tolerance=2.0**-30)
    )
    off = []
    for height in (2.0**-5, 2.0**-6, 2.0**-7):
        made = law.equivalent(design, complex(x, x * height), tolerance=2.0**-30)
        off.append(counting.continued(design, made, x * height) - true)
    for one, two in pairwise(off):
        assert abs(one / two - 4) <= 1


@pytest.mark.parametrize(
    "design", [small(0), small(0, 2), small_convolved(0)], ids=["1", "2", "positions"]
)
def test_counts_are_whole_in_gaps_and_far_away(design):
    top = 4 * law.reach(design)
    far = counting.counted(design, counting.at(design, top))
    assert abs(far) <= counting.HEIGHT * design.reached
    # nine samples with three columns each fill all ten directions, or five
    least = counting.counted(design, counting.at(design, top * 2.0**-40))
    assert abs(least - design.reached) <= 2.0**-5


def test_cubics_rise():
    """Between points on and beside steps of single eigenvalues."""
    rng = np.random.default_rng(0)
    x, F = np.arange(1.0, 33), np.sort(rng.integers(0, 8, 32)) / 8
    steep = rng.choice([0.0, 1.0, 100.0], 32)
    none = np.zeros(1)
    points = [Point(*p, none, none) for p in zip(x, F, steep, strict=True)]
    tame = spectrum._monotone(points)
    table = tables.splined(tame)[1]
    assert np.all(np.diff(table) >= -rounding.gamma(16, 2.0**-53))
    assert np.any([p.density != q.density for p, q in zip(points, tame, strict=True)])
    fine = [replace(p, density=0.0) for p in points]
    assert [p.density for p in spectrum._monotone(fine)] == [0.0] * 32


@pytest.mark.slow
@pytest.mark.parametrize("inner", [0, 7, None], ids=["one", "two", "positions"])
def test_moments_of_draws(inner):
    """E tr G and E tr G^2 of real Gaussian draws, the second with its excess."""
    design, values = drawn(16, 200, 3, inner)
    first, second, real = moments(design)
    for k, there in ((1, first), (2, real)):
        found = np.sum(values**k, axis=1)
        error = np.std(found) / len(found) ** 0.5
        assert abs(np.mean(found) - there) <= 6 * error
    assert second < real


@pytest.mark.slow
def test_outliers_of_draws():
    """Deviations of the largest eigenvalues are those of draws, given the outputs."""
    design, values = drawn(32, 200, 4)
    found = spectrum.tabulate(design, resolution=0.1)[1]
    r = len(found.values)
    assert r >= 2
    spread = np.std(values[:, :r], axis=0)
    # six standard errors of a deviation, and O(1/d)
    bound = (6 / (2 * len(values)) ** 0.5 + 1 / 32) * spread
    assert np.all(np.abs(spread - found.deviations)[:2] <= bound[:2])
    assert np.all((found.overlaps > 0) & (found.overlaps < 1 + counting.HEIGHT))


@pytest.mark.slow
def test_outliers_are_in_the_middle_of_their_bands():
    """A number and a half of eigenvalues is above each: Newton's last step says so."""
    design = mixture(16, 0).design
    found = spectrum.tabulate(design, resolution=0.1)[1]
    above = [counting.counted(design, counting.at(design, x)) for x in found.values]
    assert len(above) >= 2
    assert np.all(np.abs(above - np.arange(len(above)) - 0.5) <= counting.HEIGHT)
