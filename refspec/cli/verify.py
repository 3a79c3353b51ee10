"""`refspec verify`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from refspec import memory
from refspec.cli.inputs import Backend, Files, Memory, On, Top, expect_file, load
from refspec.cli.outputs import Json, expect_outputs
from refspec.cli.terminal import announce, say
from refspec.cli.verdicts import OfData, Own, Site, chosen, conclude, show, site_of
from refspec.plans import plan
from refspec.verify import Record
from refspec.verify import verify as verify_snapshot


def verify(
    files: Files = None,
    json_file: Json = None,
    only: OfData = None,
    own: Own = None,
    site: Site = None,
    top: Top = None,
    on: On = Backend.numpy,
    limit: Memory = None,
) -> None:
    """Check networks: are they consistent, which theorems say something of them.

    Exit 1 if a statement fails. Statements on refspec itself: see selftest.
    """
    expect_outputs(files or [], json=json_file)
    theorems, at = chosen(only, "data", own), site_of(site)
    for file in files or []:
        expect_file(file)
    paths: Iterable[Path | None] = files or [None]
    records: list[Record] = []
    covered: dict[str, Any] = {}
    for path in paths:
        with memory.within(limit):
            source = load(path, on)
            name, network = source.name, source.network
            if not (only or own):  # what single theorems take is not planned
                announce(plan(network, what="verify", top=top).expect_room())
            covered[name] = source.coverage.document()
            say(str(source.coverage))
            # what was asked for by its id is run, however slow
            found = verify_snapshot(
                network,
                theorems=theorems,
                source=name,
                deep=bool(only or own),
                top=top,
            )
            records += show(name, found, len(theorems), at)
    conclude(records, json_file, "refspec.verify/1", coverage=covered)
