"""`refspec plan`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from refspec import datasets
from refspec.classes import Snapshot
from refspec.cli import python
from refspec.cli.inputs import (
    Certify,
    File,
    LayerName,
    LeaveOut,
    Memory,
    Of,
    Top,
    expect_file,
    load,
    part,
)
from refspec.cli.outputs import Json, expect_outputs, write_json
from refspec.cli.terminal import console, new_table, say
from refspec.curvature import SecondMoment
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

    @property
    def of_the_library(self) -> str:
        """What the command does there: densities of the whole and of knock-outs."""
        return "densities" if self is What.density else self.value


ForWhat = Annotated[What, typer.Option("--what", help="The command.")]
Draws = Annotated[
    int | None,
    typer.Option(
        "--bootstrap", min=2, help="Of claims: with so many draws of samples."
    ),
]


def plan(
    file: File = None,
    what: ForWhat = What.attribute,
    layer: LayerName = None,
    top: Top = None,
    certify: Certify = False,
    leave_out: LeaveOut = 0.0,
    draws: Draws = None,
    limit: Memory = None,
    json_file: Json = None,
) -> None:
    """Say which way a command takes, in what time and memory.

    Of an export headers alone are read; a function of a Python file is run.
    """
    expect_outputs([file], json=json_file)
    if draws is not None and what != What.claims:
        raise typer.BadParameter(
            f"--bootstrap goes with --what claims, got --what {what.value}; leave one "
            "of them out"
        )
    subject, layers = _subject(file, layer)
    found = planned(
        subject,
        what=what.of_the_library,
        layers=layers,
        top=top,
        certify=certify,
        leave_out=leave_out,
        memory_limit=limit,
    )
    found = found.repeated(1 + (draws or 0))
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


def _subject(
    file: Path | None, layer: str | None
) -> tuple[Snapshot | SecondMoment | Path, list[str] | None]:
    """Return what is planned, and which of its layers."""
    layers = None if layer is None else [layer]
    if file is None:
        return datasets.digits_mlp(), layers
    expect_file(file)
    if python.named(file) is None:
        return file, layers
    network = load(file).network
    if isinstance(network, Snapshot):
        return network, layers
    return part(network, layer, Of.fisher), None
