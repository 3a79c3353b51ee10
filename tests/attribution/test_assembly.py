"""What is put together of levels and shares, in numbers that are exact."""

from dataclasses import replace

import numpy as np

from refspec.attribution.assembly import assembled
from refspec.spectra import Spectrum

VALUES = np.array([16.0, 6.5, 4.0, 3.5, 1.0])
#: Sums of levels decide a kind: .75 and .25 of outliers' levels, .5 against .25 twice.
SHARES = {
    "diagonal": np.array([0.25, 0.25, 0.25, 0.0, 0.0]),
    "between_class": np.array([0.5, 0.5, 0.125, 0.25, 0.0]),
    "between_cross_class": np.array([0.25, 0.25, 0.5, 0.5, 0.25]),
    "within_cross_class": np.array([0.0, 0.0, 0.125, 0.25, 0.75]),
}
RADIUS = 0.25


def made():
    levels = {n: np.array([1.0]) for n in SHARES}
    knockouts = {n: np.array([1.0]) for n in SHARES}
    # M, all but the class means, has its edge at 6; without the cross-class means at 3
    levels["within_cross_class"] = np.array([3.0, 1.0])
    knockouts["between_class"] = np.array([6.0, 2.0])
    between, traces = np.array([14.0, 5.0]), dict.fromkeys(SHARES, 1.0)

    def angles(names, k):
        return np.array([len(names) + k / 8])

    return assembled(
        None, traces, VALUES, SHARES, levels, knockouts, between, angles, RADIUS
    )


def test_what_is_proved_stands_above_all_that_weaker_levels_can_make():
    found = made()
    assert found.kinds == ["outlier", "outlier", "bump", "bump", "bulk"]
    # 16 > 6 and 4 > 3 by more than both radii; 6.5 and 3.5 are above by just as much
    assert found.proved.tolist() == [True, False, True, False, False]


def test_the_sandwich_is_the_class_means_and_the_edge_of_the_rest():
    found = made()
    assert (found.lower + RADIUS).tolist() == [14.0, 5.0, 0.0, 0.0, 0.0]
    assert (found.upper - RADIUS).tolist() == [20.0, 11.0, 6.0, 6.0, 6.0]


def test_angles_are_of_as_many_eigenvectors_as_stand_above_the_edge():
    """The edge over the last of them bounds the sine (Davis and Kahan)."""
    found = made()
    # 16 alone is above 6 by more than both radii, 16, 6.5 and 4 are above 3
    assert {n: x.tolist() for n, x in found.angles.items()} == {
        "outlier": [2 + 1 / 8],
        "bump": [3 + 3 / 8],
    }
    assert found.angle_bounds == {
        "outlier": (6 + RADIUS) / (16 - RADIUS),
        "bump": (3 + RADIUS) / (4 - RADIUS),
    }


def test_kinds_are_counted_of_eigenvalues_above_the_radius():
    """3.5 is a bump by its shares, and within 3.5 of zero; 1 is the bulk, and below."""
    whole = Spectrum(VALUES, None, RADIUS, "a priori", len(VALUES))
    found = replace(made(), spectrum=whole)
    assert found.counts == {"outlier": 2, "bump": 2, "bulk": 1}
    found = replace(found, radius=3.5)
    assert found.counts == {"outlier": 2, "bump": 1, "bulk": 0}
