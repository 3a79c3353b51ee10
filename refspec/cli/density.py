"""`refspec density`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import typer

from refspec import memory, plots, ways
from refspec.cli.apart import Kept, Processes, Scheduler, Shards, apart
from refspec.cli.inputs import (
    Backend,
    File,
    LayerName,
    Memory,
    Of,
    OfWhat,
    On,
    choose_moment,
)
from refspec.cli.outputs import (
    Json,
    Plot,
    expect_outputs,
    write_json,
    write_picture,
)
from refspec.cli.terminal import console, new_table, say, working
from refspec.plots.style import label
from refspec.quadrature import WHOLE, Density, densities

Probes = Annotated[
    int, typer.Option(min=1, help="Random vectors: more of them, a narrower band.")
]
Steps = Annotated[
    int, typer.Option(min=1, help="Lanczos steps from each: finer in the eigenvalue.")
]


def density(
    file: File = None,
    layer: LayerName = None,
    of: OfWhat = Of.fisher,
    probes: Probes = 16,
    steps: Steps = 64,
    json_file: Json = None,
    plot: Plot = None,
    on: On = Backend.numpy,
    limit: Memory = None,
    shards: Shards = None,
    workers: Processes = None,
    scheduler: Scheduler = None,
    journal: Kept = None,
) -> None:
    """Count the eigenvalues above thresholds, of the whole and without each level.

    From products alone, none of them computed: a number lies between two bounds.
    """
    expect_outputs([file], json=json_file, plot=plot)
    if of is Of.hessian:
        raise typer.BadParameter(
            "--of must be fisher, features or errors, got hessian, whose eigenvalues "
            "have both signs; see refspec spectrum --of hessian"
        )
    where = apart(shards, workers, scheduler, journal)
    with memory.within(limit), where as parts:
        chosen = choose_moment(file, layer, of, on, "density", parts=parts)
        (part,) = chosen.plan.parts  # that of the whole
        cost = ways.density(chosen.moment, probes, steps, ways.runs(chosen.moment))
        every = replace(part, title=f"{WHOLE}, and without each level", cost=cost)
        with working("counting", replace(chosen.plan, parts=(every,))):
            found = densities(chosen.moment, probes=probes, steps=steps)
    say(str(chosen.covered))
    _print(found, chosen.title)
    if plot is not None:
        write_picture(plot, [plots.density(found)])
    if json_file is not None:
        record: dict[str, Any] = {
            "of": chosen.title,
            "coverage": chosen.covered.document(),
            "densities": {n: _record(x) for n, x in found.items()},
        }
        write_json(json_file, "refspec.density/1", record)


def _title(name: str) -> str:
    """Return what a moment is called."""
    return name if name == WHOLE else f"without {label(name)}"


def _print(found: dict[str, Density], title: str) -> None:
    """Print the bounds at thresholds a decade apart, those of the whole."""
    whole = found[WHOLE]
    table = new_table(f"{title}: eigenvalues above", ["threshold", *map(_title, found)])
    top = np.floor(np.log10(whole.thresholds[0]))
    for power in range(int(top), int(top) - 8, -1):
        cells = []
        for x in found.values():
            # the thresholds descend, and the numbers above them ascend: the last one
            # above bounds from below, the first one below from above
            above = np.flatnonzero(x.thresholds >= 10.0**power)
            below = np.flatnonzero(x.thresholds <= 10.0**power)
            low = int(x.lower[above[-1]]) if len(above) else 0
            high = int(x.upper[below[0]]) if len(below) else x.n
            cells.append(str(low) if low == high else f"{low} to {high}")
        table.add_row(f"1e{power}", *cells)
    console.print(table)
    say(
        f"of {whole.n}; every number of a column lies within, except with probability "
        f"{whole.failure:.0e}"
    )


def _record(x: Density) -> dict[str, Any]:
    """Return a density as plain data."""
    return {
        "thresholds": x.thresholds.tolist(),
        "lower": x.lower.tolist(),
        "upper": x.upper.tolist(),
        "nodes": x.nodes.tolist(),
        "weights": x.weights.tolist(),
        "n": x.n,
        "failure": x.failure,
    }
