"""What a command reads: its options, an export, and the second moment asked for."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from refspec import backend, coverage, curvature, datasets, export
from refspec.classes import Snapshot
from refspec.coverage import Coverage
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


def choose_moment(
    file: Path | None, layer: str | None, every: bool, of: Of, on: Backend
) -> tuple[curvature.SecondMoment, str, Coverage]:
    """Build the second moment that was asked for, its title, and what it covers."""
    expect_one_choice(layer, every)
    snapshot = load_snapshot(file, on)
    expect_layer(snapshot, layer)
    if of in (Of.features, Of.errors):
        if layer is None:
            names = listed([x.name for x in snapshot.layers])
            raise typer.BadParameter(f"--of {of} needs --layer, one of {names}")
        build = curvature.features if of is Of.features else curvature.errors
        covered = coverage.of_snapshot(snapshot, [layer])
        return build(snapshot, layer), f"{of} of layer {layer}", covered
    chosen = None if layer is None else [layer]
    covered = coverage.of_snapshot(snapshot, chosen)
    title = f"Fisher information, {called(covered, layer)}"
    return curvature.fisher(snapshot, chosen), title, covered


def called(covered: Coverage, layer: str | None) -> str:
    """Return what a title calls the parameters that it is about."""
    return covered.title if layer is None else f"layer {layer}"
