"""`refspec selftest`."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer

from refspec import memory
from refspec.cli.inputs import Memory
from refspec.cli.outputs import Json, expect_outputs
from refspec.cli.verdicts import OfCode, Own, Site, chosen, conclude, show, site_of
from refspec.selftest import selftest as run
from refspec.verify import Record

Deep = Annotated[
    bool, typer.Option("--deep", help="Also slow checks, and all embedded networks.")
]


def selftest(
    json_file: Json = None,
    only: OfCode = None,
    own: Own = None,
    deep: Deep = False,
    site: Site = None,
    limit: Memory = None,
) -> None:
    """Check the theorems on refspec itself, on planted worlds and known networks.

    Exit 1 if a statement fails. It needs no file: see verify for yours.
    """
    expect_outputs([], json=json_file)
    theorems, at = chosen(only, "code", own), site_of(site)
    records: list[Record] = []
    with memory.within(limit):
        found = run(theorems=theorems, deep=deep)
        for source, mine in groupby(found, lambda x: x.source):
            records += show(source, mine, len(theorems), at)
    conclude(records, json_file, "refspec.selftest/1")
