"""Where shards lie, and what is done to them there.

A shard is a second moment of some of the samples. Whoever holds it does tasks on it,
functions of a moment and a few arrays, and sends back what is asked for: of every shard
its own, or the sum over all. `Here` is one process that holds few of them at a time;
`refspec.shards.cluster` and `refspec.exporters.torch_ranks` are many.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from refspec import checks
from refspec.backend import Array
from refspec.curvature import SecondMoment
from refspec.spaces import Group

#: A shard, or a function without arguments that makes it where it is needed.
Source = SecondMoment | Callable[[], SecondMoment]
#: What is done to a shard: (moment, arrays...) to an array, or to facts about it.
Task = Callable[..., Any]


class Workers(ABC):
    """Those who hold the shards, numbered in one order for all.

    Notes
    -----
    Theory: theory/curvature.md#C9.
    """

    @property
    @abstractmethod
    def count(self) -> int:
        """How many shards there are."""

    @abstractmethod
    def each(self, task: Task, given: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """Return what a task makes of every shard and its arguments, in their order.

        A shard whose arguments are None is passed over, and so is its result.
        """

    @abstractmethod
    def total(self, task: Task, given: Sequence[tuple[Any, ...] | None]) -> Any:
        """Return the sum of what a task makes, added in the same order every time.

        It may stay where it was made: an argument of the next task, or for `brought`.
        """

    def brought(self, made: Any) -> Array:
        """Return as an array what `total` made."""
        return made


class Together(Workers, Group):
    """Processes that run one program and hold a shard each, its arrays in pieces.

    Parameters
    ----------
    moment : SecondMoment
        This process's shard.
    """

    moment: SecondMoment


class Here(Workers):
    """The process at hand, with some of the shards: out of core on one machine.

    Parameters
    ----------
    sources : sequence of SecondMoment, or of functions without arguments
        A function makes its shard, whenever it is needed and not held.
    hold : int
        How many shards made by functions are held, from the first on. Every pass is
        over all of them in turn, so that no other choice would serve better.

    Raises
    ------
    TypeError, ValueError
        If a source is neither, makes no second moment, there is none, or `hold` is
        negative.

    Notes
    -----
    Theory: theory/curvature.md#C9. A product with XX' passes over all shards twice.

    Examples
    --------
    >>> import refspec
    >>> half = refspec.fisher(refspec.datasets.digits_mlp())
    >>> Here([half, lambda: half], hold=1).count
    2
    """

    def __init__(self, sources: Sequence[Source], *, hold: int = 0) -> None:
        self.sources = expect_sources(sources)
        self.hold = checks.expect_size("hold", hold)
        self._held: dict[int, SecondMoment] = {}

    @property
    def count(self) -> int:
        """How many shards there are."""
        return len(self.sources)

    def each(self, task: Task, given: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """Do a task on one shard after another."""
        return list(self._done(task, given))

    def total(self, task: Task, given: Sequence[tuple[Any, ...] | None]) -> Array:
        """Add up one shard after another."""
        results = self._done(task, given)
        total = next(results)
        for x in results:
            total = total + x
        return total

    def _done(
        self, task: Task, given: Sequence[tuple[Any, ...] | None]
    ) -> Iterator[Any]:
        for k, arguments in enumerate(given):
            if arguments is not None:
                yield task(self._shard(k), *arguments)

    def _shard(self, k: int) -> SecondMoment:
        """Return a shard, made where it is not held."""
        if k in self._held:
            return self._held[k]
        made = made_by(self.sources[k])
        if callable(self.sources[k]) and len(self._held) < self.hold:
            self._held[k] = made
        return made


def expect_sources(sources: Sequence[Source]) -> tuple[Source, ...]:
    """Refuse what makes no shards."""
    advice = "give a list of second moments, or of functions that make them"
    checks.expect_type("shards", sources, Sequence, advice)
    if not sources:
        raise ValueError(f"shards must be one or more, got none; {advice}")
    for k, x in enumerate(sources):
        if not isinstance(x, SecondMoment) and not callable(x):
            raise TypeError(
                f"shard {k} must be a SecondMoment or a function that makes one, got "
                f"{type(x).__name__}; refspec.fisher(snapshot) makes one"
            )
    return tuple(sources)


def made_by(source: Source) -> SecondMoment:
    """Return the shard that a source is, or makes, if its rows can be joined."""
    made = source if isinstance(source, SecondMoment) else source()
    advice = "refspec.fisher(snapshot) makes one"
    checks.expect_type("a shard", made, SecondMoment, advice)
    if made.projection is not None:
        raise ValueError(
            "a shard must be a whole second moment, got one that is projected; join "
            "the whole ones, then decompose what is joined"
        )
    return made
