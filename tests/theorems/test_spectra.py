"""Property tests of theory/spectra.md, and what their radii hold."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from refspec import curvature
from refspec.theorems import Study
from refspec.theorems import spectra as page
from support.snapshots import snapshots, typical
from support.verdicts import holds


@pytest.mark.theorem("S1")
@given(snapshots())
def test_S1(snapshot):
    holds("S1", snapshot)


@pytest.mark.theorem("S2")
@given(snapshots(scored=False))
def test_S2(snapshot):
    holds("S2", snapshot)


@pytest.mark.theorem("S5")
@given(snapshots())
def test_S5(snapshot):
    holds("S5", snapshot)


@pytest.mark.theorem("S6")
@settings(max_examples=12)
@given(snapshots())
def test_S6(snapshot):
    holds("S6", snapshot)


@pytest.mark.parametrize(("power", "left_out"), [(-48, True), (-26, False)])
def test_scores_left_out_count_to_first_order_in_a_level(power, left_out):
    """An error in the scores is seen by the levels as itself, not as its square.

    So rows are reduced only where that is below rounding, and it is in the radius.
    """
    snapshot = typical(counts=(40, 40), a=2, b=2)
    errors = snapshot.layers[0].errors.copy()
    errors[:, 0] *= 1 + 2.0**power
    layers = (replace(snapshot.layers[0], errors=errors), snapshot.layers[1])
    study = Study(replace(snapshot, layers=layers))
    name = "gradients of fc1"
    _, (at, _) = study.once(page.sides)[name]
    seen = 2 * (curvature.scores(at.moment) * at.trace) ** 0.5
    assert (at.level_radius >= at.radius + seen) == left_out
    assert (at.level_radius >= seen) == left_out
    holds("S1", study)
