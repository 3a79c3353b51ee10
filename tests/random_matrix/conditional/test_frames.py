"""Frames of growing heads: which one is used where, and what each keeps."""

from itertools import pairwise

import numpy as np

from refspec import rounding
from refspec.random_matrix.conditional import law
from refspec.random_matrix.conditional.design import narrowed
from refspec.random_matrix.conditional.frames import Frames, frames_of
from refspec.theorems.conditional import mixture


def test_heads_double_up_to_the_whole():
    """Each is at least half of the next, the last is the design itself."""
    design = mixture(64, 0).design
    frames = frames_of(design)
    heads = [x.slopes.shape[1] for x, _ in frames.pairs]
    assert frames.layer is design
    assert len(heads) > 1
    assert all(2 * a >= b > a for a, b in pairwise(heads))
    assert heads[0] >= sum(design.slopes.shape[::2])


def test_each_frame_has_the_same_trace():
    """What a law is near for large z: sums of covariances and of means."""
    design = mixture(64, 0).design
    far = law.far(design, 1j)[1]
    whole = np.trace(design.inside, axis1=1, axis2=2)
    for one, _ in frames_of(design).pairs:
        assert (one.reached, one.dimension) == (design.reached, design.dimension)
        assert np.array_equal(law.far(one, 1j)[1], far)
        # the tail of the means is noise of the tail: traces of noise grow by it alone
        here = np.trace(one.inside, axis1=1, axis2=2) + np.sum(one.outside, axis=1)
        bound = rounding.gamma(10**4, 2.0**-53) * np.max(whole)
        assert np.all(here >= whole - bound)
    assert narrowed(design, design.slopes.shape[1] + 1) is design


def test_a_frame_is_used_down_to_its_limit():
    pairs = frames_of(mixture(64, 0).design).pairs
    frames = Frames(pairs, [], pairs[-1][0])
    assert frames.at(0.0) is pairs[0]
    assert frames.wider is pairs[1]
    frames.limits.append(3.0)
    assert frames.at(3.0) is pairs[0]
    assert frames.at(2.0) is pairs[1]
    frames.limits += [2.5] * (len(pairs) - 2)
    assert frames.wider is None
    assert frames.at(2.0) is pairs[-1]
