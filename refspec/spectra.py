"""Eigenvalues, each with a radius and the kind of radius."""

from __future__ import annotations

from dataclasses import dataclass

from refspec import backend, rounding
from refspec.backend import Array
from refspec.coordinates import Coordinates, coordinates
from refspec.curvature import SecondMoment
from refspec.rounding.certificates import certified_eigenvalues

__all__ = ["Spectrum", "eigenvalues", "spectrum"]


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """All eigenvalues of a second moment.

    Parameters
    ----------
    values : Array, shape (r,)
        Descending. The other ``dimension - r`` are zero within the radius.
    vectors : Array, shape (r, r), or None
        Eigenvectors as columns, in the coordinates.
    radius : float
        Every true eigenvalue lies within this of its value.
    kind : str
        How the radius is known: a priori, probed, or certified.
    dimension : int
        P, the size of the matrix.
    """

    values: Array
    vectors: Array | None
    radius: float
    kind: str
    dimension: int

    @property
    def n_zero(self) -> int:
        """How many eigenvalues are not in `values`: zero within the radius."""
        return self.dimension - int(self.values.shape[0])


def spectrum(
    moment: SecondMoment | Coordinates, *, vectors: bool = False, certify: bool = False
) -> Spectrum:
    """Compute all non-zero eigenvalues of a second moment.

    Parameters
    ----------
    moment : SecondMoment or Coordinates
        Coordinates, where several spectra come from the same ones.
    vectors : bool
        Keep the eigenvectors too.
    certify : bool
        Bound the eigensolver's error a posteriori instead of trusting its usual
        constant.

    Returns
    -------
    Spectrum
        Values with their radius.

    Notes
    -----
    Theory: theory/spectra.md#S1, #S2; theory/rounding.md#B3; theory/certificates.md#Q4.

    Examples
    --------
    >>> import refspec
    >>> moment = refspec.curvature.features(refspec.datasets.digits_mlp(), "fc1")
    >>> s = spectrum(moment)
    >>> abs(float(s.values.sum()) - moment.trace()) <= 65 * s.radius
    True
    """
    at = moment if isinstance(moment, Coordinates) else coordinates(moment)
    values, Q, solver, kind = _solve(at.second, vectors, certify)
    return Spectrum(
        values,
        Q if vectors else None,
        at.radius + solver,
        f"{at.kind}; eigensolver {kind}",
        at.shape[1],
    )


def eigenvalues(A: Array) -> tuple[Array, float]:
    """Return descending eigenvalues of a symmetric A and the eigensolver's radius."""
    values, _, radius, _ = _solve(A, False, False)
    return values, radius


def _solve(
    A: Array, vectors: bool, certify: bool
) -> tuple[Array, Array | None, float, str]:
    """Return descending eigenvalues, eigenvectors if asked, radius and its kind."""
    xp, Q = backend.namespace(A), None
    if certify:  # error-free products need float64 on the host
        proof = certified_eigenvalues(backend.to_host(A))
        radius = float(proof.radii.max(initial=0.0))
        values = backend.from_host(proof.values, A)
        Q = backend.from_host(proof.vectors, A)
        return xp.astype(values, A.dtype), xp.astype(Q, A.dtype), radius, "certified"
    if vectors:
        values, Q = xp.linalg.eigh(A)
        Q = xp.flip(Q, axis=1)
    else:
        values = xp.linalg.eigvalsh(A)
    values = xp.flip(values)
    norm = backend.scalar(xp.max(xp.abs(values))) if A.shape[0] else 0.0
    radius = rounding.eigensolver_radius(A.shape[0], norm, rounding.unit_roundoff(A))
    return values, Q, radius, "a priori"
