r"""The digest: one hash of the manifest and of every array, however they are stored."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

#: What a digest begins with; one without was made before it covered the manifest.
KIND = "refspec.digest/2:"


@dataclass(frozen=True)
class Seen:
    """An array that was read and not kept: its shape, dtype and hash."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sha: str

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def passed(
    blocks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Seen:
    """Read an array block by block, and keep its hash."""
    stored, rows = dtype.newbyteorder("<"), hashlib.sha256()
    for block in blocks:
        rows.update(np.ascontiguousarray(block, dtype=stored).data)
    return Seen(shape, dtype, rows.hexdigest())


def fingerprint(manifest: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    """Return `KIND` and the SHA-256 of manifest and arrays, as the schema defines it.

    Zarr arrays are read a chunk of rows at a time.
    """
    rest = {key: x for key, x in manifest.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    lines = [f"manifest {hashlib.sha256(text.encode()).hexdigest()}\n"]
    for key in sorted(arrays, key=str.encode):
        x = arrays[key]
        if not isinstance(x, Seen):
            x = passed(_blocks(x), x.shape, np.dtype(x.dtype))
        shape = "x".join(str(n) for n in x.shape)
        lines.append(f"{key} {x.dtype.newbyteorder('<').str} {shape} {x.sha}\n")
    return KIND + hashlib.sha256("".join(lines).encode()).hexdigest()


def _blocks(x: Any) -> Iterator[np.ndarray]:
    """Yield the rows of a NumPy array at once, of a Zarr array by its chunks."""
    step = getattr(x, "chunks", x.shape)[0] if x.shape else 0
    if not step:
        yield np.asarray(x[...])
        return
    for start in range(0, x.shape[0], step):
        yield np.asarray(x[start : start + step])
