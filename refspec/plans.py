"""What a computation will take, said before it begins.

The costs are those by which the computation itself chooses its way (`refspec.ways`);
they become seconds by what this machine is measured to do, in a few milliseconds, when
first asked. A plan sees sizes only: those of a file come from its headers. What makes
it an estimate is the numerical rank, the one size that nobody knows before the work.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from refspec import backend, checks, memory, ways
from refspec.backend import Array
from refspec.classes import Layer, OutputLayer, Snapshot
from refspec.costs import Cost
from refspec.curvature import SecondMoment, weighted_rows
from refspec.differentiated import MODULES, NetworkMoment, by_module, module_of
from refspec.export import sizes as stored
from refspec.factors import Factor, Factors
from refspec.output import OutputRows, side_by_side
from refspec.results import Result, View

#: What there is a plan of.
WHAT = (
    *("attribute", "spectrum", "density", "densities", "hessian"),
    *("kfac", "verify", "claims", "report"),
)

_COUNTED = ("density", "densities")  # no eigenvalue is found
# How many attributions of the whole and of every layer's moments the commands come to
# that ask much of one network, counted in products on the embedded ones: .8 to 1.1,
# .6 to 3.4, and 2.2 to 4.1; a comparison of a layer's products, .04 to 1.1 of its.
_TIMES = {"verify": 1.0, "claims": 1.5, "report": 3.0, "kfac": 0.5}
# The same of the largest eigenvalues alone: .6 to 1.3 of verify, .5 to 1.7 of claims.
_TIMES_OF_TOP = _TIMES | {"verify": 0.6, "claims": 0.7}
_SUGGESTED = 20  # eigenvalues, where all do not fit
_LEFT_OUT = 1e-6  # of the trace, likewise


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One piece of work: what it is about, by which way, and its cost."""

    title: str
    way: str
    cost: Cost


@dataclass(frozen=True, slots=True, eq=False)
class Plan(Result):
    """What a computation will take.

    Parameters
    ----------
    what : str
        One of `refspec.plans.WHAT`.
    parts : tuple of Part
        One after the other.
    given : int
        Bytes of the data themselves.
    memory : int
        Bytes that all of it may take.
    pace : tuple of float
        Multiplications and bytes a second, as measured.
    bounded : bool
        Whether the rank is the most that it can be: the rows were not looked at.
    advice : str
        What would fit, if this does not.
    """

    what: str
    parts: tuple[Part, ...]
    given: int
    memory: int
    pace: tuple[float, float]
    bounded: bool
    advice: str

    def __repr__(self) -> str:
        """Say the way, the time and the memory."""
        return f"Plan({self.sentence()})"

    def view(self) -> View:
        """Give the way, the time and the memory of every part."""
        columns = {
            "way": [x.way for x in self.parts],
            "seconds": [self.time_of(x.cost) for x in self.parts],
            "bytes": [x.cost.held for x in self.parts],
        }
        facts = {"seconds": self.seconds, "bytes": self.bytes, "memory": self.memory}
        return View("part", [x.title for x in self.parts], columns, facts=facts)

    @property
    def seconds(self) -> float:
        """Estimated time of all parts, on this machine."""
        return sum(self.time_of(x.cost) for x in self.parts)

    @property
    def bytes(self) -> int:
        """Estimated memory at its peak, the data included."""
        return self.given + int(max(x.cost.held for x in self.parts))

    @property
    def products(self) -> float:
        """Multiplications in matrix products."""
        return sum(x.cost.products for x in self.parts)

    @property
    def fits(self) -> bool:
        """Whether the estimate is within the memory."""
        return self.bytes <= self.memory

    def time_of(self, cost: Cost) -> float:
        """Return the estimated time of a cost."""
        return cost.products / self.pace[0] + cost.moved / self.pace[1]

    def sentence(self) -> str:
        """Return the way, the time and the memory in a line."""
        found = list(dict.fromkeys(x.way for x in self.parts))
        most = "at most " if self.bounded else "about "
        return (
            f"{self.what}: {', '.join(found)}; {most}{_time(self.seconds)}, "
            f"{_size(self.bytes)} of {_size(self.memory)}, {self.products:.1e} products"
        )

    def document(self) -> dict[str, Any]:
        """Return it as plain data."""
        parts = [
            {
                "title": x.title,
                "way": x.way,
                "seconds": self.time_of(x.cost),
                "bytes": x.cost.held,
            }
            for x in self.parts
        ]
        return {
            "what": self.what,
            "seconds": self.seconds,
            "bytes": self.bytes,
            "memory": self.memory,
            "fits": self.fits,
            "bounded": self.bounded,
            "products": self.products,
            "advice": self.advice,
            "parts": parts,
        }

    def repeated(self, times: int) -> Plan:
        """Return the plan of doing all of it so often, one after the other."""
        parts = (replace(x, cost=x.cost * times) for x in self.parts)
        return replace(self, parts=tuple(parts))

    def expect_room(self) -> Plan:
        """Refuse what does not fit, saying what would; return the plan."""
        if not self.fits:
            raise ValueError(
                f"{self.what} must fit into {_size(self.memory)} of memory, got a plan "
                f"of {_size(self.bytes)} ({self.parts[0].way}); {self.advice}"
            )
        return self


