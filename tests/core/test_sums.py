"""Squares of sums over the samples of a cell, from sums or from pairs of samples."""

import numpy as np
import pytest

import refspec
from refspec import rounding, sums
from refspec.classes import Layer, OutputLayer, log_softmax
from refspec.rows import Rows
from refspec.structure import cell_norms, cell_units

U = 2.0**-53


def moment(kind, N=13, C=3, T=1, a=4, sizes=(6, 0, 7)):
    """Return a moment of one layer, or of two; one class has no sample."""
    rng = np.random.default_rng(7)
    labels = np.repeat(np.arange(C), sizes)
    p = np.exp(log_softmax(rng.standard_normal((N, C))))
    held = Layer(
        "held", rng.standard_normal((N, T, a)), rng.standard_normal((N, C, T, 2))
    )
    last = OutputLayer("last", rng.standard_normal((N, 1, a)), p)
    layers = {"factors": [held], "output": [last], "both": [held, last]}[kind]
    return refspec.fisher(refspec.snapshot(layers, labels, probabilities=p))


@pytest.mark.parametrize("kind", ["factors", "output", "both"])
@pytest.mark.parametrize("T", [1, 2])
@pytest.mark.parametrize("a", [4, 40])  # fewer features than samples, and more
def test_they_are_the_squares_of_the_sums(kind, T, a):
    """As of sums that are formed, by parts of the rows, and within one bound."""
    m = moment(kind, T=T, a=a)
    unit, rows = cell_units(m, cell_norms(m)), m.rows
    made = rows.sums(unit, m.offsets)
    expected = np.sum(made**2, axis=2)
    length = np.sqrt(np.max(rows.squares()))
    most = rounding.gamma(3 * rows.roundings + 32, U) * (len(unit) * length) ** 2
    most += 2 * rows.forming() * len(unit) * length
    for found in (
        rows.squared_sums(unit, m.offsets),
        Rows.squared_sums(rows, unit, m.offsets),
    ):
        assert found.shape == (3, 3)
        assert np.max(np.abs(found - expected)) <= most
    assert np.max(expected) > 100 * most
    assert np.all(expected[1] == 0)


def test_of_errors_alone_nothing_is_multiplied():
    s = refspec.datasets.wine_sklearn()
    m = refspec.errors(s, s.layers[0].name)
    unit = cell_units(m, cell_norms(m))
    expected = np.sum(m.rows.sums(unit, m.offsets) ** 2, axis=2)
    found = m.rows.squared_sums(unit, m.offsets)
    bound = rounding.gamma(3 * sum(m.shape), U) * len(unit) * float(m.trace())
    assert np.max(np.abs(found - expected)) <= bound


def test_cross_classes_may_come_one_at_a_time(monkeypatch):
    m = moment("factors")
    unit = cell_units(m, cell_norms(m))
    every = m.rows.squared_sums(unit, m.offsets)
    monkeypatch.setattr(sums.backend, "cached", lambda *_: 1)
    assert np.array_equal(m.rows.squared_sums(unit, m.offsets), every)
