r"""The second moment of all samples, from those of shards.

Rows of disjoint sets of samples lie in one space of P parameters. So X v is a piece
from every shard, and X'z the sum of theirs: a shard sees its part of z and V as a
whole, and nothing else goes between those who hold them. Samples are put in the order
of classes, those of a shard in its own order, so that of any range of samples each
shard has a range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from refspec import backend, checks, memory, rounding
from refspec.backend import Array
from refspec.curvature import SecondMoment
from refspec.differentiated import NetworkMoment
from refspec.factors import Factor, Factors
from refspec.rows import Derived, Rows, Scaled, Work
from refspec.shards.journal import Journal
from refspec.shards.workers import Here, Source, Together, Workers
from refspec.spaces import Group
from refspec.text import visible

#: Bytes of all rows that may be held: shards would be made anew for every few of them.
_HELD = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What is known of a shard without its rows.

    weights (n, K) on the host; zero: of the namespace, dtype and device of the shard,
    or of the host, where shards are held by other processes.
    """

    weights: np.ndarray
    offsets: tuple[int, ...]
    parameters: int
    scored: bool
    forming: float
    known: str
    roundings: int
    products: int
    work: Work
    zero: Array
    blocks: tuple[tuple[str, int], ...]
    left_out: tuple[tuple[str, int], ...]


