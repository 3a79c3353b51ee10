"""The largest eigenvalues of a second moment, from products with X and X' alone.

Nothing of size P x P or N K x N K is formed: a Krylov space on the smaller side, of
parameters or of rows, holds a few hundred vectors. Eigenvectors of X'X and of XX' are
each other's images, and what a level makes of an eigenvalue is read off the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from refspec import backend, checks, costs, krylov, memory, rounding, ways
from refspec.backend import Array
from refspec.classes import Snapshot
from refspec.coordinates.frame import scaled_by_trace, way_back
from refspec.costs import Cost
from refspec.curvature import SecondMoment, in_pieces, moment_of
from refspec.grams import WithGram, held
from refspec.rows import Rows, forming_radius
from refspec.spaces import Space

#: The kind of the radius, besides that of the rows.
_PROBED = "with the measured residual, and random vectors for what is larger"


@dataclass(frozen=True, slots=True, eq=False)
class Leading:
    """The k largest eigenvalues of X'QX, and their unit eigenvectors.

    values (k,), descending, on the host; vectors (n, k) of the smaller side of moment,
    n = min(N K, P), or this process's piece of them; every value is within radius of
    the one of its rank; kind says how the radius is known.
    """

    values: np.ndarray
    vectors: Array
    moment: SecondMoment
    radius: float
    kind: str

    @property
    def rows(self) -> Array:
        """Unit eigenvectors of QXX'Q, (N, K, k): 0 where X'QX has none."""
        return self.over_rows(0, len(self.values))

    def over_rows(self, i: int, j: int) -> Array:
        """Return the unit eigenvectors i to j of QXX'Q over the rows, (N, K, j - i)."""
        xp, (N, K, _) = self.moment.xp, self.moment.rows.shape
        V = self.vectors[:, i:j]
        if by_rows(self.moment.rows):
            return xp.reshape(V, (N, K, j - i))
        seen = self.moment.project(self.moment.rows.dot(V))
        size = xp.sqrt(self.moment.rows.group.added(xp.sum(seen * seen, axis=(0, 1))))
        return seen / xp.where(size > 0, size, xp.ones_like(size))


def squared_lengths(moment: SecondMoment, x: Array) -> np.ndarray:
    """Return squared lengths of columns over the rows (N, K, k), on the host."""
    return backend.to_host(moment.rows.group.added(moment.xp.sum(x * x, axis=(0, 1))))


def by_rows(rows: Rows) -> bool:
    """Whether vectors over the rows are shorter than over the parameters."""
    return rows.samples * rows.shape[1] < rows.shape[2]


def leading(moment: SecondMoment, k: int) -> Leading:
    """Return the k largest eigenvalues.

    Theory: theory/spectra.md#S3. Cost of a few k products with X and X', memory of a
    few k vectors of length min(N K, P).
    """
    times = ways.products(k)
    small, power = scaled_beside_gram(expect_top(moment, k), times)
    trace = small.rows.trace()
    found = of_scaled(small, k, trace)
    up = way_back(moment, power, trace + found.radius)
    radius = found.radius * up * up + tiniest(moment, trace)
    return replace(found, values=found.values * up * up, radius=radius)


def of_scaled(moment: SecondMoment, k: int, trace: float) -> Leading:
    """Do as `leading` says: `trace` is that of X'X, near 1."""
    rows = moment.rows
    product, space = smaller_side(moment)
    forming = product_radius(moment, trace)
    found = krylov.leading(product, rows.like, space, k, forming)
    lost = forming_radius(rows, trace, rounding.unit_roundoff(rows.like))
    return _with_rows(found, moment, lost)


def of_projections(
    moment: SecondMoment,
    seen: Mapping[str, tuple[SecondMoment, np.ndarray]],
    cells: Array,
    k: int,
    trace: float,
) -> dict[str, Leading]:
    """Return the k largest eigenvalues of the whole seen through several projections.

    seen: by name the same rows with the projection I - QDQ', and D; cells: Q, over the
    rows, (N, K, q). From one Krylov space of the rows. Theory: theory/spectra.md#S6.
    """
    product, space = row_side(moment)
    products = {n: (row_side(x)[0], D) for n, (x, D) in seen.items()}
    forming = max(product_radius(x, trace) for x, _ in seen.values())
    Q = moment.xp.reshape(cells, (-1, cells.shape[2]))
    found = krylov.together(product, Q, space, k, products, forming)
    lost = forming_radius(moment.rows, trace, rounding.unit_roundoff(cells))
    return {n: _with_rows(found[n], x, lost) for n, (x, _) in seen.items()}


def _with_rows(found: krylov.Leading, moment: SecondMoment, lost: float) -> Leading:
    """Return what was found of a moment, the error `lost` of its rows in the radius."""
    radius, kind = found.radius + lost, f"{moment.rows.known}, {_PROBED}"
    return Leading(found.values, found.vectors, moment, radius, kind)


def smaller_side(
    moment: SecondMoment, *others: SecondMoment
) -> tuple[krylov.Product, Space]:
    """Return products with X'QX or QXX'Q, whichever is smaller, and its space.

    Of others, too, with the same rows: columns come in as many equal parts.
    """
    if by_rows(moment.rows):
        return row_side(moment, *others)
    every, one = (moment, *others), Cost(moment.rows.work.product)

    def product(v: Array) -> Array:
        return _each(every, lambda s, x: _in_parts(s.rows, s.matvec, x, one), v)

    return product, Space.alone(moment.rows.shape[2])


