"""The smaller side chosen."""

from __future__ import annotations

from refspec.classes import Snapshot
from refspec.coordinates.frame import Coordinates
from refspec.coordinates.parameters import primal
from refspec.coordinates.pivots import dual
from refspec.curvature import SecondMoment, moment_of


def coordinates(moment: SecondMoment | Snapshot) -> Coordinates:
    """Put a second moment in its fewest coordinates.

    Parameters
    ----------
    moment : SecondMoment or Snapshot
        Projected or not; a snapshot stands for its Fisher information.

    Returns
    -------
    Coordinates
        Primal if 2 P <= N K, else dual.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If X'X overflows, or has no finite radius in its number format.

    Notes
    -----
    Theory: theory/spectra.md#S1, #S2. Dual: the factorisation stops when what is left
    of the diagonal is below the rounding error of the Gram matrix; the whole residual
    is measured, block by block. Cost O(N K r^2 + (N K)^2 r), memory O(N K r).

    Examples
    --------
    >>> import refspec
    >>> coordinates(refspec.datasets.digits_mlp()).side
    'dual'
    """
    moment = moment_of(moment)
    few = 2 * moment.shape[1] <= moment.shape[0]
    return primal(moment) if few else dual(moment)
