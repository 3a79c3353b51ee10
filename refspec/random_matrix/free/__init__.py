"""Isotropic designs: exactly a sum of Wisharts, whose law has a closed form."""

from refspec.random_matrix.free.edges import split_threshold as split_threshold
from refspec.random_matrix.free.edges import strength_threshold as strength_threshold
from refspec.random_matrix.free.law import FreeLaw as FreeLaw

__all__ = ["FreeLaw", "split_threshold", "strength_threshold"]
