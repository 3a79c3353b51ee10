"""Where the rows of an exporter go: into a file as they come, or into a snapshot.

A framework's module yields rows, the arrays of the schema batch by batch; they are
checked as soon as they are seen, and stated in the manifest that goes with them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from refspec import backend, checks
from refspec._version import __version__
from refspec.classes import Snapshot, log_softmax
from refspec.export.containers import fitting, write
from refspec.export.documents import plain
from refspec.export.errors import shown
from refspec.export.recomputed import expect_recomputable
from refspec.export.schema import PARAMETERS, RESERVED, SCHEMA, expect_form
from refspec.export.snapshots import built, narrowest
from refspec.exporters.reading import Reading, as_names, normalised
from refspec.text import visible

_Rows = Iterator[dict[str, np.ndarray]]


def choose_layers(
    layers: Sequence[str] | None,
    names: Sequence[str],
    known: Sequence[str],
    what: str,
    exclude: Sequence[str] = (),
) -> list[str]:
    """Return the layers asked for, by default all `names`, but those excluded.

    Refuse a choice that is empty, not of `known`, or not once each.
    """
    for word, given in (("layers", layers), ("exclude", exclude)):
        loose = isinstance(given, str | bytes) or not isinstance(given, Iterable | None)
        if loose or (given is None and word == "exclude"):
            raise TypeError(
                f"{word} must be a list of names among {list(names)}, got "
                f"{shown(given, 60)}; put the name in brackets"
            )
    if layers is None and not names:
        raise ValueError(
            f"model must have layers that can be exported{what}, got none; take rows "
            "by differentiation: `moment`, beside `export` of PyTorch and JAX"
        )
    chosen, dropped = list(names if layers is None else layers), list(exclude)
    for word, given in (("layers", chosen), ("exclude", dropped)):
        unknown = [x for x in given if x not in known]
        some = given or word == "exclude"
        if unknown or not some or len(set(given)) < len(given):
            raise ValueError(
                f"{word} must be names, each once, among {list(names)}{what}, got "
                f"{unknown or given}; correct them"
            )
    chosen = [x for x in chosen if x not in dropped]
    if not chosen:
        raise ValueError(
            f"exclude must leave a layer, got all of {dropped}; leave one of them out"
        )
    return chosen


def seeds(logits: np.ndarray) -> Iterator[np.ndarray]:
    """Yield p - e_c' (n, C) for every label c', the derivative of -log p_c'.

    Entry c' is minus the sum of the other probabilities, in float64, so that the small
    errors of a fitted network keep their relative accuracy.
    """
    p = np.exp(log_softmax(logits.astype(np.float64)))
    for c in range(p.shape[1]):
        seed = p.copy()
        seed[:, c] = 0
        seed[:, c] = -seed.sum(axis=1)
        yield seed


def all_seeds(logits: np.ndarray) -> np.ndarray:
    """Return the seeds of every label at once, (n, C, C): axis 1 is c'."""
    return np.stack(list(seeds(logits)), axis=1)


def pad(features: np.ndarray) -> np.ndarray:
    """Append the feature 1 of a bias to features (n, T, a)."""
    return np.concatenate([features, np.ones_like(features[..., :1])], axis=-1)


