"""Rows known through small factors: layer by layer errors (x) features, never formed.

A row of one layer is a sum over positions of Kronecker products, errors (x) features;
a row of X is the concatenation over layers. Products with X and X', rows of the Gram
matrix (Hadamard products: Khatri-Rao) and blocks of X'X (packed symmetric products,
contracted over samples) all come from the factors.
"""

from refspec.factors.concatenation import Factors as Factors
from refspec.factors.concatenation import stacked as stacked
from refspec.factors.layer import Factor as Factor
from refspec.factors.layer import lengths as lengths
from refspec.factors.layer import weighted as weighted

__all__ = ["Factor", "Factors", "lengths", "stacked", "weighted"]
