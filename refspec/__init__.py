"""Class/cross-class structure of deep-network spectra: the reference implementation.

Names are imported when first used, so that what only passes by (pytest and Hypothesis
look at every installed package when they start) pays for nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from refspec._version import __version__

if TYPE_CHECKING:
    from refspec import curvature as curvature
    from refspec import datasets as datasets
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
else:
    _HOMES = {
        "Bounded": "rounding",
        "ClassArray": "classes",
        "ExportError": "export",
        "Layer": "classes",
        "ModelSection": "classes",
        "Snapshot": "classes",
        "attribute": "attribution",
        "decompose": "structure",
        "load": "export",
        "save": "export",
        "snapshot": "classes",
        "spectrum": "spectra",
    }

    def __getattr__(name: str) -> Any:
        """Import a name of `__all__`, or a module of the package."""
        if name in _HOMES:
            value = getattr(import_module(f"refspec.{_HOMES[name]}"), name)
        else:
            value = None if name.startswith("_") else _module(name)
            if value is None:
                raise AttributeError(f"module 'refspec' has no attribute {name!r}")
        globals()[name] = value
        return value

    def _module(name: str) -> Any:
        """Import a module of the package, or return None if there is none."""
        try:
            return import_module(f"refspec.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"refspec.{name}":
                raise
            return None


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
