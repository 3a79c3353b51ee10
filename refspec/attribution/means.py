"""Class and cross-class means as points: their distances, and a map of them.

The points are in the fewest coordinates, which are orthonormal, so that distances and
angles are those between vectors of all parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from refspec import backend, checks, structure
from refspec.classes import Snapshot
from refspec.coordinates import Coordinates, coordinates
from refspec.curvature import SecondMoment
from refspec.results import Result, View


@dataclass(frozen=True, slots=True, eq=False)
class Means(Result):
    """Class means and cross-class means in r orthonormal coordinates, on the host.

    Parameters
    ----------
    classes : ndarray, shape (C, r)
        v_c, over the cross classes c' != c (features: h_c); zero without mass.
    class_mass : ndarray, shape (C,), weight of each
    cells : ndarray, shape (C, K, r), v_{c,c'}; zero without mass
    cell_mass : ndarray, shape (C, K), weight of each

    Notes
    -----
    Theory: theory/levels.md#L1.
    """

    classes: np.ndarray
    class_mass: np.ndarray
    cells: np.ndarray
    cell_mass: np.ndarray

    def __repr__(self) -> str:
        """Say the sizes."""
        C, K, r = self.cells.shape
        return f"Means(C={C}, K={K}, in {r} coordinates)"

    def view(self) -> View:
        """Give the mass and the coordinates of every class mean."""
        at = {str(k): x for k, x in enumerate(self.classes.T)}
        columns = {"mass": self.class_mass, "mean": at}
        return View("class", range(len(self.classes)), columns, "coordinate")


def class_means(moment: SecondMoment | Coordinates | Snapshot) -> Means:
    """Return the class means and cross-class means of a second moment's vectors.

    Parameters
    ----------
    moment : SecondMoment, Coordinates or Snapshot
        The features' (K = 1), errors' or gradients' (K = C); a snapshot's Fisher.

    Returns
    -------
    Means

    Notes
    -----
    Theory: theory/levels.md#L1. In errors and gradients class means leave c' = c out.

    Examples
    --------
    >>> import refspec
    >>> s = refspec.datasets.digits_mlp()
    >>> class_means(refspec.curvature.features(s, "fc2")).classes.shape
    (10, 33)
    """
    at = moment if isinstance(moment, Coordinates) else coordinates(moment)
    classes, mass = structure.class_means(at.means, at.norms)
    sums, norms = backend.to_host(at.means), backend.to_host(at.norms)
    cells = sums / np.where(norms > 0, norms, 1)[:, :, None]
    return Means(backend.to_host(classes), backend.to_host(mass), cells, norms**2)


def distances(
    means: Means, classes: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return Euclidean distances between all class means and cross-class means.

    Parameters
    ----------
    means : Means
    classes : sequence of int, optional
        Only means and cross classes of these; all by default.

    Returns
    -------
    matrix : ndarray, shape (M, M)
        Distances, not their squares.
    points : ndarray of int, shape (M, 2)
        What each row is: (c, -1) the mean of class c, (c, c') a cross-class mean.
        Means without mass are left out. Features have class means only.

    Raises
    ------
    ValueError
        If a class is not in 0..C-1, or comes twice.
    TypeError
        If the means are none, or a class is no integer.

    Notes
    -----
    Papyan (2019), Figures 3 to 5. Cost M^2 r.

    Examples
    --------
    >>> import refspec
    >>> s = refspec.datasets.digits_mlp()
    >>> found = class_means(refspec.curvature.errors(s, "fc2"))
    >>> distances(found, [0, 1, 2])[0].shape
    (12, 12)
    """
    checks.expect_type("means", means, Means, "class_means(moment) makes them")
    C, K = means.cell_mass.shape
    chosen = list(range(C)) if classes is None else _some_of(C, classes)
    points = [(c, -1) for c in chosen if means.class_mass[c] > 0]
    rows = [means.classes[c] for c, _ in points]
    if K > 1:
        cells = [(c, k) for c in chosen for k in chosen if means.cell_mass[c, k] > 0]
        rows += [means.cells[pair] for pair in cells]
        points += cells
    x = np.stack(rows)
    x = x - x.mean(axis=0)
    gram = x @ x.T
    square = np.diag(gram)[:, None] + np.diag(gram) - 2 * gram
    np.fill_diagonal(square, 0)
    return np.sqrt(np.maximum(square, 0)), np.asarray(points)


def classical_scaling(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Return points of the plane, (M, 2), whose distances come closest to those given.

    And the part of the total squared distance that is kept (Torgerson's scaling, exact
    for points of a plane). The largest coordinate on an axis is positive. Cost M^3.
    """
    M = len(matrix)
    centring = np.eye(M) - 1 / M
    B = -centring @ (matrix**2) @ centring / 2
    values, vectors = np.linalg.eigh((B + B.T) / 2)
    values = np.maximum(values[::-1], 0)
    points = np.zeros((M, 2))
    k = min(2, M)
    points[:, :k] = vectors[:, ::-1][:, :k] * np.sqrt(values[:k])
    top = points[np.argmax(np.abs(points), axis=0), range(2)]
    total = float(values.sum())
    kept = float(values[:k].sum()) / total if total > 0 else 1.0
    return points * np.where(top < 0, -1, 1), kept


def _some_of(C: int, classes: Sequence[int]) -> list[int]:
    """Refuse all but distinct classes, at least one; return them."""
    if isinstance(classes, (str, bytes)) or not isinstance(classes, Iterable):
        raise TypeError(
            f"classes must be a sequence of integers, got {classes!r}; put it in a list"
        )
    chosen = [checks.expect_size("each of classes", c) for c in classes]
    if not chosen or max(chosen) >= C or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"classes must be distinct and some of 0..C-1 = 0..{C - 1}, got {chosen}; "
            "name classes of this network"
        )
    return chosen
