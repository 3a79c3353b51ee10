"""theory/worlds.md: every check in the place of generated snapshots, and a mutant."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given

from refspec.rounding import Bounded
from refspec.theorems import Study, all_theorems, worlds
from refspec.theorems import canonical as model
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


@pytest.mark.theorem("W6")
@given(EXACT)
def test_W6(study):
    holds("W6", study)


@pytest.mark.theorem("W7")
@given(EXACT)
def test_W7(study):
    holds("W7", study)


@pytest.mark.theorem("W8")
@given(EXACT)
def test_W8(study):
    holds("W8", study)


@pytest.mark.theorem("W9")
@given(EXACT)
def test_W9(study):
    holds("W9", study)


@pytest.mark.theorem("W10")
@given(EXACT)
def test_W10(study):
    holds("W10", study)


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


def independent_errors(monkeypatch):
    """Errors without scores: those at the true class drawn like the others."""
    true = worlds.planted

    def wrong(populations, **given):
        free = {
            name: dataclasses.replace(x, score_consistent=False)
            for name, x in populations.items()
        }
        return true(free, **given)

    monkeypatch.setattr(worlds, "planted", wrong)


def no_signal(monkeypatch):
    """Decisions at chance, whatever the signal."""
    true = worlds.logistic.bayes_error
    monkeypatch.setattr(worlds.logistic, "bayes_error", lambda C, _: true(C, 0.0))


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


def infinite_classes(monkeypatch):
    """No correction for the finite class: within is sum_c s_c S_c."""
    true = worlds.expectations.feature_levels

    def wrong(law):
        found = dict(true(law))
        mass = np.bincount(law.labels, law.weights[:, 0])
        found["within_class"] = np.asarray([[float(mass @ np.asarray(law.within))]])
        return found

    monkeypatch.setattr(worlds.expectations, "feature_levels", wrong)


def diagonal_kept(monkeypatch):
    """c' = c in the class means: the between-class level takes the diagonal's."""
    true = worlds.expectations.error_levels

    def wrong(errors):
        found = dict(true(errors))
        found["between_class"] = found["between_class"] + found["diagonal"]
        found["diagonal"] = 0 * found["diagonal"]
        return found

    monkeypatch.setattr(worlds.expectations, "error_levels", wrong)


def uncoupled(monkeypatch):
    """Class-conditional independence where scales are shared."""
    true = worlds.expectations.fisher_of_layers

    def wrong(populations):
        return true([dataclasses.replace(x, coupling=0.0) for x in populations])

    monkeypatch.setattr(worlds.expectations, "fisher_of_layers", wrong)


def as_kfac(monkeypatch):
    """KFAC's values: a^2 f^2 / C^2, C^2 times."""
    true = worlds.groups.independent_groups

    def wrong(C, b, a, **law):
        matched, mismatched, *rest = true(C, b, a, **law)
        more = (matched.value - mismatched.value) / C
        both = dataclasses.replace(
            matched, value=mismatched.value + more, multiplicity=C * C
        )
        return (both, *rest)

    monkeypatch.setattr(worlds.groups, "independent_groups", wrong)


def means_only(monkeypatch):
    """Inputs by their mean, not their second moment."""
    true = worlds.logistic.mixture_fisher

    def wrong(pi, moments, p):
        first = moments[:, :, :1] @ moments[:, :1, :]
        return true(pi, first, p)

    monkeypatch.setattr(worlds.logistic, "mixture_fisher", wrong)


def class_term_only(monkeypatch):
    """Outliers s (1 - alpha)^2: the diagonal term forgotten."""
    true = worlds.groups.canonical_groups

    def wrong(C, D, *, signal, alpha):
        outlier, *rest = true(C, D, signal=signal, alpha=alpha)
        value = alpha / (C - 1) * signal * (1 - alpha) ** 2 + rest[1].value
        return (dataclasses.replace(outlier, value=value), *rest)

    monkeypatch.setattr(worlds.groups, "canonical_groups", wrong)


def mismatched(monkeypatch):
    """Errors of one class with the features of the next."""
    true = worlds.logistic.outlier_eigenvectors

    def wrong(C, D):
        V = true(C, D).reshape(C, D, C)
        return np.roll(V, 1, axis=1).reshape(C * D, C)

    monkeypatch.setattr(worlds.logistic, "outlier_eigenvectors", wrong)


def rising(monkeypatch):
    """The ratio without the 1 - alpha of the outliers."""

    def wrong(C, s, alpha):
        return 1 + s / (2 - alpha * C / (C - 1))

    monkeypatch.setattr(worlds.logistic, "outlier_ratio", wrong)


def two_classes(monkeypatch):
    """The Bayes error of a pair, C - 1 times: a union bound."""
    true = worlds.logistic.bayes_error

    def wrong(C, t):
        pair = true(2, t)
        return Bounded((C - 1) * pair.value, (C - 1) * pair.radius)

    monkeypatch.setattr(worlds.logistic, "bayes_error", wrong)


def other_decay(monkeypatch):
    """A fit with another penalty."""
    true = worlds.regression.fit_logistic

    def wrong(x, labels, *, decay):
        return true(x, labels, decay=16 * decay)

    monkeypatch.setattr(worlds.regression, "fit_logistic", wrong)


MUTANTS = [
    ("W2", raw_laws),
    ("W2", all_gaussian),
    ("W2", nearly_gaussian),
    ("W4", shifted_labels),
    ("W5", shared_effects),
    ("W6", infinite_classes),
    ("W7", diagonal_kept),
    ("W8", diagonal_kept),
    ("W8", independent_errors),
    ("W9", uncoupled),
    ("W10", as_kfac),
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


def test_what_a_statement_needs_is_said():
    many = Study(sampled(0, counts=(1,) * 25))
    unmet = {x.id: x.unmet(many) for x in all_theorems()}
    assert "C <= 24" in unmet["W6"]
    assert not unmet["W2"]


@pytest.mark.parametrize("counts", [(1, 1), (2, 5), (1,) * 12])
def test_the_model_takes_its_parameters_from_the_snapshot(counts):
    study = Study(sampled(3, counts))
    found, C = model.canonical(study), len(counts)
    p, s = study.snapshot.probabilities, study.snapshot.sample_weights
    wrong = 1 - float(s @ p[np.arange(len(p)), study.snapshot.labels])
    assert abs(found.alpha - min(wrong, (C - 1) / C)) <= 8 * len(p) * 2.0**-53
    assert (found.C, found.D) == (C, C + 2)
    assert 0 < found.signal < math.inf
