"""Layers together: what each is alone, and laws that add up."""

import dataclasses

import numpy as np
import pytest

import refspec
from refspec import rounding
from refspec.random_matrix import law_of, layers
from refspec.random_matrix.conditional import design, law
from refspec.random_matrix.conditional.design import narrowed, regression
from refspec.random_matrix.conditional.together import together
from refspec.theorems.conditional import mixture, small

U = 2.0**-53


def sampled(seed=0):
    """Features of two layers, outputs, labels and the weights of samples in each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(2), (30, 40))
    h = rng.standard_normal((70, 7)) @ rng.standard_normal((7, 7)) + labels[:, None]
    return [h[:, :3], h[:, 3:]], h[:, :2], labels, [*rng.uniform(0.2, 3, (2, 70))]


@pytest.mark.parametrize("covariances", ["class", "shrunk", "pooled"])
@pytest.mark.parametrize("weighed", [True, False])
def test_each_layer_is_what_it_is_alone(covariances, weighed):
    """Means of samples and covariances; the whole has no negative variance."""
    features, z, labels, weights = sampled()
    weights = weights if weighed else [None, None]
    whole, xi = together(features, z, labels, covariances, weights)
    m = np.einsum("ndq,nq->nd", whole.slopes[labels], xi)
    size = float(np.sum(m**2))
    bound = rounding.gamma(10**5, U) * size
    samples = []
    for h, a, i in zip(features, weights, (slice(3), slice(3, 7)), strict=True):
        own, its = regression(h, z, labels, covariances, a)
        alone = np.einsum("ndq,nq->nd", own.slopes[labels], its)
        assert np.max(np.abs(m[:, i] - alone)) <= bound
        assert np.array_equal(whole.residual[:, i, i], own.residual)
        samples.append(own.samples)
    assert np.array_equal(whole.samples, np.min(samples, axis=0))
    least = np.min(np.linalg.eigvalsh(whole.residual))
    assert least >= -rounding.eigensolver_radius(7, size, U)
    assert np.max(np.abs(whole.residual[:, :3, 3:])) > 1 / 8


def test_what_is_left_is_correlated_as_it_is():
    """Samples alike: the covariance of all residuals, entry by entry."""
    features, z, labels, _ = sampled()
    whole, xi = together(features, z, labels, "class", [None, None])
    h = np.concatenate(features, axis=1)
    left = h - np.einsum("ndq,nq->nd", whole.slopes[labels], xi)
    for c, S in enumerate(whole.residual):
        r = left[labels == c]
        condition = np.linalg.cond(S[2:, 2:]) + np.linalg.cond(z)
        bound = rounding.gamma(10**4, U) * condition * np.trace(S)
        # the first two features are the outputs: nothing is left of them
        assert np.max(np.abs(r.T @ r / len(r) - S)) <= bound


def alone(both, layer):
    """Return one of the layers of a design."""
    h = both.inside.shape[1]
    errors, features = (x == layer for x in both.layers)
    head, tail = features[:h], features[h:]
    return dataclasses.replace(
        both,
        roots=both.roots[:, errors],
        slopes=both.slopes[:, head],
        inside=both.inside[:, head][:, :, head],
        outside=both.outside[:, tail],
        layers=(both.layers[0][errors], both.layers[1][features]),
    )


@pytest.mark.parametrize("z", [3 + 1j, 40 + 0.5j])
def test_layers_that_share_no_sample_are_laws_that_add_up(z):
    """Whatever the correlations: their errors never meet."""
    both = small(0, 2)
    i = both.labels == 0
    roots = np.array(both.roots)
    roots[i, 1], roots[~i, 0] = 0, 0
    both = dataclasses.replace(both, roots=roots)
    parts = [alone(both, k) for k in (0, 1)]
    assert both.reached == sum(x.reached for x in parts) == 5
    # where a covariance makes no difference, its unknowns do not either
    whole, *traces = (
        law.equivalent(x, z, tolerance=2.0**-30).trace for x in (both, *parts)
    )
    assert abs(whole - sum(traces)) <= 2.0**-15 * abs(whole)


@pytest.mark.parametrize("head", [1, 5, 11])
def test_frames_keep_the_trace_of_each_layer(head):
    both = mixture(24, 0, inner=16).design
    cut = narrowed(both, head)
    assert cut.reached == both.reached

    def traces(x):
        m = np.einsum("nhq,nq->nh", x.slopes[x.labels], x.regressors)
        variances = np.diagonal(x.inside, axis1=1, axis2=2)[x.own]
        second = np.concatenate([variances + m**2, x.outside[x.own]], axis=1)
        sizes = np.sum(x.roots**2, axis=2)  # of each error
        return [
            np.sum(sizes[:, x.layers[0] == k].sum(1) @ second[:, x.layers[1] == k])
            for k in (0, 1)
        ]

    for one, two in zip(traces(both), traces(cut), strict=True):
        assert abs(one - two) <= rounding.gamma(10**5, U) * one


def test_as_many_features_are_whole_as_fit_the_side(monkeypatch):
    """Those of the largest gradients, of whichever layer."""
    monkeypatch.setattr(layers, "WIDE", 40)
    monkeypatch.setattr(design, "SIDE", 40)
    snapshot = refspec.datasets.wine_sklearn()
    cut = law_of(snapshot, ["coefs_1", "coefs_2"]).design
    h = cut.inside.shape[1]
    sides = np.sum(cut.parameters, axis=0)
    assert np.sum(sides[:h]) <= 40 < np.sum(sides[: h + 1])
    assert set(cut.layers[1][:h]) == {0, 1}
    whole = law_of(snapshot, ["coefs_1", "coefs_2"], head=100).design
    assert np.array_equal(whole.layers[1][:h], cut.layers[1][:h])


@pytest.mark.parametrize("names", [["coefs_1", "coefs_2"], ["coefs_2", "coefs_1"]])
def test_the_trace_is_that_of_the_layers(names):
    """Whatever the features are, of samples weighed by their errors, in any order."""
    snapshot = refspec.datasets.wine_sklearn()
    made = law_of(snapshot, names)
    assert made.layers == ("coefs_1", "coefs_2")
    x = made.design
    m = np.einsum("nhq,nq->nh", x.slopes[x.labels], x.regressors)
    second = np.diagonal(x.inside, axis1=1, axis2=2)[x.own] + m**2
    sizes = np.sum(x.roots**2, axis=2)
    for k, name in enumerate(made.layers):
        exact = refspec.fisher(snapshot, [name]).trace()
        here = sizes[:, x.layers[0] == k].sum(1) @ second[:, x.layers[1] == k].sum(1)
        assert abs(here - exact) <= 2.0**20 * rounding.gamma(10**4, U) * exact
