"""Coupled and score-consistent gradients: two kinds of samples, expectations, sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import curvature, rounding, spectra
from refspec.populations import KroneckerPopulation
from refspec.random_matrix import predict
from refspec.random_matrix.comparison import kolmogorov
from refspec.random_matrix.kronecker import outliers
from refspec.random_matrix.kronecker.design import kronecker_design
from refspec.synthetic import Recipe
from refspec.theorems import Study
from support.verdicts import holds

U64 = 2.0**-53


def recipe(**given):
    """Fixed levels on both sides, softmax probabilities."""
    small = {
        "classes": 3,
        "dim": 4,
        "per_class": (2, 3, 4),
        "means": "directions",
        "cross_strength": 2.0,
        "feature_dim": 5,
        "confidence": 1.0,
        "spread": 0.5,
    }
    return Recipe(**{**small, **given})


@pytest.mark.theorem("G1")
@given(st.sampled_from([-1.0, -0.5, 0.5, 1.0]), st.booleans(), st.integers(0, 2**31))
def test_expectations_in_the_frame(coupling, consistent, seed):
    made = recipe(coupling=coupling, score_consistent=consistent, seed=seed).plant()
    study = Study(made.snapshot, world=made)
    holds("G1", study)
    holds("G5", study)


@pytest.mark.parametrize("lengths", [False, True])
def test_half_of_the_samples_have_either_sign(lengths):
    population = recipe(coupling=-0.25).plant().population("layer1")
    samples = kronecker_design(population, lengths=lengths).samples
    assert samples.sizes.tolist() == [2, 3, 4]
    if not lengths:
        scaled = np.unique(samples.features).tolist()
        assert scaled == [0.5, 1.5]
        for s, t, n in zip(
            samples.features, samples.errors, samples.counts, strict=True
        ):
            assert np.all(t == 2 - s)
            assert n == 0.5  # probabilities all differ


def test_deviations_of_coupled_noise():
    """What both sides' noise adds to an outlier has the variance 1 + kappa."""
    made = recipe(per_class=6, score_consistent=True)
    rng, drawn = np.random.default_rng(0), {}
    U, forms = rng.standard_normal((2, 4, 5)), [np.eye(3) + np.zeros((3, 3, 3))] * 2
    for coupling in (-1.0, 0.0, 1.0):
        world = Recipe(**{**made.record(), "coupling": coupling}).plant()
        design = kronecker_design(world.population("layer1"))
        shape = design.errors.frame, design.features.frame
        inside = [shape[0].T @ u @ shape[1] for u in U]
        drawn[coupling] = outliers._small_noise(design, np.stack(inside), forms, 0)
    both, one = drawn[1.0] - drawn[-1.0], drawn[0.0] - drawn[-1.0]
    size = sum(np.max(np.abs(x)) for x in drawn.values())
    assert np.max(np.abs(both - np.sqrt(2) * one)) <= rounding.gamma(4096, U64) * size
    assert np.max(np.abs(one)) > size / 64


@pytest.mark.parametrize("of", ["errors", "features"])
def test_one_side_alone(of):
    """Its noise has two scales, which the law without coupling does not know."""
    made = recipe(coupling=0.9, per_class=40, dim=60, feature_dim=60, strength=9.0)
    world = made.plant()
    population = world.population("layer1", of)
    assert isinstance(population, KroneckerPopulation)
    assert population.dimension == 60
    measured = spectra.spectrum(getattr(curvature, of)(world.snapshot, "layer1"))
    values = np.append(measured.values, np.zeros(measured.n_zero))
    away = kolmogorov(predict(population), values)
    assert away < kolmogorov(predict(population.errors), values)


@pytest.mark.slow
@pytest.mark.parametrize("side", [10, 16, 20])
def test_score_consistent_gradients_approach_their_law(side):
    made = recipe(
        classes=4,
        dim=side,
        feature_dim=side,
        per_class=side * side // 10,
        strength=4.0,
        feature_strength=5.0,
        score_consistent=True,
        confidence=None,
    )
    distances = []
    for seed in range(8):
        world = made.__class__(**{**made.record(), "seed": seed}).plant()
        measured = spectra.spectrum(curvature.fisher(world.snapshot))
        values = np.append(measured.values, np.zeros(measured.n_zero))
        distances.append(kolmogorov(predict(world.population("layer1")), values))
    assert np.mean(distances) <= 0.7 / side
