"""The exact Hessian of the mean cross-entropy: Fisher plus residual, no framework."""

from refspec.hessian.assembly import hessian as hessian
from refspec.hessian.assembly import hessian_vector_product as hessian_vector_product
from refspec.hessian.assembly import of_snapshot as of_snapshot
from refspec.hessian.bounds import hessian_radius as hessian_radius
from refspec.hessian.operators import operator as operator

__all__ = [
    "hessian",
    "hessian_radius",
    "hessian_vector_product",
    "of_snapshot",
    "operator",
]