def facts(moment: SecondMoment) -> Facts:
    """Return what is known of a shard without its rows."""
    rows = moment.rows
    return Facts(
        backend.to_host(moment.weights),
        moment.offsets,
        rows.shape[2],
        moment.scored,
        rows.forming(),
        rows.known,
        rows.roundings,
        rows.products,
        rows.work,
        moment.weights[:0, :],
        getattr(moment, "blocks", ()),
        getattr(moment, "left_out", ()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Sharded(Rows):
    """Rows over disjoint sets of samples, held by others.

    Parameters
    ----------
    workers : Workers
        Who hold the shards.
    facts : tuple of Facts
        Of every shard.
    roots : tuple of float
        Square roots of the shares of the shards in the joined weights.
    places : tuple of array of int
        Where the samples of every shard are among all; ascending.
    zero : Array
        Of the namespace, dtype and device of every result.
    window : tuple of int
        First sample, and the one after the last.
    journal : Journal, optional
        Where products are kept, for a run that goes on after this one.
    lengths : dict of int to array
        ||x||^2 of every shard's rows, once they were asked for: of all windows the
        same, and not worth a second pass over the shards.

    Notes
    -----
    Theory: theory/curvature.md#C9.
    """

    workers: Workers
    facts: tuple[Facts, ...]
    roots: tuple[float, ...]
    places: tuple[np.ndarray, ...]
    zero: Array
    window: tuple[int, int]
    journal: Journal | None = None
    lengths: dict[int, Array] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """N samples, K cross classes, P columns."""
        i, j = self.window
        return j - i, self.facts[0].weights.shape[1], self.facts[0].parameters

    @property
    def like(self) -> Array:
        """An array of the namespace, dtype and device of every result."""
        return self.zero

    @property
    def roundings(self) -> int:
        """How many roundings an entry of XX' suffers at most, its rows given."""
        return max(x.roundings for x in self.facts) + 8

    @property
    def products(self) -> int:
        """How many roundings an entry of X(X'z) suffers at most, its rows given."""
        most = max(x.products for x in self.facts)
        return max(most, self.shape[0] * self.shape[1]) + len(self.facts) + 8

    @property
    def work(self) -> Work:
        """What the rows take, and products with them: a row of XX' takes a product."""
        total, (N, K, _) = Work.total(x.work for x in self.facts), self.shape
        return replace(total, gram=N * K * total.product)

    @property
    def known(self) -> str:
        """How the error made in forming the rows is known."""
        return " and ".join(sorted({x.known for x in self.facts}))

    def forming(self) -> float:
        """Bound ||fl(X) - X||_F from those of the shards."""
        return math.hypot(
            *(r * x.forming for r, x in zip(self.roots, self.facts, strict=True))
        )

    def part(self, i: int, j: int) -> Sharded:
        """Return the rows of samples i to j."""
        first = self.window[0]
        return replace(self, window=(first + i, first + j), journal=None)

    def times(self, power: int) -> Rows:
        """Return the rows times 2^power, exactly."""
        roots = [math.ldexp(r, power) for r in self.roots if abs(power) < 2**9]
        if len(roots) < len(self.roots) or not all(r > 2.0**-999 for r in roots):
            return Scaled(self, power)
        return replace(self, roots=tuple(roots))

    def in_pieces(self) -> tuple[Rows, np.ndarray | None]:
        """Return this process's rows alone, and which samples they are of."""
        held = self.workers
        if not isinstance(held, Together) or self.window != (0, self._all):
            return self, None
        own = (0, held.moment.rows.shape[0])
        return Piece(self, held, own), self.places[held.rank]

    @property
    def _all(self) -> int:
        """How many samples there are, in the window or not."""
        return sum(map(len, self.places))

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m)."""
        return self._gathered(V)

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m)."""
        return _beside(self.workers.brought(self._summed(Z)), self.zero)

    def gram_times(self, Z: Array) -> Array:
        """Return X X'Z, (N, K, m): X'Z need not come here."""

        def made() -> Array:
            return self._gathered(self._summed(Z))

        if self.journal is None:
            return made()
        return self.journal.kept(f"XX' {self.roots}", Z, made)

    def second_times(self, V: Array) -> Array:
        """Return X'X V, shape (P, m): every shard both ways at once."""

        def made() -> Array:
            total = self.workers.total(_second_times, self._asked(V))
            return _beside(self.workers.brought(total), self.zero)

        if self.journal is None:
            return made()
        return self.journal.kept(f"X'X {self.roots}", V, made)

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, (m, P)."""
        K = self.shape[1]
        host = np.asarray(backend.to_host(index))
        samples, own = host // K + self.window[0], host % K
        given: list[tuple[Any, ...] | None] = []
        order = []
        for places, root in zip(self.places, self.roots, strict=True):
            mine = np.flatnonzero(np.isin(samples, places))
            local = np.searchsorted(places, samples[mine]) * K + own[mine]
            given.append((local, root) if len(mine) else None)
            order.append(mine)
        return self._ordered(self.workers.each(_take, given), order)

    def squares(self) -> Array:
        """Return ||x||^2 of every row, shape (N, K)."""
        windows = self._windows()
        new = [w is not None and k not in self.lengths for k, w in enumerate(windows)]
        if any(new):
            made = self.workers.each(_lengths, [() if x else None for x in new])
            self.lengths.update(zip(np.flatnonzero(new).tolist(), made, strict=True))
        parts = [
            self.lengths[k][slice(*w), :] * root * root
            for k, (w, root) in enumerate(zip(windows, self.roots, strict=True))
            if w is not None
        ]
        return self._ordered(parts, self._order())

    def sums(self, unit: Array, offsets: tuple[int, ...]) -> Array:
        """Return sum_i u_{ic'} x_{ic'} over every class, (C, K, P), in one pass."""
        made = self.workers.total(_sums, self._by_class(unit, offsets))
        return _beside(self.workers.brought(made), self.zero)

    def scores(self, unit: Array, offsets: tuple[int, ...]) -> float:
        """Return the trace that `reduced` rows leave out, sum_i ||u_i'X_i||^2."""
        return float(sum(self.workers.each(_scores, self._by_class(unit, offsets))))

    def _by_class(
        self, unit: Array, offsets: tuple[int, ...]
    ) -> list[tuple[Any, ...] | None]:
        """Return what every shard is asked with: its entries, and its classes."""
        given: list[tuple[Any, ...] | None] = []
        order, ends = iter(self._order()), np.asarray(offsets) + self.window[0]
        for asked, places in zip(self._asked(), self.places, strict=True):
            if asked is None:
                given.append(None)
                continue
            chosen = backend.from_host(next(order), unit)
            own = tuple((np.searchsorted(places, ends) - asked[0]).tolist())
            given.append((*asked, self.xp.take(unit, chosen, axis=0), own))
        return given

    def explicit(self, budget: float) -> Rows:
        """Return all rows from one pass, where they lie here and can be held."""
        N, K, P = self.shape
        size = N * K * P * backend.itemsize(self.like)
        most = max(budget, memory.budget(_HELD, 2))
        if not isinstance(self.workers, Here) or size > most:
            return self
        every = self.xp.arange(N * K, device=backend.device(self.like))
        rows = self.xp.reshape(self.take(every), (N, K, 1, P))
        # factors round the products that are their rows later, in the Gram matrix
        rounded = rounding.gamma(8, rounding.unit_roundoff(rows))
        lost = self.forming() + rounded * math.sqrt(self.trace())
        return Factors((Factor(rows, None),), lost, self.known)

    def second(self) -> Array:
        """Return X'X, shape (P, P): the sum of those of the shards."""
        total = self.workers.total(_second, self._asked())
        return _beside(self.workers.brought(total), self.zero)

    def _windows(self) -> list[tuple[int, int] | None]:
        """Return which of its samples, of every shard, are in the window."""
        ends = (np.searchsorted(x, self.window) for x in self.places)
        return [(int(i), int(j)) if i < j else None for i, j in ends]

    def _asked(self, *arguments: Any) -> list[tuple[Any, ...] | None]:
        """Return what every shard is asked with: its samples, its root, and these."""
        return [
            None if w is None else (*w, root, *arguments)
            for w, root in zip(self._windows(), self.roots, strict=True)
        ]

    def _order(self) -> list[np.ndarray]:
        """Return where the samples in the window of every shard are in it."""
        return [
            x[slice(*w)] - self.window[0]
            for x, w in zip(self.places, self._windows(), strict=True)
            if w is not None
        ]

    def _gathered(self, V: Any) -> Array:
        """Return X V from the pieces of the shards."""
        return self._ordered(self.workers.each(_dot, self._asked(V)), self._order())

    def _summed(self, Z: Array) -> Any:
        """Return X'Z where its sum is made."""
        given: list[tuple[Any, ...] | None] = []
        order = iter(self._order())
        for w, root in zip(self._windows(), self.roots, strict=True):
            if w is None:
                given.append(None)
                continue
            chosen = backend.from_host(next(order), Z)
            given.append((*w, root, self.xp.take(Z, chosen, axis=0)))
        return self.workers.total(_cross, given)

    def _ordered(self, parts: list[Any], order: list[np.ndarray]) -> Array:
        """Return parts along axis 0 in the order of samples, beside `like`."""
        xp = self.xp
        some = [x for x in order if len(x)]
        back = np.argsort(np.concatenate(some), kind="stable")
        every = backend.concatenate(_beside(x, self.zero) for x in parts)
        return xp.take(every, backend.from_host(back, self.zero), axis=0)


@dataclass(frozen=True, slots=True, eq=False)
class Piece(Derived):
    """Of rows that a group of processes holds a shard of each, those of this one.

    Parameters
    ----------
    rows : Sharded
        Of all.
    held : Together
        Who hold them.
    own : tuple of int
        First sample of this process's shard, and the one after the last.

    Notes
    -----
    Theory: theory/curvature.md#C9. Arrays over the rows are pieces of those of all, and
    each process keeps its own; X'Z is summed up over all of them.
    """

    rows: Sharded
    held: Together
    own: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """N samples, K cross classes, P columns."""
        return self.own[1] - self.own[0], *self.rows.shape[1:]

    @property
    def group(self) -> Group:
        """Who else has rows of the same kind."""
        return self.held

    @property
    def work(self) -> Work:
        """What the rows take: their Gram matrix is never held."""
        return replace(self.rows.work, gram=math.inf)

    def in_pieces(self) -> tuple[Rows, np.ndarray | None]:
        """Return the same rows: they are in pieces."""
        return self, None

    def part(self, i: int, j: int) -> Piece:
        """Return the rows of samples i to j."""
        return replace(self, own=(self.own[0] + i, self.own[0] + j))

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m)."""
        if self.own[0] == self.own[1]:
            return self._zeros(*self.shape[:2], V.shape[1])
        return _beside(_dot(*self._asked(V)), self.like)

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m), of the rows of all."""
        if self.own[0] == self.own[1]:
            mine = self._zeros(self.shape[2], Z.shape[2])
        else:
            mine = _beside(_cross(*self._asked(Z)), self.like)
        return self.held.added(mine)

    def squares(self) -> Array:
        """Return ||x||^2 of every row, shape (N, K)."""
        return _beside(_squares(*self._asked()), self.like)

    def take(self, index: Array) -> Array:  # noqa: ARG002 whatever rows they are
        """Refuse what needs rows of all processes at once."""
        raise ValueError(
            "rows in pieces are known to other processes by products alone, got a call "
            "for rows themselves; ask for the largest eigenvalues (top) or a density, "
            "or take the moment that is not in pieces"
        )

    def times(self, power: int) -> Rows:
        """Return the rows times 2^power, exactly."""
        made = self.rows.times(power)
        if isinstance(made, Sharded):
            return replace(self, rows=made)
        return Scaled(self, power)

    def balanced(self) -> tuple[Rows, int]:
        """Return rows that can be squared without overflow, and the power they lost."""
        power = self.rows.balanced()[1]  # that of all rows, wherever they are
        return (self.times(-power) if power else self), power

    def _asked(self, *arrays: Any) -> tuple[Any, ...]:
        """Return what a task on this process's shard takes."""
        return self.held.moment, *self.own, self.rows.roots[self.held.rank], *arrays

    def _zeros(self, *shape: int) -> Array:
        device = backend.device(self.like)
        return self.xp.zeros(shape, dtype=self.like.dtype, device=device)


