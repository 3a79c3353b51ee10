"""Eigenvalues that stand out of a law, and their order where they mix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refspec import rounding

#: Numbers drawn for the small matrix of outliers that mix.
DRAWN = 2**19


@dataclass(frozen=True, slots=True, eq=False)
class Outliers:
    """Eigenvalues above the bulk.

    Parameters
    ----------
    values : array, shape (r,), expected, descending
    deviations : array, shape (r,), standard deviations from draw to draw
    overlaps : array, shape (r,)
        Squared length of the eigenvector's projection on the span of the means; nan
        where not predicted.
    """

    values: np.ndarray
    deviations: np.ndarray
    overlaps: np.ndarray


def no_outliers() -> Outliers:
    """Return none."""
    return Outliers(np.zeros(0), np.zeros(0), np.zeros(0))


def joined(parts: Sequence[Outliers]) -> Outliers:
    """Put several together, descending."""
    columns = [
        np.concatenate([getattr(x, name) for x in parts])
        for name in ("values", "deviations", "overlaps")
    ]
    order = np.argsort(-columns[0], kind="stable")
    return Outliers(*(x[order] for x in columns))


def mixed(
    centres: np.ndarray, variances: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return means and deviations of the ordered outliers, descending.

    They are the eigenvalues of diag(centres) plus a Gaussian matrix of the variances
    (r, r), twice those on its diagonal. Theory: theory/random_matrix.md#R8
    """
    r = len(centres)
    if r < 2:
        return np.asarray(centres), np.sqrt(2 * np.diag(variances))
    pairs = max(64, DRAWN // r**3)
    upper = np.triu(np.random.default_rng(seed).standard_normal((pairs, r, r)))
    # off the diagonal one draw, on it twice the same: the standard deviation is 2, of
    # which sqrt(2) is wanted
    noise = (upper + np.swapaxes(upper, 1, 2)) * np.sqrt(variances)
    noise[:, range(r), range(r)] /= np.sqrt(2)
    drawn = np.linalg.eigvalsh(opposite(centres, noise))[:, ::-1]
    return np.mean(drawn, axis=0), np.std(drawn, axis=0)


def opposite(centres: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return diag(centres) +- noise: in pairs, odd orders of the noise cancel."""
    centre = np.diag(centres)
    return np.concatenate([centre + noise, centre - noise])


def row_space(rows: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis, as rows (q, d), of the span of rows (n, d)."""
    _, sizes, basis = np.linalg.svd(rows, full_matrices=False)
    u = rounding.unit_roundoff(rows)
    least = rounding.eigensolver_radius(max(rows.shape), float(sizes[0]), u)
    return np.asarray(basis[sizes > least])
