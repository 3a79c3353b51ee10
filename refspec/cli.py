"""The command line: `refspec attribute`, `refspec spectrum`, `refspec check`."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np

import refspec
from refspec import backend, curvature, datasets, hessian, models
from refspec.attribution import attribute as attribute_moment
from refspec.classes import Snapshot
from refspec.export import load
from refspec.hessian_attribution import attribute_hessian
from refspec.recompute import recompute
from refspec.spectra import spectrum as spectrum_of

try:
    import typer
    from rich.console import Console
    from rich.table import Table
except ImportError:  # the core has no terminal library
    sys.exit("the command line needs typer and rich: pip install 'refspec[cli]'")

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False)
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


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print it.")] = False,
) -> None:
    """Say what the spectrum of a trained classifier is made of."""
    if version:
        typer.echo(refspec.__version__)
        raise typer.Exit


@app.command()
def attribute(
    file: File = None,
    layer: LayerName = None,
    every: All = False,
    of: OfWhat = Of.fisher,
    top: Top = 20,
    json_file: Json = None,
    plot: Plot = None,
    on: On = Backend.numpy,
    certify: Certify = False,
) -> None:
    """Print the top eigenvalues with the level of the class structure behind each."""
    _writable(json_file, plot)
    if of is Of.hessian:
        if plot is not None:
            raise typer.BadParameter("--plot draws second moments, not the hessian")
        _attribute_hessian(_load(file, on), layer, top, json_file)
        return
    moment, title = _moment(file, layer, every, of, on)
    with console.status("factorising and attributing"):
        result = attribute_moment(moment, certify=certify)
    values = backend.to_host(result.spectrum.values)
    table = _table(title, ["k", "eigenvalue", *result.shares, "kind", "proved"])
    for k in range(min(top, len(result.kinds))):
        shares = [f"{x[k]:.3f}" for x in result.shares.values()]
        proof = "yes" if result.proved[k] else ""
        table.add_row(str(k + 1), f"{values[k]:.6g}", *shares, result.kinds[k], proof)
    console.print(table)
    total = sum(result.traces.values())
    parts = ", ".join(f"{n} {t / total:.3f}" for n, t in result.traces.items())
    _say(f"share of the trace: {parts}")
    _say(f"radius of every eigenvalue: {result.spectrum.radius:.2e}")
    _say(f"  ({result.spectrum.kind})")
    if plot is not None:
        from refspec.plots import save_spectrum

        _guard(save_spectrum, result, plot, title)
        _say(f"picture: {plot}")
    if json_file is not None:
        record = {
            **_record(result.spectrum, title),
            "traces": result.traces,
            "shares": {n: x.tolist() for n, x in result.shares.items()},
            "kinds": result.kinds,
            "proved": result.proved.tolist(),
            "lower": result.lower.tolist(),
            "upper": result.upper.tolist(),
            "knockouts": {n: x.tolist() for n, x in result.knockouts.items()},
            "levels": {n: x.tolist() for n, x in result.levels.items()},
            "angles": result.angles.tolist(),
            "angle_bound": result.angle_bound,
        }
        _write(json_file, record)


@app.command()
def spectrum(
    file: File = None,
    layer: LayerName = None,
    every: All = False,
    of: OfWhat = Of.fisher,
    top: Top = 20,
    json_file: Json = None,
    on: On = Backend.numpy,
    certify: Certify = False,
) -> None:
    """Print the exact eigenvalues with their radius."""
    _writable(json_file)
    if of is Of.hessian:
        raise typer.BadParameter("refspec attribute --of hessian prints that spectrum")
    moment, title = _moment(file, layer, every, of, on)
    with console.status("factorising"):
        result = spectrum_of(moment, certify=certify)
    _say(title)
    for value in backend.to_host(result.values)[:top]:
        _say(f"{value:.15e}")
    _say(f"radius {result.radius:.2e} ({result.kind}); {result.n_zero} more are zero")
    if json_file is not None:
        _write(json_file, _record(result, title))


@app.command()
def check(file: File = None) -> None:
    """Read an export, check everything in it and say what it holds."""
    snapshot = _load(file, Backend.numpy)
    N, C = snapshot.probabilities.shape
    _say(f"good: N = {N} samples, C = {C} classes, {len(snapshot.layers)} layers")
    for x in snapshot.layers:
        T = x.features.shape[1]
        _say(f"  {x.name}: {x.parameters} parameters, {T} position(s)")
    if snapshot.model is None:
        _say("no model section: features and errors were not recomputed")
        return
    try:
        differences = recompute(snapshot)
    except ValueError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    for d in differences:
        verdict = "good" if d.ratio <= 1 else "DISAGREES"
        _say(f"  {d.name}: recomputed, off by {d.residual:.1e} ({verdict})")
    if any(d.ratio > 1 for d in differences):
        raise typer.Exit(1)


def _attribute_hessian(
    snapshot: Snapshot, layer: str | None, top: int, json_file: Path | None
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
        result = attribute_hessian(H, curvature.fisher(snapshot, names))
    title = "Hessian, " + ("all layers" if layer is None else f"layer {layer}")
    table = _table(title, ["k", "eigenvalue", "fisher's", *result.parts, "kind"])
    for k in range(min(top, len(result.values))):
        parts = [f"{x[k]:.2e}" for x in result.parts.values()]
        pair = f"{result.values[k]:.6g}", f"{result.fisher[k]:.6g}"
        table.add_row(str(k + 1), *pair, *parts, result.kinds[k])
    console.print(table)
    _say(f"residual E: norm {result.weyl:.3e}, the Weyl radius between the two columns")
    angle, bound = np.sin(result.angles.max()), result.angle_bound
    _say(f"largest sine between their top eigenspaces {angle:.3g} <= {bound:.3g}")
    _say(f"radius of the eigenvalues of the computed Hessian: {result.radius:.2e}")
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
        _write(json_file, record)


def _table(title: str, columns: list[str]) -> Table:
    """Return an empty table with the levels' names shortened."""
    table = Table(title=title)
    for name in columns:
        words = name.removeprefix("between_").removesuffix("_class").replace("_", " ")
        table.add_column(words, justify="right", no_wrap=True)
    return table


