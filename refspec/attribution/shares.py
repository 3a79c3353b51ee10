"""Which level explains which eigenvalue: shares, sandwich intervals and knock-outs.

Everything happens in the eigenbasis of X'X, cut off at the numerical rank: there the
whole is diagonal, a level of the means is a few rows, and what a level contributes to
an eigenvalue is the squared norm of one column of those rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from refspec import backend, checks, rounding
from refspec.attribution.assembly import Attribution, assembled
from refspec.attribution.leading import attribute_leading
from refspec.backend import Array, Namespace
from refspec.classes import Snapshot
from refspec.coordinates import Coordinates
from refspec.curvature import SecondMoment, moment_of
from refspec.spectra import (
    Spectrum,
    cluster_means,
    eigenimages,
    eigenvalues,
    expect_every_row,
    placed,
    principal_angles,
    spectrum,
)
from refspec.structure import KINDS, cell_projections, decompose, within_name


@dataclass(frozen=True, slots=True, eq=False)
class Eigenbasis:
    """A second moment in its eigenbasis, cut off at the numerical rank r.

    Parameters
    ----------
    spectrum : Spectrum of the whole, before the cut
    values : Array, shape (r,), the eigenvalues kept
    rows : dict of str to Array, shape (C K, r)
        Rows of each level of the means; its matrix is rows' rows. What they leave of
        the whole is the level called `within`.
    within : str
    radius : float
        Every eigenvalue of a level or a knock-out is within this of the one in the
        basis, the eigensolver's error aside.
    """

    spectrum: Spectrum
    values: Array
    rows: dict[str, Array]
    within: str
    radius: float
    # knock-outs by subtraction, once solved: attribution, claims, theorems and a report
    # ask for the same ones
    _solved: dict[frozenset[str], tuple[Array, float]] = field(
        default_factory=dict, init=False
    )
    # and so do angles, projections and sines for the spans of levels
    _spans: dict[frozenset[str], Array] = field(default_factory=dict, init=False)

    def __repr__(self) -> str:
        """Name the levels and the rank."""
        names = ", ".join([*self.rows, self.within])
        return f"Eigenbasis(r={self.values.shape[0]}, {names}, {self.spectrum!r})"


def eigenbasis(
    moment: SecondMoment | Coordinates | Snapshot,
    *,
    certify: bool = False,
    leave_out: float = 0.0,
) -> Eigenbasis:
    """Put a second moment and its levels in the eigenbasis, cut at the numerical rank.

    Parameters
    ----------
    moment, certify, leave_out
        As in `attribute`.

    Returns
    -------
    Eigenbasis
        With it every knock-out is a diagonal matrix minus a few rows. It is empty if
        no eigenvalue is resolved from zero.

    Raises
    ------
    TypeError, ValueError
        As `refspec.spectra.spectrum`.

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
    at = placed(moment, certify, leave_out)
    whole = spectrum(at, vectors=True, certify=certify)
    xp, (C, K, r) = at.moment.xp, at.means.shape
    tail = np.cumsum(np.abs(backend.to_host(whole.values))[::-1])[::-1]
    rank = int(np.sum(tail > whole.radius))
    means = xp.reshape(at.means, (C * K, r)) @ whole.vectors[:, :rank]  # type: ignore[index]
    means = xp.reshape(means, (C, K, rank))
    decompose(at.moment)  # refuses a projection that does not commute with the levels
    rows = {
        name: xp.reshape(project(means), (C * K, rank))
        for name, project in cell_projections(at.norms).items()
    }
    u = rounding.unit_roundoff(at.second)
    solver = 0.0 if at.solved else 2 * rounding.eigensolver_radius(r, at.trace, u)
    radius = 2 * whole.radius + solver + (at.level_radius - at.radius)
    return Eigenbasis(whole, whole.values[:rank], rows, within_name(K), radius)


