"""Logits drawn from class statistics, of networks that are fitted and others."""

import numpy as np
import pytest

import refspec
from refspec.classes import log_softmax
from refspec.random_matrix import law_of, predict_fit
from refspec.random_matrix.drawn import fit_responses, gaussian_logits
from refspec.random_matrix.fitted import proximal
from refspec.random_matrix.regressions import gaussian_points
from refspec.synthetic import fit_logistic

C, N = 3, 512


def unsure(logits):
    """Return the mean of tr (diag p - p p')."""
    return np.mean(1 - np.sum(np.exp(2 * log_softmax(logits)), axis=1))


def planted(response):
    """Logits that a map of that gamma makes of Gaussian ones."""
    labels = np.repeat(np.arange(C), N)
    centre = np.eye(C) - 1 / C
    points = [gaussian_points(N, C, [5, c]) @ (2 * centre) for c in range(C)]
    without = np.concatenate(points) + 5 * centre[labels]
    return proximal(without, labels, response), labels


@pytest.mark.parametrize("response", [4.0, 40.0])
def test_gamma_is_found_again(response):
    logits, labels = planted(response)
    found = fit_responses(logits, labels)
    assert np.all(np.abs(np.log(found / response)) <= 0.25)
    drawn = gaussian_logits(logits, labels, "class", 1, found)
    plain = gaussian_logits(logits, labels, "class", 1, 0 * found)
    off, far = (abs(np.log(unsure(x) / unsure(logits))) for x in (drawn, plain))
    assert off <= far / 4
    assert off <= 0.1


def test_without_a_fit_they_are_gaussian():
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(C), 50)
    logits = rng.standard_normal((150, C))
    logits -= logits.mean(axis=1, keepdims=True)
    drawn = gaussian_logits(logits, labels, "class", 0, np.zeros(C))
    for c in range(C):
        one, two = (np.cov(x[labels == c].T) for x in (logits, drawn))
        assert np.max(np.abs(one - two)) <= 0.25 * np.max(np.abs(one))


@pytest.mark.slow
def test_a_fit_is_known_by_its_class_statistics():
    """Its samples are surer than a Gaussian of their moments, as Z2's gamma says."""
    D, n, t, decay = 24, 72, 3.0, 0.001
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(C), n)
    x = rng.standard_normal((C * n, D))
    x[np.arange(C * n), labels] += t
    logits = x @ fit_logistic(x, labels, decay=decay).T
    logits -= logits.mean(axis=1, keepdims=True)
    found = fit_responses(logits, labels)
    expected = predict_fit(C, D, n, signal=t * t, decay=decay).response
    assert abs(np.log(np.median(found) / expected)) <= np.log(2)
    drawn = gaussian_logits(logits, labels, "class", 1, found)
    plain = gaussian_logits(logits, labels, "class", 1, 0 * found)
    off, far = (abs(np.log(unsure(x) / unsure(logits))) for x in (drawn, plain))
    assert off <= far / 4


def test_drawn_logits_are_about_the_mean_of_the_slopes():
    """Errors weigh the means that slopes are about: drawn logits are elsewhere."""
    snapshot = refspec.datasets.wine_sklearn()
    data, drawn = (law_of(snapshot, outputs=x).design for x in ("data", "drawn"))
    for c in range(C):
        i = data.labels == c
        one, two = (np.mean(x.regressors[i, 1:], axis=0) for x in (data, drawn))
        assert np.max(np.abs(one - two)) <= np.max(np.abs(one)) / 4


def test_a_law_of_a_fit_says_its_gamma():
    law = law_of(refspec.datasets.wine_sklearn(), outputs="fitted")
    assert np.max(law.responses) > 0
    assert "moves them by" in law.assumes[0]
