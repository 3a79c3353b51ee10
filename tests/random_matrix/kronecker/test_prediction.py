"""predict dispatches on gradients; one call from a planted world to its spectrum."""

import numpy as np
import pytest

import refspec
from refspec.random_matrix import KroneckerPrediction, discrepancy, predict
from refspec.synthetic import Recipe

RECIPE = Recipe(
    classes=3,
    dim=12,
    per_class=30,
    means="orthogonal",
    strength=4.0,
    feature_dim=10,
    feature_strength=4.0,
)


@pytest.mark.slow
def test_a_planted_world_is_as_predicted():
    world = RECIPE.plant()
    made = predict(world.population("layer1"))
    assert isinstance(made, KroneckerPrediction)
    assert made.method == "Kronecker"
    assert (len(made.fixed.values), made.means.shape) == (3, (3, 120))
    assert np.all(np.diff(made.eigenvalues) <= 0)
    spectrum = refspec.spectrum(refspec.curvature.fisher(world.snapshot))
    found = discrepancy(made, spectrum)
    assert found.distance <= 1 / 12
    assert np.all(np.abs(found.scores) <= 4)
    total = float(np.sum(spectrum.values[:3]))
    assert abs(total - made.total) <= 4 * made.total_deviation
    # KFAC, the mutant: the same trace, a top of less than half
    trace = float(np.sum(made.eigenvalues))
    assert abs(np.sum(made.kfac) - trace) <= trace / 12
    assert not made.kfac[0] >= made.fixed.values[0] / 2


@pytest.mark.slow
def test_canonical_world_of_theorem_8_1():
    """No noise in the errors: outliers and null space of the theorem, at finite N."""
    C, D = 3, 8
    rng = np.random.default_rng(0)
    world = refspec.synthetic.canonical(C, D, 300, signal=16.0, alpha=0.3, rng=rng)
    made = predict(world.population("softmax"))
    assert round(made.law.atom * C * D) == D
    spectrum = refspec.spectrum(refspec.curvature.fisher(world.snapshot))
    outliers = world.groups[0].value
    assert abs(made.total - np.sum(spectrum.values[: len(made.fixed.values)])) <= (
        4 * made.total_deviation
    )
    mean = float(np.mean(made.fixed.values[:C]))
    assert outliers <= mean <= outliers * (1 + 2 * C * D / 900)


@pytest.mark.parametrize("resolution", [0.0, 1.0, -1.0])
def test_bad_resolution(resolution):
    with pytest.raises(ValueError, match="resolution must lie in"):
        predict(RECIPE.plant().population("layer1"), resolution=resolution)
