"""Named arrays and one JSON document in a file: an `.npz` or a Zarr v3 group.

A container knows nothing of networks; what the keys mean is `refspec.export`'s
concern. Both kinds hold the same keys, are written under a temporary name and then
renamed, never pickle, and carry a digest of their arrays. In an `.npz` the document
is the 0-d string array ``manifest``; in a Zarr group it is the attribute ``manifest``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["CHUNK", "Arrays", "ExportError", "digest", "fingerprint", "read", "write"]

Arrays = Mapping[str, Any]  # NumPy or Zarr arrays: shape, dtype and slices

#: Bytes of a Zarr chunk at most; a chunk never crosses samples that came apart.
CHUNK = 2**24


class ExportError(ValueError):
    """A file that cannot be read or written as an export; names the file and the key.

    Examples
    --------
    >>> print(ExportError("run.npz", "labels", "expected shape (N,), got (3, 1)"))
    run.npz: labels: expected shape (N,), got (3, 1)
    """

    def __init__(self, path: object, key: str, message: str) -> None:
        super().__init__(f"{path}: {key}: {message}" if key else f"{path}: {message}")


def fingerprint(arrays: Arrays) -> str:
    r"""Return the SHA-256 digest of named arrays, independent of how they are stored.

    Parameters
    ----------
    arrays : mapping of str to array
        NumPy arrays or Zarr arrays; the latter are read a chunk of rows at a time.

    Returns
    -------
    str
        64 hexadecimal digits.

    Notes
    -----
    One line ``key dtype shape sha256\n`` per array, in the order of the keys as
    UTF-8, e.g. ``labels <i8 250 e3b0...``; the dtype is NumPy's little-endian string,
    the shape its sizes joined by ``x``, the hash that of the little-endian C-order
    bytes. The digest is the SHA-256 of these lines.

    Examples
    --------
    >>> fingerprint({"labels": np.zeros(2, dtype="<i8")})[:16]
    '2fe5970f63c7344a'
    """
    lines = []
    for key in sorted(arrays, key=str.encode):
        x = arrays[key]
        dtype, rows = np.dtype(x.dtype).newbyteorder("<"), hashlib.sha256()
        for block in _blocks(x):
            rows.update(np.ascontiguousarray(block, dtype=dtype).data)
        shape = "x".join(str(n) for n in x.shape)
        lines.append(f"{key} {dtype.str} {shape} {rows.hexdigest()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def digest(path: str | os.PathLike[str]) -> str:
    """Return the digest of the arrays that a file holds now.

    Parameters
    ----------
    path : path
        An `.npz` file or a `.zarr` folder.

    Returns
    -------
    str
        To compare with the manifest's ``digest``, as `refspec.load` does.

    Raises
    ------
    ExportError
        If the file cannot be read.
    """
    return fingerprint(read(path)[1])


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the manifest and the arrays of a container, nothing checked but its form.

    Raises
    ------
    ExportError
        If the file is not there, truncated, foreign, pickled, or not a container.
    ImportError
        If it is a Zarr group and zarr is not installed.
    """
    path = Path(path)
    kind = _kind(path)
    folder, there = os.path.isdir(path), os.path.exists(path)
    if not (folder if kind == ".zarr" else os.path.isfile(path)):
        found = "a folder" if folder else "a file" if there else "nothing"
        expected = "a folder, a Zarr group" if kind == ".zarr" else "a file"
        raise ExportError(path, "", f"expected {expected}, got {found}; check the path")
    return _read_zarr(path) if kind == ".zarr" else _read_npz(path)


def write(
    path: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    fixed: Mapping[str, np.ndarray] | None = None,
    *,
    compress: bool = True,
) -> Path:
    """Write batches of rows, one after the other, and name the file when all is well.

    Parameters
    ----------
    path : path
        Ends in `.npz` or `.zarr`; what was there is replaced at the very end.
    manifest : mapping
        JSON-able; the key ``digest`` is added.
    batches : iterable of mappings of str to ndarray
        Same keys in each; rows are joined along axis 0. A Zarr group is written batch
        by batch, an `.npz` holds them all in memory first.
    fixed : mapping of str to ndarray, optional
        Arrays that do not come in batches.
    compress : bool
        Zip or zstd.

    Returns
    -------
    Path
        The path.

    Raises
    ------
    ExportError
        If the path cannot be written or the batches do not fit together. Nothing is
        left behind, then or when `batches` raises; what was there before stays.
    """
    path = Path(path)
    kind = _kind(path)
    if not os.path.isdir(path.absolute().parent):
        raise ExportError(path, "", "its folder does not exist; make it first")
    replaceable = kind == ".zarr" and os.path.isfile(path / "zarr.json")
    if os.path.isdir(path) and not replaceable:
        raise ExportError(path, "", "is a folder, not an export; choose another name")
    try:
        text = json.dumps(manifest, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ExportError(
            path, "manifest", f"expected JSON-able provenance, got {error}; use strings"
        ) from error
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    put = _put_zarr if kind == ".zarr" else _put_npz
    try:
        put(path, temporary, json.loads(text), batches, dict(fixed or {}), compress)
        with _naming(path):
            _replace(temporary, path)
    finally:
        _remove(temporary)
    return path


def _kind(path: Path) -> str:
    if path.suffix not in (".npz", ".zarr"):
        got = repr(path.suffix) if path.suffix else "none"
        raise ExportError(
            path, "", f"expected a name ending in .npz or .zarr, got {got}; rename it"
        )
    if path.suffix == ".zarr":
        _zarr()
    return path.suffix


def _zarr() -> ModuleType:
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            "a .zarr export needs Zarr, which is not installed; "
            "pip install 'refspec[zarr]', or use a name ending in .npz"
        ) from error
    return zarr


