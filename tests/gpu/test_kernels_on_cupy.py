"""The kernels' tests on CuPy arrays; skipped, saying why, where no device answers."""

import numpy as np
import pytest

import refspec
from refspec import backend

try:
    XP = backend.named("cupy")
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

from support.kernels import *  # noqa: F403


@pytest.fixture
def asarray():
    """A function that makes CuPy arrays."""
    return XP.asarray


def test_the_embedded_network_has_the_spectrum_of_the_host():
    there = refspec.datasets.digits_mlp(xp=XP)
    here = refspec.datasets.digits_mlp()
    one = refspec.spectrum(refspec.curvature.fisher(there))
    two = refspec.spectrum(refspec.curvature.fisher(here))
    n = min(one.values.shape[0], two.values.shape[0])
    gap = np.abs(backend.to_host(one.values)[:n] - two.values[:n])
    assert gap.max() <= one.radius + two.radius
