"""Property tests of theory/rounding.md, and mutants that their checks reject."""

import numpy as np
import pytest
from hypothesis import given

from refspec import rounding
from refspec.theorems import Study
from refspec.theorems import rounding as page
from support.arithmetic import in_single
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


def test_a_solver_of_another_precision_is_rejected(monkeypatch):
    holds("B3", typical())
    monkeypatch.setattr(np.linalg, "eigvalsh", in_single(np.linalg.eigvalsh))
    rejected("B3", typical())


def test_the_mean_square_of_the_probes_is_no_bound(monkeypatch):
    """Without the quantile the probes give the Frobenius norm over root P, or less."""
    monkeypatch.setattr(
        rounding, "probed_norm", lambda squares, probes: (squares / probes) ** 0.5 / 2
    )
    study = Study(typical())
    study._kept[page.rows] = np.outer(np.arange(1.0, 5.0), [1.0, 2.0, 3.0])
    rejected("B4", study)
