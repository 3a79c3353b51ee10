"""`refspec attribute --of hessian`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer

from refspec import attribution, coverage, curvature, hessian
from refspec.attribution import HessianAttribution
from refspec.cli.inputs import (
    Backend,
    called,
    expect_layer,
    expect_one_choice,
    load_snapshot,
)
from refspec.cli.outputs import finite, write_json, write_picture
from refspec.cli.terminal import console, new_table, say, working
from refspec.coverage import Coverage
from refspec.plans import plan
from refspec.plots import matrices
from refspec.plots.style import label
from refspec.text import visible


def attribute_hessian(
    file: Path | None,
    layer: str | None,
    every: bool,
    top: int,
    json_file: Path | None,
    plot: Path | None,
    on: Backend,
) -> None:
    """Print the Hessian's eigenvalues with what levels and residual contribute."""
    expect_one_choice(layer, every)
    snapshot = load_snapshot(file, on)
    expect_layer(snapshot, layer)
    if snapshot.model is None:
        said = snapshot.provenance.get("without_network")
        why = (
            visible(said, 300)
            if isinstance(said, str)
            else "the export does not say why"
        )
        raise typer.BadParameter(
            "--of hessian needs an export that holds its network, got one without: "
            f"{why}; export a network of operations that refspec.models.Network lists, "
            "or take products with the Hessian by differentiation, beside `export` of "
            "refspec.exporters.torch"
        )
    names = None if layer is None else [layer]
    planned = plan(snapshot, what="hessian", layers=names).expect_room()
    with working("assembling the Hessian and attributing", planned):
        H = hessian.of_snapshot(snapshot, names)
        result = attribution.attribute_hessian(H, curvature.fisher(snapshot, names))
    covered = coverage.of_snapshot(snapshot, names)
    title = f"Hessian, {called(covered, layer)}"
    say(str(covered))
    _print(result, title, top)
    if plot is not None:
        write_picture(plot, matrices.hessian_attribution(result, title))
    if json_file is not None:
        _write(result, title, covered, json_file)


def _print(result: HessianAttribution, title: str, top: int) -> None:
    """Print the top eigenvalues beside the Fisher's, and how far apart the two are."""
    parts = [label(n) for n in result.parts]
    table = new_table(title, ["k", "Hessian", "Fisher", *parts, "kind"])
    for k in range(min(top, len(result.values))):
        made = [f"{x[k]:.1e}" for x in result.parts.values()]
        pair = f"{result.values[k]:.2e}", f"{result.fisher[k]:.2e}"
        table.add_row(str(k + 1), *pair, *made, result.kinds[k])
    console.print(table)
    say(f"residual E: norm {result.weyl:.3e}, the Weyl radius between the two columns")
    angle = np.sin(result.angles.max(initial=0.0))
    told = f"<= {result.angle_bound:.3g}" if np.isfinite(result.angle_bound) else ""
    say(f"largest sine between their top eigenspaces {angle:.3g} {told}".rstrip())
    say(f"radius of the eigenvalues of the computed Hessian: {result.radius:.2e}")


def _write(
    result: HessianAttribution, title: str, covered: Coverage, path: Path
) -> None:
    """Write an attribution as plain data."""
    arrays = {n: getattr(result, n) for n in ("values", "fisher", "residual")}
    record = {
        "of": title,
        "coverage": covered.document(),
        **{n: x.tolist() for n, x in arrays.items()},
        "parts": {n: x.tolist() for n, x in result.parts.items()},
        "kinds": result.kinds,
        "weyl": result.weyl,
        "angles": result.angles.tolist(),
        "angle_bound": finite(result.angle_bound),
        "radius": result.radius,
    }
    write_json(path, "refspec.hessian/1", record)
