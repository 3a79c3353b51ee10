"""The tests of kernels that take `asarray`, to be collected again in another namespace.

A test module does ``from kernels import *`` beside a fixture `asarray` of its own.
"""

import inspect

import test_attribution
import test_backend
import test_coordinates
import test_curvature
import test_factors
import test_spectra
from test_factors import pair

__all__ = ["pair"]
for _module in (
    test_attribution,
    test_backend,
    test_coordinates,
    test_curvature,
    test_factors,
    test_spectra,
):
    for _name, _test in vars(_module).items():
        if (
            _name.startswith("test_")
            and "asarray" in inspect.signature(_test).parameters
        ):
            globals()[_name] = _test
            __all__ += [_name]
