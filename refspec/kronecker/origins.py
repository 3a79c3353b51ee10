r"""Which part of the class structure an eigenvalue of the Fisher, KFAC or CFAC is from.

Each of these matrices is the sum of a part made of class means, one made of cross-class
means and the rest, all positive semidefinite, because its rows split so
(`refspec.structure`):

* the Fisher by its gradients' means: C and C(C-2) directions;
* CFAC class by class, :math:`\delta \otimes h_c` with the error means of the class: C
  and C(C-2) again;
* KFAC by its factors' means, every error mean with every feature mean: up to
  :math:`C^2` and :math:`C^2(C-2)`.

The share of a part in an eigenvalue with eigenvector v is v'(part)v / lambda.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refspec import backend, curvature, rounding, structure
from refspec.backend import Array
from refspec.classes import Layer, Snapshot
from refspec.curvature import SecondMoment
from refspec.kronecker import moments
from refspec.kronecker.eigenbasis import KroneckerBasis

Shares = Mapping[str, np.ndarray]  # of outlier, bump, bulk in each eigenvalue

_CLASS_LEVELS = ("diagonal", "between_class")


@dataclass(frozen=True, slots=True, eq=False)
class FactorMeans:
    """Means of a layer's errors and features times square roots of masses.

    norms (C, C): square roots of the masses of the cells of the errors; errors
    (C, C, b): of every cell; features (C, a): sqrt(pi_c) h_c, global mean included.
    """

    norms: np.ndarray
    errors: np.ndarray
    features: np.ndarray


def positions_apart(snapshot: Snapshot, layer: str, setting: str) -> Snapshot:
    r"""Return a snapshot with T = 1 whose KFAC is the layer's in a setting.

    N T samples :math:`(h_t, \sqrt T \delta_t)` in expand, N of mean and sum in reduce.
    Theory: theory/kronecker.md#K8.
    """
    x, s, p = snapshot.layer(layer), snapshot.sample_weights, snapshot.probabilities
    xp = backend.namespace(p)
    h, _ = moments.feature_rows(x.features, s, setting, xp)
    d, _ = moments.error_rows(x.errors, p, setting, xp)
    N, C, T, b = d.shape
    d = xp.permute_dims(d, (0, 2, 1, 3)) * T**0.5
    flat = Layer(
        x.name,
        xp.reshape(h, (N * T, 1, h.shape[2])),
        xp.reshape(d, (N * T, C, 1, b)),
    )
    each = backend.from_host(np.repeat(np.arange(N), T), p)
    p, s = xp.take(p, each, axis=0), xp.take(s, each) / T
    return Snapshot((flat,), p, np.repeat(snapshot.labels, T), s)


def factor_means(flat: Snapshot) -> FactorMeans:
    """Return what KFAC's and CFAC's parts are made of, from `positions_apart`."""
    name, found = flat.layers[0].name, []
    for moment in (curvature.errors(flat, name), curvature.features(flat, name)):
        xp, norms = moment.xp, structure.cell_norms(moment)
        kind = {"dtype": norms.dtype, "device": backend.device(norms)}
        rows = moment.dot(xp.eye(moment.shape[1], **kind))  # X, of a few columns
        found.append((norms, structure.cells(moment, rows, norms)))
    (norms, errors), (_, features) = found
    norms, errors, features = (backend.to_host(x) for x in (norms, errors, features))
    return FactorMeans(norms, errors, features[:, 0, :])


def fisher_shares(
    moment: SecondMoment, values: np.ndarray, vectors: np.ndarray
) -> Shares:
    """Return the shares in values v'Fv, shape (k,), of vectors (P, k).

    EKFAC's too, which has the Fisher's variances.
    Theory: theory/kronecker_spectra.md#K16.
    """
    norms = structure.cell_norms(moment)
    V = backend.from_host(np.ascontiguousarray(vectors), moment.weights)
    cells = structure.cells(moment, moment.dot(V), norms)
    return _shares(mean_forms(norms, cells), values)


def product_shares(means: FactorMeans, basis: KroneckerBasis) -> Shares:
    """Return the shares in KFAC's eigenvalues mu_j nu_k, shape (b, a) each.

    Every error mean goes with every feature mean, so shares of factors multiply.
    Theory: theory/kronecker_spectra.md#K16.
    """
    Q, R = backend.to_host(basis.left), backend.to_host(basis.right)
    own = np.sum((means.features @ R) ** 2, axis=0)
    found = mean_forms(means.norms, means.errors @ Q)
    products = {kind: x[:, None] * own for kind, x in found.items()}
    return _shares(products, backend.to_host(basis.values))


def class_shares(
    means: FactorMeans,
    frequencies: np.ndarray,
    values: np.ndarray,
    vectors: np.ndarray,
) -> Shares:
    """Return the shares in CFAC's eigenvalues, (k,), with vectors (P, k).

    Error means go with their own class's h_c. Theory: theory/kronecker_spectra.md#K16.
    """
    h = own_means(means.features, frequencies)
    (C, a), b, k = h.shape, means.errors.shape[2], vectors.shape[1]
    images = h @ np.moveaxis(vectors.reshape(b, a, k), 1, 0).reshape(a, b * k)
    images = images.reshape(C, b, k)  # V h_c for every class
    return _shares(mean_forms(means.norms, means.errors @ images), values)


def own_means(features: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Return h_c from sqrt(pi_c) h_c, shape (C, a)."""
    root = np.sqrt(np.where(frequencies > 0, frequencies, 1))
    return np.asarray(features / root[:, None])


