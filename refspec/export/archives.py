"""An export as an `.npz` archive; the manifest is a 0-d string array.

Headers are read first, and nothing is inflated before its size is known and allowed:
an archive is opened as zip, each member's NumPy header is compared with the size that
the archive states, and zip's checksum covers what is read.
"""

from __future__ import annotations

import json
import math
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from refspec.export import documents
from refspec.export.errors import ExportError, shown
from refspec.export.memory import Member

_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BLOCK = 2**20


@contextmanager
def opened(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Member]]]:
    """Yield the manifest of an archive and its members, none of them read yet."""
    # a pipe must not block; what it is, is asked of the open file
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as data:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not zipfile.is_zipfile(
            data
        ):
            raise ExportError(
                path,
                "",
                "expected an .npz file, an archive of arrays, got a file that is none; "
                "it is truncated or foreign: export it again",
            )
        with zipfile.ZipFile(data) as archive:
            members = {}
            for info in archive.infolist():
                key = info.filename.removesuffix(".npy")
                if key in members:
                    raise ExportError(
                        path, key, "expected each key once, got two; export it again"
                    )
                members[key] = _member(path, key, archive, info)
            yield _manifest(path, members), members


def _member(
    path: Path, key: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> Member:
    """Read a header; what follows it must be as long as it says."""
    if key == info.filename or not key.isprintable():
        raise ExportError(
            path, shown(key), "expected arrays only, got another member; remove it"
        )
    if info.compress_type not in _KINDS or info.flag_bits & 1:
        raise ExportError(
            path,
            key,
            "expected a stored or deflated member, got another compression or an "
            "encrypted one; export it again",
        )
    with archive.open(info) as file:
        shape, fortran, dtype = _header(file)
        start = file.tell()
    if dtype.hasobject:
        raise ExportError(
            path,
            key,
            f"expected numbers, got {shown(str(dtype))}, a pickle; refspec never opens "
            "pickles",
        )

    def read() -> np.ndarray:
        with archive.open(info) as file:
            file.read(start)
            flat: Any = np.empty(info.file_size - start, dtype=np.uint8)
            at = 0
            while at < len(flat):  # to the end, where zip compares its checksum
                block = file.read(min(_BLOCK, len(flat) - at))
                if not block:
                    raise EOFError(f"{len(flat)} bytes announced, {at} found")
                flat[at : at + len(block)] = np.frombuffer(block, dtype=np.uint8)
                at += len(block)
        x = flat.view(dtype) if flat.size else np.empty(0, dtype)
        return x.reshape(shape[::-1]).T if fortran else x.reshape(shape)

    def blocks() -> Iterator[np.ndarray]:
        row = dtype.itemsize * math.prod(shape[1:])
        if fortran or not shape or not row:
            yield read()
            return
        step = max(1, _BLOCK // row)
        with archive.open(info) as file:
            file.read(start)
            for i in range(0, shape[0], step):
                rows = min(step, shape[0] - i)
                data = file.read(rows * row)
                if len(data) != rows * row:
                    raise EOFError(f"{rows * row} bytes announced, {len(data)} found")
                yield np.frombuffer(data, dtype=dtype).reshape(rows, *shape[1:])

    member = Member(shape, dtype, read, blocks)
    announced, there = member.size * dtype.itemsize, info.file_size - start
    if announced != there or min(shape, default=0) < 0 or not dtype.itemsize:
        raise ExportError(
            path,
            key,
            f"expected {there} bytes, as the archive states, got {shown(str(dtype))} "
            f"of shape {shown(shape)}; the file is damaged: export it again",
        )
    return member


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    if version == (1, 0):
        return npy.read_array_header_1_0(file)
    if version == (2, 0):
        return npy.read_array_header_2_0(file)
    raise ValueError(f"version {version} of the .npy format, known are 1.0 and 2.0")


def _manifest(path: Path, members: dict[str, Member]) -> dict[str, Any]:
    """Take the manifest out of the members and read it."""
    member = members.pop("manifest", None)
    if member is None or member.dtype.kind != "U" or member.shape:
        got = f"no such key beside {shown(sorted(members))}"
        if member is not None:
            got = f"{member.dtype} of shape {member.shape}"
        raise ExportError(
            path,
            "manifest",
            "expected a 0-d string array that holds a JSON document, "
            f"got {got}; this file is not a refspec export",
        )
    long = member.dtype.itemsize > 4 * documents.SIZE
    text = " " * (documents.SIZE + 1) if long else str(member.read())
    return documents.parse(path, "manifest", text)


def put(
    file: BinaryIO,
    manifest: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    compress: bool,
) -> None:
    """Write an archive.

    Level 1 takes half the time of zip's own choice; an array is up to half as large
    again, most by a few per cent.
    """
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    document = {"manifest": np.array(json.dumps(manifest))}
    with zipfile.ZipFile(file, "w", kind, compresslevel=1) as archive:
        for key, x in (document | dict(arrays)).items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, x, allow_pickle=False)
