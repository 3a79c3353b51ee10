from dataclasses import replace

import numpy as np
import pytest

from refspec import coordinates, curvature, hessian, models
from refspec.attribution.hessian import attribute_hessian
from refspec.implicit import HessianOperator
from support.snapshots import sampled


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


@pytest.mark.parametrize("top", [None, 5])
def test_the_angle_bound_is_that_of_davis_and_kahan(top):
    """The gap is between the Fisher's C-th eigenvalue and the Hessian's next."""
    H, G, _ = world()
    F = G.matrix()
    near = F + (H - F) / 1024  # small beside the gap
    found = attribute_hessian(near, G, top=top)
    gap = found.fisher[2] - found.values[3]
    assert found.angle_bound == found.weyl / (gap - 2 * found.radius)
    # a radius of .4 times the gap is still below half of it, one of .6 times is not
    for part in (0.4, 0.6):
        found = attribute_hessian(near, G, forming=part * gap)
        assert np.isfinite(found.angle_bound) == (part < 0.5)


@pytest.mark.parametrize("top", [None, 5])
def test_angles_and_norm_are_those_of_explicit_matrices(top):
    H, G, _ = world()
    F = G.matrix()
    found = attribute_hessian(H, G, top=top)
    (h, U), (g, V) = (np.linalg.eigh(x) for x in (H, F))
    U, V = U[:, -3:], V[:, -3:]
    sines = np.linalg.svd(V - U @ (U.T @ V), compute_uv=False)
    # a subspace turns by its error over the gap beside it
    turned = 4 * found.radius / min(h[-3] - h[-4], g[-3] - g[-4])
    assert np.abs(np.sin(found.angles)[::-1] - sines).max() <= turned < sines[1]
    # no eigenvalue of E, known to the radius, is larger than the norm that is said
    assert np.abs(found.residual).max() + found.radius <= found.weyl
    assert found.weyl <= np.linalg.norm(H - F, 2) + 2 * found.radius


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


def test_as_many_parameters_as_classes_have_no_gap():
    """Nothing is beside the eigenspace: it is everything."""
    G = curvature.fisher(sampled(counts=(3, 2), sides=((1, 2),)))
    found = attribute_hessian(G.matrix(), G)
    assert len(found.values) == len(found.angles) == 2
    assert found.angle_bound == np.inf


def test_an_operator_is_as_uncertain_as_it_says_and_as_it_is_told():
    H, G, _ = world()
    known = HessianOperator(lambda V: H @ V, H, len(H), 0.25)
    for top in (None, 5):
        assert attribute_hessian(known, G, top=top, forming=0.5).radius >= 0.75
    with pytest.raises(ValueError, match="float32"):
        attribute_hessian(replace(known, like=np.float32(H)), G)
