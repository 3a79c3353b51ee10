"""How well KFAC, EKFAC and CFAC reproduce the spectrum of a layer's Fisher.

Nothing of size P x P is held: KFAC's and EKFAC's spectra are free, the top of the
Fisher's and of CFAC's come from products, Frobenius errors from columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from refspec import backend, curvature, rounding
from refspec.classes import Layer, Snapshot
from refspec.kronecker import origins
from refspec.kronecker.eigenbasis import KroneckerBasis, eigenbasis
from refspec.kronecker.kfac import cfac, ekfac, kfac
from refspec.kronecker.leading import Leading, OnHost, leading
from refspec.kronecker.products import Kronecker, KroneckerSum

__all__ = ["LARGEST", "Comparison", "compare", "layer_fisher"]

#: Parameters of a layer beyond which a comparison is refused: it takes P^2 numbers.
LARGEST = 20_000

_ENTRIES = 2**20  # of the columns of a matrix held at a time


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The layer Fisher against its approximations, each a row of every mapping.

    Parameters
    ----------
    fisher : array, shape (k,)
        The Fisher's top k = min(C(C-1), number above radius) eigenvalues, descending.
    eigenvalues : mapping of str to array, shape (k,)
        The same of ``kfac``, ``ekfac`` and ``cfac``.
    log10_error : mapping of str to float
        Root mean square over the k of the difference of log10 eigenvalues.
    frobenius_error : mapping of str to float
        ``||approximation - Fisher||_F / ||Fisher||_F``.
    angles : mapping of str to array, shape (min(C, P),)
        Principal angles between the spans of the top C eigenvectors, descending, in
        radians; of no meaning where eigenvalues C and C + 1 are within twice radius.
    radius : float
        Every eigenvalue, of the Fisher and of the approximations, is within it of the
        exact one; smaller ones of the Fisher are not resolved and are left out.
    kinds : mapping of str to list of str, length k
        Of ``fisher`` and each approximation: ``outlier`` for an eigenvalue mostly made
        of class means, ``bump`` of cross-class means, ``bulk`` of the rest.
    class_rank : mapping of str to int
        Rank of the part made of class means: at most C for ``fisher`` and ``cfac``, up
        to C^2 for ``kfac``.
    how : str
        How the radius is known.
    """

    fisher: np.ndarray
    eigenvalues: Mapping[str, np.ndarray]
    log10_error: Mapping[str, float]
    frobenius_error: Mapping[str, float]
    angles: Mapping[str, np.ndarray]
    radius: float
    kinds: Mapping[str, list[str]]
    class_rank: Mapping[str, int]
    how: str


def layer_fisher(snapshot: Snapshot, layer: str) -> np.ndarray:
    r"""Return the dense Fisher of one layer, from its rows, on the host.

    Parameters
    ----------
    snapshot : Snapshot
        N samples, C classes.
    layer : str
        Its name.

    Returns
    -------
    array, shape (ab, ab)
        :math:`\sum_{i,c'} s_i p_{ic'} g_{ic'} g_{ic'}'`,
        :math:`g = \sum_t \delta_t \otimes h_t`.

    Notes
    -----
    Theory: theory/kronecker.md#K6. Cost N C (ab)^2 operations, (ab)^2 memory.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec import Layer, snapshot
    >>> errors = np.asarray([[[[-0.5, 0.5]], [[0.5, -0.5]]]] * 2)
    >>> layer = Layer("fc", np.eye(2)[:, None, :], errors)
    >>> s = snapshot([layer], np.asarray([0, 1]), logits=np.zeros((2, 2)))
    >>> layer_fisher(s, "fc").shape
    (4, 4)
    """
    chosen = snapshot.layer(layer)
    h, errors = backend.to_host(chosen.features), backend.to_host(chosen.errors)
    s, p = (
        backend.to_host(snapshot.sample_weights),
        backend.to_host(snapshot.probabilities),
    )
    root = np.sqrt(s[:, None] * p)
    P = h.shape[2] * errors.shape[3]
    total = np.zeros((P, P), dtype=h.dtype)
    for lo, hi in zip(snapshot.offsets[:-1], snapshot.offsets[1:], strict=True):
        G = np.swapaxes(errors[lo:hi], 2, 3) @ h[lo:hi, None]
        rows = (root[lo:hi, :, None, None] * G).reshape(-1, P)
        total += rows.T @ rows
    return total


