"""Rows in the fewest coordinates: parameters if they are few, pivoted rows if not.

All that attribution needs is X'X and the cells Q'X in some orthonormal coordinates of
the parameter space. With few parameters those are the parameters. With many, a pivoted
Cholesky factorisation X X' = L L' + R, computed a few hundred columns at a time and
never formed, gives them: L is X in r coordinates, r the numerical rank. Every spectrum
and every knock-out then comes from L'L and Q'L.
"""

from refspec.coordinates.choice import coordinates as coordinates
from refspec.coordinates.frame import Coordinates as Coordinates
from refspec.coordinates.parameters import primal as primal
from refspec.coordinates.pivots import dual as dual

__all__ = ["Coordinates", "coordinates", "dual", "primal"]
