"""Which level explains which eigenvalue: shares, sandwich intervals and knock-outs."""

from refspec.attribution.hessian import HessianAttribution as HessianAttribution
from refspec.attribution.hessian import attribute_hessian as attribute_hessian
from refspec.attribution.shares import KINDS as KINDS
from refspec.attribution.shares import Attribution as Attribution
from refspec.attribution.shares import Eigenbasis as Eigenbasis
from refspec.attribution.shares import attribute as attribute
from refspec.attribution.shares import eigenbasis as eigenbasis
from refspec.attribution.shares import knockout as knockout

__all__ = [
    "KINDS",
    "Attribution",
    "Eigenbasis",
    "HessianAttribution",
    "attribute",
    "attribute_hessian",
    "eigenbasis",
    "knockout",
]
