"""theory/worlds.md: every check in the place of drawn snapshots, and mutants."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given

from refspec.theorems import Study, worlds
from support.snapshots import sampled, samples
from support.verdicts import holds, rejected

EXACT = samples(layers=1)


@pytest.mark.theorem("W1")
@given(samples(positions=2))
def test_W1(study):
    holds("W1", study)


@pytest.mark.theorem("W2")
@pytest.mark.parametrize("seed", range(2))
def test_W2(seed):
    holds("W2", Study(sampled(), seed=seed))


@pytest.mark.theorem("W3")
@given(samples(positions=2))
def test_W3(study):
    holds("W3", study)


@pytest.mark.theorem("W4")
@given(EXACT)
def test_W4(study):
    holds("W4", study)


@pytest.mark.theorem("W5")
@given(EXACT)
def test_W5(study):
    holds("W5", study)


def raw_laws(monkeypatch):
    """Student's and Laplace's laws as they come, not of variance 1."""

    def wrong(shape, *, rng, noise="gaussian", dof=None):
        if noise == "laplace":
            return rng.laplace(size=shape)
        if noise == "student":
            return rng.standard_t(dof, size=shape)
        return rng.standard_normal(shape)

    monkeypatch.setattr(worlds.covariances, "standard", wrong)


def all_gaussian(monkeypatch):
    """One law of variance 1 for all."""
    true = worlds.covariances.standard
    monkeypatch.setattr(
        worlds.covariances, "standard", lambda shape, *, rng, **_: true(shape, rng=rng)
    )


def nearly_gaussian(monkeypatch):
    """Gaussian numbers for Student's of 8 degrees of freedom alone."""
    true = worlds.covariances.standard

    def wrong(shape, *, rng, noise="gaussian", dof=None):
        if dof == 8.0:
            noise, dof = "gaussian", None
        return true(shape, rng=rng, noise=noise, dof=dof)

    monkeypatch.setattr(worlds.covariances, "standard", wrong)


def shifted_labels(monkeypatch):
    """The probability of the true class given to the next one."""
    true = worlds.geometry.confusion

    def wrong(C, alpha=None):
        return np.roll(true(C, alpha), 1, axis=1)

    monkeypatch.setattr(worlds.geometry, "confusion", wrong)


def shared_effects(monkeypatch):
    """One class effect for all classes, of the right variance."""
    true = worlds.draw

    def wrong(law, *, rng):
        apart = dataclasses.replace(law, class_covariance=None)
        root = np.sqrt(law.class_covariance)
        return true(apart, rng=rng) + root * rng.standard_normal(law.dimension)

    monkeypatch.setattr(worlds, "draw", wrong)


MUTANTS = [
    ("W2", raw_laws),
    ("W2", all_gaussian),
    ("W2", nearly_gaussian),
    ("W4", shifted_labels),
    ("W5", shared_effects),
]


@pytest.mark.parametrize(("name", "mutant"), MUTANTS)
def test_mutants_are_rejected(name, mutant, monkeypatch):
    holds(name, Study(sampled(1)))
    mutant(monkeypatch)
    rejected(name, Study(sampled(1)))
