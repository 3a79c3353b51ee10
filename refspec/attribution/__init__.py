"""Which level explains which eigenvalue: shares, sandwich intervals and knock-outs."""

from refspec.attribution.alignment import Alignment as Alignment
from refspec.attribution.alignment import gradient_alignment as gradient_alignment
from refspec.attribution.assembly import Attribution as Attribution
from refspec.attribution.depth import Clarity as Clarity
from refspec.attribution.depth import Profile as Profile
from refspec.attribution.depth import depth_profile as depth_profile
from refspec.attribution.hessian import HessianAttribution as HessianAttribution
from refspec.attribution.hessian import attribute_hessian as attribute_hessian
from refspec.attribution.means import Means as Means
from refspec.attribution.means import class_means as class_means
from refspec.attribution.means import distances as distances
from refspec.attribution.shares import Eigenbasis as Eigenbasis
from refspec.attribution.shares import attribute as attribute
from refspec.attribution.shares import eigenbasis as eigenbasis
from refspec.attribution.shares import knockout as knockout
from refspec.attribution.shares import sines as sines
from refspec.attribution.shares import span_angles as span_angles

__all__ = [
    "Alignment",
    "Attribution",
    "Clarity",
    "Eigenbasis",
    "HessianAttribution",
    "Means",
    "Profile",
    "attribute",
    "attribute_hessian",
    "class_means",
    "depth_profile",
    "distances",
    "eigenbasis",
    "gradient_alignment",
    "knockout",
    "sines",
    "span_angles",
]
