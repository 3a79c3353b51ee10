"""`refspec attribute` and `refspec spectrum`."""

from __future__ import annotations

import typer

from refspec import backend
from refspec.attribution import attribute as attribute_moment
from refspec.cli.common import (
    All,
    Backend,
    Certify,
    File,
    Json,
    LayerName,
    Of,
    OfWhat,
    On,
    Plot,
    Top,
    choose_moment,
    console,
    expect_writable,
    guard,
    load_snapshot,
    new_table,
    say,
    short_name,
    spectrum_record,
    write_json,
)
from refspec.cli.hessian import attribute_hessian
from refspec.spectra import spectrum as spectrum_of

__all__ = ["attribute", "spectrum"]


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
    expect_writable(json_file, plot)
    if of is Of.hessian:
        attribute_hessian(load_snapshot(file, on), layer, top, json_file, plot)
        return
    moment, title = choose_moment(file, layer, every, of, on)
    with console.status("factorising and attributing"):
        result = attribute_moment(moment, certify=certify)
    values = backend.to_host(result.spectrum.values)
    table = new_table(title, ["k", "eigenvalue", *result.shares, "kind", "proved"])
    for k in range(min(top, len(result.kinds))):
        shares = [f"{x[k]:.3f}" for x in result.shares.values()]
        proof = "yes" if result.proved[k] else ""
        table.add_row(str(k + 1), f"{values[k]:.6g}", *shares, result.kinds[k], proof)
    console.print(table)
    total = sum(result.traces.values())
    traces = result.traces.items()
    parts = ", ".join(f"{short_name(n)} {t / total:.3f}" for n, t in traces)
    say(f"share of the trace: {parts}")
    say(f"radius of every eigenvalue: {result.spectrum.radius:.2e}")
    say(f"  ({result.spectrum.kind})")
    if plot is not None:
        from refspec.plots import save_spectrum

        guard(save_spectrum, result, plot, title)
        say(f"picture: {plot}")
    if json_file is not None:
        record = {
            **spectrum_record(result.spectrum, title),
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
        write_json(json_file, record)


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
    expect_writable(json_file)
    if of is Of.hessian:
        raise typer.BadParameter("refspec attribute --of hessian prints that spectrum")
    moment, title = choose_moment(file, layer, every, of, on)
    with console.status("factorising"):
        result = spectrum_of(moment, certify=certify)
    say(title)
    for value in backend.to_host(result.values)[:top]:
        say(f"{value:.15e}")
    say(f"radius {result.radius:.2e} ({result.kind}); {result.n_zero} more are zero")
    if json_file is not None:
        write_json(json_file, spectrum_record(result, title))
