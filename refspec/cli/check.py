"""`refspec check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from refspec import coverage, memory
from refspec.classes import Snapshot
from refspec.cli.inputs import Backend, File, Memory, On, load_snapshot
from refspec.cli.outcomes import DATA
from refspec.cli.outputs import Json, expect_outputs, finite, write_json
from refspec.cli.terminal import say
from refspec.models.recompute import recompute
from refspec.text import visible


def check(
    file: File = None,
    json_file: Json = None,
    on: On = Backend.numpy,
    limit: Memory = None,
) -> None:
    """Read an export, check everything in it and say what it holds."""
    expect_outputs([file], json=json_file)
    with memory.within(limit):
        _check(load_snapshot(file, on), json_file)


def _check(snapshot: Snapshot, json_file: Path | None) -> None:
    """Say what a snapshot holds, and whether its network gives the same."""
    N, C = snapshot.probabilities.shape
    covered = coverage.of_snapshot(snapshot)
    say(f"good: N = {N} samples, C = {C} classes, {len(snapshot.layers)} layers")
    say(str(covered))
    layers = {x.name: (x.parameters, x.features.shape[1]) for x in snapshot.layers}
    for name, (parameters, T) in layers.items():
        say(f"  {visible(name)}: {parameters} parameters, {T} position(s)")
    if snapshot.model is None:
        said = snapshot.provenance.get("without_network")
        why = f" ({visible(said, 300)})" if isinstance(said, str) else ""
        say(f"no model section{why}: features and errors were not recomputed")
    left = snapshot.provenance.get("recomputed", {})
    computed = {f"{what} of {name}" for name in left for what in ("features", "errors")}
    found = [] if snapshot.model is None else recompute(snapshot)
    differences = [d for d in found if d.name not in computed]
    for d in differences:
        verdict = "good" if d.ratio <= 1 else "DISAGREES"
        say(f"  {visible(d.name)}: recomputed, off by {d.residual:.1e} ({verdict})")
    for name in left:
        say(f"  {visible(name)}: features and errors not in the file, computed from it")
    good = all(d.ratio <= 1 for d in differences)
    if json_file is not None:
        record: dict[str, Any] = {
            "good": good,
            "samples": N,
            "classes": C,
            "coverage": covered.document(),
            "layers": {
                n: {"parameters": P, "positions": T} for n, (P, T) in layers.items()
            },
            "network": snapshot.model is not None,
            "recomputed": {
                d.name: {"residual": finite(d.residual), "ratio": finite(d.ratio)}
                for d in differences
            },
            "not_in_the_file": list(left),
        }
        write_json(json_file, "refspec.check/1", record)
    if not good:
        raise typer.Exit(DATA)
