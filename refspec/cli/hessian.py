"""`refspec attribute --of hessian`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer

from refspec import attribution, coverage, curvature, hessian
from refspec.attribution import HessianAttribution
from refspec.classes import Snapshot
from refspec.cli.inputs import (
    Backend,
    Source,
    called,
    expect_layer,
    expect_one_choice,
    load,
)
from refspec.cli.outputs import finite, write_json, write_picture
from refspec.cli.terminal import console, new_table, say, working
from refspec.coverage import Coverage
from refspec.curvature import SecondMoment
from refspec.plans import plan
from refspec.plots import matrices
from refspec.plots.style import label
from refspec.text import visible

#: Parameters up to which a Hessian is formed; of a larger one only its ends are taken.
DENSE = 2000


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
    source = load(file, on)
    if isinstance(source.network, Snapshot):
        result, covered = _of_snapshot(source.network, layer)
    else:
        result, covered = _of_operator(source, source.network, layer, top)
    title = f"Hessian, {called(covered, layer)}"
    say(str(covered))
    _print(result, title, top)
    if plot is not None:
        write_picture(plot, matrices.hessian_attribution(result, title))
    if json_file is not None:
        _write(result, title, covered, json_file)


def _of_operator(
    source: Source, moment: SecondMoment, layer: str | None, top: int
) -> tuple[HessianAttribution, Coverage]:
    """Attribute a Hessian by differentiation, a large one by its products."""
    H = source.hessian
    if H is None or layer is not None:
        got = "a moment alone" if H is None else f"--layer {visible(layer)}"
        raise typer.BadParameter(
            "--of hessian needs a function that returns (hessian, moment) of the same "
            f"parameters, got {got}; choose the parameters in it, as `return "
            "refspec.exporters.torch.hessian(model, loader), ...moment(model, loader)`"
        )
    few = None if H.size <= DENSE else min(top, H.size // 2)
    with working("products with the Hessian"):
        result = attribution.attribute_hessian(H, moment, top=few)
    return result, source.coverage


def _of_snapshot(
    snapshot: Snapshot, layer: str | None
) -> tuple[HessianAttribution, Coverage]:
    """Attribute the Hessian of an export's network."""
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
            "or take products with the Hessian by differentiation: FILE.py:NAME, a "
            "function that returns (refspec.exporters.torch.hessian(model, loader), "
            "...moment(model, loader))"
        )
    names = None if layer is None else [layer]
    planned = plan(snapshot, what="hessian", layers=names).expect_room()
    with working("assembling the Hessian and attributing", planned):
        H = hessian.of_snapshot(snapshot, names)
        result = attribution.attribute_hessian(H, curvature.fisher(snapshot, names))
    return result, coverage.of_snapshot(snapshot, names)


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