def joined(
    shards: Sequence[Source] | Workers,
    *,
    shares: Sequence[float] | None = None,
    journal: str | Path | None = None,
) -> SecondMoment:
    r"""Return the second moment of all samples, whose shards lie apart.

    Parameters
    ----------
    shards : sequence of SecondMoment, or of functions that make one; or Workers
        Of disjoint sets of samples, with the same P parameters, K and C. A sequence is
        held by this process, functions make their shard when it is needed.
    shares : sequence of float, optional
        Of the joined weights, one a shard, positive and of sum 1; by default in
        proportion to the numbers of samples, so that all weigh the same.
    journal : path, optional
        A folder that keeps every product, for a run that takes the place of one that
        was ended: it goes on where that one was.

    Returns
    -------
    SecondMoment
        :math:`\sum_k a_k X_k'X_k`, a the shares: for `spectrum`, `attribute` (``top=``)
        and `density`, as any other.

    Raises
    ------
    TypeError
        If a shard is no second moment.
    ValueError
        If shards do not fit together, or shares are not as said.
    OSError
        If the journal cannot be written.

    Notes
    -----
    Theory: theory/curvature.md#C9. A product with XX' sends m columns of length P to
    every shard and back, and N K m numbers here; memory here O(N K k) for the k
    largest eigenvalues.

    Examples
    --------
    >>> import numpy as np
    >>> import refspec
    >>> def moment(seed):
    ...     rng = np.random.default_rng(seed)
    ...     layer = refspec.Layer(
    ...         "fc", rng.normal(size=(4, 1, 3)), rng.normal(size=(4, 2, 1, 2))
    ...     )
    ...     s = refspec.snapshot([layer], [0, 0, 1, 1], logits=rng.normal(size=(4, 2)))
    ...     return refspec.fisher(s)
    >>> two = [moment(0), lambda: moment(1)]
    >>> whole = joined(two)
    >>> whole.shape
    (16, 6)
    >>> round(whole.trace() / (two[0].trace() + two[1]().trace()), 6)
    0.5
    """
    workers = shards if isinstance(shards, Workers) else Here(shards)
    every = tuple(workers.each(facts, [()] * workers.count))
    _expect_alike(every)
    share = _shares(shares, every)
    sizes = np.asarray([np.diff(x.offsets) for x in every])  # (shards, C)
    offsets = (0, *np.cumsum(np.sum(sizes, axis=0)).tolist())
    # by class, then by shard, then as in the shard
    owner = np.repeat(np.tile(np.arange(len(every)), sizes.shape[1]), sizes.T.ravel())
    places = tuple(np.flatnonzero(owner == k) for k in range(len(every)))
    weights = np.concatenate(
        [a * x.weights for a, x in zip(share, every, strict=True)]
    )[np.argsort(np.concatenate(places), kind="stable")]
    weights = backend.from_host(weights, every[0].zero)
    rows = Sharded(
        workers,
        every,
        tuple(float(x) for x in np.sqrt(share)),
        places,
        weights[:0, :],
        (0, len(owner)),
    )
    if journal is not None:  # told from other moments by the lengths of its rows
        lengths = backend.to_host(rows.squares())
        about = backend.to_host(weights), np.asarray(offsets), lengths
        rows = replace(rows, journal=Journal(Path(journal), *about))
    first = every[0]
    made: dict[str, Any] = {"scored": first.scored}
    if first.blocks:
        made |= {"blocks": first.blocks, "left_out": first.left_out}
    kind = NetworkMoment if first.blocks else SecondMoment
    return kind(rows, weights, offsets, **made)