def compare(
    snapshot: Snapshot,
    layer: str,
    fisher: np.ndarray | None = None,
    *,
    setting: str = "expand",
    top: int | None = None,
) -> Comparison:
    r"""Compare KFAC, EKFAC and CFAC with the layer Fisher.

    Parameters
    ----------
    snapshot : Snapshot
        N samples, C classes.
    layer : str
        Its name.
    fisher : array, shape (ab, ab), optional
        The dense layer Fisher, symmetric, row-major order; by default it is used
        through its rows and never formed, unless it is small.
    setting : {"expand", "reduce"}
        Treatment of positions in the approximations.
    top : int, optional
        Compare at most so many eigenvalues; default C(C-1).

    Returns
    -------
    Comparison
        Eigenvalues, log-spectral and Frobenius errors, principal angles, origins.

    Raises
    ------
    ValueError
        If fisher has another shape, or the layer more than `LARGEST` parameters.

    Notes
    -----
    Theory: theory/kronecker.md#K6, #K15, #K16. Approximations' eigenvalues below the
    radius count as the radius: a logarithm of rounding would mean nothing. Cost 2 N P^2
    + 2 C P^2 (a + b) operations for the Frobenius errors, and the products of
    theory/kronecker.md#K15; memory O(N C k + P k).

    References
    ----------
    Papyan (2020), Figures 11 and 12.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec import Layer, snapshot
    >>> errors = np.asarray([[[[-0.5, 0.5]], [[0.5, -0.5]]]] * 2)
    >>> layer = Layer("fc", np.eye(2)[:, None, :], errors)
    >>> s = snapshot([layer], np.asarray([0, 1]), logits=np.zeros((2, 2)))
    >>> sorted(compare(s, "fc").eigenvalues)
    ['cfac', 'ekfac', 'kfac']
    """
    chosen, C = snapshot.layer(layer), snapshot.probabilities.shape[1]
    P = chosen.parameters
    if fisher is not None and tuple(fisher.shape) != (P, P):
        raise ValueError(
            f"fisher must have shape (ab, ab) = ({P}, {P}) for layer {layer!r}, got "
            f"{tuple(fisher.shape)}; pass the block of this layer"
        )
    if P > LARGEST:
        raise ValueError(
            f"a layer to compare must have P <= {LARGEST} parameters, got {P} in "
            f"{layer!r}; compare a narrower layer, or use kfac and cfac as operators"
        )
    k = min(C * (C - 1) if top is None else max(top, 1), P)
    n = max(k, min(C, P))  # the angles are between C vectors
    moment = curvature.fisher(snapshot, [layer])
    one = kfac(snapshot, layer, setting=setting)
    eigen = ekfac(snapshot, layer, setting=setting)
    many = cfac(snapshot, layer, setting=setting)
    basis = eigenbasis(one)
    approximations: dict[str, KroneckerBasis | KroneckerSum] = {
        "kfac": basis,
        "ekfac": eigen,
        "cfac": many,
    }
    seen = {name: OnHost.of(x) for name, x in approximations.items()}
    if fisher is None:
        F = OnHost.of(moment, moment.weights, P)
    else:
        A = backend.to_host(fisher)
        F = OnHost(lambda V: A @ V, A[0], lambda: A)
    tops = {name: leading(x, n) for name, x in (("fisher", F), ("cfac", seen["cfac"]))}
    tops["kfac"] = _basis_top(basis, n, one.certified_eigenvalues()[1])
    tops["ekfac"] = _basis_top(eigen, n, 0.0)
    radius = _forming(chosen, moment.trace(), one, many)
    radius += max(x.radius for x in tops.values())
    values, vectors = tops["fisher"].values, tops["fisher"].vectors[:, :C]
    k = int(np.sum(values[:k] > radius))
    spectra = {name: tops[name].values[:k] for name in approximations}
    logs = {}
    for name, found in spectra.items():
        ratio = np.log10(np.maximum(found, radius) / values[:k])
        logs[name] = float(np.sqrt(np.mean(ratio**2))) if k else 0.0
    angles = {
        name: scipy.linalg.subspace_angles(vectors, tops[name].vectors[:, :C])
        for name in approximations
    }
    pi = backend.to_host(many.coefficients)
    kinds, ranks = _origins(snapshot, layer, setting, basis, pi, tops, k)
    return Comparison(
        values[:k],
        spectra,
        logs,
        _frobenius_errors(F, seen),
        angles,
        radius,
        kinds,
        ranks,
        tops["fisher"].kind,
    )


