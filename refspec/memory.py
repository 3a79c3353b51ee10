"""How much memory a computation may take: what was said, or what is free."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_SAID: ContextVar[int | None] = ContextVar("memory", default=None)


@contextmanager
def within(limit: int | None) -> Iterator[None]:
    """Keep what is computed inside to so many bytes; None: to what is free.

    Chunks, and the way that is taken, are chosen by it; what does not fit is refused.
    """
    before = _SAID.set(limit)
    try:
        yield
    finally:
        _SAID.reset(before)


def said() -> int | None:
    """Return the bytes that `within` states, or None."""
    return _SAID.get()


def limit() -> int:
    """Return the bytes that a computation may take."""
    stated = _SAID.get()
    return free() if stated is None else stated


def budget(most: int, share: int) -> int:
    """Return `most` bytes, or one part in `share` of what `within` states, if less."""
    stated = _SAID.get()
    return most if stated is None else min(most, stated // share)


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