def _shares(shares: Sequence[float] | None, every: tuple[Facts, ...]) -> np.ndarray:
    """Return the share of every shard in the joined weights."""
    sizes = np.asarray([x.weights.shape[0] for x in every], dtype=np.float64)
    if shares is None:
        return sizes / np.sum(sizes)
    given = checks.host_array(
        "shares", shares, "(shards,)", sizes={"shards": len(every)}
    )
    if not np.all(given > 0):
        raise ValueError(
            f"shares must be positive, got {np.min(given):.3g}; leave out the shards "
            "that weigh nothing"
        )
    checks.expect_sum_one("shares", given, 0)
    return given


def _expect_alike(every: tuple[Facts, ...]) -> None:
    """Refuse shards of different parameters, classes or rows."""
    first = every[0]
    for k, x in enumerate(every[1:], start=1):
        for what, one, other in (
            ("P parameters", first.parameters, x.parameters),
            ("K rows a sample", first.weights.shape[1], x.weights.shape[1]),
            ("C classes", len(first.offsets) - 1, len(x.offsets) - 1),
            ("the dtype", str(first.weights.dtype), str(x.weights.dtype)),
            ("the parameters' names and sizes", first.blocks, x.blocks),
            ("scored", first.scored, x.scored),
        ):
            if one != other:
                raise ValueError(
                    f"shards must have {what} in common, got {visible(one)} in shard 0 "
                    f"and {visible(other)} in shard {k}; join second moments of one "
                    "kind of one network"
                )


