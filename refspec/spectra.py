"""Eigenvalues, each with a radius and the kind of radius."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from refspec import backend, checks, rounding
from refspec.backend import Array, Namespace
from refspec.classes import Snapshot
from refspec.coordinates import Coordinates, coordinates
from refspec.curvature import SecondMoment, in_pieces, moment_of
from refspec.leading import expect_top, leading
from refspec.results import Result, View, ranks
from refspec.rounding.certificates import certified_eigenvalues


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum(Result):
    """Eigenvalues of a second moment: all of them, or the largest.

    Parameters
    ----------
    values : Array, shape (r,)
        Descending. The other ``dimension - r`` are zero within the radius or, where
        only the largest were asked for, none is larger than these.
    vectors : Array, shape (r, r), or None
        Eigenvectors as columns, in the coordinates; none of the largest alone.
    radius : float
        Every true eigenvalue lies within this of its value.
    kind : str
        How the radius is known: a priori, measured, probed, or certified.
    dimension : int
        P, the size of the matrix.
    complete : bool
        Whether all were asked for.
    left_out : float
        Trace that rows left out have outside the coordinates, in the radius.
    rows_left_out : int
        How many rows, where that was asked for.
    """

    values: Array
    vectors: Array | None
    radius: float
    kind: str
    dimension: int
    complete: bool = True
    left_out: float = 0.0
    rows_left_out: int = 0

    @property
    def n_zero(self) -> int:
        """How many eigenvalues are not in `values` and zero within the radius."""
        return self.dimension - int(self.values.shape[0]) if self.complete else 0

    def __repr__(self) -> str:
        """Say the largest values."""
        top = ", ".join(f"{x:.6g}" for x in backend.to_host(self.values[:3]))
        more = ", ..." if self.values.shape[0] > 3 else ""
        of = "r" if self.complete else "top"
        return (
            f"Spectrum([{top}{more}] +- {self.radius:.2g} ({self.kind}), "
            f"{of}={self.values.shape[0]} of P={self.dimension})"
        )

    def view(self) -> View:
        """Give the eigenvalues by rank."""
        values = np.asarray(backend.to_host(self.values))
        return View("rank", ranks(len(values)), {"value": values}, facts=self.facts)

    @property
    def facts(self) -> dict[str, float | str]:
        """What is true of all eigenvalues, for a view."""
        names = ("radius", "kind", "dimension", "n_zero", "left_out", "rows_left_out")
        return {n: getattr(self, n) for n in names} | {"complete": int(self.complete)}


def spectrum(
    moment: SecondMoment | Coordinates | Snapshot,
    *,
    top: int | None = None,
    vectors: bool = False,
    certify: bool = False,
    leave_out: float = 0.0,
) -> Spectrum:
    """Compute all non-zero eigenvalues of a second moment, or the largest.

    Parameters
    ----------
    moment : SecondMoment, Coordinates or Snapshot
        Coordinates, where several spectra come from the same ones; a snapshot stands
        for its Fisher information.
    top : int, optional
        Only so many, the largest, from products with X and X': nothing is formed, so
        that P and N may be large.
    vectors : bool
        Keep the eigenvectors too; of all eigenvalues only.
    certify : bool
        Bound all errors a posteriori: of forming, of the factorisation and of the
        eigensolver (on the host, in float64). Of a projected moment, or of coordinates
        that are not certified themselves, the eigensolver's alone.
    leave_out : float
        Part of the trace, in [0, 1), that may be left out, with rows too short to
        matter: fewer coordinates, in less time and memory; the radius holds it. See
        `refspec.coordinates.coordinates`; not with `top`, which takes all rows.

    Returns
    -------
    Spectrum
        Values with their radius.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If no finite radius can be given (`refspec.coordinates.coordinates`), `top` is
        not in 1..min(N K, P), or goes with `vectors`, `certify` or `leave_out`;
        `leave_out` is not in [0, 1), or goes with coordinates.

    Notes
    -----
    Theory: theory/spectra.md#S1, #S2, #S3, #S5; theory/rounding.md#B3;
    theory/certificates.md#Q4, #Q10. The radius of the largest alone holds except with
    probability 1e-9, over random start vectors.

    Examples
    --------
    >>> import refspec
    >>> moment = refspec.features(refspec.datasets.digits_mlp(), "fc1")
    >>> s = spectrum(moment)
    >>> abs(float(s.values.sum()) - moment.trace()) <= 65 * s.radius
    True
    >>> largest = spectrum(moment, top=3)
    >>> bool(abs(largest.values - s.values[:3]).max() <= largest.radius + s.radius)
    True
    """
    checks.expect_flag("vectors", vectors)
    checks.expect_flag("certify", certify)
    if top is not None:
        return _largest(moment, top, vectors or certify, leave_out)
    at = placed(moment, certify, leave_out)
    xp = at.moment.xp
    if at.solved:
        values, Q = xp.linalg.diagonal(at.second), xp.eye(at.second.shape[0])
        radius, how = at.radius, at.kind
    else:
        values, Q, solver, kind = _solve(at.second, vectors, certify, xp)
        radius, how = at.radius + solver, f"{at.kind}; eigensolver {kind}"
    return Spectrum(
        values,
        Q if vectors else None,
        radius,
        how,
        at.shape[1],
        left_out=at.left_out,
        rows_left_out=at.rows_left_out,
    )


def placed(
    moment: SecondMoment | Coordinates | Snapshot, certify: bool, leave_out: float
) -> Coordinates:
    """Return the coordinates of a moment, or those given, if they are what is asked."""
    if not isinstance(moment, Coordinates):
        return coordinates(moment, certify=certify, leave_out=leave_out)
    expect_every_row(leave_out, "coordinates")
    return moment


def _largest(
    moment: SecondMoment | Coordinates | Snapshot,
    top: int,
    more: bool,
    leave_out: float,
) -> Spectrum:
    """Return the largest eigenvalues, by `refspec.leading`."""
    if more:
        raise ValueError(
            f"top must come without vectors and certify, got top={top} with them; "
            "leave it out for all eigenvalues"
        )
    expect_every_row(leave_out, f"top={top}")
    if isinstance(moment, Coordinates):
        moment = moment.moment
    moment = in_pieces(expect_top(moment_of(moment), top))
    found = leading(moment, top)
    values = backend.beside(found.values, moment.weights)
    return Spectrum(
        values, None, found.radius, found.kind, moment.shape[1], complete=False
    )


def expect_every_row(leave_out: float, of: str) -> None:
    """Refuse to leave rows out of what takes all of them, or has been made."""
    if checks.expect_share("leave_out", leave_out):
        raise ValueError(
            f"leave_out must come with a moment and without top, got {leave_out} with "
            f"{of}; give it to refspec.coordinates.coordinates, or leave it out"
        )


def eigenvalues(
    A: Array, xp: Namespace, *, certify: bool = False
) -> tuple[Array, float]:
    """Return descending eigenvalues of a symmetric A and the eigensolver's radius."""
    values, _, radius, _ = _solve(A, False, certify, xp)
    return values, radius


