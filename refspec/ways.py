"""Which way a computation takes, and what that costs, as plan and computation ask.

Eigenvalues of X'X come from the parameters (*primal*, P x P), from pivoted rows
(*dual*, r of them), from *products* with X and X' alone, or from products with the
*Gram* matrix XX', held. Here alone is said which is taken when, and what each costs.
"""

from __future__ import annotations

import math

import numpy as np

from refspec import backend, costs, krylov, memory, rounding
from refspec.backend import Array
from refspec.costs import Cost
from refspec.curvature import SecondMoment

#: Pivots at a time, on a device four times as many.
BLOCK = 256
#: Products with X and X' for each of the largest eigenvalues, about.
PRODUCTS = 8
#: Vectors of the space that looks for an eigenvalue that is missing, about.
FURTHER = 128

#: Eigenvectors over the rows at a time, and columns a product, where these fit.
COLUMNS = 8

_NARROW = 8  # random vectors that a Krylov space begins with, at least
_COLUMNS = 2**33  # bytes of the columns of one product, at most
_GRAM = 2**31  # bytes of a Gram matrix that may be held
_VECTORS = 2**30  # bytes of the vectors of probes that run together
_EXPLICIT = 2**28  # bytes of gradients of layers with positions that may be held
_CELLS = 2**10  # whose Gram matrix is formed, whatever else it would take
_INDEPENDENT = 0.75  # of the rows that count: .6 to .8 in trained networks, 1 at random
_COPIES = 2  # of the rows: reduced, and on the way there
_SUMS = 2  # of a row that is a sum, when it is formed: written, and read
#: Passes over the rows meanwhile, and over each block of the factorisation.
PASSES = 12


def primal(moment: SecondMoment, kept: int | None = None) -> bool:
    """Whether parameters are the fewer coordinates of all eigenvalues, or rows.

    kept: the rows that are not left out, if some are.
    """
    return 2 * moment.shape[1] <= (moment.shape[0] if kept is None else kept)


def kept(moment: SecondMoment, leave_out: float) -> int | None:
    """Return how many rows are not left out; None if nothing is to be."""
    if not leave_out:
        return None
    with np.errstate(all="ignore"):  # rows that overflow are refused by the work
        return counting(moment.rows.squares(), leave_out)