def _beside(x: Any, like: Array) -> Array:
    """Return an array in the namespace of `like`, on its device."""
    if type(x) is type(like):
        return x
    return backend.from_host(backend.to_host(x), like)


def _part(moment: SecondMoment, i: int, j: int) -> Rows:
    """Return the rows of samples i to j, of all where those are all."""
    rows = moment.rows
    return rows if (i, j) == (0, rows.shape[0]) else rows.part(i, j)


def _dot(moment: SecondMoment, i: int, j: int, root: float, V: Any) -> Array:
    return _part(moment, i, j).dot(_beside(V, moment.weights)) * root


def _cross(moment: SecondMoment, i: int, j: int, root: float, Z: Any) -> Array:
    return _part(moment, i, j).cross(_beside(Z, moment.weights) * root)


def _second_times(moment: SecondMoment, i: int, j: int, root: float, V: Any) -> Array:
    rows = _part(moment, i, j)
    return rows.second_times(_beside(V, moment.weights) * root) * root


def _second(moment: SecondMoment, i: int, j: int, root: float) -> Array:
    return _part(moment, i, j).second() * root * root


def _squares(moment: SecondMoment, i: int, j: int, root: float) -> Array:
    return _part(moment, i, j).squares() * root * root


def _lengths(moment: SecondMoment) -> Array:
    return moment.rows.squares()


def _sums(
    moment: SecondMoment,
    i: int,
    j: int,
    root: float,
    unit: Any,
    offsets: tuple[int, ...],
) -> Array:
    return _part(moment, i, j).sums(_beside(unit, moment.weights) * root, offsets)


def _scores(
    moment: SecondMoment,
    i: int,
    j: int,
    root: float,
    unit: Any,
    offsets: tuple[int, ...],
) -> float:
    rows = _part(moment, i, j)
    return rows.scores(_beside(unit, moment.weights), offsets) * root * root


def _take(moment: SecondMoment, index: np.ndarray, root: float) -> Array:
    return moment.rows.take(backend.from_host(index, moment.weights)) * root
