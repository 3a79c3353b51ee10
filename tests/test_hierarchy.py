"""Hierarchies add their levels; plans say what cannot be planted."""

import math

import numpy as np
import pytest
import scipy.special

from refspec import populations, rounding
from refspec.synthetic import covariances, hierarchy
from refspec.synthetic.hierarchy import Hierarchy, Plan

LABELS = np.repeat(range(3), (400, 600, 1000))


def chi_square(dof):
    """Quantiles of chi-square at FAILURE / 2 below and above."""
    tail = rounding.FAILURE / 2
    return 2 * scipy.special.gammaincinv(dof / 2, tail), 2 * scipy.special.gammainccinv(
        dof / 2, tail
    )


def inside(value, dof):
    low, high = chi_square(dof)
    return low <= value <= high


def test_planted_means_add():
    law = Hierarchy(
        2,
        1,
        global_mean=np.asarray([1.0]),
        class_means=np.asarray([[2.0], [4.0]]),
        cross_means=np.asarray([[[8.0], [16.0]], [[32.0], [64.0]]]),
    )
    assert hierarchy.planted_means(law, 2)[:, :, 0].tolist() == [[11, 19], [37, 69]]


def test_draw_without_noise_is_the_planted_mean():
    means = np.arange(9.0).reshape(3, 3, 1)
    law = Hierarchy(3, 1, cross_means=means, within=0.0)
    x = hierarchy.draw(law, LABELS, 3, rng=np.random.default_rng(0))
    assert np.array_equal(x, means[LABELS])


def test_per_class_noise_by_chi_square():
    """sum (x - m)' S_c^{-1} (x - m) is chi-square for every class."""
    S = (20.0, np.asarray([1.0, 4.0, 9.0]), covariances.toeplitz(3, 0.7))
    means = np.arange(9.0).reshape(3, 3)
    law = Hierarchy(3, 3, class_means=means, within=S)
    x = hierarchy.draw(law, LABELS, 1, rng=np.random.default_rng(1))[:, 0]
    for c in range(3):
        z = x[c == LABELS] - means[c]
        for k in range(3):
            form = np.linalg.inv(populations.as_matrix(S[k], 3))
            assert inside(np.sum((z @ form) * z), z.size) == (k == c)


def test_random_means_by_chi_square():
    """Class and cross-class effects have their covariances, and are shared."""
    law = Hierarchy(3, 400, class_covariance=0.5, cross_covariance=1.0, within=0.0)
    x = hierarchy.draw(law, LABELS, 3, rng=np.random.default_rng(2))
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
    law = Hierarchy(3, 2, class_means=np.ones((3, 2)))
    x, y = (
        hierarchy.draw(law, LABELS, 1, rng=np.random.default_rng(3), scales=s)
        for s in (1.0, np.full(len(LABELS), 2.0))
    )
    off = np.max(np.abs((y - 1) - 2 * (x - 1)))
    assert off <= rounding.gamma(8, 2.0**-53) * (2 + 2 * np.max(np.abs(x)))


@pytest.mark.parametrize("law", covariances.LAWS)
def test_every_law_is_drawn(law):
    dof = 5.0 if law == "student" else None
    x = hierarchy.draw(
        Hierarchy(3, 4, law=law, dof=dof), LABELS, 3, rng=np.random.default_rng(4)
    )
    assert x.shape == (2000, 3, 4)
    assert math.isfinite(np.sum(x))


def test_population_is_the_law_of_the_plan():
    """Means, covariances and weights from either description, entry for entry."""
    rng = np.random.default_rng(5)
    within = (covariances.toeplitz(2, 0.5), 3.0, np.asarray([1.0, 2.0]))
    means = rng.standard_normal((3, 2))
    errors = Hierarchy(3, 2, class_means=means, cross_covariance=0.5, within=within)
    features = Hierarchy(3, 4, global_mean=np.ones(4), class_covariance=2.0)
    w = np.full((6, 3), 1 / 18)
    found = hierarchy.population(Plan("x", errors, features), (2, 1, 3), w)
    for law, K, other in ((errors, 3, found.errors), (features, 1, found.features)):
        assert np.array_equal(other.fixed_means(), hierarchy.planted_means(law, K))
        for c in range(3):
            a, b = other.within[c], hierarchy.within(law, c)
            d = law.dimension
            assert np.array_equal(
                populations.as_matrix(a, d), populations.as_matrix(b, d)
            )
    assert (found.errors.class_kind, found.errors.cross_kind) == ("fixed", "random")
    assert (found.errors.cross_covariance, found.features.class_covariance) == (0.5, 2)
    assert np.array_equal(found.errors.weights, w)
    off = np.max(np.abs(found.features.weights - 1 / 6))
    assert off <= rounding.gamma(8, 2.0**-53)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan("x", Hierarchy(2, 1), Hierarchy(2, 1), coupling=0.5), "coupling = 0.5"),
        (Plan("x", Hierarchy(2, 1), score_consistent=True), "score_consistent = True"),
        (
            Plan(
                "x",
                Hierarchy(2, 1, class_means=np.ones((2, 1)), class_covariance=1.0),
            ),
            "fixed or random",
        ),
    ],
)
def test_laws_that_are_no_population(plan, message):
    with pytest.raises(ValueError, match=message):
        hierarchy.population(plan, (1, 1), np.full((2, 2), 0.25))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Hierarchy(1, 3), "got C = 1, d = 3"),
        (lambda: Hierarchy(2, 3, global_mean=np.ones(2)), r"got \(2,\)"),
        (lambda: Hierarchy(2, 3, class_means=np.ones((3, 2))), r"got \(3, 2\)"),
        (lambda: Hierarchy(2, 1, cross_means=np.full((2, 2, 1), np.inf)), "infinite"),
        (lambda: Hierarchy(2, 3, class_covariance=-1.0), "class_covariance"),
        (lambda: Hierarchy(3, 3, within=(1.0, 2.0)), "got 2"),
        (lambda: Hierarchy(2, 3, within=(1.0, -2.0)), "within covariance 1"),
        (lambda: Hierarchy(2, 3, law="student", dof=1.5), "got 1.5"),
        (lambda: Plan("x", Hierarchy(2, 1), coupling=2.0), "got 2.0"),
        (lambda: Plan("x", Hierarchy(2, 1), coupling=0.5), "without features"),
        (lambda: Plan("x", Hierarchy(2, 1), Hierarchy(3, 1)), "2 for errors and 3"),
        (
            lambda: Plan("x", Hierarchy(2, 1), Hierarchy(2, 1, cross_covariance=1.0)),
            "no cross-class part",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
