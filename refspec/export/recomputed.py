"""Features and errors that a file leaves out: its network gives them again.

An export with a model section holds a network and what that network gives. The second
is many times as large, C numbers for one in the errors alone; `refspec.save(...,
recomputed=True)` leaves it out, where the network gives it within the rounding that
`refspec.models.recompute` bounds, and reading computes it, some samples at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refspec import backend
from refspec.classes import Snapshot, misses
from refspec.export.digests import Seen
from refspec.export.errors import ExportError, shown
from refspec.export.memory import Member
from refspec.export.schema import parameters_of
from refspec.models import Network, evaluation, layer_shapes, of_snapshot, to_section
from refspec.models.network import in_format
from refspec.models.recompute import recompute

#: Bytes of errors p - e_c' from which on they are not kept.
LARGE = 2**26
_WIDE = np.dtype(np.float64)


def sizes_of(manifest: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Return T, a, b of the layers that a manifest says are left out."""
    found = manifest.get("recomputed", {})
    return {name: (int(T), int(a), int(b)) for name, (T, a, b) in found.items()}


def expect_recomputable(path: Any, snapshot: Snapshot, narrow: bool) -> dict[str, Any]:
    """Return what the manifest says of arrays that the network gives, or refuse them.

    They are compared with those of the network as it will be stored.
    """
    chain, X = of_snapshot(snapshot)
    if narrow:
        section = to_section(*in_format(chain, X, "float32"))
        stated = {**snapshot.provenance, "dtype": "float32"}
        snapshot = replace(snapshot, model=section, provenance=stated)
    for found in recompute(snapshot):
        if not found.ratio <= 1:
            raise ExportError(
                path,
                found.name,
                "expected what the model section gives, to be left out, got values "
                f"{found.ratio:.3g} times their rounding bound away (by at most "
                f"{found.residual:.3g}); store them, by recomputed=False",
            )
    known = layer_shapes(chain)
    return {
        x.name: [*x.features.shape[1:], x.outputs]
        for x in snapshot.layers
        if x.name in known
    }


def members(
    manifest: Mapping[str, Any], announced: Mapping[str, Member], names: Sequence[str]
) -> dict[str, Member]:
    """Return what is to be computed, as if a file announced it: it needs room too."""
    output = "logits" if "logits" in announced else "probabilities"
    (N, C), sizes = announced[output].shape, sizes_of(manifest)
    found = {}
    for k, name in enumerate(manifest["layers"]):
        if name in names and name in sizes:
            T, a, b = sizes[name]
            shapes = {"features": (N, T, a), "errors": (N, C, T, b)}
            for what, shape in shapes.items():
                found[f"layers/{k}/{what}"] = Member(shape, _WIDE, _none, _none)
    return found


def completed(
    manifest: Mapping[str, Any],
    arrays: Mapping[str, Any],
    probabilities: np.ndarray,
    kept: Sequence[str] | None,
) -> Mapping[str, Any]:
    """Return all arrays of the schema: those of a file, and what its network gives.

    Of layers that are not kept, and of errors p - e_c' that are large, only sizes.
    """
    sizes = sizes_of(manifest)
    wanted = {x: s for x, s in sizes.items() if kept is None or x in kept}
    if not sizes:
        return arrays
    N, C = probabilities.shape
    made = _computed(manifest, arrays, probabilities, wanted) if wanted else {}
    found = dict(arrays)
    for k, name in enumerate(manifest["layers"]):
        if name in sizes:
            T, a, b = sizes[name]
            unkept = Seen((N, T, a), _WIDE, ""), Seen((N, C, T, b), _WIDE, "")
            h, e = made.get(name, unkept)
            found |= {f"layers/{k}/features": h, f"layers/{k}/errors": e}
    return found


def _computed(
    manifest: Mapping[str, Any],
    arrays: Mapping[str, Any],
    p: np.ndarray,
    sizes: Mapping[str, tuple[int, int, int]],
) -> dict[str, tuple[np.ndarray, Any]]:
    """Run the network in float64, some samples at a time, from the stored p - e_c'."""
    given = Network(manifest["operations"], parameters_of(arrays))
    chain, X = in_format(given, arrays["model/inputs"])
    (N, C), steps = p.shape, [x.get("name") for x in chain.operations]
    if missing := sorted(set(sizes) - set(steps)):
        raise ValueError(
            f"recomputed layers must be of the network, {shown(steps)}, got "
            f"{shown(missing)}; export it again"
        )
    # what the last layer gives are the logits: its errors are the seeds
    last = steps[-1] if 8 * N * C * C > LARGE else None
    made: dict[str, tuple[np.ndarray, Any]] = {}
    for name, (T, a, b) in sizes.items():
        seen = Seen((N, C, T, b), _WIDE, "")
        e = seen if name == last else np.empty((N, C, T, b))
        made[name] = np.empty((N, T, a)), e
    each = 8 * sum(T * (a + C * b) for T, a, b in sizes.values()) + 8 * C * C
    step = backend.at_a_time(4 * each, p)
    for i in range(0, N, step):
        j = min(i + step, N)
        ran, f = evaluation.forward(chain, X[i:j])
        if f.shape[1] != C:
            raise ValueError(
                f"the network must give C = {C} logits, got {f.shape[1]}; export it "
                "again"
            )
        seeds = misses(p[i:j, None, :], np.eye(C), np)
        for x, errors in evaluation.backpropagate(ran, seeds, np):
            if x.name in sizes:
                _expect_sizes(x.name, sizes[x.name], x.features, errors)
                h, e = made[x.name]
                h[i:j] = x.features
                if isinstance(e, np.ndarray):
                    e[i:j] = errors
    return made


def _expect_sizes(name: str, stated: tuple[int, int, int], h: Any, e: Any) -> None:
    """Refuse sizes that are not those which the network gives."""
    found = (*h.shape[1:], e.shape[3])
    if found != stated:
        raise ValueError(
            f"sizes T, a, b of {shown(name)} must be {found}, as the network gives "
            f"them, got {stated}; export it again"
        )


def _none() -> Any:
    """Read nothing: it is not in the file."""