def row(
    inputs: np.ndarray | None,
    made: Mapping[str, np.ndarray],
    layers: Sequence[tuple[np.ndarray, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Return a batch by the names of the schema; (features, errors) of each layer.

    Samples whose label is ignored are left out.
    """
    found = {} if inputs is None else {"model/inputs": inputs}
    found |= made
    for k, (features, errors) in enumerate(layers):
        found |= {f"layers/{k}/features": features, f"layers/{k}/errors": errors}
    kept = made["labels"] >= 0
    return found if np.all(kept) else {key: x[kept] for key, x in found.items()}


def deliver(
    rows: _Rows,
    path: str | os.PathLike[str] | None,
    parameters: Mapping[str, np.ndarray],
    *,
    framework: tuple[str, str],
    architecture: str,
    layers: Sequence[str],
    operations: Sequence[Mapping[str, Any]] | None,
    without: str = "",
    left_out: Mapping[str, int] | None = None,
    biases: Mapping[str, bool] | None = None,
    class_names: Sequence[str] | None,
    provenance: Mapping[str, Any] | None,
    total: int | None,
    recomputed: bool,
    progress: bool,
    how: Reading | None = None,
) -> Path | Snapshot:
    """Write the rows as they come, or make a Snapshot of them if there is no path.

    `framework`: name and version; `without`: why there are no operations; for the next
    two see `refspec.coverage`. Ours stand before the caller's provenance.
    """
    checks.expect_type("progress", progress, bool, "give True or False")
    checks.expect_type("recomputed", recomputed, bool, "give True or False")
    if recomputed and (path is None or operations is None):
        why = "no path" if path is None else f"no network, because {without}"
        raise ValueError(
            f"recomputed=True needs a file and a network to compute from, got {why}; "
            "leave it out"
        )
    manifest = _provenance(provenance) | {
        "schema": SCHEMA,
        "framework": framework[0],
        "versions": {framework[0]: framework[1], "refspec": __version__},
        "architecture": architecture,
        "loss": "cross_entropy",
        "layers": list(layers),
    }
    steps = None if operations is None else [dict(x) for x in operations]
    stated: dict[str, Any] = {"left_out": left_out, "biases": biases}
    stated |= {"operations": steps, "without_network": without or None}
    manifest |= {key: x for key, x in stated.items() if x is not None}
    if class_names is not None:
        manifest["class_names"] = as_names(class_names)
    manifest = plain("provenance", manifest)
    console = Console(stderr=True)
    bar = Progress(
        console=console, disable=not (progress and console.is_terminal), transient=True
    )
    if without and progress:
        text = (
            f"no network in this export, so no Hessian of it: {visible(without, 300)}"
        )
        console.print(text, style="dim", markup=False, highlight=False)
    fixed = {PARAMETERS + name: x for name, x in parameters.items()}
    where = Path("export") if path is None else path
    some = (x for x in rows if len(x["labels"]))
    checked = _checked(fitting(where, some), where, manifest, fixed, how)
    with bar:
        tracked = bar.track(checked, total=total, description="exporting")
        if recomputed:
            tracked, manifest = _left_out(tracked, where, manifest, fixed)
        if path is not None:
            return write(path, manifest, tracked, fixed)
        parts = [dict(x) for x in tracked]  # then `fixed` is complete
    manifest["dtype"], xp = narrowest(parts[0]), backend.named("numpy")
    return built(manifest, by_class(parts, fixed), xp=xp, dtype="float64", path=where)


def by_class(
    parts: Sequence[dict[str, np.ndarray]], fixed: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Join batches, their samples sorted by class; batches are used up.

    Each number is copied once, into float64, the same number.
    """
    labels = np.concatenate([x["labels"] for x in parts])
    order = np.argsort(labels, kind="stable")
    places = np.argsort(order)
    ends = np.cumsum([len(x["labels"]) for x in parts])
    found = dict(fixed)
    for key in list(parts[0]):
        first = parts[0][key]
        wide = np.float64 if first.dtype.kind == "f" else first.dtype
        out = np.empty((len(labels), *first.shape[1:]), wide)
        for x, where in zip(parts, np.split(places, ends[:-1]), strict=True):
            out[where] = x.pop(key)
        found[key] = out
    if "sample_weights" in found:
        found["sample_weights"] = found["sample_weights"][order]
    return found


def _left_out(
    rows: Iterable[Mapping[str, np.ndarray]],
    where: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    fixed: Mapping[str, np.ndarray],
) -> tuple[_Rows, dict[str, Any]]:
    """Return rows without what the network gives, and the manifest that says so."""
    known = {**manifest, "dtype": "float64"}

    def few() -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
        for row in rows:
            known["dtype"] = narrowest(row)
            numpy, arrays = backend.named("numpy"), {**row, **fixed}
            arrays.pop("sample_weights", None)
            part = built(known, arrays, xp=numpy, dtype="float64", path=where)
            left = expect_recomputable(where, part, narrow=False)
            keys = [f"layers/{manifest['layers'].index(name)}/" for name in left]
            yield left, {k: x for k, x in row.items() if not k.startswith(tuple(keys))}

    each = few()
    left, first = next(each)
    stated = known | {"recomputed": left}
    return itertools.chain([first], (row for _, row in each)), stated


def _checked(
    rows: Iterable[Mapping[str, np.ndarray]],
    where: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    fixed: dict[str, np.ndarray],
    how: Reading | None,
) -> Iterator[Mapping[str, np.ndarray]]:
    """Refuse what no reader would take, as soon as it is seen.

    Weights of samples are added up, and are in `fixed` when all rows are out.
    """
    seen = 0
    weights: list[np.ndarray] = []
    for step, given in enumerate(rows):
        row = dict(given)
        if "sample_weights" in row:
            weights.append(row.pop("sample_weights"))
        if step == 0:  # fitting rows have the first one's shapes: the form is known
            expect_form(where, manifest, row | fixed)
        for key, x in (row if step else {**fixed, **row}).items():
            if not np.all(np.isfinite(x)):
                raise ValueError(
                    f"{key} (layers are {manifest['layers']}) must be finite, got nan "
                    f"or infinite values in batch {step}; look for a diverged network"
                )
        seen += len(row["labels"])
        yield row
    if not seen:
        raise ValueError(
            "loader must give samples, got none whose label counts; check ignore_index"
        )
    if how is not None:
        how.expect_all()
    if weights:
        fixed["sample_weights"] = normalised(np.concatenate(weights))


def _provenance(given: Any) -> dict[str, Any]:
    """Return what a caller adds to the manifest, but what only we can say."""
    given = {} if given is None else given
    checks.expect_type("provenance", given, Mapping, "give a dict, as {'seed': 0}")
    for key in given:
        checks.expect_type(f"key {shown(key, 60)} of provenance", key, str, "quote it")
    return {key: x for key, x in given.items() if key not in RESERVED}
