"""The Hessian of an export's network by its products."""

import numpy as np
import pytest

from refspec import models
from refspec.hessian import hessian_radius, of_snapshot, operator


def test_an_exports_network_has_a_hessian_by_products():
    """In the order asked for, measured where nothing can be proved: of a deep relu."""
    rng = np.random.default_rng(0)
    network = models.mlp([4, *[6] * 30, 3], "relu", rng=rng)
    X, labels = rng.standard_normal((9, 4)), np.arange(9) % 3
    snapshot = models.snapshot(network, X, labels)
    y = snapshot.labels
    assert hessian_radius(network, snapshot.model.inputs, y) == np.inf
    names = ["linear31", "linear1", "linear15"]
    H = operator(snapshot, names)
    true = of_snapshot(snapshot, names)
    assert [name for name, _ in H.blocks] == names
    assert sum(n for _, n in H.blocks) == H.size == len(true)
    assert np.linalg.norm(H.matrix() - true) <= 2 * H.lost
    assert 0 < H.lost < 2.0**-30 * np.linalg.norm(true)
    found, values = H.ends(2), np.linalg.eigvalsh(true)[::-1]
    assert np.abs(found.values - values[[0, 1, -2, -1]]).max() <= found.radius
    assert operator(snapshot, "linear31").size == 21
    with pytest.raises(ValueError, match="one of"):
        operator(snapshot, ["linear99"])


def test_samples_weigh_in_products_what_they_weigh_in_the_export():
    rng = np.random.default_rng(0)
    network = models.mlp([4, 5, 3], rng=rng)
    X, labels, s = rng.standard_normal((9, 4)), np.arange(9) % 3, np.arange(1.0, 10.0)
    weighted, even = (
        models.snapshot(network, X, labels, sample_weights=w)
        for w in (s / s.sum(), None)
    )
    H = operator(weighted)
    gap = np.linalg.norm(H.matrix() - of_snapshot(weighted))
    assert gap <= 2 * H.lost < np.linalg.norm(H.matrix() - of_snapshot(even))


def test_another_seed_draws_other_probes():
    """The error is measured on them; the same seed measures the same."""
    rng = np.random.default_rng(0)
    network = models.mlp([4, 5, 3], rng=rng)
    made = models.snapshot(network, rng.standard_normal((9, 4)), np.arange(9) % 3)
    first, again, other = (operator(made, seed=k).lost for k in (0, 0, 1))
    assert first == again != other
