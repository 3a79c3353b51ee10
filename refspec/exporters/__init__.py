"""Exporters, one module a framework, each with a function `export`.

What `export` takes beside the model means the same in all of them:

loader
    Batches (inputs, labels), for two arrays ``[(X, y)]``; labels are integers in
    0..C-1, every class present.
path
    Ends in `.npz` or `.zarr`; a Zarr group is written batch by batch, so the export
    never sits in memory. None returns the `Snapshot` instead.
layers
    Names of some of the layers; all of them by default.
class_names
    C names, for the manifest.
provenance
    A mapping, more for the manifest, JSON-able: the data, the licence, the seed.
progress
    Show a bar, on a terminal only.

It holds the features that enter each layer and its errors for every label, the extended
gradients (i, c, c') of Papyan, "Traces of Class/Cross-Class Structure Pervade Deep
Learning Spectra", JMLR 21(252), 2020. Nothing is left behind where it fails.

A module, and with it the framework, is imported when it is first used; the core imports
none of them.
"""

from importlib import import_module
from types import ModuleType

__all__ = ["jax", "onnx", "sklearn", "torch"]


def __getattr__(name: str) -> ModuleType:
    """Import an exporter; without its framework, the error names the extra."""
    if name not in __all__:
        raise AttributeError(f"module 'refspec.exporters' has no attribute {name!r}")
    return import_module(f"refspec.exporters.{name}")


def __dir__() -> list[str]:
    """List the exporters, imported or not."""
    return list(__all__)
