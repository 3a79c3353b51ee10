"""`refspec kfac`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from refspec import coverage, memory
from refspec.cli.inputs import (
    Backend,
    File,
    LayerName,
    Memory,
    On,
    expect_layer,
    load_snapshot,
)
from refspec.cli.outputs import (
    Json,
    Plot,
    expect_outputs,
    write_json,
    write_picture,
)
from refspec.cli.terminal import announce, console, new_table, say, working
from refspec.kronecker.comparison import LARGEST, LayerComparison, compare_layer
from refspec.kronecker.nearest import Nearest, nearest_by_class
from refspec.plans import plan
from refspec.plots import matrices
from refspec.plots.style import label
from refspec.text import listed, visible

_METHODS = ("fisher", "kfac", "ekfac", "cfac")
_SIGNS = {"outlier": "o", "bump": "b", "bulk": "."}

Setting = Annotated[
    str, typer.Option(help="Of positions that share weights: expand or reduce.")
]
Few = Annotated[
    int | None,
    typer.Option(
        "--top",
        min=1,
        help="Compare only so many eigenvalues, the largest; C(C-1), of which 10 are "
        "printed, if not given.",
    ),
]
#: How many eigenvalues are printed of all.
PRINTED = 10


def kfac(
    file: File = None,
    layer: LayerName = None,
    setting: Setting = "expand",
    top: Few = None,
    json_file: Json = None,
    plot: Plot = None,
    on: On = Backend.numpy,
    limit: Memory = None,
) -> None:
    """Compare each layer's Fisher with KFAC, EKFAC and class-corrected CFAC."""
    expect_outputs([file], json=json_file, plot=plot)
    if setting not in ("expand", "reduce"):
        raise typer.BadParameter(
            f"--setting must be expand or reduce, got {visible(setting)!r}"
        )
    with memory.within(limit):
        _compare(file, layer, setting, top, json_file, plot, on)


def _compare(
    file: Path | None,
    layer: str | None,
    setting: str,
    top: int | None,
    json_file: Path | None,
    plot: Path | None,
    on: Backend,
) -> None:
    """Do as `kfac` says, within the memory that was said."""
    snapshot = load_snapshot(file, on)
    expect_layer(snapshot, layer)
    sizes = {x.name: x.parameters for x in snapshot.layers}
    names = [layer] if layer is not None else [*sizes]
    small = [name for name in names if sizes[name] <= LARGEST]
    if not small:
        wide = listed([f"{n}: {sizes[n]}" for n in names])
        raise typer.BadParameter(
            f"a comparison takes P x P numbers and layers of P <= {LARGEST} "
            f"parameters, got {wide}"
        )
    planned = plan(snapshot, what="kfac", layers=small, top=top).expect_room()
    covered = coverage.of_snapshot(snapshot, small)
    say(str(covered))
    announce(planned)
    found, best = {}, {}
    for name in small:
        with working(f"comparing {visible(name)}, {sizes[name]} parameters"):
            found[name] = compare_layer(snapshot, name, setting=setting, top=top)
            best[name] = nearest_by_class(snapshot, name)
        _print_eigenvalues(name, found[name], top or PRINTED)
    _print_summary(found, best, "C(C-1)" if top is None else str(top))
    for name in names:
        if name not in found:
            wide = f"P = {sizes[name]} > {LARGEST} parameters"
            say(f"left out: {visible(name)}, {wide}")
    _print_verdict(found)
    if plot is not None:
        write_picture(plot, matrices.comparisons(found))
    if json_file is not None:
        layers = {
            name: comparison_record(x)
            | {"nearest_products": best[name].errors.tolist()}
            for name, x in found.items()
        }
        record = {"setting": setting, "coverage": covered.document(), "layers": layers}
        write_json(json_file, "refspec.kfac/1", record)


def _print_eigenvalues(name: str, result: LayerComparison, top: int) -> None:
    """Print the top eigenvalues, each with its origin."""
    table = new_table(f"layer {visible(name)}", ["k", *map(label, _METHODS)])
    columns = {"fisher": result.fisher, **result.eigenvalues}
    for k in range(min(top, len(result.fisher))):
        cells = [f"{columns[n][k]:.4e} {_SIGNS[result.kinds[n][k]]}" for n in _METHODS]
        table.add_row(str(k + 1), *cells)
    console.print(table)
    say(f"radius {result.radius:.1e} ({result.how})")


def _print_verdict(found: dict[str, LayerComparison]) -> None:
    """Say where CFAC's eigenvalues are closer than KFAC's, of layers that have some."""
    errors = {n: x.log10_error for n, x in found.items() if len(x.fisher)}
    worse = [n for n, x in errors.items() if x["cfac"] >= x["kfac"]]
    if worse:
        say(f"CFAC is no closer than KFAC in log10 eigenvalues at: {listed(worse)}")
    elif errors:
        say("CFAC is closer than KFAC in log10 eigenvalues at every layer")
    for name in found:
        if name not in errors:
            say(f"the Fisher of {visible(name)} is zero: there is nothing to compare")


def _print_summary(
    found: dict[str, LayerComparison], best: dict[str, Nearest], top: str
) -> None:
    """Print errors, angles and origins, one row a layer and method."""
    heads = ("layer", "of", "log10", "norm", "angle", "median", "o", "b", ".", "rank")
    table = new_table(f"against the Fisher's top {top} eigenvalues", list(heads))
    for name, x in found.items():
        for method, kinds in x.kinds.items():
            row = [visible(name, 24) if method == "fisher" else "", label(method)]
            if method == "fisher":
                row += [""] * 4
            else:
                degrees = np.degrees(x.angles[method])
                row += [f"{x.log10_error[method]:.3f}"]
                row += [f"{x.frobenius_error[method]:.3f}"]
                row += [f"{degrees[0]:.1f}", f"{np.median(degrees):.1f}"]
            row += [str(kinds.count(kind)) for kind in _SIGNS]
            table.add_row(*row, str(x.class_rank.get(method, "")))
        errors = best[name].errors
        for k in sorted({1, len(errors)}):
            table.add_row("", f"best {k}", "", f"{errors[k - 1]:.3f}")
        table.add_section()
    console.print(table)
    say("log10: rms error of log10 eigenvalues; norm: relative Frobenius error;")
    say("best k: the least that a sum of k Kronecker products can have of it;")
    say("angle, median: degrees between the spans of the top C eigenvectors;")
    say("o, b, .: how many eigenvalues come from class means, cross-class means, the")
    say("rest; rank: of the part made of class means (C, but C^2 in KFAC)")


def comparison_record(x: LayerComparison) -> dict[str, Any]:
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
