"""theory/kronecker.md: every check on drawn snapshots, and mutants that it rejects."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given

from refspec.kronecker import (
    Kronecker,
    KroneckerBasis,
    KroneckerSum,
    moments,
    origins,
)
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


@pytest.mark.theorem("K10")
@given(samples(positions=2))
def test_K10(study):
    holds("K10", study)


@pytest.mark.theorem("K11")
@given(samples(positions=2))
def test_K11(study):
    holds("K11", study)


@pytest.mark.theorem("K12")
@given(samples(positions=2))
def test_K12(study):
    holds("K12", study)


@pytest.mark.theorem("K13")
@given(samples())
def test_K13(study):
    holds("K13", study)


@pytest.mark.theorem("K14")
@given(samples(layers=1))
def test_K14(study):
    holds("K14", study)


@pytest.mark.theorem("K16")
@given(samples(positions=2))
def test_K16(study):
    holds("K16", study)


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


def inverted_split(monkeypatch):
    """The damping split against the scales."""
    true = page.factored_tikhonov

    def wrong(operator, damping):
        n, m = len(operator.left), len(operator.right)
        split = (np.trace(operator.left) / n) / (np.trace(operator.right) / m)
        found = true(operator, damping)
        mu, nu = (np.linalg.eigvalsh(x) for x in (operator.left, operator.right))
        root, split = damping**0.5, split**0.5
        values = np.outer(mu + root / split, nu + root * split)
        return KroneckerBasis(found.left, found.right, 1 / values)

    monkeypatch.setattr(page, "factored_tikhonov", wrong)


def averaged_factors(monkeypatch):
    """Factors averaged without the frequencies."""

    def wrong(old, new, decay):
        true = preconditioning_average(old, new, decay)
        plain = decay * old.errors + (1 - decay) * new.errors
        return dataclasses.replace(true, errors=plain)

    preconditioning_average = page.running_average
    monkeypatch.setattr(page, "running_average", wrong)


def half_damped(monkeypatch):
    """A solution for half the damping, its residual taken at its word."""
    true = page.damped_solve

    def wrong(operator, V, damping, preconditioner, **options):
        return true(operator, V, damping / 2, preconditioner, **options)

    monkeypatch.setattr(page, "damped_solve", wrong)


def whole_moments(monkeypatch):
    """The whole second moment in place of the class term."""
    true = page.structure.decompose

    def wrong(moment):
        split = true(moment)
        levels = split.levels | {"between_class": moment}
        return dataclasses.replace(split, levels=levels)

    monkeypatch.setattr(page.structure, "decompose", wrong)


def off_chance(monkeypatch):
    """Groups of another misclassification."""
    true = page.canonical_groups

    def wrong(C, D, *, signal, alpha):
        return true(C, D, signal=signal, alpha=alpha / 2)

    monkeypatch.setattr(page, "canonical_groups", wrong)


def no_shares(monkeypatch):
    """Class structure that makes nothing of the Fisher."""
    true = origins.fisher_shares

    def wrong(*of):
        return {kind: 0 * x for kind, x in true(*of).items()}

    monkeypatch.setattr(origins, "fisher_shares", wrong)


def all_features(monkeypatch):
    """CFAC's parts with the features of all classes, KFAC's split."""

    def wrong(features, frequencies):
        whole = np.sqrt(np.sum(features**2, axis=0, keepdims=True))
        return whole + np.zeros((len(frequencies), 1))

    monkeypatch.setattr(origins, "own_means", wrong)


def all_cross_classes(monkeypatch):
    """Class means of errors over all labels, c' = c too."""
    true = origins.mean_forms

    def wrong(norms, cells):
        unit = norms / np.linalg.norm(norms, axis=1, keepdims=True)
        along = np.sum(unit[:, :, None] * cells, axis=1)
        return {**true(norms, cells), "outlier": np.sum(along**2, axis=0)}

    monkeypatch.setattr(origins, "mean_forms", wrong)


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
    ("K10", inverted_split, {"scales": (2, 0)}),
    ("K11", averaged_factors, {}),
    ("K12", half_damped, {}),
    ("K13", whole_moments, {"sides": ((5, 5),)}),
    ("K14", off_chance, {}),
    ("K16", all_cross_classes, {}),
    ("K16", no_shares, {}),
    ("K16", all_features, {}),
]


@pytest.mark.parametrize(("name", "mutant", "world"), MUTANTS)
def test_mutants_are_rejected(name, mutant, world, monkeypatch):
    holds(name, Study(sampled(1, **world)))
    mutant(monkeypatch)
    rejected(name, Study(sampled(1, **world)))


def test_means_that_are_independent_have_all_products():
    """C^2 = 9 eigenvalues of KFAC's class part, where the Fisher's means have C."""
    found = list(page.K13.comparisons(Study(sampled(1, sides=((5, 5),)))))
    assert any(x[-1].startswith("rank 9, class part") for x in found)


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
