r"""How many eigenvalues are above a point: in a frame, and corrected by the layer.

The fixed point of `refspec.random_matrix.conditional.law` is stationary for

.. math:: \Phi = \log\det(H - z) + \sum_i \log\det(I + R_i' \Delta_c R_i)
          - \sum_c tr \Delta_c B_c

with the means in H, and on the real axis :math:`-\Im\Phi / (\pi P)` counts: no
integral is needed, and an error e of the solver costs e^2
(Theory: theory/conditional.md#Y2). So does an error of the frame it is solved in: one
step of the whole layer, at the unknowns that a narrow frame finds, counts up to e^2,
and says what to add to the steps of the frame to come closer
(Theory: theory/conditional.md#Y6). Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec.random_matrix import anderson, definite
from refspec.random_matrix.conditional import law
from refspec.random_matrix.conditional.design import ConditionalDesign
from refspec.random_matrix.conditional.resolvent import Equivalent

#: Distance from the real axis, relative to x, of the solutions that outliers and edges
#: are read off, and of those of the table, from where F is continued to the axis.
HEIGHT, TABLE = 2.0**-16, 2.0**-12
#: Steps of the whole layer at a point, after which it is iterated by itself; what a
#: correction may move, of what the count may err by: it leaves less than it moves.
_ROUNDS, _MOVED = 4, 2.0**-2
#: Counts in a row that have to agree for a layer whose unknowns do not rest.
_RESTS = 3

#: A frame to iterate in, and the layer that corrects it, if any does.
Pair = tuple[ConditionalDesign, ConditionalDesign | None]


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """The law at one z.

    state (2, 2, s, a, a): the unknowns, and what a step of the layer adds to that of
    the frame. above: the number of eigenvalues above Re z, of P. trace: of Q. step: of
    the design, the widest that was asked.
    """

    z: complex
    state: np.ndarray
    above: float
    trace: complex
    step: Equivalent
    design: ConditionalDesign

    @property
    def continued(self) -> float:
        """The number of eigenvalues above Re z, by a step of Taylor's to the axis."""
        return self.above + self.z.imag * self.trace.real / np.pi

    @property
    def density(self) -> float:
        """The density at Re z, of P eigenvalues, per unit of x."""
        return self.trace.imag / np.pi


def at(
    design: ConditionalDesign,
    x: float,
    guess: np.ndarray | None = None,
    *,
    height: float = HEIGHT,
) -> Equivalent:
    """Solve just above a point x > 0 of the real axis, where the solution is unique."""
    return law.equivalent(design, complex(x, x * height), guess)


def counted(design: ConditionalDesign, made: Equivalent) -> float:
    """Return the expected number of eigenvalues above Re z, of P.

    Theory: theory/conditional.md#Y2
    """
    # H - z and its tail have negative imaginary parts, I + R' Delta R positive ones:
    # pivots of an elimination keep the sign, so that the sum of their arguments is the
    # continuous branch (Theory: theory/random_matrix.md#R11)
    try:
        turned = definite.argument(made.pivots)
    except np.linalg.LinAlgError as error:
        raise law.UnresolvedError(
            "expected pivots with a negative definite imaginary part, got one that is "
            "not: float64 does not resolve the law there; ask for it further up"
        ) from error
    turned += _argument(made.tail) + _argument(made.inner)
    if made.beyond is not None:
        turned -= float(np.sum(np.angle(made.beyond.inverses)))
    turned -= float(np.sum(made.forms[0] * made.forms[1]).imag)
    return design.reached + turned / np.pi


def continued(design: ConditionalDesign, made: Equivalent, height: float) -> float:
    """Return the number of eigenvalues above x, from a solution at x + i height.

    Theory: theory/conditional.md#Y2
    """
    # d Phi / dz = -tr Q: a step of Taylor's to the axis costs nothing
    return counted(design, made) + height * made.trace.real / np.pi


def density(made: Equivalent) -> float:
    """Return the density at Re z, of P eigenvalues, per unit of x.

    Theory: theory/conditional.md#Y2
    """
    return made.trace.imag / np.pi


def allowed(above: float, resolution: float) -> float:
    """Return how many eigenvalues a count may err by: 1 % of the rank or so."""
    return max(resolution, above / 100)


def solved(
    pair: Pair,
    z: complex,
    state: np.ndarray | None = None,
    *,
    resolution: float,
    tolerance: float = law.STEP,
) -> Solution:
    """Solve at z in a frame, corrected by the layer until that moves little.

    Theory: theory/conditional.md#Y6
    """
    frame, whole = pair
    guess, shift = (None, None) if state is None else state
    if whole is None:
        made = law.equivalent(
            frame, z, guess, tolerance=tolerance, settled=_settled(frame, resolution)
        )
        state = np.stack([made.unknowns, np.zeros_like(made.unknowns)])
        return Solution(z, state, counted(frame, made), made.trace, made, frame)
    try:
        near = law.equivalent(frame, z, guess, shift=shift, tolerance=tolerance)
        steps, scale = anderson.Steps(), law.sizes(near.forms)
        for _ in range(_ROUNDS):
            there = law.step(whole, near.forms, z)
            shift = there.unknowns - near.unknowns
            new = law.equivalent(frame, z, near.forms, shift=shift, tolerance=tolerance)
            moved = (new.forms - near.forms)[::-1]
            above = counted(whole, there) + float(np.sum(shift * moved).imag) / np.pi
            above += counted(frame, new) - counted(frame, near)
            # the defect times the move that makes it vanish is twice what Phi moves by
            off = abs(np.sum((there.unknowns - near.forms) * moved)) / (2 * np.pi)
            if off <= _MOVED * allowed(above, resolution):
                trace = there.trace + new.trace - near.trace
                state = np.stack([new.forms, shift])
                return Solution(z, state, above, trace, there, whole)
            # corrections are a fixed point iteration of their own
            x = law.onwards(steps, near.forms, new.forms, scale)
            near = law.step(frame, x, z)
    except law.UnresolvedError:  # the layer by itself may be
        pass
    made = law.equivalent(
        whole, z, guess, tolerance=tolerance, settled=_settled(whole, resolution)
    )
    shift = made.unknowns - law.step(frame, made.forms, z).unknowns
    state = np.stack([made.unknowns, shift])
    return Solution(z, state, counted(whole, made), made.trace, made, whole)


def _settled(design: ConditionalDesign, resolution: float) -> law.Settled:
    """Tell steps after which the count rests, though rounding moves unknowns for ever.

    Theory: theory/conditional.md#Y6
    """
    counts: list[float] = []

    def rests(made: Equivalent) -> bool:
        try:
            counts.append(counted(design, made))
        except law.UnresolvedError:  # at these unknowns; others may follow
            counts.append(np.nan)
        part = _MOVED**2 * allowed(counts[-1], resolution)
        return len(counts) >= _RESTS and float(np.ptp(counts[-_RESTS:])) <= part

    return rests


def _argument(matrices: np.ndarray) -> float:
    """Return the sum of Im log det of (n, k, k), Im >= 0 in all or Im <= 0 in all."""
    rest, total = np.array(matrices), 0.0
    for j in range(rest.shape[1]):
        pivot = rest[:, j, j]
        total += float(np.sum(np.angle(pivot)))
        below = rest[:, j + 1 :, j] / pivot[:, None]
        rest[:, j + 1 :, j + 1 :] -= below[:, :, None] * rest[:, j, None, j + 1 :]
    return total
