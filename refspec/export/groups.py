"""An export as a Zarr v3 group; the manifest is the attribute `manifest`.

Written by zarr batch by batch, read here: only regular files inside the folder are
opened, none through a link, every chunk must be there, and none is decoded beyond the
size that its array's metadata states. So a store costs no more than what is on the
disk and the arrays that it announces.
"""

from __future__ import annotations

import itertools
import math
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from refspec.export import documents
from refspec.export.digests import fingerprint
from refspec.export.errors import ExportError, naming, shown
from refspec.export.memory import Member

#: Bytes of a chunk at most; a chunk never crosses samples that came apart.
CHUNK = 2**24
#: The file that makes a folder a group or an array.
MARK = "zarr.json"

_TYPES = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bool", "float16", "float32", "float64", "complex64", "complex128"),
)
_NODES, _DEPTH = 2**16, 8  # of a store
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def library(name: str = "zarr") -> ModuleType:
    """Import zarr, or numcodecs that comes with it, or name the extra."""
    try:
        return __import__(name, fromlist=["_"])
    except ImportError as error:
        raise ImportError(
            "a .zarr export needs Zarr, which is not installed; "
            "pip install 'refspec[zarr]', or use a name ending in .npz"
        ) from error


@contextmanager
def opened(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Member]]]:
    """Yield the manifest of a group and its arrays, none of them read yet.

    Everything is opened below one descriptor: a store that changes places with a new
    one meanwhile is read to its end, or misses a chunk, but never mixed with it.
    """
    root = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        members, group = {}, {}
        for key, document in _nodes(path, root):
            if document.get("node_type") == "array":
                members[key] = _member(path, root, key, document)
            elif not key:
                group = document
        attributes = group.get("attributes")
        manifest = attributes.get("manifest") if isinstance(attributes, dict) else None
        if not isinstance(manifest, dict):
            raise ExportError(
                path,
                "manifest",
                f"expected a JSON object, got {type(manifest).__name__}; this file is "
                "not a refspec export",
            )
        yield manifest, members
    finally:
        os.close(root)


