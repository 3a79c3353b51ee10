"""What a file announces, and whether it fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec import checks, memory
from refspec.export.errors import ExportError, shown


@dataclass(frozen=True)
class Member:
    """An array that a file announces: its shape and dtype, and what reads it.

    `blocks` reads it some rows at a time; `scratch` is what reading needs beside the
    array, in bytes; `cut` is the array of its rows i to j, where they can be found.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]
    blocks: Callable[[], Iterator[np.ndarray]]
    scratch: int = 0
    cut: Callable[[int, int], Member] | None = None

    @property
    def size(self) -> int:
        """Number of values, exactly (no integer of fixed width overflows)."""
        n = 1
        for length in self.shape:
            n *= length
        return n


def expect_budget(max_bytes: int | None) -> int:
    """Return the budget that `max_bytes` states, by default what there is."""
    if max_bytes is None:
        return memory.limit()
    return checks.expect_size("max_bytes", max_bytes, least=1)


def needed(arrays: Mapping[str, Any], itemsize: int) -> dict[str, int]:
    """Return the bytes of each array: as stored, and twice as read (it is sorted)."""
    return {k: x.size * (x.dtype.itemsize + 2 * itemsize) for k, x in arrays.items()}


def expect_room(
    path: object,
    members: Mapping[str, Member],
    budget: int,
    itemsize: int,
    passing: Collection[str] = (),
) -> int:
    """Refuse arrays that do not fit, and return what they need in bytes.

    Those that are only passing are read block by block, and not kept.
    """
    kept = {key: x for key, x in members.items() if key not in passing}
    need = needed(kept, itemsize)
    total = sum(need.values()) + max((x.scratch for x in members.values()), default=0)
    chunk = max(members, key=lambda k: members[k].scratch, default="")
    if chunk and members[chunk].scratch > budget:
        raise ExportError(
            path,
            chunk,
            f"expected chunks that need at most {budget} bytes of memory each, got "
            f"some of {members[chunk].scratch}, and they are read whole; allow {total} "
            "bytes or more (max_bytes, on the command line --memory)",
        )
    if total > budget:
        key = max(need, key=lambda k: need[k] + members[k].scratch)
        raise ExportError(
            path,
            key,
            f"expected arrays that need at most {budget} bytes of memory, got {total} "
            f"by the headers, this one of shape {shown(members[key].shape)}; free "
            "memory, allow more (max_bytes, on the command line --memory), or export "
            "fewer samples",
        )
    return total


@contextmanager
def telling(path: object, need: int) -> Iterator[None]:
    """Say how much memory was needed where it ran out; the file is not to blame."""
    try:
        yield
    except MemoryError as error:
        raise ExportError(
            path,
            "",
            f"expected {need} bytes of memory for its arrays, got too few of them; "
            "free memory, or export fewer samples",
        ) from error
