r"""Do neighbouring eigenvalues repel as those of a Gaussian matrix do.

Where the law says how many eigenvalues lie below x, each is taken to that number: the
unfolded spectrum has spacings of mean 1, and inside the bulk they are distributed
nearly as Wigner surmised, :math:`1 - \exp(-\pi s^2 / 4)`. Ratios of neighbouring
spacings need no law. Eigenvalues that know nothing of each other have :math:`1 -
\exp(-s)` instead (Theory: theory/random_matrix.md#R15). Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec import backend, checks
from refspec.random_matrix.prediction import Prediction
from refspec.results import Result
from refspec.spectra import Spectrum

#: Mean ratio of a large Gaussian orthogonal matrix (Atas and others 2013, numerical),
#: and of independent eigenvalues, 2 log 2 - 1.
GAUSSIAN, INDEPENDENT = 0.5307, 2 * float(np.log(2)) - 1
#: Share of a band's eigenvalues left out at each of its edges, where they thin out.
_EDGE = 1 / 20


@dataclass(frozen=True, slots=True, eq=False)
class Spacings(Result):
    """Spacings and their ratios.

    Parameters
    ----------
    unfolded : array, shape (n,)
        Spacings in units of their expected mean, inside bands; empty without a law.
    ratios : array, shape (m,)
        Of every two neighbouring spacings, the smaller over the larger.
    distance : float
        Kolmogorov-Smirnov, of unfolded spacings from Wigner's surmise; nan without any.
    ratio, error : float
        Mean ratio, and its standard error as if ratios were independent.
    """

    unfolded: np.ndarray
    ratios: np.ndarray
    distance: float
    ratio: float
    error: float

    def __repr__(self) -> str:
        """Say the mean ratio beside those of the two extremes."""
        return (
            f"Spacings(ratio {self.ratio:.3g} +- {self.error:.2g}; "
            f"{GAUSSIAN} if they repel, {INDEPENDENT:.3g} if independent)"
        )


def spacings(spectrum: Spectrum, prediction: Prediction | None = None) -> Spacings:
    r"""Compare the spacings of a spectrum with those of a Gaussian matrix.

    Parameters
    ----------
    spectrum : Spectrum
        Eigenvalues below the highest two that their radius does not tell apart are left
        out.
    prediction : Prediction, optional
        Of this spectrum: unfolds it.

    Returns
    -------
    Spacings
        A mean ratio near .5307 is that of a Gaussian matrix, near .3863 that of
        eigenvalues that know nothing of each other.

    Raises
    ------
    ValueError, TypeError
        If an argument is of another type, or fewer than three eigenvalues are told
        apart.

    Notes
    -----
    Theory: theory/random_matrix.md#R15

    Examples
    --------
    >>> import refspec
    >>> found = spacings(refspec.spectrum(refspec.datasets.wine_sklearn()))
    >>> abs(found.ratio - GAUSSIAN) < 3 * found.error < abs(found.ratio - INDEPENDENT)
    True
    """
    checks.expect_type("spectrum", spectrum, Spectrum, "refspec.spectrum returns one")
    values = np.sort(np.asarray(backend.to_host(spectrum.values), dtype=np.float64))
    close = np.flatnonzero(np.diff(values) <= 2 * spectrum.radius)
    values = values[close[-1] + 1 if len(close) else 0 :]
    if len(values) < 3:
        raise ValueError(
            "spectrum must have three eigenvalues or more that their radius, "
            f"{spectrum.radius:.3g}, tells apart, got {len(values)}; certify it"
        )
    found, away = np.zeros(0), float("nan")
    if prediction is not None:
        advice = "refspec.random_matrix.predict returns one"
        checks.expect_type("prediction", prediction, Prediction, advice)
        found = _unfolded(values, prediction)
        away = distance(found) if len(found) else away
    each = ratios(values)
    error = float(np.std(each)) / len(each) ** 0.5
    return Spacings(found, each, away, float(np.mean(each)), error)


def ratios(values: np.ndarray) -> np.ndarray:
    """Return the smaller over the larger of neighbouring spacings, values ascending.

    Theory: theory/random_matrix.md#R15
    """
    gaps = np.diff(values)
    pairs = np.stack([gaps[1:], gaps[:-1]])
    return np.asarray(np.min(pairs, axis=0) / np.max(pairs, axis=0))


def wigner(s: np.ndarray) -> np.ndarray:
    """Return Wigner's distribution function of spacings, 1 - exp(-pi s^2 / 4).

    Theory: theory/random_matrix.md#R15
    """
    return np.asarray(-np.expm1(-np.pi * s**2 / 4))


def distance(unfolded: np.ndarray) -> float:
    """Return the Kolmogorov-Smirnov distance of spacings (n,) from Wigner's surmise.

    Theory: theory/random_matrix.md#R15
    """
    F, n = wigner(np.sort(unfolded)), len(unfolded)
    steps = np.arange(n + 1) / n
    return float(max(np.max(steps[1:] - F), np.max(F - steps[:-1])))


def _unfolded(values: np.ndarray, prediction: Prediction) -> np.ndarray:
    """Return spacings of the numbers expected below, inside of the bands."""
    below, inside = prediction.count(values, side="left"), []
    for band in prediction.bands:
        ends = np.asarray([band.lower, band.upper])
        low, high = prediction.count(ends, side="left")
        rim = _EDGE * (high - low)
        own = below[(below > low + rim) & (below < high - rim)]
        inside.append(np.diff(own))
    return np.concatenate(inside)
