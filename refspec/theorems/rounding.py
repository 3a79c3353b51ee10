"""Checks of theory/rounding.md, on the features of the snapshot's smallest layer.

The exact numbers come from error-free products and from certified eigenvalues.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from refspec import backend, rounding
from refspec.rounding import errorfree
from refspec.rounding.certificates import Certified, certified_eigenvalues
from refspec.theorems.registry import Comparison, inequality, observation, statistical
from refspec.theorems.study import Study

_U = 2.0**-53  # the checks are in float64
_SIZE = 256  # columns and rows that are used at most
_PROBES = 20


def rows(study: Study) -> np.ndarray:
    """Return features, (n, d), of the smallest layer, its largest entry near 1."""
    x = min(study.snapshot.layers, key=lambda x: math.prod(x.features.shape[1:]))
    h = backend.to_host(x.features).astype(np.float64)
    h = h.reshape(len(h), -1)[:_SIZE, :_SIZE]
    return errorfree.scaled(h, -errorfree.unit_exponent(h)) if h.any() else h


def second(study: Study) -> np.ndarray:
    """Return their computed second moment, symmetric to the bit."""
    x = study.once(rows)
    A = x.T @ x
    return np.asarray((A + A.T) / 2)


def certified(study: Study) -> Certified:
    """Return its certified eigenvalues."""
    return certified_eigenvalues(study.once(second))


@inequality(
    "Inner products",
    "|fl(x'y) - x'y| <= gamma_k |x|'|y| in any order of summation",
)
def B1(study: Study) -> Iterator[Comparison]:
    """Compare inner products of rows with exact sums of error-free products."""
    x = study.once(rows)
    for i in range(min(len(x) - 1, 8)):
        high, low = errorfree.two_product(x[i], x[i + 1])
        exact = math.fsum([*high.tolist(), *low.tolist()])
        size = math.fsum(np.abs(high).tolist())
        bound = rounding.gamma(x.shape[1], _U) * size * (1 + 4 * _U)
        # a product below the normal numbers errs by a subnormal
        bound += (x.shape[1] + 1) * 2.0**-1074
        away = abs(float(x[i] @ x[i + 1]) - exact)
        yield away, bound, size, f"rows {i} and {i + 1}"
    own = math.fsum(x[0].tolist())
    size = math.fsum(np.abs(x[0]).tolist())
    bound = rounding.gamma(x.shape[1], _U) * size
    yield abs(float(np.sum(x[0])) - own), bound, size, "sum of a row"


@inequality(
    "Second moments",
    "||fl(X'X) - X'X|| <= gamma_k (1 + gamma_k) tr",
)
def B2(study: Study) -> Iterator[Comparison]:
    """Compare X'X with its error-free product, in norm."""
    x, A = study.once(rows), study.once(second)
    parts = errorfree.split_rows(np.ascontiguousarray(x.T))
    product = errorfree.row_product(parts, parts)
    gap = (A - product.head) - product.tail
    left = np.linalg.norm(product.left) * np.linalg.norm(product.right)
    trace = float(np.trace(A))
    bound = rounding.second_moment_radius(len(x) + 1, trace, _U)
    gap_error = 4 * _U * float(np.linalg.norm(gap))
    found = float(np.linalg.norm(gap, 2))
    yield found - float(left) - gap_error, bound, trace, f"{x.shape[1]} columns"


@observation(
    "LAPACK's eigenvalues, a priori",
    "|computed - exact| <= (n + 32) u ||A||",
)
def B3(study: Study) -> Iterator[Comparison]:
    """Compare LAPACK's eigenvalues with the certified ones."""
    A, proof = study.once(second), study.once(certified)
    values = np.linalg.eigvalsh(A)[::-1]
    radius = rounding.eigensolver_radius(len(A), float(values[0]), _U)
    over = np.abs(values - proof.values) - proof.radii
    yield float(np.max(over)), radius, float(values[0]), f"size {len(A)}"


@statistical(
    "A norm from Gaussian probes",
    "||R||^2 <= sum_j ||R z_j||^2 / chi2 quantile, except with probability 1e-9",
    coarse="a bound from 20 probes, wrong once in 10^9: up to 13 times the norm",
)
def B4(study: Study) -> Iterator[Comparison]:
    """Compare a norm with its probed bound."""
    x = study.once(rows)
    Z = study.probes(x.shape[1], _PROBES)
    bound = rounding.probed_norm(float(np.sum((x @ Z) ** 2)), _PROBES)
    norm = float(np.linalg.norm(x, 2))
    g = rounding.gamma(8 * sum(x.shape), _U)
    bound = bound * (1 + g) + g * norm
    yield norm, bound, norm, f"norm of the features, {_PROBES} probes"


@inequality(
    "Eigenvalues, a posteriori",
    "|computed - exact| <= ||AQ - Q Lambda|| / sigma_min(Q)",
)
def B5(study: Study) -> Iterator[Comparison]:
    """Compare eigenvalues with the certified ones, within the residual radius."""
    A, proof = study.once(second), study.once(certified)
    values, Q = np.linalg.eigh(A)
    radius = rounding.residual_radius(A, Q, values)
    over = np.abs(values[::-1] - proof.values) - proof.radii
    yield float(np.max(over)), radius, float(values[-1]), f"size {len(A)}"


@statistical(
    "A Frobenius norm from Gaussian probes",
    "||R||_F^2 <= sum_j ||R z_j||^2 / (q t), q probes, t e^(1 - t) = 1e-9^(2/q)",
    coarse="a bound from 20 probes, wrong once in 10^9: up to 6 times the norm",
)
def B6(study: Study) -> Iterator[Comparison]:
    """Compare a Frobenius norm with its bounds, from probes of one and of two sides."""
    x = study.once(rows)
    Y, Z = study.probes(len(x), _PROBES), study.probes(x.shape[1], _PROBES)
    norm, g = float(np.linalg.norm(x)), rounding.gamma(8 * sum(x.shape), _U)
    seen = float(np.linalg.norm(x @ Z))
    bound = rounding.probed_frobenius(seen * seen, _PROBES)
    yield norm, bound * (1 + g) + g * norm, norm, f"||R||_F, {_PROBES} probes"
    both = float(np.linalg.norm(Y.T @ x @ Z))
    bound = rounding.probed_frobenius(both * both, _PROBES)
    more = float(np.linalg.norm(Y)) * float(np.linalg.norm(Z)) * norm
    yield seen, bound * (1 + g) + g * more, seen, "||RZ||_F, from Y'RZ"
