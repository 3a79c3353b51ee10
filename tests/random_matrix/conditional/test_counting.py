"""Frames corrected by the layer: what is counted, and where the layer is iterated."""

from dataclasses import replace
from itertools import pairwise

import pytest

import refspec
from refspec.random_matrix import law_of
from refspec.random_matrix.conditional import counting, law
from refspec.random_matrix.conditional.design import narrowed
from refspec.random_matrix.conditional.frames import frames_of
from refspec.theorems.conditional import mixture, small

Z = 0.1 * (1 + counting.TABLE * 1j)


def steps_of(monkeypatch, whole, most=64):
    """Count the steps of a design in a list that grows, to no more than so many."""
    exact, found = law.step, []

    def counted(design, x, z):
        if design is whole:
            found.append(z)
        assert len(found) <= most
        return exact(design, x, z)

    monkeypatch.setattr(law, "step", counted)
    return found


def cut():
    """A mixture, and a frame that is off by more than its count may err by."""
    whole = mixture(32, 0).design
    return narrowed(whole, 8), whole


def test_corrected_it_is_the_layer(monkeypatch):
    """In fewer steps of the layer than it takes by itself."""
    frame, whole = cut()
    true = law.equivalent(whole, Z, tolerance=2.0**-30)
    known = counting.continued(whole, true, Z.imag)
    alone = law.equivalent(frame, Z)
    asked = steps_of(monkeypatch, whole)
    made = counting.solved((frame, whole), Z, resolution=2.0**-5)
    few = len(asked)
    law.equivalent(whole, Z)
    assert few < len(asked) - few
    off = abs(counting.continued(frame, alone, Z.imag) - known)
    assert abs(made.continued - known) <= off / 128
    assert abs(made.density / counting.density(true) - 1) <= 2.0**-8


def test_a_point_begins_where_the_one_beside_it_ended(monkeypatch):
    """With its shift one step of the layer is enough, and is made."""
    frame, whole = cut()
    made = counting.solved((frame, whole), Z, resolution=0.25)
    asked = steps_of(monkeypatch, whole)
    again = counting.solved((frame, whole), 1.1 * Z, made.state, resolution=0.25)
    assert len(asked) == 1
    known = counting.counted(whole, law.equivalent(whole, 1.1 * Z, tolerance=2.0**-30))
    assert abs(again.above - known) <= counting.allowed(known, 0.25) / 4


@pytest.mark.parametrize("rounds", [0, 6])
def test_a_frame_that_is_none_is_left(monkeypatch, rounds):
    """The layer itself is iterated where corrections do not settle."""
    monkeypatch.setattr(counting, "_ROUNDS", rounds)
    whole = small(0)
    frame = replace(whole, inside=2.0**-8 * whole.inside, slopes=0 * whole.slopes)
    z = 2 + 2.0**-8 * 1j
    known = counting.counted(whole, law.equivalent(whole, z, tolerance=2.0**-30))
    made = counting.solved((frame, whole), z, resolution=2.0**-4)
    assert made.design is whole
    assert abs(made.above - known) <= 2.0**-4


def test_the_layer_corrects_the_last_frame(monkeypatch):
    """Heads that fit the side are iterated; a wider layer is asked after them."""
    whole = mixture(64, 0).design
    assert frames_of(whole).pairs[-1] == (whole, None)
    monkeypatch.setattr("refspec.random_matrix.conditional.frames.SIDE", 60)
    frames = frames_of(whole)
    frame, corrects = frames.pairs[-1]
    assert frames.layer is corrects is whole
    k = [x is None for _, x in frames.pairs].index(False)
    assert all(x is frame for x, _ in frames.pairs[k - 1 :])
    sides = [len(x.inside[0]) * x.roots.shape[1] for _, x in frames.pairs[k:]]
    assert len(frame.inside[0]) * frame.roots.shape[1] <= 60 < sides[0]
    assert all(b <= 2 * a for a, b in pairwise(sides))
    monkeypatch.setattr("refspec.random_matrix.conditional.frames.SIDE", 100)
    assert frames_of(whole).pairs[-1] == (whole, None)  # cheap enough to iterate


@pytest.mark.slow
def test_a_real_point_is_left():
    """Begun in the gap beside a band, the count rests at 2 while unknowns move."""
    layers = ["layer2.W", "layer3.W"]
    design = law_of(refspec.datasets.digits_jax(), layers, given="class").design
    pair, counts = (narrowed(design, 29), None), []
    beside = counting.solved(pair, 0.041 * (1 + counting.TABLE * 1j), resolution=0.25)
    assert abs(beside.continued - 2) <= 2.0**-6
    for state in (beside.state, None):
        z = 0.0295 * (1 + counting.TABLE * 1j)
        made = counting.solved(pair, z, state, resolution=0.25)
        counts.append(made.continued)
    assert abs(counts[0] - counts[1]) <= 2.0**-6 < abs(counts[0] - 2)


def test_a_count_that_rests_is_waited_for_no_longer(monkeypatch):
    """In a class that is fitted exactly unknowns move by rounding for ever."""
    design = law_of(refspec.datasets.mnist_cnn()).design
    state, asked = None, steps_of(monkeypatch, design, most=32)
    for x in (3.07e-4, 7.68e-5):
        z = x * (1 + counting.TABLE * 1j)
        made = counting.solved((design, None), z, state, resolution=0.25)
        state = made.state
    assert asked
    assert abs(made.continued - round(made.continued)) <= 2.0**-6
