"""Which level explains which eigenvalue: shares, sandwich intervals and knock-outs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec import backend
from refspec.coordinates import Coordinates, coordinates
from refspec.curvature import SecondMoment
from refspec.spectra import Spectrum, eigenvalues, spectrum
from refspec.structure import cell_projections

__all__ = ["KINDS", "Attribution", "attribute"]

#: The kind of eigenvalue each level makes, from the strongest structure to the weakest.
KINDS = {
    "global_mean": "outlier",
    "between_class": "outlier",
    "diagonal": "outlier",
    "between_cross_class": "bump",
    "within_cross_class": "bulk",
    "within_class": "bulk",
}


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """What a spectrum is made of.

    Parameters
    ----------
    spectrum : Spectrum
        Of the whole.
    traces : dict of str to float
        Trace of every level; they add up to the whole's.
    shares : dict of str to ndarray, shape (r,)
        Part of every eigenvalue that each level makes up; they add up to 1. In a
        cluster (values that their radii do not separate) the cluster's mean share.
    kinds : list of str
        `outlier`, `bump` or `bulk`: of the level group with the largest share.
    certified : ndarray of bool, shape (r,)
        Whether the sandwich interval proves that the eigenvalue stands above all that
        the weaker levels can make.
    lower, upper : ndarray, shape (r,)
        The sandwich lambda_k(B) <= lambda_k <= lambda_k(B) + lambda_1(M), B the levels
        of class means and M the rest, widened by the radius.
    knockouts : dict of str to ndarray
        Eigenvalues of the whole minus each level.
    levels : dict of str to ndarray
        Eigenvalues of each level by itself.

    Notes
    -----
    Theory: A1, A2, A3.
    """

    spectrum: Spectrum
    traces: dict[str, float]
    shares: dict[str, np.ndarray]
    kinds: list[str]
    certified: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    knockouts: dict[str, np.ndarray]
    levels: dict[str, np.ndarray]


def attribute(
    moment: SecondMoment | Coordinates, *, certify: bool = False
) -> Attribution:
    """Attribute every eigenvalue to the levels of the class structure.

    Parameters
    ----------
    moment : SecondMoment or Coordinates
        Of features, errors or gradients.
    certify : bool
        As in `refspec.spectra.spectrum`.

    Returns
    -------
    Attribution
        All of it from one factorisation, without another pass over the data.

    Notes
    -----
    Theory: A1, A2, A3. The share of a level in an eigenvalue with eigenvector v of X'X
    is v'X'PXv / lambda = u'Pu, u the eigenvector of the Gram matrix.

    Examples
    --------
    >>> import refspec
    >>> moment = refspec.curvature.fisher(refspec.datasets.digits_mlp())
    >>> attribute(moment).kinds[0]
    'outlier'
    """
    at = moment if isinstance(moment, Coordinates) else coordinates(moment)
    whole = spectrum(at, vectors=True, certify=certify)
    matrices = _levels(at)
    values = backend.to_host(whole.values)
    shares = _shares(matrices, whole, values)
    own = {name: eigenvalues(A) for name, A in matrices.items()}
    radius = whole.radius + max(r for _, r in own.values())
    without = {name: eigenvalues(at.second - A)[0] for name, A in matrices.items()}
    groups = {kind: _sum(matrices, kind) for kind in dict.fromkeys(KINDS.values())}
    B = backend.to_host(eigenvalues(groups["outlier"])[0])
    rest = at.second - groups["outlier"]
    edge = max(float(backend.to_host(eigenvalues(rest)[0])[0]), 0.0)
    bulk = at.second - groups["outlier"]
    if groups["bump"] is not None:
        bulk = bulk - groups["bump"]
    floor = max(float(backend.to_host(eigenvalues(bulk)[0])[0]), 0.0)
    by_kind = {
        kind: sum(x for n, x in shares.items() if KINDS[n] == kind) + 0 * values
        for kind in ("outlier", "bump", "bulk")
    }
    names = list(by_kind)
    kinds = [names[k] for k in np.argmax(np.stack(list(by_kind.values())), axis=0)]
    threshold = {"outlier": edge, "bump": floor, "bulk": np.inf}
    proved = [
        v - radius > threshold[k] + radius for v, k in zip(values, kinds, strict=True)
    ]
    return Attribution(
        whole,
        {n: float(backend.to_host(x[0]).sum()) for n, x in own.items()},
        shares,
        kinds,
        np.asarray(proved),
        B - radius,
        B + edge + radius,
        {name: backend.to_host(x) for name, x in without.items()},
        {name: backend.to_host(x) for name, (x, _) in own.items()},
    )


def _levels(at: Coordinates) -> dict[str, backend.Array]:
    """Return every level's matrix in the coordinates."""
    xp, (C, K, r) = backend.namespace(at.second), at.means.shape
    out = {}
    for name, project in cell_projections(at.norms).items():
        rows = xp.reshape(project(at.means), (C * K, r))
        A = xp.matrix_transpose(rows) @ rows
        out[name] = (A + xp.matrix_transpose(A)) / 2
    rows = xp.reshape(at.means, (C * K, r))
    A = at.second - xp.matrix_transpose(rows) @ rows
    within = "within_class" if K == 1 else "within_cross_class"
    out[within] = (A + xp.matrix_transpose(A)) / 2
    return out


def _sum(matrices: dict[str, backend.Array], kind: str) -> backend.Array:
    """Add the matrices of the levels of a kind; None if there are none."""
    chosen = [A for name, A in matrices.items() if KINDS[name] == kind]
    return sum(chosen[1:], chosen[0]) if chosen else None


def _shares(
    matrices: dict[str, backend.Array], whole: Spectrum, values: np.ndarray
) -> dict[str, np.ndarray]:
    """Return v'A_level v over their sum, averaged over clusters of eigenvalues."""
    xp, Q = backend.namespace(whole.values), whole.vectors
    parts = {
        n: backend.to_host(xp.sum(Q * (A @ Q), axis=0)) for n, A in matrices.items()
    }
    apart = np.abs(np.diff(values)) > 2 * whole.radius
    cluster = np.concatenate([[0], np.cumsum(apart)])
    parts = {n: np.maximum(np.bincount(cluster, x), 0) for n, x in parts.items()}
    total = sum(parts.values())
    safe = np.where(total > 0, total, 1)
    return {n: (x / safe)[cluster] for n, x in parts.items()}
