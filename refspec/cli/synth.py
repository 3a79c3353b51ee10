"""`refspec synth`: plant a world and write it as an export.

Its options are the fields of `refspec.synthetic.Recipe`: names, types, defaults, groups
and help are read off the dataclass. A preset is a recipe by name; options that are
given beside it change it.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from refspec import export, memory
from refspec.cli.inputs import Memory
from refspec.cli.outputs import Json, expect_outputs, write_json
from refspec.cli.terminal import say, working
from refspec.plots.style import label
from refspec.synthetic import PRESETS, Recipe, expected_levels

_words: Any = StrEnum  # made by a call, from the words that an option can be
_Name: Any = _words("Preset", {n: n for n in PRESETS})


class Precision(StrEnum):
    """Of the arrays written."""

    float64 = "float64"
    float32 = "float32"


Output = Annotated[
    Path, typer.Option("--output", "-o", help="Where to: NAME.npz or NAME.zarr.")
]
_Preset = Annotated[
    _Name | None,
    typer.Option(
        help="A recipe to start from. "
        + " ".join(f"{n}: {x.about}" for n, x in PRESETS.items())
    ),
]
_Dtype = Annotated[Precision, typer.Option(help="Of the arrays.")]


def synth(
    context: typer.Context,
    output: Output,
    preset: _Preset = None,
    dtype: _Dtype = Precision.float64,
    json_file: Json = None,
    limit: Memory = None,
    **fields: Any,
) -> None:
    """Plant a world whose population is known and write it as an export.

    Start from a preset: every option beside it changes one thing in its recipe.

    The recipe goes into the manifest, so that `refspec predict` finds it.
    """
    if output.suffix not in (".npz", ".zarr"):
        raise typer.BadParameter(f"--output must end in .npz or .zarr, got {output}")
    mark = "zarr.json" if output.suffix == ".zarr" else None
    expect_outputs([], folder_mark=mark, output=output, json=json_file)
    try:
        start = Recipe() if preset is None else PRESETS[preset.value].recipe
        changed = {k: _value(k, x) for k, x in fields.items() if _given(context, k)}
        recipe = dataclasses.replace(start, **changed)
        with memory.within(limit), working("planting"):
            world = recipe.plant(dtype=dtype.value)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error)) from error
    with working("writing"):
        export.save(world.snapshot, output)
    N, C = world.probabilities.shape
    say(
        f"{output}: N = {N} samples, C = {C} classes, {len(world.populations)} layer(s)"
    )
    record = {}
    for name in world.populations:
        expected = {
            n: float(x.trace()) for n, x in expected_levels(world, name)[1].items()
        }
        total = sum(expected.values())
        shares = ", ".join(f"{label(n)} {x / total:.3f}" for n, x in expected.items())
        say(f"  errors of {name}: expected trace {total:.6g}; {shares}")
        record[name] = expected
    assumes = ["traces are expectations over draws, exact at this N, given the weights"]
    if recipe.dof is not None and recipe.dof <= 4:
        assumes.append(
            f"noise of {recipe.dof:.3g} degrees of freedom has no fourth moment: a "
            "trace has no deviation, and no law knows the largest eigenvalues, so "
            "refspec predict refuses this world"
        )
    for sentence in assumes:
        say(f"  assumes: {sentence}")
    if json_file is not None:
        made = {
            "file": str(output),
            "recipe": recipe.record(),
            "expected_traces": record,
            "assumes": assumes,
        }
        write_json(json_file, "refspec.synth/1", made)


_TYPES = typing.get_type_hints(Recipe)


def _given(context: typer.Context, name: str) -> bool:
    """Whether an option was given, rather than left at its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _several(name: str) -> type | None:
    """Return the type of the numbers of a field that can hold several."""
    hint = _TYPES[name]
    for kind in (hint, *typing.get_args(hint)):
        if typing.get_origin(kind) is tuple:
            return typing.get_args(kind)[0]  # type: ignore[no-any-return]
    return None


def _value(name: str, given: Any) -> Any:
    """Read what an option was given as the value of its field."""
    kind = _several(name)
    if kind is None:
        return str(given) if isinstance(given, StrEnum) else given
    try:
        numbers = tuple(kind(x) for x in given.split(","))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        option = f"--{name.replace('_', '-')}"
        raise typer.BadParameter(
            f"{option} must be {what} between commas, got {given!r}"
        ) from None
    single = len(numbers) == 1 and typing.get_origin(_TYPES[name]) is not tuple
    return numbers[0] if single else numbers


def _options() -> Iterator[inspect.Parameter]:
    """Make a parameter of the command from every field of a recipe."""
    for x in dataclasses.fields(Recipe):
        kind, default, among = _TYPES[x.name], x.default, x.metadata["among"]
        if _several(x.name):  # numbers between commas
            default = default if isinstance(default, tuple) else (default,)
            kind, default = str, ",".join(f"{n:g}" for n in default)
        elif among:
            kind = _words(x.name.title(), {n: n for n in among})
            default = kind(default)
        about, group = x.metadata["about"], x.metadata["group"]
        option = typer.Option(help=about, rich_help_panel=group)
        yield inspect.Parameter(
            x.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, option],
        )


def _signed() -> None:
    """Give the command the signature that typer reads: output, recipe, the rest."""
    hints = typing.get_type_hints(synth, include_extras=True)
    given = list(inspect.signature(synth).parameters.values())[:-1]
    own = [
        x.replace(annotation=hints[x.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for x in given
    ]
    # context, output, preset; the recipe; the rest
    every = [*own[:3], *_options(), *own[3:]]
    synth.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    synth.__annotations__ = {x.name: x.annotation for x in every}


_signed()
