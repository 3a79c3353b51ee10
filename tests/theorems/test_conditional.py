"""theory/conditional.md: the limit on the ladder, moments, and what they are not."""

import dataclasses

import numpy as np
import pytest

from refspec.random_matrix.conditional import counting, law, spectrum
from refspec.random_matrix.outliers import Outliers
from refspec.theorems import Study
from refspec.theorems import conditional as page
from support.snapshots import sampled
from support.verdicts import holds, rejected


def study(seed=0):
    return Study(sampled(0, (2, 3), [(1, 1)]), seed=seed)


@pytest.mark.slow
@pytest.mark.theorem("Y1")
def test_Y1():
    holds("Y1", study())


@pytest.mark.theorem("Y2")
@pytest.mark.parametrize("seed", range(3))
def test_Y2(seed):
    holds("Y2", study(seed))


@pytest.mark.theorem("Y3")
def test_Y3():
    holds("Y3", study())


@pytest.mark.theorem("Y4")
@pytest.mark.parametrize("seed", range(3))
def test_Y4(seed):
    holds("Y4", study(seed))


@pytest.mark.slow
@pytest.mark.theorem("Y5")
def test_Y5():
    holds("Y5", study())


@pytest.mark.theorem("Y6")
@pytest.mark.parametrize("seed", range(3))
def test_Y6(seed):
    holds("Y6", study(seed))


@pytest.mark.slow
@pytest.mark.theorem("Y7")
def test_Y7():
    holds("Y7", study())


def samples_alike(monkeypatch):
    """Samples that count the same."""
    true = page.regression

    def wrong(h, z, labels, covariances, _):
        return true(h, z, labels, covariances)

    monkeypatch.setattr(page, "regression", wrong)


def independent_weights(monkeypatch):
    """Features of which the outputs say nothing, the errors as they are."""
    true = spectrum.tabulate

    def wrong(design, **given):
        slopes = np.array(design.slopes)
        xi = design.regressors
        inside = np.array(design.inside)
        for c in range(len(slopes)):
            i = design.labels == c
            K = slopes[c, :, 1:]
            z = xi[i, 1:]
            inside[c] += K @ (z.T @ z / len(z)) @ K.T
        slopes[:, :, 1:] = 0
        return true(dataclasses.replace(design, slopes=slopes, inside=inside), **given)

    monkeypatch.setattr(spectrum, "tabulate", wrong)


def strangers(monkeypatch):
    """Features of different layers that know nothing of each other."""
    true = spectrum.tabulate

    def wrong(design, **given):
        of = design.layers[1][: design.inside.shape[1]]
        inside = design.inside * (of[:, None] == of)
        return true(dataclasses.replace(design, inside=inside), **given)

    monkeypatch.setattr(spectrum, "tabulate", wrong)


def far_apart(monkeypatch):
    """Features at different positions that know nothing of each other."""
    true = spectrum.tabulate

    def wrong(design, **given):
        same = np.eye(design.positions)[:, :, None, None]
        return true(dataclasses.replace(design, inside=design.inside * same), **given)

    monkeypatch.setattr(spectrum, "tabulate", wrong)


def means_for_nothing(monkeypatch):
    """What the means take from the noise left out."""
    true = law.step

    def wrong(design, x, z):
        made = true(design, x, z)
        flat = np.swapaxes(design.roots, 1, 2)
        E = design.roots @ np.linalg.solve(made.inner, flat + 0j)
        unknowns = np.array(made.unknowns)
        own = design.own
        unknowns[1] = np.stack([np.sum(E[own == c], axis=0) for c in range(2)])
        return dataclasses.replace(made, unknowns=unknowns)

    monkeypatch.setattr(law, "step", wrong)


def of_a_semicircle(monkeypatch):
    """The deviation of the band in place of that of a real eigenvalue."""
    true = spectrum.tabulate

    def wrong(design, **given):
        table, found = true(design, **given)
        spread = found.deviations / np.sqrt(2)
        return table, Outliers(found.values, spread, found.overlaps)

    monkeypatch.setattr(spectrum, "tabulate", wrong)


def frame_alone(monkeypatch):
    """What the frame counts, where a step of the layer is to count."""

    def wrong(pair, z, **given):
        made = law.equivalent(pair[0], z, tolerance=given["tolerance"])
        above = counting.counted(pair[0], made)
        return counting.Solution(z, made.unknowns, above, made.trace, made, pair[0])

    monkeypatch.setattr(counting, "solved", wrong)


@pytest.mark.parametrize(
    ("id", "mutant"),
    [
        pytest.param("Y1", independent_weights, marks=pytest.mark.slow),
        ("Y2", means_for_nothing),
        ("Y3", of_a_semicircle),
        ("Y4", samples_alike),
        pytest.param("Y5", strangers, marks=pytest.mark.slow),
        ("Y6", frame_alone),
        pytest.param("Y7", far_apart, marks=pytest.mark.slow),
    ],
    ids=lambda x: x if isinstance(x, str) else x.__name__,
)
def test_mutants_are_rejected(id, mutant, monkeypatch):
    monkeypatch.setattr(page, "LADDER", page.LADDER[:2])
    mutant(monkeypatch)
    rejected(id, study())
