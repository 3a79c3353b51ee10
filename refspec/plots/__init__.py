"""Pictures, one visual language for kinds and levels everywhere (matplotlib).

Functions take the library's types and an Axes, a new figure's if none, and return the
Axes: draw several into your own figure, change what you like, `save` the rest.
"""

from refspec.plots.densities import density as density
from refspec.plots.drawing import Picture as Picture
from refspec.plots.drawing import draw as draw
from refspec.plots.matrices import approximations as approximations
from refspec.plots.matrices import hessian as hessian
from refspec.plots.matrices import hessian_parts as hessian_parts
from refspec.plots.means import means_map as means_map
from refspec.plots.prediction import prediction as prediction
from refspec.plots.profiles import depth as depth
from refspec.plots.ranks import sandwich as sandwich
from refspec.plots.ranks import scree as scree
from refspec.plots.ranks import shares as shares
from refspec.plots.spectra import attribution as attribution
from refspec.plots.spectra import knockout as knockout
from refspec.plots.spectra import knockouts as knockouts
from refspec.plots.spectra import spectrum as spectrum
from refspec.plots.style import COLOURS as COLOURS
from refspec.plots.style import figure as figure
from refspec.plots.style import save as save
from refspec.plots.sweeps import sweep as sweep

__all__ = [
    "COLOURS",
    "Picture",
    "approximations",
    "attribution",
    "density",
    "depth",
    "draw",
    "figure",
    "hessian",
    "hessian_parts",
    "knockout",
    "knockouts",
    "means_map",
    "prediction",
    "sandwich",
    "save",
    "scree",
    "shares",
    "spectrum",
    "sweep",
]