def knockout(
    basis: Eigenbasis, levels: Collection[str], *, by: str = "subtraction"
) -> tuple[Array, float]:
    """Return the spectrum without some levels.

    Parameters
    ----------
    basis : Eigenbasis
    levels : collection of str
        Names of the levels to take out.
    by : str
        `subtraction`: A - B. `projection`: (I - UU')A(I - UU'), U the span of B, for
        levels of the means; directions in which B is within its radius of zero are
        not in the span.

    Returns
    -------
    values : Array, descending; those not listed are zero
    radius : float, of every value

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
    checks.expect_type("basis", basis, Eigenbasis, "eigenbasis(moment) makes one")
    checks.expect_names("levels", levels, [*basis.rows, basis.within])
    checks.expect_choice("by", by, ("subtraction", "projection"))
    xp = backend.namespace(basis.values)
    if by == "subtraction":
        key = frozenset(levels)
        if key not in basis._solved:
            basis._solved[key] = _subtracted(basis, key, xp)
        return basis._solved[key]
    if basis.within in levels:
        raise ValueError(
            f"levels must be of the means to be projected out, got {basis.within}, "
            "which spans everything; take it out by subtraction"
        )
    if not levels or not basis.values.shape[0]:
        return basis.values, basis.radius
    U = _span(basis, levels, xp)
    image = U * basis.values[:, None]
    twice = U @ (xp.matrix_transpose(U) @ image)
    A = _diagonal(basis.values, xp) - U @ xp.matrix_transpose(image)
    A = A - (image - twice) @ xp.matrix_transpose(U)
    return _solved((A + xp.matrix_transpose(A)) / 2, basis, xp)


def remaining_shares(
    basis: Eigenbasis, levels: Collection[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the spectrum without some levels, and the shares of those that stay.

    Values are those that `knockout` gives from then on; shares are as in `attribute`.
    """
    xp, removed = backend.namespace(basis.values), frozenset(levels)
    kept = [n for n in basis.rows if n not in removed]
    within, r = basis.within not in removed, basis.values.shape[0]
    if not removed or not r or not kept:
        values = backend.to_host(knockout(basis, removed)[0])
        if not removed:
            return values, _shares(basis, values, xp)
        alone = within and not kept  # which takes no eigenvector
        return values, {basis.within: np.ones_like(values)} if alone else {}
    rows, A = [basis.rows[n] for n in kept], _remainder(basis, removed, xp)
    ends = np.cumsum([0, *(x.shape[0] for x in rows)])
    turned = backend.concatenate(rows) if A.shape[0] == r else _identity(A, xp)
    solved, images, solver = eigenimages(A, turned, xp)
    values, radius = backend.to_host(solved), basis.radius + solver
    basis._solved[removed] = solved, radius
    if A.shape[0] < r:
        # what x makes of an eigenvector of x'x is that of xx', times the root
        images = images * xp.sqrt(xp.where(solved > 0, solved, 0 * solved))
    parts = {
        n: backend.to_host(xp.sum(images[i:j, :] ** 2, axis=0))
        for n, (i, j) in zip(kept, pairwise(ends), strict=True)
    }
    if within:
        parts |= {basis.within: values - sum(parts.values())}
    return values, _normalised(cluster_means(values, radius, parts))


