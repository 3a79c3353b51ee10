"""`refspec check`."""

from __future__ import annotations

import typer
from rich.console import Console

from refspec.cli.common import Backend, File, load_snapshot, say
from refspec.models.recompute import recompute

__all__ = ["check"]


def check(file: File = None) -> None:
    """Read an export, check everything in it and say what it holds."""
    snapshot = load_snapshot(file, Backend.numpy)
    N, C = snapshot.probabilities.shape
    say(f"good: N = {N} samples, C = {C} classes, {len(snapshot.layers)} layers")
    for x in snapshot.layers:
        T = x.features.shape[1]
        say(f"  {x.name}: {x.parameters} parameters, {T} position(s)")
    if snapshot.model is None:
        say("no model section: features and errors were not recomputed")
        return
    try:
        differences = recompute(snapshot)
    except ValueError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    for d in differences:
        verdict = "good" if d.ratio <= 1 else "DISAGREES"
        say(f"  {d.name}: recomputed, off by {d.residual:.1e} ({verdict})")
    if any(d.ratio > 1 for d in differences):
        raise typer.Exit(1)
