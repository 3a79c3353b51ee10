"""The largest eigenvalues attributed: nothing is forgotten, and no unit preferred."""

from dataclasses import replace

import numpy as np
import pytest

import refspec
from refspec.leading import product_radius
from support.snapshots import typical


def scaled(moment, power):
    return replace(moment, rows=moment.rows.times(power))


@pytest.mark.parametrize("of", ["fisher", "features"])
def test_another_unit_changes_the_values_alone(of):
    """By a power of two exactly: kinds, shares, proofs and angles stay."""
    s = typical()
    m = refspec.fisher(s) if of == "fisher" else refspec.features(s, "fc1")
    one = refspec.attribute(m, top=3)
    assert one.proved.any() == (of == "features")
    for power in (-20, 20):
        two, up = refspec.attribute(scaled(m, power), top=3), 4.0**power
        assert two.kinds == one.kinds
        assert two.proved.tolist() == one.proved.tolist()
        for name in ("shares", "angles", "angle_bounds"):
            for key, x in getattr(one, name).items():
                assert np.array_equal(getattr(two, name)[key], x), name
        for name in ("levels", "knockouts", "traces"):
            for key, x in getattr(one, name).items():
                assert np.array_equal(getattr(two, name)[key], up * x), name
        for name in ("lower", "upper", "radius"):
            assert np.array_equal(getattr(two, name), up * getattr(one, name)), name
        assert np.array_equal(two.spectrum.values, up * one.spectrum.values)
        assert two.spectrum.radius == up * one.spectrum.radius


def test_the_spectrum_is_that_of_the_largest_and_the_radius_holds_more():
    """What is read off the rows and cells is a product too."""
    m = refspec.fisher(typical())
    found, largest = refspec.attribute(m, top=3), refspec.spectrum(m, top=3)
    assert not found.spectrum.complete
    assert found.spectrum.n_zero == 0
    assert found.spectrum.radius <= 2 * largest.radius
    within = refspec.decompose(m).levels["within_cross_class"]
    assert found.radius >= found.spectrum.radius + product_radius(within, m.trace())


def test_values_that_no_number_is_near_are_known_to_the_smallest_one():
    m = scaled(refspec.fisher(typical()), -540)
    found = refspec.attribute(m, top=2)
    assert found.spectrum.radius >= 2.0**-1074
    assert found.radius >= 2.0**-1074


def test_of_a_projected_moment_traces_are_what_is_left():
    """Without a level the others keep their traces; all of it is less than before."""
    m = refspec.fisher(typical())
    before = refspec.attribute(m, top=2).traces
    after = refspec.attribute(refspec.decompose(m).without("between_class"), top=2)
    bound = product_radius(m, m.trace())
    for name, trace in before.items():
        left = 0.0 if name == "between_class" else trace
        assert abs(after.traces[name] - left) <= bound, name
    assert before["between_class"] > bound
