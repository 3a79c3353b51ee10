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

__all__ = [
    "Means",
    "Shares",
    "class_shares",
    "error_and_feature_means",
    "fisher_shares",
    "kinds",
    "mean_rows",
    "own_means",
    "positions_apart",
    "product_shares",
    "rank",
]

Shares = Mapping[str, np.ndarray]  # of outlier, bump, bulk in each eigenvalue


def positions_apart(snapshot: Snapshot, layer: str, setting: str) -> Snapshot:
    r"""Return the snapshot without positions whose KFAC is the layer's in a setting.

    Parameters
    ----------
    snapshot : Snapshot
        N samples.
    layer : str
        Its name; T positions.
    setting : {"expand", "reduce"}
        N T samples :math:`(h_t, \sqrt T \delta_t)`, or N of mean and sum.

    Returns
    -------
    Snapshot
        One layer, T = 1.

    Notes
    -----
    Theory: theory/kronecker.md#K8.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec import Layer, snapshot
    >>> layer = Layer("conv", np.ones((2, 3, 1)), np.ones((2, 2, 3, 4)))
    >>> s = snapshot([layer], [0, 1], logits=np.zeros((2, 2)))
    >>> len(positions_apart(s, "conv", "expand").labels)
    6
    """
    x, s, p = snapshot.layer(layer), snapshot.sample_weights, snapshot.probabilities
    xp = backend.namespace(p)
    h, _ = moments.feature_rows(x.features, s, setting)
    d, _ = moments.error_rows(x.errors, p, setting)
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


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Rows of the parts made of means, class by class, on the host.

    Parameters
    ----------
    outlier : array, shape (C, 2, d)
        sqrt(mass) times the mean of each class over c' = c, and over c' != c.
    bump : array, shape (C, C, d)
        Cross-class means around the latter.
    """

    outlier: np.ndarray
    bump: np.ndarray

    @staticmethod
    def of_cells(norms: Array, cells: Array) -> Means:
        """Split means of cells (C, C, d) with square roots of masses (C, C)."""
        q, x = backend.to_host(norms), backend.to_host(cells)
        unit = _others(q)
        along = np.sum(unit[:, :, None] * x, axis=1)
        i = np.arange(len(x))
        bump = x - unit[:, :, None] * along[:, None, :]
        bump[i, i] = 0
        return Means(np.stack([x[i, i], along], axis=1), bump)

    def squares(self) -> dict[str, np.ndarray]:
        """Return the sum over rows of the squared entries, shape (d,), by kind."""
        parts = {"outlier": self.outlier, "bump": self.bump}
        return {kind: np.sum(x * x, axis=(0, 1)) for kind, x in parts.items()}


def fisher_shares(
    moment: SecondMoment, values: np.ndarray, vectors: np.ndarray
) -> Shares:
    """Return the shares in values v'Fv, shape (k,), of vectors (P, k).

    Theory: theory/kronecker.md#K16.

    Parameters
    ----------
    moment : SecondMoment
        The layer's Fisher.
    values, vectors : array, shapes (k,), (P, k)
        Its eigenpairs; or EKFAC's, which has the Fisher's variances.
    """
    norms = structure.cell_norms(moment)
    V = backend.from_host(np.ascontiguousarray(vectors), moment.weights)
    cells = structure.cells(moment, moment.dot(V), norms)
    return _completed(Means.of_cells(norms, cells).squares(), values)


def mean_rows(moment: SecondMoment) -> np.ndarray:
    """Return the rows of the Fisher's class part, (2 C, P): 2 a class, collinear."""
    xp, norms = backend.namespace(moment.weights), structure.cell_norms(moment)
    (N, K), C = moment.weights.shape, norms.shape[0]
    unit = _others(backend.to_host(norms))
    Z = xp.zeros((N, K, 2 * C), dtype=norms.dtype, device=backend.device(norms))
    for c in range(C):
        i, j = moment.offsets[c : c + 2]
        q = structure.unit_rows(moment, norms, c)
        Z[i:j, c, 2 * c] = q[:, c]
        Z[i:j, :, 2 * c + 1] = q * backend.from_host(unit[c], q)
    return backend.to_host(moment.cross(Z)).T


