"""`refspec predict`: a spectrum against the law of a planted world or of layers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from refspec import backend, coverage, curvature, memory, random_matrix, rounding
from refspec.classes import Snapshot
from refspec.cli.inputs import (
    PRINTED,
    Backend,
    LayerNames,
    Memory,
    On,
    Top,
    expect_layers,
    load_snapshot,
)
from refspec.cli.outputs import (
    Json,
    Plot,
    expect_outputs,
    finite,
    write_json,
    write_picture,
)
from refspec.cli.terminal import console, new_table, say, working
from refspec.coordinates import coordinates, primal
from refspec.plans import plan
from refspec.plots.prediction import predictions
from refspec.random_matrix import KroneckerPrediction, Prediction
from refspec.random_matrix.comparison import Discrepancy
from refspec.random_matrix.layers import expect_settings
from refspec.spectra import Spectrum, spectrum
from refspec.synthetic import World, from_record
from refspec.text import listed, visible

#: Above this dimension eigenvectors are not computed in those of the population.
_VECTORS = 4000


class _Kind(StrEnum):
    """Which vectors the second moment is of."""

    features = "features"
    errors = "errors"
    fisher = "fisher"


class _Covariances(StrEnum):
    """How the covariances of a network's features are estimated."""

    each = "class"
    shrunk = "shrunk"
    pooled = "pooled"


_File = Annotated[Path, typer.Argument(help="An export, planted or not.")]
_OfKind = Annotated[
    _Kind, typer.Option("--of", help="Of the layer: fisher is that of its gradients.")
]
_How = Annotated[
    _Covariances,
    typer.Option("--covariances", help="Of a network's features: how estimated."),
]
_Drawn = Annotated[
    bool,
    typer.Option("--drawn", help="Of a network: logits drawn from class Gaussians."),
]
_Fitted = Annotated[
    bool,
    typer.Option(
        "--fitted", help="Likewise, moved as a fit moves those of its own samples."
    ),
]
_Head = Annotated[
    int | None,
    typer.Option(
        "--head",
        min=1,
        help="Features whose covariances are kept whole; if not given all, or of wider "
        "layers than 256 features of ten classes some 40. All of them take minutes.",
    ),
]
_Groups = Annotated[
    int,
    typer.Option(
        "--groups",
        min=0,
        help="Of samples, to tell what estimation leaves open; 8 is a good number.",
    ),
]


def predict(
    file: _File,
    layer: LayerNames = None,
    of: _OfKind = _Kind.fisher,
    covariances: _How = _Covariances.each,
    drawn: _Drawn = False,
    fitted: _Fitted = False,
    groups: _Groups = 0,
    head: _Head = None,
    top: Top = 20,
    json_file: Json = None,
    plot: Plot = None,
    on: On = Backend.numpy,
    limit: Memory = None,
) -> None:
    """Predict a spectrum from a law and compare.

    Of a planted world from its population, read off the recipe in the file's manifest;
    no draw is made for the prediction. Of any other export the Fisher information of
    the last layer, or of those that are named, together, from class statistics of their
    features.
    """
    expect_outputs([file], json=json_file, plot=plot)
    with memory.within(limit):
        if drawn and fitted:
            raise typer.BadParameter(
                "--drawn and --fitted exclude each other; give one"
            )
        outputs = "fitted" if fitted else "drawn" if drawn else "data"
        how = {
            "covariances": covariances.value,
            "outputs": outputs,
            "groups": groups,
            "head": head,
        }
        # typer makes a list of no names where none is given
        _predict(file, layer or None, of, how, top or PRINTED, json_file, plot, on)


def _predict(
    file: Path,
    layers: list[str] | None,
    of: _Kind,
    how: dict[str, Any],
    top: int,
    json_file: Path | None,
    plot: Path | None,
    on: Backend,
) -> None:
    """Do as `predict` says, within the memory that was said."""
    snapshot = load_snapshot(file, on)
    expect_layers(snapshot, layers or [])
    if snapshot.provenance.get("recipe") is None:
        if of is not _Kind.fisher:
            raise typer.BadParameter(
                f"--of {of.value} needs the population of a planted world, and {file} "
                "has no recipe; leave it out for the Fisher information of a layer"
            )
        last = snapshot.layers[-1].name
        _of_layers(snapshot, layers or [last], how, top, json_file, plot)
        return
    if list(how.values()) != ["class", "data", 0, None]:
        raise typer.BadParameter(
            "--covariances, --drawn, --fitted, --groups and --head are for networks, "
            f"got {file}, a planted world, whose population is known; leave them out"
        )
    world = _planted(snapshot, file)
    names = [x.name for x in snapshot.layers]
    kind, chosen = of.value, names if layers is None else layers
    if 1 < len(chosen) < len(names):
        raise typer.BadParameter(
            f"--layer must be one layer of a planted world, got {len(chosen)} of "
            f"{len(names)}; leave it out for all of them together"
        )
    if len(chosen) > 1 and of is not _Kind.fisher:
        raise typer.BadParameter(
            f"--of {kind} is of one of several layers: give --layer, one of "
            f"{listed(names)}"
        )
    planned = plan(snapshot, what="spectrum", of=kind, layers=chosen).expect_room()
    if len(chosen) > 1:
        population: Any = world.together()
    else:
        which = "gradients" if of is _Kind.fisher else kind
        population = world.population(chosen[0], which)
    with working("predicting"):
        made = random_matrix.predict(population)
    with working("factorising", planned):
        measured = _measured(snapshot, chosen, of, made)
        found = _compared(made, measured)
    what = "Fisher information" if of is _Kind.fisher else of.value
    title = f"{what} of {listed(chosen)}: {snapshot.probabilities.shape[0]} samples"
    covered = coverage.of_snapshot(snapshot, chosen)
    say(str(covered))
    _print(f"{title}, predicted", made, measured, found, top)
    if plot is not None:
        write_picture(plot, predictions(made, measured, title))
    if json_file is not None:
        record = _record(f"{title}, predicted", made, measured, found)
        record |= {"coverage": covered.document()}
        write_json(json_file, "refspec.prediction/1", record)


