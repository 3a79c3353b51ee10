r"""What an export holds: the keys of schema ``refspec.export/1`` and every check.

An export is one `.npz` file or one Zarr v3 group (a folder ending in `.zarr`, needs
``refspec[zarr]``) with the same keys in both:

=========================== =============== ==========================================
key                         shape           holds
=========================== =============== ==========================================
``manifest``                ()              a JSON object, see below
``labels``                  (N,)            integers in 0..C-1, every class present
``logits``                  (N, C)          what enters the softmax; or, instead,
``probabilities``           (N, C)          what leaves it, rows of sum 1
``sample_weights``          (N,)            optional, >= 0, sum 1; 1/N if absent
``layers/<k>/features``     (N, T, a)       inputs of linear map k = 0, 1, ...; a bias
                                            is a last feature equal to 1
``layers/<k>/errors``       (N, C, T, b)    derivative of ``-log p[c']`` by the map's
                                            output, for every label c'
``model/inputs``            (N, ...)        optional, with ``model/parameters``
``model/parameters/<name>`` any             the arrays that ``operations`` names
=========================== =============== ==========================================

Real arrays are float32 or float64, read as exact numbers. Samples may come in any
order, the same for every key; they are sorted by class when read. The manifest holds
``schema``, ``layers`` (their names, in order), ``digest`` (of every array, by
`refspec.export.containers.fingerprint`) and, with a model, ``operations`` (see
`ModelSection`); where known also ``framework``, ``versions``, ``architecture``,
``class_names``, ``loss``. In an `.npz` it is a 0-d string array, in a Zarr group the
attribute ``manifest``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refspec import rounding
from refspec.export.containers import ExportError, fingerprint

__all__ = ["PARAMETERS", "SCHEMA", "check"]

#: Name and version of the format; another version is refused.
SCHEMA = "refspec.export/1"
#: What the keys of the model's arrays begin with.
PARAMETERS = "model/parameters/"

_OPTIONAL = {"sample_weights": ("N",)}


def check(path: Any, manifest: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Check manifest and arrays in full; nothing of an export is used before.

    Parameters
    ----------
    path : path
        What errors call the source.
    manifest : mapping
        Its ``digest`` is compared if it is there.
    arrays : mapping of str to ndarray
        All of them.

    Raises
    ------
    ExportError
        At the first key that is missing, unknown, or not as the schema has it.

    Notes
    -----
    Sums of k probabilities of unit roundoff u must be 1 within gamma_{2k+16}: rounded
    softmax outputs are, in any order of summation.
    """
    _expect_manifest(path, manifest)
    shapes = _expect_keys(path, manifest, arrays)
    sizes: dict[str, int] = {}
    for key in [*shapes, *sorted(set(arrays) - set(shapes))]:
        _expect_dtype(path, key, arrays[key])
        _expect_shape(path, key, arrays[key], shapes.get(key), sizes)
    if "digest" in manifest and manifest["digest"] != (found := fingerprint(arrays)):
        raise ExportError(
            path,
            "manifest",
            f"expected digest {found}, that of the arrays, got {manifest['digest']}; "
            "the file was altered or damaged: export it again",
        )
    for key, x in arrays.items():
        _expect_values(path, key, x)
    _expect_classes(path, manifest, arrays["labels"], sizes["C"])


def _expect_manifest(path: Any, manifest: Mapping[str, Any]) -> None:
    schema = manifest.get("schema")
    if schema != SCHEMA:
        raise ExportError(
            path,
            "manifest",
            f"expected schema {SCHEMA!r}, got {schema!r}; the file is foreign, or of "
            "another version of refspec",
        )
    layers, steps = manifest.get("layers"), manifest.get("operations", [])
    if not layers or not _list_of(str, layers):
        raise ExportError(
            path, "manifest", f"expected layers, a list of names, got {layers!r}"
        )
    if not _list_of(dict, steps):
        raise ExportError(
            path, "manifest", f"expected operations, a list of objects, got {steps!r}"
        )


def _list_of(kind: type, items: Any) -> bool:
    return isinstance(items, list) and all(isinstance(x, kind) for x in items)


