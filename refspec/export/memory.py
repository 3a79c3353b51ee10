"""How much memory is free, and whether what a file announces fits into it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refspec import checks
from refspec.export.errors import ExportError, shown


@dataclass(frozen=True)
class Member:
    """An array that a file announces: its shape and dtype, and what reads it.

    `scratch` is what reading needs beside the array, in bytes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]
    scratch: int = 0

    @property
    def size(self) -> int:
        """Number of values, exactly (no integer of fixed width overflows)."""
        n = 1
        for length in self.shape:
            n *= length
        return n


def free() -> int:
    """Return the bytes that this process may still take, as far as the system tells.

    The least of: available memory, what the control group leaves, the address space
    limit. Without /proc half of the machine's memory counts, without that 4 GiB.
    """
    found, group = [_available()], Path("/sys/fs/cgroup")
    limit = _number(group / "memory.max", "")
    if limit is not None:
        taken = _number(group / "memory.current", "") or 0
        cached = _number(group / "memory.stat", "inactive_file ") or 0
        found.append(limit - taken + cached)
    try:
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        if soft != resource.RLIM_INFINITY:
            found.append(soft - (_number(Path("/proc/self/statm"), "") or 0) * _page())
    except ImportError:  # pragma: no cover  (not a POSIX system)
        pass
    return max(0, min(found))


def expect_budget(max_bytes: int | None) -> int:
    """Return the budget that `max_bytes` states, by default the free memory."""
    if max_bytes is None:
        return free()
    return checks.expect_size("max_bytes", max_bytes, least=1)


def needed(arrays: Mapping[str, Any], itemsize: int) -> dict[str, int]:
    """Return the bytes of each array: as stored, and twice as read (it is sorted)."""
    return {k: x.size * (x.dtype.itemsize + 2 * itemsize) for k, x in arrays.items()}


def expect_room(
    path: object, members: Mapping[str, Member], budget: int, itemsize: int
) -> int:
    """Refuse arrays that do not fit, and return what they need in bytes."""
    need = needed(members, itemsize)
    total = sum(need.values()) + max((x.scratch for x in members.values()), default=0)
    if total > budget:
        key = max(need, key=lambda k: need[k] + members[k].scratch)
        raise ExportError(
            path,
            key,
            f"expected arrays that need at most {budget} bytes of memory, got {total} "
            f"by the headers, this one of shape {shown(members[key].shape)}; free "
            "memory, raise max_bytes, or export fewer samples",
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


def _available() -> int:
    kilobytes = _number(Path("/proc/meminfo"), "MemAvailable: ")
    if kilobytes is not None:
        return kilobytes * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * _page() // 2
    except (AttributeError, OSError, ValueError):
        return 2**32


def _page() -> int:
    return os.sysconf("SC_PAGE_SIZE")


def _number(path: Path, after: str) -> int | None:
    """Return the number that follows a word at the start of a line of a file."""
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    found = re.search(rf"^{after}\s*(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else None
