"""Which level explains which eigenvalue: shares, sandwich intervals and knock-outs.

Everything happens in the eigenbasis of X'X, cut off at the numerical rank: there the
whole is diagonal, a level of the means is a few rows, and what a level contributes to
an eigenvalue is the squared norm of one column of those rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from refspec import backend, rounding
from refspec.backend import Array
from refspec.coordinates import Coordinates, coordinates
from refspec.curvature import SecondMoment
from refspec.spectra import Spectrum, eigenvalues, spectrum
from refspec.structure import cell_projections

__all__ = ["KINDS", "Attribution", "Eigenbasis", "attribute", "eigenbasis", "knockout"]

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
class Eigenbasis:
    """A second moment in its eigenbasis, cut off at the numerical rank r.

    Parameters
    ----------
    spectrum : Spectrum
        Of the whole, before the cut.
    values : Array, shape (r,)
        The eigenvalues kept.
    rows : dict of str to Array, shape (C K, r)
        Of each level of the means; its matrix is rows' rows. What they leave of the
        whole is the level called `within`.
    within : str
        Its name.
    radius : float
        Every eigenvalue of a level or a knock-out is within this of the one in the
        basis, the eigensolver's error aside.
    """

    spectrum: Spectrum
    values: Array
    rows: dict[str, Array]
    within: str
    radius: float


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """What a spectrum is made of; arrays on the host.

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
    proved : ndarray of bool, shape (r,)
        Whether the eigenvalue provably stands above all that weaker levels can make.
    lower, upper : ndarray, shape (r,)
        The sandwich lambda_k(B) <= lambda_k <= lambda_k(B) + lambda_1(M), B the levels
        of class means and M the rest, widened by the radius.
    levels : dict of str to ndarray
        Eigenvalues of each level by itself.
    knockouts : dict of str to ndarray
        Eigenvalues of the whole minus each level.
    angles : ndarray
        Principal angles, in radians, between the span of B and the eigenspace of as
        many top eigenvalues.
    angle_bound : float
        Davis-Kahan: no sine of `angles` exceeds it (inf if it proves nothing).
    radius : float
        Every eigenvalue here, of the whole, a level or a knock-out, is known to this.

    Notes
    -----
    Theory: theory/attribution.md#A1, #A2, #A3, #A4.
    """

    spectrum: Spectrum
    traces: dict[str, float]
    shares: dict[str, np.ndarray]
    kinds: list[str]
    proved: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    levels: dict[str, np.ndarray]
    knockouts: dict[str, np.ndarray]
    angles: np.ndarray
    angle_bound: float
    radius: float


def eigenbasis(
    moment: SecondMoment | Coordinates, *, certify: bool = False
) -> Eigenbasis:
    """Put a second moment and its levels in the eigenbasis, cut at the numerical rank.

    Parameters
    ----------
    moment : SecondMoment or Coordinates
        Of features, errors or gradients.
    certify : bool
        As in `refspec.spectra.spectrum`.

    Returns
    -------
    Eigenbasis
        With it every knock-out is a diagonal matrix minus a few rows.

    Notes
    -----
    Theory: theory/attribution.md#A5. Eigenvalues whose sum is below the radius are cut;
    a knock-out then loses no more than their sum. The eigenvectors' own error is Q'Q -
    I and the residual, of the order of the eigensolver's, counted twice.

    Examples
    --------
    >>> import refspec
    >>> basis = eigenbasis(refspec.curvature.fisher(refspec.datasets.digits_mlp()))
    >>> basis.within
    'within_cross_class'
    """
    at = moment if isinstance(moment, Coordinates) else coordinates(moment)
    whole = spectrum(at, vectors=True, certify=certify)
    xp, (C, K, r) = backend.namespace(at.second), at.means.shape
    tail = np.cumsum(np.abs(backend.to_host(whole.values))[::-1])[::-1]
    rank = max(1, int(np.sum(tail > whole.radius)))
    means = xp.reshape(at.means, (C * K, r)) @ whole.vectors[:, :rank]  # type: ignore[index]
    means = xp.reshape(means, (C, K, rank))
    rows = {
        name: xp.reshape(project(means), (C * K, rank))
        for name, project in cell_projections(at.norms).items()
    }
    u = rounding.unit_roundoff(at.second)
    solver = 2 * rounding.eigensolver_radius(r, at.trace, u)
    radius = 2 * whole.radius + solver + (at.level_radius - at.radius)
    within = "within_class" if K == 1 else "within_cross_class"
    return Eigenbasis(whole, whole.values[:rank], rows, within, radius)


def knockout(
    basis: Eigenbasis, levels: Collection[str], *, by: str = "subtraction"
) -> tuple[Array, float]:
    r"""Return the spectrum without some levels.

    Parameters
    ----------
    basis : Eigenbasis
        From `eigenbasis`.
    levels : collection of str
        Names of the levels to take out.
    by : str
        `subtraction`: A - B. `projection`: (I - UU')A(I - UU'), U the span of B, for
        levels of the means; directions in which B is within its radius of zero are
        not in the span.

    Returns
    -------
    values : Array
        Descending; those not listed are zero.
    radius : float
        Of every value.

    Raises
    ------
    ValueError
        If a name is not a level, or the within level is to be projected out.

    Notes
    -----
    Theory: theory/attribution.md#A1, #A2. Papyan (2020), definitions 3.1 and 3.2.

    Examples
    --------
    >>> import refspec
    >>> basis = eigenbasis(refspec.curvature.fisher(refspec.datasets.digits_mlp()))
    >>> values, _ = knockout(basis, ["between_class", "diagonal"])
    >>> bool(values[0] < basis.values[0])
    True
    """
    names = {*basis.rows, basis.within}
    wrong = set(levels) - names
    if wrong or by not in ("subtraction", "projection"):
        raise ValueError(
            f"levels must be among {sorted(names)} and by be subtraction or "
            f"projection, got {sorted(levels)} by {by!r}; correct the name"
        )
    if by == "subtraction":
        if basis.within in levels:
            kept = [basis.rows[n] for n in basis.rows if n not in levels]
            return _low_rank(kept, basis)
        return _solved(_less(basis, [basis.rows[n] for n in levels]), basis)
    if basis.within in levels:
        raise ValueError(
            f"only levels of the means can be projected out, got {basis.within}: it "
            "spans everything; take it out by subtraction"
        )
    xp, U = backend.namespace(basis.values), _span(basis, levels)
    image = U * basis.values[:, None]
    twice = U @ (xp.matrix_transpose(U) @ image)
    A = _diagonal(basis.values) - U @ xp.matrix_transpose(image)
    A = A - (image - twice) @ xp.matrix_transpose(U)
    return _solved((A + xp.matrix_transpose(A)) / 2, basis)


def attribute(
    moment: SecondMoment | Coordinates | Eigenbasis, *, certify: bool = False
) -> Attribution:
    """Attribute every eigenvalue to the levels of the class structure.

    Parameters
    ----------
    moment : SecondMoment, Coordinates or Eigenbasis
        Of features, errors or gradients.
    certify : bool
        As in `refspec.spectra.spectrum`.

    Returns
    -------
    Attribution
        All of it from one factorisation, without another pass over the data.

    Notes
    -----
    Theory: theory/attribution.md#A1, #A2, #A3, #A4, #A6. The share of a level in an
    eigenvalue with eigenvector v of X'X is v'X'PXv / lambda = u'Pu, u the eigenvector
    of the Gram matrix.

    Examples
    --------
    >>> import refspec
    >>> moment = refspec.curvature.fisher(refspec.datasets.digits_mlp())
    >>> attribute(moment).kinds[0]
    'outlier'
    """
    if isinstance(moment, Eigenbasis):
        basis = moment
    else:
        basis = eigenbasis(moment, certify=certify)
    names = [*basis.rows, basis.within]
    values = backend.to_host(basis.values)
    solved = {n: _low_rank([x], basis) for n, x in basis.rows.items()}
    solved[basis.within] = knockout(basis, list(basis.rows))
    without = {n: knockout(basis, [n]) for n in names}
    radius = max(x for _, x in (*solved.values(), *without.values()))
    shares = _shares(basis, values)
    means = [n for n in basis.rows if KINDS[n] == "outlier"]
    B = backend.to_host(_low_rank([basis.rows[n] for n in means], basis)[0])
    B = np.pad(B, (0, len(values)))[: len(values)]
    # M = A - B is what is within, or lies below A minus the class level alone
    beyond = solved[basis.within]
    rest = beyond if "global_mean" in means else without["between_class"]
    edges = {"outlier": _top(rest), "bump": _top(beyond), "bulk": np.inf}
    kinds = _kinds(shares)
    proved = [v - edges[k] > 2 * radius for v, k in zip(values, kinds, strict=True)]
    angles, bound = _angles(basis, means, edges["outlier"], radius)
    return Attribution(
        basis.spectrum,
        {n: float(backend.to_host(x).sum()) for n, (x, _) in solved.items()},
        shares,
        kinds,
        np.asarray(proved),
        B - radius,
        B + edges["outlier"] + radius,
        {n: backend.to_host(x) for n, (x, _) in solved.items()},
        {n: backend.to_host(x) for n, (x, _) in without.items()},
        angles,
        bound,
        radius,
    )


def _less(basis: Eigenbasis, rows: list[Array]) -> Array:
    """Return the whole minus rows'rows."""
    xp, A = backend.namespace(basis.values), _diagonal(basis.values)
    for x in rows:
        A -= xp.matrix_transpose(x) @ x
    return A


