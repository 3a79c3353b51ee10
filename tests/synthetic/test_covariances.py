"""Covariances are what they are called; noise has mean 0, variance 1 and its law."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats

from refspec import populations, rounding
from refspec.synthetic import covariances

U = 2.0**-53


def whitened_radius(d):
    """Davidson-Szarek: the singular values of a Gaussian (rows, d) matrix, at FAILURE.

    sqrt(rows) -+ (sqrt(d) + t), t = sqrt(2 log(2 / FAILURE)).
    """
    return math.sqrt(d) + math.sqrt(2 * math.log(2 / rounding.FAILURE))


BUILT = {
    "isotropic": 2.0,
    "diagonal": np.asarray([1.0, 4.0, 0.25, 2.0]),
    "power law": covariances.power_law(4, 1.5, 3.0),
    "toeplitz": covariances.toeplitz(4, -0.6, 2.0),
    "low rank": covariances.low_rank_plus_noise(np.arange(8.0).reshape(4, 2), 0.5),
}


@pytest.mark.parametrize("name", sorted(BUILT))
def test_root_squares_to_the_covariance(name):
    covariance = BUILT[name]
    half = populations.as_matrix(covariances.root(covariance), 4)
    matrix = populations.as_matrix(covariance, 4)
    # eigh: backward error d u ||A||; the root is 1/2-Hoelder, its square Lipschitz
    bound = 4 * rounding.eigensolver_radius(4, np.trace(matrix), U)
    bound += rounding.gamma(16, U) * np.trace(matrix)
    assert np.linalg.norm(half @ half.T - matrix, 2) <= bound
    assert not np.linalg.norm(half @ half.T - 1.01 * matrix, 2) <= bound


@pytest.mark.parametrize("name", sorted(BUILT))
def test_drawn_noise_has_the_covariance(name):
    """Whitened noise has all singular values within Davidson-Szarek of sqrt(N)."""
    N, rng = 4000, np.random.default_rng(1)
    half = covariances.root(BUILT[name])
    x = covariances.times_root(covariances.standard((N, 4), rng=rng), half)

    def off(matrix):
        values, vectors = np.linalg.eigh(matrix)
        z = (x @ vectors) / np.sqrt(values)
        return np.max(np.abs(np.linalg.svd(z, compute_uv=False) - math.sqrt(N)))

    matrix = populations.as_matrix(BUILT[name], 4)
    assert off(matrix) <= whitened_radius(4)
    assert not off(1.5 * matrix) <= whitened_radius(4)
    if matrix.ndim == 2 and np.any(matrix != np.diag(np.diag(matrix))):
        assert not off(np.diag(np.diag(matrix))) <= whitened_radius(4)


@pytest.mark.parametrize(
    ("law", "dof", "cdf", "mutant"),
    [
        ("gaussian", None, scipy.special.ndtr, lambda x: scipy.special.ndtr(x / 1.1)),
        (
            "laplace",
            None,
            lambda x: scipy.stats.laplace.cdf(x * math.sqrt(2)),
            scipy.stats.laplace.cdf,
        ),
        (
            "student",
            3.0,
            lambda x: scipy.special.stdtr(3.0, x * math.sqrt(3.0)),
            lambda x: scipy.special.stdtr(3.0, x),
        ),
        (
            "student",
            8.0,
            lambda x: scipy.special.stdtr(8.0, x * math.sqrt(8 / 6)),
            lambda x: scipy.special.stdtr(8.0, x),
        ),
    ],
)
def test_law_of_the_entries(law, dof, cdf, mutant):
    """Massart's DKW inequality: sup |F_n - F| <= sqrt(log(2/FAILURE) / 2n)."""
    n = 40000
    x = np.sort(
        covariances.standard((n,), rng=np.random.default_rng(2), noise=law, dof=dof)
    )
    bound = math.sqrt(math.log(2 / rounding.FAILURE) / (2 * n))

    def distance(F):
        steps = np.arange(n + 1) / n
        return max(np.max(steps[1:] - F(x)), np.max(F(x) - steps[:-1]))

    assert distance(cdf) <= bound
    assert not distance(mutant) <= bound


def test_power_law_and_low_rank_eigenvalues():
    assert covariances.power_law(3, 0.0, 2.0).tolist() == [2.0, 2.0, 2.0]
    factor = np.zeros((5, 2))
    factor[0, 0], factor[1, 1] = 3.0, 2.0
    matrix = covariances.low_rank_plus_noise(factor, 0.5)
    values = np.linalg.eigvalsh(matrix)
    off = np.max(np.abs(values - [0.5, 0.5, 0.5, 4.5, 9.5]))
    assert off <= rounding.eigensolver_radius(5, 9.5, U)


def test_semidefinite_is_a_covariance():
    v = np.random.default_rng(3).standard_normal((6, 1))
    half = covariances.root(v @ v.T)
    assert np.linalg.matrix_rank(half) == 1
    assert covariances.root(0.0) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: covariances.root(np.diag([1.0, -0.5])), r"eigenvalue of -0.5"),
        (lambda: covariances.root(np.triu(np.ones((2, 2)))), "must be symmetric"),
        (lambda: covariances.toeplitz(3, 1.5), "got 1.5"),
        (lambda: covariances.power_law(0, 1.0), "got 0"),
        (lambda: covariances.power_law(2, -1.0), "got -1"),
        (lambda: covariances.low_rank_plus_noise(np.ones(3), 1.0), r"got \(3,\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_low_rank_part_holds_half_of_the_variance():
    found = covariances.from_words("low-rank:2", 8, 3.0, np.random.default_rng(0))
    exact = np.asarray([6 + 1.5] * 2 + [1.5] * 6)
    values = np.linalg.eigvalsh(found)[::-1]
    bound = rounding.gamma(64, U) * 24 + rounding.eigensolver_radius(8, 7.5, U)
    assert np.abs(values - exact).max() <= bound
