"""The norm of a matrix of errors, known by its products alone."""

import numpy as np
import pytest

from refspec import models, rounding
from refspec.hessian import bounds


@pytest.mark.parametrize("rank", [1, 3])
def test_the_norm_of_errors_is_bounded_and_not_by_much(rank):
    """B = FF' >= 0 with entries of many sizes."""
    network = models.mlp([3, 4, 2], rng=np.random.default_rng(0))
    P = models.flatten(network).size
    F = np.random.default_rng(1).random((P, rank)) * 2.0 ** -np.arange(P)[:, None]
    B = F @ F.T
    found = bounds.norm_of(lambda v: B @ v, network, np.ones((1, 3)))
    true = float(np.linalg.norm(B, 2))
    assert true <= found * (1 + rounding.gamma(4 * P, 2.0**-53))
    assert found <= 2 * true