def _of_layers(
    snapshot: Snapshot,
    layers: list[str],
    how: dict[str, Any],
    top: int,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Predict layers of a network from the statistics of their classes; compare."""
    last = snapshot.layers[-1].name
    how["given"] = "outputs" if last in layers else "class"
    try:
        expect_settings(snapshot, layers, **how)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    planned = plan(snapshot, what="spectrum", layers=layers).expect_room()
    with working("predicting"):
        law = random_matrix.law_of(snapshot, layers, **how)
        made = random_matrix.predict_layer(law)
    with working("factorising", planned):
        measured = spectrum(coordinates(curvature.fisher(snapshot, layers)))
        found = _compared(made, measured)
    N = snapshot.probabilities.shape[0]
    title = f"Fisher information of {listed(layers)}: {N} samples, predicted"
    covered = coverage.of_snapshot(snapshot, layers)
    say(str(covered))
    _print(title, made, measured, found, top)
    reached = law.design.reached
    if reached < made.dimension:
        of_them = found.distance * made.dimension / reached
        say(f"of the {reached} directions that gradients reach: {of_them:.4f}")
    if plot is not None:
        write_picture(plot, predictions(made, measured, title))
    if json_file is not None:
        record = _record(title, made, measured, found)
        record |= {"coverage": covered.document()}
        write_json(json_file, "refspec.prediction/1", record)


def _planted(snapshot: Snapshot, file: Path) -> World:
    """Plant the recipe of a file again and check that it is what the file holds."""
    record = snapshot.provenance.get("recipe")
    if not isinstance(record, dict):
        raise typer.BadParameter(
            f"{file} is not a planted world: its manifest has no recipe. A prediction "
            "needs the population the data came from; plant one with refspec synth"
        )
    dtype = str(snapshot.provenance["dtype"])  # of the arrays as they were stored
    try:
        world = from_record(record).plant(dtype=dtype)
        same = [*world.populations] == [x.name for x in snapshot.layers]
        off = max(
            _distance(getattr(x, key), getattr(y, key))
            for x, y in zip(snapshot.layers, world.snapshot.layers, strict=True)
            for key in ("features", "errors")
        )
    except ValueError as error:
        raise ValueError(
            f"{file} does not hold the world of its recipe: {error}"
        ) from error
    if not same or off > 1:
        then = visible(snapshot.provenance.get("numpy"))
        raise ValueError(
            f"{file} does not hold the world of its recipe, planted again here: it was "
            f"changed, or another NumPy drew it ({then} then, {np.__version__} now)"
        )
    return world


def _distance(x: backend.Array, y: backend.Array) -> float:
    """Return the largest difference over what rounding of a draw's GEMMs allows."""
    if x.shape != y.shape:
        return float("inf")
    a, b = (np.asarray(backend.to_host(v), dtype=np.float64) for v in (x, y))
    u = max(rounding.unit_roundoff(x), rounding.unit_roundoff(y))
    size = 4 * (x.shape[-1] + x.shape[1]) ** 2
    bound = rounding.gamma(size, u) * max(float(np.max(np.abs(b))), 1.0)
    return float(np.max(np.abs(a - b))) / bound


def _measured(
    snapshot: Snapshot, names: list[str], of: _Kind, made: Prediction
) -> Spectrum:
    """Return the exact spectrum, with vectors in parameters where they are compared."""
    if of is _Kind.fisher:
        moment = curvature.fisher(snapshot, names)
    else:
        build = curvature.features if of is _Kind.features else curvature.errors
        moment = build(snapshot, names[0])
    compared = len(made.fixed.values) > 0 and not len(made.random.values)
    if compared and made.dimension <= _VECTORS:
        return spectrum(primal(moment), vectors=True)
    return spectrum(coordinates(moment))


def _compared(made: Prediction, measured: Spectrum) -> Discrepancy:
    """Compare, overlaps too where there are vectors."""
    vectors = None
    if measured.vectors is not None:
        vectors = backend.to_host(measured.vectors)[:, : len(made.outliers.values)]
    return random_matrix.discrepancy(made, measured, vectors=vectors)


def _print(
    title: str, made: Prediction, measured: Spectrum, found: Discrepancy, top: int
) -> None:
    """Print bands, outliers and the distance."""
    d, expected = made.dimension, made.outliers
    values = np.asarray(backend.to_host(measured.values), dtype=np.float64)
    for sentence in made.assumes:
        say(f"assumes: {sentence}")
    if made.estimation is not None:
        say(str(made.estimation))
    bands = new_table(title, ["band", "from", "to", "mass", "expected", "found"])
    rows = zip(made.bands, made.counts, found.band_counts, strict=True)
    for k, (band, expects, seen) in enumerate(rows, 1):
        ends = f"{band.lower:.5g}", f"{band.upper:.5g}"
        bands.add_row(str(k), *ends, f"{band.mass:.4f}", str(expects), str(seen))
    console.print(bands)
    if len(made.inner.values):
        at = ", ".join(
            f"{x:.5g} +- {sd:.2g}"
            for x, sd in zip(made.inner.values, made.inner.deviations, strict=True)
        )
        say(f"means between bands, counted with the nearer one: {at}")
    if made.law.atom > 0:
        zero = d - int(np.sum(values > measured.radius))
        count = float(made.count(np.zeros(1), side="right")[0])
        say(f"zero: expected {count:.0f}, found {zero}")
    if len(expected.values):
        columns = ["outlier", "predicted", "sd", "found", "z"]
        seen_overlaps = len(found.overlap_errors) > 0
        extra = ["overlap", "found"] if seen_overlaps else []
        table = new_table("", [*columns, *extra])
        for k in range(min(top, len(expected.values))):
            cells = [str(k + 1), f"{expected.values[k]:.5g}"]
            cells += [f"{expected.deviations[k]:.2g}", f"{values[k]:.5g}"]
            cells += [f"{found.scores[k]:+.2f}"]
            if seen_overlaps:
                overlap = expected.overlaps[k]
                cells += [f"{overlap:.3f}", f"{overlap + found.overlap_errors[k]:.3f}"]
            table.add_row(*cells)
        console.print(table)
    if isinstance(made, KroneckerPrediction):
        r = len(made.fixed.values)
        total = float(np.sum(values[:r]))
        if r:
            score = (total - made.total) / made.total_deviation
            text = f"{made.total:.5g} +- {made.total_deviation:.2g}, found {total:.5g}"
            say(f"sum of the {r} outliers: predicted {text} (z = {score:+.2f})")
        say(f"largest eigenvalue by KFAC: {made.kfac[0]:.5g}, found {values[0]:.5g}")
    outside = len(made.fixed.values)
    mean, deviation = made.bulk_maximum
    below = values[outside] if outside < len(values) else 0.0
    if deviation > 0:
        told = f"largest of the last band: {mean:.5g} +- {deviation:.2g}"
    else:  # how far the edge fluctuates is not known of every law
        told = f"upper edge of the last band: {mean:.5g}"
    say(f"{told}, found {below:.5g}")
    distance = found.distance
    say(f"Kolmogorov-Smirnov distance {distance:.4f}: {distance * d:.2f} of {d} values")


def _record(
    title: str, made: Prediction, measured: Spectrum, found: Discrepancy
) -> dict[str, Any]:
    """Return everything as plain data."""
    record = {
        "of": title,
        "method": made.method,
        "dimension": made.dimension,
        "atom": made.law.atom,
        "bands": [
            {"lower": b.lower, "upper": b.upper, "mass": b.mass, "count": c, "found": n}
            for b, c, n in zip(made.bands, made.counts, found.band_counts, strict=True)
        ],
        "clear": list(made.clear),
        "assumes": list(made.assumes),
        "inner": {
            "values": made.inner.values.tolist(),
            "deviations": made.inner.deviations.tolist(),
        },
        "outliers": {
            "values": made.outliers.values.tolist(),
            "deviations": made.outliers.deviations.tolist(),
            "overlaps": finite(made.outliers.overlaps),
            "scores": found.scores.tolist(),
            "overlap_errors": finite(found.overlap_errors),
        },
        "eigenvalues": made.eigenvalues.tolist(),
        "measured": np.asarray(backend.to_host(measured.values)).tolist(),
        "distance": found.distance,
    }
    if made.estimation is not None:
        told = made.estimation
        record["estimation"] = {
            "groups": told.groups,
            "ranks": told.ranks.tolist(),
            "values": told.values.tolist(),
            "deviations": told.deviations.tolist(),
            "counts": told.counts.tolist(),
            "edges": told.edges.tolist(),
            "edge_deviations": told.edge_deviations.tolist(),
        }
    if isinstance(made, KroneckerPrediction):
        record |= {
            "total": made.total,
            "total_deviation": made.total_deviation,
            "kfac": made.kfac.tolist(),
        }
    return record
