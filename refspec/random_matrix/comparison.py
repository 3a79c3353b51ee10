"""A predicted spectrum against one that was measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec import backend, checks
from refspec.backend import Array
from refspec.random_matrix.outliers import row_space
from refspec.random_matrix.prediction import Prediction
from refspec.results import Result
from refspec.spectra import Spectrum


@dataclass(frozen=True, slots=True, eq=False)
class Discrepancy(Result):
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

    def __repr__(self) -> str:
        """Say the distance and the worst score."""
        worst = float(np.max(np.abs(self.scores), initial=0.0))
        return (
            f"Discrepancy(distance={self.distance:.3g}; {len(self.scores)} outliers, "
            f"worst score {worst:.3g}; bands {self.band_counts} of "
            f"{self.expected_counts})"
        )


def discrepancy(
    prediction: Prediction,
    spectrum: Spectrum,
    *,
    vectors: Array | None = None,
    means: Array | None = None,
) -> Discrepancy:
    """Compare a prediction with a measured spectrum.

    Parameters
    ----------
    prediction : Prediction, of d eigenvalues
    spectrum : Spectrum, of a second moment of dimension d
    vectors : array, shape (d, r), optional
        Eigenvectors of the r predicted outliers, columns in the order of the
        spectrum's values and in the coordinates of the population.
    means : array, shape (q, d), optional
        Rows that span the class means; those of the prediction if not given. Random
        means are known once drawn only.

    Returns
    -------
    Discrepancy

    Raises
    ------
    ValueError, TypeError
        If an argument is of another type or shape, or not real and finite.

    Notes
    -----
    Theory: theory/random_matrix.md#R14

    Examples
    --------
    >>> import refspec
    >>> from refspec.populations import Population
    >>> from refspec.random_matrix import predict
    >>> made = predict(Population((400,), 200, np.ones((400, 1)), 1.0))
    >>> X = np.random.default_rng(0).standard_normal((400, 200))
    >>> values = np.linalg.eigvalsh(X.T @ X)[::-1]
    >>> measured = refspec.spectra.Spectrum(values, None, 0.0, "exact", 200)
    >>> discrepancy(made, measured).distance < 4 / 200
    True
    """
    checks.expect_type("prediction", prediction, Prediction, "predict returns one")
    checks.expect_type("spectrum", spectrum, Spectrum, "refspec.spectrum returns one")
    d, expected = prediction.dimension, prediction.outliers
    if spectrum.dimension != d:
        raise ValueError(
            f"prediction and spectrum must have one dimension d, got {d} and "
            f"{spectrum.dimension}; predict from the population of the same layer"
        )
    r, fixed = len(expected.values), len(prediction.fixed.values)
    errors = np.zeros(0)
    if means is not None:
        means = checks.host_array("means", means, "(q, d)", sizes={"d": d})
    if vectors is not None:
        vectors = checks.host_array("vectors", vectors, "(d, r)", sizes={"d": d})
        rows = prediction.means if means is None else means
        if vectors.shape[1] < r or (r and not len(rows)):
            raise ValueError(
                f"vectors must be those of at least {r} outliers and means of at least "
                f"one row, got {vectors.shape[1]} columns and {len(rows)} rows; give "
                "the eigenvectors of the predicted outliers and the means drawn"
            )
        if r:
            errors = _overlaps(rows, vectors[:, :r]) - expected.overlaps
    values = np.asarray(backend.to_host(spectrum.values), dtype=np.float64)
    values = np.where(np.abs(values) <= spectrum.radius, 0.0, values)
    values = np.sort(np.append(values, np.zeros(spectrum.n_zero)))[::-1]
    return Discrepancy(
        kolmogorov(prediction, values),
        (values[:r] - expected.values) / expected.deviations,
        errors,
        _nearest(prediction, values[fixed:]),
        prediction.counts,
    )


def kolmogorov(
    prediction: Prediction, values: np.ndarray, floor: float = -np.inf
) -> float:
    """Return the Kolmogorov-Smirnov distance of all eigenvalues (d,), in any order.

    As it is above `floor`, below which nothing may be told. Theory:
    theory/random_matrix.md#R14
    """
    values = np.sort(values)
    at = np.concatenate([values, prediction.fixed.values])
    at, worst = at[at > floor], 0.0
    for side in ("left", "right"):  # both functions have steps: both limits
        measured = np.searchsorted(values, at, side=side)
        gaps = np.abs(measured - prediction.count(at, side=side))
        worst = max(worst, float(np.max(gaps, initial=0.0)))
    return worst / prediction.dimension


def _overlaps(rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the squared projections of vectors (d, r) on the span of rows (q, d)."""
    return np.asarray(np.sum((row_space(rows) @ vectors) ** 2, axis=0))


def _nearest(prediction: Prediction, values: np.ndarray) -> tuple[int, ...]:
    """Count the eigenvalues that belong to each band: split the gaps in half."""
    # zeros are the atom's, however close to them the first band begins
    floor = np.nextafter(0, 1) if prediction.law.atom > 0 else -np.inf
    edges = [floor, *prediction.cuts, np.inf]
    return tuple(np.histogram(values, edges)[0].tolist())
