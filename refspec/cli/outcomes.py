"""How a command ends: every exception becomes one sentence and one exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

import typer

from refspec.cli.terminal import complain
from refspec.refusals import stated

#: Exit codes. DATA fail a check or are refused; USE is wrong, or a place cannot be read
#: or written; OURS is a fault of refspec.
GOOD, DATA, USE, OURS, INTERRUPTED = 0, 1, 2, 3, 130


def outcome(work: Callable[[], object], debug: Callable[[], bool]) -> int:
    """Do the work and flush what it printed; say what went wrong; return the code."""
    return _ended(work, debug) or _ended(sys.stdout.flush, debug)


def _ended(work: Callable[[], object], debug: Callable[[], bool]) -> int:
    """Do one thing; map what it raises."""
    try:
        work()
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError):
            _drop_output()
        if debug():
            for line in "".join(traceback.format_exception(error)).splitlines():
                complain(line)
        code, sentences = _read(error)
        for sentence in sentences:
            complain(sentence)
        return code
    return GOOD


def _read(error: Exception) -> tuple[int, list[str]]:
    """Return the code of an exception and what to say."""
    usage = getattr(error, "format_message", None)  # click's, or typer's copy of it
    if usage is not None:
        context = getattr(error, "ctx", None)
        head = [] if context is None else context.get_usage().splitlines()
        return USE, [*head, f"error: {usage().removeprefix('Invalid value: ')}"]
    if isinstance(error, BrokenPipeError):
        return USE, []  # who reads has gone and needs no word
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        what = error.strerror or str(error)
        hint = "; free some, or choose another place" * (error.errno == errno.ENOSPC)
        return USE, [f"error: {place}{what}{hint}"]
    if isinstance(error, MemoryError):
        hint = "take fewer samples, or one --layer"
        return DATA, [f"error: these data need more memory than there is; {hint}"]
    if stated(error):
        system = isinstance(error.__cause__, OSError) and error.__cause__.errno
        if isinstance(error, ImportError) or system:
            return USE, [f"error: {error}"]
        if isinstance(error, ValueError | TypeError | ArithmeticError):
            return DATA, [f"error: {error}"]
    return OURS, [
        f"error: a fault of refspec: {type(error).__name__}: {error}",
        "Please report it: what you ran, `refspec --version`, and the traceback that "
        "REFSPEC_DEBUG=1 or `refspec --debug COMMAND` shows.",
    ]


def _drop_output() -> None:
    """Point standard output nowhere: the interpreter flushes it again at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
