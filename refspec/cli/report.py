"""`refspec report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refspec.cli.common import (
    Backend,
    File,
    console,
    expect_writable,
    guard,
    load_snapshot,
    say,
)

__all__ = ["Dense", "Output", "PerLayer", "Verify", "report"]

Output = Annotated[Path, typer.Option("--output", "-o", help="Write the page here.")]
Dense = Annotated[
    int,
    typer.Option(min=0, help="Most parameters of a matrix formed: KFAC, Hessian."),
]
PerLayer = Annotated[
    bool, typer.Option("--per-layer/--whole", help="Spectra of every layer too.")
]
Verify = Annotated[
    bool, typer.Option("--verify/--no-verify", help="Check the theorems too.")
]


def report(
    file: File = None,
    output: Output = Path("report.html"),
    dense: Dense = 1000,
    per_layer: PerLayer = True,
    verify: Verify = True,
) -> None:
    """Write one self-contained HTML page about an export."""
    expect_writable(output)
    if output.is_dir():
        raise typer.BadParameter(f"cannot write {output}: it is a folder")
    from refspec import report as pages

    guard(pages.expect_libraries)
    snapshot = load_snapshot(file, Backend.numpy)
    theorems = None if verify else ()
    with console.status("reading") as status:
        contents = pages.collect(
            snapshot,
            per_layer=per_layer,
            dense=dense,
            theorems=theorems,
            progress=status.update,
        )
        status.update("drawing")
        guard(pages.write, contents, output)
    say(f"report: {output} ({output.stat().st_size / 1e6:.1f} MB)")
    failed = [x.id for x in contents.verdicts if x.status == "fails"]
    if failed:
        say(f"theorems that do not hold: {', '.join(failed)}")
        raise typer.Exit(1)
