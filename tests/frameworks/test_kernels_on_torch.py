"""The kernels' tests on torch tensors: what `--backend torch` runs."""

import numpy as np
import pytest
import torch

import refspec
from refspec import backend
from support.kernels import *  # noqa: F403


@pytest.fixture
def asarray():
    """A function that makes tensors, of its own memory."""
    return lambda x: torch.asarray(np.array(x))


def test_the_embedded_network_has_the_spectrum_of_numpy():
    there = refspec.datasets.digits_mlp(xp=backend.named("torch"))
    here = refspec.datasets.digits_mlp()
    one = refspec.attribute(refspec.curvature.fisher(there))
    two = refspec.attribute(refspec.curvature.fisher(here))
    n = min(one.spectrum.values.shape[0], two.spectrum.values.shape[0])
    gap = np.abs(backend.to_host(one.spectrum.values)[:n] - two.spectrum.values[:n])
    assert gap.max() <= one.radius + two.radius
    for name, trace in one.traces.items():
        assert abs(trace - two.traces[name]) <= 2778 * (one.radius + two.radius)
