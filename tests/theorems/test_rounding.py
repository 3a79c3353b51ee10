"""Property tests of theory/rounding.md, each with a mutant that its check rejects."""

import numpy as np
import pytest
from hypothesis import given

from refspec import rounding
from refspec.rounding.certificates import certified_eigenvalues
from refspec.theorems import Study
from refspec.theorems import rounding as page
from support.snapshots import snapshots, typical
from support.verdicts import holds, rejected


@pytest.mark.theorem("B1")
@given(snapshots(scored=False))
def test_B1(snapshot):
    holds("B1", snapshot)


@pytest.mark.theorem("B2")
@given(snapshots(scored=False))
def test_B2(snapshot):
    holds("B2", snapshot)


@pytest.mark.theorem("B3")
@given(snapshots(scored=False))
def test_B3(snapshot):
    holds("B3", snapshot)


@pytest.mark.theorem("B4")
@given(snapshots(scored=False))
def test_B4(snapshot):
    holds("B4", snapshot)


@pytest.mark.theorem("B5")
@given(snapshots(scored=False))
def test_B5(snapshot):
    holds("B5", snapshot)


@pytest.mark.theorem("B6")
@given(snapshots(scored=False))
def test_B6(snapshot):
    holds("B6", snapshot)


def test_a_mean_over_probes_is_no_bound(monkeypatch):
    def mean(squares, probes):
        return (squares / probes) ** 0.5 / 2

    holds("B6", typical())
    monkeypatch.setattr(rounding, "probed_frobenius", mean)
    rejected("B6", typical())


def test_float32_products_are_rejected(monkeypatch):
    """Arithmetic of another precision than the bound's."""
    study = Study(typical(a=7))
    x = study.once(page.rows)
    study._kept[page.second] = (x.astype(np.float32).T @ x.astype(np.float32)).astype(
        float
    )
    rejected("B2", study)
    wide = Study(typical(a=7))
    wide._kept[page.rows] = x @ np.linalg.qr(np.vander(np.arange(1.0, 4.0)))[0]
    holds("B1", wide)
    monkeypatch.setattr(rounding, "gamma", lambda k, u: k * u * 2.0**-12)
    rejected("B1", wide)


@pytest.mark.parametrize("id", ["B3", "B5"])
def test_eigenvalues_of_another_matrix_are_rejected(id):
    study = Study(typical())
    A = study.once(page.second)
    study._kept[page.certified] = certified_eigenvalues(A + 2.0**-30 * np.eye(len(A)))
    rejected(id, study)


def test_the_mean_square_of_the_probes_is_no_bound(monkeypatch):
    """Without the quantile the probes give the Frobenius norm over root P, or less."""
    monkeypatch.setattr(
        rounding, "probed_norm", lambda squares, probes: (squares / probes) ** 0.5 / 2
    )
    study = Study(typical())
    study._kept[page.rows] = np.outer(np.arange(1.0, 5.0), [1.0, 2.0, 3.0])
    rejected("B4", study)
