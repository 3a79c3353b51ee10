"""Bounds on rounding error: the right-hand side of every comparison."""

from refspec.rounding.bounds import FAILURE as FAILURE
from refspec.rounding.bounds import Bounded as Bounded
from refspec.rounding.bounds import eigensolver_radius as eigensolver_radius
from refspec.rounding.bounds import gamma as gamma
from refspec.rounding.bounds import probed_frobenius as probed_frobenius
from refspec.rounding.bounds import probed_norm as probed_norm
from refspec.rounding.bounds import residual_radius as residual_radius
from refspec.rounding.bounds import second_moment_radius as second_moment_radius
from refspec.rounding.bounds import underflow as underflow
from refspec.rounding.bounds import unit_roundoff as unit_roundoff
from refspec.rounding.certificates import Certified as Certified
from refspec.rounding.certificates import certified_eigenvalues as certified_eigenvalues

__all__ = [
    "FAILURE",
    "Bounded",
    "Certified",
    "certified_eigenvalues",
    "eigensolver_radius",
    "gamma",
    "probed_frobenius",
    "probed_norm",
    "residual_radius",
    "second_moment_radius",
    "underflow",
    "unit_roundoff",
]
