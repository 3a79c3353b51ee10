"""Exporters, one module a framework, each with a function `export`.

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
    return sorted([*globals(), *__all__])
