"""Shards on the ranks of torch.distributed: every rank has its own samples.

All ranks run one program and come to the same numbers. A vector over the rows is in
pieces, to each rank that of its own samples, and so is a basis of such vectors: X'z is
all-reduced, and so are inner products; X v needs no one else. Vectors of P numbers are
there while a product is made, and no basis of them ever. What needs all rows at once,
all eigenvalues, gathers them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from refspec import checks
from refspec.backend import Array
from refspec.curvature import SecondMoment
from refspec.shards import joined
from refspec.shards.joining import Facts
from refspec.shards.workers import Task, Together, made_by


def across_ranks(
    moment: SecondMoment, *, shares: Sequence[float] | None = None
) -> SecondMoment:
    """Return the second moment of the samples of all ranks, from those of this one.

    Parameters
    ----------
    moment : SecondMoment
        Of this rank's samples, as `refspec.torch.moment` makes it of this
        rank's loader; other ranks have other samples of the same network.
    shares : sequence of float, optional
        See `refspec.joined`: one a rank.

    Returns
    -------
    SecondMoment
        The same on every rank; what is done with it, every rank does.

    Raises
    ------
    RuntimeError
        If torch.distributed has no process group.
    TypeError, ValueError
        See `refspec.joined`.

    Notes
    -----
    Theory: theory/curvature.md#C9. A product with XX' all-reduces m columns of length
    P. For the k largest eigenvalues a rank of R holds about N K k / R numbers, and more
    than P only while it makes a product; where P < N K it holds P k.

    Examples
    --------
    In a program that ``torchrun --nproc-per-node 2`` starts::

        torch.distributed.init_process_group()
        from refspec.torch import across_ranks, moment

        mine = moment(model, loader_of_this_rank)
        attribution = refspec.attribute(across_ranks(mine), top=20)
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "across_ranks needs a process group, got none; start the program with "
            "torchrun and call torch.distributed.init_process_group()"
        )
    return joined(Ranks(made_by(moment)), shares=shares)


class Ranks(Together):
    """The ranks of the default process group, a shard each."""

    def __init__(self, moment: SecondMoment) -> None:
        checks.expect_type("moment", moment, SecondMoment, "refspec.torch.moment")
        self.moment = moment

    @property
    def rank(self) -> int:
        """The number of this one."""
        return int(dist.get_rank())

    @property
    def count(self) -> int:
        """How many ranks there are."""
        return int(dist.get_world_size())

    def each(self, task: Task, given: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """Do a task on this rank's shard; gather what all make."""
        made = self._made(task, given)
        if isinstance(made, Facts):  # of every rank, or of none
            sent = replace(made, zero=None)
            return [replace(x, zero=made.zero) for x in _objects(sent)]
        shapes = _objects(None if made is None else tuple(made.shape))
        lengths = [0 if x is None else x[0] for x in shapes]
        rest = next(x[1:] for x in shapes if x is not None)
        mine = self._zeros((max(lengths), *rest))
        if made is not None:
            mine[: made.shape[0], ...] = made
        found = [torch.empty_like(mine) for _ in shapes]
        dist.all_gather(found, mine)
        return [x[:n] for x, n in zip(found, lengths, strict=True) if n]

    def total(self, task: Task, given: Sequence[tuple[Any, ...] | None]) -> Array:
        """Do a task on this rank's shard; all-reduce what all make."""
        made = self._made(task, given)
        shapes = _objects(None if made is None else tuple(made.shape))
        shape = next(x for x in shapes if x is not None)
        made = self._zeros(shape) if made is None else made.clone()
        dist.all_reduce(made)
        return made

    def added(self, x: Array) -> Array:
        """Return the sum of what every rank gives."""
        made = self._sent(x).clone()
        dist.all_reduce(made)
        return made.numpy() if isinstance(x, np.ndarray | np.generic) else made

    def least(self, n: int) -> int:
        """Return the smallest of the counts that the ranks give."""
        mine = self._zeros((1,)) + min(n, 2**20)  # exact in every dtype
        dist.all_reduce(mine, op=dist.ReduceOp.MIN)
        return int(mine[0])

    def every(self, x: Array) -> list[Array]:
        """Return what every rank gives."""
        mine = self._sent(x)
        found = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(found, mine)
        return [y.numpy() if isinstance(x, np.ndarray) else y for y in found]

    def _sent(self, x: Array) -> torch.Tensor:
        """Return a tensor as it can be sent."""
        return torch.as_tensor(
            np.asarray(x) if isinstance(x, np.generic) else x
        ).contiguous()

    def _made(self, task: Task, given: Sequence[tuple[Any, ...] | None]) -> Any:
        """Return what a task makes of this rank's shard, as a tensor if an array."""
        mine = given[self.rank]
        made = None if mine is None else task(self.moment, *mine)
        return torch.from_numpy(made) if isinstance(made, np.ndarray) else made

    def _zeros(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return zeros of the dtype of the shard, where the group exchanges them."""
        like = self.moment.weights
        if isinstance(like, np.ndarray):
            like = torch.from_numpy(like)
        return torch.zeros(shape, dtype=like.dtype, device=like.device)


def _objects(mine: Any) -> list[Any]:
    """Return what every rank gives."""
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    return found
