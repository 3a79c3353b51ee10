"""Hessians of regressions: two classes, influences, what is refused."""

import dataclasses

import numpy as np
import pytest

from refspec.populations import Population
from refspec.random_matrix import predict, predict_glm
from refspec.random_matrix.conditional import counting, law
from refspec.random_matrix.regressions import (
    gaussian_design,
    influences,
    outputs_of,
)


def inputs(d=12, n=40, **given):
    """Two classes around opposite means."""
    means = 2 * np.concatenate([np.eye(1, d), -np.eye(1, d)])
    weights = np.full((2 * n, 1), 0.5 / n)
    within = np.linspace(0.5, 1.5, d)
    return Population((n, n), d, weights, within, class_means=means, **given)


def test_constant_curvature_is_the_second_moment():
    """Nothing depends on the outputs: the law is that of the inputs themselves."""
    made = inputs()
    there = predict(made)
    here = predict_glm(made, np.eye(2, 12, 3), lambda z, _: 1 + 0 * z[:, 0])
    x = np.linspace(0, there.eigenvalues[0] * 1.5, 300)
    off = np.abs(here.count(x, side="right") - there.count(x, side="right"))
    # steps of outliers of fixed means are half of an eigenvalue away from a band's
    assert np.max(off) <= 0.25 + 0.5 + 0.1
    assert abs(here.eigenvalues[0] / there.eigenvalues[0] - 1) <= 1 / 12


def test_outputs_have_their_class():
    made = inputs(n=64)
    W = np.eye(2, 12)
    z = outputs_of(made, W, 0)
    for c in range(2):
        own = z[made.labels == c]
        S = W @ np.diag(made.within[c]) @ W.T
        assert np.all(np.abs(own.mean(axis=0) - W @ made.class_means[c]) <= 1 / 16)
        assert np.all(np.abs(np.cov(own.T) - S) <= 1 / 8)


def test_influences_are_what_a_sample_adds():
    """Against the law of the design without it, whose unknowns move by 1 / N of it."""
    made, W = inputs(), np.eye(2, 12)
    z = outputs_of(made, W, 0)
    g = 1 / (2 + 2 * np.cosh(z[:, 0]))
    design = gaussian_design(made, W, z, np.sqrt(g)[:, None, None])
    at = complex(0.05, 0.02)

    def above(x):
        found = law.equivalent(x, at, tolerance=2.0**-30)
        return counting.counted(x, found), found

    whole, found = above(design)
    each = influences(design, found)
    for i in (0, 17, 55):
        kept = np.arange(len(z)) != i
        less = dataclasses.replace(
            design,
            roots=design.roots[kept],
            labels=design.labels[kept],
            regressors=design.regressors[kept],
        )
        assert abs(whole - above(less)[0] - each[i]) <= abs(each[i]) / 2
    assert np.ptp(each) > np.max(np.abs(each)) / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: predict_glm(None, np.eye(1, 12), np.sum), "inputs"),
        (lambda x: predict_glm(x, np.eye(1, 11), np.sum), r"got \(1, 11\)"),
        (lambda x: predict_glm(x, np.eye(12), lambda _, c: c), "fewer than d = 12"),
        (lambda x: predict_glm(x, np.eye(1, 12), "logistic"), "curvature"),
        (lambda x: predict_glm(x, np.eye(1, 12), lambda z, _: z), r"\(80, 1\)"),
        (lambda x: predict_glm(x, np.eye(1, 12), lambda _, c: -1.0 + 0 * c), "-1"),
        (
            lambda x: predict_glm(
                dataclasses.replace(x, noise="laplace"), np.eye(1, 12), np.sum
            ),
            "Gaussian",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(inputs())
