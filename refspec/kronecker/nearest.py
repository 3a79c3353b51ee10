r"""The nearest sums of Kronecker products: what one term, or C terms, can do at best.

Rearranged, A (x) B is the rank-one matrix vec(A) vec(B)', with the same entries. So the
sums of r products that come nearest to F in Frobenius norm are the r largest singular
values of the rearranged F, a map R of symmetric matrices:

.. math:: R(B) = \sum_i \Delta_i \langle B, h_i h_i' \rangle, \qquad \langle F,
    A \otimes B \rangle = \langle A, R(B) \rangle

over samples, with :math:`\Delta_i` their second moments of errors (over positions, sums
over pairs of these). R and its transpose are products with the factors of the rows, so
that singular vectors come from a Krylov space of matrices (b, b) or (a, a).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec import backend, checks, krylov, rounding
from refspec.backend import Array, Namespace
from refspec.classes import Snapshot
from refspec.coordinates.frame import scaled, way_back
from refspec.curvature import SecondMoment, fisher
from refspec.factors import Factor, Factors, lengths
from refspec.kronecker import moments
from refspec.kronecker.products import KroneckerSum
from refspec.rows import Rows


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The nearest sum of r Kronecker products of symmetric factors.

    Parameters
    ----------
    terms : KroneckerSum
        The r products, largest first: each makes the nearest sum with those before it.
        The first is positive semidefinite; others need not be.
    singular_values : ndarray, shape (r,)
        Descending: the Frobenius norms of the terms, which are orthogonal.
    errors : ndarray, shape (r,)
        ||F - the first k terms||_F / ||F||_F; 0 if F is.
    radius : float
        The square of every error is within it of that of the best.
    """

    terms: KroneckerSum
    singular_values: np.ndarray
    errors: np.ndarray
    radius: float

    def __repr__(self) -> str:
        """Say how far off one and all terms are."""
        one, every = self.errors[0], self.errors[-1]
        return f"Nearest({self.terms!r}; error {one:.3g} of one, {every:.3g} of all)"


def nearest(snapshot: Snapshot, layer: str, terms: int = 1) -> Nearest:
    r"""Return the sum of r Kronecker products that is nearest to a layer's Fisher.

    Parameters
    ----------
    snapshot : Snapshot
    layer : str
        Its name.
    terms : int
        r, at most the dimension of the symmetric matrices (b, b) and (a, a).

    Returns
    -------
    Nearest
        For all numbers of terms up to r.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Notes
    -----
    Theory: theory/kronecker_nearest.md#K17. KFAC is no nearer than one term, CFAC than
    C. Cost of a few r products with R and its transpose, each N C T b (b + T) and
    N T a (a + T) operations, and of the Gram matrix of the rows; nothing of size P x P
    is formed for it unless P is smaller than their number.

    References
    ----------
    Van Loan and Pitsianis (1993), "Approximation with Kronecker products".

    Examples
    --------
    >>> import refspec
    >>> found = nearest(refspec.datasets.digits_mlp(), "fc3", terms=10)
    >>> bool(found.errors[-1] < found.errors[0] < 1)
    True
    """
    advice = "make one with refspec.snapshot(...)"
    checks.expect_type("snapshot", snapshot, Snapshot, advice)
    moment = fisher(snapshot, [layer])
    (f,) = _factors(moment.rows)
    b, a = f.roots.shape[3], f.features.shape[2]  # type: ignore[union-attr]
    most = min(b * (b + 1), a * (a + 1)) // 2
    if not 1 <= checks.expect_size("terms", terms) <= most:
        raise ValueError(
            f"terms must lie in 1..{most}, the dimension of the symmetric matrices of "
            f"side min(a, b) = {min(a, b)}, got {terms}; ask for fewer"
        )
    small, power = scaled(moment)
    (f,), xp = _factors(small.rows), small.xp
    left = b <= a
    n, spread, back = (b, _back, _forward) if left else (a, _forward, _back)

    def product(V: Array) -> Array:
        columns = []
        for k in range(V.shape[1]):
            A = moments.symmetric(xp.reshape(V[:, k], (n, n)), xp)
            columns.append(xp.reshape(back(f, spread(f, A, xp), xp), (-1, 1)))
        return backend.concatenate(columns, axis=1)

    u, size = rounding.unit_roundoff(f.roots), _size(f, xp)
    N, K, T, _ = f.roots.shape
    once = rounding.gamma(N * K * T + 2 * (T + a + b) + 16, u) * size  # of R alone
    found = krylov.leading(product, f.roots, n * n, terms, 2 * once * size)
    units = [_unit(xp.reshape(found.vectors[:, k], (n, n)), xp) for k in range(terms)]
    others = [spread(f, x, xp) for x in units]
    gained = np.asarray([backend.scalar(xp.sum(x * x)) for x in others])
    total = _square(small, f)
    rest = np.maximum(total - np.cumsum(gained), 0)
    away = terms * (found.radius + 4 * once * size) + _square_radius(small, size, u)
    up = way_back(moment, power, size)
    kept, seen = xp.stack(units), xp.stack(others) * up * up
    pair = (kept, seen) if left else (seen, kept)
    return Nearest(
        KroneckerSum(xp.ones_like(kept[:, 0, 0]), *pair),
        np.sqrt(gained) * up * up,
        np.sqrt(rest / total) if total > 0 else np.zeros(terms),
        away / total if total > 0 else 0.0,
    )


