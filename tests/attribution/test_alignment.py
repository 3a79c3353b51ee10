"""The gradient's part in the top eigenspace, by plain formulas and at its edges."""

import numpy as np
import pytest

import refspec
from refspec import rounding
from refspec.attribution import gradient_alignment
from support.snapshots import sampled


def plain(snapshot, k):
    """The parts and the length, everything formed."""
    y, s = snapshot.labels, snapshot.sample_weights
    g = np.concatenate(
        [
            sum(
                s[n] * np.outer(x.errors[n, y[n], t], x.features[n, t]).ravel()
                for n in range(len(y))
                for t in range(x.features.shape[1])
            )
            for x in snapshot.layers
        ]
    )
    values, vectors = np.linalg.eigh(refspec.fisher(snapshot).matrix())
    along = (vectors[:, ::-1][:, :k].T @ g) ** 2 / (g @ g)
    steps = -np.diff(values[::-1])[[0, k - 1]]
    return along.sum(), along[0], np.sqrt(g @ g), steps.min() / values[-1]


@pytest.mark.parametrize("T", [1, 2])
def test_parts_are_those_of_plain_formulas(T):
    snapshot = sampled(2, (3, 2, 4), T=T)
    found = gradient_alignment(snapshot, 3)
    part, first, length, gap = plain(snapshot, 3)
    # a top eigenvector turns by its residual over the gap, which here is not small
    bound = rounding.gamma(2**13, 2.0**-53) / gap
    assert abs(found.part - part) <= bound
    assert abs(found.first - first) <= bound
    assert abs(found.length - length) <= bound * length
    assert bound < first < part - bound  # effect: the parts are two numbers


def test_all_eigenvectors_have_all_of_it():
    moment = refspec.fisher(sampled(1, (3, 2, 4)))
    k = int(np.sum(refspec.spectrum(moment).values > refspec.spectrum(moment).radius))
    found = gradient_alignment(moment, k)
    assert abs(1 - found.part) <= rounding.gamma(2**16, 2.0**-53)
    assert found.first < 1


def test_a_label_of_no_probability_has_no_row():
    snapshot = sampled(1, (3, 2, 4))
    p = snapshot.probabilities.copy()
    p[0] = np.roll(np.eye(3)[0], 1)
    lost = refspec.snapshot(
        snapshot.layers,
        snapshot.labels,
        probabilities=p,
        sample_weights=snapshot.sample_weights,
    )
    with pytest.raises(ValueError, match="a probability above 0, got 0 in class 0"):
        gradient_alignment(lost, 1)


def test_a_sample_without_weight_adds_nothing():
    snapshot = sampled(1, (3, 2, 4), empty=0)
    found = gradient_alignment(snapshot, 3)
    part, _, length, gap = plain(snapshot, 3)
    bound = rounding.gamma(2**13, 2.0**-53) / gap
    assert abs(found.part - part) <= bound
    assert abs(found.length - length) <= bound * length


def test_features_have_no_gradient():
    moment = refspec.features(sampled(), "fc1")
    with pytest.raises(ValueError, match="K = C cross classes"):
        gradient_alignment(moment, 1)
