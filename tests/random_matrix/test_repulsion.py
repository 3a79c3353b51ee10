"""Spacings of planted and trained spectra, against Gaussian and independent ones."""

import numpy as np
import pytest

import refspec
from refspec.random_matrix import spacings
from refspec.random_matrix.repulsion import GAUSSIAN, INDEPENDENT, wigner
from refspec.spectra import Spectrum


def of(values):
    return Spectrum(np.sort(values)[::-1], None, 0.0, "drawn", len(values))


def test_independent_eigenvalues_have_their_own_ratio():
    found = spacings(of(np.random.default_rng(0).uniform(0, 1, 4000)))
    assert abs(found.ratio - INDEPENDENT) <= 6 * found.error
    assert abs(found.ratio - GAUSSIAN) > 6 * found.error
    assert np.isnan(found.distance)


def test_a_gaussian_matrix():
    G = np.random.default_rng(0).standard_normal((300, 300))
    found = spacings(of(np.linalg.eigvalsh(G + G.T)))
    assert abs(found.ratio - GAUSSIAN) <= 4 * found.error


@pytest.mark.slow
@pytest.mark.theorem("R15")
def test_a_trained_network():
    """Its bulk repels as a Gaussian matrix does, eight errors from independence."""
    found = spacings(refspec.spectrum(refspec.datasets.wine_sklearn()))
    assert abs(found.ratio - GAUSSIAN) <= 3 * found.error
    assert found.ratio - INDEPENDENT > 6 * found.error


def test_what_a_radius_does_not_tell_apart_is_left_out():
    values = np.asarray([9.0, 7.0, 4.0, 2.0, 2.0, 1.0])
    found = spacings(Spectrum(values, None, 0.1, "x", 6))
    assert found.ratios.tolist() == [2 / 3, 2 / 3]
    with pytest.raises(ValueError, match="got 1; certify"):
        spacings(Spectrum(values, None, 1.2, "x", 6))
    with pytest.raises(TypeError, match="spectrum must"):
        spacings(values)
    with pytest.raises(TypeError, match="prediction must"):
        spacings(of(values), values)


def test_wigners_law_has_mean_one():
    s = np.linspace(0, 12, 100_001)
    assert abs(np.trapezoid(1 - wigner(s), s) - 1) <= (s[1] - s[0]) ** 2
