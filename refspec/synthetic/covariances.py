"""Covariances to plant, and noise that has them.

A covariance is a number (isotropic), a vector (d,) of variances (diagonal) or a matrix
(d, d); the cheapest of the three that says what is meant. Noise is Z R' with R R' the
covariance and Z of independent entries of mean 0 and variance exactly 1, Gaussian or
heavy-tailed, so that every second moment is known whatever the noise. Host arithmetic:
worlds are drawn in NumPy and converted.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg

from refspec import checks
from refspec.populations import (
    WIDEST,
    Covariance,
    expect_count,
    expect_noise,
    expect_semidefinite,
    symmetric_part,
)

#: Covariances by name, with the parameter they take.
KINDS = {
    "isotropic": None,
    "diagonal": "ratio of the largest to the smallest variance",
    "power-law": "exponent",
    "low-rank": "rank, which holds half of the variance",
    "toeplitz": "correlation of neighbours",
}


def power_law(d: int, exponent: float, scale: float = 1.0) -> np.ndarray:
    """Return variances scale * k^-exponent, k = 1..d, shape (d,); isotropic for 0.

    Theory: theory/worlds.md#W1.
    """
    d = expect_count("d", d)
    exponent = checks.expect_positive("exponent", exponent, zero=True)
    scale = checks.expect_positive("scale", scale, zero=True)
    return scale * np.arange(1, d + 1, dtype=np.float64) ** -exponent


def low_rank_plus_noise(factor: np.ndarray, noise: float) -> np.ndarray:
    """Return FF' + noise I: strong directions, the columns of F (d, r), above a floor.

    Theory: theory/worlds.md#W1.
    """
    factor = checks.host_array("factor", factor, "(d, r)")
    noise = checks.expect_positive("noise", noise, zero=True)
    return np.asarray(factor @ factor.T + noise * np.eye(factor.shape[0]))


def toeplitz(d: int, correlation: float, variance: float = 1.0) -> np.ndarray:
    """Return an autoregression's covariance, variance * correlation^|j - k|, (d, d).

    Theory: theory/worlds.md#W1.
    """
    d = expect_count("d", d, most=WIDEST)
    correlation = checks.expect_number("correlation", correlation)
    variance = checks.expect_positive("variance", variance, zero=True)
    if not abs(correlation) <= 1:
        raise ValueError(
            f"correlation must lie in [-1, 1] for a positive semidefinite Toeplitz "
            f"matrix, got {correlation}; give the correlation of neighbours"
        )
    return variance * np.asarray(scipy.linalg.toeplitz(correlation ** np.arange(d)))


def from_words(
    spec: str, d: int, variance: float, rng: np.random.Generator
) -> float | np.ndarray:
    """Return the covariance ``kind`` or ``kind:parameter`` of trace d times variance.

    Kinds are in `KINDS`; rng is for the directions of a low-rank part.
    """
    kind, parameter = _parsed(spec)
    if parameter is None:
        return float(variance)
    if kind == "low-rank":
        r = int(parameter)
        if r != parameter or not 1 <= r <= d:
            limits = f"1 <= r <= d = {d}"
            raise ValueError(f"low-rank needs a whole {limits}, got {spec!r}; lower it")
        frame = np.linalg.qr(rng.standard_normal((d, r)))[0]
        shape = low_rank_plus_noise(math.sqrt(d / r) * frame, 1.0)
    elif kind == "toeplitz":
        shape = toeplitz(d, parameter)
    elif kind == "power-law":
        shape = power_law(d, parameter)
    else:
        if parameter < 1:
            raise ValueError(f"diagonal needs a ratio >= 1, got {spec!r}; correct it")
        shape = np.linspace(1.0, parameter, d)
    trace = float(np.sum(shape) if shape.ndim == 1 else np.trace(shape))
    return shape * (variance * d / trace)


def root(covariance: Covariance) -> float | np.ndarray:
    """Return R with R R' = covariance: standard deviations, or the symmetric root.

    Theory: theory/worlds.md#W1.
    """
    if np.ndim(covariance) < 2:
        return np.sqrt(covariance)
    A, formed = symmetric_part("covariance", np.asarray(covariance))
    values, vectors = scipy.linalg.eigh(A)
    # an eigenvalue that rounding explains is 0: its root would be far larger
    rounding = expect_semidefinite("covariance", values, formed)
    half = vectors * np.sqrt(np.where(values > rounding, values, 0))
    return np.asarray(half @ vectors.T)


def standard(
    shape: tuple[int, ...],
    *,
    rng: np.random.Generator,
    noise: str = "gaussian",
    dof: float | None = None,
) -> np.ndarray:
    """Draw independent entries of mean 0 and variance exactly 1.

    Theory: theory/worlds.md#W2.
    """
    expect_noise(noise, dof)
    if noise == "laplace":
        return np.asarray(rng.laplace(scale=math.sqrt(0.5), size=shape))
    if dof is not None:
        return np.asarray(rng.standard_t(dof, size=shape)) * math.sqrt((dof - 2) / dof)
    return rng.standard_normal(shape)


def times_root(z: np.ndarray, half: float | np.ndarray) -> np.ndarray:
    """Give unit noise (..., d) the covariance of which `half` is a root: Z R'."""
    matrix = isinstance(half, np.ndarray) and half.ndim == 2
    return z @ half.T if matrix else z * half  # type: ignore[union-attr]


def _parsed(spec: str) -> tuple[str, float | None]:
    """Split ``kind:parameter``, refuse what `KINDS` does not know."""
    kind, _, word = spec.partition(":") if isinstance(spec, str) else (spec, "", "")
    checks.expect_choice("kind of covariance", kind, KINDS)
    try:
        parameter = float(word) if word else None
    except ValueError:
        parameter = math.nan
    if (KINDS[kind] is None) != (parameter is None) or (
        parameter is not None and not math.isfinite(parameter)
    ):
        wants = f"{KINDS[kind] or 'no parameter'} after a colon"
        raise ValueError(f"{kind!r} takes {wants}, got {spec!r}; correct it")
    return kind, parameter
