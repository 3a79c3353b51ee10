"""theory/kronecker.md: every check on drawn snapshots, and mutants that it rejects."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given

from refspec.kronecker import Kronecker, KroneckerSum, moments
from refspec.theorems import Study, all_theorems, factored
from refspec.theorems import kronecker as page
from support.snapshots import sampled, samples
from support.verdicts import holds, rejected


@pytest.mark.theorem("K1")
@given(samples(positions=2))
def test_K1(study):
    holds("K1", study)


@pytest.mark.theorem("K2")
@given(samples(positions=2))
def test_K2(study):
    holds("K2", study)


@pytest.mark.theorem("K3")
@given(samples(positions=2))
def test_K3(study):
    holds("K3", study)


@pytest.mark.theorem("K4")
@given(samples(positions=2))
def test_K4(study):
    holds("K4", study)


@pytest.mark.theorem("K5")
@given(samples(positions=2))
def test_K5(study):
    holds("K5", study)


@pytest.mark.theorem("K6")
@given(samples())
def test_K6(study):
    holds("K6", study)


@pytest.mark.theorem("K7")
@given(samples(positions=2))
def test_K7(study):
    holds("K7", study)


@pytest.mark.theorem("K8")
@given(samples(positions=3))
def test_K8(study):
    holds("K8", study)


@pytest.mark.theorem("K9")
@given(samples(positions=2))
def test_K9(study):
    holds("K9", study)


def column_major(monkeypatch):
    """Features (x) errors on row-major vectors."""
    true = Kronecker.matvec

    def wrong(self, v):
        if self.left.shape == self.right.shape:
            return true(Kronecker(self.right, self.left), v)
        return true(self, v[::-1])

    monkeypatch.setattr(Kronecker, "matvec", wrong)


def sums(monkeypatch):
    """Eigenvalues added, as of a Kronecker sum."""
    true = Kronecker.certified_eigenvalues

    def wrong(self):
        mu, nu = np.linalg.eigvalsh(self.left), np.linalg.eigvalsh(self.right)
        return np.sort(np.ravel(mu[:, None] + nu))[::-1], true(self)[1]

    monkeypatch.setattr(Kronecker, "certified_eigenvalues", wrong)


def squared_roots(monkeypatch):
    """Coefficients in the blocks of the Gram matrix, not their roots."""
    true = page.KroneckerSum.certified_eigenvalues

    def wrong(self):
        changed = dataclasses.replace(self, coefficients=self.coefficients**2)
        return true(changed)

    monkeypatch.setattr(KroneckerSum, "certified_eigenvalues", wrong)


def weighted_features(monkeypatch):
    """Features weighted with the probability of the true class too."""
    true = factored.class_factors

    def wrong(layer, labels, p, s):
        made = true(layer, labels, p, s)
        own = p[np.arange(len(labels)), labels]
        h = layer.features * np.sqrt(own)[:, None, None]
        other = true(dataclasses.replace(layer, features=h), labels, p, s)
        return dataclasses.replace(made, features=other.features, roots=None)

    monkeypatch.setattr(factored, "class_factors", wrong)


def equal_classes(monkeypatch):
    """Plain averages over unequal classes."""
    true = page.kfac_error

    def wrong(factors):
        C = len(factors.frequencies)
        equal = dataclasses.replace(factors, frequencies=np.full(C, 1 / C), roots=None)
        return true(equal)

    monkeypatch.setattr(page, "kfac_error", wrong)


def uniform_labels(monkeypatch):
    """Labels drawn from the uniform distribution."""
    true = page.kfac

    def wrong(s, name, **options):
        flat = np.full_like(s.probabilities, 1 / s.probabilities.shape[1])
        return true(dataclasses.replace(s, probabilities=flat), name, **options)

    monkeypatch.setattr(page, "kfac", wrong)


def no_labels(monkeypatch):
    """A drawn factor of no labels: 0."""
    true = page.kfac

    def wrong(s, name, **options):
        made = true(s, name, **options)
        drawn = options.get("fisher") == "monte_carlo"
        return dataclasses.replace(made, left=0 * made.left) if drawn else made

    monkeypatch.setattr(page, "kfac", wrong)


def forgotten_positions(monkeypatch):
    """A conversion checked on dense layers only: no factor T."""
    true = page.placement

    def wrong(*args, **options):
        return true(*args, **options | {"T": 1})

    monkeypatch.setattr(page, "placement", wrong)


def single_positions(monkeypatch):
    """Squares of single positions as EKFAC's variances."""

    def wrong(errors, features, weights, _):
        return np.einsum("nc,nctb,nta->ba", weights, errors**2, features**2)

    monkeypatch.setattr(moments, "variances", wrong)


MUTANTS = [
    ("K1", column_major, {}),
    ("K2", sums, {}),
    ("K3", squared_roots, {"sides": ((5, 5),)}),
    ("K4", weighted_features, {}),
    ("K5", equal_classes, {}),
    ("K7", uniform_labels, {}),
    ("K7", no_labels, {}),
    ("K8", forgotten_positions, {"T": 3}),
    ("K9", single_positions, {"T": 2}),
]


@pytest.mark.parametrize(("name", "mutant", "world"), MUTANTS)
def test_mutants_are_rejected(name, mutant, world, monkeypatch):
    holds(name, Study(sampled(1, **world)))
    mutant(monkeypatch)
    rejected(name, Study(sampled(1, **world)))


def test_what_a_statement_needs_is_said():
    unmet = {x.id: x.unmet for x in all_theorems()}
    shared = Study(sampled(0, T=2))
    assert "T = 1" in unmet["K6"](shared)
    wide = Study(sampled(0, sides=((100, 9),)))
    assert "needs a layer of 700 parameters at most" in unmet["K3"](wide)
    wider = Study(sampled(0, sides=((1025, 2),)))
    assert "at most 1024 inputs and outputs" in unmet["K1"](wider)
    many = Study(sampled(0, counts=(1,) * 25))
    assert "C <= 24" in unmet["K14"](many)
