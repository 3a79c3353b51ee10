"""Planted worlds: a Snapshot drawn from a law whose population is known."""

from refspec.synthetic.worlds import World as World
from refspec.synthetic.worlds import deepened as deepened
from refspec.synthetic.worlds import fisher as fisher
from refspec.synthetic.worlds import levels as levels
from refspec.synthetic.worlds import orthogonal as orthogonal
from refspec.synthetic.worlds import planted as planted

__all__ = [
    "World",
    "deepened",
    "fisher",
    "levels",
    "orthogonal",
    "planted",
]
