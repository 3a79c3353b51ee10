"""What every exporter does: check batches, seed the errors, write with a progress bar.

A framework's module yields rows, the arrays of the schema batch by batch; what they
must be, and where they go, is the same for all and stated here.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from refspec._version import __version__
from refspec.classes import Snapshot, log_softmax
from refspec.export import assemble
from refspec.export.containers import write
from refspec.export.schema import PARAMETERS, SCHEMA

_Rows = Iterator[dict[str, np.ndarray]]


def open_loader(
    loader: Iterable[tuple[Any, Any]],
) -> tuple[tuple[Any, Any], Iterator[tuple[Any, Any]], int | None]:
    """Return the first batch, all batches, and how many there are if that is known."""
    batches = iter(loader)
    first = next(batches, None)
    if first is None:
        raise ValueError("loader must give at least one batch, got none; check it")
    if not isinstance(first, tuple | list) or len(first) != 2:
        raise ValueError(
            f"loader must give batches (inputs, labels), got {type(first).__name__}; "
            "for two arrays X and y give [(X, y)]"
        )
    total = len(loader) if isinstance(loader, Sized) else None
    return tuple(first), itertools.chain([first], batches), total


def expect_samples(step: int, n: int) -> None:
    """Refuse a batch of n = 0 samples."""
    if n < 1:
        raise ValueError(f"batch {step} must hold a sample, got none; drop it")


def outputs(step: int, logits: Any, labels: Any, n: int) -> dict[str, np.ndarray]:
    """Return labels and logits of batch `step`, n samples, or refuse what it gives.

    Logits (n, C) are on the host; labels (n,) are integers in 0..C-1.
    """
    if getattr(logits, "ndim", 0) != 2 or len(logits) != n:
        got = tuple(logits.shape) if hasattr(logits, "shape") else type(logits)
        raise ValueError(
            f"model must give logits of shape (batch, C) with batch = {n}, got {got}; "
            "wrap it so that it does"
        )
    C = logits.shape[1]
    if C < 2:
        raise ValueError(
            "model must give C >= 2 logits, got 1; give a binary classifier both, "
            "(0, z) for a single logit z"
        )
    labels = np.asarray(labels)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape (batch,) = ({n},), got {labels.dtype} "
            f"of shape {labels.shape} in batch {step}; give class indices"
        )
    if labels.min() < 0 or labels.max() >= C:
        raise ValueError(
            f"labels must lie in 0..C-1 = 0..{C - 1}, got {labels.min()}.."
            f"{labels.max()} in batch {step}; number the classes from 0"
        )
    return {"labels": labels.astype(np.int64), "logits": host(logits)}


def row(
    inputs: np.ndarray | None,
    made: Mapping[str, np.ndarray],
    layers: Sequence[tuple[np.ndarray, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Return a batch by the names of the schema; (features, errors) of each layer."""
    found = {} if inputs is None else {"model/inputs": inputs}
    found |= made
    for k, (features, errors) in enumerate(layers):
        found |= {f"layers/{k}/features": features, f"layers/{k}/errors": errors}
    return found


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


def expect_layers(
    names: Sequence[str], chosen: Sequence[str], known: Sequence[str], what: str
) -> None:
    """Refuse a choice of layers that is empty, not of `known`, or not once each."""
    unknown = [x for x in chosen if x not in known]
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"layers must be names, each once, among {list(names)}{what}, got "
            f"{unknown or list(chosen)}; correct them"
        )


def host(x: Any) -> np.ndarray:
    """Copy to a NumPy array of float64 or, if narrower, float32."""
    x = np.asarray(x)
    return np.array(x, dtype=np.float64 if x.dtype == np.float64 else np.float32)


def pad(features: np.ndarray) -> np.ndarray:
    """Append the feature 1 of a bias to features (n, T, a)."""
    return np.concatenate([features, np.ones_like(features[..., :1])], axis=-1)


def deliver(
    rows: _Rows,
    path: str | os.PathLike[str] | None,
    parameters: Mapping[str, np.ndarray],
    *,
    framework: tuple[str, str],
    architecture: str,
    layers: Sequence[str],
    operations: Sequence[Mapping[str, Any]] | None,
    class_names: Sequence[str] | None,
    provenance: Mapping[str, Any] | None,
    total: int | None,
    progress: bool,
) -> Path | Snapshot:
    """Write the rows as they come, or make a Snapshot of them if there is no path.

    `framework` is its name and version; what the caller's provenance adds gives way to
    ours. Nothing is left behind if a value is not finite or a class has no sample.
    """
    manifest: dict[str, Any] = dict(provenance or {}) | {
        "schema": SCHEMA,
        "framework": framework[0],
        "versions": {framework[0]: framework[1], "refspec": __version__},
        "architecture": architecture,
        "loss": "cross_entropy",
        "layers": list(layers),
    }
    if class_names is not None:
        manifest["class_names"] = [str(x) for x in class_names]
    if operations is not None:
        manifest["operations"] = [dict(x) for x in operations]
    console = Console(stderr=True)
    bar = Progress(
        console=console, disable=not (progress and console.is_terminal), transient=True
    )
    fixed = {PARAMETERS + name: x for name, x in parameters.items()}
    checked = _checked(rows, layers)
    with bar:
        shown = bar.track(checked, total=total, description="exporting")
        if path is not None:
            return write(path, manifest, shown, fixed)
        parts = list(shown)
    arrays = {key: np.concatenate([x[key] for x in parts]) for key in parts[0]}
    return assemble(manifest, arrays | fixed)


def _checked(rows: _Rows, layers: Sequence[str]) -> _Rows:
    """Refuse values that are not finite, and, at the end, classes without a sample."""
    counts: Any = 0
    for step, row in enumerate(rows):
        for key, x in row.items():
            if not np.all(np.isfinite(x)):
                raise ValueError(
                    f"{key} (layers are {list(layers)}) must be finite, got nan or "
                    f"infinite values in batch {step}; look for a diverged network"
                )
        C = row["logits"].shape[1]
        counts = counts + np.bincount(row["labels"], minlength=C)
        yield row
    if not np.all(counts):
        raise ValueError(
            f"every class 0..{len(counts) - 1} must have a sample, got none for "
            f"{np.flatnonzero(counts == 0).tolist()}; add samples to the loader"
        )
