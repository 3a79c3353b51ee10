"""XX' of layers that are gathered one after the other, against all of them at once."""

from dataclasses import replace

import numpy as np
import pytest

import refspec
from refspec import differentiated, layerwise, leading, memory, rounding, ways
from refspec.factors import Factor, Factors
from refspec.layerwise import Layerwise, Source
from refspec.rows import fewer
from support.snapshots import typical

U = 2.0**-53


class Apart(Source):
    """Factors that are all there, told one at a time; how many were asked for."""

    def __init__(self, rows, change=1.0):
        self.rows, self.change, self.rooms = rows, change, []

    @property
    def shapes(self):
        return self.rows

    def gathered(self, room, unit, offsets):
        self.rooms.append(room)
        for f in self.rows.layers:
            roots = f.roots if unit is None else fewer(f.roots, unit, offsets)
            yield Factors((replace(f, roots=roots * self.change),))


def apart(change=1.0, formed=None):
    """Return a moment of more parameters than rows, and the same layer by layer."""
    m = refspec.fisher(typical())
    rng, (N, K, _) = np.random.default_rng(0), m.rows.shape
    wide = Factor(np.array(m.rows.layers[-1].roots), rng.standard_normal((N, 1, 60)))
    m = replace(m, rows=Factors((*m.rows.layers, wide)))
    assert m.shape[1] > N * K
    source = Apart(m.rows, change)
    if formed is not None:
        source = Apart(Factors(m.rows.layers[formed:]), change)
        formed = Factors(m.rows.layers[:formed])
    return m, replace(m, rows=Layerwise(m.rows, source, formed=formed))


@pytest.mark.parametrize("formed", [None, 1])
def test_the_sum_over_layers_is_the_whole(formed):
    """Of all rows and of C - 1, and what is formed beside the layers counts."""
    m, each = apart(formed=formed)
    N, K, _ = m.rows.shape
    bound = rounding.second_moment_radius(4 * N * K, m.trace(), U)
    assert np.linalg.norm(each.rows.outer() - m.rows.outer()) <= bound
    unit = refspec.curvature.unit_weights(m)
    few, other = m.rows.reduced(unit, m.offsets), None
    for some in each.rows.by_columns(unit, m.offsets):
        other = some.outer(other)
    assert np.linalg.norm(other - few.outer()) <= bound


def test_the_largest_and_densities_come_from_it(monkeypatch):
    """No product with X but those that it is compared with."""
    m, each = apart()
    monkeypatch.setattr(ways, "holds_gram", lambda *_: True)
    calls, dot = [], Layerwise.dot
    monkeypatch.setattr(
        Layerwise, "dot", lambda self, V: calls.append(V.shape[1]) or dot(self, V)
    )
    one, two = (refspec.attribute(x, top=4) for x in (m, each))
    radius = one.radius + two.radius
    assert np.max(np.abs(one.spectrum.values - two.spectrum.values)) <= radius
    for name, values in one.knockouts.items():
        assert np.max(np.abs(two.knockouts[name] - values)) <= radius
    assert sum(calls) == differentiated.FEWER
    assert leading.leading(each, 2).radius <= radius
    a, b = (refspec.densities(x, probes=2, steps=8) for x in (m, each))
    for name, x in a.items():
        assert np.max(np.abs(x.nodes - b[name].nodes)) <= 8 * radius, name


def test_an_error_of_gathering_is_measured_or_refused(monkeypatch):
    """One that is small is in the radius; half of the digits are another matrix."""
    monkeypatch.setattr(ways, "holds_gram", lambda *_: True)
    m, each = apart(1 + 2.0**-40)
    right, found = refspec.attribute(m, top=3), refspec.attribute(each, top=3)
    away = np.max(np.abs(right.spectrum.values - found.spectrum.values))
    assert right.radius < away <= right.radius + found.radius
    _, wrong = apart(1 + 2.0**-12)
    with pytest.raises(ValueError, match=r"XX' layer by layer and X\(X'z\) must be"):
        refspec.attribute(wrong, top=3)


def test_room_is_what_memory_leaves_beside_the_matrix():
    """And a plan of it knows passes over the network, not bytes of all factors."""
    m, each = apart()
    n = m.shape[0]
    with memory.within(100 * 8 * n * n):
        each.rows.outer()
        (room,) = each.rows.source.rooms
        assert room == (100 - layerwise._GRAMS) * 8 * n * n * 7 // 8
        work = each.rows.work
    forward = sum(
        f.roots.shape[0] * f.roots.shape[2] * f.roots.shape[3] * f.features.shape[2]
        for f in m.rows.layers
    )
    assert work.product == layerwise._PASSES * forward
    assert work.gram > m.rows.work.gram
    assert work.held == min(m.rows.work.held, room) / 3
    with memory.within(1):  # as few as can be: every part a pass of its own
        assert each.rows.work.gram > work.gram
        assert each.rows.work.held == 0


def test_a_network_whose_factors_have_a_source_is_layerwise():
    """Its error is what two precisions differ by; without a second it is said."""
    m, each = apart()
    P = m.shape[1]
    X = np.concatenate(list(m.rows.chunks())).reshape(*m.rows.shape)

    class Explicit(differentiated.Jacobian):
        like, shape = m.weights, (len(m.weights), m.weights.shape[1], P)

        def dot(self, V, i, j):
            return X[i:j] @ V

        def cross(self, S, i, j):
            return np.einsum("ncp,ncm->pm", X[i:j], S)

    logits = np.log(m.weights / m.weights.sum(axis=1, keepdims=True))
    labels = np.repeat(np.arange(len(m.offsets) - 1), np.diff(m.offsets))
    found = differentiated.moment(
        Explicit(), logits, labels, source=each.rows.source, blocks=[("w", P)]
    )
    assert isinstance(found.rows, Layerwise)
    assert found.rows.lost == 0
    assert 0 < found.rows.forming() <= m.trace() ** 0.5 * U**0.5
    assert "two modes only" in found.rows.known
