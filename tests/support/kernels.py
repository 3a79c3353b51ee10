"""The tests of kernels that take `asarray`, to be collected again in another namespace.

A test module does ``from support.kernels import *`` beside a fixture `asarray` of its
own.
"""

import importlib.util
import inspect
from pathlib import Path

TESTS = Path(__file__).parents[1]
PLACES = (
    "attribution/test_shares.py",
    "core/test_backend.py",
    "core/test_coordinates.py",
    "core/test_curvature.py",
    "core/test_differentiated.py",
    "core/test_factors.py",
    "core/test_implicit.py",
    "core/test_krylov.py",
    "core/test_leading.py",
    "core/test_spectra.py",
    "hessian/test_hessian.py",
    "kronecker/test_kfac.py",
    "kronecker/test_leading.py",
    "kronecker/test_origins.py",
)


def load(place):
    """Return a test module, which no package holds."""
    name = "again_" + place.removesuffix(".py").replace("/", "_")
    spec = importlib.util.spec_from_file_location(name, TESTS / place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FIXTURES = ("pair", "unformed")
__all__ = []
for _place in PLACES:
    _module = load(_place)
    for _name, _test in vars(_module).items():
        if _name in FIXTURES or (
            _name.startswith("test_")
            and "asarray" in inspect.signature(_test).parameters
        ):
            globals()[_name] = _test
            __all__ += [_name]
