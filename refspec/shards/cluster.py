"""Shards on the workers of dask.distributed, on one machine or on many.

A shard is a future: made where it is used, moved, spilled or made again elsewhere when
a worker dies, all by dask. Nothing here schedules, retries or moves data.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from refspec import backend, refusals
from refspec.backend import Array
from refspec.export.errors import ExportError
from refspec.shards.joining import Facts
from refspec.shards.workers import Source, Task, Workers, expect_sources, made_by


class Cluster(Workers):
    """The workers of a dask cluster, each with some of the shards.

    Parameters
    ----------
    sources : sequence of functions without arguments, or of SecondMoment
        A function is sent to the worker and makes its shard there; it must be one that
        pickle or cloudpickle takes. A moment is sent as it is.
    client : distributed.Client
        ``distributed.Client(address)``, or ``distributed.Client()`` for this machine.

    Raises
    ------
    ImportError
        If dask.distributed is not installed: ``pip install 'refspec[distributed]'``.
    TypeError, ValueError
        If a source is neither, there is none, or `client` is no client or has no
        workers.

    Notes
    -----
    Theory: theory/curvature.md#C9. What a shard raises is raised here, by the product
    that asked for it. X'z is added up in pairs on the workers and goes from there to
    every shard: this process holds vectors over the rows alone.
    """

    def __init__(self, sources: Sequence[Source], client: Any) -> None:
        try:
            import distributed
        except ImportError as error:
            raise ImportError(
                "shards on a cluster need dask.distributed, which is not installed; "
                "pip install 'refspec[distributed]'"
            ) from error
        if not isinstance(client, distributed.Client):
            raise TypeError(
                "client must be a distributed.Client, got "
                f"{type(client).__name__}; distributed.Client() starts one here"
            )
        self.client = client
        self.places = sorted(client.scheduler_info(n_workers=-1)["workers"])
        if not self.places:
            raise ValueError(
                "the cluster must have one or more workers, got none; start them with "
                f"dask worker {client.scheduler.address}"
            )
        self._shards = [
            self._submit(_said_by_worker, made_by, source, at=k)
            for k, source in enumerate(expect_sources(sources))
        ]

    @property
    def count(self) -> int:
        """How many shards there are."""
        return len(self._shards)

    def each(self, task: Task, given: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """Do a task on every shard, where it is."""
        found: list[Any] = self.client.gather(self._begun(task, given))
        return found

    def total(self, task: Task, given: Sequence[tuple[Any, ...] | None]) -> Any:
        """Add up in pairs on the workers; the sum stays there, a future."""
        waiting = self._begun(task, given)
        while len(waiting) > 1:
            pairs = zip(waiting[::2], waiting[1::2], strict=False)
            odd = waiting[-1:] if len(waiting) % 2 else []
            waiting = [
                self.client.submit(operator.add, *x, pure=False) for x in pairs
            ] + odd
        return waiting[0]

    def brought(self, made: Any) -> Array:
        """Return as an array what `total` made."""
        return made.result()

    def _begun(self, task: Task, given: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """Begin a task on every shard; an array for all of them is sent once."""
        sent: dict[int, Any] = {}

        def argument(x: Any) -> Any:
            if not backend.is_array(x):
                return x
            if id(x) not in sent:
                # not scattered: what is in the graph outlives the worker that has it
                sent[id(x)] = self.client.submit(_same, backend.to_host(x), pure=False)
            return sent[id(x)]

        return [
            self._submit(
                *(_said_by_worker, _sent_back, task, self._shards[k]),
                *map(argument, x),
                at=k,
            )
            for k, x in enumerate(given)
            if x is not None
        ]

    def _submit(self, function: Task, *arguments: Any, at: int) -> Any:
        """Do something where a shard has its place, or elsewhere if that is gone."""
        return self.client.submit(
            function,
            *arguments,
            pure=False,
            workers=[self.places[at % len(self.places)]],
            allow_other_workers=True,
        )


def _sent_back(task: Task, shard: Any, *arguments: Any) -> Any:
    """Do a task and bring what it makes to the host."""
    found = task(shard, *arguments)
    if isinstance(found, Facts):
        return replace(found, zero=backend.to_host(found.zero))
    return backend.to_host(found)


def _said_by_worker(function: Task, *arguments: Any) -> Any:
    """Do something; a refusal is sent back as one, with the name of the worker."""
    try:
        return function(*arguments)
    except Exception as error:
        if not refusals.stated(error):
            raise
        from distributed import get_worker

        more = f"; so says the worker {get_worker().address}"
        if isinstance(error, ExportError):
            more += ", which must see the file under the same path"
        raise refusals.sent_on(error, more) from None


def _same(x: Any) -> Any:
    return x
