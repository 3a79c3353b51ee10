r"""The limiting resolvent of a layer whose errors depend on its features.

The deterministic equivalent of the resolvent is

.. math:: Q = \Big(\sum_c B_c \otimes S_c
          + \sum_i E_i \otimes m_i m_i' - z\Big)^{-1}, \qquad
          E_i = R_i (I + R_i' \Delta_c R_i)^{-1} R_i',

with two a x a unknowns a covariance,

.. math:: \Delta_c = (id \otimes tr)[(I \otimes S_c) Q], \qquad
          B_c = \sum_{i \in c} E_i - E_i (I \otimes m_i') Q (I \otimes m_i) E_i,

where the last term is what the means take from the noise. Both maps keep to half
planes, in which the solution is unique (Theory: theory/conditional.md#Y1). Of layers
together what is inverted has the rows and columns of their parameters alone, and Q is 0
in the others (Theory: theory/conditional.md#Y5). Where positions share parameters a
step is that of `positions` (Theory: theory/conditional.md#Y7). Host arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refspec.random_matrix import anderson
from refspec.random_matrix.conditional import positions
from refspec.random_matrix.conditional.constant import beyond
from refspec.random_matrix.conditional.design import ConditionalDesign
from refspec.random_matrix.conditional.resolvent import (
    Equivalent,
    halves,
    inverted,
    products,
)

#: Change of the unknowns, in eigenvalues that it moves or relative, at which the fixed
#: point is taken as found: F errs by its square. That of imaginary parts, relative.
STEP = 2.0**-8
_IMAGINARY = 2.0**-3
#: Change below which a count that rests is taken: a real point that is left slowly has
#: one, too, while its unknowns move by whole eigenvalues.
_NEAR = 2.0**-2
#: Steps in all, and in which the least change has not halved. On the way down from
#: above the height falls by so much at a time.
_ITERATIONS, PATIENCE, _LOWER = 2000, 64, 16


class UnresolvedError(ValueError):
    """The fixed point is not found: what is left of sums that cancel is rounding."""


#: Tells whether a step may be the last.
Settled = Callable[[Equivalent], bool]


def far(design: ConditionalDesign, z: complex) -> np.ndarray:
    """Return what the unknowns are near to for large z: -tr S / z and sum A."""
    if design.positions > 1:
        return positions.far(design, z)
    variances = np.diagonal(design.inside, axis1=1, axis2=2)
    variances = np.concatenate([variances, design.outside], axis=1)
    traces = variances @ design.parameters.T  # of the layer that an error is of
    delta = -traces[:, :, None] / z * np.eye(traces.shape[1])
    return np.stack([delta, _squares(design)])


def reach(design: ConditionalDesign) -> float:
    """Return a point right of the support.

    Theory: theory/conditional.md#Y1
    """
    # |G| <= 2 |signal| + 2 |noise|, the signal's norm is at most its trace, and the
    # noise's at most 2 (|sum A (x) S| + max_i |A_i| tr S_c)
    # (|sum A (x) S| times the number of positions that are summed over)
    squares, inside = np.sum(design.roots**2, axis=(1, 2)), design.whole
    traces = np.trace(inside, axis1=1, axis2=2) + np.sum(design.outside, axis=1)
    noise = float(np.max(squares * traces[design.own]))
    means = np.sum(_means(design) ** 2, axis=1)
    signal = float(np.sum(squares * means))
    total = [
        float(np.linalg.norm(A, 2) * max(np.linalg.norm(S, 2), np.max(s, initial=0.0)))
        for A, S, s in zip(_squares(design).real, inside, design.outside, strict=True)
    ]
    return 2 * signal + 4 * (design.positions * sum(total) + noise)


def equivalent(
    design: ConditionalDesign,
    z: complex,
    guess: np.ndarray | None = None,
    *,
    shift: np.ndarray | None = None,
    tolerance: float = STEP,
    settled: Settled = lambda _: False,
) -> Equivalent:
    """Find the fixed point of step + shift, or imaginary parts if all else is settled.

    A step costs O((a h)^3 + N (a^2 k + a^2 q^2) + t a^3), of one layer.
    Theory: theory/conditional.md#Y1
    """
    start = far(design, z) if guess is None else guess
    made = _iterated(design, z, start, tolerance, shift, settled)
    if made is None and shift is None:
        # not from there: high above the axis any start will do
        y, start = max(z.imag, reach(design)), far(design, z)
        while y > z.imag:
            there = complex(z.real, y)
            above = _iterated(design, there, start, tolerance)
            start = start if above is None else above.unknowns
            y /= _LOWER
        made = _iterated(design, z, start, tolerance, settled=settled)
    if made is None:
        raise UnresolvedError(
            f"expected the fixed point at z = {z}, got none in {_ITERATIONS} steps nor "
            f"any that came closer in {PATIENCE}: float64 does not resolve the law "
            "there; ask for it further up, or for fewer parameters"
        )
    return made


def _iterated(
    design: ConditionalDesign,
    z: complex,
    start: np.ndarray,
    tolerance: float,
    shift: np.ndarray | None = None,
    settled: Settled = lambda _: False,
) -> Equivalent | None:
    """Iterate to the fixed point; None if the changes cease to fall."""
    # The map takes the half planes to themselves and has one fixed point there, which
    # it finds from anywhere: Anderson's extrapolation is free to jump, and is taken
    # back to where it left them.
    x = start + 0j
    scale = sizes(x)
    steps = anderson.Steps()
    least, since = np.inf, 0
    for k in range(_ITERATIONS):
        made = step(design, x, z)
        new = made.unknowns if shift is None else made.unknowns + shift
        change, turned = _changes(x, new, z.imag * abs(made.trace))
        off = max(change / tolerance, turned / _IMAGINARY)
        rested = change <= _NEAR and turned <= _IMAGINARY
        if off <= 1 or (rested and settled(made)):
            return made
        if off <= least / 2:
            least, since = off, k
        # with a shift there may be no solution in the half planes
        if k - since > (PATIENCE if shift is None else PATIENCE // 4):
            break
        x = onwards(steps, x, new, scale)
    return None


def onwards(
    steps: anderson.Steps, x: np.ndarray, new: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Return where to go from x and its image, by the steps before, in half planes."""
    jump = steps.extrapolated(x / scale, new / scale) * scale
    return in_half_planes(jump) if np.all(np.isfinite(jump)) else new


