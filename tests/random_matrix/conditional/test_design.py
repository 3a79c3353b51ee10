"""The regression on the outputs, and the frames."""

import numpy as np
import pytest

from refspec import rounding
from refspec.random_matrix.conditional.design import (
    conditional,
    conditional_design,
    regression,
    shrinkage,
)

U = 2.0**-53


def planted(seed, d=5, m=3):
    """A covariance (d, d), and weights (m, d) whose rows depend on each other."""
    rng = np.random.default_rng(seed)
    root, W = rng.standard_normal((d, d)), rng.standard_normal((m, d))
    return root @ root.T, W - np.mean(W, axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_residual_is_blind_to_the_outputs(seed):
    """W S = 0, W K = the projection on the range of W: known outputs leave no doubt."""
    S, W = planted(seed)
    joint = np.block([[S, S @ W.T], [W @ S, W @ S @ W.T]])
    K, residual = conditional((joint + joint.T) / 2, len(S))
    size, away = np.linalg.norm(joint), np.linalg.norm(W)
    condition = size / np.sort(np.linalg.eigvalsh(W @ S @ W.T))[1]
    bound = rounding.gamma(64 * len(joint), U) * size * (1 + away) * condition
    assert np.max(np.abs(W @ residual)) <= bound
    values = np.linalg.eigvalsh(residual)
    assert np.sum(values > bound) == len(S) - len(W) + 1
    assert np.max(np.abs(K @ W @ S + residual - S)) <= bound


def test_regression_of_samples():
    """Fitted and residual parts of each class are uncorrelated with its outputs."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), (30, 40))
    S, W = planted(1)
    h = rng.standard_normal((70, 5)) @ np.linalg.cholesky(S).T + labels[:, None]
    z = h @ W.T
    for pooled in (False, True):
        fitted, xi = regression(h, z, labels, "pooled" if pooled else "class")
        m = np.einsum("ndq,nq->nd", fitted.slopes[labels], xi)
        left = h - m
        groups = [np.ones(70, bool)] if pooled else [labels == c for c in range(2)]
        for i, residual, n in zip(groups, fitted.residual, fitted.samples, strict=True):
            size = float(np.sum(h[i] ** 2) + np.sum(z[i] ** 2)) ** 1.5
            bound = rounding.gamma(10**4, U) * size
            assert np.max(np.abs(left[i].T @ z[i])) <= bound
            assert np.max(np.abs(left[i].T @ left[i] - n * residual)) <= bound


@pytest.mark.parametrize("head", [1, 2, 5])
def test_frames_keep_the_trace(head):
    """tr sum A (x) E h h', whatever is cut off."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), (30, 40))
    h, rows = rng.standard_normal((70, 5)), rng.standard_normal((70, 3, 2))
    fitted, xi = regression(h, h[:, :2], labels, "class")
    design = conditional_design(rows, labels, fitted, xi, head=head)
    assert (design.dimension, design.reached) == (10, 10)
    sizes = np.sum(rows**2, axis=(1, 2))
    m = np.einsum("ndq,nq->nd", fitted.slopes[labels], xi)
    traces = np.trace(fitted.residual, axis1=1, axis2=2)
    there = sizes @ (traces[labels] + np.sum(m**2, axis=1))
    inner = np.einsum("nhq,nq->nh", design.slopes[labels], xi)
    traces = np.trace(design.inside, axis1=1, axis2=2) + np.sum(design.outside, axis=1)
    here = sizes @ (traces[labels] + np.sum(inner**2, axis=1))
    assert abs(here - there) <= rounding.gamma(10**4, U) * there


def test_equal_weights_are_none():
    """A sample that counts twice is one that is there twice; none at all count all."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), (6, 8))
    h, z = rng.standard_normal((14, 4)), rng.standard_normal((14, 2))
    times = np.where(np.arange(14) % 3 == 0, 2, 1)
    twice = np.repeat(np.arange(14), times)
    for weights, rows in ((np.zeros(14), np.arange(14)), (times, twice)):
        here, _ = regression(h, z, labels, "class", weights * 1.0)
        there, _ = regression(h[rows], z[rows], labels[rows], "class")
        bound = rounding.gamma(10**4, U) * np.max(np.abs(there.slopes))
        assert np.max(np.abs(here.slopes - there.slopes)) <= bound
        traces = np.trace(here.residual - there.residual, axis1=1, axis2=2)
        assert np.max(np.abs(traces)) <= bound


def test_shrinkage_is_an_estimated_error():
    """sum b^2 |x x' - S|^2 / |S - T|^2, in words that a loop says."""
    rng = np.random.default_rng(0)
    x, b = rng.standard_normal((30, 4)) * 3, rng.uniform(1, 2, 30)
    b, T = b / np.sum(b), np.eye(4)
    S = sum(share * np.outer(v, v) for share, v in zip(b, x, strict=True))
    pairs = zip(b, x, strict=True)
    error = sum(share**2 * np.sum((np.outer(v, v) - S) ** 2) for share, v in pairs)
    there = error / np.sum((S - T) ** 2)
    assert 0 < there < 1
    assert abs(shrinkage(x, T, b) - there) <= rounding.gamma(10**4, U) * there


def test_shrinkage_is_all_where_samples_are_few():
    """Of one distribution nearly all, of two apart nearly nothing once n is large."""
    rng = np.random.default_rng(0)
    target = np.eye(6)
    few = rng.standard_normal((8, 6))
    assert shrinkage(few - np.mean(few, axis=0), target, np.full(8, 1 / 8)) > 1 / 2
    assert shrinkage(np.zeros((3, 6)), np.zeros((6, 6)), np.full(3, 1 / 3)) == 1
    apart = [
        shrinkage(rng.standard_normal((n, 6)) * 3, target, np.full(n, 1 / n))
        for n in (100, 10000)
    ]
    assert 0 < apart[1] < apart[0] < 1 / 4
