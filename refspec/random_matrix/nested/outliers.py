r"""Outliers of fixed means over noise of any covariances.

An outlier is a point x beyond the support where :math:`S(x) = diag(1 / W) + M Q M'` is
singular, and its null vector says which mean. Its fluctuations follow from those of
quadratic forms in the resolvent (Theory: theory/random_matrix.md#R13). Host arithmetic
(LAPACK).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec.random_matrix.nested import law
from refspec.random_matrix.nested.design import NestedDesign
from refspec.random_matrix.nested.law import FixedPoint
from refspec.random_matrix.nested.spectrum import beyond, real_solution, secular
from refspec.random_matrix.nested.tree import resistance
from refspec.random_matrix.outliers import (
    Outliers,
    joined,
    mixed,
    no_outliers,
    row_space,
)
from refspec.random_matrix.tables import LawTable

#: Accuracy of an outlier, relative.
ACCURACY = 2.0**-24
#: Relative to the first band, where a lifted eigenvalue counts as 0.
_LOWEST = 2.0**-20


@dataclass(frozen=True, slots=True, eq=False)
class _At:
    """S at one point of the real axis: its eigenvalues, their slopes in x, vectors."""

    x: float
    made: FixedPoint
    values: np.ndarray
    vectors: np.ndarray
    slopes: np.ndarray


def nested_outliers(
    design: NestedDesign, edge: float, scale: float, seed: int = 0
) -> Outliers:
    """Predict the outliers of fixed means further than scale / 8 from the right edge.

    Values lack the shift of order 1 / d of a single outlier, which is known for
    isotropic noise only. Theory: theory/random_matrix.md#R13
    """
    masses = np.linalg.inv(resistance(design, np.zeros(len(design.covariances))))
    gram = design.means.T @ masses @ design.means
    strongest = float(np.linalg.norm(gram, 2)) ** 0.5
    x = (np.sqrt(law.reach(design)) + strongest) ** 2
    seen = [_at(design, x, law.far_guess(design, x))]
    while x - edge > scale / 8:
        x = edge + max((x - edge) / 4, scale / 16)
        seen.append(_at(design, x, seen[-1].made.a))
    return _crossings(design, seen, seed)


def inner_outliers(design: NestedDesign, table: LawTable) -> Outliers:
    """Predict those of means that stand between two bands, or between 0 and the first.

    Theory: theory/random_matrix.md#R13
    """
    found, left = [no_outliers()], 0.0
    for band in table.bands:
        right = beyond(band.lower, band.lower_scale, left)
        ends = left or right * _LOWEST, right
        # a gap too narrow for an outlier to be told from the edges has none
        made = [(x, real_solution(design, x)) for x in ends if ends[0] < right]
        seen = [_seen(design, x, known) for x, known in made if known is not None]
        if len(seen) == 2:
            found.append(_crossings(design, seen, 0))
        left = beyond(band.upper, band.upper_scale, np.inf)
    return joined(found)


def _crossings(design: NestedDesign, seen: list[_At], seed: int) -> Outliers:
    """Return the outliers between the first and the last of points off the support."""
    ends = sorted(seen, key=lambda s: s.x)
    counts = [int(np.sum(s.values < 0)) for s in (ends[-1], ends[0])]
    span = row_space(design.means)
    centres, variances, overlaps = [], [], []
    for k in range(*counts):
        value, variance, overlap = _outlier(design, _root(design, k, seen), k, span)
        centres.append(value)
        variances.append(variance)
        overlaps.append(overlap)
    spread = np.sqrt(np.outer(variances, variances)) / 2
    values, deviations = mixed(np.asarray(centres), spread, seed)
    return Outliers(values, deviations, np.asarray(overlaps))


def _at(design: NestedDesign, x: float, guess: np.ndarray) -> _At:
    """Evaluate S and its eigenvalues' derivatives, from a guess right of x."""
    made = law.fixed_point(design, x, guess)
    if made is None:
        raise RuntimeError(
            f"expected the real fixed point at x = {x} beyond the support, got no "
            "convergence; report the population as a bug"
        )
    return _seen(design, x, made)


