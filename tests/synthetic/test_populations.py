"""Populations add their levels, are drawn as they say, and refuse what is none."""

import math

import numpy as np
import pytest
import scipy.special

from refspec import populations, rounding
from refspec.populations import KroneckerPopulation, Population
from refspec.random_matrix import predict
from refspec.synthetic import covariances
from refspec.synthetic.worlds import draw

SIZES = (400, 600, 1000)
LABELS = np.repeat(range(3), SIZES)


def features(d, within=1.0, **given):
    return Population(SIZES, d, np.ones((2000, 1)), within, **given)


def errors(d, within=1.0, **given):
    return Population(SIZES, d, np.ones((2000, 3)), within, **given)


def small(K, d=1, within=1.0, **given):
    return Population((1, 1), d, np.full((2, K), 0.25), within, **given)


def chi_square(dof):
    """Quantiles of chi-square at FAILURE / 2 below and above."""
    tail = rounding.FAILURE / 2
    return 2 * scipy.special.gammaincinv(dof / 2, tail), 2 * scipy.special.gammainccinv(
        dof / 2, tail
    )


def inside(value, dof):
    low, high = chi_square(dof)
    return low <= value <= high


def test_fixed_means_add():
    law = small(
        2,
        global_mean=np.asarray([1.0]),
        class_means=np.asarray([[2.0], [4.0]]),
        cross_means=np.asarray([[[8.0], [16.0]], [[32.0], [64.0]]]),
    )
    assert law.fixed_means()[:, :, 0].tolist() == [[11, 19], [37, 69]]


def test_draw_without_noise_is_the_fixed_mean():
    means = np.arange(9.0).reshape(3, 3, 1)
    x = draw(errors(1, 0.0, cross_means=means), rng=np.random.default_rng(0))
    assert np.array_equal(x, means[LABELS])


def test_per_class_noise_by_chi_square():
    """sum (x - m)' S_c^{-1} (x - m) is chi-square for every class."""
    S = (20.0, np.asarray([1.0, 4.0, 9.0]), covariances.toeplitz(3, 0.7))
    means = np.arange(9.0).reshape(3, 3)
    x = draw(features(3, S, class_means=means), rng=np.random.default_rng(1))[:, 0]
    for c in range(3):
        z = x[c == LABELS] - means[c]
        for k in range(3):
            form = np.linalg.inv(populations.as_matrix(S[k], 3))
            assert inside(np.sum((z @ form) * z), z.size) == (k == c)


def test_random_means_by_chi_square():
    """Class and cross-class effects have their covariances, and are shared."""
    law = errors(400, 0.0, class_covariance=0.5, cross_covariance=1.0)
    x = draw(law, rng=np.random.default_rng(2))
    first = np.searchsorted(LABELS, range(3))
    assert np.array_equal(x, x[first][LABELS])  # one effect per class, not per sample
    m = x[first]
    spread = m - m.mean(axis=1, keepdims=True)
    assert inside(np.sum(spread**2), 3 * 2 * 400)
    between = 3 * np.sum(m.mean(axis=1) ** 2)
    assert inside(between / (3 * 0.5 + 1), 3 * 400)
    assert not inside(between / (3 * 0.5), 3 * 400)
    assert not inside(between / (0.5 + 1), 3 * 400)


def test_scales_multiply_the_noise_only():
    law = features(2, class_means=np.ones((3, 2)))
    x, y = (
        draw(law, rng=np.random.default_rng(3), scales=s)
        for s in (1.0, np.full(len(LABELS), 2.0))
    )
    off = np.max(np.abs((y - 1) - 2 * (x - 1)))
    assert off <= rounding.gamma(8, 2.0**-53) * (2 + 2 * np.max(np.abs(x)))


@pytest.mark.parametrize("noise", populations.NOISES)
def test_every_noise_is_drawn(noise):
    dof = 5.0 if noise == "student" else None
    x = draw(errors(4, noise=noise, dof=dof), rng=np.random.default_rng(4))
    assert x.shape == (2000, 3, 4)
    assert math.isfinite(np.sum(x))


def test_gradients_with_the_one_feature_1_are_the_errors():
    law = small(2, 3, cross_covariance=0.5)
    both = populations.as_kronecker(law)
    assert both.errors is law
    assert both.dimension == 3
    assert np.all(both.features.fixed_means() == 1)
    assert np.all(both.features.weights == 0.5)
    assert populations.as_kronecker(both) is both
    assert (law.class_kind, law.cross_kind) == ("absent", "random")


def test_arrays_are_copies_that_nobody_changes():
    m, S = np.ones((2, 2)), np.eye(2)
    law = small(2, 2, S, class_means=m, class_covariance=np.ones(2))
    m[0], S[0] = 7, 7
    assert law.class_means.tolist() == [[1, 1], [1, 1]]
    assert law.within_covariance.tolist() == [[1, 0], [0, 1]]
    for x in (law.weights, law.class_means, law.class_covariance, law.within[1]):
        with pytest.raises(ValueError, match="read-only"):
            x[...] = 0


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (
            small(2, class_means=np.ones((2, 1)), class_covariance=1.0),
            "class means must be fixed or random",
        ),
        (
            small(2, cross_means=np.ones((2, 2, 1)), cross_covariance=1.0),
            "cross-class means must be fixed or random",
        ),
    ],
)
def test_populations_that_nothing_predicts(law, message):
    with pytest.raises(ValueError, match=message):
        populations.expect_predictable(law)
    with pytest.raises(ValueError, match=message):
        predict(law)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Population((), 3, np.ones((0, 1)), 1.0), r"C >= 1 .* got \(\)"),
        (lambda: small(2, 3, global_mean=np.ones(2)), r"got \(2,\)"),
        (lambda: small(2, 3, class_means=np.ones((3, 2))), r"got \(3, 2\)"),
        (lambda: small(2, cross_means=np.full((2, 2, 1), np.inf)), "infinite"),
        (lambda: small(2, 3, class_covariance=-1.0), "class_covariance"),
        (lambda: small(2, 3, (1.0, 2.0, 3.0)), "got 3"),
        (lambda: small(2, 3, (1.0, -2.0)), r"within_covariance\[1\]"),
        (lambda: small(2, 3, np.ones(2)), r"got \(2,\)"),
        (lambda: small(2, 2, np.diag([1.0, -0.5])), "eigenvalue of -0.5"),
        (lambda: small(2, 2, np.triu(np.ones((2, 2)))), "must be symmetric"),
        (lambda: small(2, 2, 1e308 * np.ones((2, 2))), "scale it down"),
        (lambda: small(2, 2, np.nan), "must be finite"),
        (lambda: small(2, noise="cauchy"), "got 'cauchy'"),
        (lambda: small(2, noise="student"), "dof=None"),
        (lambda: small(2, dof=4.0), "dof=4.0"),
        (lambda: small(2, noise="student", dof=2.0), "got 2.0"),
        (lambda: small(1, score_consistent=True), "got K = 1"),
        (
            lambda: Population((1, 1), 1, 1 - np.eye(2), 1.0, score_consistent=True),
            "got 0",
        ),
        (lambda: KroneckerPopulation(small(2), small(1), coupling=2.0), "got 2.0"),
        (lambda: KroneckerPopulation(small(2), small(2)), "K=2"),
        (
            lambda: KroneckerPopulation(
                Population((1, 2), 1, np.ones((3, 2)), 1.0), small(1)
            ),
            r"got \(1, 1\) and \(1, 2\)",
        ),
        (
            lambda: KroneckerPopulation(small(2), small(1, cross_covariance=1.0)),
            "no cross-class part",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
