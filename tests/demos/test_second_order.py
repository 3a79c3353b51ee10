"""The demo's second-order steps: each method's inverse against the dense one."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import Layer, rounding
from refspec.kronecker import ekfac
from refspec.kronecker.damping import default_residual
from support.snapshots import sampled, seeds, slack

sys.path.append(str(Path(__file__).parents[2] / "demos"))
from second_order import METHODS, Curvature, inverse, observe

U = 2.0**-53


def batch(seed, keep=(0, 1, 2)):
    """A layer sorted by class, with the classes to keep."""
    s = sampled(seed, (3, 2, 4), [(4, 3)], equal=True)
    mine = np.isin(s.labels, keep)
    layer = Layer("fc", s.layers[0].features[mine], s.layers[0].errors[mine])
    return layer, s.labels[mine], s.probabilities[mine]


def dense(curvature, method, damping):
    """The matrix whose inverse the step applies."""
    factors, eye = curvature.factors, np.eye
    if method == "cfac":
        return factors.cfac().matrix() + damping * eye(12)
    if method == "ekfac":
        return curvature.ekfac.matrix() + damping * eye(12)
    one = factors.kfac()
    split = np.sqrt(np.trace(one.right) / 4 / (np.trace(one.left) / 3))
    left = one.left + np.sqrt(damping) / split * eye(3)
    return np.kron(left, one.right + np.sqrt(damping) * split * eye(4))


@pytest.mark.parametrize("method", METHODS)
@given(seed=seeds, exponent=st.integers(-2, 1))
def test_steps_are_damped_solves(method, seed, exponent):
    """K10, K12: A x = v within the residual; half the damping is noticed."""
    damping = 10.0**exponent
    first = observe(*batch(seed), method=method)
    both = observe(*batch(seed + 1), method=method, old=first, decay=0.7)
    V = np.random.default_rng(seed).standard_normal((3, 4))
    x = inverse(both, method, damping, iterations=100)(V)
    A = dense(both, method, damping)
    condition = np.linalg.norm(A) / damping
    error = rounding.gamma(12 * 7 * 12, U) * 12 * condition
    error += default_residual(both.factors.cfac(), damping)
    assert np.linalg.norm(A @ x.ravel() - V.ravel()) <= error * np.linalg.norm(V)
    wrong = inverse(both, method, damping / 2, iterations=100)(V)
    assert np.linalg.norm(A @ wrong.ravel() - V.ravel()) > error * np.linalg.norm(V)


@given(seed=seeds)
def test_running_ekfac_carries_the_old_operator_over(seed):
    """K9: the diagonal of the averaged operators in the new basis, exactly."""
    first = observe(*batch(seed), method="ekfac")
    layer, labels, p = batch(seed + 1)
    both = observe(layer, labels, p, method="ekfac", old=first, decay=0.7)
    s = sampled(seed + 1, (3, 2, 4), [(4, 3)], equal=True)
    Q = np.kron(both.ekfac.left, both.ekfac.right)
    gradients = np.einsum("nctb,nta->ncba", layer.errors, layer.features)
    rows = np.sqrt(p / len(labels))[..., None] * gradients.reshape(*p.shape, -1)
    rows = rows.reshape(-1, 12)
    mixed = 0.7 * first.ekfac.matrix() + 0.3 * rows.T @ rows
    bound = slack(s, 4000) + rounding.gamma(4000, U) * np.trace(mixed)
    exact = np.sum(Q * (mixed @ Q), axis=0)
    assert np.linalg.norm(both.ekfac.values.ravel() - exact) <= bound
    mutant = 0.7 * first.ekfac.values + 0.3 * ekfac(s, "fc").values  # as if unturned
    assert np.linalg.norm(mutant.ravel() - exact) > bound


def test_a_class_absent_from_a_batch_keeps_its_factors():
    first = observe(*batch(0), method="cfac")
    both = observe(*batch(1, keep=(0, 2)), method="cfac", old=first, decay=0.5)
    assert np.array_equal(both.factors.errors[1], first.factors.errors[1])
    assert both.factors.frequencies[1] == first.factors.frequencies[1] / 2
    only = observe(*batch(1, keep=(2,)), method="cfac")
    assert only.factors.frequencies.tolist() == [0, 0, 1]
    assert np.all(np.isfinite(inverse(only, "cfac", 0.1)(np.ones((3, 4)))))


def test_errors():
    known = observe(*batch(0), method="kfac")
    with pytest.raises(ValueError, match="got 'adam'"):
        observe(*batch(0), method="adam")
    with pytest.raises(ValueError, match="got 'adam'"):
        inverse(known, "adam", 1.0)
    with pytest.raises(ValueError, match="got factors only"):
        inverse(known, "ekfac", 1.0)
    assert isinstance(known, Curvature)
