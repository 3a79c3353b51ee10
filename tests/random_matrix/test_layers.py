"""Laws of layers, from snapshots."""

import numpy as np
import pytest

import refspec
from refspec import rounding
from refspec.random_matrix import (
    discrepancy,
    law_of,
    layers,
    predict_layer,
    tables,
)

#: Of the logits' moments, weighed: what a pseudo-inverse costs.
CONDITION = 2.0**20


@pytest.fixture(scope="module")
def snapshot():
    return refspec.datasets.wine_sklearn()


@pytest.mark.parametrize("covariances", ["class", "pooled"])
def test_the_trace_is_that_of_the_layer(snapshot, covariances):
    """Whatever the features are, of samples weighed by their errors."""
    law = law_of(snapshot, covariances=covariances)
    design = law.design
    sizes = np.sum(design.roots**2, axis=(1, 2))
    m = np.einsum("nhq,nq->nh", design.slopes[design.labels], design.regressors)
    traces = np.trace(design.inside, axis1=1, axis2=2) + np.sum(design.outside, axis=1)
    trace = sizes @ (traces[design.own] + np.sum(m**2, axis=1))
    exact = refspec.fisher(snapshot, law.layers).trace()
    assert abs(trace - exact) <= CONDITION * rounding.gamma(10**4, 2.0**-53) * exact
    assert 1 - law.design.kept <= rounding.gamma(10**4, 2.0**-53)  # nothing is cut off
    assert len(law.assumes) == 3


@pytest.mark.slow
def test_samples_alike_have_another_trace(snapshot):
    """Here most samples have hardly any error: the plain covariance is of others."""
    weighed, alike = (
        predict_layer(law_of(snapshot, weights=x)).eigenvalues.sum()
        for x in ("errors", "samples")
    )
    exact = refspec.fisher(snapshot, ["coefs_2"]).trace()
    assert abs(weighed - exact) < abs(alike - exact)


def test_a_last_layer_is_predicted(snapshot):
    law = law_of(snapshot)
    made = predict_layer(law)
    found = discrepancy(made, refspec.spectrum(refspec.fisher(snapshot, law.layers)))
    assert found.distance * made.dimension <= 3
    assert abs(found.scores[0]) <= 4


def planted(rng, n, C, d):
    """Make a last layer of n samples a class, its logits a linear map of features."""
    labels = np.repeat(np.arange(C), n)
    features = rng.standard_normal((n * C, d)) + 2 * np.eye(C, d)[labels]
    logits = features @ rng.standard_normal((d, C)) * rng.choice([0.3, 3.0])
    p = np.exp(logits - np.max(logits, axis=1, keepdims=True))
    p /= np.sum(p, axis=1, keepdims=True)
    errors = (p[:, None, :] - np.eye(C))[:, :, None, :]
    layer = refspec.Layer("fc", features[:, None, :], errors)
    return refspec.snapshot([layer], labels, logits=logits)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_as_many_outputs_as_samples_leave_the_spectrum_itself(seed):
    """The regression on outputs is then exact, and nothing is random."""
    rng = np.random.default_rng(seed)
    C = int(rng.integers(2, 5))
    made = planted(rng, int(rng.integers(1, C + 1)), C, int(rng.integers(C + 1, 8)))
    law = law_of(made)
    assert not np.any(law.design.inside)  # no covariance is left, not even rounding's
    exact = refspec.spectrum(refspec.fisher(made, ["fc"])).values
    found = predict_layer(law).eigenvalues[: len(exact)]
    # down to where the sum of all is rounding: each lies between its neighbours, and
    # those that stand out where they are
    r = int(np.sum(exact > exact[0] * 2.0**-30))
    assert r >= C
    assert np.all(found[1:r] <= exact[: r - 1] * (1 + 2.0**-5))
    assert np.all(found[: r - 1] >= exact[1:r] * (1 - 2.0**-5))


@pytest.mark.slow
def test_pooled_drawn_and_inner_laws_differ(snapshot):
    tops = [
        predict_layer(law_of(snapshot, **given)).eigenvalues[0]
        for given in (
            {},
            {"covariances": "pooled"},
            {"covariances": "shrunk"},
            {"outputs": "drawn"},
            {"weights": "samples"},
            {"given": "class"},
            {"layers": "coefs_1", "given": "class", "head": 2},
        )
    ]
    assert len(set(tops)) == len(tops)


@pytest.mark.parametrize("hidden", [0, 5])
def test_what_is_too_small_is_said(snapshot, hidden):
    design = law_of(snapshot).design
    P, x = design.dimension, np.asarray([0.25, 1.0])
    atom = 1 - (design.reached - hidden) / P
    table = tables.LawTable((), atom, x, np.asarray([atom, 1.0]), x, 0 * x)
    told = "".join(layers._hidden(design, table))
    assert told == (
        "float64 tells the law down to 0.25: 5 eigenvalues below are counted at 0"
        if hidden
        else ""
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": "coefs_1"}, "must be the logits"),
        ({"given": "class", "outputs": "drawn"}, "must be those of the data"),
        ({"given": "logits"}, "given"),
        ({"outputs": "guessed"}, "outputs"),
        ({"covariances": "none"}, "covariances"),
        ({"weights": "none"}, "weights"),
        ({"layers": "no"}, "layers"),
        ({"layers": []}, "got none"),
        ({"layers": ["coefs_2", "coefs_2"]}, "distinct"),
        ({"layers": ["coefs_0", "coefs_1"]}, "must be the logits"),
        ({"layers": ["coefs_1", "coefs_2"], "outputs": "drawn"}, "several layers"),
        ({"head": 0}, "head"),
        ({"groups": 1}, "groups"),
        ({"groups": 8, "outputs": "drawn"}, "groups"),
    ],
)
def test_what_is_refused(snapshot, given, message):
    with pytest.raises(ValueError, match=message):
        law_of(snapshot, **given)


@pytest.mark.parametrize("flaw", ["a class without samples", "no errors"])
def test_what_no_law_is_made_of_is_refused(flaw):
    rng = np.random.default_rng(0)
    labels = np.asarray([0, 0, 2, 2])
    logits = rng.standard_normal((4, 3))
    if flaw == "no errors":
        labels, logits = np.arange(3), 800.0 * np.eye(3)
    features = rng.standard_normal((len(labels), 1, 2))
    errors = np.zeros((len(labels), 3, 1, 3))
    layer = refspec.Layer("fc", features, errors)
    made = refspec.snapshot([layer], labels, logits=logits)
    with pytest.raises(ValueError, match="must have a sample and some error"):
        law_of(made, given="class")
