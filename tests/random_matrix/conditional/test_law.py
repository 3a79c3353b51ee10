"""The fixed point: unique, and independent of how the frame is cut."""

import dataclasses

import numpy as np
import pytest

import refspec
from refspec import rounding
from refspec.random_matrix import law_of
from refspec.random_matrix.conditional import counting, law
from refspec.theorems.conditional import mixture, small

TOLERANCE = 2.0**-30
#: The steps to come add up to less than the last one's root.
CLOSE = np.sqrt(TOLERANCE)


def trace(design, z, guess=None):
    made = law.equivalent(design, z, guess, tolerance=TOLERANCE)
    head, tail = made.resolvents
    return np.trace(head) + np.sum(np.trace(tail, axis1=1, axis2=2))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("z", [1 + 1j, 30 + 0.5j, -2 + 0.1j])
def test_one_fixed_point(z, layers):
    """From any start in the half planes the same one."""
    design = small(0, layers)
    far = law.far(design, z)
    signs = np.asarray([1j, -1j])[:, None, None, None] * np.eye(2)
    found = [
        trace(design, z, start) for start in (None, far + 100 * signs, 0 * far + signs)
    ]
    assert np.max(np.abs(np.asarray(found) - found[0])) <= CLOSE * abs(found[0])


@pytest.mark.parametrize("layers", [1, 2])
def test_cut_at_a_diagonal(layers):
    """Where covariances are diagonal and means in the head, the tail is exact."""
    design = small(1, layers)
    C, h, q = design.slopes.shape
    t = design.outside.shape[1]
    inside = np.zeros((C, h + t, h + t))
    inside[:, :h, :h] = design.inside
    inside[:, range(h, h + t), range(h, h + t)] = design.outside
    whole = dataclasses.replace(
        design,
        inside=inside,
        outside=np.zeros((C, 0)),
        slopes=np.concatenate([design.slopes, np.zeros((C, t, q))], axis=1),
    )
    for z in (3 + 1j, 40 + 2j):
        one, two = trace(design, z), trace(whole, z)
        assert abs(one - two) <= CLOSE * abs(one)


def test_an_extrapolation_is_taken_back():
    """Signs of imaginary parts become what they are to be, and no real part changes."""
    design = small(0)
    rng = np.random.default_rng(0)
    there = law.in_half_planes(law.far(design, 3 + 1j))
    noise = rng.standard_normal(there.shape)
    moved = there + 1j * (noise + np.swapaxes(noise, 2, 3))
    back = law.in_half_planes(moved)
    signed = back.imag * np.asarray([1.0, -1.0])[:, None, None, None]
    lowest = np.min(np.linalg.eigvalsh(signed), axis=-1)
    most = np.max(np.abs(back.imag))
    assert np.all(lowest >= -rounding.eigensolver_radius(len(noise), most, 2.0**-53))
    assert np.array_equal(back.real, moved.real)
    assert np.max(np.abs(moved - back)) > 1 / 2


@pytest.mark.slow
def test_classes_without_noise_are_not_waited_for():
    """What rounding leaves of B there changes from step to step, and nothing else."""
    design = law_of(refspec.datasets.mnist_cnn(), head=12).design
    x, state = law.reach(design), None
    for _ in range(16):
        x /= 4
        z = complex(x, x * counting.TABLE)
        made = law.equivalent(design, z, state)
        state = made.unknowns
    assert x < 2.0**-20  # where no fixed point was found
    above = counting.continued(design, made, z.imag)
    assert 0 <= above <= design.reached


def test_a_resolvent_is_symmetric():
    """To the last bit: far down B is what is left of sums that cancel."""
    design = law_of(refspec.datasets.mnist_cnn(), head=12).design
    z = 2.0**-20 * (1 + counting.TABLE * 1j)
    head, _ = law.step(design, law.in_half_planes(law.far(design, z)), z).resolvents
    assert np.any(head != 0)
    assert np.array_equal(head, head.T)


def test_what_is_not_resolved_is_said(monkeypatch):
    """Rounding can be simulated: one that no iteration comes below."""
    rng = np.random.default_rng(0)
    exact = law.step

    def rounded(design, x, z):
        made = exact(design, x, z)
        noise = 1 + rng.standard_normal(made.unknowns.shape) / 4
        return dataclasses.replace(made, unknowns=made.unknowns * noise)

    monkeypatch.setattr(law, "step", rounded)
    with pytest.raises(
        law.UnresolvedError, match="float64 does not resolve the law there"
    ):
        law.equivalent(small(0), 1 + 2.0**-12 * 1j)


def test_reach_is_beyond_the_draws():
    planted = mixture(16, 0)
    assert np.linalg.eigvalsh(expected(planted))[-1] <= law.reach(planted.design)


def expected(planted):
    """The expectation of G."""
    m, noise = planted.means, planted.noise[planted.design.labels]
    moments = m[:, :, None] * m[:, None, :] + noise @ np.swapaxes(noise, 1, 2)
    A = np.swapaxes(planted.errors, 1, 2) @ planted.errors
    return sum(np.kron(a, x) for a, x in zip(A, moments, strict=True))
