"""The kernels' tests on a GPU, by CuPy and by PyTorch; skipped where none answers."""

import contextlib

import numpy as np
import pytest

import refspec
from refspec import backend, verify


def answering():
    """The namespaces that reach a GPU here, and why others do not."""
    found, reasons = {}, []
    for name in ("cupy", "torch"):
        try:
            xp = backend.named(name)
            if name == "torch" and not xp.cuda.is_available():
                raise ImportError("backend torch: no CUDA device answered")
        except ImportError as error:
            reasons.append(str(error))
        else:
            found[name] = xp
    return found, "; ".join(reasons)


FOUND, REASONS = answering()
if not FOUND:
    pytest.skip(REASONS, allow_module_level=True)

from support.kernels import *  # noqa: F403


@pytest.fixture(params=sorted(FOUND))
def xp(request):
    """A namespace whose new arrays lie on the GPU."""
    xp, torch = FOUND[request.param], request.param == "torch"
    with xp.device("cuda") if torch else contextlib.nullcontext():
        yield xp


@pytest.fixture
def asarray(xp):
    """A function that makes arrays on the GPU, of their own memory."""
    return lambda x: xp.asarray(np.array(x))


def test_the_embedded_network_has_the_spectrum_of_the_host(xp):
    there = refspec.datasets.digits_mlp(xp=xp)
    one, two = map(refspec.attribute, (there, refspec.datasets.digits_mlp()))
    assert backend.is_on_device(one.spectrum.values)
    n = min(one.spectrum.values.shape[0], two.spectrum.values.shape[0])
    gap = np.abs(backend.to_host(one.spectrum.values)[:n] - two.spectrum.values[:n])
    assert gap.max() <= one.radius + two.radius
    for name, trace in one.traces.items():
        assert abs(trace - two.traces[name]) <= 2778 * (one.radius + two.radius)


def test_every_statement_on_data_holds_on_the_device(xp):
    there = refspec.datasets.digits_mlp(xp=xp)
    found = {x.id: x.status for x in verify.verify(there)}
    host = {x.id: x.status for x in verify.verify(refspec.datasets.digits_mlp())}
    assert found == host
    assert "fails" not in found.values()


def test_a_temporary_on_the_device_may_be_larger_than_on_the_host(xp):
    there, here = xp.zeros(1), np.zeros(1)
    assert backend.is_on_device(there)
    assert backend.at_a_time(8, there) >= backend.at_a_time(8, here)
