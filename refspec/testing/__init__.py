"""Assertions for the test suites of curvature libraries, with diagnoses.

Any array library, numpy and the core only, no pytest needed.
"""

from refspec.testing.assertions import Agreement as Agreement
from refspec.testing.assertions import assert_operator as assert_operator
from refspec.testing.assertions import assert_spectrum as assert_spectrum

__all__ = ["Agreement", "assert_operator", "assert_spectrum"]