def attribute(
    moment: SecondMoment | Coordinates | Eigenbasis | Snapshot,
    *,
    top: int | None = None,
    certify: bool = False,
    leave_out: float = 0.0,
) -> Attribution:
    """Attribute every eigenvalue, or the largest, to the levels of the class structure.

    Parameters
    ----------
    moment : SecondMoment, Coordinates, Eigenbasis or Snapshot
        Features, errors or gradients; a snapshot stands for its Fisher information.
    top, certify, leave_out
        As in `refspec.spectra.spectrum`; no level, and no knock-out, misses more than
        the trace left out, nor does a level's trace. With `top` the spectra of the
        within level and of knock-outs have `top` eigenvalues, and so have those of the
        levels of means, without angles, if there are more cells (C^2) than such
        products.

    Returns
    -------
    Attribution
        All of it from one factorisation, without another pass over the data. Shares
        are of the eigenvalues that are resolved from zero: none in a zero matrix.

    Raises
    ------
    TypeError, ValueError
        As `refspec.spectra.spectrum`.

    Notes
    -----
    Theory: theory/attribution.md#A1, #A2, #A3, #A4, #A6; theory/spectra.md#S5. The
    share of a level in an eigenvalue with eigenvector v of X'X is v'X'PXv / lambda =
    u'Pu, u the eigenvector of the Gram matrix.

    Examples
    --------
    >>> import refspec
    >>> attribute(refspec.datasets.digits_mlp()).kinds[0]
    'outlier'
    """
    if top is not None:
        expect_every_row(leave_out, f"top={top}")
        return attribute_leading(_expect_products(moment, certify), top)
    if isinstance(moment, Eigenbasis):
        expect_every_row(leave_out, "a basis")
        basis = moment
    else:
        basis = eigenbasis(moment, certify=certify, leave_out=leave_out)
    xp, names = backend.namespace(basis.values), [*basis.rows, basis.within]
    values = backend.to_host(basis.values)
    solved = {n: knockout(basis, [m for m in names if m != n]) for n in names}
    without = {n: knockout(basis, [n]) for n in names}
    means = [n for n in basis.rows if KINDS[n] == "outlier"]
    by_means, _ = knockout(basis, [n for n in names if n not in means])
    levels = {n: backend.to_host(x) for n, (x, _) in solved.items()}
    return assembled(
        basis.spectrum,
        {n: float(x.sum()) for n, x in levels.items()},
        values,
        _shares(basis, values, xp),
        levels,
        {n: backend.to_host(x) for n, (x, _) in without.items()},
        backend.to_host(by_means),
        lambda names, k: span_angles(basis, names, k),
        max(x for _, x in (*solved.values(), *without.values())),
    )


def _expect_products(
    moment: SecondMoment | Coordinates | Eigenbasis | Snapshot, certify: bool
) -> SecondMoment:
    """Return the moment whose largest eigenvalues come from products."""
    if certify or isinstance(moment, Eigenbasis):
        raise ValueError(
            "top must come with a moment and without certify, got "
            f"{type(moment).__name__} and certify={certify}; leave it out for all "
            "eigenvalues"
        )
    return moment_of(moment.moment if isinstance(moment, Coordinates) else moment)


def sines(basis: Eigenbasis, levels: Collection[str]) -> np.ndarray:
    """Return the sine of every eigenvector's angle to the span of some levels.

    Parameters
    ----------
    basis : Eigenbasis
    levels : collection of str
        Names of levels of the means; directions in which they are within their radius
        of zero are not in the span.

    Returns
    -------
    ndarray, shape (r,)
        0: in the span; 1: at a right angle to it.

    Raises
    ------
    TypeError, ValueError
        If a name is not that of a level of the means.

    Notes
    -----
    Theory: theory/attribution.md#A7. Columns of I - UU', U the span's basis: no small
    sine is a difference of numbers near 1.

    Examples
    --------
    >>> import refspec
    >>> basis = eigenbasis(refspec.datasets.digits_mlp())
    >>> means = ["diagonal", "between_class", "between_cross_class"]
    >>> float(sines(basis, means)[9].round(2))  # of the tenth, in the bump
    0.06
    """
    U = _expect_span(basis, levels)
    return np.asarray(np.linalg.norm(np.eye(len(U)) - U @ U.T, axis=0))


def span_angles(
    basis: Eigenbasis, levels: Collection[str], k: int | None = None
) -> np.ndarray:
    """Return the principal angles of the first eigenvectors to the span of some levels.

    Parameters
    ----------
    basis : Eigenbasis
    levels : collection of str
        As in `sines`.
    k : int, optional
        How many eigenvectors; as many as the span has dimensions if not given.

    Returns
    -------
    ndarray
        Ascending, in radians; as many as there are of the fewer.

    Raises
    ------
    TypeError, ValueError
        If a name is not that of a level of the means, or k is not a size.

    Notes
    -----
    Theory: theory/attribution.md#A3.

    Examples
    --------
    >>> import refspec
    >>> basis = eigenbasis(refspec.datasets.digits_mlp())
    >>> found = span_angles(basis, ["diagonal", "between_class"], 4)
    >>> float(np.sin(found).max().round(3))
    0.225
    """
    U = _expect_span(basis, levels)
    k = U.shape[1] if k is None else checks.expect_size("k", k)
    return principal_angles(U, k) if k else np.zeros(0)