def _diagonal(values: Array) -> Array:
    """Return the diagonal matrix of values."""
    xp, device = backend.namespace(values), backend.device(values)
    return xp.eye(values.shape[0], dtype=values.dtype, device=device) * values


def _low_rank(rows: list[Array], basis: Eigenbasis) -> tuple[Array, float]:
    """Return the eigenvalues of the sum of rows'rows, from the smaller side."""
    x = backend.concatenate(rows) if rows else 0 * basis.values[None, :]
    t = backend.namespace(x).matrix_transpose(x)
    return _solved(x @ t if x.shape[0] < x.shape[1] else t @ x, basis)


def _solved(A: Array, basis: Eigenbasis) -> tuple[Array, float]:
    """Return descending eigenvalues of A and their radius, basis and solver."""
    values, solver = eigenvalues(A)
    return values, basis.radius + solver


def _top(solved: tuple[Array, float]) -> float:
    """Return the largest eigenvalue, or 0 if all are negative."""
    return max(0.0, backend.scalar(solved[0][0]))


def _span(basis: Eigenbasis, levels: Collection[str]) -> Array:
    """Return an orthonormal basis of the range of some levels, shape (r, k), k >= 0."""
    xp = backend.namespace(basis.values)
    x = backend.concatenate(basis.rows[n] for n in levels)
    _, s, V = xp.linalg.svd(x, full_matrices=False)
    k = int(np.sum(backend.to_host(s) ** 2 > basis.radius))
    return xp.matrix_transpose(V[:k, :])


