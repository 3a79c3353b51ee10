"""Class/cross-class structure of deep-network spectra: the reference implementation."""

from refspec import curvature as curvature
from refspec import datasets as datasets
from refspec._version import __version__
from refspec.attribution import attribute as attribute
from refspec.classes import ClassArray as ClassArray
from refspec.classes import Layer as Layer
from refspec.classes import ModelSection as ModelSection
from refspec.classes import Snapshot as Snapshot
from refspec.classes import snapshot as snapshot
from refspec.export import ExportError as ExportError
from refspec.export import load as load
from refspec.export import save as save
from refspec.rounding import Bounded as Bounded
from refspec.spectra import spectrum as spectrum
from refspec.structure import decompose as decompose

__all__ = [
    "Bounded",
    "ClassArray",
    "ExportError",
    "Layer",
    "ModelSection",
    "Snapshot",
    "__version__",
    "attribute",
    "curvature",
    "datasets",
    "decompose",
    "load",
    "save",
    "snapshot",
    "spectrum",
]