def step(design: ConditionalDesign, x: np.ndarray, z: complex) -> Equivalent:
    """Map the unknowns to those that their resolvent makes.

    Theory: theory/conditional.md#Y1, #Y7
    """
    if design.positions > 1:
        return positions.step(design, x, z)
    roots, xi, own = design.roots, design.regressors, design.own
    a, (_, h, q) = roots.shape[1], design.slopes.shape
    flat = np.swapaxes(roots, 1, 2)
    inner = np.eye(roots.shape[2]) + flat @ (x[0][own] @ roots)
    E = roots @ np.linalg.solve(inner, flat + 0j)
    # all is symmetric in pairs of errors, and in pairs of regressors: halves are made
    j, k, errors = halves(a)
    u, v, outputs = halves(q)
    pairs = xi[:, u] * xi[:, v]
    members = [design.labels == c for c in range(len(design.slopes))]
    slopes = np.concatenate(design.slopes, axis=1)
    parts = []
    for U, i in zip(design.slopes, members, strict=True):
        seen = products(pairs[i].T, E[i][:, j, k])
        parts.append(np.swapaxes(products(U, seen.T[:, outputs]), 1, 2))
    H = np.tensordot(x[1][:, j, k], design.inside, ((0,), (0,)))
    H += products(slopes, np.concatenate(parts, axis=1))
    blocks = np.empty((a, h, a, h), dtype=np.complex128)
    blocks[j, :, k] = blocks[k, :, j] = H
    here, there = design.parameters[:, :h], design.parameters[:, h:].T
    kept = np.ix_(np.flatnonzero(here), np.flatnonzero(here))
    head = np.reshape(blocks, (a * h, a * h))[kept]
    head[np.diag_indices(len(head))] -= z
    gone = None if design.constant is None else beyond(design.constant, z)
    if gone is not None:
        head += gone.added
    # what is no parameter has a pivot of 1 in the tail, and nothing beside it
    both = there[:, :, None] & there[:, None, :]
    tail = both * np.tensordot(design.outside, x[1], ((0,), (0,)))
    tail = tail + np.where(there, -z, 1)[:, :, None] * np.eye(a)
    Q, rest = np.zeros((a * h, a * h), np.complex128), both * np.linalg.inv(tail)
    Q[kept], pivots = inverted(head)
    blocks = np.reshape(Q, (a, h, a, h))[j, :, k]
    traced = np.tensordot(design.inside, blocks, ((1, 2), (1, 2)))
    delta = traced[:, errors] + np.tensordot(design.outside, rest, 1)
    forms, near = np.empty_like(E), products(slopes.T, blocks)
    twice = np.where(u == v, 0.5, 1.0)
    for c, (U, i) in enumerate(zip(design.slopes, members, strict=True)):
        small = near[:, c * q : (c + 1) * q] @ U
        small = (small + np.swapaxes(small, 1, 2))[:, u, v] * twice
        forms[i] = products(pairs[i], small.T)[:, errors]
    B = _over(design, E - E @ forms @ E)
    new = np.stack([delta, B])
    new = (new + np.swapaxes(new, 2, 3)) / 2
    return Equivalent(new, x, inner, pivots, tail, (Q, rest), gone)


