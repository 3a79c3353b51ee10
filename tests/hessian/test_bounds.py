"""The majorant of hessian_radius bounds the Hessian itself, where no factor errs."""

import numpy as np
import pytest

from refspec import models, rounding
from refspec.hessian import bounds, hessian
from refspec.hessian.assembly import at_logits
from refspec.models import evaluation, operations

HUGE = 2.0**60  # R, which divides the errors of the factors


def majorant(network, X, labels):
    """The sum over paths with exact factors, over all samples."""
    steps, curvature, errors = at_logits(network, X, labels, "hessian", None)
    _, made = evaluation.run(network, X)
    exact = [0 * operations.entering(step.of, made) for step in steps]
    alpha = np.abs(curvature).sum(axis=2).max(axis=1)
    top = np.linalg.norm(errors, axis=1)
    return float(bounds._majorant(steps, exact, alpha, top, HUGE, np).sum())


def chain(*weights):
    """Linear layers without biases: the logits are products of the weights."""
    names = [f"W{k}" for k in range(len(weights))]
    steps = [{"op": "linear", "name": n, "weight": n, "bias": None} for n in names]
    parameters = dict(zip(names, map(np.asarray, weights), strict=True))
    return models.Network(steps, parameters)


ALIKE = np.ones((3, 3))
APART = np.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
NETWORKS = {
    # the layers are 0: what is left of the Hessian is errors (x) features between them
    "mixed paths": (chain(np.zeros((3, 2)), np.zeros((2, 3))), 2),
    # the Fisher of the first layer, along the largest singular vectors of the others
    "gains": (chain(np.zeros((3, 2)), 4 * ALIKE, 4 * APART), 1),
    "deeper": (chain(np.zeros((3, 2)), 4 * ALIKE, 4 * ALIKE, 4 * APART), 1),
    "tanh": (models.mlp([2, 4, 2], "tanh", rng=np.random.default_rng(0)), 8),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_hessian_is_no_larger_than_its_majorant_and_not_much_smaller(name):
    network, factor = NETWORKS[name]
    X, labels = np.ones((4, 2)), np.array([0, 0, 0, 1])
    size = float(np.linalg.norm(hessian(network, X, labels), 2))
    found = majorant(network, X, labels)
    slack = 1 + rounding.gamma(4096, 2.0**-53)
    assert size <= found * slack
    assert found <= 4 * factor * size
