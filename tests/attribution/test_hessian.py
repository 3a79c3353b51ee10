import numpy as np
import pytest

from refspec import coordinates, curvature, hessian, models
from refspec.attribution.hessian import attribute_hessian


def world(C=3, seed=0):
    rng = np.random.default_rng(seed)
    network = models.mlp([4, 5, C], "tanh", rng=rng)
    X = rng.standard_normal((4 * C, 4))
    labels = np.repeat(np.arange(C), 4)
    s = models.snapshot(network, X, labels)
    return hessian.hessian(network, X, labels), curvature.fisher(s), s


@pytest.mark.parametrize("C", [2, 3, 5])
def test_contributions_add_up_and_weyl_holds(C):
    H, G, _ = world(C)
    found = attribute_hessian(H, G)
    total = sum(found.parts.values())
    assert np.abs(total - found.values).max() <= found.radius
    gap = np.abs(found.values - found.fisher).max()
    assert gap <= found.weyl + found.radius
    assert not gap <= found.weyl / 100  # the bound is of the size of what it bounds
    assert np.sin(found.angles.max()) <= found.angle_bound
    assert len(found.angles) == C


def test_the_angle_bound_is_that_of_davis_and_kahan():
    """The gap is between the Fisher's C-th eigenvalue and the Hessian's next."""
    H, G, _ = world()
    F = G.matrix()
    found = attribute_hessian(F + (H - F) / 1024, G)  # small beside the gap
    gap = found.fisher[2] - found.values[3]
    assert found.angle_bound == found.weyl / (gap - 2 * found.radius)


def test_the_radius_holds_how_both_matrices_were_formed():
    H, G, _ = world()
    found = attribute_hessian(H, G)
    assert found.radius > coordinates.primal(G).radius > 0
    assert attribute_hessian(H, G, forming=0.5).radius >= 0.5 + found.radius / 2


def test_the_residual_of_the_fisher_itself_is_nothing():
    _, G, _ = world()
    found = attribute_hessian(G.matrix(), G)
    assert found.weyl <= 2 * found.radius
    assert "residual" not in found.kinds[:3]


def test_shapes_and_moments_that_do_not_fit():
    H, G, s = world()
    with pytest.raises(ValueError, match=r"got \(5, 5\)"):
        attribute_hessian(H[:5, :5], G)
    with pytest.raises(ValueError, match="cross classes"):
        attribute_hessian(H, curvature.empirical_fisher(s))