def columns(length: int, like: Array) -> int:
    """Return how many columns of so many numbers a product takes at a time.

    Few enough to fit where the rows are, beside them; else as many as a block has.
    """
    least = max(1, min(COLUMNS, _COLUMNS // (8 * length)))
    return max(least, backend.at_a_time(8 * length, like))


def explicit_budget() -> float:
    """Return the bytes of rows of layers with positions that may be held."""
    return memory.budget(_EXPLICIT, 4)


def holds_gram(moment: SecondMoment, products: int) -> bool:
    """Whether XX' fits, and costs less than so many products with X and X'."""
    n, (rows, P) = gram_side(moment), moment.shape
    fits = rows < P and 8 * n * n <= memory.budget(_GRAM, 2)
    return fits and _outer(moment) <= products * moment.rows.work.product


def gram_side(moment: SecondMoment) -> int:
    """Return the side of the Gram matrix that is held: of C - 1 rows a sample."""
    N, K = moment.rows.shape[:2]
    return int(N * (K - 1) if moment.scored and K > 1 else N * K)


def _outer(moment: SecondMoment) -> float:
    """Return the multiplications of that matrix, rows that are sums formed once."""
    part, work = gram_side(moment) / max(1, moment.shape[0]), moment.rows.work
    return work.outer * part * part + work.formed * part


def by_one_space(moment: SecondMoment, k: int) -> bool:
    """Whether one Krylov space of the rows, the cells in it, gives all spectra of them.

    It takes a product for each of more columns than one of these, fewer than all.
    """
    q = (len(moment.offsets) - 1) * moment.weights.shape[1]
    n = moment.rows.samples * moment.weights.shape[1]
    together, each = krylov.vectors(k, q + _NARROW), krylov.vectors(k, _NARROW)
    fits = q + _NARROW <= n < moment.shape[1]
    return fits and together < runs(moment) * each


def products(k: int, times: int = 1) -> int:
    """Return how many products with X and X' the k largest take, several times."""
    return times * PRODUCTS * k


def runs(moment: SecondMoment) -> int:
    """Return how many spectra an attribution takes of rows.

    Those of the whole, of what is within, and of a knock-out a level of means.
    """
    return 5 if moment.weights.shape[1] > 1 else 4


def cells_by_products(moment: SecondMoment, k: int) -> bool:
    """Whether levels of means, too, come from products: C K cells are too many."""
    C, K = len(moment.offsets) - 1, moment.weights.shape[1]
    few = 5 * (PRODUCTS * k + FURTHER)  # of five such spectra
    return K > 1 and moment.projection is None and max(few, _CELLS) < C * K


def counting(squares: Array, leave_out: float = 0.0) -> int:
    """Return how many rows are not small enough to be left out of a factorisation.

    From their squares; together the others are below what rounding does, or have no
    more than a part of the trace.
    """
    xp = backend.namespace(squares)
    ascending = xp.sort(xp.reshape(squares, (-1,)))
    floor = ascending.shape[0] * rounding.unit_roundoff(squares) / 2
    with np.errstate(all="ignore"):  # of huge rows
        trace = xp.sum(ascending)
        unit = ascending / xp.where(trace > 0, trace, trace + 1)
        tail = xp.cumulative_sum(unit if leave_out else unit * unit)
    most = leave_out or floor * floor
    return int(backend.scalar(xp.sum(xp.astype(tail > most, xp.int64))))


def rank(moment: SecondMoment, counting: int | None = None) -> int:
    """Estimate the numerical rank; without a count of rows, the most that it can be."""
    n, P = _reduced(moment), moment.shape[1]
    if counting is None:
        return min(n, P)
    return max(1, min(n, P, math.ceil(_INDEPENDENT * counting)))


def coordinates(moment: SecondMoment, r: int, kept: int | None = None) -> Cost:
    """Return the cost of a moment's fewest coordinates, r of them.

    kept: as in `primal`, here and below.
    """
    work, K = moment.rows.work, moment.weights.shape[1]
    start = Cost(0.0, 2 * PASSES * work.held, _COPIES * work.held)
    start = start.beside(2 * backend.temporary())
    if primal(moment, kept):
        return start + _parameters(moment).beside(2 * work.held)
    n = _reduced(moment)
    part = n / moment.shape[0]
    gram, rest = work.gram * part * part, max(0, n - r)
    pivots = gram * r / n + n * r * (r / 2 + 2 * BLOCK)
    left = gram * rest / (2 * n) + r * rest * rest / 2
    calls, square = r / BLOCK + rest / (4 * BLOCK), rest * rest / 2
    if kept is not None:  # the residual is bounded by its trace
        left, calls, square = 2 * r * r * rest + r**3, r / BLOCK, r * rest
    sums = work.sums if work.sums <= explicit_budget() else 0.0
    passes = 1 if sums else calls
    formed = work.formed * passes
    ends = n * r * (r / 2 + K)
    moved = 8 * PASSES * (n * r + square) + _SUMS * work.sums * passes
    held = 8 * (n * r + 4 * BLOCK * n) + sums
    rows = Cost(pivots + left + formed + ends, moved, held + 8 * 2 * r * r)
    return start + rows.beside(_COPIES * work.held)


def eigenvalues(
    moment: SecondMoment, certify: bool, r: int, kept: int | None = None
) -> Cost:
    """Return the cost of all eigenvalues."""
    found = coordinates(moment, r, kept)
    if certify:
        return found + certificate(moment, r, kept)
    return found + costs.eigenvalues(r).beside(8 * r * r)


def attribution(
    moment: SecondMoment, certify: bool, r: int, kept: int | None = None
) -> Cost:
    """Return the cost of all eigenvalues, attributed."""
    found = coordinates(moment, r, kept)
    basis = costs.eigenvectors(r).beside(8 * r * r)
    found += certificate(moment, r, kept) if certify else basis
    return found + levels(moment, r)


def levels(moment: SecondMoment, r: int) -> Cost:
    """Return the cost of levels and knock-outs, an eigenbasis (r) given."""
    C, K = len(moment.offsets) - 1, moment.weights.shape[1]
    means, cells = (3 if K > 1 else 2), C * K
    turned = Cost(cells * r * r * (1 + means), 8 * 6 * means * r * r)
    without = costs.eigenvalues(r) * (means + 1)
    small = costs.eigenvalues(min(cells, r)) * (means + 2)
    return turned + without.beside(8 * 4 * r * r) + small


def leading(moment: SecondMoment, k: int, levels: bool = False) -> Cost:
    """Return the cost of the k largest eigenvalues, or of these attributed."""
    K, (rows, P), work = moment.weights.shape[1], moment.shape, moment.rows.work
    times = runs(moment) if levels else 1
    held = holds_gram(moment, products(k, times))
    many = levels and cells_by_products(moment, k)
    cells = (len(moment.offsets) - 1) * K
    n, space = min(rows, P), min(rows, P, PRODUCTS * k)
    further = min(rows, P, FURTHER)
    side = float(gram_side(moment))
    one = side**2 if held else work.product
    formed = min(work.sums, 2 * backend.temporary())  # columns of rows that are sums
    matrix = 8.0 * side**2 if held else 0.0

    def run(m: int, checks: int) -> Cost:
        # a third of the orthogonalisation, and residuals of a few more than k
        work = m * one + 3.0 * n * m**2 + checks * (2.0 * m**3 / 3 + 5 * k / 4 * one)
        # room made at once, the eigenvectors beside it, or more room once it is short
        room = max(m, min(n, krylov.vectors(5 * k // 4 + 4, _NARROW)))
        return Cost(work, 8 * 4 * n * m, 8 * n * 2 * room + matrix)

    if levels and by_one_space(moment, k):
        found = (
            run(min(n, krylov.vectors(k, cells + _NARROW)), times)
            + run(further, 0) * times
        )
    else:
        more = 2 if moment.rows.combines else 5  # spectra of levels of means
        found = (run(space, 1) + run(further, 0)) * (times + more * many)
    found += Cost(0.0, 2 * PASSES * work.held)
    if held and _outer(moment):  # not there yet
        found += Cost(_outer(moment), _SUMS * work.sums, 8 * 2 * side**2 + formed)
    if levels:
        seen = 8.0 * rows * min(k, COLUMNS)  # a block over the rows, and on its way
        # traces, if the sums of cells are too many: from pairs within a class, or sums
        fewer = min(K * work.product / 2, work.gram / cells)
        found = found + Cost(fewer if many else 0.0, 0.0, 6 * seen)
    if levels and not many:
        found += Cost(cells * one, 8.0 * cells * (rows + P), 8 * cells**2)
        found += costs.eigenvalues(cells) * (times + 1)
    return found.beside(2 * work.held)


def density(moment: SecondMoment, probes: int, steps: int, several: int = 1) -> Cost:
    """Return the cost of Lanczos quadrature from so many vectors.

    Of a moment, or of several that are projections of it.
    """
    (rows, P), work = moment.shape, moment.rows.work
    n, times = min(rows, P), probes * steps * several
    held = holds_gram(moment, times)
    side = float(gram_side(moment))
    one = side**2 if held else work.product
    together = min(probes, probes_together(n, steps, several, moment.rows.like))
    run = Cost(
        times * (one + 2.0 * n * steps) + (_outer(moment) if held else 0.0),
        2 * PASSES * work.held + (_SUMS * work.sums if held else 0.0),
        8.0 * n * steps * together * several + (8 * side**2 if held else 0),
    )
    return run.beside(2 * work.held)


def probes_together(n: int, steps: int, several: int, like: Array) -> int:
    """Return how many probes of several moments run together, with all their vectors.

    Columns that go through a product together are cheaper; there is room for some.
    """
    one = 8 * n * steps * several
    return max(backend.at_a_time(one, like), memory.budget(_VECTORS, 4) // one, 1)


def expect_held(size: float, r: int) -> None:
    """Refuse to hold more of a factorisation than `refspec.memory.within` allows."""
    said = memory.said()
    if said is not None and size > said:
        raise ValueError(
            f"pivoted rows must fit into {said} bytes, got {size:.0f} at rank {r} and "
            "more to come; ask for the largest eigenvalues alone (top), for a layer, "
            "or give more memory"
        )


def hessian(moment: SecondMoment) -> Cost:
    """Return the cost of the Hessian of the same parameters, formed and attributed."""
    work, P = moment.rows.work, moment.shape[1]
    solved = costs.eigenvectors(P) * 2 + costs.eigenvalues(P)
    # the Fisher's blocks, and as many again of the residual
    return Cost(2 * work.second, 0.0, 8 * 4 * P * P) + solved.beside(8 * 4 * P * P)


def _reduced(moment: SecondMoment) -> int:
    """Return the rows that are factorised: the score identity makes one superfluous."""
    return gram_side(moment) if moment.projection is None else moment.shape[0]


def _parameters(moment: SecondMoment) -> Cost:
    """Return the cost of X'X and of the cells, in the parameters."""
    work, K, P = moment.rows.work, moment.weights.shape[1], moment.shape[1]
    # blocks are unpacked and permuted beside the whole, which is made symmetric
    products = work.second + work.formed + K * work.product / 2
    return Cost(products, _SUMS * work.sums, 8 * 4 * P * P)


def certificate(moment: SecondMoment, r: int, kept: int | None = None) -> Cost:
    """Return the cost of an eigenbasis as coordinates, and of measuring its errors."""
    n, work = moment.shape[0], moment.rows.work
    measured = 1.5 * work.gram + 1.5 * n * n * r + n * r * r  # in halves of numbers
    if primal(moment, kept):  # formed once more, in halves of numbers, then turned
        measured = 3 * _parameters(moment).products + 3.0 * r**3
        return costs.eigenvectors(r) + Cost(measured, 8.0 * r * r, 8 * 6 * r * r)
    return costs.eigenvectors(r) + Cost(measured, 8.0 * n * n, 8 * 4 * n * r)