def _expect_span(basis: Eigenbasis, levels: Collection[str]) -> np.ndarray:
    """Refuse what has no span; return its orthonormal basis on the host."""
    checks.expect_type("basis", basis, Eigenbasis, "eigenbasis(moment) makes one")
    checks.expect_names("levels", levels, [*basis.rows])
    if not levels or not basis.values.shape[0]:
        return np.zeros((basis.values.shape[0], 0))
    return backend.to_host(_span(basis, levels, backend.namespace(basis.values)))


def _subtracted(
    basis: Eigenbasis, levels: frozenset[str], xp: Namespace
) -> tuple[Array, float]:
    """Solve for the spectrum of the whole minus some levels."""
    if not levels:
        return basis.values, basis.radius  # the whole, which is diagonal already
    return _solved(_remainder(basis, levels, xp), basis, xp)


def _remainder(basis: Eigenbasis, levels: frozenset[str], xp: Namespace) -> Array:
    """Return the whole minus some levels, (r, r), or what has its eigenvalues.

    That is xx' where x'x, of the rows x of the means that stay, is the larger.
    """
    if basis.within in levels:
        kept = [basis.rows[n] for n in basis.rows if n not in levels]
        x = backend.concatenate(kept) if kept else 0 * basis.values[None, :]
        t = xp.matrix_transpose(x)
        return x @ t if x.shape[0] < x.shape[1] else t @ x
    A = _diagonal(basis.values, xp)
    # in the order of the rows, so that the sum does not depend on that of the names
    for x in (basis.rows[n] for n in basis.rows if n in levels):
        A -= xp.matrix_transpose(x) @ x
    return A


def _diagonal(values: Array, xp: Namespace) -> Array:
    """Return the diagonal matrix of values."""
    return _identity(values, xp) * values


def _identity(like: Array, xp: Namespace) -> Array:
    """Return the identity with as many rows as an array has."""
    return xp.eye(like.shape[0], dtype=like.dtype, device=backend.device(like))


def _solved(A: Array, basis: Eigenbasis, xp: Namespace) -> tuple[Array, float]:
    """Return descending eigenvalues of A and their radius, basis and solver."""
    values, solver = eigenvalues(A, xp)
    return values, basis.radius + solver


def _span(basis: Eigenbasis, levels: Collection[str], xp: Namespace) -> Array:
    """Return an orthonormal basis of the range of some levels, shape (r, k), k >= 0."""
    key = frozenset(levels)
    if key not in basis._spans:
        x = backend.concatenate(basis.rows[n] for n in levels)
        _, s, V = xp.linalg.svd(x, full_matrices=False)
        k = int(np.sum(backend.to_host(s) ** 2 > basis.radius))
        basis._spans[key] = xp.matrix_transpose(V[:k, :])
    return basis._spans[key]


def _shares(
    basis: Eigenbasis, values: np.ndarray, xp: Namespace
) -> dict[str, np.ndarray]:
    """Return ||column||^2 / lambda of every level, averaged over clusters."""
    parts = {n: backend.to_host(xp.sum(x * x, axis=0)) for n, x in basis.rows.items()}
    parts[basis.within] = values - sum(parts.values())
    return _normalised(cluster_means(values, basis.radius, parts))


def _normalised(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return parts (r,) that are not negative and add up to 1, the last what is left.

    An eigenvalue that rounding made negative, of no mean, is within.
    """
    parts = {n: np.maximum(x, 0) for n, x in parts.items()}
    total, last = sum(parts.values()), list(parts)[-1]
    parts[last] = np.where(total > 0, parts[last], 1)
    return {n: x / np.where(total > 0, total, 1) for n, x in parts.items()}
