"""Laws of layers, from snapshots."""

import numpy as np
import pytest

import refspec
from refspec import rounding
from refspec.random_matrix import discrepancy, law_of, predict_layer


@pytest.fixture(scope="module")
def snapshot():
    return refspec.datasets.wine_sklearn()


@pytest.mark.parametrize("covariances", ["class", "shrunk", "pooled"])
def test_the_trace_is_that_of_the_layer(snapshot, covariances):
    """Up to what degrees of freedom that are counted off leave: n / (n - 1)."""
    law = law_of(snapshot, covariances=covariances)
    design = law.design
    sizes = np.sum(design.roots**2, axis=(1, 2))
    m = np.einsum("nhq,nq->nh", design.slopes[design.labels], design.regressors)
    traces = np.trace(design.inside, axis1=1, axis2=2) + np.sum(design.outside, axis=1)
    trace = sizes @ (traces[design.own] + np.sum(m**2, axis=1))
    exact = refspec.fisher(snapshot, [law.layer]).trace()
    assert abs(trace - exact) <= exact / 4
    assert 1 - law.kept <= rounding.gamma(10**4, 2.0**-53)  # nothing is cut off
    assert len(law.assumptions) == 3


def test_a_last_layer_is_predicted(snapshot):
    law = law_of(snapshot)
    made = predict_layer(law)
    found = discrepancy(made, refspec.spectrum(refspec.fisher(snapshot, [law.layer])))
    assert found.distance * made.dimension <= 3
    assert abs(found.scores[0]) <= 4


def test_pooled_drawn_and_inner_laws_differ(snapshot):
    tops = [
        predict_layer(law_of(snapshot, **given)).eigenvalues[0]
        for given in (
            {},
            {"covariances": "pooled"},
            {"covariances": "shrunk"},
            {"outputs": "drawn"},
            {"given": "class"},
            {"layer": "coefs_1", "given": "class", "head": 2},
        )
    ]
    assert len(set(tops)) == len(tops)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layer": "coefs_1"}, "must be the logits"),
        ({"given": "class", "outputs": "drawn"}, "must be those of the data"),
        ({"given": "logits"}, "given"),
        ({"outputs": "guessed"}, "outputs"),
        ({"covariances": "none"}, "covariances"),
        ({"layer": "no"}, "layer"),
        ({"head": 0}, "head"),
    ],
)
def test_what_is_refused(snapshot, given, message):
    with pytest.raises(ValueError, match=message):
        law_of(snapshot, **given)


def test_positions_are_refused():
    with pytest.raises(ValueError, match="one position"):
        law_of(refspec.datasets.mnist_cnn(), "conv1", given="class")