def nearest_by_class(snapshot: Snapshot, layer: str) -> Nearest:
    """Return the nearest sum of C products, as CFAC has, or of as many as there are."""
    x, C = snapshot.layer(layer), snapshot.probabilities.shape[1]
    least = min(x.outputs, x.features.shape[2])
    return nearest(snapshot, layer, min(C, least * (least + 1) // 2))


def rearranged(moment: SecondMoment, B: Array) -> Array:
    """Return R(B), (b, b), of a layer's Fisher for symmetric B (a, a).

    Theory: theory/kronecker_nearest.md#K17.
    """
    (f,) = _factors(moment.rows)
    return _forward(f, B, moment.xp)


def _factors(rows: Rows) -> tuple[Factor, ...]:
    """Return the factors of a snapshot's rows."""
    assert isinstance(rows, Factors)  # as `fisher` of a snapshot makes them
    return rows.layers


def _forward(f: Factor, B: Array, xp: Namespace) -> Array:
    """Return sum_ik E_ik' (H_i B H_i') E_ik, E_ik (T, b) roots, H_i (T, a) features."""
    b = f.roots.shape[3]
    total = xp.zeros((b, b), dtype=B.dtype, device=backend.device(B))
    for i, j in _some(f):
        h, e = f.features[i:j, ...], f.roots[i:j, ...]  # type: ignore[index]
        inner = (h @ B) @ xp.matrix_transpose(h)
        inner = xp.reshape(inner[:, None, ...] @ e, (-1, b))
        total = total + xp.matrix_transpose(xp.reshape(e, (-1, b))) @ inner
    return moments.symmetric(total, xp)


def _back(f: Factor, A: Array, xp: Namespace) -> Array:
    """Return sum_i H_i' (sum_k E_ik A E_ik') H_i: the transpose of `_forward`."""
    a = f.features.shape[2]  # type: ignore[union-attr]
    total = xp.zeros((a, a), dtype=A.dtype, device=backend.device(A))
    for i, j in _some(f):
        h, e = f.features[i:j, ...], f.roots[i:j, ...]  # type: ignore[index]
        inner = xp.sum((e @ A) @ xp.matrix_transpose(e), axis=1)
        inner = xp.reshape(inner @ h, (-1, a))
        total = total + xp.matrix_transpose(xp.reshape(h, (-1, a))) @ inner
    return moments.symmetric(total, xp)


def _some(f: Factor) -> list[tuple[int, int]]:
    """Return first and last samples that are seen together."""
    N, K, T, b = f.roots.shape
    step = backend.at_a_time(8 * K * T * (T + b), f.roots)
    return [(i, min(i + step, N)) for i in range(0, N, step)]


def _unit(A: Array, xp: Namespace) -> Array:
    """Return a singular vector, symmetric, of Frobenius norm 1 and trace >= 0."""
    A = moments.symmetric(A, xp)
    length = backend.scalar(xp.sqrt(xp.sum(A * A)))
    sign = -1.0 if backend.scalar(xp.linalg.trace(A)) < 0 else 1.0
    return A * (sign / length) if length > 0 else A


def _size(f: Factor, xp: Namespace) -> float:
    """Return sum_ik (sum_t ||e_ikt|| ||h_it||)^2: no sum over positions is larger."""
    h = lengths(f.features, 2)[:, None, :]
    return backend.scalar(xp.sum(xp.sum(lengths(f.roots, 3) * h, axis=2) ** 2))


def _square(moment: SecondMoment, f: Factor) -> float:
    """Return ||F||_F^2, from the Gram matrix of the rows or, if smaller, from F."""
    xp, (n, P) = moment.xp, moment.shape
    if n >= P:
        return backend.scalar(xp.sum(moment.matrix() ** 2))
    every = xp.arange(n, device=backend.device(f.roots))
    step, total = backend.at_a_time(8 * n, f.roots), 0.0
    for i in range(0, n, step):
        part = moment.rows.gram(every[i : min(i + step, n)])
        total += backend.scalar(xp.sum(part * part))
    return total


def _square_radius(moment: SecondMoment, size: float, u: float) -> float:
    """Bound the rounding of `_square`: rows, their products, and a sum of squares."""
    n, P = moment.shape
    terms = min(n, P) ** 2 + 4 * (n + P) + 64
    return 4 * rounding.gamma(terms, u) * size**2
