"""`refspec attribute` and `refspec spectrum`."""

from __future__ import annotations

import textwrap

import typer

from refspec import attribution, backend, memory, plots, spectra
from refspec.attribution import Attribution
from refspec.cli.apart import Kept, Processes, Scheduler, Shards, apart
from refspec.cli.hessian import attribute_hessian, hessian_spectrum
from refspec.cli.inputs import (
    PRINTED,
    Backend,
    Certify,
    File,
    LayerName,
    LeaveOut,
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
    attribution_record,
    expect_outputs,
    spectrum_record,
    told,
    write_json,
    write_picture,
)
from refspec.cli.terminal import console, new_table, say, working
from refspec.plots.style import visible_level


def attribute(
    file: File = None,
    layer: LayerName = None,
    of: OfWhat = Of.fisher,
    top: Top = None,
    certify: Certify = False,
    leave_out: LeaveOut = 0.0,
    json_file: Json = None,
    plot: Plot = None,
    on: On = Backend.numpy,
    limit: Memory = None,
    shards: Shards = None,
    workers: Processes = None,
    scheduler: Scheduler = None,
    journal: Kept = None,
) -> None:
    """Print the top eigenvalues with the level of the class structure behind each."""
    expect_outputs([file], json=json_file, plot=plot)
    if of is Of.hessian:
        _expect_whole(shards, workers, scheduler, journal, leave_out or None)
        if certify:
            raise typer.BadParameter(
                "--certify goes with the eigenvalues of a Hessian, not with what makes "
                "them up; see refspec spectrum --of hessian --certify"
            )
        with memory.within(limit):
            attribute_hessian(file, layer, top or PRINTED, json_file, plot, on)
        return
    where = apart(shards, workers, scheduler, journal)
    with memory.within(limit), where as parts:
        chosen = choose_moment(
            file, layer, of, on, "attribute", top, certify, parts, leave_out
        )
        with working("factorising and attributing", chosen.plan):
            result = attribution.attribute(
                chosen.moment, top=top, certify=certify, leave_out=leave_out
            )
    title, covered = chosen.title, chosen.covered
    say(str(covered))
    _print(result, title, top or PRINTED)
    if plot is not None:
        write_picture(plot, plots.attribution(result, title))
    if json_file is not None:
        record = attribution_record(result, title, covered)
        write_json(json_file, "refspec.spectrum/1", record)


def _print(result: Attribution, title: str, top: int) -> None:
    """Print the top eigenvalues, each with its shares, and what the levels make up."""
    values = backend.to_host(result.spectrum.values)
    seen = visible_level("diagonal", result)
    shown, notes = told(result.shares, seen)
    table = new_table(title, ["k", "eigenvalue", *shown, "kind", "proved"])
    for k in range(min(top, len(result.kinds))):
        shares = [f"{x[k]:.3f}" for x in shown.values()]
        proof = "yes" if result.proved[k] else ""
        table.add_row(str(k + 1), f"{values[k]:.6g}", *shares, result.kinds[k], proof)
    console.print(table)
    total = sum(result.traces.values())
    if total > 0:
        traces = told(result.traces, seen)[0].items()
        parts = ", ".join(f"{n} {t / total:.3f}" for n, t in traces)
        for line in textwrap.wrap(f"share of the trace: {parts}", 80):
            say(line)
    else:
        say("the matrix is zero: no level has a share of its trace")
    for note in notes:
        say(note)
    say(f"radius of every eigenvalue: {result.spectrum.radius:.2e}")
    say(f"  ({result.spectrum.kind})")


def spectrum(
    file: File = None,
    layer: LayerName = None,
    of: OfWhat = Of.fisher,
    top: Top = None,
    certify: Certify = False,
    leave_out: LeaveOut = 0.0,
    json_file: Json = None,
    plot: Plot = None,
    on: On = Backend.numpy,
    limit: Memory = None,
    shards: Shards = None,
    workers: Processes = None,
    scheduler: Scheduler = None,
    journal: Kept = None,
) -> None:
    """Print the exact eigenvalues with their radius."""
    expect_outputs([file], json=json_file, plot=plot)
    if of is Of.hessian:
        _expect_whole(shards, workers, scheduler, journal, leave_out or None)
        with memory.within(limit):
            result, title, covered = hessian_spectrum(file, layer, top, certify, on)
    else:
        where = apart(shards, workers, scheduler, journal)
        with memory.within(limit), where as parts:
            chosen = choose_moment(
                file, layer, of, on, "spectrum", top, certify, parts, leave_out
            )
            with working("factorising", chosen.plan):
                result = spectra.spectrum(
                    chosen.moment, top=top, certify=certify, leave_out=leave_out
                )
        title, covered = chosen.title, chosen.covered
    say(title)
    say(str(covered))
    say(f"{'k':>5}  eigenvalue")
    for k, value in enumerate(backend.to_host(result.values)[: top or PRINTED], 1):
        say(f"{k:5}  {value:.15e}")
    others = f"{result.n_zero} more are zero"
    if not result.complete:
        others = f"the other {result.dimension - len(result.values)} are none larger"
    say(f"radius {result.radius:.2e} ({result.kind}); {others}")
    if plot is not None:
        write_picture(plot, [plots.spectrum(result)])
    if json_file is not None:
        record = spectrum_record(result, title, covered)
        write_json(json_file, "refspec.spectrum/1", record)


def _expect_whole(*apart: object) -> None:
    """Refuse parts of an export, or of its rows, for the Hessian, which takes all."""
    if any(x is not None for x in apart):
        raise typer.BadParameter(
            "--shards, --workers, --scheduler, --journal and --leave-out are of the "
            "Fisher information, got --of hessian; leave one of the two out"
        )
