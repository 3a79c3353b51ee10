"""theory/random_matrix.md: checks on snapshots, a short ladder, and the mutants."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given

from refspec.random_matrix import prediction, random_means, scores
from refspec.random_matrix.free import law as free_law
from refspec.random_matrix.free import outliers
from refspec.random_matrix.free import spectrum as free_spectrum
from refspec.random_matrix.nested import outliers as nested_outliers
from refspec.theorems import Study, random_matrix
from support.snapshots import sampled, samples
from support.verdicts import holds, rejected

#: The full ladder is climbed by `refspec selftest --deep` and by tests/benchmarks.
SHORT = ((100, 60), (200, 20))


@pytest.fixture
def study(monkeypatch):
    """A study whose ladder is short."""
    monkeypatch.setattr(random_matrix, "LADDER", SHORT)
    return Study(sampled(0, (2, 3), [(1, 1)]))


@pytest.mark.theorem("R1")
@given(samples(layers=1))
def test_R1(study):
    holds("R1", study)


@pytest.mark.theorem("R5")
@given(samples(layers=1, classes=3))
def test_R5(study):
    holds("R5", study)


@pytest.mark.theorem("R6")
@given(samples(layers=1))
def test_R6(study):
    holds("R6", study)


@pytest.mark.theorem("R7")
def test_R7(study):
    holds("R7", study)


@pytest.mark.theorem("R13")
@pytest.mark.parametrize("seed", range(3))
def test_R13(seed):
    holds("R13", Study(sampled(0, (2, 3), [(1, 1)]), seed=seed))


@pytest.mark.theorem("R8")
def test_R8(study):
    holds("R8", study)


@pytest.mark.theorem("R14")
def test_R14(study):
    holds("R14", study)


@pytest.mark.theorem("R15")
def test_R15(study):
    holds("R15", study)


@pytest.mark.theorem("R16")
@given(samples(layers=1))
def test_R16(study):
    holds("R16", study)


@pytest.mark.theorem("R17")
@given(samples(layers=1))
def test_R17(study):
    holds("R17", study)


def one_covariance(monkeypatch):
    """All coordinates have the mean of the variances."""
    true = random_matrix.stacked

    def wrong(layers):
        made = true(layers)
        mean = float(np.mean(made.within[0]))
        return dataclasses.replace(made, within_covariance=mean)

    monkeypatch.setattr(random_matrix, "stacked", wrong)


def rows_of_their_own(monkeypatch):
    """The weights of the labels taken for those of rows of their own."""
    true = scores.roots
    monkeypatch.setattr(scores, "roots", lambda weights, _: true(weights, None))


def independent(monkeypatch):
    """Eigenvalues that know nothing of each other: uniform in number below."""
    true = prediction.Prediction.count

    def wrong(made, x, *, side):
        found = true(made, x, side=side)
        draws = np.random.default_rng(len(found)).uniform(0, 1, len(found))
        return np.sort(draws) * made.dimension if len(found) > 2 else found

    monkeypatch.setattr(prediction.Prediction, "count", wrong)


def one_spike(monkeypatch):
    """The threshold of Baik, Ben Arous and Peche for a bump of many rows."""
    true = random_matrix.split_threshold

    def wrong(d, bulk, _, scale):
        return true(d, bulk, 0, scale)

    monkeypatch.setattr(random_matrix, "split_threshold", wrong)


def at_the_edge(monkeypatch):
    """The largest eigenvalue at the edge on average."""

    def wrong(made):
        return made.bands[-1].upper, prediction.TRACY_WIDOM[1] * made.bands[
            -1
        ].upper_scale

    monkeypatch.setattr(prediction.Prediction, "bulk_maximum", property(wrong))


def other_exponent(monkeypatch):
    """Fluctuations of the order of the spacings in the bulk, d^-1."""
    true = free_spectrum.edges.edge_scale

    def wrong(law, v):
        return true(law, v) * law.dimension ** (-1 / 3)

    monkeypatch.setattr(free_spectrum.edges, "edge_scale", wrong)


def rows_without_noise(monkeypatch):
    """Means that do not fluctuate with the effects averaged in them."""

    def wrong(design, *_):
        return np.zeros((len(design.means), len(design.means)))

    monkeypatch.setattr(nested_outliers, "_resistance_slopes", wrong)


def plain_lawley(monkeypatch):
    """Means repel as random effects do, v_k v_l / (d (v_k - v_l)), all of it."""

    def spread(*of):
        rate = np.sqrt(free_law.derivative(*of[:2]))
        return np.outer(rate, rate) * np.outer(of[1], of[1]) / of[0].dimension

    monkeypatch.setattr(outliers, "_spread", spread)
    monkeypatch.setattr(outliers, "_self_shift", lambda *of: 0 * of[1])


def shift_times(factor):
    """Return a mutant: the shift that the length of a mean lacks, times a number."""

    def mutate(monkeypatch):
        true = outliers._self_shift
        monkeypatch.setattr(outliers, "_self_shift", lambda *of: factor * true(*of))

    return mutate


def unbiased_noise(monkeypatch):
    """A resolvent whose mean is its limit."""
    monkeypatch.setattr(outliers, "_lifted", lambda _, v: v)


def no_shift(monkeypatch):
    """Neither: outliers at psi(v)."""
    unbiased_noise(monkeypatch)
    shift_times(0)(monkeypatch)


def rows_are_means(monkeypatch):
    """Overlaps with the rows of the class means, of which the means are a share."""
    true = random_means._overlaps

    def wrong(population, values):
        n, K, s1 = population.sizes[0], population.C - 1, population.class_covariance
        noise = n * population.cross_covariance + population.within_covariance
        return true(population, values) * (1 + noise / (n * K * s1))

    monkeypatch.setattr(random_means, "_overlaps", wrong)


def no_overlap_loss(monkeypatch):
    """Overlaps of the rows with their means, as if eigenvectors were the rows."""
    monkeypatch.setattr(outliers, "overlaps", lambda *of: of[2] / of[1])


def diagonal_kept(monkeypatch):
    """C(C-1) bump eigenvalues in place of C(C-2): c' = c counted in."""
    true = random_matrix.predict

    def wrong(population):
        weights = np.full_like(population.weights, population.weights.max())
        return true(dataclasses.replace(population, weights=weights))

    monkeypatch.setattr(random_matrix, "predict", wrong)