def _blocks(x: Any) -> Iterator[np.ndarray]:
    """Yield the rows of a NumPy array at once, of a Zarr array by its chunks."""
    step = getattr(x, "chunks", x.shape)[0] if x.shape else 0
    if not step:
        yield np.asarray(x[...])
        return
    for start in range(0, x.shape[0], step):
        yield np.asarray(x[start : start + step])


def _read_npz(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays, key = {}, ""
    if not zipfile.is_zipfile(path):
        raise ExportError(
            path,
            "",
            "expected an .npz file, an archive of arrays, got a file that is none; it "
            "is truncated or foreign: export it again",
        )
    try:
        with open(path, "rb") as data, np.load(data, allow_pickle=False) as file:
            for key in getattr(file, "files", ()):
                arrays[key] = file[key]
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise ExportError(
            path,
            key,
            f"expected arrays in an .npz file, got {_said(error)}; the file "
            "is damaged, foreign or pickled (refspec never opens pickles): export it "
            "again",
        ) from error
    text = arrays.pop("manifest", None)
    if not isinstance(text, np.ndarray) or text.dtype.kind != "U" or text.shape:
        raise ExportError(
            path,
            "manifest",
            "expected a 0-d string array that holds a JSON document, "
            f"got {_told(text, arrays)}; this file is not a refspec export",
        )
    for key, x in arrays.items():
        if not isinstance(x, np.ndarray):
            raise ExportError(path, key, "expected an array, got raw bytes; remove it")
    try:
        manifest = json.loads(str(text))
    except ValueError as error:
        raise ExportError(
            path, "manifest", f"expected a JSON document, got {error}; export it again"
        ) from error
    return _object(path, manifest), arrays


def _read_zarr(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    zarr, arrays, key = _zarr(), {}, ""
    try:
        group = zarr.open_group(str(path), mode="r", zarr_format=3)
        for key, member in group.members(max_depth=None):
            if isinstance(member, zarr.Array):
                arrays[key] = np.asarray(member[...])
        key, manifest = "manifest", group.attrs.get("manifest")
    except Exception as error:  # every codec has its own
        raise ExportError(
            path,
            key,
            f"expected a Zarr v3 group of arrays, got {_said(error)}; the "
            "folder is incomplete or foreign: export it again",
        ) from error
    return _object(path, manifest), arrays


def _object(path: Path, manifest: Any) -> dict[str, Any]:
    if not isinstance(manifest, dict):
        raise ExportError(
            path,
            "manifest",
            f"expected a JSON object, got {type(manifest).__name__}; "
            "this file is not a refspec export",
        )
    return manifest


def _said(error: Exception) -> str:
    return f"{type(error).__name__} ({error})"


def _told(text: Any, arrays: Arrays) -> str:
    if text is None:
        return f"no such key beside {sorted(arrays)}"
    return f"{getattr(text, 'dtype', 'bytes')} of shape {getattr(text, 'shape', ())}"


def _put_npz(
    path: Path,
    temporary: Path,
    manifest: dict[str, Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    fixed: dict[str, np.ndarray],
    compress: bool,
) -> None:
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        for key, x in batch.items():
            rows = parts.setdefault(key, [])
            _expect_tail(path, key, x, rows[0] if rows else x)
            rows.append(x)
    arrays = fixed | {key: np.concatenate(rows) for key, rows in parts.items()}
    text = np.array(json.dumps(manifest | {"digest": fingerprint(arrays)}))
    savez: Any = np.savez_compressed if compress else np.savez
    with _naming(path), open(temporary, "xb") as file:
        savez(file, manifest=text, **arrays)


def _put_zarr(
    path: Path,
    temporary: Path,
    manifest: dict[str, Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    fixed: dict[str, np.ndarray],
    compress: bool,
) -> None:
    with _naming(path):
        group = _zarr().open_group(str(temporary), mode="w-", zarr_format=3)

    def create(key: str, x: np.ndarray) -> Any:
        row = max(1, x[:1].nbytes)
        chunks = (min(max(1, len(x)), max(1, CHUNK // row)), *x.shape[1:])
        how: dict[str, Any] = {} if compress else {"compressors": None}
        return group.create_array(key, data=x, chunks=chunks, **how)

    arrays = {}
    with _naming(path):
        arrays = {key: create(key, x) for key, x in fixed.items()}
    for batch in batches:
        with _naming(path):
            for key, x in batch.items():
                if key in arrays:
                    _expect_tail(path, key, x, arrays[key])
                    arrays[key].append(x)
                else:
                    arrays[key] = create(key, x)
    with _naming(path):
        group.attrs["manifest"] = manifest | {"digest": fingerprint(arrays)}


def _expect_tail(path: Path, key: str, x: np.ndarray, first: Any) -> None:
    if x.shape[1:] != first.shape[1:] or x.dtype != first.dtype:
        raise ExportError(
            path,
            key,
            f"expected batches of {first.dtype} and row shape "
            f"{tuple(first.shape[1:])} as the first one, got {x.dtype} and "
            f"{x.shape[1:]}; pad or resize the inputs to one shape",
        )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn the system's refusals into an ExportError that names the file."""
    try:
        yield
    except OSError as error:
        raise ExportError(
            path, "", f"cannot be written: {error}; nothing was left behind"
        ) from error


def _replace(temporary: Path, path: Path) -> None:
    """Rename over what is there; a folder first steps aside, and back on failure."""
    if not os.path.isdir(path):
        os.replace(temporary, path)
        return
    aside = temporary.with_suffix(".old")
    os.replace(path, aside)
    try:
        os.replace(temporary, path)
    except OSError:
        os.replace(aside, path)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    """Remove what is there, if it can be; a failure must not hide the first one."""
    with suppress(OSError):
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
