"""Files and folders that appear whole or not at all.

What is written gets a temporary name beside its place, goes to the disk, and takes its
name in one step: whoever looks sees what was there before or all of the new, also after
a failure, an interrupt or a power cut. A writer locks its temporary; one that nobody
locks was left by a process that was killed, and the next writer in the folder removes
it.

A symbolic link stays one: what it leads to is written. A new file or folder keeps the
permissions of the old one, or gets those of the umask. An OSError says, before any
work, that a place cannot be written: a device, pipe or socket, a folder for a file or
the reverse, a folder around it that is missing or refuses.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except (
    ImportError
):  # pragma: no cover  (not a POSIX system: nothing is locked or swept)
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\.refspec-[0-9a-f]{32}\.tmp")
_RENAME_EXCHANGE = 2  # of renameat2(2)
_AT_FDCWD = -100


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that takes its name when the block ends well.

    It is synced before it is renamed, its folder after. If the block raises,
    KeyboardInterrupt included, nothing is left and what was there stays.
    """
    target, old = _place(path)
    with _temporary(target.parent, _new_file) as (temporary, descriptor):
        if old is not None:
            os.fchmod(descriptor, old.st_mode & 0o777)
        with open(os.dup(descriptor), "w+b") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
        _sync(target.parent)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], mark: str) -> Iterator[Path]:
    """Make a folder to fill that takes its name when the block ends well.

    A folder that is there is replaced only if it holds a file called `mark`.
    """
    # Old and new change places by Linux's renameat2(RENAME_EXCHANGE): at every moment
    # one whole folder has the name. Where the system or file system lacks it, the old
    # one steps aside to <name>.<hex>.old for the moment of two renames.
    target, old = _place(path, mark)
    with _temporary(target.parent, _new_folder) as (temporary, descriptor):
        if old is not None:
            os.fchmod(descriptor, old.st_mode & 0o777)
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                _sync(Path(folder, name))
            _sync(Path(folder))
        _exchange(temporary, target)
        _sync(target.parent)


def expect_writable(path: str | os.PathLike[str], mark: str | None = None) -> None:
    """Try a place before any work: `atomic`, or `atomic_folder` if a mark is given."""
    target, _ = _place(path, mark)
    with _temporary(target.parent, _new_file):
        pass


def _place(
    path: str | os.PathLike[str], mark: str | None = None
) -> tuple[Path, os.stat_result | None]:
    """Return where a path leads and what is there; refuse what must not be replaced."""
    name = os.fsdecode(path)
    if not name or "\0" in name:
        raise _refusal(errno.EINVAL, "a name", "none, or one with a null", Path(name))
    target = Path(os.path.realpath(name))
    if not os.path.isdir(target.parent):
        raise _refusal(errno.ENOENT, "a folder to write in", "none", target.parent)
    try:
        old = os.stat(name)  # sees through /dev/stdout, which realpath cannot name
    except FileNotFoundError:
        return target, None
    expected = stat.S_ISREG if mark is None else stat.S_ISDIR
    if not expected(old.st_mode):
        word = "a file" if mark is None else "a folder"
        raise _refusal(errno.EINVAL, word, _kind(old.st_mode), target)
    if mark is not None and not os.path.isfile(target / mark):
        raise _refusal(errno.EEXIST, f"a folder with {mark}", "one without", target)
    if not os.access(target, os.W_OK):
        raise _refusal(errno.EACCES, "leave to write", "what is read-only", target)
    return target, old


def _kind(mode: int) -> str:
    for test, word in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISREG, "a file"),
    ):
        if test(mode):
            return word
    return "a device"


def _refusal(number: int, expected: str, got: str, path: Path) -> OSError:
    return OSError(
        number, f"expected {expected}, got {got}; choose another name", str(path)
    )


@contextmanager
def _temporary(
    parent: Path, make: Callable[[Path], int | None]
) -> Iterator[tuple[Path, int]]:
    """Yield a new locked path and its descriptor; remove what has that name after."""
    _sweep(parent)
    while True:
        path, descriptor = parent / f".refspec-{uuid.uuid4().hex}.tmp", None
        try:
            descriptor = make(path)
            # a sweep may have come between its making and its locking: then once more
            if descriptor is not None and _locked(descriptor) and path.exists():
                yield path, descriptor
                return
        finally:
            if descriptor is not None:
                os.close(descriptor)
            _remove(path)


def _new_file(path: Path) -> int | None:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def _new_folder(path: Path) -> int | None:
    """Make and open a folder; None if a sweep was faster."""
    os.mkdir(path)
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None


def _locked(descriptor: int) -> bool:
    """Lock if nobody does; a file system without locks is never swept, so it counts."""
    if fcntl is None:  # pragma: no cover
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # pragma: no cover  (ENOLCK, ENOTSUP: some network file systems)
        return True
    return True


def _sweep(parent: Path) -> None:
    """Remove the temporaries that no living process holds."""
    if fcntl is None:  # pragma: no cover
        return
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if not _TEMPORARY.fullmatch(entry.name):
                continue
            with suppress(OSError):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
                descriptor = os.open(entry.path, flags)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(Path(entry.path))
                finally:
                    os.close(descriptor)


def _exchange(new: Path, target: Path) -> None:
    """Give a folder its name; what had it gets the temporary name and is removed."""
    while True:
        try:
            _swap(new, target)
            return
        except FileNotFoundError:  # nothing is there yet
            try:
                os.rename(new, target)
                return
            except OSError as error:  # now it is: another writer was faster
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise


def _swap(new: Path, target: Path) -> None:
    """Exchange two paths, in one step where the system can."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    number = errno.ENOSYS
    if renameat2 is not None:
        a, b = os.fsencode(new), os.fsencode(target)
        if renameat2(_AT_FDCWD, a, _AT_FDCWD, b, ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
            return
        number = ctypes.get_errno()
    if number not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        raise OSError(number, os.strerror(number), str(target))
    aside = target.with_name(f"{target.name}.{uuid.uuid4().hex}.old")
    os.rename(target, aside)
    try:
        os.rename(new, target)
    except OSError:
        os.rename(aside, target)
        raise
    _remove(aside)


def _sync(path: Path) -> None:
    """Force a file or folder to the disk; some file systems refuse it for folders."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove what is there, if it can be; a failure must not hide the first one."""
    with suppress(OSError):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
