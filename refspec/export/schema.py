r"""What an export holds: the keys of schema ``refspec.export/1`` and every check.

An export is one `.npz` file or one Zarr v3 group (a folder ending in `.zarr`, needs
``refspec[zarr]``) with the same keys in both:

=========================== =============== ==========================================
key                         shape           holds
=========================== =============== ==========================================
``manifest``                ()              a JSON object, see below
``labels``                  (N,)            integers in 0..C-1; a class may be empty
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
``schema``, ``layers`` (their names, in order), ``digest`` and, with a model,
``operations`` (see `ModelSection`); where known also ``framework``, ``versions``,
``architecture``, ``class_names``, ``loss``. In an `.npz` it is a 0-d string array, in a
Zarr group the attribute ``manifest``; it is strict JSON, at most 2^24 characters and 64
levels. How much of the network the layers are is stated by ``left_out`` (parameters by
module, ``{}`` for none) and ``biases`` (true or false by layer), see
`refspec.coverage`; a file without them does not say. ``recomputed`` holds T, a and b by
name of layers whose features and errors are not in the file: its operations give them
again, in float64, from the errors p - e_c' of the last one.

The digest is ``refspec.digest/2:`` and 64 hexadecimal digits, the SHA-256 of lines::

    manifest <sha256>
    labels <i8 250 <sha256>
    layers/0/features <f4 250x1x17 <sha256>

first the manifest without ``digest`` (as JSON in ASCII, keys sorted, no spaces), then
every array in the order of the keys as UTF-8: key, NumPy's little-endian dtype, sizes,
hash of the little-endian bytes in C order. A bare digest is of the time before it
covered the manifest: such a file is refused, for its names could have been exchanged.

A Zarr array has regular chunks, all of them stored (those of zeros too), of the codecs
``bytes`` and then ``zstd``, ``gzip`` or none; links and pipes are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refspec import rounding
from refspec.coverage import is_statement
from refspec.export.digests import KIND, Seen, fingerprint
from refspec.export.errors import ExportError, shown

#: Name and version of the format; another version is refused.
SCHEMA = "refspec.export/1"
#: What the keys of the model's arrays begin with.
PARAMETERS = "model/parameters/"
#: The keys of an operation that name arrays.
ROLES = ("weight", "bias", "mean", "variance")
#: What a manifest says of the export itself: a caller's own give way.
RESERVED = {
    *("schema", "layers", "operations", "recomputed", "left_out", "biases"),
    *("digest", "dtype"),
}

_OPTIONAL = {"sample_weights": ("N",)}
_STATED = {
    "left_out": "counts of parameters by module",
    "biases": "true or false by layer",
}


def parameters_of(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of the model by the names that operations have for them."""
    return {
        key.removeprefix(PARAMETERS): x
        for key, x in arrays.items()
        if key.startswith(PARAMETERS)
    }


