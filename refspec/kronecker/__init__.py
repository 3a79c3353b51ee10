"""Kronecker operators, and KFAC, EKFAC and class-corrected CFAC made of them."""

from refspec.kronecker.classwise import ClassFactors as ClassFactors
from refspec.kronecker.classwise import class_factors as class_factors
from refspec.kronecker.comparison import LayerComparison as LayerComparison
from refspec.kronecker.comparison import compare_layer as compare_layer
from refspec.kronecker.damping import damped_inverse as damped_inverse
from refspec.kronecker.damping import damped_solve as damped_solve
from refspec.kronecker.damping import factored_tikhonov as factored_tikhonov
from refspec.kronecker.eigenbasis import KroneckerBasis as KroneckerBasis
from refspec.kronecker.kfac import cfac as cfac
from refspec.kronecker.kfac import ekfac as ekfac
from refspec.kronecker.kfac import kfac as kfac
from refspec.kronecker.nearest import Nearest as Nearest
from refspec.kronecker.nearest import nearest as nearest
from refspec.kronecker.operators import BlockDiagonal as BlockDiagonal
from refspec.kronecker.products import Kronecker as Kronecker
from refspec.kronecker.products import KroneckerSum as KroneckerSum

__all__ = [
    "BlockDiagonal",
    "ClassFactors",
    "Kronecker",
    "KroneckerBasis",
    "KroneckerSum",
    "LayerComparison",
    "Nearest",
    "cfac",
    "class_factors",
    "compare_layer",
    "damped_inverse",
    "damped_solve",
    "ekfac",
    "factored_tikhonov",
    "kfac",
    "nearest",
]
