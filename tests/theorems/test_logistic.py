"""theory/logistic.md: every check in the place of drawn snapshots, and mutants."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given

from refspec.rounding import Bounded
from refspec.theorems import Study
from refspec.theorems import canonical as model
from refspec.theorems import logistic as page
from support.snapshots import sampled, samples
from support.verdicts import holds, rejected

EXACT = samples(layers=1)


@pytest.mark.theorem("W11")
@given(EXACT)
def test_W11(study):
    holds("W11", study)


@pytest.mark.theorem("W12")
@given(EXACT)
def test_W12(study):
    holds("W12", study)


@pytest.mark.theorem("W13")
@given(EXACT)
def test_W13(study):
    holds("W13", study)


@pytest.mark.theorem("W14")
@given(EXACT)
def test_W14(study):
    holds("W14", study)


@pytest.mark.theorem("W15")
@given(EXACT)
def test_W15(study):
    holds("W15", study)


@pytest.mark.theorem("W16")
@given(EXACT)
def test_W16(study):
    holds("W16", study)


def no_signal(monkeypatch):
    """Decisions at chance, whatever the signal."""
    true = page.logistic.bayes_error
    monkeypatch.setattr(page.logistic, "bayes_error", lambda C, _: true(C, 0.0))


def means_only(monkeypatch):
    """Inputs by their mean, not their second moment."""
    true = page.logistic.mixture_fisher

    def wrong(pi, moments, p):
        first = moments[:, :, :1] @ moments[:, :1, :]
        return true(pi, first, p)

    monkeypatch.setattr(page.logistic, "mixture_fisher", wrong)


def class_term_only(monkeypatch):
    """Outliers s (1 - alpha)^2: the diagonal term forgotten."""
    true = page.groups.canonical_groups

    def wrong(C, D, *, signal, alpha):
        outlier, *rest = true(C, D, signal=signal, alpha=alpha)
        value = alpha / (C - 1) * signal * (1 - alpha) ** 2 + rest[1].value
        return (dataclasses.replace(outlier, value=value), *rest)

    monkeypatch.setattr(page.groups, "canonical_groups", wrong)


def mismatched(monkeypatch):
    """Errors of one class with the features of the next."""
    true = page.logistic.outlier_eigenvectors

    def wrong(C, D):
        V = true(C, D).reshape(C, D, C)
        return np.roll(V, 1, axis=1).reshape(C * D, C)

    monkeypatch.setattr(page.logistic, "outlier_eigenvectors", wrong)


def rising(monkeypatch):
    """The ratio without the 1 - alpha of the outliers."""

    def wrong(C, s, alpha):
        return 1 + s / (2 - alpha * C / (C - 1))

    monkeypatch.setattr(page.logistic, "outlier_ratio", wrong)


def two_classes(monkeypatch):
    """The Bayes error of a pair, C - 1 times: a union bound."""
    true = page.logistic.bayes_error

    def wrong(C, t):
        pair = true(2, t)
        return Bounded((C - 1) * pair.value, (C - 1) * pair.radius)

    monkeypatch.setattr(page.logistic, "bayes_error", wrong)


def other_decay(monkeypatch):
    """A fit with another penalty."""
    true = page.regression.fit_logistic

    def wrong(x, labels, *, decay):
        return true(x, labels, decay=16 * decay)

    monkeypatch.setattr(page.regression, "fit_logistic", wrong)


MUTANTS = [
    ("W11", means_only),
    ("W12", class_term_only),
    ("W13", mismatched),
    ("W14", rising),
    ("W15", two_classes),
    ("W15", no_signal),
    ("W16", other_decay),
]


@pytest.mark.parametrize(("name", "mutant"), MUTANTS)
def test_mutants_are_rejected(name, mutant, monkeypatch):
    holds(name, Study(sampled(1)))
    mutant(monkeypatch)
    rejected(name, Study(sampled(1)))


@pytest.mark.parametrize("counts", [(1, 1), (2, 5), (1,) * 12])
def test_the_model_takes_its_parameters_from_the_snapshot(counts):
    study = Study(sampled(3, counts))
    found, C = model.canonical(study), len(counts)
    p, s = study.snapshot.probabilities, study.snapshot.sample_weights
    wrong = 1 - float(s @ p[np.arange(len(p)), study.snapshot.labels])
    assert abs(found.alpha - min(wrong, (C - 1) / C)) <= 8 * len(p) * 2.0**-53
    assert (found.C, found.D) == (C, C + 2)
    assert 0 < found.signal < math.inf
