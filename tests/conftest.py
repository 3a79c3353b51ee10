"""Hypothesis profiles and the array namespaces that kernels are tested under."""

import os

import array_api_compat.numpy
import array_api_strict
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

for name, examples in (("dev", 25), ("ci", 100), ("fresh", 100), ("deep", 5000)):
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        derandomize=name == "ci",
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def _read_only(x, **kwargs):
    array = np.array(x, **kwargs)
    array.setflags(write=False)
    return array


def _on_device(x, **kwargs):
    """An array that is not on the host: a hidden transfer is an error."""
    device = array_api_strict.Device("device1")
    return array_api_strict.asarray(x, device=device, **kwargs)


NAMESPACES = {
    "numpy": array_api_compat.numpy.asarray,
    "read-only": _read_only,
    "strict": array_api_strict.asarray,
    "device": _on_device,
}


@pytest.fixture(params=sorted(NAMESPACES))
def asarray(request):
    """A function that makes arrays of one namespace."""
    return NAMESPACES[request.param]
