"""What a command reads: its options, an export, and the second moment asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from refspec import backend, coverage, curvature, datasets, export
from refspec.classes import Snapshot
from refspec.coverage import Coverage
from refspec.plans import Plan, plan
from refspec.text import listed, visible


class Of(StrEnum):
    """What the second moment is of."""

    features = "features"
    errors = "errors"
    gradients = "gradients"
    fisher = "fisher"
    hessian = "hessian"


class Backend(StrEnum):
    """Array namespaces by name."""

    numpy = "numpy"
    cupy = "cupy"
    torch = "torch"


File = Annotated[
    Path | None, typer.Argument(help="An export; the embedded digits network if none.")
]
LayerName = Annotated[str | None, typer.Option("--layer", help="One layer by name.")]
All = Annotated[bool, typer.Option("--all", help="All layers together (default).")]
OfWhat = Annotated[
    Of, typer.Option("--of", help="Gradients and fisher are one matrix.")
]
Top = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Only so many, the largest, from products: for what is too large to be "
        "factorised. All are computed, and 20 printed, if not given.",
    ),
]
#: How many eigenvalues are printed of all.
PRINTED = 20
On = Annotated[Backend, typer.Option("--backend", help="Array library.")]
Certify = Annotated[bool, typer.Option("--certify", help="Radius with a proof.")]


def _bytes(text: str) -> int:
    """Read a size: 500MB, 4GB, 2GiB, or a number of bytes."""
    found = re.fullmatch(r"([0-9.]+) *([kMGT]?)(i?)B?", text.strip())
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:  # two points
        number = 0.0
    if found is None or not number >= 1:
        raise typer.BadParameter(
            f"--memory must be a size such as 500MB, 4GB or 2GiB, got {visible(text)!r}"
        )
    base = 1024 if found[3] else 1000
    return int(number * base ** " kMGT".index(found[2] or " "))


Memory = Annotated[
    int | None,
    typer.Option(
        "--memory",
        parser=_bytes,
        metavar="SIZE",
        help="What all of it may take, as 4GB; what is free if not given.",
    ),
]


def load_snapshot(file: Path | None, on: Backend = Backend.numpy) -> Snapshot:
    """Load an export, or the embedded one if none is named."""
    xp = None if on is Backend.numpy else backend.named(on.value)
    if file is None:
        return datasets.digits_mlp(xp=xp)
    expect_file(file)
    return export.load(file, xp=xp)


def expect_file(file: Path) -> None:
    """Refuse an export that is not there."""
    if not file.exists():
        raise typer.BadParameter(f"no such file: {file}; give the path of an export")


def expect_one_choice(layer: str | None, every: bool) -> None:
    """Refuse one layer and all layers together."""
    if every and layer is not None:
        raise typer.BadParameter("give --layer NAME or --all, got both")


def expect_layer(snapshot: Snapshot, layer: str | None) -> None:
    """Refuse the name of a layer that the snapshot lacks."""
    names = [x.name for x in snapshot.layers]
    if layer is not None and layer not in names:
        raise typer.BadParameter(
            f"--layer must be one of {listed(names)}; got {visible(layer)!r}"
        )


@dataclass(frozen=True)
class Chosen:
    """A second moment that was asked for, its title, what it covers, and the plan."""

    moment: curvature.SecondMoment
    title: str
    covered: Coverage
    plan: Plan


def choose_moment(
    file: Path | None,
    layer: str | None,
    every: bool,
    of: Of,
    on: Backend,
    what: str,
    top: int | None = None,
    certify: bool = False,
) -> Chosen:
    """Plan what was asked for, refuse what does not fit, and build the moment."""
    expect_one_choice(layer, every)
    snapshot = load_snapshot(file, on)
    expect_layer(snapshot, layer)
    chosen = None if layer is None else [layer]
    kind = of.value if of in (Of.features, Of.errors) else "fisher"
    if kind != "fisher" and layer is None:
        names = listed([x.name for x in snapshot.layers])
        raise typer.BadParameter(f"--of {of} needs --layer, one of {names}")
    planned = plan(
        snapshot, what=what, of=kind, layers=chosen, top=top, certify=certify
    ).expect_room()
    covered = coverage.of_snapshot(snapshot, chosen)
    if kind == "fisher":
        title = f"Fisher information, {called(covered, layer)}"
        return Chosen(curvature.fisher(snapshot, chosen), title, covered, planned)
    build = curvature.features if of is Of.features else curvature.errors
    title = f"{of} of layer {layer}"
    return Chosen(build(snapshot, str(layer)), title, covered, planned)


def called(covered: Coverage, layer: str | None) -> str:
    """Return what a title calls the parameters that it is about."""
    return covered.title if layer is None else f"layer {layer}"