def _angles(
    basis: Eigenbasis, means: list[str], edge: float, radius: float
) -> tuple[np.ndarray, float]:
    """Return the principal angles of the span of B to the top eigenspace, and a bound.

    Sines and cosines both come from the span's coordinates: the smaller is accurate.
    """
    U = backend.to_host(_span(basis, means))
    k = U.shape[1]
    if k == 0:
        return np.zeros(0), np.inf
    cosines = np.linalg.svd(U[:k], compute_uv=False)
    sines = np.linalg.svd(U[k:], compute_uv=False)[::-1]
    sines = np.pad(sines, (max(0, k - len(sines)), 0))[-k:]
    lowest = backend.scalar(basis.values[k - 1]) - radius
    bound = (edge + radius) / lowest if lowest > 0 else np.inf
    return np.arctan2(sines, cosines), bound


def _kinds(shares: dict[str, np.ndarray]) -> list[str]:
    """Return the kind with the largest share of each eigenvalue."""
    totals: dict[str, np.ndarray] = {}
    for name, x in shares.items():
        totals[KINDS[name]] = totals.get(KINDS[name], 0) + x
    names = list(totals)
    return [names[k] for k in np.argmax(np.stack(list(totals.values())), axis=0)]


def _shares(basis: Eigenbasis, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return ||column||^2 / lambda of every level, averaged over clusters."""
    xp = backend.namespace(basis.values)
    parts = {n: backend.to_host(xp.sum(x * x, axis=0)) for n, x in basis.rows.items()}
    parts[basis.within] = values - sum(parts.values())
    cluster = np.concatenate([[0], np.cumsum(-np.diff(values) > 2 * basis.radius)])
    parts = {n: np.maximum(np.bincount(cluster, x), 0) for n, x in parts.items()}
    total = sum(parts.values())
    return {n: (x / np.where(total > 0, total, 1))[cluster] for n, x in parts.items()}
