r"""How many eigenvalues lie where, from products: Lanczos quadrature with a band.

For a Gaussian vector z and orthonormal eigenvectors q_i the squares (q_i'z)^2 are
independent and chi-squared: what z carries above a threshold t is chi-squared with as
many degrees of freedom as there are eigenvalues above t. Lanczos from z gives the Gauss
quadrature of that measure, whose weights bound what it carries above t from both sides
(Chebyshev, Markov, Stieltjes). Both together make an interval for a count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.special

from refspec import backend, checks, rounding, ways
from refspec.backend import Array
from refspec.classes import Snapshot
from refspec.coordinates.frame import way_back
from refspec.curvature import SecondMoment, in_pieces, moment_of
from refspec.krylov import Product
from refspec.leading import product_radius, scaled_beside_gram, smaller_side
from refspec.results import Result, View
from refspec.rows import forming_radius
from refspec.spaces import Space
from refspec.structure import decompose

#: What is not without a level, beside what is.
WHOLE = "the whole"
_THRESHOLDS = 256
_DECADES = 12


@dataclass(frozen=True, slots=True, eq=False)
class Density(Result):
    """Where the eigenvalues of a second moment lie; arrays on the host.

    Parameters
    ----------
    nodes, weights : ndarray, shape (probes * steps,)
        Quadrature: sum of weights f(nodes) estimates the sum of f over the n
        eigenvalues of the smaller of X'X and XX'; nodes descend.
    thresholds : ndarray, shape (G,)
        Descending, equal steps of the logarithm.
    lower, upper : ndarray of int, shape (G,)
        Of these eigenvalues at least and at most so many lie above each threshold: for
        all thresholds at once, except with probability `failure`.
    n : int
        min(N K, P).
    failure : float
    """

    nodes: np.ndarray
    weights: np.ndarray
    thresholds: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    n: int
    failure: float

    def __repr__(self) -> str:
        """Say the sizes and how wide the band is."""
        wide = int(np.max(self.upper - self.lower, initial=0))
        return f"Density(n={self.n}, {len(self.nodes)} nodes, band at most {wide} wide)"

    def view(self) -> View:
        """Give the counts by threshold, the quadrature apart."""
        counts = {"lower": self.lower, "upper": self.upper}
        quadrature = {n: ("node", getattr(self, n)) for n in ("nodes", "weights")}
        facts = {"n": self.n, "failure": self.failure}
        rows = list(self.thresholds)
        return View("threshold", rows, counts, apart=quadrature, facts=facts)


def density(
    moment: SecondMoment | Snapshot, *, probes: int = 16, steps: int = 64, seed: int = 0
) -> Density:
    """Count eigenvalues above thresholds, without computing them.

    Parameters
    ----------
    moment : SecondMoment or Snapshot
        A whole, a level or a knock-out; a snapshot stands for its Fisher information.
    probes : int
        Random vectors: the band narrows as 1 / sqrt(probes count).
    steps : int
        Lanczos steps from each: how finely eigenvalues are told apart.
    seed : int
        Of the random vectors.

    Returns
    -------
    Density

    Raises
    ------
    TypeError, ValueError
        If an argument is none of these.

    Notes
    -----
    Theory: theory/spectra.md#S4. Cost of probes * steps products with X and X', memory
    of `steps` vectors of length n = min(N K, P) for each probe that runs at a time.

    References
    ----------
    Golub and Meurant, *Matrices, Moments and Quadrature*; Cortinovis and Kressner
    (2022).

    Examples
    --------
    >>> import refspec
    >>> F = refspec.fisher(refspec.datasets.wine_sklearn())
    >>> found = density(F)
    >>> above = (refspec.spectrum(F).values > found.thresholds[:, None]).sum(axis=1)
    >>> bool(((found.lower <= above) & (above <= found.upper)).all())
    True
    """
    moment = _expect(moment, probes, steps, seed)
    return _densities({WHOLE: moment}, probes, steps, seed)[WHOLE]


def densities(
    moment: SecondMoment | Snapshot, *, probes: int = 16, steps: int = 64, seed: int = 0
) -> dict[str, Density]:
    """Count the eigenvalues of a moment, and of what it is without each of its levels.

    Parameters
    ----------
    moment, probes, steps, seed
        As in `density`; all of them from the same random vectors.

    Returns
    -------
    dict of str to Density
        Under `WHOLE` and the names of the levels. Each fails by itself with the
        probability that it states.

    Raises
    ------
    TypeError, ValueError
        As `density`.

    Notes
    -----
    Theory: theory/spectra.md#S4. Vectors of all go through a product together, and a
    Gram matrix is formed once, where one is held.

    Examples
    --------
    >>> import refspec
    >>> found = densities(refspec.datasets.wine_sklearn(), probes=4)
    >>> bool((found["between_class"].lower <= found["the whole"].upper.max()).all())
    True
    """
    moment = _expect(moment, probes, steps, seed)
    return _densities(whole_and_without(moment), probes, steps, seed)


def _expect(
    moment: SecondMoment | Snapshot, probes: int, steps: int, seed: int
) -> SecondMoment:
    """Refuse what is none of these; return the moment."""
    moment = moment_of(moment)
    checks.expect_size("probes", probes, least=1)
    checks.expect_size("steps", steps, least=1)
    checks.expect_size("seed", seed)
    return in_pieces(moment)


def _densities(
    several: dict[str, SecondMoment], probes: int, steps: int, seed: int
) -> dict[str, Density]:
    """Count the eigenvalues of moments that have the same rows."""
    (first, *_), size = several.values(), len(several)
    small, power = scaled_beside_gram(first, probes * steps * size)
    rows = small.rows
    seen = [replace(x, rows=rows) for x in several.values()]
    product, space = smaller_side(*seen)
    j, rng = min(steps, space.n), space.group.random(seed)
    at_a_time = rows.group.least(ways.probes_together(space.n, j, size, rows.like))
    made: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in seen]
    for i in range(0, probes, at_a_time):
        start = space.gaussian(rng, min(at_a_time, probes - i), rows.like)
        start = backend.concatenate([start] * size, axis=1)
        nodes, weights = _gauss(product, start, j, rng, space)
        parts = (np.split(x, size) for x in (nodes, weights))
        for mine, part in zip(made, zip(*parts, strict=True), strict=True):
            mine.append(part)
    trace = rows.trace()
    lost = forming_radius(rows, trace, rounding.unit_roundoff(rows.like))
    return {
        name: _counted(
            x, power, trace, lost, *map(np.concatenate, zip(*mine, strict=True))
        )
        for (name, x), mine in zip(zip(several, seen, strict=True), made, strict=True)
    }


def _counted(
    moment: SecondMoment,
    power: int,
    trace: float,
    lost: float,
    nodes: np.ndarray,
    weights: np.ndarray,
) -> Density:
    """Return the counts from nodes and weights (probes, j) of a moment scaled.

    Its rows are off by what `lost` bounds.
    """
    (probes, j), n = nodes.shape, smaller_side(moment)[1].n
    away = product_radius(moment, trace) * (1 + j) + lost
    top = max(float(nodes.max(initial=0.0)), away)
    thresholds = (top + 2 * away) * np.logspace(0, -_DECADES, _THRESHOLDS)
    lower, upper = _band(nodes, weights, thresholds, away, n)
    up = way_back(moment, power, trace) ** 2
    flat, order = nodes.ravel(), np.argsort(-nodes, axis=None, kind="stable")
    return Density(
        flat[order] * up,
        weights.ravel()[order] / probes,
        thresholds * up,
        lower,
        upper,
        n,
        rounding.FAILURE,
    )


def whole_and_without(moment: SecondMoment) -> dict[str, SecondMoment]:
    """Return a moment and, under the names of its levels, what it is without each."""
    moment = in_pieces(moment)
    split = decompose(moment)
    return {WHOLE: moment} | {n: split.without(n) for n in split.levels}


def _gauss(
    product: Product, z: Array, steps: int, rng: np.random.Generator, space: Space
) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss nodes and weights (m, steps) of the measures of m vectors z (n, m).

    Lanczos from each of them, orthogonalised twice against its own vectors.
    """
    xp, (n, m) = backend.namespace(z), z.shape

    def length(x: Array, axis: int) -> Array:
        return xp.sqrt(space.group.added(xp.sum(x * x, axis=axis)))

    u = rounding.unit_roundoff(z)
    V = xp.zeros((m, steps, n), dtype=z.dtype, device=backend.device(z))
    size = length(z, 0)
    diagonal, beside = np.zeros((m, steps)), np.zeros((m, steps - 1))
    q = xp.matrix_transpose(z / size)
    for j in range(steps):
        V[:, j, :] = q
        known = V[:, : j + 1, :]
        w = xp.matrix_transpose(product(xp.matrix_transpose(q)))
        diagonal[:, j] = backend.to_host(space.group.added(xp.sum(q * w, axis=1)))
        if j + 1 == steps:
            break
        scale = length(w, 1)
        w = _without(w, known, space)
        left = length(w, 1)
        # where rounding alone is left the measure is used up: beta = 0, and on
        # from a vector that has nothing to do with it
        new = left > rounding.gamma(space.n, u) * scale
        beside[:, j] = backend.to_host(xp.where(new, left, xp.zeros_like(left)))
        if not bool(xp.all(new)):
            other = backend.beside(rng.standard_normal((m, n)), z)
            w = _without(xp.where(new[:, None], w, other), known, space)
        q = w / length(w, 1)[:, None]
    nodes, weights = np.zeros((m, steps)), np.zeros((m, steps))
    for i, square in enumerate(backend.to_host(size).astype(np.float64) ** 2):
        nodes[i], S = scipy.linalg.eigh_tridiagonal(diagonal[i], beside[i])
        weights[i] = square * S[0] ** 2
    return nodes, weights