def eigenimages(A: Array, rows: Array, xp: Namespace) -> tuple[Array, Array, float]:
    """Return descending eigenvalues, rows times eigenvectors, and the solver's radius.

    Theory: theory/rounding.md#B3.
    """
    values, images = (xp.flip(x, axis=-1) for x in backend.eigenimages(A, rows, xp))
    return values, images, _solver_radius(A, values, xp)


def principal_angles(U: np.ndarray, k: int) -> np.ndarray:
    """Return the principal angles between span U, (r, m), and the first k axes.

    Ascending, in radians.
    """
    if not U.shape[1]:
        return np.zeros(0)
    axes = np.eye(len(U), k, dtype=U.dtype)
    return np.asarray(scipy.linalg.subspace_angles(U, axes)[::-1])


def cluster_means(
    values: np.ndarray, radius: float, parts: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Average parts (r,) over clusters of values that their radius does not separate.

    Within a cluster eigenvectors, and with them each part, are not determined.
    """
    gaps = -np.diff(values.astype(np.float64))  # twice the radius may not fit float32
    cluster = np.concatenate([[0], np.cumsum(gaps > 2 * radius)])
    cluster = cluster[: len(values)].astype(np.int64)
    size = np.bincount(cluster)
    return {n: (np.bincount(cluster, x) / size)[cluster] for n, x in parts.items()}


def _solve(
    A: Array, vectors: bool, certify: bool, xp: Namespace
) -> tuple[Array, Array | None, float, str]:
    """Return descending eigenvalues, eigenvectors if asked, radius and its kind."""
    Q = None
    if certify:  # error-free products need float64 on the host
        proof = certified_eigenvalues(backend.to_host(A))
        radius = float(proof.radii.max(initial=0.0))
        if (u := rounding.unit_roundoff(A)) > rounding.unit_roundoff(proof.values):
            radius += u * float(np.abs(proof.values).max(initial=0.0))
            radius += rounding.underflow(1, u)
        values = backend.from_host(proof.values, A)
        Q = backend.from_host(proof.vectors, A)
        return xp.astype(values, A.dtype), xp.astype(Q, A.dtype), radius, "certified"
    if A.shape[0] == 0:
        return xp.sum(A, axis=1), xp.zeros_like(A), 0.0, "a priori"
    if vectors:
        values, Q = backend.eigh(A, xp)
        Q = xp.flip(Q, axis=1)
    else:
        values = backend.eigvalsh(A, xp)
    values = xp.flip(values)
    return values, Q, _solver_radius(A, values, xp), "a priori"


def _solver_radius(A: Array, values: Array, xp: Namespace) -> float:
    """Return how far a symmetric matrix's computed eigenvalues may be off."""
    norm = backend.scalar(xp.max(xp.abs(values)))
    return rounding.eigensolver_radius(A.shape[0], norm, rounding.unit_roundoff(A))