def in_half_planes(x: np.ndarray) -> np.ndarray:
    """Return the nearest unknowns with Im Delta >= 0 and Im B <= 0.

    Theory: theory/conditional.md#Y1
    """
    signs = np.asarray([1.0, -1.0])[:, None, None, None]
    values, vectors = np.linalg.eigh(x.imag * signs)
    kept = vectors * np.maximum(values, 0)[..., None, :]
    return np.asarray(x.real + 1j * signs * (kept @ np.swapaxes(vectors, 2, 3)))


def _changes(x: np.ndarray, new: np.ndarray, height: float) -> tuple[float, float]:
    """Return how much a step changed unknowns, and imaginary parts beside a height.

    Theory: theory/conditional.md#Y2
    """
    # d Phi = tr dDelta (B' - B) + tr dB (Delta' - Delta): an entry of Delta moves as
    # many eigenvalues as the entry of B beside it says, and the reverse. Entry by entry
    # and relative, what rounding leaves of a sum that cancels would be waited for
    # forever, in classes that nothing depends on
    beside = np.maximum(np.abs(x), np.abs(new))[::-1]
    moved = float(np.sum(np.abs(new - x) * beside))
    turned = float(np.sum(np.abs(new.imag - x.imag) * beside))
    whole = float(np.sum(np.abs(new[0] * new[1])))
    height += float(np.sum(np.abs(new.imag) * beside))
    return moved / max(1.0, whole), turned / height


def sizes(x: np.ndarray) -> np.ndarray:
    """Return sqrt(|x_ii x_jj|): classes differ by the confidence of the network."""
    # what is 0, where nothing is left in a layer, is taken back to rounding, not to 0
    diagonal = np.abs(np.diagonal(x, axis1=2, axis2=3))
    root = np.sqrt(np.where(diagonal > 0, diagonal, 1))
    return np.asarray(root[:, :, :, None] * root[:, :, None, :])


def _means(design: ConditionalDesign) -> np.ndarray:
    """Return m_i in the head of the frame, (N, h)."""
    out = np.empty((len(design.labels), design.slopes.shape[1]))
    for c, U in enumerate(design.slopes):
        i = design.labels == c
        out[i] = design.regressors[i] @ U.T
    return out


def _squares(design: ConditionalDesign) -> np.ndarray:
    """Return sum A_i over the samples of each covariance."""
    if design.positions > 1:
        return positions.squares(design)
    return _over(design, design.roots @ np.swapaxes(design.roots, 1, 2))


def _over(design: ConditionalDesign, values: np.ndarray) -> np.ndarray:
    """Sum (N, a, a) over the samples of each covariance."""
    own, s = design.own, len(design.inside)
    return np.stack([np.sum(values[own == c], axis=0) for c in range(s)])
