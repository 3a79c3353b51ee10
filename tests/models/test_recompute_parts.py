"""A snapshot recomputed in parts of its samples says what it says at once."""

import pytest

import refspec
from refspec import memory, models
from refspec.rounding import gamma


@pytest.mark.parametrize("name", ["digits_mlp", "mnist_cnn"])
def test_parts_of_the_samples_say_the_same(name):
    s = getattr(refspec.datasets, name)()
    whole = models.recompute(s)
    with memory.within(2**22):
        parts = models.recompute(s)
    for a, b in zip(whole, parts, strict=True):
        # sums over samples are rounded in another order
        assert a.name == b.name
        assert abs(a.size - b.size) <= gamma(2**14, 2.0**-53) * a.size
        assert a.ratio <= 1
        assert b.ratio <= 1