def main() -> None:
    """Run the command line: exit 0 good, 1 the data fail a check, 2 wrong use."""
    app()


def _load(file: Path | None, on: Backend) -> Snapshot:
    """Load an export or the embedded one; wrong data exit with 1."""
    if file is None and on is Backend.numpy:
        return datasets.digits_mlp()
    try:
        xp = backend.named(on.value)
        if file is None:
            return datasets.digits_mlp(xp=xp)
        if not file.exists():
            raise typer.BadParameter(f"no such file: {file}")
        return load(file, xp=xp)
    except ImportError as error:
        raise typer.BadParameter(str(error)) from error
    except ValueError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(1) from error


def _moment(
    file: Path | None, layer: str | None, every: bool, of: Of, on: Backend
) -> tuple[curvature.SecondMoment, str]:
    """Build the second moment that was asked for, and its title."""
    if every and layer is not None:
        raise typer.BadParameter("give --layer NAME or --all, not both")
    snapshot = _load(file, on)
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


def _writable(*paths: Path | None) -> None:
    """Refuse an output that cannot be written before any work."""
    for path in paths:
        if path is not None and not os.access(path.absolute().parent, os.W_OK):
            raise typer.BadParameter(f"cannot write {path}: no such writable folder")


def _record(result: Any, title: str) -> dict[str, Any]:
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


def _write(path: Path, record: dict[str, Any]) -> None:
    """Write JSON whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record))
    part.replace(path)


def _guard(function: Any, *args: Any) -> None:
    """Turn a missing library or an unknown format into wrong use."""
    try:
        function(*args)
    except (ImportError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


def _say(text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
