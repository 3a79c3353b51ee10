"""The largest eigenvalues attributed: nothing is forgotten, and no unit preferred."""

from dataclasses import replace

import numpy as np
import pytest

import refspec
from refspec import ways
from refspec.attribution.leading import gram_of_classes
from refspec.leading import product_radius
from refspec.structure import cell_norms
from support.snapshots import typical


def scaled(moment, power):
    return replace(moment, rows=moment.rows.times(power))


@pytest.mark.parametrize("of", ["fisher", "features"])
def test_another_unit_changes_the_values_alone(of):
    """By a power of two exactly: kinds, shares, proofs and angles stay."""
    s = typical()
    m = refspec.fisher(s) if of == "fisher" else refspec.features(s, "fc1")
    one = refspec.attribute(m, top=3)
    assert one.proved.any() == (of == "features")
    for power in (-20, 20):
        two, up = refspec.attribute(scaled(m, power), top=3), 4.0**power
        assert two.kinds == one.kinds
        assert two.proved.tolist() == one.proved.tolist()
        for name in ("shares", "angles", "angle_bounds"):
            for key, x in getattr(one, name).items():
                assert np.array_equal(getattr(two, name)[key], x), name
        for name in ("levels", "knockouts", "traces"):
            for key, x in getattr(one, name).items():
                assert np.array_equal(getattr(two, name)[key], up * x), name
        for name in ("lower", "upper", "radius"):
            assert np.array_equal(getattr(two, name), up * getattr(one, name)), name
        assert np.array_equal(two.spectrum.values, up * one.spectrum.values)
        assert two.spectrum.radius == up * one.spectrum.radius


def test_the_spectrum_is_that_of_the_largest_and_the_radius_holds_more():
    """What is read off the rows and cells is a product too."""
    m = refspec.fisher(typical())
    found, largest = refspec.attribute(m, top=3), refspec.spectrum(m, top=3)
    assert not found.spectrum.complete
    assert found.spectrum.n_zero == 0
    assert found.spectrum.radius <= 2 * largest.radius
    within = refspec.decompose(m).levels["within_cross_class"]
    assert found.radius >= found.spectrum.radius + product_radius(within, m.trace())


def test_values_that_no_number_is_near_are_known_to_the_smallest_one():
    m = scaled(refspec.fisher(typical()), -540)
    found = refspec.attribute(m, top=2)
    assert found.spectrum.radius >= 2.0**-1074
    assert found.radius >= 2.0**-1074


def test_of_a_projected_moment_traces_are_what_is_left():
    """Without a level the others keep their traces; all of it is less than before."""
    m = refspec.fisher(typical())
    before = refspec.attribute(m, top=2).traces
    after = refspec.attribute(refspec.decompose(m).without("between_class"), top=2)
    bound = product_radius(m, m.trace())
    for name, trace in before.items():
        left = 0.0 if name == "between_class" else trace
        assert abs(after.traces[name] - left) <= bound, name
    assert before["between_class"] > bound


def last_layer(s):
    """Return a layer whose errors are p - e_c', known by p, of the same features."""
    h = np.mean(s.layers[-1].features, axis=1, keepdims=True)
    return refspec.classes.OutputLayer("out", h, s.probabilities)


def with_last(of):
    """Return the moment of layers known by errors, of one known by p, or of both."""
    s = typical()
    layers = {"factors": s.layers, "output": [last_layer(s)]}
    layers["both"] = [last_layer(s), *s.layers]
    return refspec.fisher(
        refspec.snapshot(layers[of], s.labels, probabilities=s.probabilities)
    )


@pytest.mark.parametrize("room", [0, 2**28])
@pytest.mark.parametrize("of", ["factors", "output", "both"])
def test_levels_of_one_vector_a_class_come_from_sums_or_pairs(of, room, monkeypatch):
    """The spectra of the diagonal, of class means and of both: those of the rows."""
    monkeypatch.setattr(ways, "explicit_budget", lambda: room)
    m = with_last(of)
    split, norms = refspec.decompose(m), cell_norms(m)
    for names in (["diagonal"], ["between_class"], ["diagonal", "between_class"]):
        found = gram_of_classes(m, norms, names)
        values = np.linalg.eigvalsh(found)[::-1]
        every = refspec.spectrum(split.together(names))
        full = np.pad(np.asarray(every.values), (0, len(values)))[: len(values)]
        radius = every.radius + product_radius(m, m.trace())
        assert np.max(np.abs(values - full)) <= radius
        assert values[0] > 2 * radius  # it says something


@pytest.mark.parametrize("of", ["factors", "output"])
def test_without_the_gram_matrix_of_cells_the_answers_are_the_same(of, monkeypatch):
    """Many cells: levels of means from products and classes, within the radii."""
    m = with_last(of)
    few = refspec.attribute(m, top=3)
    monkeypatch.setattr(ways, "cells_by_products", lambda *_: True)
    many = refspec.attribute(m, top=3)
    radius = few.radius + many.radius
    for one, two in ((few.levels, many.levels), (few.knockouts, many.knockouts)):
        for name, values in one.items():
            n = min(3, len(values), len(two[name]))
            assert np.max(np.abs(values[:n] - two[name][:n])) <= radius, name
    assert np.max(np.abs(few.lower - many.lower)) <= 2 * radius
    assert many.kinds == few.kinds


def test_of_shards_a_class_without_a_sample_has_no_trace(monkeypatch):
    """Many cells: traces of means are those of one process, which has all samples."""
    whole = refspec.datasets.wine_sklearn()
    kept = np.flatnonzero(np.asarray(whole.labels) != 1)
    layer = last_layer(whole)

    def of(i):
        errors = np.asarray(layer.errors)[i]
        one = refspec.classes.Layer("out", layer.features[i], errors)
        p, labels = whole.probabilities[i], whole.labels[i]
        return refspec.fisher(refspec.snapshot([one], labels, probabilities=p))

    joined = refspec.joined([of(kept[::2]), of(kept[1::2])])
    few = refspec.attribute(joined, top=3)
    monkeypatch.setattr(ways, "cells_by_products", lambda *_: True)
    many = refspec.attribute(joined, top=3)
    bound = few.radius + many.radius
    for name, trace in few.traces.items():
        assert abs(many.traces[name] - trace) <= bound, name
