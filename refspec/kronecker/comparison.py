"""How well KFAC, EKFAC and CFAC reproduce the spectrum of a layer's Fisher.

Dense, on the host: for layers of a few thousand parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from refspec import backend, rounding
from refspec.classes import Snapshot
from refspec.kronecker.kfac import cfac, ekfac, kfac

__all__ = ["Comparison", "compare", "layer_fisher"]


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
    """

    fisher: np.ndarray
    eigenvalues: Mapping[str, np.ndarray]
    log10_error: Mapping[str, float]
    frobenius_error: Mapping[str, float]
    angles: Mapping[str, np.ndarray]
    radius: float


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
    Theory: K6. Cost N C (ab)^2 operations, (ab)^2 memory.

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
) -> Comparison:
    r"""Compare KFAC, EKFAC and CFAC with the layer Fisher.

    Parameters
    ----------
    snapshot : Snapshot
        N samples, C classes.
    layer : str
        Its name.
    fisher : array, shape (ab, ab), optional
        The dense layer Fisher, symmetric, row-major order; default `layer_fisher`.
    setting : {"expand", "reduce"}
        Treatment of positions in the approximations.

    Returns
    -------
    Comparison
        Eigenvalues, log-spectral and Frobenius errors, principal angles.

    Raises
    ------
    ValueError
        If fisher has another shape.

    Notes
    -----
    Theory: K6. Approximations' eigenvalues below the radius count as the radius: a
    logarithm of rounding would mean nothing. Cost four dense eigenproblems.

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
    F = layer_fisher(snapshot, layer) if fisher is None else backend.to_host(fisher)
    if F.shape != (P, P):
        raise ValueError(
            f"fisher must have shape (ab, ab) = ({P}, {P}) for layer {layer!r}, got "
            f"{F.shape}; pass the block of this layer"
        )
    operators: dict[str, Any] = {
        name: method(snapshot, layer, setting=setting)
        for name, method in (("kfac", kfac), ("ekfac", ekfac), ("cfac", cfac))
    }
    dense = {name: backend.to_host(x.matrix()) for name, x in operators.items()}
    norm = float(np.linalg.norm(F))
    rows = (
        2 * int(np.prod(chosen.errors.shape[:3])) + 8
    )  # roundings of a factor, twice in a product
    trace = max(float(np.trace(A)) for A in (F, *dense.values()))
    radius = rounding.second_moment_radius(rows, trace, rounding.unit_roundoff(F))
    values, vectors, error = _spectrum(F, C)
    found = {name: _spectrum(A, C) for name, A in dense.items()}
    radius += max(error, *(x[2] for x in found.values()))
    k = int(np.sum(values[: C * (C - 1)] > radius))
    spectra = {name: x[0][:k] for name, x in found.items()}
    logs, errors, angles = {}, {}, {}
    for name, A in dense.items():
        ratio = np.log10(np.maximum(spectra[name], radius) / values[:k])
        logs[name] = float(np.sqrt(np.mean(ratio**2))) if k else 0.0
        errors[name] = float(np.linalg.norm(A - F)) / norm if norm else 0.0
        angles[name] = scipy.linalg.subspace_angles(vectors, found[name][1])
    return Comparison(values[:k], spectra, logs, errors, angles, radius)


def _spectrum(A: np.ndarray, C: int) -> tuple[np.ndarray, np.ndarray, float]:
    """All eigenvalues, descending, the top C eigenvectors, and the radius."""
    A = np.tril(A) + np.tril(A, -1).T  # exactly symmetric, as the certificate needs
    values, vectors = np.linalg.eigh(A)
    radius = rounding.residual_radius(A, vectors, values)
    return values[::-1], vectors[:, ::-1][:, :C], radius