def _basis_top(operator: KroneckerBasis, n: int, radius: float) -> Leading:
    """Take the largest values of a Kronecker eigenbasis with their vectors."""
    values = backend.to_host(operator.values)
    Q, R = (backend.to_host(x) for x in (operator.left, operator.right))
    order = _descending(operator)[:n]
    j, i = np.unravel_index(order, values.shape)
    vectors = (Q[:, None, j] * R[None, :, i]).reshape(values.size, len(order))
    return Leading(values[j, i], vectors, radius, "a posteriori")


def _forming(layer: Layer, trace: float, one: Kronecker, many: KroneckerSum) -> float:
    """Bound the rounding of the matrices themselves, twice in a product."""
    rows = 2 * int(np.prod(layer.errors.shape[:3])) + layer.parameters + 8
    size = max(trace, one.trace(), many.trace())
    u = rounding.unit_roundoff(layer.errors)
    return rounding.second_moment_radius(rows, size, u)


def _frobenius_errors(
    F: OnHost, approximations: Mapping[str, OnHost]
) -> dict[str, float]:
    """Return ||A - F||_F / ||F||_F from a block of columns at a time."""
    P, norm = len(F.like), 0.0
    step = max(16, _ENTRIES // P)
    totals = dict.fromkeys(approximations, 0.0)
    for start in range(0, P, step):
        m = min(step, P - start)
        E = np.zeros((P, m), dtype=F.like.dtype)
        E[np.arange(start, start + m), np.arange(m)] = 1
        columns = F.product(E)
        norm += float(np.sum(columns**2))
        for name, A in approximations.items():
            totals[name] += float(np.sum((A.product(E) - columns) ** 2))
    return {m: (x / norm) ** 0.5 if norm else 0.0 for m, x in totals.items()}


def _origins(
    snapshot: Snapshot,
    layer: str,
    setting: str,
    basis: KroneckerBasis,
    frequencies: np.ndarray,
    tops: Mapping[str, Leading],
    k: int,
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Name the origin of the top k eigenvalues; count the class parts' dimensions."""
    moment = curvature.fisher(snapshot, [layer])
    flat = origins.positions_apart(snapshot, layer, setting)
    errors, features = origins.error_and_feature_means(flat)
    pairs = {m: (x.values[:k], x.vectors[:, :k]) for m, x in tops.items()}
    every = origins.product_shares(errors, features, basis)
    order = _descending(basis)[:k]
    found = {
        "fisher": origins.fisher_shares(moment, *pairs["fisher"]),
        "kfac": {n: x.ravel()[order] for n, x in every.items()},
        "ekfac": origins.fisher_shares(moment, *pairs["ekfac"]),
        "cfac": origins.class_shares(errors, features, frequencies, *pairs["cfac"]),
    }
    roundings = 2 * int(np.prod(flat.probabilities.shape)) + 8
    means = errors.outlier.reshape(-1, errors.outlier.shape[2])
    h = np.repeat(origins.own_means(features, frequencies), 2, axis=0)
    own = (means[:, :, None] * h[:, None, :]).reshape(len(means), -1)
    ranks = {
        "fisher": origins.rank(origins.mean_rows(moment), roundings),
        "kfac": origins.rank(means, roundings) * origins.rank(features, roundings),
        "cfac": origins.rank(own, roundings),
    }
    return {n: origins.kinds(x) for n, x in found.items()}, ranks


def _descending(operator: KroneckerBasis) -> np.ndarray:
    """Return the order of a basis's values, largest first."""
    values = backend.to_host(operator.values)
    return np.argsort(-values, axis=None, kind="stable")
