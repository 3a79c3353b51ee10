"""A predicted spectrum against one that was measured."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from refspec import backend
from refspec.random_matrix.prediction import Prediction
from refspec.spectra import Spectrum

__all__ = ["Comparison", "compare", "kolmogorov"]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """How far a measured spectrum is from its prediction.

    Parameters
    ----------
    distance : float
        Kolmogorov-Smirnov: largest difference of the two distribution functions.
    scores : array, shape (r,)
        (measured - expected) / deviation of every predicted outlier, descending.
    overlap_errors : array, shape (r,)
        Measured less predicted overlaps; empty where vectors were not given.
    band_counts, expected_counts : tuple of int
        Eigenvalues nearest to each band of the law, outliers of fixed means apart, and
        how many are expected.
    """

    distance: float
    scores: np.ndarray
    overlap_errors: np.ndarray
    band_counts: tuple[int, ...]
    expected_counts: tuple[int, ...]


def compare(
    prediction: Prediction,
    spectrum: Spectrum,
    *,
    vectors: np.ndarray | None = None,
    means: np.ndarray | None = None,
) -> Comparison:
    """Compare a prediction with a measured spectrum.

    Parameters
    ----------
    prediction : Prediction
        Of d eigenvalues.
    spectrum : Spectrum
        Of a second moment of dimension d.
    vectors : array, shape (d, r), optional
        Eigenvectors of the r predicted outliers, columns in the order of the
        spectrum's values and in the coordinates of the population.
    means : array, shape (q, d), optional
        Rows that span the class means; those of the prediction if not given. Random
        means are known once drawn only.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If the dimensions differ, or vectors or means have another shape.

    Notes
    -----
    Theory: theory/random_matrix.md#R14.

    Examples
    --------
    >>> import refspec
    >>> from refspec.populations import Population
    >>> from refspec.random_matrix.prediction import predict
    >>> made = predict(Population((400,), 200, np.ones((400, 1)), 1.0))
    >>> X = np.random.default_rng(0).standard_normal((400, 200))
    >>> values = np.linalg.eigvalsh(X.T @ X)[::-1]
    >>> measured = refspec.spectra.Spectrum(values, None, 0.0, "exact", 200)
    >>> compare(made, measured).distance < 4 / 200
    True
    """
    d = prediction.dimension
    if spectrum.dimension != d:
        raise ValueError(
            f"prediction and spectrum must have one dimension d, got {d} and "
            f"{spectrum.dimension}; predict from the population of the same layer"
        )
    values = np.asarray(backend.to_host(spectrum.values), dtype=np.float64)
    values = np.where(np.abs(values) <= spectrum.radius, 0.0, values)
    values = np.sort(np.append(values, np.zeros(spectrum.n_zero)))[::-1]
    expected = prediction.outliers
    r, fixed = len(expected.values), len(prediction.fixed.values)
    errors = np.zeros(0)
    if vectors is not None and r:
        errors = _overlaps(prediction, vectors, means) - expected.overlaps
    return Comparison(
        kolmogorov(prediction, values),
        (values[:r] - expected.values) / expected.deviations,
        errors,
        _nearest(prediction, values[fixed:]),
        prediction.counts,
    )


def kolmogorov(prediction: Prediction, values: np.ndarray) -> float:
    """Return the Kolmogorov-Smirnov distance of eigenvalues from a prediction.

    Parameters
    ----------
    prediction : Prediction
        Of d eigenvalues.
    values : array, shape (d,)
        All eigenvalues, in any order.

    Returns
    -------
    float

    Notes
    -----
    Theory: theory/random_matrix.md#R14. Both functions have steps, so both limits are
    taken at every step.

    Examples
    --------
    >>> from refspec.populations import Population
    >>> from refspec.random_matrix.prediction import predict
    >>> made = predict(Population((40,), 20, np.ones((40, 1)), 1.0))
    >>> kolmogorov(made, made.eigenvalues) <= 1 / 20
    True
    """
    values = np.sort(values)
    at = np.concatenate([values, prediction.fixed.values])
    worst = 0.0
    for side in ("left", "right"):
        measured = np.searchsorted(values, at, side=side)
        gaps = np.abs(measured - prediction.count(at, side=side))
        worst = max(worst, float(np.max(gaps)))
    return worst / prediction.dimension


def _overlaps(
    prediction: Prediction, vectors: np.ndarray, means: np.ndarray | None
) -> np.ndarray:
    """Return the squared projections of vectors on the span of the means."""
    d, r = prediction.dimension, len(prediction.outliers.values)
    rows = prediction.means if means is None else np.asarray(means)
    vectors = np.asarray(backend.to_host(vectors))
    if vectors.ndim != 2 or vectors.shape[0] != d or vectors.shape[1] < r:
        raise ValueError(
            f"vectors must have shape (d, r) = ({d}, {r}), got {vectors.shape}; give "
            "the eigenvectors of the predicted outliers as columns"
        )
    if rows.ndim != 2 or rows.shape[1] != d or not len(rows):
        raise ValueError(
            f"means must have shape (q, d) with d = {d}, got {rows.shape}; give the "
            "class means that were drawn"
        )
    _, sizes, basis = np.linalg.svd(rows, full_matrices=False)
    basis = basis[sizes > np.finfo(np.float64).eps * max(rows.shape) * sizes[0]]
    return np.asarray(np.sum((basis @ vectors[:, :r]) ** 2, axis=0))


def _nearest(prediction: Prediction, values: np.ndarray) -> tuple[int, ...]:
    """Count the eigenvalues that belong to each band: split the gaps in half."""
    bands = prediction.bands
    floor = bands[0].lower / 2 if prediction.law.atom > 0 else -np.inf
    cuts = [(low.upper + high.lower) / 2 for low, high in pairwise(bands)]
    return tuple(np.histogram(values, [floor, *cuts, np.inf])[0].tolist())
