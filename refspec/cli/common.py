"""What the commands share: options, reading, printing and writing whole files."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import refspec
from refspec import backend, curvature, datasets
from refspec.classes import Snapshot
from refspec.export import load as load_export

__all__ = [
    "All",
    "Backend",
    "Certify",
    "File",
    "Json",
    "LayerName",
    "Of",
    "OfWhat",
    "On",
    "Plot",
    "Top",
    "choose_moment",
    "console",
    "expect_writable",
    "guard",
    "load_snapshot",
    "new_table",
    "say",
    "short_name",
    "spectrum_record",
    "write_json",
]

console = Console()


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
Top = Annotated[int, typer.Option(min=1, help="How many eigenvalues to print.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write everything here.")]
On = Annotated[Backend, typer.Option("--backend", help="Array library.")]
Certify = Annotated[bool, typer.Option("--certify", help="A-posteriori radius.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Write a picture here.")]


def load_snapshot(file: Path | None, on: Backend) -> Snapshot:
    """Load an export or the embedded one; wrong data exit with 1."""
    if file is None and on is Backend.numpy:
        return datasets.digits_mlp()
    try:
        xp = backend.named(on.value)
        if file is None:
            return datasets.digits_mlp(xp=xp)
        if not file.exists():
            raise typer.BadParameter(f"no such file: {file}")
        return load_export(file, xp=xp)
    except ImportError as error:
        raise typer.BadParameter(str(error)) from error
    except ValueError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(1) from error


def choose_moment(
    file: Path | None, layer: str | None, every: bool, of: Of, on: Backend
) -> tuple[curvature.SecondMoment, str]:
    """Build the second moment that was asked for, and its title."""
    if every and layer is not None:
        raise typer.BadParameter("give --layer NAME or --all, not both")
    snapshot = load_snapshot(file, on)
    names = [x.name for x in snapshot.layers]
    if layer is not None and layer not in names:
        raise typer.BadParameter(f"--layer must be one of {names}, got {layer!r}")
    if of in (Of.features, Of.errors):
        if layer is None:
            raise typer.BadParameter(f"--of {of} needs --layer, one of {names}")
        build = curvature.features if of is Of.features else curvature.errors
        return build(snapshot, layer), f"{of} of layer {layer}"
    what = "all layers" if layer is None else f"layer {layer}"
    chosen = None if layer is None else [layer]
    return curvature.fisher(snapshot, chosen), f"Fisher information, {what}"


def expect_writable(*paths: Path | None) -> None:
    """Refuse an output that cannot be written before any work."""
    for path in paths:
        if path is not None and not os.access(path.absolute().parent, os.W_OK):
            raise typer.BadParameter(f"cannot write {path}: no such writable folder")


def spectrum_record(result: Any, title: str) -> dict[str, Any]:
    """Return a spectrum as plain data."""
    return {
        "schema": "refspec.spectrum/1",
        "version": refspec.__version__,
        "of": title,
        "values": np.asarray(backend.to_host(result.values)).tolist(),
        "radius": result.radius,
        "kind": result.kind,
        "dimension": result.dimension,
    }


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write JSON whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record))
    part.replace(path)


def guard(function: Any, *args: Any) -> None:
    """Turn a missing library or an unknown format into wrong use."""
    try:
        function(*args)
    except (ImportError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


def say(text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def new_table(title: str, columns: list[str]) -> Table:
    """Return an empty table, narrow enough for 80 columns."""
    padding = (0, 1) if len(columns) < 9 else 0
    table = Table(title=title, box=SIMPLE_HEAD, padding=padding)
    table.collapse_padding, table.pad_edge = True, False
    for name in columns:
        table.add_column(short_name(name), justify="right", overflow="fold")
    return table


def short_name(level: str) -> str:
    """Return a level's name as a table has it.

    Examples
    --------
    >>> [short_name(x) for x in ("within_cross_class", "global_mean", "diagonal")]
    ['within', 'global mean', 'diagonal']
    """
    words = level.removeprefix("between_").removesuffix("_class")
    return words.replace("within_cross", "within").replace("_", " ")
