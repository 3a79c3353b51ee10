"""Rows whose Gram matrix XX' is held: over the rows nothing else need be known of them.

Where all questions are about vectors over the rows (the largest eigenvalues, their
shares, densities), one symmetric matrix answers them, and rows are not touched again.
Scores vanish, so that C - 1 rows a sample are enough: XX' = R'YY'R, with Y the reduced
rows and R the reflections, without their last rows, that make Y = RX.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from refspec import backend, rounding
from refspec.backend import Array
from refspec.curvature import SecondMoment, unit_weights, vanishing_scores
from refspec.differentiated import FEWER, images_radius, probes, product_beside
from refspec.layerwise import Layerwise
from refspec.rows import Derived, Rows, Scaled, Work, fewer, whole


@dataclass(frozen=True, slots=True, eq=False)
class WithGram(Derived):
    """Rows X whose XX' is held, or YY' of C - 1 rows a sample in place of C.

    Parameters
    ----------
    rows : Rows
        Shape (N, K, P).
    held : Array, shape (N K, N K) or (N (K - 1), N (K - 1))
        Of these rows.
    power : int
        What is held is of 2^-power times `rows`, of which no copy is made.
    unit : Array, shape (N, K), or None
        Of the reflections, if YY' is held.
    offsets : tuple of int, length C + 1
        Where the classes begin and end, if YY' is held.
    rounded : int, or None
        How many roundings an entry of what is held suffers at most, its rows given;
        None: as of `rows`.
    lost : float, or None
        The error made in forming the rows that what is held is of; None: as of `rows`.
    apart : float
        Bound on ||XX' - R'YY'R|| of `rows` besides.

    Notes
    -----
    Theory: theory/curvature.md#C11.
    """

    held: Array
    power: int = 0
    unit: Array | None = None
    offsets: tuple[int, ...] = ()
    rounded: int | None = None
    lost: float | None = None
    apart: float = 0.0

    def squared_sums(self, unit: Array, offsets: tuple[int, ...]) -> Array:
        """Return ||sum_i u_{ic'} x_{ic'}||^2 over every class, (C, K)."""
        return self.rows.squared_sums(unit, offsets)

    def gram_times(self, Z: Array) -> Array:
        """Return XX'Z, shape (N, K, m): R'(YY'(RZ)) if YY' is held."""
        Y = Z if self.unit is None else fewer(Z, self.unit, self.offsets)
        flat = self.xp.reshape(Y, (-1, Y.shape[2]))
        # Z'XX', as XX' is symmetric: faster with BLAS where Z has few columns
        made = self.xp.matrix_transpose(self.xp.matrix_transpose(flat) @ self.held)
        made = self.xp.reshape(self._up(made), Y.shape)
        return made if self.unit is None else whole(made, self.unit, self.offsets)

    def squares(self) -> Array:
        """Return ||x||^2 of every row, shape (N, K): the diagonal of XX'."""
        xp, (N, K, _) = self.xp, self.shape
        if self.unit is None:
            found = xp.reshape(xp.linalg.diagonal(self.held), (N, K))
        else:  # of R_i'(YY')_ii R_i
            own = self._of_samples()
            for _ in range(2):
                own = xp.matrix_transpose(whole(own, self.unit, self.offsets))
            found = xp.linalg.diagonal(own)
        return self._up(xp.clip(found, min=0.0))

    def _of_samples(self) -> Array:
        """Return the blocks of what is held on its diagonal, (N, K - 1, K - 1)."""
        N, k = self.shape[0], self.shape[1] - 1
        within = np.arange(k)[:, None] * N * k + np.arange(k)
        places = np.arange(N)[:, None] * k * (N * k + 1) + within.ravel()
        index = backend.from_host(places.ravel(), self.held)
        flat = self.xp.reshape(self.held, (-1,))
        return self.xp.reshape(self.xp.take(flat, index, axis=0), (N, k, k))

    def gram(self, index: Array, first: int = 0) -> Array:
        """Return chosen rows of XX', (m, (N - first) K), from sample `first` on."""
        xp, (N, K, _) = self.xp, self.shape
        if self.unit is None:
            return self._up(xp.take(self.held[:, first * K :], index, axis=0))
        every = xp.arange(N * K, device=backend.device(self.held))
        chosen = xp.astype(every[:, None] == index[None, :], self.held.dtype)
        rows = self.gram_times(xp.reshape(chosen, (N, K, -1)))[first:, ...]
        return xp.matrix_transpose(xp.reshape(rows, ((N - first) * K, -1)))

    def times(self, power: int) -> WithGram:
        """Return the rows times 2^power, exactly; what is held is the same."""
        rows = self.rows if isinstance(self.rows, Scaled) else Scaled(self.rows, 0)
        return replace(self, rows=rows.times(power), power=self.power + power)

    def in_pieces(self) -> tuple[Rows, np.ndarray | None]:
        """Return this process's rows alone, without what is held of all of them."""
        rows, mine = self.rows.in_pieces()
        return (self, None) if mine is None else (rows, mine)

    @property
    def widest(self) -> int:
        """How many numbers a product with XX' makes of a column, at most."""
        return self.samples * self.shape[1]

    def _up(self, x: Array) -> Array:
        """Multiply what is held by 4^power, in two steps: that may not fit."""
        return x * 2.0**self.power * 2.0**self.power if self.power else x

    @property
    def products(self) -> int:
        """How many roundings an entry of XX'z suffers at most, its rows given."""
        K, n = self.shape[1], int(self.held.shape[0])
        made = self.rows.roundings if self.rounded is None else self.rounded
        return made + n + 2 + (0 if self.unit is None else 2 * (2 * K + 8))

    @property
    def work(self) -> Work:
        """What the rows take, and products with XX', which is there."""
        made = {"gram": 0.0, "formed": 0.0, "sums": 0.0}
        return replace(self.rows.work, product=float(self.held.shape[0]) ** 2, **made)

    def forming(self) -> float:
        """Bound the error made in forming the rows that what is held is of."""
        if self.lost is None:
            return self.rows.forming()
        return math.ldexp(self.lost, self.power)

    @property
    def off(self) -> float:
        """Bound how far XX' is from what is held, apart from rounding."""
        return math.ldexp(self.apart, 2 * self.power)


def held(moment: SecondMoment) -> WithGram:
    """Form XX' of a moment's rows, of C - 1 a sample where scores vanish, and hold it.

    What is left out, and what gathering layer by layer may have got wrong, is bounded.
    Theory: theory/curvature.md#C11.
    """
    rows, each = moment.rows, isinstance(moment.rows, Layerwise)
    # scores layer by layer are not known before: they are in what is measured
    dropped = 0.0 if each and moment.scored else _left_out(moment)
    unit = None if dropped is None else unit_weights(moment)
    gram, rounded, lost = None, [], [0.0]
    for some in rows.by_columns(unit, moment.offsets):
        gram = some.outer(gram)
        if not each:
            rounded.append(some.roundings)
            lost.append(some.forming())
        del some  # or it is there beside the next
    made = WithGram(rows, gram, unit=unit, offsets=moment.offsets)
    apart = dropped or 0.0
    apart += 2 * math.sqrt(apart * made.trace())
    if isinstance(rows, Layerwise):
        apart += _measured(rows, made)
        return replace(made, rounded=0, lost=rows.lost, apart=apart)
    most = max(rounded) + len(rounded)
    return replace(made, rounded=most, lost=math.hypot(*lost), apart=apart)


def _left_out(moment: SecondMoment) -> float | None:
    """Return the trace that C - 1 rows a sample leave out; None if that counts.

    Of a level as of the whole, whose rows they are.
    """
    return vanishing_scores(replace(moment, projection=None))


def _measured(rows: Rows, made: Rows) -> float:
    """Bound how far XX' is from what products with X and X' say; refuse what is not it.

    Theory: theory/rounding.md#B6.
    """
    N, K, _ = rows.shape
    Z = np.reshape(probes(0, N * K, FEWER), (N, K, -1))
    one, two = (product_beside(x.gram_times, Z, rows.like) for x in (made, rows))
    u = rounding.unit_roundoff(rows.like)
    return images_radius(one, two, u, "XX' layer by layer and X(X'z)")
