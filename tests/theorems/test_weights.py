"""Property tests of theory/weights.md, and mutants that their checks reject."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import refspec
from refspec.theorems import find
from refspec.theorems import weights as page
from support.flaws.weights import stated, stationary
from support.snapshots import altered, sampled, snapshots, trained, typical
from support.verdicts import holds, rejected, study_of


@pytest.mark.theorem("D1")
@given(snapshots(), st.sampled_from([1e-6, 0.3, 10.0]))
def test_D1(snapshot, decay):
    holds("D1", stationary(snapshot, decay))


@pytest.mark.parametrize("name", ["features", "errors"])
def test_one_altered_number_is_rejected(name):
    snapshot = stationary(typical(), 0.1)
    holds("D1", snapshot)
    rejected("D1", altered(snapshot, name))


def test_one_altered_label_is_rejected():
    snapshot = stationary(typical(), 0.1)
    labels = snapshot.labels.copy()
    labels[3] = 1  # the last sample of class 0: still sorted
    rejected("D1", replace(snapshot, labels=labels))


def test_a_trained_network_has_the_weights_of_its_errors():
    before, after = trained()
    assert after.provenance["gradient_norm"] <= 2.0**-20
    holds("D1", after)
    rejected("D1", before)


def test_training_must_be_known():
    (theorem,) = find(["D1"])
    assert "model" in theorem.unmet(study_of(typical()))
    snapshot = stationary(typical(), 0.1)
    for name in ("weight_decay", "gradient_norm"):
        given = {k: v for k, v in snapshot.provenance.items() if k != name}
        unmet = theorem.unmet(study_of(replace(snapshot, provenance=given)))
        assert name in unmet


@pytest.mark.theorem("D2")
@given(snapshots(scored=False))
def test_D2(snapshot):
    holds("D2", snapshot)


def test_gradients_of_other_weights_and_labels_are_rejected(monkeypatch):
    """The samples' weights times a probability; the labels of the next class."""
    true = page.curvature.empirical_fisher

    def reweighted(snapshot, layers):
        p = snapshot.probabilities[:, 0]
        return true(replace(snapshot, sample_weights=p / p.sum()), layers)

    def relabelled(snapshot, layers):
        layer = snapshot.layer(layers[0])
        moved = replace(layer, errors=np.roll(layer.errors, 1, axis=1))
        return true(replace(snapshot, layers=(moved,)), layers)

    for wrong in (reweighted, relabelled):
        monkeypatch.setattr(page.curvature, "empirical_fisher", wrong)
        rejected("D2", typical())


@pytest.mark.theorem("D3")
@given(snapshots())
def test_D3(snapshot):
    p = snapshot.probabilities[np.arange(len(snapshot.labels)), snapshot.labels]
    assume(np.all(p >= 2.0**-1022))
    holds("D3", stated(snapshot))


def test_a_relabelled_sample_has_another_loss():
    snapshot = stated(typical())
    labels = snapshot.labels.copy()
    labels[3] = 1
    rejected("D3", replace(snapshot, labels=labels))
    (theorem,) = find(["D3"])
    assert "mean_loss" in theorem.unmet(study_of(typical()))
    certain = sampled(certain=True)  # of labels 0, 0, 0, 1, 2, 2, 2, 2
    labels = np.maximum(certain.labels, [0, 0, 1, 1, 2, 2, 2, 2])
    wrong = replace(certain, labels=labels, provenance={"mean_loss": 0.0})
    assert "underflow" in theorem.unmet(study_of(wrong))


def restated(snapshot, factor):
    """Multiply the stated loss."""
    given = dict(snapshot.provenance)
    given["mean_loss"] *= factor
    return replace(snapshot, provenance=given)


def test_a_label_of_the_embedded_export_is_seen():
    digits = refspec.datasets.digits_mlp()
    holds("D3", digits)
    rejected("D3", restated(digits, 1.003))
    last = digits.offsets[4] - 1
    labels = digits.labels.copy()
    labels[last] = 4
    rejected("D3", replace(digits, labels=labels))
