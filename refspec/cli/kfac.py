"""`refspec kfac`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import refspec
from refspec.cli.common import (
    Backend,
    File,
    Json,
    LayerName,
    On,
    Plot,
    console,
    expect_writable,
    guard,
    load_snapshot,
    new_table,
    say,
    write_json,
)
from refspec.kronecker.comparison import LARGEST, LayerComparison, compare_layer

__all__ = ["Few", "Setting", "kfac"]

_NAMES = {"fisher": "Fisher", "kfac": "KFAC", "ekfac": "EKFAC", "cfac": "CFAC"}
_SIGNS = {"outlier": "o", "bump": "b", "bulk": "."}

Setting = Annotated[
    str, typer.Option(help="Of positions that share weights: expand or reduce.")
]
Few = Annotated[int, typer.Option("--top", min=1, help="How many to print.")]


def kfac(
    file: File = None,
    layer: LayerName = None,
    setting: Setting = "expand",
    top: Few = 10,
    json_file: Json = None,
    plot: Plot = None,
    on: On = Backend.numpy,
) -> None:
    """Compare each layer's Fisher with KFAC, EKFAC and class-corrected CFAC."""
    expect_writable(json_file, plot)
    if setting not in ("expand", "reduce"):
        raise typer.BadParameter(f"--setting must be expand or reduce, got {setting!r}")
    snapshot = load_snapshot(file, on)
    sizes = {x.name: x.parameters for x in snapshot.layers}
    if layer is not None and layer not in sizes:
        raise typer.BadParameter(f"--layer must be one of {[*sizes]}, got {layer!r}")
    names = [layer] if layer is not None else [*sizes]
    small = [name for name in names if sizes[name] <= LARGEST]
    if not small:
        raise typer.BadParameter(
            f"a comparison takes P x P numbers and layers of P <= {LARGEST} "
            f"parameters, got {', '.join(f'{n}: {sizes[n]}' for n in names)}"
        )
    found = {}
    for name in small:
        with console.status(f"comparing {name}, {sizes[name]} parameters"):
            found[name] = compare_layer(snapshot, name, setting=setting)
        _print_eigenvalues(name, found[name], top)
    _print_summary(found)
    for name in set(names) - set(small):
        say(f"left out: {name}, P = {sizes[name]} > {LARGEST} parameters")
    worse = [
        n for n, x in found.items() if x.log10_error["cfac"] >= x.log10_error["kfac"]
    ]
    if worse:
        say(f"CFAC is no closer than KFAC in log10 eigenvalues at: {', '.join(worse)}")
    else:
        say("CFAC is closer than KFAC in log10 eigenvalues at every layer")
    if plot is not None:
        guard(_draw, found, plot)
        say(f"picture: {plot}")
    if json_file is not None:
        layers = {name: _record(x) for name, x in found.items()}
        head = {"schema": "refspec.kfac/1", "version": refspec.__version__}
        write_json(json_file, {**head, "setting": setting, "layers": layers})


def _print_eigenvalues(name: str, result: LayerComparison, top: int) -> None:
    """Print the top eigenvalues, each with its origin."""
    table = new_table(f"layer {name}", ["k", *_NAMES.values()])
    columns = {"fisher": result.fisher, **result.eigenvalues}
    for k in range(min(top, len(result.fisher))):
        cells = [f"{columns[n][k]:.4e} {_SIGNS[result.kinds[n][k]]}" for n in _NAMES]
        table.add_row(str(k + 1), *cells)
    console.print(table)
    say(f"radius {result.radius:.1e} ({result.how})")


def _print_summary(found: dict[str, LayerComparison]) -> None:
    """Print errors, angles and origins, one row a layer and method."""
    heads = ("layer", "of", "log10", "norm", "angle", "median", "o", "b", ".", "rank")
    table = new_table("against the Fisher's top C(C-1) eigenvalues", list(heads))
    for name, x in found.items():
        for method, kinds in x.kinds.items():
            row = [name if method == "fisher" else "", _NAMES[method]]
            if method == "fisher":
                row += [""] * 4
            else:
                degrees = np.degrees(x.angles[method])
                row += [f"{x.log10_error[method]:.3f}"]
                row += [f"{x.frobenius_error[method]:.3f}"]
                row += [f"{degrees[0]:.1f}", f"{np.median(degrees):.1f}"]
            row += [str(kinds.count(kind)) for kind in _SIGNS]
            table.add_row(*row, str(x.class_rank.get(method, "")))
        table.add_section()
    console.print(table)
    say("log10: rms error of log10 eigenvalues; norm: relative Frobenius error;")
    say("angle, median: degrees between the spans of the top C eigenvectors;")
    say("o, b, .: how many eigenvalues come from class means, cross-class means, the")
    say("rest; rank: of the part made of class means (C, but C^2 in KFAC)")


def _record(x: LayerComparison) -> dict[str, Any]:
    """Return a comparison as plain data."""
    return {
        "fisher": x.fisher.tolist(),
        "eigenvalues": {n: v.tolist() for n, v in x.eigenvalues.items()},
        "log10_error": dict(x.log10_error),
        "frobenius_error": dict(x.frobenius_error),
        "angles": {n: v.tolist() for n, v in x.angles.items()},
        "kinds": dict(x.kinds),
        "class_rank": dict(x.class_rank),
        "radius": x.radius,
        "how": x.how,
    }


def _draw(found: dict[str, LayerComparison], path: Path) -> None:
    """Draw every layer's spectra on one axis each."""
    from refspec import plots

    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    made, axes = plots.figure(rows, columns, size=(6.4 * columns, 4.4 * rows))
    for ax, (name, x) in zip(axes, found.items(), strict=False):
        plots.approximations(x, ax)
        ax.set_title(name, pad=42)
    for ax in axes[len(found) :]:
        ax.remove()
    plots.save(made, path)