def _expect_keys(
    path: Any, manifest: Mapping[str, Any], arrays: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Return the letters of the shapes of all keys but the model's."""
    outputs = [x for x in ("logits", "probabilities") if x in arrays]
    if len(outputs) != 1:
        raise ExportError(
            path,
            "logits",
            f"expected exactly one of logits and probabilities, got {len(outputs)} of "
            f"them among {sorted(arrays)}; export it again",
        )
    shapes: dict[str, tuple[str, ...]] = {"labels": ("N",), outputs[0]: ("N", "C")}
    for k in range(len(manifest["layers"])):
        shapes[f"layers/{k}/features"] = ("N", f"T{k}", f"a{k}")
        shapes[f"layers/{k}/errors"] = ("N", "C", f"T{k}", f"b{k}")
    needed = list(shapes)
    if "operations" in manifest:
        named = [x.get(y) for x in manifest["operations"] for y in ("weight", "bias")]
        names = [str(x) for x in named if x is not None]
        bad = [x for x in names if "/" in x or x in ("", ".", "..")]
        if bad:
            raise ExportError(
                path,
                "manifest",
                f"expected parameter names without '/', got {bad}; rename them",
            )
        needed += ["model/inputs", *(PARAMETERS + x for x in names)]
    for key in needed:
        if key not in arrays:
            raise ExportError(
                path, key, f"expected this key, got {sorted(arrays)}; export it again"
            )
    unknown = sorted(set(arrays) - {*needed, *_OPTIONAL})
    if unknown:
        raise ExportError(
            path,
            unknown[0],
            f"expected no key but {sorted({*needed, *_OPTIONAL})}, got "
            f"{unknown}; rename or remove it",
        )
    return shapes | {key: x for key, x in _OPTIONAL.items() if key in arrays}


def _expect_dtype(path: Any, key: str, x: Any) -> None:
    if key == "labels":
        good, expected = x.dtype.kind in "iu", "integers"
    else:
        good = x.dtype.kind == "f" and x.dtype.itemsize in (4, 8)
        expected = "float32 or float64"
    if not good:
        raise ExportError(path, key, f"expected {expected}, got {x.dtype}; convert it")


def _expect_shape(
    path: Any, key: str, x: Any, letters: tuple[str, ...] | None, sizes: dict[str, int]
) -> None:
    """Compare a shape with its letters and remember the sizes they stand for."""
    if letters is None:  # the model's: parameters any, inputs (N, ...)
        if key == "model/inputs" and x.shape[:1] != (sizes["N"],):
            raise ExportError(
                path,
                key,
                f"expected shape (N, ...) with N = {sizes['N']}, got {x.shape}; keep "
                "one input per label",
            )
        return
    if len(x.shape) == len(letters):
        fitting = dict(zip(letters, x.shape, strict=True)) | sizes
        if x.shape == tuple(fitting[letter] for letter in letters):
            sizes |= fitting
            return
    known = ", ".join(f"{y} = {sizes[y]}" for y in letters if y in sizes)
    raise ExportError(
        path,
        key,
        f"expected shape ({', '.join(letters)}{',' * (len(letters) == 1)}) with "
        f"{known or 'any sizes'}, got {x.shape}; axes are explained in refspec.classes",
    )


def _expect_values(path: Any, key: str, x: np.ndarray) -> None:
    bad = int(np.sum(~np.isfinite(x)))
    if bad:
        raise ExportError(
            path,
            key,
            f"expected finite values, got {bad} of {x.size} nan or infinite; look for "
            "a diverged network or an overflow",
        )
    if key not in ("probabilities", "sample_weights"):
        return
    if x.min(initial=0) < 0:
        raise ExportError(path, key, f"expected values >= 0, got {x.min():.3g}")
    off = np.max(np.abs(x.sum(axis=-1, dtype=np.float64) - 1), initial=0)
    bound = rounding.gamma(2 * x.shape[-1] + 16, rounding.unit_roundoff(x))
    if off > bound:
        raise ExportError(
            path,
            key,
            f"expected sum 1 within rounding ({bound:.1e}), got a sum off by "
            f"{off:.3g}; store logits, or divide by the sum",
        )


def _expect_classes(
    path: Any, manifest: Mapping[str, Any], labels: np.ndarray, C: int
) -> None:
    if C < 2 or labels.size == 0:
        raise ExportError(
            path, "labels", f"expected N >= 1, C >= 2, got N = {labels.size}, C = {C}"
        )
    if labels.min() < 0 or labels.max() >= C:
        raise ExportError(
            path,
            "labels",
            f"expected 0..C-1 = 0..{C - 1}, got {labels.min()}..{labels.max()}; number "
            "the classes from 0",
        )
    empty = np.flatnonzero(np.bincount(labels.astype(np.int64), minlength=C) == 0)
    if empty.size:
        raise ExportError(
            path,
            "labels",
            f"expected a sample of every class 0..{C - 1}, got none of "
            f"{empty.tolist()}; drop the class and its logit, or add samples",
        )
    names = manifest.get("class_names")
    if names is not None and not (_list_of(str, names) and len(names) == C):
        raise ExportError(
            path,
            "manifest",
            f"expected C = {C} class_names, strings, got {names!r}; correct the list",
        )
