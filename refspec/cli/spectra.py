"""`refspec attribute` and `refspec spectrum`."""

from __future__ import annotations

import textwrap
from pathlib import Path

import typer

from refspec import attribution, backend, memory, plots, spectra
from refspec.attribution import Attribution
from refspec.cli.apart import Kept, Processes, Scheduler, Shards, apart
from refspec.cli.hessian import attribute_hessian
from refspec.cli.inputs import (
    PRINTED,
    All,
    Backend,
    Certify,
    File,
    LayerName,
    Memory,
    Of,
    OfWhat,
    On,
    Top,
    choose_moment,
)
from refspec.cli.outputs import (
    Json,
    Plot,
    expect_outputs,
    finite,
    spectrum_record,
    write_json,
    write_picture,
)
from refspec.cli.terminal import console, new_table, say, working
from refspec.coverage import Coverage
from refspec.plots.style import label


def attribute(
    file: File = None,
    layer: LayerName = None,
    every: All = False,
    of: OfWhat = Of.fisher,
    top: Top = None,
    json_file: Json = None,
    plot: Plot = None,
    on: On = Backend.numpy,
    certify: Certify = False,
    limit: Memory = None,
    shards: Shards = None,
    workers: Processes = None,
    scheduler: Scheduler = None,
    journal: Kept = None,
) -> None:
    """Print the top eigenvalues with the level of the class structure behind each."""
    expect_outputs([file], json=json_file, plot=plot)
    if of is Of.hessian:
        with memory.within(limit):
            attribute_hessian(file, layer, every, top or PRINTED, json_file, plot, on)
        return
    where = apart(shards, workers, scheduler, journal)
    with memory.within(limit), where as parts:
        chosen = choose_moment(
            file, layer, every, of, on, "attribute", top, certify, parts
        )
        with working("factorising and attributing", chosen.plan):
            result = attribution.attribute(chosen.moment, top=top, certify=certify)
    title, covered = chosen.title, chosen.covered
    say(str(covered))
    _print(result, title, top or PRINTED)
    if plot is not None:
        write_picture(plot, plots.attribution(result, title))
    if json_file is not None:
        _write(result, title, covered, json_file)


def _print(result: Attribution, title: str, top: int) -> None:
    """Print the top eigenvalues, each with its shares, and what the levels make up."""
    values = backend.to_host(result.spectrum.values)
    levels = [label(n) for n in result.shares]
    table = new_table(title, ["k", "eigenvalue", *levels, "kind", "proved"])
    for k in range(min(top, len(result.kinds))):
        shares = [f"{x[k]:.3f}" for x in result.shares.values()]
        proof = "yes" if result.proved[k] else ""
        table.add_row(str(k + 1), f"{values[k]:.6g}", *shares, result.kinds[k], proof)
    console.print(table)
    total = sum(result.traces.values())
    if total > 0:
        traces = result.traces.items()
        parts = ", ".join(f"{label(n)} {t / total:.3f}" for n, t in traces)
        for line in textwrap.wrap(f"share of the trace: {parts}", 80):
            say(line)
    else:
        say("the matrix is zero: no level has a share of its trace")
    say(f"radius of every eigenvalue: {result.spectrum.radius:.2e}")
    say(f"  ({result.spectrum.kind})")


def _write(result: Attribution, title: str, covered: Coverage, path: Path) -> None:
    """Write an attribution as plain data."""
    record = {
        **spectrum_record(result.spectrum, title, covered),
        "traces": result.traces,
        "shares": {n: x.tolist() for n, x in result.shares.items()},
        "kinds": result.kinds,
        "proved": result.proved.tolist(),
        "lower": result.lower.tolist(),
        "upper": result.upper.tolist(),
        "knockouts": {n: x.tolist() for n, x in result.knockouts.items()},
        "levels": {n: x.tolist() for n, x in result.levels.items()},
        "angles": {n: x.tolist() for n, x in result.angles.items()},
        "angle_bounds": {n: finite(x) for n, x in result.angle_bounds.items()},
    }
    write_json(path, "refspec.spectrum/1", record)


def spectrum(
    file: File = None,
    layer: LayerName = None,
    every: All = False,
    of: OfWhat = Of.fisher,
    top: Top = None,
    json_file: Json = None,
    on: On = Backend.numpy,
    certify: Certify = False,
    limit: Memory = None,
    shards: Shards = None,
    workers: Processes = None,
    scheduler: Scheduler = None,
    journal: Kept = None,
) -> None:
    """Print the exact eigenvalues with their radius."""
    expect_outputs([file], json=json_file)
    if of is Of.hessian:
        raise typer.BadParameter("refspec attribute --of hessian prints that spectrum")
    where = apart(shards, workers, scheduler, journal)
    with memory.within(limit), where as parts:
        chosen = choose_moment(
            file, layer, every, of, on, "spectrum", top, certify, parts
        )
        with working("factorising", chosen.plan):
            result = spectra.spectrum(chosen.moment, top=top, certify=certify)
    title, covered = chosen.title, chosen.covered
    say(title)
    say(str(covered))
    for value in backend.to_host(result.values)[: top or PRINTED]:
        say(f"{value:.15e}")
    others = f"{result.n_zero} more are zero"
    if not result.complete:
        others = f"the other {result.dimension - len(result.values)} are none larger"
    say(f"radius {result.radius:.2e} ({result.kind}); {others}")
    if json_file is not None:
        record = spectrum_record(result, title, covered)
        write_json(json_file, "refspec.spectrum/1", record)
