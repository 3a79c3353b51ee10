"""`refspec attribute --of hessian`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer

import refspec
from refspec import attribution, backend, curvature, hessian, models
from refspec.attribution import HessianAttribution
from refspec.classes import Snapshot
from refspec.cli.common import console, guard, new_table, say, write_json

__all__ = ["attribute_hessian"]


def attribute_hessian(
    snapshot: Snapshot,
    layer: str | None,
    top: int,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Print the Hessian's eigenvalues with what levels and residual contribute."""
    if snapshot.model is None:
        raise typer.BadParameter("--of hessian needs an export with a model section")
    network = models.from_section(snapshot.model)
    X = backend.namespace(snapshot.probabilities).astype(
        snapshot.model.inputs, snapshot.probabilities.dtype
    )
    names = None if layer is None else [snapshot.layer(layer).name]
    with console.status("assembling the Hessian and attributing"):
        s, labels = snapshot.sample_weights, snapshot.labels
        H = hessian.hessian(network, X, labels, layers=names, sample_weights=s)
        result = attribution.attribute_hessian(H, curvature.fisher(snapshot, names))
    title = "Hessian, " + ("all layers" if layer is None else f"layer {layer}")
    table = new_table(title, ["k", "Hessian", "Fisher", *result.parts, "kind"])
    for k in range(min(top, len(result.values))):
        parts = [f"{x[k]:.1e}" for x in result.parts.values()]
        pair = f"{result.values[k]:.2e}", f"{result.fisher[k]:.2e}"
        table.add_row(str(k + 1), *pair, *parts, result.kinds[k])
    console.print(table)
    say(f"residual E: norm {result.weyl:.3e}, the Weyl radius between the two columns")
    angle, bound = np.sin(result.angles.max()), result.angle_bound
    say(f"largest sine between their top eigenspaces {angle:.3g} <= {bound:.3g}")
    say(f"radius of the eigenvalues of the computed Hessian: {result.radius:.2e}")
    if plot is not None:
        guard(_draw, result, plot, title)
        say(f"picture: {plot}")
    if json_file is not None:
        arrays = {n: getattr(result, n) for n in ("values", "fisher", "residual")}
        record = {
            "schema": "refspec.hessian/1",
            "version": refspec.__version__,
            "of": title,
            **{n: x.tolist() for n, x in arrays.items()},
            "parts": {n: x.tolist() for n, x in result.parts.items()},
            "kinds": result.kinds,
            "weyl": result.weyl,
            "angles": result.angles.tolist(),
            "angle_bound": bound,
            "radius": result.radius,
        }
        write_json(json_file, record)


def _draw(result: HessianAttribution, path: Path, title: str) -> None:
    """Draw the spectra side by side and what makes up the top eigenvalues."""
    from refspec import plots

    made, axes = plots.figure(1, 2, size=(11, 4))
    plots.hessian(result, axes[0])
    plots.hessian_parts(result, axes[1])
    made.suptitle(title)
    plots.save(made, path)
