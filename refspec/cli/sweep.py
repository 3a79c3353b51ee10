"""`refspec sweep`: a claim over a parameter, from a function that returns the sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refspec.cli import python
from refspec.cli.outputs import (
    Json,
    Plot,
    expect_outputs,
    write_json,
    write_picture,
)
from refspec.cli.terminal import console, new_table, say, working
from refspec.plots import sweep as draw
from refspec.sweeps import Sweep

_Named = Annotated[Path, typer.Argument(help="FILE.py:FUNCTION that returns a Sweep.")]
_ADVICE = "write `def run(): return refspec.sweep(claim, name, values)`"


def sweep(function: _Named, json_file: Json = None, plot: Plot = None) -> None:
    """Sweep a claim over a parameter: means over draws with their intervals.

    The rate, the slope of log over log, is said where values and means are positive.
    """
    named = python.named(function)
    if named is None:
        raise typer.BadParameter(
            f"a Python file and a function must be given, got {function}; {_ADVICE}"
        )
    expect_outputs([named[0]], json=json_file, plot=plot)
    python.expect_there(named[0])
    with working("drawing"):
        found: Sweep = python.value(*named, Sweep, _ADVICE)
    record = found.document()
    count = len(next(iter(record["quantities"].values()))["draws"][0])
    table = new_table(
        f"{count} draws, {100 * found.confidence:g} % intervals",
        [found.name, "of", "mean", "from", "to"],
    )
    for value in found.values:
        for name in found.draws:
            x = found.interval(value, name)
            ends = f"{x.value:.5g}", f"{x.lower:.5g}", f"{x.upper:.5g}"
            table.add_row(str(value), name, *ends)
    console.print(table)
    for name in found.draws:
        try:
            rate = found.rate(name)
        except (ValueError, TypeError):  # no logarithms: there is no rate to say
            continue
        say(f"rate of {name}: {rate}")
        ends_of = {"slope": rate.value, "lower": rate.lower, "upper": rate.upper}
        record["quantities"][name]["rate"] = ends_of
    if plot is not None:
        write_picture(plot, [draw(found)])
    if json_file is not None:
        write_json(json_file, "refspec.sweep/1", record)
