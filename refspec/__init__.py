"""Class/cross-class structure of deep-network spectra: the reference implementation."""

from refspec._version import __version__
from refspec.classes import ClassArray as ClassArray
from refspec.classes import Layer as Layer
from refspec.classes import ModelSection as ModelSection
from refspec.classes import Snapshot as Snapshot
from refspec.classes import snapshot as snapshot
from refspec.rounding import Bounded as Bounded

__all__ = [
    "Bounded",
    "ClassArray",
    "Layer",
    "ModelSection",
    "Snapshot",
    "__version__",
    "snapshot",
]
