"""theory/regressions.md: both limits on the ladder, and what they are not."""

import numpy as np
import pytest

from refspec.random_matrix import fitted, regressions
from refspec.theorems import Study
from refspec.theorems import regressions as page
from support.snapshots import sampled
from support.verdicts import holds, rejected

pytestmark = pytest.mark.slow


def study():
    return Study(sampled(0, (2, 3), [(1, 1)]))


@pytest.mark.theorem("Z1")
def test_Z1():
    holds("Z1", study())


@pytest.mark.theorem("Z2")
def test_Z2():
    holds("Z2", study())


def independent_inputs(monkeypatch):
    """Outputs that say nothing of the inputs."""
    true = regressions.gaussian_design

    def wrong(inputs, W, z, errors):
        nothing = 0 * W
        return true(inputs, nothing, z @ np.zeros((z.shape[1],) * 2), errors)

    monkeypatch.setattr(regressions, "gaussian_design", wrong)


def outputs_as_given(monkeypatch):
    """Deviations of draws with the outputs of the law."""
    monkeypatch.setattr(regressions, "outputs_variance", lambda _, values: 0 * values)


def logits_of_new_samples(monkeypatch):
    """A fit that its samples do not move."""
    monkeypatch.setattr(fitted, "proximal", lambda without, *_: without)


@pytest.mark.parametrize(
    ("id", "mutant"),
    [
        ("Z1", independent_inputs),
        ("Z1", outputs_as_given),
        ("Z2", logits_of_new_samples),
    ],
    ids=lambda x: x if isinstance(x, str) else x.__name__,
)
def test_mutants_are_rejected(id, mutant, monkeypatch):
    monkeypatch.setattr(page, "LADDER", page.LADDER[:1])
    monkeypatch.setattr(page, "FITS", page.FITS[:1])
    mutant(monkeypatch)
    rejected(id, study())
