"""The radius of the nearest Kronecker products: what theory says, term by term."""

import math

import numpy as np
import pytest

from refspec import curvature, rounding
from refspec.coordinates.frame import scaled
from refspec.factors import lengths
from refspec.kronecker import nearest
from refspec.kronecker.comparison import layer_fisher
from support.snapshots import sampled

U = 2.0**-53


@pytest.mark.parametrize("sides", [(3, 2), (2, 3)])
def test_nearest_products(sides):
    """Every term as its eigenproblem and its products, the square as a sum of them."""
    s = sampled(counts=(3, 1, 4), sides=(sides,), T=2)
    found = nearest(s, "fc", 2)
    m = curvature.fisher(s)
    small, _ = scaled(m)
    (f,) = small.rows.layers
    N, K, T, b = f.roots.shape
    a = f.features.shape[2]
    each = np.sum(lengths(f.roots, 3) * lengths(f.features, 2)[:, None, :], axis=2)
    size = float(np.sum(each**2))
    once = rounding.gamma(N * K * T + 2 * (T + a + b) + 16, U) * size
    n, P = m.shape
    square = 4 * rounding.gamma(min(n, P) ** 2 + 4 * (n + P) + 64, U) * size**2
    total = float(np.sum(small.matrix() ** 2))
    least = (2 * 4 * once * size + square) / total
    assert found.radius > least
    side = min(a, b) ** 2
    solver = rounding.eigensolver_radius(side, size**2, U) + 2 * 2 * once * size
    assert found.radius <= least + 2 * (solver + 4 * once * size) / total
    norm = np.linalg.norm(layer_fisher(s, "fc"))
    kept = math.sqrt(max(0, norm**2 - float(np.sum(found.singular_values**2))))
    assert abs(found.errors[-1] ** 2 - (kept / norm) ** 2) <= found.radius
