"""Snapshots in files: `save` and `load`, without pickles, all or nothing.

The format, one `.npz` file or one Zarr group, is documented in `refspec.export.schema`;
the files themselves are handled by `refspec.export.containers`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from refspec import backend, checks, classes, coverage, rounding
from refspec._version import __version__
from refspec.classes import Layer, ModelSection, OutputLayer, Snapshot
from refspec.export import memory
from refspec.export import recomputed as again
from refspec.export.containers import announced, read, write
from refspec.export.digests import Seen, passed
from refspec.export.errors import ExportError, shown
from refspec.export.memory import Member
from refspec.export.schema import (
    PARAMETERS,
    RESERVED,
    SCHEMA,
    expect_contents,
    expect_digest,
    expect_form,
    expect_values,
    parameters_of,
)

_DTYPES = ("float32", "float64")


def save(
    snapshot: Snapshot,
    path: str | os.PathLike[str],
    *,
    logits: backend.Array | None = None,
    dtype: Literal["float32", "float64"] | None = None,
    compress: bool = True,
    recomputed: bool = False,
) -> Path:
    """Write a snapshot, all of it or nothing.

    Parameters
    ----------
    snapshot : Snapshot, its provenance goes into the manifest
    path : path, ends in `.npz` or `.zarr`; an export of that name is replaced
    logits : Array, shape (N, C), optional
        In the snapshot's order; stored in place of its probabilities.
    dtype : {"float32", "float64"}, optional
        Format of features, errors and model; by default as they are. Labels,
        probabilities, logits and weights always keep theirs.
    compress : bool
        Zip or zstd.
    recomputed : bool
        Leave out features and errors of the layers of the model section: `load` gets
        them from the network again.

    Returns
    -------
    Path
        The path.

    Raises
    ------
    ExportError
        If the path cannot be written, the logits do not belong to the snapshot's
        probabilities, a value overflows in `dtype`, or what is to be left out is not
        what the network gives (`refspec.models.recompute`). Nothing is left behind.
    ValueError
        If arrays are to be left out and there is no network.

    Notes
    -----
    Logits z belong to the probabilities p if ``p = softmax(z)`` within their rounding,
    ``|p - softmax(z)| <= (exp(gamma_{2C+16} (1 + 2 max|z|)) - 1) softmax(z)`` plus the
    smallest normal number; this rejects logits in another order.

    Examples
    --------
    >>> import tempfile
    >>> layer = Layer("fc", np.ones((3, 1, 2)), np.zeros((3, 2, 1, 4)))
    >>> snapshot = classes.snapshot([layer], [1, 0, 1], logits=np.zeros((3, 2)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load(save(snapshot, f"{folder}/run.npz")).offsets
    (0, 1, 3)
    """
    checks.expect_type("snapshot", snapshot, Snapshot, "make one by refspec.snapshot")
    checks.expect_type("compress", compress, bool, "give True or False")
    checks.expect_type("recomputed", recomputed, bool, "give True or False")
    if dtype is not None:
        checks.expect_choice("dtype", dtype, _DTYPES)

    def stored(x: backend.Array) -> np.ndarray:
        x = backend.to_host(x)
        with np.errstate(over="ignore"):  # found by the check below
            return np.asarray(x.astype(dtype or x.dtype))

    batch = {
        "labels": snapshot.labels,
        "sample_weights": backend.to_host(snapshot.sample_weights),
    }
    if logits is None:
        batch["probabilities"] = backend.to_host(snapshot.probabilities)
    else:
        given = backend.to_host(logits) if backend.is_array(logits) else logits
        checks.expect_type("logits", given, np.ndarray, "give an array")
        batch["logits"] = given
        _expect_logits(path, batch["logits"], backend.to_host(snapshot.probabilities))
    left = {}
    if recomputed:
        left = again.expect_recomputable(path, snapshot, dtype == "float32")
    for k, layer in enumerate(snapshot.layers):
        if layer.name not in left:
            batch[f"layers/{k}/features"] = stored(layer.features)
            batch[f"layers/{k}/errors"] = stored(layer.errors)
    fixed = {}
    manifest: dict[str, Any] = {"versions": {"refspec": __version__}}
    manifest |= {k: v for k, v in snapshot.provenance.items() if k not in RESERVED}
    manifest |= {"schema": SCHEMA, "layers": [x.name for x in snapshot.layers]}
    manifest |= coverage.statement(snapshot)
    wide = {str(x.dtype) for key, x in batch.items() if key.startswith("layers/")}
    narrow = snapshot.provenance.get("dtype") == "float32"
    if (narrow and wide <= {"float64"}) or (left and dtype == "float32"):
        manifest["dtype"] = "float32"  # what its numbers were, in wider ones now
    if left:
        manifest["recomputed"] = left
    if snapshot.model is not None:
        manifest["operations"] = [dict(x) for x in snapshot.model.operations]
        batch["model/inputs"] = stored(snapshot.model.inputs)
        parameters = snapshot.model.parameters
        fixed = {PARAMETERS + name: stored(x) for name, x in parameters.items()}
    expect_form(path, manifest, batch | fixed)
    expect_contents(path, manifest, batch | fixed)
    return write(path, manifest, [batch], fixed, compress=compress)


def load(
    path: str | os.PathLike[str],
    *,
    xp: backend.Namespace = None,
    dtype: Literal["float32", "float64"] = "float64",
    max_bytes: int | None = None,
    layers: Sequence[str] | None = None,
    samples: tuple[int, int] | None = None,
) -> Snapshot:
    """Read an export, every check made before any computation.

    Parameters
    ----------
    path : path, an `.npz` file or a `.zarr` folder
    xp : namespace, optional
        Where the arrays shall live, e.g. ``refspec.backend.named("torch")``; NumPy by
        default.
    dtype : {"float64", "float32"}
        Format of the snapshot; stored numbers are taken as exact and converted.
    max_bytes : int, optional
        What reading may take in memory, by default what is free: the arrays as stored
        and twice as read.
    layers : sequence of str, optional
        Names of some layers: only these are kept, without the network.
    samples : (int, int), optional
        Of a `.zarr` folder: samples i to j in the order of the file are read and no
        others, their weights divided by their sum, without the network; the digest is
        not looked at.

    Returns
    -------
    Snapshot
        Sorted by class. Its provenance is the manifest, with ``dtype`` the narrowest
        dtype of features and errors, as stored or as the manifest has it of a copy.

    Raises
    ------
    ExportError
        If the file is unreadable, truncated, foreign or pickled, of another schema,
        altered since it was written, or inconsistent, or if what its headers announce
        does not fit; file and key are named. Data are read after all of the headers.
    ImportError
        If it is a Zarr group and zarr is not installed.

    Notes
    -----
    Probabilities come from the logits by a float64 softmax. Stored probabilities (and
    sample weights) must have sum 1 within the rounding of their own dtype and, if that
    is float32, are divided by their sum in float64. What is not kept passes block by
    block, for the digest; so do the errors of a large layer before the softmax, which
    become an `OutputLayer` if they are p - e_c' within the rounding of their dtype.
    """
    itemsize = _expect_target(xp, dtype)
    left: set[str] = set()
    output: set[str] = set()
    passing: set[str] = set()
    computed: dict[str, Member] = {}
    kept: list[str] = []

    def expect(
        where: Path, manifest: dict[str, Any], members: dict[str, Member]
    ) -> dict[str, Member]:
        expect_form(where, manifest, members)
        if samples is not None:
            members = _cut(where, members, samples)
        names = manifest["layers"]
        kept[:] = names
        if layers is not None:
            kept[:] = checks.expect_names("layers", layers, names)
        for mine, found in zip(
            (left, output), _passing(names, members, kept), strict=True
        ):
            mine.clear()
            mine.update(found)
        if samples is not None:
            left.update(key for key in members if key.startswith("model/"))
        computed.clear()
        computed.update(again.members(manifest, members, kept))
        if computed:  # the network is needed, whether or not it is kept
            left.difference_update([x for x in left if x.startswith("model/")])
        passing.clear()
        passing.update(left, output)
        return members | computed

    def take(_: Any, key: str, member: memory.Member, arrays: dict[str, Any]) -> Any:
        if key in computed:
            return None
        if key in left and samples is not None:
            return Seen(member.shape, member.dtype, "")
        if key in left:
            return passed(member.blocks(), member.shape, member.dtype)
        found = _as_output(path, key, member, arrays) if key in output else None
        if found is not None:
            return found
        if key in output:
            memory.expect_room(path, {key: member}, budget, itemsize)
        if key == "sample_weights" and samples is not None:
            some = member.read().astype(np.float64)
            return some / np.sum(some)
        return member.read()

    budget = memory.expect_budget(max_bytes)
    manifest, arrays = read(
        path,
        max_bytes=max_bytes,
        itemsize=itemsize,
        expect=expect,
        passing=passing,
        take=take,
    )
    if samples is None:
        manifest.setdefault(
            "digest", None
        )  # a file must have one, an assembly need not
    else:
        manifest.pop("digest", None)
    arrays = {key: x for key, x in arrays.items() if key not in computed}
    need = memory.needed({**arrays, **computed}, itemsize)
    some = samples is not None or len(kept) < len(manifest["layers"])
    with memory.telling(path, sum(need.values())):
        return _assembled(manifest, arrays, xp, dtype, path, kept if some else None)


def weights(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the sample weights (N,) of a file, which is compared with its digest."""

    def take(_: Any, key: str, member: Member, __: dict[str, Any]) -> Any:
        if key == "sample_weights":
            return member.read()
        return passed(member.blocks(), member.shape, member.dtype)

    def expect(where: Path, manifest: Any, members: dict[str, Member]) -> None:
        expect_form(where, manifest, members)
        passing.update(key for key in members if key != "sample_weights")

    passing: set[str] = set()
    manifest, arrays = read(path, expect=expect, take=take, passing=passing)
    manifest.setdefault("digest", None)
    expect_digest(path, manifest, arrays)
    if "sample_weights" in arrays:
        return _normalised(arrays["sample_weights"])
    N = arrays["labels"].shape[0]
    return np.full(N, 1 / N)


def _cut(
    path: Path, members: dict[str, Member], samples: tuple[int, int]
) -> dict[str, Member]:
    """Return the arrays of some samples; parameters are of no sample."""
    (i, j), N = samples, members["labels"].shape[0]
    if not 0 <= i < j <= N:
        raise ValueError(
            f"samples must be i < j within 0..N = {N}, got {i}, {j}; give where they "
            "begin and end"
        )
    found = {}
    for key, member in members.items():
        if key.startswith(PARAMETERS):
            found[key] = member
        elif member.cut is None:
            raise ExportError(
                path,
                key,
                "expected a .zarr folder with chunks of whole samples, of which some "
                "can be read without the others, got another; write one with "
                "refspec.save(refspec.load(path), 'run.zarr')",
            )
        else:
            found[key] = member.cut(i, j)
    return found


def assemble(
    manifest: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    *,
    xp: backend.Namespace = None,
    dtype: Literal["float32", "float64"] = "float64",
    path: str | os.PathLike[str] = "export",
) -> Snapshot:
    """Make a Snapshot of a manifest and the arrays of the schema: `load` without file.

    Parameters
    ----------
    manifest, arrays : mapping
        As in `refspec.export.schema`; ``digest`` may be missing.
    xp, dtype
        As in `load`.
    path : path, what errors call the source

    Returns
    -------
    Snapshot
        Sorted by class.

    Raises
    ------
    ExportError
        As `load`.
    """
    _expect_target(xp, dtype)
    checks.expect_type("manifest", manifest, Mapping, "give a dict")
    checks.expect_type("arrays", arrays, Mapping, "give a dict of arrays by key")
    for key, x in arrays.items():
        checks.expect_type(f"key {shown(key)}", key, str, "name it as the schema does")
        kinds = (np.ndarray, Seen)
        checks.expect_type(f"array {shown(key)}", x, kinds, "convert it to NumPy")
    return _assembled(manifest, arrays, xp, dtype, path, None)


def _assembled(
    manifest: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    xp: backend.Namespace,
    dtype: str,
    path: str | os.PathLike[str],
    kept: Sequence[str] | None,
) -> Snapshot:
    """Check what was read, and build the layers that are kept, all of them if None."""
    xp = backend.named("numpy") if xp is None else xp
    expect_form(path, manifest, arrays)
    expect_contents(path, manifest, arrays)
    stated = dict(manifest, dtype=narrowest(arrays, manifest.get("dtype")))
    return built(stated, arrays, xp=xp, dtype=dtype, path=path, kept=kept)


def narrowest(arrays: Mapping[str, np.ndarray], stated: object = None) -> str:
    """Return the narrowest dtype of features and errors, or what a copy states.

    Those that are computed again are float64.
    """
    stored = [x.dtype for key, x in arrays.items() if key.startswith("layers/")]
    stored.append(np.dtype(str(stated) if stated in _DTYPES else np.float64))
    return str(min(stored, key=lambda x: x.itemsize))


def built(
    manifest: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    *,
    xp: backend.Namespace,
    dtype: str,
    path: str | os.PathLike[str],
    kept: Sequence[str] | None = None,
) -> Snapshot:
    """Make a Snapshot of arrays that are checked; what fits already is not copied.

    Of `kept` layers alone there is no network, if not all are asked for by None.
    """

    def give(x: np.ndarray) -> backend.Array:
        with np.errstate(over="ignore"):  # found by the types' own checks
            return xp.asarray(x.astype(dtype, copy=False))

    probabilities = _probabilities(arrays)
    weights = None
    if "sample_weights" in arrays:
        weights = give(_normalised(arrays["sample_weights"]))
    layers: list[Layer] = []
    left: dict[str, int] = {}
    given = give(probabilities)
    try:
        arrays = again.completed(manifest, arrays, probabilities, kept)
        for k, name in enumerate(manifest["layers"]):
            h, d = arrays[f"layers/{k}/features"], arrays[f"layers/{k}/errors"]
            if isinstance(h, Seen):
                left[name] = h.shape[2] * d.shape[3]
            elif isinstance(d, Seen):
                layers.append(OutputLayer(name, give(h), given))
            else:
                layers.append(Layer(name, give(h), give(d)))
        return classes.snapshot(
            layers,
            arrays["labels"],
            probabilities=given,
            sample_weights=weights,
            provenance=_with_left_out(manifest, left),
            model=_model(manifest, arrays, give) if kept is None else None,
        )
    except ValueError as error:
        raise ExportError(path, "", str(error)) from error


def sizes(
    path: str | os.PathLike[str],
) -> tuple[int, int, dict[str, tuple[int, int, int]], frozenset[str], int]:
    """Return N, C, (T, a, b) of layers, those of errors p - e_c', bytes in float64.

    By the headers of a file alone: large errors of the right shape may be p - e_c'.
    """
    manifest, members = announced(path, expect_form)
    members = members | again.members(manifest, members, manifest["layers"])
    N, C = members["logits" if "logits" in members else "probabilities"].shape
    layers = {}
    for k, name in enumerate(manifest["layers"]):
        T, a = members[f"layers/{k}/features"].shape[1:]
        layers[name] = T, a, members[f"layers/{k}/errors"].shape[3]
    _, output = _passing(manifest["layers"], members, manifest["layers"])
    names = {f"layers/{k}/errors": name for k, name in enumerate(manifest["layers"])}
    held = 8 * sum(x.size for k, x in members.items() if k not in output)
    return N, C, layers, frozenset(names[x] for x in output), held


def _passing(
    names: Sequence[str], members: Mapping[str, Any], kept: Sequence[str]
) -> tuple[set[str], set[str]]:
    """Return the keys that are not kept, and errors that may be p - e_c' and large."""
    left: set[str] = set()
    output: set[str] = set()
    if len(kept) < len(names):
        left |= {key for key in members if key.startswith("model/")}
    for k, name in enumerate(names):
        key = f"layers/{k}/errors"
        if key not in members:
            continue  # it is computed again
        N, C, T, b = members[key].shape
        if name not in kept:
            left |= {key, f"layers/{k}/features"}
        elif T == 1 and b == C and 8 * N * C * C > again.LARGE:
            output.add(key)
    return left, output


def _as_output(
    path: Any, key: str, member: memory.Member, arrays: Mapping[str, Any]
) -> Seen | None:
    """Read errors block by block; keep none if they are p - e_c' within rounding."""
    p, start, same = _probabilities(arrays), 0, True
    hot, u = np.eye(p.shape[1]), rounding.unit_roundoff(np.empty(0, member.dtype))
    # of the softmax's own rounding too, in the precision of the file
    spread = 1.0
    if "logits" in arrays:
        spread += 2 * float(np.max(np.abs(arrays["logits"])))
    else:
        u = max(u, rounding.unit_roundoff(arrays["probabilities"]))
    g = rounding.gamma(2 * p.shape[1] + 32, u) * spread
    least = float(np.finfo(member.dtype).smallest_normal)

    def seen() -> Iterator[np.ndarray]:
        nonlocal start, same
        for block in member.blocks():
            expect_values(path, key, block)
            some = p[start : start + len(block), None, :]
            exact = classes.misses(some, hot, np)
            gap = np.abs(block[:, :, 0, :] - exact)
            same = same and bool(np.all(gap <= g * (some + hot) + least))
            start += len(block)
            yield block

    found = passed(seen(), member.shape, member.dtype)
    return found if same else None


def _probabilities(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the probabilities (N, C) in float64."""
    if "logits" not in arrays:
        return _normalised(arrays["probabilities"])
    logits = arrays["logits"].astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):  # exp(-inf) = 0 is meant
        return np.asarray(np.exp(classes.log_softmax(logits)))


def _with_left_out(
    manifest: Mapping[str, Any], left: Mapping[str, int]
) -> dict[str, Any]:
    """Return the provenance; where it says what is left out, these layers are, too."""
    stated = dict(manifest)
    if left and "left_out" in stated:
        stated["left_out"] = {
            name: stated["left_out"].get(name, 0) + left.get(name, 0)
            for name in {**stated["left_out"], **left}
        }
        stated["layers"] = [x for x in stated["layers"] if x not in left]
    return stated


def _expect_target(xp: backend.Namespace, dtype: str) -> int:
    """Refuse what is no namespace or dtype; return the size of a number in bytes."""
    checks.expect_choice("dtype", dtype, _DTYPES)
    if xp is not None and not callable(getattr(xp, "asarray", None)):
        raise TypeError(
            f"xp must be an array namespace or None, got {type(xp).__name__}; give "
            'one, as refspec.backend.named("torch")'
        )
    return np.dtype(dtype).itemsize


def _model(
    manifest: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    give: Callable[[np.ndarray], backend.Array],
) -> ModelSection | None:
    if isinstance(arrays.get("model/inputs"), Seen | None):
        return None
    parameters = {name: give(x) for name, x in parameters_of(arrays).items()}
    return ModelSection(
        give(arrays["model/inputs"]), manifest["operations"], parameters
    )


def _normalised(x: np.ndarray) -> np.ndarray:
    """Divide float32 numbers by their sum in float64; leave float64 ones to the bit."""
    if x.dtype.itemsize == 8:
        return x
    x = x.astype(np.float64)
    return np.asarray(x / np.sum(x, axis=-1, keepdims=True))


def _expect_logits(path: Any, z: np.ndarray, p: np.ndarray) -> None:
    """Check logits against the probabilities they claim to belong to; see `save`."""
    if z.shape != p.shape or z.dtype.kind != "f" or not np.all(np.isfinite(z)):
        raise ExportError(
            path,
            "logits",
            f"expected finite real values of shape (N, C) = {p.shape}, got {z.dtype} "
            f"of shape {z.shape}; correct them",
        )
    u = max(rounding.unit_roundoff(p), rounding.unit_roundoff(z))
    exact = np.exp(classes.log_softmax(z.astype(np.float64)))
    spread = 1 + 2 * np.max(np.abs(z.astype(np.float64)), axis=1, keepdims=True)
    relative = np.expm1(rounding.gamma(2 * p.shape[1] + 16, u) * spread)
    off = np.abs(p - exact) > exact * relative + float(np.finfo(p.dtype).tiny)
    if np.any(off):
        raise ExportError(
            path,
            "logits",
            "expected softmax(logits) to be the snapshot's probabilities, got "
            f"{np.sum(off)} of {off.size} values off by more than rounding; give them "
            "in the snapshot's order",
        )
