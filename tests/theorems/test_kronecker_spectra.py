"""theory/kronecker_spectra.md: every check on drawn snapshots, and mutants."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given

from refspec.kronecker import origins
from refspec.theorems import Study
from refspec.theorems import kronecker_spectra as page
from support.snapshots import sampled, samples
from support.verdicts import holds, rejected


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