def _without(w: Array, V: Array, space: Space) -> Array:
    """Return vectors w (m, n) without what lies in the spans of V (m, j, n)."""
    turned = backend.namespace(w).matrix_transpose(V)
    for _ in range(2):
        w = w - (turned @ space.group.added(V @ w[:, :, None]))[:, :, 0]
    return w


def _band(
    nodes: np.ndarray,
    weights: np.ndarray,
    thresholds: np.ndarray,
    away: float,
    n: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds on the number of eigenvalues above each threshold.

    nodes and weights (m, j), one row a vector; eigenvalues are known to `away`.
    """
    least, most = np.zeros(len(thresholds)), np.zeros(len(thresholds))
    for node, weight in zip(nodes, weights, strict=True):
        order = np.argsort(-node)
        total = np.concatenate([[0.0], np.cumsum(weight[order])])
        above = np.searchsorted(-node[order], -(thresholds + away), side="left")
        least += total[np.maximum(above - 1, 0)]
        above = np.searchsorted(-node[order], -(thresholds - away), side="left")
        most += total[np.minimum(above + 1, len(node))]
    # one event for each of the n ranks, not for each threshold: those may be chosen
    # after looking, and the band holds for all there are
    half, m, size = rounding.FAILURE / (2 * n), len(nodes), len(thresholds)
    # the fewest r for which chi^2 with m r degrees of freedom reaches `least` with
    # probability `half`, and the most for which it stays below `most`
    lower = _first(lambda r: _upper_tail(m * r, least) >= half, n, size)
    upper = _first(lambda r: _lower_tail(m * (r + 1), most) < half, n, size)
    return lower, upper


def _upper_tail(freedom: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return P(chi-squared >= x), which has no freedom where it is 0."""
    some = scipy.special.gammaincc(np.maximum(freedom, 1) / 2, x / 2)
    return np.where(freedom > 0, some, np.where(x > 0, 0.0, 1.0))


def _lower_tail(freedom: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return P(chi-squared <= x), of at least one degree of freedom."""
    return np.asarray(scipy.special.gammainc(freedom / 2, x / 2))


def _first(holds: Callable[[np.ndarray], np.ndarray], n: int, size: int) -> np.ndarray:
    """Return the smallest r in 0..n for which what is monotone in r holds, or n."""
    low, high = np.zeros(size, dtype=np.int64), np.full(size, n)
    while np.any(low < high):
        middle = (low + high) // 2
        yes = holds(middle)
        high, low = np.where(yes, middle, high), np.where(yes, low, middle + 1)
        low = np.minimum(low, high)
    return high
