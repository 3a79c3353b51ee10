"""Assertions for the test suites of curvature libraries, with diagnoses.

Any array library, numpy and the core only, no pytest needed.
"""

from refspec.testing.assertions import Agreement as Agreement
from refspec.testing.assertions import assert_operator as assert_operator
from refspec.testing.assertions import assert_spectrum as assert_spectrum
from refspec.testing.densities import assert_density as assert_density
from refspec.testing.inverses import assert_inverse as assert_inverse
from refspec.testing.levels import assert_levels as assert_levels
from refspec.testing.traces import assert_trace as assert_trace

__all__ = [
    "Agreement",
    "assert_density",
    "assert_inverse",
    "assert_levels",
    "assert_operator",
    "assert_spectrum",
    "assert_trace",
]