def mean_forms(norms: Array, cells: Array) -> dict[str, np.ndarray]:
    """Return v'(part)v of what class and cross-class means make, from cells (C, C, m).

    The cells are those of X v, m vectors v. Theory: theory/levels.md#L2.
    """
    xp, forms = backend.namespace(norms), dict[str, np.ndarray]()
    for name, project in structure.cell_projections(norms).items():
        square = backend.to_host(xp.sum(project(cells) ** 2, axis=(0, 1)))
        kind = structure.KINDS[name]
        forms[kind] = forms.get(kind, 0) + square
    return forms


def class_rows(moment: SecondMoment) -> np.ndarray:
    """Return rows R of the part R'R that class means make, (2 C, P): 2 a class.

    In errors and gradients those of c' = c and of c' != c, which are collinear.
    """
    xp, w = moment.xp, moment.weights
    labels = np.repeat(np.arange(len(moment.offsets) - 1), np.diff(moment.offsets))
    hot = backend.beside(np.eye(len(moment.offsets) - 1)[labels], w)
    # sqrt(w) over one class is in the span of its cells; a level takes the direction of
    # its mean out of it, and X' takes the direction to the mean
    Z, levels = xp.sqrt(w)[:, :, None] * hot[:, None, :], structure.decompose(moment)
    found = []
    for name in _CLASS_LEVELS:
        along = levels.levels[name].project(Z)
        size = xp.sqrt(xp.sum(along**2, axis=(0, 1)))
        found.append(moment.cross(along / xp.where(size > 0, size, 1)))
    return backend.to_host(xp.concat(found, axis=1)).T


def numerical_rank(rows: np.ndarray, roundings: int) -> int:
    """Count the eigenvalues of R'R above the rounding of R, so many an entry."""
    small = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = np.linalg.eigvalsh((small + small.T) / 2)
    u, k = rounding.unit_roundoff(rows), 2 * roundings + sum(rows.shape)
    floor = rounding.second_moment_radius(k, float(np.trace(small)), u)
    return int(np.sum(values > floor))


def _shares(forms: Mapping[str, np.ndarray], values: np.ndarray) -> Shares:
    """Divide by the eigenvalues; what the means leave is the bulk, never negative."""
    safe = np.where(values > 0, values, 1)
    parts = {kind: x / safe for kind, x in forms.items()}
    return {**parts, "bulk": np.maximum(1 - sum(parts.values()), 0)}
