"""`refspec attribute --of hessian` and `refspec spectrum --of hessian`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer

from refspec import (
    attribution,
    backend,
    coverage,
    curvature,
    hessian,
    spectra,
)
from refspec.attribution import HessianAttribution
from refspec.backend import Array
from refspec.classes import Snapshot
from refspec.cli.inputs import (
    PRINTED,
    Backend,
    Source,
    called,
    expect_layer,
    load,
)
from refspec.cli.outputs import finite, told, write_json, write_picture
from refspec.cli.terminal import console, new_table, say, working
from refspec.coverage import Coverage
from refspec.curvature import SecondMoment
from refspec.implicit import HessianOperator
from refspec.plans import Plan, plan
from refspec.plots import matrices
from refspec.plots.style import SEEN
from refspec.spectra import Spectrum
from refspec.text import visible

#: Parameters up to which a Hessian is formed; of a larger one only its ends are taken.
DENSE = 2000


def attribute_hessian(
    file: Path | None,
    layer: str | None,
    top: int,
    json_file: Path | None,
    plot: Path | None,
    on: Backend,
) -> None:
    """Print the Hessian's eigenvalues with what levels and residual contribute."""
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


def hessian_spectrum(
    file: Path | None, layer: str | None, top: int | None, certify: bool, on: Backend
) -> tuple[Spectrum, str, Coverage]:
    """Return the Hessian's eigenvalues, what they are of, and what that covers."""
    source = load(file, on)
    if isinstance(source.network, Snapshot):
        names, planned = _expect_network(source.network, layer)
        covered = coverage.of_snapshot(source.network, names)
        with working("assembling the Hessian", planned):
            H = hessian.of_snapshot(source.network, names)
            found = _spectrum(H, 0.0, top, certify)
    else:
        operator, covered = _expect_operator(source, layer), source.coverage
        with working("products with the Hessian"):
            if operator.size <= DENSE:
                found = _spectrum(operator.matrix(), operator.lost, top, certify)
            else:
                found = _largest(operator, top or PRINTED, certify)
    return found, f"Hessian, {called(covered, layer)}", covered


def _spectrum(H: Array, lost: float, top: int | None, certify: bool) -> Spectrum:
    """Return the eigenvalues of a formed Hessian, or the largest of them."""
    P = int(H.shape[0])
    if top is not None and top > P:
        raise typer.BadParameter(f"--top must lie in 1..P = 1..{P}, got {top}")
    found, radius = spectra.eigenvalues(H, backend.namespace(H), certify=certify)
    values = backend.to_host(found)
    how = "certified" if certify else "a priori"
    kind = f"of the computed Hessian; eigensolver {how}"
    if lost > 0:
        kind = f"measured; eigensolver {how}"
    complete = top is None
    return Spectrum(values[:top], None, radius + lost, kind, P, complete)


def _largest(operator: HessianOperator, top: int, certify: bool) -> Spectrum:
    """Return the largest eigenvalues of a Hessian that is too large to be formed."""
    if certify:
        raise typer.BadParameter(
            f"--certify needs a Hessian of P <= {DENSE} parameters, which is formed, "
            f"got P = {operator.size}; leave it out, or choose fewer parameters"
        )
    ends = operator.ends(min(top, operator.size // 2))
    half = len(ends.values) // 2
    size = operator.size
    return Spectrum(ends.values[:half], None, ends.radius, ends.kind, size, False)


def _of_operator(
    source: Source, moment: SecondMoment, layer: str | None, top: int
) -> tuple[HessianAttribution, Coverage]:
    """Attribute a Hessian by differentiation, a large one by its products."""
    H = _expect_operator(source, layer)
    few = None if H.size <= DENSE else min(top, H.size // 2)
    with working("products with the Hessian"):
        result = attribution.attribute_hessian(H, moment, top=few)
    return result, source.coverage


def _expect_operator(source: Source, layer: str | None) -> HessianOperator:
    """Return the Hessian of a function of a Python file, or refuse the lack of one."""
    H = source.hessian
    if H is None or layer is not None:
        got = "a moment alone" if H is None else f"--layer {visible(layer)}"
        raise typer.BadParameter(
            "--of hessian needs a function that returns (hessian, moment) of the same "
            f"parameters, got {got}; choose the parameters in it, as `return "
            "refspec.torch.hessian(model, loader), ...moment(model, loader)`"
        )
    return H


def _of_snapshot(
    snapshot: Snapshot, layer: str | None
) -> tuple[HessianAttribution, Coverage]:
    """Attribute the Hessian of an export's network."""
    names, planned = _expect_network(snapshot, layer)
    with working("assembling the Hessian and attributing", planned):
        H = hessian.of_snapshot(snapshot, names)
        result = attribution.attribute_hessian(H, curvature.fisher(snapshot, names))
    return result, coverage.of_snapshot(snapshot, names)


def _expect_network(
    snapshot: Snapshot, layer: str | None
) -> tuple[list[str] | None, Plan]:
    """Return the layers asked for and the plan; refuse an export without a network."""
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
            "function that returns (refspec.torch.hessian(model, loader), "
            "...moment(model, loader))"
        )
    names = None if layer is None else [layer]
    return names, plan(snapshot, what="hessian", layers=names).expect_room()


def _print(result: HessianAttribution, title: str, top: int) -> None:
    """Print the top eigenvalues beside the Fisher's, and how far apart the two are."""
    own, most = result.parts.get("diagonal", np.zeros(1)), max(result.values[0], 0.0)
    parts, notes = told(result.parts, bool(np.any(np.abs(own) > SEEN * most)))
    table = new_table(title, ["k", "Hessian", "Fisher", *parts, "kind"])
    for k in range(min(top, len(result.values))):
        made = [f"{x[k]:.1e}" for x in parts.values()]
        pair = f"{result.values[k]:.2e}", f"{result.fisher[k]:.2e}"
        table.add_row(str(k + 1), *pair, *made, result.kinds[k])
    console.print(table)
    for note in notes:
        say(note)
    say(f"residual E: norm {result.weyl:.3e}, the Weyl radius between the two columns")
    angle = np.sin(result.angles.max(initial=0.0))
    limit = f"<= {result.angle_bound:.3g}" if np.isfinite(result.angle_bound) else ""
    say(f"largest sine between their top eigenspaces {angle:.3g} {limit}".rstrip())
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
