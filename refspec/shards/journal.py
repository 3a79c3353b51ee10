"""What has been computed is not computed again by the run that comes after.

A run is a function of what it is given, its random numbers too. So a product is told by
its factor, to the bit, and a run that was ended anywhere is gone on with by doing it
again: what is in the journal is read in place of computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from refspec import backend, files
from refspec.backend import Array


class Journal:
    """A folder with a file for every product, written whole or not at all."""

    def __init__(self, folder: Path, *about: np.ndarray) -> None:
        """Make the folder; `about` tells the moment from others that use it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.about = folder, _digest(b"", *about)

    def kept(self, what: str, x: Array, make: Callable[[], Array]) -> Array:
        """Return a product with x, made where the journal has none."""
        key = _digest(f"{self.about} {what}".encode(), backend.to_host(x))
        path = self.folder / f"{key}.npy"
        if path.exists():
            return backend.from_host(np.load(path, allow_pickle=False), x)
        made = make()
        with files.atomic(path) as file:
            np.save(file, backend.to_host(made), allow_pickle=False)
        return made


def _digest(start: bytes, *arrays: np.ndarray) -> str:
    """Return what tells these arrays from all others."""
    made = hashlib.blake2b(start, digest_size=16)
    for x in arrays:
        made.update(f"{x.dtype.str} {x.shape}".encode())
        made.update(np.ascontiguousarray(x).tobytes())
    return made.hexdigest()