def row_side(
    moment: SecondMoment, *others: SecondMoment
) -> tuple[krylov.Product, Space]:
    """Return products with QXX'Q, and its space, as `smaller_side` does."""
    xp, rows, (N, K, _) = moment.xp, moment.rows, moment.rows.shape
    every, one = (moment, *others), Cost(rows.work.product)

    def product(z: Array) -> Array:
        z = _each(every, SecondMoment.project, xp.reshape(z, (N, K, -1)))
        z = _in_parts(rows, rows.gram_times, z, one)
        z = _each(every, SecondMoment.project, z)
        return xp.reshape(z, (N * K, -1))

    return product, Space(rows.samples * K, N * K, rows.group)


def _each(
    every: tuple[SecondMoment, ...],
    work: Callable[[SecondMoment, Array], Array],
    x: Array,
) -> Array:
    """Do to each of as many equal parts of the columns what its moment does."""
    m = x.shape[-1] // len(every)
    parts = (work(s, x[..., i * m : (i + 1) * m]) for i, s in enumerate(every))
    return backend.concatenate(parts, axis=len(x.shape) - 1)


def _in_parts(rows: Rows, product: krylov.Product, x: Array, one: Cost) -> Array:
    """Multiply some columns at a time: those of the larger side would not fit.

    one: what a column costs.
    """
    step, m = rows.group.least(ways.columns(rows.widest, rows.like)), x.shape[-1]
    parts = (product(x[..., k : min(k + step, m)]) for k in range(0, m, step))
    costs.done(one * m)
    return backend.concatenate(parts, axis=len(x.shape) - 1)


def with_gram(moment: SecondMoment | Snapshot) -> SecondMoment:
    """Return the same moment with its Gram matrix XX' held, for several questions.

    Parameters
    ----------
    moment : SecondMoment or Snapshot
        A snapshot stands for its Fisher information.

    Returns
    -------
    SecondMoment
        `attribute` and `spectrum` with ``top=``, `density` and `densities` of it form
        no Gram matrix of their own. One without fewer rows N K than parameters P, or
        with one already, as it is.

    Raises
    ------
    TypeError
        If the argument is none of these.
    ValueError
        If the matrix does not fit into memory, or not what `refspec.memory.within`
        allows.

    Notes
    -----
    Theory: theory/curvature.md#C11. (N (C - 1))^2 numbers where scores vanish, else
    (N K)^2; the cost is a product for each pair of rows, known by `refspec.plan`.

    Examples
    --------
    >>> import refspec
    >>> F = with_gram(refspec.datasets.mnist_cnn())
    >>> F.rows.held.shape  # of a file in float32, whose scores do not quite vanish
    (650, 650)
    >>> refspec.attribute(F, top=2).kinds, len(refspec.densities(F, probes=2))
    (['outlier', 'outlier'], 5)
    """
    moment = in_pieces(moment_of(moment))
    rows, size = moment.rows, 8 * ways.gram_side(moment) ** 2
    if isinstance(rows, WithGram) or rows.group.count > 1 or not by_rows(rows):
        return moment
    if size > memory.limit():
        raise ValueError(
            f"the Gram matrix must fit into {memory.limit()} bytes, got {size}: give "
            "fewer samples or more memory, or ask for top= without it"
        )
    rows, power = rows.balanced()
    return replace(moment, rows=held(replace(moment, rows=rows)).times(power))


def with_gram_for(moment: SecondMoment, k: int | None) -> SecondMoment:
    """Hold XX' where an attribution of the k largest would; None: of none."""
    if k is None or not ways.holds_gram(moment, ways.products(k, ways.runs(moment))):
        return moment
    return with_gram(moment)


def with_gram_if_cheaper(moment: SecondMoment, products: int) -> SecondMoment:
    """Hold XX' where it fits, and costs less than so many products, beside the rows.

    Of a moment with it every further question is one of that matrix alone.
    """
    if isinstance(moment.rows, WithGram) or not ways.holds_gram(moment, products):
        return moment
    return replace(moment, rows=held(moment))


def scaled_beside_gram(moment: SecondMoment, products: int) -> tuple[SecondMoment, int]:
    """Scale rows as `scaled`, and hold XX' as `with_gram_if_cheaper`.

    Of rows that can be squared: their lengths are on its diagonal, and to multiply it
    is to multiply them.
    """
    rows, power = moment.rows.balanced()
    made = with_gram_if_cheaper(replace(moment, rows=rows), products)
    small, more = scaled_by_trace(made)
    return small, power + more


def expect_top(moment: SecondMoment, k: int) -> SecondMoment:
    """Refuse to look for more eigenvalues than there can be; return the moment."""
    checks.expect_type("moment", moment, SecondMoment, "refspec.fisher makes one")
    N, K, P = moment.rows.samples, *moment.rows.shape[1:]
    n = min(N * K, P)
    if not 1 <= checks.expect_size("top", k) <= n:
        raise ValueError(
            f"top must lie in 1..min(N K, P) = 1..{n}, got {k}: there are no more "
            "eigenvalues than that; ask for fewer, or for all of them without top"
        )
    return moment


def tiniest(moment: SecondMoment, trace: float) -> float:
    """Return what numbers below the smallest normal one are rounded by."""
    info = moment.xp.finfo(moment.weights.dtype)
    return float(info.smallest_normal) * float(info.eps) if trace > 0 else 0.0


def product_radius(moment: SecondMoment, trace: float) -> float:
    """Bound ||fl(QX(X'Qz)) - QX(X'Qz)|| for a unit vector z, the rows as computed.

    Theory: theory/rounding.md#B2: sums of products over rows and columns, and twice a
    projection, of a sum over the rows and one over the cells each way.
    """
    N, K = moment.rows.samples, moment.rows.shape[1]
    k = moment.rows.products
    k += 0 if moment.projection is None else 2 * (2 * (N + K) + 32)
    u = rounding.unit_roundoff(moment.rows.like)
    return rounding.second_moment_radius(k, trace, u)
