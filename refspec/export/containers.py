"""Named arrays and one JSON document in a file: an `.npz` archive or a Zarr v3 group.

A container knows nothing of networks; what the keys mean is the schema's concern. Both
kinds hold the same keys, never a pickle, and a digest of all of it. Reading asks for
the headers first and for data only when they are as expected and fit into memory;
writing is atomic (`refspec.files`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from refspec import checks, files
from refspec.export import archives, documents, groups, memory
from refspec.export.digests import fingerprint
from refspec.export.errors import ExportError, naming, shown
from refspec.export.foreign import misnamed, mistaken
from refspec.export.memory import Member

Manifest = dict[str, Any]
#: Sees what is announced before data are read; may put other members in their place.
Expect = Callable[[Path, Manifest, dict[str, Member]], dict[str, Member] | None]
Take = Callable[[Manifest, str, Member, dict[str, Any]], Any]


def digest(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> str:
    """Return the digest of what a file holds now.

    Parameters
    ----------
    path : path, an `.npz` file or a `.zarr` folder
    max_bytes : int, optional
        What its arrays may take in memory; by default what is free.

    Returns
    -------
    str
        To compare with the manifest's ``digest``, as `refspec.load` does.

    Raises
    ------
    ExportError
        If the file cannot be read.
    """
    return fingerprint(*read(path, max_bytes=max_bytes))


def read(
    path: str | os.PathLike[str],
    *,
    max_bytes: int | None = None,
    itemsize: int = 0,
    expect: Expect | None = None,
    passing: Collection[str] = (),
    take: Take | None = None,
    headers: bool = False,
) -> tuple[Manifest, dict[str, np.ndarray]]:
    """Return manifest and arrays; `expect` sees shapes and dtypes before data are read.

    `itemsize` is that of the numbers which the caller makes of the arrays. `take` reads
    in place of us, layers last, and keeps nothing of the keys that are `passing`.
    """
    budget = memory.expect_budget(max_bytes)
    path, kind = _expect_path(path, mistaken)
    folder, there = os.path.isdir(path), os.path.exists(path)
    if not there or folder != (kind is groups):
        found = "a folder" if folder else "a file" if there else "nothing"
        expected = "a folder, a Zarr group" if kind is groups else "a file"
        raise ExportError(path, "", f"expected {expected}, got {found}; check the path")
    while True:
        before = _identity(path)
        try:
            made = _read(path, kind, budget, itemsize, expect, passing, take, headers)
        except ExportError:
            if kind is not groups or _identity(path) == before:
                raise
        else:
            if kind is not groups or _identity(path) == before:
                return made
        # a store that a writer replaced meanwhile is removed, and may have been read
        # when half of it was gone: read the new one


def announced(
    path: str | os.PathLike[str],
    expect: Callable[[Path, Manifest, dict[str, Member]], None],
) -> tuple[Manifest, dict[str, Member]]:
    """Return the manifest of a file and what its headers announce; no data are read."""
    found: dict[str, Any] = {}

    def see(where: Path, manifest: Manifest, members: dict[str, Member]) -> None:
        expect(where, manifest, members)
        found.update(manifest=manifest, members=members)

    read(path, expect=see, headers=True)
    return found["manifest"], found["members"]


def _read(
    path: Path,
    kind: Any,
    budget: int,
    itemsize: int,
    expect: Expect | None,
    passing: Collection[str],
    take: Take | None,
    headers: bool,
) -> tuple[Manifest, dict[str, np.ndarray]]:
    key, arrays = "", {}
    try:
        with (
            memory.telling(path, 4 * documents.SIZE),
            kind.opened(path) as (manifest, members),
        ):
            if expect is not None:
                members = expect(path, manifest, members) or members
            if headers:
                return manifest, {}
            need = memory.expect_room(path, members, budget, itemsize, passing)
            with memory.telling(path, need):
                for key in sorted(members, key=lambda x: x.startswith("layers/")):
                    member = members[key]
                    if take is None:
                        arrays[key] = member.read()
                    else:
                        arrays[key] = take(manifest, key, member, arrays)
            return manifest, arrays
    except (ExportError, ImportError):
        raise
    except Exception as error:  # zipfile, zlib, numpy and numcodecs each have their own
        what = (
            "a Zarr v3 group of arrays" if kind is groups else "arrays in an .npz file"
        )
        raise ExportError(
            path,
            key,
            f"expected {what}, got {type(error).__name__} ({shown(str(error))}); it is "
            "incomplete, damaged or foreign: export it again",
        ) from error


def write(
    path: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    fixed: Mapping[str, np.ndarray] | None = None,
    *,
    compress: bool = True,
) -> Path:
    """Write batches of rows, joined along axis 0, and arrays that come in one piece.

    A Zarr group is written batch by batch. `fixed` is read after the batches, which may
    add to it. Nothing is left if a batch raises.
    """
    path, kind = _expect_path(path, misnamed)
    stated, fixed = documents.plain(path, manifest), {} if fixed is None else fixed
    rows = fitting(path, batches)
    with ExitStack() as stack:
        # only the system's refusals are named: what batches raise passes as it is
        if kind is groups:
            with naming(path):
                folder = stack.enter_context(files.atomic_folder(path, groups.MARK))
            groups.put(path, folder, stated, rows, fixed, compress)
        else:
            with naming(path):
                file = stack.enter_context(files.atomic(path))
            arrays = _joined(rows)
            arrays |= fixed
            stated["digest"] = fingerprint(stated, arrays)
            with naming(path):
                archives.put(file, stated, arrays, compress)
        with naming(path):
            stack.close()
    return path


def _expect_path(
    path: str | os.PathLike[str], wrong: Callable[[Path], str]
) -> tuple[Path, Any]:
    """Return a path and the module of its kind, or say what is wrong with its end."""
    advice = "name a file ending in .npz or a folder ending in .zarr"
    checks.expect_type("path", path, (str, os.PathLike), advice)
    path = Path(os.fsdecode(path))
    if path.suffix not in (".npz", ".zarr") or "\0" in str(path):
        raise ExportError(path, "", wrong(path))
    if path.suffix == ".npz":
        return path, archives
    groups.library("zarr")
    return path, groups


def _identity(path: Path) -> tuple[int, ...]:
    """Return what tells a folder from the one that takes its place."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return ()
    return found.st_dev, found.st_ino, found.st_ctime_ns


def fitting(
    path: str | os.PathLike[str], batches: Iterable[Mapping[str, np.ndarray]]
) -> Iterator[Mapping[str, np.ndarray]]:
    """Yield batches of the same keys, dtypes and row shapes as the first one."""
    first: Mapping[str, np.ndarray] | None = None
    for batch in batches:
        first = batch if first is None else first
        if set(batch) != set(first):
            raise ExportError(
                path,
                min(set(batch) ^ set(first)),
                f"expected batches of the keys {sorted(first)} as the first one, got "
                f"{sorted(batch)}; give each key in each",
            )
        for key, x in batch.items():
            old = first[key]
            if x.shape[1:] != old.shape[1:] or x.dtype != old.dtype:
                raise ExportError(
                    path,
                    key,
                    f"expected batches of {old.dtype} and row shape {old.shape[1:]} as "
                    f"the first one, got {x.dtype} and {x.shape[1:]}; pad or resize "
                    "the inputs to one shape",
                )
        yield batch


def _joined(batches: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        for key, x in batch.items():
            parts.setdefault(key, []).append(x)
    return {key: np.concatenate(rows) for key, rows in parts.items()}
