"""Property tests of theory/spectra.md, each with a mutant that its check rejects."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from refspec import coordinates
from refspec.theorems import Study
from refspec.theorems import spectra as page
from support.snapshots import snapshots, typical
from support.verdicts import holds, rejected


def scaled_dual(monkeypatch, second=1.0, means=1.0):
    def wrong(moment):
        at = right(moment)
        return replace(at, second=second * at.second, means=means * at.means)

    right = coordinates.dual
    monkeypatch.setattr(coordinates, "dual", wrong)


@pytest.mark.theorem("S1")
@given(snapshots())
def test_S1(snapshot):
    holds("S1", snapshot)


@pytest.mark.theorem("S2")
@given(snapshots(scored=False))
def test_S2(snapshot):
    holds("S2", snapshot)


@pytest.mark.parametrize("id", ["S1", "S2"])
def test_another_spectrum_is_rejected(monkeypatch, id):
    scaled_dual(monkeypatch, second=1 + 2.0**-20)
    rejected(id, typical())


def test_other_means_are_rejected(monkeypatch):
    scaled_dual(monkeypatch, means=1 + 2.0**-20)
    rejected("S1", typical())


def test_scores_left_out_count_to_first_order_in_a_level():
    """An error in the scores is seen by the levels as itself, not as its square."""
    snapshot = typical(counts=(40, 40), a=2, b=2)
    errors = snapshot.layers[0].errors.copy()
    errors[:, 0] *= 1 + 2.0**-26  # below the threshold at which rows are reduced
    layers = (replace(snapshot.layers[0], errors=errors), snapshot.layers[1])
    study = Study(replace(snapshot, layers=layers))
    name = "gradients of fc1"
    (one, s), (two, t) = study.once(page.sides)[name]
    assert two.level_radius > 2 * two.radius
    holds("S1", study)
    seen = [np.linalg.norm(x.means[0, 0]) for x in (one, two)]
    assert abs(seen[0] - seen[1]) * seen[0] > s.radius + t.radius