def expect_form(
    path: Any, manifest: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Check the manifest, and shapes and dtypes of what may be announced only."""
    _expect_manifest(path, manifest)
    shapes = _expect_keys(path, manifest, arrays)
    sizes: dict[str, int] = {}
    for key in [*shapes, *sorted(set(arrays) - set(shapes))]:
        _expect_dtype(path, key, arrays[key])
        _expect_shape(path, key, arrays[key], shapes.get(key), sizes)
    if sizes["C"] < 2:
        raise ExportError(
            path,
            "logits",
            f"expected C >= 2, got C = {sizes['C']}; give a binary classifier both, "
            "(0, z) for a single logit z",
        )
    names = manifest.get("class_names")
    if names is not None and not (_strings(names) and len(names) == sizes["C"]):
        raise ExportError(
            path,
            "manifest",
            f"expected C = {sizes['C']} class_names, strings, got {shown(names)}; "
            "correct the list",
        )


def expect_contents(
    path: Any, manifest: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Check the digest, if there is one, and every value; the form is checked before.

    Sums of k probabilities of unit roundoff u must be 1 within gamma_{2k+16}: rounded
    softmax outputs are, in any order of summation.
    """
    if "digest" in manifest:
        expect_digest(path, manifest, arrays)
    for key, x in arrays.items():
        if not isinstance(x, Seen):
            expect_values(path, key, x)
    output = "logits" if "logits" in arrays else "probabilities"
    _expect_labels(path, arrays["labels"], arrays[output].shape[1])


def expect_digest(
    path: Any, manifest: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Refuse arrays that are not those of the manifest's digest."""
    given = manifest["digest"]
    if not isinstance(given, str) or not given.startswith(KIND):
        raise ExportError(
            path,
            "manifest",
            f"expected a digest that begins with {KIND}, got {shown(given)}; it is "
            "altered, or older than digests that cover the manifest: export it again",
        )
    found = fingerprint(manifest, arrays)
    if given != found:
        raise ExportError(
            path,
            "manifest",
            f"expected digest {found}, that of manifest and arrays, got "
            f"{shown(given)}; the file was altered or damaged: export it again",
        )


def _expect_manifest(path: Any, manifest: Mapping[str, Any]) -> None:
    schema = manifest.get("schema")
    if schema != SCHEMA:
        raise ExportError(
            path,
            "manifest",
            f"expected schema {SCHEMA!r}, got {shown(schema)}; the file is "
            "foreign, or of another version of refspec",
        )
    layers, steps = manifest.get("layers"), manifest.get("operations", [])
    if not layers or not _strings(layers):
        raise ExportError(
            path, "manifest", f"expected layers, a list of names, got {shown(layers)}"
        )
    if len(set(layers)) < len(layers):
        raise ExportError(
            path,
            "manifest",
            f"layer names must be distinct, got {shown(layers)}; rename one",
        )
    for key, kind in (("left_out", int), ("biases", bool)):
        given = manifest.get(key, {})
        known = is_statement(given, kind)
        if not known or (kind is bool and not set(given) <= set(layers)):
            raise ExportError(
                path,
                "manifest",
                f"expected {key}, an object of {_STATED[key]}, got {shown(given)}; "
                "correct it, or leave it out if it is not known",
            )
    again = manifest.get("recomputed", {})
    if not _is_sizes(again) or not set(again) <= set(layers if steps else []):
        raise ExportError(
            path,
            "manifest",
            "expected recomputed, an object of [T, a, b] by layer, and operations that "
            f"give them, got {shown(again)}; correct it, or export it again",
        )
    if not isinstance(steps, list) or not all(_is_step(x) for x in steps):
        raise ExportError(
            path,
            "manifest",
            "expected operations, a list of objects with strings as op, name and "
            f"{', '.join(ROLES)}, got {shown(steps)}; correct them",
        )


def _strings(items: Any) -> bool:
    return isinstance(items, list) and all(isinstance(x, str) for x in items)


def _is_sizes(item: Any) -> bool:
    return isinstance(item, dict) and all(
        isinstance(x, list) and len(x) == 3 and all(type(n) is int and n > 0 for n in x)
        for x in item.values()
    )


def _is_step(item: Any) -> bool:
    words = ("op", "name", *ROLES)
    return isinstance(item, Mapping) and all(
        isinstance(item.get(x), str | None) for x in words
    )


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
            f"them among {shown(sorted(arrays))}; export it again",
        )
    shapes: dict[str, tuple[str, ...]] = {"labels": ("N",), outputs[0]: ("N", "C")}
    for k, name in enumerate(manifest["layers"]):
        if name in manifest.get("recomputed", {}):
            continue
        shapes[f"layers/{k}/features"] = ("N", f"T{k}", f"a{k}")
        shapes[f"layers/{k}/errors"] = ("N", "C", f"T{k}", f"b{k}")
    needed = list(shapes)
    if "operations" in manifest:
        named = [x.get(y) for x in manifest["operations"] for y in ROLES]
        names = [str(x) for x in named if x is not None]
        bad = [x for x in names if "/" in x or x in ("", ".", "..")]
        bad += [x for x in names if not x.isprintable()]
        if bad:
            raise ExportError(
                path,
                "manifest",
                f"expected printable parameter names without '/', got {shown(bad)}; "
                "rename them",
            )
        needed += ["model/inputs", *(PARAMETERS + x for x in names)]
    for key in needed:
        if key not in arrays:
            raise ExportError(
                path,
                key,
                f"expected this key, got {shown(sorted(arrays))}; export it again",
            )
    unknown = sorted(set(arrays) - {*needed, *_OPTIONAL})
    if unknown:
        raise ExportError(
            path,
            unknown[0],
            f"expected no key but {shown(sorted({*needed, *_OPTIONAL}))}, got "
            f"{shown(unknown)}; rename or remove it",
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
    if 0 in x.shape:
        raise ExportError(
            path, key, f"expected sizes >= 1, got shape {x.shape}; drop what is empty"
        )
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


def expect_values(path: Any, key: str, x: np.ndarray) -> None:
    """Refuse numbers that are not finite, and shares that are none."""
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
    with np.errstate(over="ignore"):  # an infinite sum is off
        off = np.max(np.abs(x.sum(axis=-1, dtype=np.float64) - 1), initial=0)
    bound = rounding.gamma(2 * x.shape[-1] + 16, rounding.unit_roundoff(x))
    if off > bound:
        raise ExportError(
            path,
            key,
            f"expected sum 1 within rounding ({bound:.1e}), got a sum off by "
            f"{off:.3g}; store logits, or divide by the sum",
        )


def _expect_labels(path: Any, labels: np.ndarray, C: int) -> None:
    if labels.min() < 0 or labels.max() >= C:
        raise ExportError(
            path,
            "labels",
            f"expected 0..C-1 = 0..{C - 1}, got {labels.min()}..{labels.max()}; number "
            "the classes from 0",
        )
