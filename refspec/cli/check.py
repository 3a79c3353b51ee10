"""`refspec check`."""

from __future__ import annotations

import typer

from refspec import coverage, memory
from refspec.classes import Snapshot
from refspec.cli.inputs import File, Memory, load_snapshot
from refspec.cli.outcomes import DATA
from refspec.cli.terminal import say
from refspec.models.recompute import recompute
from refspec.text import visible


def check(file: File = None, limit: Memory = None) -> None:
    """Read an export, check everything in it and say what it holds."""
    with memory.within(limit):
        _check(load_snapshot(file))


def _check(snapshot: Snapshot) -> None:
    """Say what a snapshot holds, and whether its network gives the same."""
    N, C = snapshot.probabilities.shape
    say(f"good: N = {N} samples, C = {C} classes, {len(snapshot.layers)} layers")
    say(str(coverage.of_snapshot(snapshot)))
    for x in snapshot.layers:
        T = x.features.shape[1]
        say(f"  {visible(x.name)}: {x.parameters} parameters, {T} position(s)")
    if snapshot.model is None:
        said = snapshot.provenance.get("without_network")
        why = f" ({visible(said, 300)})" if isinstance(said, str) else ""
        say(f"no model section{why}: features and errors were not recomputed")
        return
    differences = recompute(snapshot)
    for d in differences:
        verdict = "good" if d.ratio <= 1 else "DISAGREES"
        say(f"  {visible(d.name)}: recomputed, off by {d.residual:.1e} ({verdict})")
    if any(d.ratio > 1 for d in differences):
        raise typer.Exit(DATA)
