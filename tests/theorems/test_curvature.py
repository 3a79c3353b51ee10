"""Property tests of theory/curvature.md, and mutants that their checks reject."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from refspec import curvature
from refspec.differentiated import Differentiated
from support.snapshots import altered, snapshots, typical
from support.verdicts import holds, rejected, study_of


def other_fisher(snapshot, name, **how):
    """A study whose Fisher is that of a snapshot with one number altered."""
    return study_of(snapshot, fisher=curvature.fisher(altered(snapshot, name, **how)))


@pytest.mark.theorem("C1")
@given(snapshots(scored=False))
def test_C1(snapshot):
    holds("C1", snapshot)


@pytest.mark.theorem("C2")
@given(snapshots(scored=False))
def test_C2(snapshot):
    holds("C2", snapshot)


@pytest.mark.theorem("C3")
@given(snapshots())
def test_C3(snapshot):
    holds("C3", snapshot)


@pytest.mark.theorem("C7")
@given(snapshots(scored=False))
def test_C7(snapshot):
    holds("C7", snapshot)


@pytest.mark.theorem("C8")
@given(snapshots())
def test_C8(snapshot):
    holds("C8", snapshot)


@pytest.mark.theorem("C9")
@given(snapshots())
def test_C9(snapshot):
    holds("C9", snapshot)


@pytest.mark.theorem("C11")
@given(snapshots())
def test_C11(snapshot):
    holds("C11", snapshot)


@pytest.mark.theorem("C10")
@given(snapshots(scored=False))
def test_C10(snapshot):
    holds("C10", snapshot)


def test_without_the_most_probable_class_a_small_row_is_lost(monkeypatch):
    def plain(rows, V):
        p, T = rows.probabilities[:, :, None], rows.jacobian.entries @ V
        T = T + 1.0  # a common part of all logits, which p - e is blind to
        mean = np.sum(p * T, axis=1, keepdims=True)
        return rows.roots[:, :, None] * (mean - T)

    snapshot = typical()
    p = np.asarray([1 - 2.0**-29, 2.0**-30, 2.0**-30])
    fitted = replace(snapshot, probabilities=np.tile(p, (12, 1)))
    holds("C8", fitted)
    monkeypatch.setattr(Differentiated, "dot", plain)
    rejected("C8", fitted)


@pytest.mark.parametrize("wrong", [1, -1])
def test_a_transpose_with_another_sign_is_rejected(monkeypatch, wrong):
    right = Differentiated.cross
    monkeypatch.setattr(Differentiated, "cross", lambda x, Z: wrong * right(x, Z))
    (holds if wrong == 1 else rejected)("C8", typical())


@pytest.mark.parametrize("name", ["features", "errors"])
@pytest.mark.parametrize("id", ["C1", "C2", "C3", "C7"])
def test_one_altered_number_is_rejected(id, name):
    rejected(id, other_fisher(typical(), name))


def test_the_other_order_of_the_factors_is_rejected():
    snapshot = typical()
    swapped = replace(
        snapshot,
        layers=tuple(
            replace(x, features=x.errors[:, 0], errors=x.features[:, None].repeat(3, 1))
            for x in snapshot.layers
        ),
    )
    wrong = study_of(snapshot, fisher=curvature.fisher(swapped))
    rejected("C1", wrong)


def test_the_empirical_fisher_is_not_the_gauss_newton_matrix():
    snapshot = typical()
    p = np.eye(3)[snapshot.labels]  # all the weight on the label
    wrong = study_of(
        snapshot, fisher=curvature.fisher(replace(snapshot, probabilities=p))
    )
    rejected("C3", wrong)


@pytest.mark.theorem("C4")
@given(snapshots())
def test_C4(snapshot):
    holds("C4", snapshot)


@pytest.mark.theorem("C5")
@given(snapshots(scored=False))
def test_C5(snapshot):
    holds("C5", snapshot)


def test_leaving_out_the_true_class_is_rejected(monkeypatch):
    def dropped(moment):
        return right(replace(moment, weights=0 * moment.weights))

    right = curvature.score_reduced
    monkeypatch.setattr(curvature, "score_reduced", dropped)
    rejected("C5", typical())


@pytest.mark.theorem("C6")
@given(snapshots(scored=False, layers=2))
def test_C6(snapshot):
    holds("C6", snapshot)
