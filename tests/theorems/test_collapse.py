"""theory/collapse.md: every check on drawn snapshots, and mutants of it."""

import pytest
from hypothesis import given

from refspec.theorems import Study
from refspec.theorems import collapse as page
from support.snapshots import sampled, samples
from support.verdicts import holds, rejected


@pytest.mark.theorem("N1")
@given(samples(layers=1))
def test_N1(study):
    holds("N1", study)


@pytest.mark.theorem("N2")
@given(samples(layers=1))
def test_N2(study):
    holds("N2", study)


@pytest.mark.theorem("N3")
@given(samples(layers=1))
def test_N3(study):
    holds("N3", study)


def as_kfac(monkeypatch):
    """The picture that KFAC has: no outliers, no bump."""
    module = page.collapse
    monkeypatch.setattr(module, "collapsed_groups", module.collapsed_kfac_groups)


def as_the_fisher(monkeypatch):
    """The picture that the Fisher has."""
    module = page.collapse
    monkeypatch.setattr(module, "collapsed_kfac_groups", module.collapsed_groups)


def mismatched(monkeypatch):
    """Means of errors with features of another class."""
    true = page.collapse.centred
    monkeypatch.setattr(page.collapse, "centred", lambda C: true(C)[::-1])


@pytest.mark.parametrize(
    ("name", "mutant"), [("N1", as_kfac), ("N2", mismatched), ("N3", as_the_fisher)]
)
def test_mutants_are_rejected(name, mutant, monkeypatch):
    def study():
        return Study(sampled(1, (3, 2, 4, 3)))

    holds(name, study())
    mutant(monkeypatch)
    rejected(name, study())
