"""Hypothesis strategies for everything refspec reads: from bare numbers to snapshots.

They say what is valid, never how likely it is. What they draw shrinks towards two
classes of one sample, sizes of 1 and zeros; an argument that allows nothing raises.
`hypothesis.strategies.from_type` knows the types of refspec (see `registration`).
"""

from refspec.strategies.matrices import symmetric_matrices as symmetric_matrices
from refspec.strategies.registration import register as register
from refspec.strategies.samples import probabilities as probabilities
from refspec.strategies.snapshots import class_arrays as class_arrays
from refspec.strategies.snapshots import layers as layers
from refspec.strategies.snapshots import snapshots as snapshots
from refspec.strategies.sources import LabelledNetwork as LabelledNetwork
from refspec.strategies.sources import labelled_networks as labelled_networks
from refspec.strategies.sources import networks as networks
from refspec.strategies.sources import worlds as worlds

__all__ = [
    "LabelledNetwork",
    "class_arrays",
    "labelled_networks",
    "layers",
    "networks",
    "probabilities",
    "register",
    "snapshots",
    "symmetric_matrices",
    "worlds",
]

register()
