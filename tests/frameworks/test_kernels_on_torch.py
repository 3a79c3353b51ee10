"""The kernels' tests on torch tensors: what `--backend torch` runs."""

import json

import numpy as np
import pytest
import torch

import refspec
from refspec import backend
from support.command import run
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


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small planted world, which has a population to predict from."""
    path = tmp_path_factory.mktemp("torch") / "world.npz"
    assert run("synth", "-o", path, "--classes", 3, "--per-class", 8).exit_code == 0
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("attribute",),
        ("attribute", "--top", 3),
        ("spectrum", "--of", "errors", "--layer", "layer1"),
        ("kfac",),
        ("verify",),
        ("claims",),
        ("predict",),
    ],
    ids=lambda x: " ".join(map(str, x)),
)
def test_a_command_says_the_same_of_tensors(world, words, tmp_path):
    said = {}
    for on in ("numpy", "torch"):
        out = tmp_path / f"{on}.json"
        found = run(*words, world, "--backend", on, "--json", out)
        assert found.exit_code == 0, found.output
        said[on] = json.loads(out.read_text())
    assert shape(said["numpy"]) == shape(said["torch"])


def shape(x, key=""):
    """The keys of a document, and the words that judge: not numbers, nor sentences."""
    if isinstance(x, dict):
        return {k: shape(v, k) for k, v in x.items()}
    if isinstance(x, list):
        return [shape(v, key) for v in x]
    judging = key in ("id", "kind", "kinds", "status", "verdict")
    return x if judging else type(x).__name__