def _nodes(path: Path, root: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield key and metadata of the group and of what is in it; arrays are leaves."""
    waiting, seen = [""], 0
    while waiting:
        key, seen = waiting.pop(), seen + 1
        if seen > _NODES or key.count("/") > _DEPTH or not key.isprintable():
            raise ExportError(
                path,
                shown(key),
                f"expected at most {_NODES} groups and arrays, {_DEPTH} deep, of "
                "printable names, got more; this file is not a refspec export",
            )
        parts = key.split("/") if key else []
        try:
            data = _file(root, [*parts, MARK], documents.SIZE)
        except FileNotFoundError:
            if not key:
                raise
            continue
        document = documents.parse(path, key or MARK, data.decode())
        if document.get("zarr_format") != 3:
            raise ValueError(f"zarr_format {shown(document.get('zarr_format'))}")
        yield key, document
        if document.get("node_type") == "array":
            continue
        folder = _folder(root, parts)
        try:
            with os.scandir(folder) as entries:
                for entry in itertools.islice(entries, _NODES + 1):
                    if entry.is_symlink():
                        raise ValueError(f"the link {shown(entry.name)}")
                    if entry.is_dir():
                        waiting.append(f"{key}/{entry.name}".lstrip("/"))
        finally:
            os.close(folder)


def _folder(root: int, parts: Iterable[str]) -> int:
    """Open a folder below the root, no link on the way."""
    here = os.dup(root)
    for part in parts:
        try:
            there = os.open(part, _FLAGS | getattr(os, "O_DIRECTORY", 0), dir_fd=here)
        finally:
            os.close(here)
        here = there
    return here


def _file(root: int, parts: list[str], most: int) -> bytes:
    """Return what a regular file below the root holds, if that is not too much."""
    folder = _folder(root, parts[:-1])
    try:
        descriptor = os.open(parts[-1], _FLAGS, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{'/'.join(parts)}, which is no regular file")
        if found.st_size > most:
            raise ValueError(f"{found.st_size} bytes in {'/'.join(parts)}")
        with open(os.dup(descriptor), "rb") as file:
            return file.read(found.st_size)
    finally:
        os.close(descriptor)


def _member(path: Path, root: int, key: str, document: dict[str, Any]) -> Member:
    """Read the metadata of an array; whatever it may not hold is refused."""

    def take(holder: Any, name: str, default: Any = None) -> Any:
        if not isinstance(holder, dict):
            raise ExportError(
                path, key, f"expected an object, got {shown(holder)}; export it again"
            )
        return holder.get(name, default)

    def expect(good: bool, what: str, got: Any) -> None:
        if not good:
            raise ExportError(
                path, key, f"expected {what}, got {shown(got)}; export it again"
            )

    shape: Any = document.get("shape")
    kind: Any = document.get("data_type")
    expect(_sizes(shape, 0), "a shape, a list of sizes", shape)
    expect(kind in _TYPES, f"a data_type among {', '.join(_TYPES)}", kind)
    grid = document.get("chunk_grid")
    chunks: Any = take(take(grid, "configuration"), "chunk_shape")
    regular = take(grid, "name") == "regular" and _sizes(chunks, 1)
    expect(regular and len(chunks) == len(shape), "regular chunks", grid)
    encoding = document.get("chunk_key_encoding")
    scheme = take(encoding, "name")
    dot = "/" if scheme == "default" else "."
    dot = take(take(encoding, "configuration", {}), "separator", dot)
    known = scheme in ("default", "v2") and dot in ("/", ".")
    expect(known, "chunk keys of kind default or v2", encoding)
    others = document.get("storage_transformers") or ()
    expect(not others, "no storage_transformers", others)
    codecs: Any = document.get("codecs")
    names = [take(x, "name") for x in codecs] if isinstance(codecs, list) else []
    expect(
        names in (["bytes"], ["bytes", "zstd"], ["bytes", "gzip"]),
        "codecs bytes, then zstd, gzip or none",
        codecs,
    )
    endian = take(take(codecs[0], "configuration", {}), "endian", "little")
    expect(endian in ("little", "big"), "endian little or big", endian)
    stored = np.dtype(kind).newbyteorder("<" if endian == "little" else ">")
    nbytes = math.prod(chunks) * stored.itemsize
    decode = {"zstd": _zstd, "gzip": _gzip}.get(names[-1], _raw)

    counts = [-(-n // c) for n, c in zip(shape, chunks, strict=True)]

    def chunk(at: tuple[int, ...]) -> np.ndarray:
        words = [str(k) for k in at]
        if scheme == "default":
            words = ["c", *words]
        parts = (dot.join(words) if words else "0").split("/")
        # no codec makes data that much longer
        data = decode(_file(root, [*key.split("/"), *parts], _long(nbytes)), nbytes)
        return np.frombuffer(data, dtype=stored).reshape(chunks)

    def read() -> np.ndarray:
        x: Any = np.empty(shape, dtype=np.dtype(kind))
        # an empty chunk is written too: one that is not there is a loss
        for at in itertools.product(*map(range, counts)):
            # the last chunk of an axis is stored whole; slicing cuts it to the array
            spans = [slice(k * c, k * c + c) for k, c in zip(at, chunks, strict=True)]
            part = x[(*spans, ...)]
            part[...] = chunk(at)[tuple(map(slice, part.shape))]
        return np.asarray(x)

    def some(i: int, j: int) -> Iterator[np.ndarray]:
        for k in range(i // chunks[0], -(-j // chunks[0])):
            first = k * chunks[0]
            at = (k, *(0 for _ in counts[1:]))
            here = slice(max(i - first, 0), min(j - first, chunks[0]))
            inside = (here, *(slice(n) for n in shape[1:]))
            yield chunk(at)[inside].astype(np.dtype(kind), copy=False)

    # chunks of whole samples
    can = bool(shape) and all(n == 1 for n in counts[1:])

    def blocks() -> Iterator[np.ndarray]:
        if can:
            yield from some(0, shape[0])
        else:
            yield read()

    scratch = _long(nbytes) + nbytes

    def cut(i: int, j: int) -> Member:
        def gathered() -> np.ndarray:
            none = np.empty((0, *shape[1:]), np.dtype(kind))
            return np.concatenate([none, *some(i, j)])

        within = partial(some, i, j)
        return Member((j - i, *shape[1:]), np.dtype(kind), gathered, within, scratch)

    return Member(
        tuple(shape), np.dtype(kind), read, blocks, scratch, cut if can else None
    )


def _sizes(items: Any, least: int) -> bool:
    return isinstance(items, list) and all(type(x) is int and x >= least for x in items)


def _long(nbytes: int) -> int:
    """Return the bytes of a compressed chunk at most."""
    return nbytes + nbytes // 8 + 2**12


def _raw(data: bytes, nbytes: int) -> bytes:
    if len(data) != nbytes:
        raise ValueError(f"{len(data)} bytes in a chunk of {nbytes}")
    return data


def _gzip(data: bytes, nbytes: int) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    found = inflate.decompress(data, nbytes + 1)
    if not inflate.eof:
        raise ValueError(f"a chunk that is not {nbytes} bytes and complete")
    return _raw(found, nbytes)


def _zstd(data: bytes, nbytes: int) -> Any:
    """Decode into a buffer of the right size; a longer frame is refused by numcodecs.

    A shorter one leaves the rest of the buffer 0; the digest sees that.
    """
    return library("numcodecs.zstd").decompress(data, np.zeros(nbytes, dtype=np.uint8))


def put(
    path: Path,
    folder: Path,
    manifest: Mapping[str, Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    fixed: Mapping[str, np.ndarray],
    compress: bool,
) -> None:
    """Write a group into an empty folder, batch by batch, chunks of zeros too."""
    with naming(path):
        group = library().open_group(str(folder), mode="w", zarr_format=3)

    def create(key: str, x: np.ndarray) -> Any:
        row = x.itemsize * math.prod(x.shape[1:])
        rows = [min(len(x), max(1, CHUNK // row))] if x.shape else []
        chunks = (*rows, *x.shape[1:])
        how: dict[str, Any] = {} if compress else {"compressors": None}
        how["config"] = {"write_empty_chunks": True}
        return group.create_array(key, data=x, chunks=chunks, **how)

    arrays: dict[str, Any] = {}
    for batch in batches:
        with naming(path):
            for key, x in batch.items():
                if key in arrays:
                    arrays[key].append(x)
                else:
                    arrays[key] = create(key, x)
    with naming(path):
        arrays |= {key: create(key, x) for key, x in fixed.items()}
        digest = fingerprint(manifest, arrays)
        group.attrs["manifest"] = {**manifest, "digest": digest}
