"""Second moments of samples that lie apart: on disk, on other machines or GPUs."""

from refspec.shards.cluster import Cluster as Cluster
from refspec.shards.exports import Part as Part
from refspec.shards.exports import parts_of as parts_of
from refspec.shards.joining import joined as joined
from refspec.shards.workers import Here as Here
from refspec.shards.workers import Workers as Workers

__all__ = [
    "Cluster",
    "Here",
    "Part",
    "Workers",
    "joined",
    "parts_of",
]
