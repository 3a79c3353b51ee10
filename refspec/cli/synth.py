"""`refspec synth`: plant a world and write it as an export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from refspec import export
from refspec.cli.outputs import Json, expect_outputs, write_json
from refspec.cli.terminal import say, working
from refspec.synthetic import Recipe, levels
from refspec.synthetic.covariances import LAWS
from refspec.synthetic.recipes import KINDS, MEANS

Means = StrEnum("Means", {x: x for x in MEANS})  # type: ignore[misc]
Law = StrEnum("Law", {x: x for x in LAWS})  # type: ignore[misc]


class Precision(StrEnum):
    """Of the arrays written."""

    float64 = "float64"
    float32 = "float32"


_KINDS = ", ".join(k if p is None else f"{k}:X" for k, p in KINDS.items())
_ERRORS, _WEIGHTS, _FEATURES = "Errors", "Probabilities", "Features and layers"

Output = Annotated[
    Path, typer.Option("--output", "-o", help="Where to: NAME.npz or NAME.zarr.")
]


def _option(text: str, panel: str) -> typer.models.OptionInfo:
    return typer.Option(help=text, rich_help_panel=panel)  # type: ignore[no-any-return]


def synth(
    output: Output,
    classes: Annotated[int, _option("C.", _ERRORS)] = 10,
    dim: Annotated[int, _option("Dimension of the errors.", _ERRORS)] = 200,
    per_class: Annotated[
        str, _option("Samples of every class, or of each: 20 or 10,20,30.", _ERRORS)
    ] = "20",
    means: Annotated[
        Means, _option("Class means: fixed, or a random level.", _ERRORS)
    ] = Means.simplex,  # type: ignore[attr-defined]
    strength: Annotated[float, _option("Length of a class mean.", _ERRORS)] = 3.0,
    cross_strength: Annotated[
        float, _option("Root mean square length of a cross-class mean.", _ERRORS)
    ] = 0.0,
    fixed_cross: Annotated[
        bool, _option("Plant the cross-class means instead of a random level.", _ERRORS)
    ] = False,
    global_strength: Annotated[
        float, _option("Length of the mean of all errors.", _ERRORS)
    ] = 0.0,
    noise: Annotated[
        str, _option("Variance within, for all classes or each: 1 or 1,2,1.", _ERRORS)
    ] = "1",
    covariance: Annotated[
        str, _option(f"Of the noise: {_KINDS}.", _ERRORS)
    ] = "isotropic",
    class_covariance: Annotated[
        str, _option("Of random class means, likewise.", _ERRORS)
    ] = "isotropic",
    cross_covariance: Annotated[
        str, _option("Of random cross-class means, likewise.", _ERRORS)
    ] = "isotropic",
    law: Annotated[Law, _option("Of the noise.", _ERRORS)] = Law.gaussian,  # type: ignore[attr-defined]
    dof: Annotated[
        float | None, _option("Degrees of freedom, above 2, of student.", _ERRORS)
    ] = None,
    misclassification: Annotated[
        float | None,
        _option("Of the probabilities; chance if not given, 1 drops c' = c.", _WEIGHTS),
    ] = None,
    confidence: Annotated[
        float | None, _option("Softmax outputs: margin of the true logit.", _WEIGHTS)
    ] = None,
    spread: Annotated[
        float, _option("Softmax outputs: deviation of every logit.", _WEIGHTS)
    ] = 0.0,
    score_consistent: Annotated[
        bool, _option("Make sum_c' p delta = 0 for every sample.", _WEIGHTS)
    ] = False,
    feature_dim: Annotated[
        int, _option("Dimension of shared features; 0 for none.", _FEATURES)
    ] = 0,
    feature_strength: Annotated[
        float, _option("Length of their orthogonal class means.", _FEATURES)
    ] = 3.0,
    feature_noise: Annotated[float, _option("Their variance within.", _FEATURES)] = 1.0,
    coupling: Annotated[
        float, _option("Of features and errors, in [-1, 1].", _FEATURES)
    ] = 0.0,
    gains: Annotated[
        str, _option("One layer each, means times the gain: 0.5,1,2.", _FEATURES)
    ] = "1",
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    dtype: Annotated[
        Precision, typer.Option(help="Of the arrays.")
    ] = Precision.float64,
    json_file: Json = None,
) -> None:
    """Plant a world whose law is known and write it as an export.

    The recipe goes into the manifest, so that `refspec predict` finds it.
    """
    if output.suffix not in (".npz", ".zarr"):
        raise typer.BadParameter(f"--output must end in .npz or .zarr, got {output}")
    mark = "zarr.json" if output.suffix == ".zarr" else None
    expect_outputs([], folder_mark=mark, output=output, json=json_file)
    try:
        counts = _numbers("--per-class", per_class, int)
        variances = _numbers("--noise", noise)
        recipe = Recipe(
            classes=classes,
            dim=dim,
            per_class=counts if len(counts) > 1 else counts[0],
            means=str(means),
            strength=strength,
            cross_strength=cross_strength,
            fixed_cross=fixed_cross,
            global_strength=global_strength,
            noise=variances if len(variances) > 1 else variances[0],
            covariance=covariance,
            class_covariance=class_covariance,
            cross_covariance=cross_covariance,
            law=str(law),
            dof=dof,
            misclassification=misclassification,
            confidence=confidence,
            spread=spread,
            score_consistent=score_consistent,
            feature_dim=feature_dim,
            feature_strength=feature_strength,
            feature_noise=feature_noise,
            coupling=coupling,
            gains=_numbers("--gains", gains),
            seed=seed,
        )
        with working("planting"):
            world = recipe.plant(dtype=dtype.value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with working("writing"):
        export.save(world.snapshot, output)
    N, C = world.probabilities.shape
    say(f"{output}: N = {N} samples, C = {C} classes, {len(world.plans)} layer(s)")
    record = {}
    for plan in world.plans:
        expected = {n: float(x.trace()) for n, x in levels(world, plan.name)[1].items()}
        total = sum(expected.values())
        shares = ", ".join(f"{n} {x / total:.3f}" for n, x in expected.items())
        say(f"  errors of {plan.name}: expected trace {total:.6g}; {shares}")
        record[plan.name] = expected
    if json_file is not None:
        made = {
            "file": str(output),
            "recipe": recipe.record(),
            "expected_traces": record,
        }
        write_json(json_file, "refspec.synth/1", made)


def _numbers(name: str, text: str, kind: type = float) -> tuple[Any, ...]:
    """Read numbers between commas."""
    try:
        return tuple(kind(x) for x in text.split(","))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise typer.BadParameter(
            f"{name} must be {what} between commas, got {text!r}"
        ) from None
