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
    moment: SecondMoment | Snapshot, *, certify: bool = False, leave_out: float = 0.0
) -> Coordinates:
    """Put a second moment in its fewest coordinates.

    Parameters
    ----------
    moment : SecondMoment or Snapshot
        Projected or not; a snapshot stands for its Fisher information.
    certify : bool
        Bound all errors a posteriori, on the host in float64, in an eigenbasis; not of
        a projected moment, whose coordinates are as without.
    leave_out : float
        Part of the trace, in [0, 1), that coordinates may miss. Rows too short to
        matter, or nearly in the span of others, get no coordinate of their own then;
        the trace that they have outside is in the radius.

    Returns
    -------
    Coordinates
        Primal if 2 P <= N K, else dual. In place of N K, of the longest rows as many
        as have all but `leave_out` of the trace; primal coordinates leave nothing out.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If X'X overflows, or has no finite radius in its number format, or `leave_out`
        is not in [0, 1).

    Notes
    -----
    Theory: theory/spectra.md#S1, #S2, #S5; theory/certificates.md#Q10. Dual: the
    factorisation stops when what is left of the diagonal is below the rounding error of
    the Gram matrix; the whole residual is measured, block by block. Cost O(N K r^2 +
    (N K)^2 r), memory O(N K r). With `leave_out` r is smaller, and the residual is
    bounded by the trace left, in O(N K r^2).

    Examples
    --------
    >>> import refspec
    >>> coordinates(refspec.datasets.digits_mlp()).side
    'dual'
    >>> some = coordinates(refspec.datasets.digits_mlp(), leave_out=1e-6)
    >>> bool(0 < some.left_out <= 1e-6 * some.trace and some.rows_left_out > 3000)
    True
    """
    checks.expect_flag("certify", certify)
    checks.expect_share("leave_out", leave_out)
    moment = moment_of(moment)
    if certify and moment.projection is None:
        return certified(moment, leave_out)
    if ways.primal(moment, ways.kept(moment, leave_out)):
        return primal(moment)
    return dual(moment, leave_out)