def error_and_feature_means(flat: Snapshot) -> tuple[Means, np.ndarray]:
    """Return what KFAC's and CFAC's parts are made of.

    Parameters
    ----------
    flat : Snapshot
        From `positions_apart`.

    Returns
    -------
    errors : Means
        d = b.
    features : array, shape (C, a)
        sqrt(pi_c) h_c: the class means of the features, global mean included.
    """
    name, found = flat.layers[0].name, []
    for moment in (curvature.errors(flat, name), curvature.features(flat, name)):
        roots = moment.factors[0].roots  # (N, K, 1, d)
        norms = structure.cell_norms(moment)
        rows = backend.namespace(roots).reshape(roots, (*roots.shape[:2], -1))
        found.append((norms, structure.cells(moment, rows, norms)))
    (norms, errors), (_, features) = found
    return Means.of_cells(norms, errors), backend.to_host(features)[:, 0, :]


def product_shares(
    errors: Means, features: np.ndarray, basis: KroneckerBasis
) -> Shares:
    """Return the shares in KFAC's eigenvalues mu_j nu_k, shape (b, a) each.

    Every error mean goes with every feature mean: shares of factors multiply.

    Parameters
    ----------
    errors, features
        From `error_and_feature_means`.
    basis : KroneckerBasis
        Of KFAC, from `refspec.kronecker.eigenbasis.eigenbasis`.
    """
    Q, R = backend.to_host(basis.left), backend.to_host(basis.right)
    own = np.sum((features @ R) ** 2, axis=0)
    found = Means(errors.outlier @ Q, errors.bump @ Q).squares()
    products = {kind: x[:, None] * own for kind, x in found.items()}
    return _completed(products, backend.to_host(basis.values))


def class_shares(
    errors: Means,
    features: np.ndarray,
    frequencies: np.ndarray,
    values: np.ndarray,
    vectors: np.ndarray,
) -> Shares:
    """Return the shares in CFAC's eigenvalues: error means with their own class's h_c.

    Parameters
    ----------
    errors, features
        From `error_and_feature_means`.
    frequencies : array, shape (C,)
        pi_c.
    values, vectors : array, shapes (k,), (P, k)
        Eigenpairs.
    """
    h = own_means(features, frequencies)
    (C, a), k = h.shape, vectors.shape[1]
    b = len(vectors) // a
    images = h @ np.moveaxis(vectors.reshape(b, a, k), 1, 0).reshape(a, b * k)
    images = images.reshape(C, b, k)  # V h_c, (b, k) for every class
    found = Means(errors.outlier @ images, errors.bump @ images)
    return _completed(found.squares(), values)


def own_means(features: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Return h_c from sqrt(pi_c) h_c, shape (C, a)."""
    root = np.sqrt(np.where(frequencies > 0, frequencies, 1))
    return np.asarray(features / root[:, None])


def kinds(found: Shares) -> list[str]:
    """Name the part with the largest share of each eigenvalue.

    Examples
    --------
    >>> kinds({"outlier": np.asarray([0.2]), "bulk": np.asarray([0.8])})
    ['bulk']
    """
    names = list(found)
    return [names[k] for k in np.argmax(np.stack(list(found.values())), axis=0)]


def rank(rows: np.ndarray, roundings: int) -> int:
    """Count the eigenvalues of X'X that stand above the rounding of X, rows (n, d).

    Parameters
    ----------
    rows : array, shape (n, d)
        X.
    roundings : int
        How many roundings an entry of X suffered.

    Returns
    -------
    int
        At most min(n, d).

    Examples
    --------
    >>> rank(np.ones((3, 2)), 1)
    1
    """
    small = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = np.linalg.eigvalsh((small + small.T) / 2)
    u, k = rounding.unit_roundoff(rows), 2 * roundings + sum(rows.shape)
    floor = rounding.second_moment_radius(k, float(np.trace(small)), u)
    return int(np.sum(values > floor))


def _others(norms: np.ndarray) -> np.ndarray:
    """Return each class's unit direction over c' != c, shape (C, C); 0 if no mass."""
    off = norms * (1 - np.eye(len(norms), dtype=norms.dtype))
    size = np.linalg.norm(off, axis=1, keepdims=True)
    return np.asarray(off / np.where(size > 0, size, 1))


def _completed(found: dict[str, np.ndarray], values: np.ndarray) -> Shares:
    """Divide by the eigenvalues; what the means leave is the bulk, never negative."""
    safe = np.where(values > 0, values, 1)
    parts = {kind: x / safe for kind, x in found.items()}
    return {**parts, "bulk": np.maximum(1 - sum(parts.values()), 0)}
