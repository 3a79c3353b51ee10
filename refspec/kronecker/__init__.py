"""Kronecker operators, and KFAC, EKFAC and class-corrected CFAC made of them."""

from refspec.kronecker.comparison import Comparison as Comparison
from refspec.kronecker.comparison import compare as compare
from refspec.kronecker.kfac import ClassFactors as ClassFactors
from refspec.kronecker.kfac import cfac as cfac
from refspec.kronecker.kfac import class_factors as class_factors
from refspec.kronecker.kfac import ekfac as ekfac
from refspec.kronecker.kfac import kfac as kfac
from refspec.kronecker.operators import BlockDiagonal as BlockDiagonal
from refspec.kronecker.products import Kronecker as Kronecker
from refspec.kronecker.products import KroneckerSum as KroneckerSum
from refspec.kronecker.products import certified_spectrum as certified_spectrum

__all__ = [
    "BlockDiagonal",
    "ClassFactors",
    "Comparison",
    "Kronecker",
    "KroneckerSum",
    "certified_spectrum",
    "cfac",
    "class_factors",
    "compare",
    "ekfac",
    "kfac",
]
