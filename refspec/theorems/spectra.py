"""Checks of theory/spectra.md: one spectrum from either side, and a measured residual.

Only moments small enough to be computed along both paths are compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refspec import backend, coordinates, rounding
from refspec.attribution.leading import of_one_space
from refspec.coordinates import Coordinates
from refspec.quadrature import density
from refspec.spectra import Spectrum, spectrum
from refspec.structure import cell_projections, decompose
from refspec.theorems.registry import (
    Comparison,
    identity,
    inequality,
    statistical,
    together,
)
from refspec.theorems.study import Study

_COLUMNS, _ROWS = 300, 4096  # of the largest moments that are compared
_TOP = 5
_PART = 2.0**-30  # of the trace that is left out

_Side = tuple[Coordinates, Spectrum]


def sides(study: Study) -> dict[str, tuple[_Side, _Side]]:
    """Return primal and dual coordinates of the smaller moments, with spectra."""
    found = {}
    for name, moment in study.moments.items():
        if moment.shape[1] <= _COLUMNS and moment.shape[0] <= _ROWS:
            both = coordinates.primal(moment), coordinates.dual(moment)
            found[name] = tuple((at, spectrum(at)) for at in both)
    return found  # type: ignore[return-value]


def _small(study: Study) -> str:
    """Say that no moment is small enough."""
    shapes = [x.shape for x in study.moments.values()]
    if any(n <= _ROWS and P <= _COLUMNS for n, P in shapes):
        return ""
    return f"needs a moment of at most {_ROWS} rows and {_COLUMNS} columns"


def _padded(values: np.ndarray, n: int) -> np.ndarray:
    """Return n values, zeros after those given."""
    return np.pad(values, (0, max(0, n - len(values))))[:n]


def _descending(A: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of a symmetric matrix, the largest first."""
    return np.linalg.eigvalsh(A)[::-1]


@identity(
    "One spectrum from either side",
    "X'X and XX' share non-zero eigenvalues; so do their levels in coordinates",
    _small,
)
def S1(study: Study) -> Iterator[Comparison]:
    """Compare the primal with the dual spectrum, of the whole and of every level."""
    for name, ((one, s), (two, t)) in study.once(sides).items():
        n = max(s.values.shape[0], t.values.shape[0])
        a = _padded(backend.to_host(s.values), n)
        b = _padded(backend.to_host(t.values), n)
        radius = s.radius + t.radius + study.tiny
        size = float(np.max(a, initial=0.0))
        yield float(np.max(np.abs(a - b))), radius, size, f"spectrum of {name}"
        C, K, _ = one.means.shape
        for level, project in cell_projections(one.norms).items():
            a, b = (
                np.linalg.svd(
                    backend.to_host(project(at.means)).reshape(C * K, -1),
                    compute_uv=False,
                )
                ** 2
                for at in (one, two)
            )
            m = min(len(a), len(b))
            gap = float(np.max(np.abs(a[:m] - b[:m])))
            bound = radius + (two.level_radius - two.radius)
            yield gap, bound, size, f"{level} of {name}"


@inequality(
    "What pivoted rows leave out",
    "|lambda_k(XX') - lambda_k(LL')| <= ||XX' - LL'||, measured; levels as well",
    _small,
)
def S2(study: Study) -> Iterator[Comparison]:
    """Compare sums of eigenvalues and of their squares with the primal matrix."""
    for name, ((one, _), (at, found)) in study.once(sides).items():
        moment, values = study.moments[name], backend.to_host(found.values)
        n, trace = moment.shape[0], at.trace
        if trace <= study.tiny:
            continue
        forming = 2 * rounding.second_moment_radius(sum(moment.shape), trace, study.u)
        off = abs(float(np.sum(values)) - trace)
        bound = n * found.radius + forming
        yield off, bound, trace, f"sum of eigenvalues of {name}"
        whole = backend.to_host(one.second) / trace  # squares of the whole underflow
        size = float(np.linalg.norm(whole))
        off = abs(float(np.linalg.norm(values / trace)) - size)
        bound = (n**0.5 * found.radius + one.radius + forming) / trace
        yield off, bound, size, f"sum of squared eigenvalues of {name}"