def no_cross_level(monkeypatch):
    """A reduction that forgets the cross-class means."""
    true = random_matrix.reduction

    def wrong(population):
        return true(dataclasses.replace(population, cross_covariance=None))

    monkeypatch.setattr(random_matrix, "reduction", wrong)


def shares_of_the_rows(monkeypatch):
    """A distribution function whose masses are of N rows, not of d eigenvalues."""
    true = free_law.cumulative

    def wrong(law, v):
        return true(law, v) * law.dimension / law.counts.sum()

    monkeypatch.setattr(free_law, "cumulative", wrong)


@pytest.mark.parametrize(
    ("id", "mutant"),
    [
        ("R1", no_cross_level),
        ("R5", shares_of_the_rows),
        ("R6", one_spike),
        ("R7", at_the_edge),
        ("R7", other_exponent),
        ("R8", plain_lawley),
        ("R8", no_overlap_loss),
        ("R8", shift_times(0)),
        ("R8", shift_times(2)),
        ("R8", unbiased_noise),
        ("R8", no_shift),
        ("R13", rows_without_noise),
        ("R15", independent),
        ("R14", diagonal_kept),
        ("R14", rows_are_means),
        ("R16", rows_of_their_own),
        ("R17", one_covariance),
    ],
    ids=lambda x: x if isinstance(x, str) else x.__name__,
)
def test_mutants_are_rejected(id, mutant, study, monkeypatch):
    mutant(monkeypatch)
    rejected(id, study)
