"""`refspec verify`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from refspec import coverage
from refspec.cli.inputs import Backend, On, expect_file, load_snapshot
from refspec.cli.outputs import Json, expect_outputs
from refspec.cli.terminal import say
from refspec.cli.verdicts import Only, chosen, conclude, show
from refspec.verify import Record
from refspec.verify import verify as verify_snapshot

Files = Annotated[
    list[Path] | None,
    typer.Argument(help="Exports; the embedded digits network if none."),
]


def verify(
    files: Files = None,
    json_file: Json = None,
    only: Only = None,
    on: On = Backend.numpy,
) -> None:
    """Check exports: are they consistent, which theorems say something of them.

    Exit 1 if a statement fails. Statements on refspec itself: see selftest.
    """
    expect_outputs(files or [], json=json_file)
    theorems = chosen(only, "data")
    for file in files or []:
        expect_file(file)
    paths: Iterable[Path | None] = files or [None]
    records: list[Record] = []
    covered: dict[str, Any] = {}
    for path in paths:
        name = "the embedded digits network" if path is None else str(path)
        snapshot = load_snapshot(path, on)
        whole = coverage.of_snapshot(snapshot)
        covered[name] = whole.document()
        say(str(whole))
        # what was asked for by its id is run, however slow
        found = verify_snapshot(
            snapshot, theorems=theorems, source=name, deep=bool(only)
        )
        records += show(name, found, len(theorems))
    conclude(records, json_file, "refspec.verify/1", coverage=covered)
