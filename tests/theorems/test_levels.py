"""Property tests of theory/levels.md, each with a mutant that its check rejects."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from refspec import curvature, structure
from refspec.theorems import Study, levels
from support.snapshots import altered, snapshots, typical
from support.verdicts import holds, rejected, study_of

SHRINKING = (Phase.generate, Phase.shrink)


def wrong_projections():
    """Class means over every cross class, c' = c included."""

    def projections(norms):
        found = right(norms)
        if norms.shape[1] > 1:
            unit = structure._direction(norms, 1, np)
            found["between_class"] = lambda x: structure._along(unit, x, 1, np)
        else:
            plain = structure._direction(np.ones_like(norms), (0, 1), np)
            found["global_mean"] = lambda x: structure._along(plain, x, (0, 1), np)
        return found

    right = structure.cell_projections
    return projections


@pytest.mark.theorem("L1")
@given(snapshots(scored=False))
def test_L1(snapshot):
    holds("L1", snapshot)


def test_means_with_the_diagonal_are_rejected(monkeypatch):
    monkeypatch.setattr(structure, "cell_projections", wrong_projections())
    rejected("L1", typical())


def test_the_counter_example_of_a_mutant_is_shrunk_and_printed(monkeypatch):
    """A demonstration: see it with pytest -s."""

    @settings(max_examples=20, derandomize=True, database=None, phases=SHRINKING)
    @given(snapshots(scored=False, layers=1, one=True))
    def mutant(snapshot):
        moment = {"errors": curvature.errors(snapshot, "fc1")}
        holds("L1", study_of(snapshot, moments=moment))

    monkeypatch.setattr(structure, "cell_projections", wrong_projections())
    with pytest.raises(AssertionError) as caught:
        mutant()
    print(str(caught.value), *caught.value.__notes__, sep="\n")
    words = " ".join(caught.value.__notes__)
    assert "labels=array([0, 1])" in words  # two classes of one sample suffice


@pytest.mark.theorem("L2")
@given(snapshots())
def test_L2(snapshot):
    holds("L2", snapshot)


def test_a_smaller_rank_is_rejected(monkeypatch):
    right, snapshot = levels.ranks, typical(a=4, b=5)
    for names in right(3, 3, True):
        with monkeypatch.context() as patch:
            one_less = {names: right(3, 3, True)[names] - 1}
            patch.setattr(levels, "ranks", lambda *_, x=one_less: x)
            studied = Study(snapshot)
            moments = {"gradients": studied.fisher}
            rejected("L2", study_of(snapshot, moments=moments))
    monkeypatch.setattr(structure, "cell_projections", wrong_projections())
    rejected("L2", snapshot)


@pytest.mark.theorem("L3")
@given(snapshots())
def test_L3(snapshot):
    holds("L3", snapshot)


@pytest.mark.theorem("L4")
@given(snapshots())
def test_L4(snapshot):
    holds("L4", snapshot)


@pytest.mark.parametrize("id", ["L3", "L4"])
@pytest.mark.parametrize("k", range(3))
def test_one_altered_error_is_rejected(id, k):
    rejected(id, altered(typical(), "errors", index=(0, k, 0, 0)))


@pytest.mark.theorem("L5")
@given(snapshots())
def test_L5(snapshot):
    holds("L5", snapshot)


def test_weighted_means_are_not_the_2019_terms(monkeypatch):
    monkeypatch.setattr(structure, "plain_means", lambda moment: moment)
    rejected("L5", typical())


@pytest.mark.theorem("L6")
@given(snapshots(scored=False))
def test_L6(snapshot):
    holds("L6", snapshot)


def test_a_plain_global_mean_is_rejected(monkeypatch):
    monkeypatch.setattr(structure, "cell_projections", wrong_projections())
    rejected("L6", typical())


@pytest.mark.theorem("L7")
@given(snapshots(scored=False))
def test_L7(snapshot):
    holds("L7", snapshot)


def test_a_global_mean_with_the_diagonal_is_rejected(monkeypatch):
    def over_all(v, p):
        return (p[:, :, None] * v).sum(1) / p.sum(1)[:, None], p.sum(1)

    monkeypatch.setattr(levels, "defined_class_means", over_all)
    rejected("L7", typical())


@pytest.mark.theorem("L8")
@given(snapshots(logits=True))
def test_L8(snapshot):
    holds("L8", snapshot)


@pytest.mark.parametrize("k", range(3))
def test_an_altered_error_at_the_logits_is_rejected(k):
    wrong = altered(typical(), "errors", index=(2, k, 0, 1), layer=1)
    rejected("L8", wrong)


def test_errors_elsewhere_need_not_sum_to_zero():
    snapshot = typical()
    moment = curvature.errors(snapshot, "fc1")
    assert np.linalg.matrix_rank(moment.matrix()) == 4  # b, not b - 1
