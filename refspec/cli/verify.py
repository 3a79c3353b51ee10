"""`refspec verify`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from refspec.cli.inputs import Backend, Files, On, expect_file, load
from refspec.cli.outputs import Json, expect_outputs
from refspec.cli.terminal import say
from refspec.cli.verdicts import Only, chosen, conclude, show
from refspec.verify import Record
from refspec.verify import verify as verify_snapshot


def verify(
    files: Files = None,
    json_file: Json = None,
    only: Only = None,
    on: On = Backend.numpy,
) -> None:
    """Check networks: are they consistent, which theorems say something of them.

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
        source = load(path, on)
        name, whole = source.name, source.coverage
        covered[name] = whole.document()
        say(str(whole))
        # what was asked for by its id is run, however slow
        found = verify_snapshot(
            source.network, theorems=theorems, source=name, deep=bool(only)
        )
        records += show(name, found, len(theorems))
    conclude(records, json_file, "refspec.verify/1", coverage=covered)
