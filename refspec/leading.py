"""The largest eigenvalues of a second moment, from products with X and X' alone.

Nothing of size P x P or N K x N K is formed: a Krylov space on the smaller side, of
parameters or of rows, holds a few hundred vectors. Eigenvectors of X'X and of XX' are
each other's images, and what a level makes of an eigenvalue is read off the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from refspec import backend, checks, costs, krylov, rounding, ways
from refspec.backend import Array
from refspec.coordinates.frame import scaled, way_back
from refspec.costs import Cost
from refspec.curvature import SecondMoment
from refspec.rows import Rows, WithGram, forming_radius
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
    small, power = scaled(expect_top(moment, k))
    trace = small.rows.trace()
    found = of_scaled(with_gram(small, ways.products(k)), k, trace)
    up = way_back(moment, power, trace + found.radius)
    radius = found.radius * up * up + tiniest(moment, trace)
    return replace(found, values=found.values * up * up, radius=radius)


def of_scaled(moment: SecondMoment, k: int, trace: float) -> Leading:
    """Do as `leading` says: `trace` is that of X'X, near 1."""
    rows = moment.rows
    product, space = smaller_side(moment)
    forming = product_radius(moment, trace)
    found = krylov.leading(product, rows.like, space, k, forming)
    u = rounding.unit_roundoff(rows.like)
    radius = found.radius + forming_radius(rows, trace, u)
    kind = f"{rows.known}, {_PROBED}"
    return Leading(found.values, found.vectors, moment, radius, kind)


def smaller_side(moment: SecondMoment) -> tuple[krylov.Product, Space]:
    """Return products with X'QX or QXX'Q, whichever is smaller, and its space."""
    xp, rows, (N, K, P) = moment.xp, moment.rows, moment.rows.shape
    one = rows.work.product

    def over_rows(z: Array) -> Array:
        m = z.shape[1]
        z = rows.gram_times(moment.project(xp.reshape(z, (N, K, m))))
        costs.done(Cost(one) * m)
        return xp.reshape(moment.project(z), (N * K, m))

    def over_columns(v: Array) -> Array:
        costs.done(Cost(one) * v.shape[1])
        return moment.matvec(v)

    product: krylov.Product = over_columns
    space = Space.alone(P)
    if by_rows(rows):
        product, space = over_rows, Space(rows.samples * K, N * K, rows.group)
    # of many columns those of the larger side, N K or P long, would not fit
    step = rows.group.least(ways.columns(max(rows.samples * K, P), rows.like))

    def some_at_a_time(x: Array) -> Array:
        m = x.shape[1]
        parts = (product(x[:, k : min(k + step, m)]) for k in range(0, m, step))
        return backend.concatenate(parts, axis=1)

    return some_at_a_time, space


def with_gram(moment: SecondMoment, products: int) -> SecondMoment:
    """Hold XX' where it fits, and costs less than so many products, beside the rows."""
    if not ways.holds_gram(moment, products):
        return moment
    return replace(moment, rows=WithGram(moment.rows, moment.rows.outer()))


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
