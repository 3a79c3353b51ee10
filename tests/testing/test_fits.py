"""What fits is named only if its bound can fail, and if chance would not do it."""

import numpy as np

from refspec.testing.fits import Fit, explained, told


def test_a_bound_must_be_able_to_fail():
    """A quarter of what was found is too much, half of that is not."""
    found, true = np.array([4.0, 0.0]), np.array([4.0, 0.25])
    fits = list(explained("near", "it is near", true, found, 0.5))
    assert [(x.name, x.sentence, x.ratio) for x in fits] == [
        ("near", "it is near", 0.5)
    ]
    assert not list(explained("near", "", true, found, 0.125))
    assert not list(explained("near", "", true, found, 1.0))


def test_one_number_is_soon_near_and_a_matrix_is_not():
    """The part of a ball that is nearer: 2 gap / size to the number of numbers."""
    (one,) = explained("", "", np.array([4.25]), np.array([4.0]), 0.5)
    assert one.chance == 2.0**-3
    found = np.full((2, 2), 2.0)
    (four,) = explained("", "", found + 0.125, found, 0.5)
    assert four.chance == (2 * 0.25 / 4) ** 4


def test_what_one_of_many_candidates_fits_by_chance_has_no_name():
    fits = [Fit("rare", "", 0.0, 2.0**-20), Fit("common", "", 0.0, 2.0**-12)]
    assert told(fits, 4) == fits
    assert told(fits, 5) == fits[:1]
