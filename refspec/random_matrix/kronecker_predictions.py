"""The spectrum of gradients that are Kronecker products, predicted as any other.

Registers with `refspec.random_matrix.predict`. The bulk keeps the fluctuating lengths
of the noise vectors, the outliers do not need them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from refspec import rounding
from refspec.populations import KroneckerPopulation
from refspec.random_matrix import (
    kronecker_designs,
    kronecker_outliers,
    kronecker_spectra,
    prediction,
)
from refspec.random_matrix.outliers import Outliers
from refspec.random_matrix.prediction import Prediction

__all__ = ["KroneckerPrediction", "mean_span"]


@dataclass(frozen=True, slots=True, eq=False)
class KroneckerPrediction(Prediction):
    """What is expected of the spectrum of gradients errors (x) features.

    Parameters
    ----------
    total, total_deviation : float
        Sum of the outliers of fixed means, and its standard deviation.
    kfac : array, shape (P,)
        What KFAC predicts instead: products of the eigenvalues of both expected
        factors, descending.
    """

    total: float
    total_deviation: float
    kfac: np.ndarray


@prediction.predict.register
def _(
    population: KroneckerPopulation, *, resolution: float = 0.25, seed: int = 0
) -> KroneckerPrediction:
    """Predict the spectrum of gradients; all means fixed.

    Theory: theory/kronecker_designs.md#G1, #G2, #G3, #G4, #G5.
    """
    if not 0 < resolution < 1:
        raise ValueError(
            f"resolution must be in (0, 1), got {resolution}; it is the error of a "
            "count of eigenvalues"
        )
    long = kronecker_designs.kronecker_design(population, lengths=True)
    table = kronecker_spectra.tabulate(long, resolution=resolution)
    design = kronecker_designs.kronecker_design(population)
    found = kronecker_outliers.kronecker_outliers(
        design, table.bands[-1].upper, seed=seed
    )
    none = Outliers(np.zeros(0), np.zeros(0), np.zeros(0))
    span = mean_span(population)
    made = prediction.assembled("Kronecker", table, found.each, none, span)
    base = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
    kfac = kronecker_outliers.kfac_eigenvalues(design)
    return KroneckerPrediction(
        **base, total=found.total, total_deviation=found.total_deviation, kfac=kfac
    )


def mean_span(population: KroneckerPopulation) -> np.ndarray:
    """Return orthonormal rows that span the means delta_{c,c'} (x) h_c of weight > 0.

    Parameters
    ----------
    population : KroneckerPopulation
        The law.

    Returns
    -------
    array, shape (q, P)

    Notes
    -----
    Theory: theory/kronecker_designs.md#G4.

    Examples
    --------
    >>> from refspec.populations import Population
    >>> errors = Population((1, 1), 2, np.ones((2, 2)), 1.0, class_means=np.eye(2))
    >>> features = Population((1, 1), 3, np.ones((2, 1)), 1.0, class_means=np.eye(2, 3))
    >>> mean_span(KroneckerPopulation(errors, features)).shape
    (2, 6)
    """
    errors, features = population.errors, population.features
    parts = np.split(errors.weights, np.cumsum(errors.sizes)[:-1])
    seen = np.stack([np.any(x > 0, axis=0) for x in parts])
    pairs = errors.fixed_means()[..., None] * features.fixed_means()[:, :, None, :]
    table = pairs[seen].reshape(np.sum(seen), -1)
    _, values, rows = np.linalg.svd(table, full_matrices=False)
    bound = rounding.eigensolver_radius(max(table.shape), float(values[0]), 2.0**-53)
    return np.asarray(rows[values > bound])
