"""The smaller side chosen."""

from __future__ import annotations

from refspec import checks, ways
from refspec.classes import Snapshot
from refspec.coordinates.certified import certified
from refspec.coordinates.frame import Coordinates
from refspec.coordinates.parameters import primal
from refspec.coordinates.pivots import dual
from refspec.curvature import SecondMoment, moment_of


def coordinates(
    moment: SecondMoment | Snapshot, *, certify: bool = False
) -> Coordinates:
    """Put a second moment in its fewest coordinates.

    Parameters
    ----------
    moment : SecondMoment or Snapshot
        Projected or not; a snapshot stands for its Fisher information.
    certify : bool
        Bound all errors a posteriori, on the host in float64, in an eigenbasis; not of
        a projected moment, whose coordinates are as without.

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
    Theory: theory/spectra.md#S1, #S2; theory/certificates.md#Q10. Dual: the
    factorisation stops when what is left of the diagonal is below the rounding error of
    the Gram matrix; the whole residual is measured, block by block. Cost O(N K r^2 +
    (N K)^2 r), memory O(N K r).

    Examples
    --------
    >>> import refspec
    >>> coordinates(refspec.datasets.digits_mlp()).side
    'dual'
    """
    checks.expect_flag("certify", certify)
    moment = moment_of(moment)
    if certify and moment.projection is None:
        return certified(moment)
    return primal(moment) if ways.primal(moment) else dual(moment)
