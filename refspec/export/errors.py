"""The error of this package, and how it shows what a file holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ExportError(ValueError):
    """A file that cannot be read or written as an export; names the file and the key.

    Examples
    --------
    >>> print(ExportError("run.npz", "labels", "expected shape (N,), got (3, 1)"))
    run.npz: labels: expected shape (N,), got (3, 1)
    """

    def __init__(self, path: object, key: str, message: str) -> None:
        key, message = _cut(key, 200), _cut(message, 1500)
        super().__init__(f"{path}: {key}: {message}" if key else f"{path}: {message}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a sentence: one from a worker is read where the client is."""
        return _said, (str(self),), self.__dict__


def shown(item: Any, most: int = 300) -> str:
    """Return what a file holds as a message has it: escaped, and cut if it is long."""
    return _cut(ascii(item), most)


def _said(sentence: str) -> ExportError:
    """Return the error that says this."""
    error = ExportError.__new__(ExportError)
    error.args = (sentence,)
    return error


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Turn the system's refusals into an ExportError that names the file."""
    try:
        yield
    except OSError as error:
        raise ExportError(
            path,
            "",
            "cannot be written: expected a place that takes it, got the error "
            f"{error}; nothing was left behind",
        ) from error
