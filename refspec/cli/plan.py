"""`refspec plan`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from refspec import datasets
from refspec.cli.inputs import Certify, File, LayerName, Memory, Top, expect_file
from refspec.cli.outputs import Json, expect_outputs, write_json
from refspec.cli.terminal import console, new_table, say
from refspec.plans import plan as planned


class What(StrEnum):
    """What there is a plan of, as `refspec.plans.WHAT`."""

    attribute = "attribute"
    spectrum = "spectrum"
    density = "density"
    hessian = "hessian"
    kfac = "kfac"
    verify = "verify"
    claims = "claims"
    report = "report"


ForWhat = Annotated[What, typer.Option("--what", help="The command.")]


def plan(
    file: File = None,
    what: ForWhat = What.attribute,
    layer: LayerName = None,
    top: Top = None,
    certify: Certify = False,
    limit: Memory = None,
    json_file: Json = None,
) -> None:
    """Say which way a command takes, in what time and memory; read headers only."""
    expect_outputs([file], json=json_file)
    if file is not None:
        expect_file(file)
    found = planned(
        datasets.digits_mlp() if file is None else file,
        what=what.value,
        layers=None if layer is None else [layer],
        top=top,
        certify=certify,
        memory_limit=limit,
    )
    say(found.sentence())
    if not found.fits:
        say(f"does not fit; {found.advice}")
    if len(found.parts) > 1:
        table = new_table("parts", ["of", "way", "seconds", "MB"])
        for x in found.parts:
            seconds, held = found.time_of(x.cost), x.cost.held / 1e6
            table.add_row(x.title, x.way, f"{seconds:.2g}", f"{held:.3g}")
        console.print(table)
    if json_file is not None:
        write_json(json_file, "refspec.plan/1", found.document())