@inequality(
    "Rows left out of the coordinates",
    "|lambda_k(PXX'P) - lambda_k(PLL'P)| <= t + 2e + rho, t the trace that L leaves",
    _small,
)
def S5(study: Study) -> Iterator[Comparison]:
    """Compare the whole, every level and knock-out with and without a trace."""
    for name, ((one, s), _) in study.once(sides).items():
        at = coordinates.dual(study.moments[name], _PART)
        found, (C, K, _) = spectrum(at), one.means.shape
        size = float(np.max(backend.to_host(s.values), initial=0.0))
        radius = s.radius + found.radius + study.tiny
        a, b = (backend.to_host(x.values) for x in (s, found))
        pairs = [(a, b, radius, "spectrum")]
        for level, project in cell_projections(one.norms).items():
            both, radius = [], one.level_radius + at.level_radius + study.tiny
            for x in (one, at):
                part = backend.to_host(project(x.means)).reshape(C * K, -1)
                B = part.T @ part
                both.append((B, backend.to_host(x.second) - B))
                terms = C * K + 2 * part.shape[1] + 8
                radius += 2 * rounding.second_moment_radius(terms, x.trace, study.u)
                radius += 2 * rounding.eigensolver_radius(len(B), x.trace, study.u)
            for what, a, b in zip((level, f"all but {level}"), *both, strict=True):
                pairs.append((_descending(a), _descending(b), radius, what))
        for a, b, radius, what in pairs:
            n = max(len(a), len(b))
            off = float(np.max(np.abs(_padded(a, n) - _padded(b, n))))
            yield off, radius, size, f"{what} of {name}"


@statistical(
    "The largest eigenvalue from a random Krylov space",
    "||B|| <= theta (1 + eps), eps T(1 + 2 eps)^2 = ||Z||^2 / chi; p(fail) = 1e-9",
    _small,
    test="tests/core/test_krylov.py::test_S3",
)
def S3(study: Study) -> Iterator[Comparison]:
    """Compare the largest eigenvalues from products with those of all."""
    for name, (_, (at, every)) in study.once(sides).items():
        k = min(_TOP, *at.shape)
        some = spectrum(at, top=k)
        values = backend.to_host(some.values)
        away = values - _padded(backend.to_host(every.values), k)
        radius = some.radius + every.radius + study.tiny
        size = float(values[0]) + study.tiny
        yield float(np.max(np.abs(away))), radius, size, f"top {k} of {name}"


@statistical(
    "One Krylov space for the whole, a level and its knock-outs",
    "PAP V s - theta V s = V (PTP - theta) s + F E'Ps; p(fail) = 1e-9",
    _small,
    test="tests/core/test_krylov.py::test_S6",
)
def S6(study: Study) -> Iterator[Comparison]:
    """Compare the largest of the whole, within and knock-outs with all of each."""
    for name, (_, (at, every)) in study.once(sides).items():
        split, k = decompose(at.moment), min(_TOP, at.shape[0])
        size = float(np.max(backend.to_host(every.values), initial=0.0)) + study.tiny
        for level, some in of_one_space(split, k, at.trace).items():
            full = spectrum(some.moment)  # from coordinates, its rows projected
            away = some.values - _padded(backend.to_host(full.values), k)
            radius = some.radius + full.radius + study.tiny
            yield float(np.max(np.abs(away))), radius, size, f"{level} of {name}"


@statistical(
    "Counting eigenvalues by quadrature",
    "chi^2_(m r(t)) is what m random vectors put above t; p(fail) = 1e-9 for all t",
    _small,
    coarse="a count from m vectors has a relative error of 1 / sqrt(m count)",
    test="tests/core/test_leading.py::test_S4",
)
def S4(study: Study) -> Iterator[Comparison]:
    """Compare the numbers of eigenvalues above thresholds with their band."""
    for name, (_, (at, every)) in study.once(sides).items():
        found, values = density(at.moment), backend.to_host(every.values)
        t, radius = found.thresholds[:, None], every.radius + study.tiny
        least = np.sum(values > t + radius, axis=1)
        most = np.sum(values > t - radius, axis=1)
        middle = (found.lower + found.upper) / 2
        away = np.maximum(least - middle, middle - most)
        half = (found.upper - found.lower) / 2
        yield together(away, half, middle, f"counts of {name}")
