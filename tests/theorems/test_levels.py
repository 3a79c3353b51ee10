"""Property tests of theory/levels.md, and mutants that their checks reject."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from refspec import Layer, curvature, snapshot, structure
from refspec.theorems import Study
from support.snapshots import altered, fitted, seen, snapshots, typical
from support.verdicts import holds, rejected, study_of, verdict

SHRINKING = (Phase.generate, Phase.shrink)


def wrong_projections():
    """Class means over every cross class, c' = c included."""

    def projections(norms):
        found = right(norms)
        if norms.shape[1] > 1:
            unit = structure.direction(norms, 1, np)
            found["between_class"] = lambda x: structure._along(unit, x, 1, np)
        else:
            plain = structure.direction(np.ones_like(norms), (0, 1), np)
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


def unscored(snapshot):
    """Errors of the same sizes whose averages over c' do not vanish."""
    rng = np.random.default_rng(0)
    layers = [
        replace(x, errors=x.errors * rng.uniform(0.5, 2, (*x.errors.shape[:2], 1, 1)))
        for x in snapshot.layers
    ]
    return replace(snapshot, layers=tuple(layers))


def test_errors_without_scores_have_a_larger_rank():
    """The ranks C(C - 1) and C of several levels together are the scores' doing."""
    snapshot = typical(a=4, b=5)
    moments = {"gradients": Study(snapshot).fisher}
    holds("L2", study_of(snapshot, moments=moments))
    wrong = unscored(snapshot)
    rejected("L2", study_of(wrong, moments={"gradients": Study(wrong).fisher}))


@pytest.mark.parametrize("lost", ["diagonal", "between_class", "between_cross_class"])
def test_a_level_that_is_not_taken_out_of_its_followers_is_rejected(monkeypatch, lost):
    """Traces do not add up, and a level that holds another has a larger rank."""

    def projections(norms):
        found = right(norms)
        if norms.shape[1] > 1:
            found[lost] = lambda x: x
        return found

    right = structure.cell_projections
    monkeypatch.setattr(structure, "cell_projections", projections)
    rejected("L2", typical(a=4, b=5))


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


def test_a_fit_is_held_to_its_terms_unless_seeds_were_differences():
    made = fitted()
    p, last = made.probabilities, made.layers[-1]
    lossy = replace(last, errors=(p[:, None] - np.eye(3))[:, :, None])
    assert verdict("L3", made).resolution < 2.0**-40
    assert verdict("L3", replace(made, layers=(lossy,))).resolution > 2.0**-20


def test_a_difference_that_passes_for_a_seed_is_within_the_bound_of_seeds():
    """Where a probability is 1e-300 a seed is known to 3e-13 of itself: p_1 - 1."""
    small = 0.0004
    p = np.array([[1e-300, 1 - small, small], [0.25, 0.25, 0.5], [0.5, 0.25, 0.25]])
    errors = (p[:, None] - np.eye(3))[:, :, None]
    layer = Layer("fc1", np.ones((3, 1, 1)), errors)
    holds("L3", snapshot([layer], [2, 0, 1], probabilities=p))


@pytest.mark.theorem("L5")
@given(snapshots())
def test_L5(snapshot):
    holds("L5", snapshot)


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


def test_class_means_with_the_diagonal_are_not_split(monkeypatch):
    """The library's class term, of means over every c'."""
    monkeypatch.setattr(structure, "cell_projections", wrong_projections())
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


@pytest.mark.parametrize(
    "what", ["errors permuted", "c' rolled", "doubled", "p uniform"]
)
def test_a_spoiled_export_with_its_network_is_rejected(what):
    """The network says that the last layer gives the logits; the errors need not."""
    made = seen(1, kinds=("tanh",), hidden=(3,))
    holds("L8", made)
    p, last, rng = made.probabilities, made.layers[-1], np.random.default_rng(0)
    wrong = {
        "errors permuted": last.errors[rng.permutation(len(p))],
        "c' rolled": np.roll(last.errors, 1, axis=1),
        "doubled": 2 * last.errors,
    }.get(what, last.errors)
    p = np.full(p.shape, 1 / p.shape[1]) if what == "p uniform" else p
    layers = (*made.layers[:-1], replace(last, errors=wrong))
    rejected("L8", replace(made, layers=layers, probabilities=p))