@dataclass(frozen=True, slots=True, eq=False)
class _Sizes:
    """What a plan sees of data: N, C, layers (T, a, b) by name, and bytes of all.

    output: layers whose errors are not held; like: an array of their dtype and device;
    counting tells of a moment which part of its rows counts.
    """

    N: int
    C: int
    layers: dict[str, tuple[int, int, int]]
    output: frozenset[str]
    like: Array
    given: int
    counting: Callable[[str, Sequence[str], float], float | None]

    def only(self, names: Sequence[str]) -> _Sizes:
        """Return some of the layers."""
        kept = {n: self.layers[n] for n in names}
        part = sum(map(self._row, kept.values())) / sum(
            map(self._row, self.layers.values())
        )
        return replace(self, layers=kept, given=int(self.given * part))

    def fewer(self, N: int) -> _Sizes:
        """Return fewer samples."""
        return replace(self, N=N, given=int(self.given * N / self.N))

    def _row(self, layer: tuple[int, int, int]) -> int:
        T, a, b = layer
        return T * (a + self.C * b)

    def moment(self, of: str, names: Sequence[str]) -> SecondMoment:
        """Return a moment of these sizes that holds no numbers."""
        N, K = self.N, 1 if of == "features" else self.C
        factors: list[Factor | OutputRows] = []
        for n in names:
            T, a, b = self.layers[n]
            if n in self.output and of != "features":
                p = self._none(N, K)
                wide = a if of == "fisher" else 1
                factors.append(OutputRows(p, p, p, self._none(N, wide)))
            elif of == "fisher":
                factors.append(Factor(self._none(N, K, T, b), self._none(N, T, a)))
            else:
                factors.append(Factor(self._none(N, K, T, a if K == 1 else b), None))
        ends = [N * c // self.C for c in range(self.C + 1)]
        weights = self._none(N, K)
        rows = side_by_side(factors)
        return SecondMoment(rows, weights, tuple(ends), scored=K > 1)

    def _none(self, *shape: int) -> Array:
        """Return an array of this shape that takes no memory."""
        kind = np.dtype(f"f{backend.itemsize(self.like)}")
        return _nothing(shape, np.zeros((), kind))

    def cost(
        self,
        what: str,
        of: str,
        names: Sequence[str],
        top: int | None,
        certify: bool,
        leave_out: float,
    ) -> tuple[str, Cost]:
        """Return the way and the cost of one moment."""
        moment = self.moment(of, names)

        def count() -> int | None:
            part = self.counting(of, names, leave_out)
            return None if part is None else int(part * moment.shape[0])

        way, cost = _of_moment(moment, what, top, certify, count, leave_out)
        return way, cost.beside(moment.rows.work.held)  # the moment itself


def plan(
    subject: Snapshot | SecondMoment | str | os.PathLike[str],
    *,
    what: str = "attribute",
    of: str = "fisher",
    layers: Sequence[str] | None = None,
    top: int | None = None,
    certify: bool = False,
    leave_out: float = 0.0,
    memory_limit: int | None = None,
) -> Plan:
    """Say which way a computation takes, and its time and memory, before it begins.

    Parameters
    ----------
    subject : Snapshot, SecondMoment or path
        Of a file the headers alone are read.
    what : str
        One of `refspec.plans.WHAT`.
    of : {"fisher", "features", "errors"}
        The second moment that is attributed.
    layers : sequence of str, optional
        Names of some layers; all by default.
    top : int, optional
        Only so many eigenvalues, the largest.
    certify : bool
        Radii with a proof.
    leave_out : float
        As in `refspec.spectra.spectrum`, of attribute and spectrum.
    memory_limit : int, optional
        Bytes that may be taken, the data included; by default what
        `refspec.memory.within` states, or what is free.

    Returns
    -------
    Plan
        ``plan.expect_room()`` refuses what does not fit; ``refspec.memory.within``
        keeps the work to the same limit.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of these, or a layer is not there.

    Notes
    -----
    The rank is estimated by the rows that are not negligible. Of a file it is the most
    that it can be: then time and memory are, too.

    Examples
    --------
    >>> import refspec
    >>> found = plan(refspec.datasets.digits_mlp())
    >>> found.parts[0].way
    'pivoted rows'
    >>> found.fits and found.seconds > 0
    True
    """
    checks.expect_choice("what", what, WHAT)
    checks.expect_choice("of", of, ("fisher", "features", "errors"))
    checks.expect_flag("certify", certify)
    _expect_leave_out(leave_out, what, top)
    top = None if top is None else checks.expect_size("top", top, least=1)
    if memory_limit is not None:
        checks.expect_size("memory_limit", memory_limit, least=1)
    with memory.within(memory.said() if memory_limit is None else memory_limit):
        if isinstance(subject, SecondMoment):
            return _plan_of_moment(subject, what, top, certify, leave_out)
        sizes = _sizes(subject)
        every = list(sizes.layers)
        names = (
            every if layers is None else checks.expect_names("layers", layers, every)
        )
        sizes = sizes.only(names)

        def made(
            of_sizes: _Sizes, k: int | None, left_out: float = leave_out
        ) -> tuple[Part, ...]:
            return _parts(of_sizes, what, of, k, certify, left_out)

        parts, limit = made(sizes, top), memory.limit()
        bounded = not isinstance(subject, Snapshot)  # of a file: headers alone
        pace = _pace(sizes.like)
        found = Plan(what, parts, sizes.given, limit, pace, bounded, "")
        if found.fits:
            return found
        return replace(found, advice=_advice(sizes, found, made, top))


_PACES: dict[tuple[str, str], tuple[float, float]] = {}


def _pace(like: Array) -> tuple[float, float]:
    """Return multiplications and bytes a second where an array lives.

    Measured once: a product of matrices, and one of a matrix and a vector.
    """
    xp, on = backend.namespace(like), backend.device(like)
    key = str(like.dtype), str(on)
    if key not in _PACES:
        n, m = (4096, 8192) if backend.is_on_device(like) else (512, 1536)
        A, B = (xp.ones((k, k), dtype=like.dtype, device=on) for k in (n, m))
        _PACES[key] = (
            n**3 / _fastest(lambda: A @ A, xp),
            backend.itemsize(like) * m * m / _fastest(lambda: B @ B[:, 0], xp),
        )
    return _PACES[key]


def _fastest(work: Callable[[], Array], xp: Any) -> float:
    """Return the least of three times; the first one may wake threads."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        backend.scalar(xp.sum(work()[:1]))
        best = min(best, time.perf_counter() - start)
    return best


def _of_moment(
    moment: SecondMoment,
    what: str,
    top: int | None,
    certify: bool,
    count: Callable[[], int | None],
    leave_out: float = 0.0,
) -> tuple[str, Cost]:
    """Return the way that one moment goes, and its cost.

    Rows that count are counted only where the cost depends on them.
    """
    if what in _COUNTED:
        several = ways.runs(moment) if what == "densities" else 1
        return "quadrature from products", ways.density(moment, 16, 64, several)
    if what == "hessian":
        return "the matrix, P x P", ways.hessian(moment)
    if top is not None:
        k = min(top, *moment.shape)
        times = ways.runs(moment) if what == "attribute" else 1
        held = ways.holds_gram(moment, ways.products(k, times))
        way = "products with the Gram matrix" if held else "products with X and X'"
        return way, ways.leading(moment, k, levels=what != "spectrum")
    counted = count()
    kept, r = (counted if leave_out else None), ways.rank(moment, counted)
    cost = ways.eigenvalues if what == "spectrum" else ways.attribution
    side = "parameters" if ways.primal(moment, kept) else "pivoted rows"
    if leave_out and side != "parameters":
        side += f", {leave_out:g} of the trace left out"
    return side + ", certified" * certify, cost(moment, certify, r, kept)


def _plan_of_moment(
    moment: SecondMoment, what: str, top: int | None, certify: bool, leave_out: float
) -> Plan:
    """Plan for a moment whose rows are there."""
    if what in ("hessian", "kfac"):
        raise ValueError(
            f"what must not be hessian or kfac of a moment, got {what!r}, which needs "
            "the network or its layers; give the snapshot or its file"
        )

    @cache
    def count() -> int:
        with np.errstate(all="ignore"):  # rows that overflow are refused by the work
            return ways.counting(moment.rows.squares(), leave_out)

    asked, parts = "attribute" if what in _TIMES else what, []
    blocks = _modules(moment) if what == "report" else {}
    whole = {"fisher, all parameters" if blocks else what: moment}
    for title, block in {**whole, **blocks}.items():
        way, cost = _of_moment(block, asked, top, certify, count, leave_out)
        parts.append(Part(title, way, cost * _times(what, top)))
    given, limit = int(moment.rows.work.held), memory.limit()
    fewer = (
        f"ask for top={_SUGGESTED}, "
        if top is None and what not in _COUNTED
        else "ask "
    )
    advice = f"{fewer}for fewer samples, or give more memory"
    pace = _pace(moment.rows.like)
    return Plan(what, tuple(parts), given, limit, pace, bounded=False, advice=advice)


def _expect_leave_out(leave_out: float, what: str, top: int | None) -> None:
    """Refuse to leave rows out of what takes all of them."""
    if checks.expect_share("leave_out", leave_out) and (
        what not in ("attribute", "spectrum") or top is not None
    ):
        raise ValueError(
            "leave_out must come with attribute or spectrum, without top, got "
            f"{leave_out} with {what}, top={top}; leave one of them out"
        )


def _times(what: str, top: int | None) -> float:
    """Return how many attributions a command comes to."""
    return (_TIMES if top is None else _TIMES_OF_TOP).get(what, 1.0)


def _modules(moment: SecondMoment) -> dict[str, SecondMoment]:
    """Return moments of the sizes of those of a network's modules, without numbers."""
    if not isinstance(moment, NetworkMoment):
        return {}
    sizes = by_module(moment.blocks)
    if not 1 < len(sizes) <= MODULES:
        return {}
    N, K, _ = moment.rows.shape
    found: dict[str, SecondMoment] = {}
    for name, P in sizes.items():
        rows = moment.factors_of([n for n, _ in moment.blocks if module_of(n) == name])
        if rows is None:
            rows = Factors((Factor(_nothing((N, K, 1, P), moment.weights), None),))
        found[f"fisher, {name}"] = replace(
            moment, rows=rows, blocks=((name, P),), left_out=()
        )
    return found


def _nothing(shape: tuple[int, ...], like: Array) -> Array:
    """Return an array of this shape that takes no memory."""
    xp = backend.namespace(like)
    zero = xp.zeros((), dtype=like.dtype, device=backend.device(like))
    return xp.broadcast_to(zero, shape)


def _parts(
    sizes: _Sizes,
    what: str,
    of: str,
    top: int | None,
    certify: bool,
    leave_out: float,
) -> tuple[Part, ...]:
    """Return what is done one after the other."""
    names, found = list(sizes.layers), []
    times = _times(what, top)
    jobs = [(of, names)]
    if what in _TIMES:
        whole = [("fisher", names)] if what != "kfac" and len(names) > 1 else []
        kinds = ("fisher",) if what == "kfac" else ("fisher", "features", "errors")
        jobs = whole + [(kind, [n]) for n in names for kind in kinds]
    for kind, some in jobs:
        asked = "attribute" if what in _TIMES else what
        way, cost = sizes.cost(asked, kind, some, top, certify, leave_out)
        cost = cost * times
        title = f"{kind}, {some[0] if len(some) == 1 else 'all layers'}"
        found.append(Part(title, way, cost))
    return tuple(found)


def _advice(
    sizes: _Sizes,
    found: Plan,
    made: Callable[..., tuple[Part, ...]],
    top: int | None,
) -> str:
    """Say what would fit: the largest eigenvalues, fewer rows, layers or samples."""

    def taken(other: _Sizes, k: int | None, *left_out: float) -> Plan:
        return replace(found, parts=made(other, k, *left_out), given=other.given)

    choices = []
    if found.what not in (*_COUNTED, "hessian", "kfac") and top is None:
        few = taken(sizes, _SUGGESTED)
        if few.fits:
            choices.append(f"--top {_SUGGESTED} takes {_size(few.bytes)}")
    if found.what in ("attribute", "spectrum") and top is None:
        less = taken(sizes, None, _LEFT_OUT)
        if less.fits:
            choices.append(f"--leave-out {_LEFT_OUT:g} takes {_size(less.bytes)}")
    if len(sizes.layers) > 1:
        fitting = [n for n in sizes.layers if taken(sizes.only([n]), top).fits]
        choices += [f"--layer {fitting[-1]} fits"] if fitting else []
    low, high = 0, sizes.N
    while high - low > max(1, low // 8):
        middle = (low + high) // 2
        fits = taken(sizes.fewer(middle), top).fits
        low, high = (middle, high) if fits else (low, middle)
    choices += [f"{low} of {sizes.N} samples fit"] if low >= sizes.C else []
    if choices:
        return "; ".join(choices)
    return "one chunk of it already takes more: give more memory"


def _sizes(subject: Snapshot | str | os.PathLike[str]) -> _Sizes:
    """Return the sizes of a snapshot, or those that the headers of a file announce."""
    if isinstance(subject, Snapshot):
        s = subject
        shapes = {
            x.name: (x.features.shape[1], x.features.shape[2], x.outputs)
            for x in s.layers
        }
        N, C = s.probabilities.shape
        given = backend.itemsize(s.probabilities) * sum(map(_held, s.layers))
        counting = cache(lambda of, names, out: _counted(s, of, names, out))
        return _Sizes(
            N,
            C,
            shapes,
            frozenset(x.name for x in s.layers if isinstance(x, OutputLayer)),
            s.probabilities,
            int(given),
            lambda of, names, out: counting(of, tuple(names), out),
        )
    checks.expect_type(
        "subject",
        subject,
        (str, os.PathLike),
        "give a Snapshot, a SecondMoment or the path of an export",
    )
    N, C, shapes, output, given = stored(subject)
    return _Sizes(N, C, shapes, output, np.zeros(1), given, lambda *_: None)


def _held(x: Layer) -> int:
    """Return how many numbers a layer holds."""
    N, T, a = x.features.shape
    if isinstance(x, OutputLayer):
        return int(N * a)
    return int(N * T * a + math.prod(x.errors.shape))


def _counted(
    snapshot: Snapshot, of: str, names: tuple[str, ...], leave_out: float
) -> float:
    """Return which part of a moment's rows is not negligible, or not left out."""
    s, p = snapshot.sample_weights, snapshot.probabilities
    if of != "fisher":
        return 1.0
    (N, C), squares = p.shape, []
    chosen = [snapshot.layer(n) for n in names]
    step = backend.at_a_time(
        8 * sum(C * x.features.shape[1] * x.outputs for x in chosen), p
    )
    for i in range(0, N, step):
        j = min(i + step, N)
        rows = side_by_side([weighted_rows(x, s, p, i, j) for x in chosen])
        with np.errstate(all="ignore"):  # rows that overflow are refused by the work
            squares.append(rows.squares())
    return float(ways.counting(backend.concatenate(squares), leave_out) / (N * C))


def _size(n: float) -> str:
    """Return bytes as one reads them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:.3g} {unit}"
        n /= 1000
    return ""


def _time(t: float) -> str:
    """Return seconds as one reads them."""
    if t < 100:
        return f"{t:.2g} s"
    return f"{t / 60:.0f} min" if t < 7200 else f"{t / 3600:.1f} h"