def _seen(design: NestedDesign, x: float, made: FixedPoint) -> _At:
    """Take the eigenvalues of S, and their derivatives, from a solution at x."""
    values, vectors = np.linalg.eigh(secular(design, made))
    slope = made.slope
    # S' = diag (1 / W)' + M Q' M', and dQ = Q (1 - sum_r db_r S_r) Q with db = H da
    MQ, products = _products(design, made)
    inner = MQ @ MQ.T
    for change, product in zip(made.hessian @ slope, products, strict=True):
        inner -= change * (product @ MQ.T)
    inner += _resistance_slopes(design, made.a, slope)
    return _At(x, made, values, vectors, np.sum(vectors * (inner @ vectors), axis=0))


def _root(design: NestedDesign, k: int, seen: list[_At]) -> _At:
    """Find where the k-th smallest eigenvalue of S vanishes: Newton in a bracket.

    Not brentq: a point costs an inverse of size d, brings the derivative for nothing,
    and serves all the roots that are sought after it.
    """
    while True:
        right = min((s for s in seen if s.values[k] >= 0), key=lambda s: s.x)
        left = max((s for s in seen if s.values[k] < 0), key=lambda s: s.x)
        best = min(left, right, key=lambda s: abs(s.values[k] / s.slopes[k]))
        step = -best.values[k] / best.slopes[k]
        if abs(step) <= ACCURACY * best.x:
            return best
        x = best.x + step
        if not left.x < x < right.x:
            x = (left.x + right.x) / 2
        seen.append(_at(design, x, right.made.a))


def _outlier(
    design: NestedDesign, at: _At, k: int, span: np.ndarray
) -> tuple[float, float, float]:
    r"""Return where an outlier is, its variance and its overlap with the means.

    2 (-u'GHu + 2 u'G rho - rho'TG rho) / (c'S'c)^2 and |P y|^2 / c'S'c.
    Theory: theory/random_matrix.md#R13
    """
    made, c, slope = at.made, at.vectors[:, k], float(at.slopes[k])
    MQ, products = _products(design, made)
    y = c @ MQ
    u = np.asarray([c @ product @ y for product in products])  # u_r = y S_r y'
    r = len(made.a)
    # rho_r = c' d(1 / W)/da_r c: the variance that effect r has in the mean
    rho = np.asarray([c @ _resistance_slopes(design, made.a, e) @ c for e in np.eye(r)])
    G = np.linalg.inv(np.eye(r) - made.hessian @ made.gain)
    forms = -u @ G @ made.hessian @ u + 2 * u @ G @ rho - rho @ made.gain @ G @ rho
    overlap = float(np.sum((span @ y) ** 2)) / slope
    return at.x - float(at.values[k]) / slope, 2 * float(forms) / slope**2, overlap


def _products(
    design: NestedDesign, made: FixedPoint
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return M Q and M Q S_r for every effect."""
    Q, M = made.resolvent, design.means
    MQ = M * Q if Q.ndim == 1 else M @ Q
    return MQ, [MQ * s if s.ndim == 1 else MQ @ s for s in design.covariances]


def _resistance_slopes(
    design: NestedDesign, a: np.ndarray, direction: np.ndarray
) -> np.ndarray:
    """Return the derivative of 1 / W of the projected nodes along a direction."""
    length = float(np.max(np.abs(direction)))
    if length == 0:
        return np.zeros((len(design.means), len(design.means)))
    # central differences, a step of the cube root of u
    h = 2.0**-17 * float(np.max(np.abs(a))) / length
    up, down = (resistance(design, a + s * direction) for s in (h, -h))
    return np.asarray((up - down) / (2 * h))
