"""`refspec report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from refspec import memory
from refspec import report as pages
from refspec.cli.inputs import Backend, Dense, File, Memory, On, Top, load
from refspec.cli.kfac import comparison_record
from refspec.cli.outcomes import DATA
from refspec.cli.outputs import (
    Json,
    attribution_record,
    expect_outputs,
    opened,
    write_json,
)
from refspec.cli.terminal import say, working
from refspec.cli.verdicts import Site, site_of
from refspec.plans import plan

Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="Write the page here; - is standard output."),
]
PerLayer = Annotated[
    bool, typer.Option("--per-layer/--no-per-layer", help="Spectra of every layer too.")
]
Verify = Annotated[
    bool, typer.Option("--verify/--no-verify", help="Check the theorems too.")
]


def report(
    file: File = None,
    output: Output = Path("report.html"),
    dense: Dense = 1000,
    top: Top = None,
    per_layer: PerLayer = True,
    verify: Verify = True,
    json_file: Json = None,
    site: Site = None,
    on: On = Backend.numpy,
    limit: Memory = None,
) -> None:
    """Write one self-contained HTML page about a network."""
    expect_outputs([file], output=output, json=json_file)
    pages.expect_libraries()
    at = site_of(site)
    with memory.within(limit):
        contents, page = _made(file, per_layer, dense, verify, on, at, top)
    with opened(output) as out:
        size = out.write(pages.encoded(page))
    say(f"report: {output} ({size / 1e6:.1f} MB)")
    if json_file is not None:
        write_json(json_file, "refspec.report/1", _record(contents))
    failed = [x.id for x in contents.verdicts if x.status == "fails"]
    if failed:
        say(f"theorems that do not hold: {', '.join(failed)}")
        raise typer.Exit(DATA)


def _record(contents: pages.Contents) -> dict[str, Any]:
    """Return what the page is drawn from as plain data."""
    covered = contents.coverage
    whole = attribution_record(contents.whole, "Fisher information", covered)
    return {
        "coverage": covered.document(),
        "parameters": dict(contents.parameters),
        "traces": dict(contents.traces),
        "fisher": whole,
        "kinds": {n: x.kinds for n, x in contents.layers.items()},
        "comparisons": {
            n: comparison_record(x) for n, x in contents.comparisons.items()
        },
        "claims": [x.plain() for x in contents.findings],
        "records": [x.plain() for x in contents.verdicts],
    }


def _made(
    file: Path | None,
    per_layer: bool,
    dense: int,
    verify: bool,
    on: Backend,
    site: str,
    top: int | None,
) -> tuple[pages.Contents, str]:
    """Plan the page, refuse what does not fit, and make it."""
    network = load(file, on).network
    counted = None if top is None else max(top, (len(network.offsets) - 1) ** 2)
    planned = plan(network, what="report", top=counted).expect_room()
    with working("reading", planned) as progress:
        contents = pages.collect(
            network,
            per_layer=per_layer,
            dense=dense,
            theorems=None if verify else (),
            progress=progress,
            top=top,
        )
        progress("drawing")
        page = pages.render(contents, site)
        return contents, page
