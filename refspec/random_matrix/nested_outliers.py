r"""Outliers of fixed means over noise of any covariances.

An outlier is a point x beyond the support where the matrix
:math:`S(x) = diag(1 / W) + M Q M'` of `refspec.random_matrix.nested_spectra` is
singular, and its null vector says which mean. Its fluctuations follow from those of
quadratic forms in the resolvent. Host arithmetic (LAPACK).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec.random_matrix import nested_designs, nested_laws, nested_spectra
from refspec.random_matrix.nested_designs import NestedDesign
from refspec.random_matrix.nested_laws import Solution
from refspec.random_matrix.outliers import Outliers, mixed

__all__ = ["ACCURACY", "nested_outliers", "orthonormal"]

#: Accuracy of an outlier, relative.
ACCURACY = 2.0**-24


@dataclass(frozen=True, slots=True, eq=False)
class _Secular:
    """S, its eigenvalues and their slopes at one point of the real axis."""

    x: float
    made: Solution
    values: np.ndarray
    vectors: np.ndarray
    slopes: np.ndarray


def nested_outliers(
    design: NestedDesign, edge: float, scale: float, *, seed: int = 0
) -> Outliers:
    r"""Predict the outliers of fixed means: values, deviations, overlaps.

    Parameters
    ----------
    design : NestedDesign
        With means.
    edge, scale : float
        Of the noise, see `refspec.random_matrix.law_tables.Band`.
    seed : int
        Of the small matrix of outliers that mix.

    Returns
    -------
    Outliers
        Those further than scale / 8 from the edge. Values lack the shift of order 1 / d
        of a single outlier, which is known for isotropic noise only; outliers repel.

    Raises
    ------
    RuntimeError
        If the solver fails, which the theory excludes.

    Notes
    -----
    Theory: theory/random_matrix.md#R13. With c the null vector of S, y = c'M,
    :math:`u_r = y Q S_r Q y'`, :math:`\rho_r = \sum_k c_k^2 \partial (1 / W_k) /
    \partial a_r` and :math:`G = (I - H T)^{-1}`, the overlap is :math:`|P Q y'|^2 / c'
    S' c` and the variance

    .. math:: 2 (-u' G H u + 2 u' G \rho - \rho' T G \rho) / (c' S' c)^2

    Examples
    --------
    >>> from refspec.populations import Population
    >>> population = Population((45,), 20, np.ones((45, 1)), 1.0, np.ones(20) / 2)
    >>> design = nested_designs.nested_design(population)
    >>> made = nested_outliers(design, (44**0.5 + 20**0.5) ** 2, 1.0)
    >>> v = 20 + 45 * 5  # d + theta^2
    >>> bool(abs(made.values[0] - v * (1 + 44 / (v - 20))) < 1e-7 * v)
    True
    """
    level = next(i for i, x in enumerate(design.levels) if x.projected)
    weights = nested_laws.sweep(design, np.zeros(len(design.covariances)))[2][level]
    strongest = float(np.linalg.norm(np.sqrt(weights)[:, None] * design.means, 2))
    x = (np.sqrt(nested_laws.reach(design)) + strongest) ** 2
    seen = [_secular(design, x, -nested_designs.traces(design) / x)]
    while x - edge > scale / 8:
        x = edge + max((x - edge) / 4, scale / 16)
        seen.append(_secular(design, x, seen[-1].made.a))
    count = int(np.sum(seen[-1].values < 0))
    span = orthonormal(design.means)
    centres, variances, overlaps = [], [], []
    for k in range(count):
        at = _root(design, k, seen)
        value, variance, overlap = _outlier(design, at, k, level, span)
        centres.append(value)
        variances.append(variance)
        overlaps.append(overlap)
    spread = np.sqrt(np.outer(variances, variances)) / 2
    values, deviations = mixed(np.asarray(centres), spread, seed=seed)
    return Outliers(values, deviations, np.asarray(overlaps))


def _secular(design: NestedDesign, x: float, guess: np.ndarray) -> _Secular:
    """Evaluate S and its eigenvalues' derivatives, from a guess right of x."""
    made = nested_laws.solve(design, x, guess)
    if made is None:
        raise RuntimeError(
            f"expected the real fixed point at x = {x} beyond the support, got no "
            "convergence; report the population as a bug"
        )
    values, vectors = np.linalg.eigh(nested_spectra.secular(design, made))
    slope = made.slope
    level = next(i for i, y in enumerate(design.levels) if y.projected)
    rate = _weight_slopes(design, made.a, slope, level)
    MQ, products = _products(design, made)
    inner = MQ @ MQ.T
    for change, product in zip(made.hessian @ slope, products, strict=True):
        inner -= change * (product @ MQ.T)
    slopes = np.sum(vectors * ((np.diag(rate) + inner) @ vectors), axis=0)
    return _Secular(x, made, values, vectors, slopes)


def _root(design: NestedDesign, k: int, seen: list[_Secular]) -> _Secular:
    """Find where the k-th smallest eigenvalue of S vanishes: Newton in a bracket."""
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
        seen.append(_secular(design, x, right.made.a))


def _outlier(
    design: NestedDesign, at: _Secular, k: int, level: int, span: np.ndarray
) -> tuple[float, float, float]:
    """Return where an outlier is, its variance and its overlap with the means."""
    made, c, slope = at.made, at.vectors[:, k], float(at.slopes[k])
    MQ, products = _products(design, made)
    y = c @ MQ
    u = np.asarray([c @ product @ y for product in products])
    r = len(made.a)
    unit = np.eye(r)
    rho = np.asarray(
        [c**2 @ _weight_slopes(design, made.a, unit[s], level) for s in range(r)]
    )
    G = np.linalg.inv(np.eye(r) - made.hessian @ made.gain)
    forms = -u @ G @ made.hessian @ u + 2 * u @ G @ rho - rho @ made.gain @ G @ rho
    overlap = float(np.sum((span @ y) ** 2)) / slope
    return at.x - float(at.values[k]) / slope, 2 * float(forms) / slope**2, overlap


def _products(
    design: NestedDesign, made: Solution
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return M Q and M Q S_r for every effect."""
    Q, M = made.resolvent, design.means
    MQ = M * Q if Q.ndim == 1 else M @ Q
    return MQ, [MQ * s if s.ndim == 1 else MQ @ s for s in design.covariances]


def _weight_slopes(
    design: NestedDesign, a: np.ndarray, direction: np.ndarray, level: int
) -> np.ndarray:
    """Return the derivative of 1 / W of the projected nodes along a direction."""
    length = float(np.max(np.abs(direction)))
    if length == 0:
        return np.zeros(len(design.means))
    h = 2.0**-17 * float(np.max(np.abs(a))) / length
    up = nested_laws.sweep(design, a + h * direction)[2][level]
    down = nested_laws.sweep(design, a - h * direction)[2][level]
    return np.asarray((1 / up - 1 / down) / (2 * h))


def orthonormal(rows: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis, as rows, of the span of rows."""
    _, sizes, basis = np.linalg.svd(rows, full_matrices=False)
    return np.asarray(basis[sizes > np.finfo(float).eps * max(rows.shape) * sizes[0]])
