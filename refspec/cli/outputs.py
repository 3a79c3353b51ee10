"""What a command writes: places tried before any work, files that appear whole."""

from __future__ import annotations

import io
import json
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import numpy as np
import typer

import refspec
from refspec import backend, files
from refspec.cli.terminal import console, say
from refspec.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from refspec.attribution import Attribution
    from refspec.coverage import Coverage
    from refspec.spectra import Spectrum

Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write everything here; - is standard output."),
]
Plot = Annotated[
    Path | None, typer.Option("--plot", help="Write a picture here; - is a PNG.")
]

_STANDARD = Path("-")


def expect_outputs(
    sources: Iterable[Path | None],
    *,
    folder_mark: str | None = None,
    **named: Path | None,
) -> None:
    """Refuse, before any work, outputs that cannot be written or would meet.

    `named` holds the paths by option; `folder_mark` says that --output is a folder.
    """
    places = {f"--{name}": path for name, path in named.items() if path is not None}
    for option, path in places.items():
        try:
            if option == "--plot":
                style.expect_format(".png" if path == _STANDARD else path.suffix)
            if path != _STANDARD:
                files.expect_writable(
                    path, folder_mark if option == "--output" else None
                )
            elif option != "--json" and sys.stdout.isatty():
                raise ValueError("expected a file or a pipe, got a terminal")
        except OSError as error:
            raise typer.BadParameter(f"{option} {path}: {error.strerror}") from error
        except ValueError as error:
            raise typer.BadParameter(f"{option} {path}: {error}") from error
    _expect_apart(places, [x for x in sources if x is not None])
    # what is said must not mix with what is written
    console.stderr = _STANDARD in places.values()


def _expect_apart(places: dict[str, Path], sources: list[Path]) -> None:
    """Refuse one place for two outputs, and an input as an output."""
    seen: dict[Path, str] = {}
    for option, path in places.items():
        real = path if path == _STANDARD else Path(os.path.realpath(path))
        for source in sources:
            if real.is_relative_to(os.path.realpath(source)):
                raise typer.BadParameter(
                    f"{option} must not be what is read, got {path} for both; choose "
                    "another name"
                )
        if real in seen:
            raise typer.BadParameter(
                f"{seen[real]} and {option} must be two places, got {path} for both; "
                "choose another name"
            )
        seen[real] = option


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open an output that appears whole or not at all; - is standard output."""
    try:
        if path != _STANDARD:
            with files.atomic(path) as file:
                yield file
            return
        whole = io.BytesIO()
        yield whole
        sys.stdout.flush()
        sys.stdout.buffer.write(whole.getvalue())
        sys.stdout.buffer.flush()
    except OSError as error:  # a full disk does not say where
        error.filename = error.filename or str(path)
        raise


def write_json(path: Path, schema: str, record: dict[str, Any]) -> None:
    """Write plain data with its schema; refuse what JSON has no number for."""
    every = {"schema": schema, "version": refspec.__version__, **record}
    try:
        text = json.dumps(every, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"expected finite numbers to write, got others ({error}); look at the table"
        ) from error
    with opened(path) as file:
        file.write(text.encode() + b"\n" * (path == _STANDARD))


def told(parts: Mapping[str, Any], seen: bool) -> tuple[dict[str, Any], list[str]]:
    """Return parts by the heads of a table, and what explains them below it.

    A diagonal that nobody sees is counted with the class means, as in the report.
    """
    shown = dict(parts)
    if "diagonal" not in shown:
        return {style.label(n): x for n, x in shown.items()}, []
    what = "is of the labels that samples really have"
    if not seen:
        what = f"is below {style.SEEN:.1%}, and counted with the class means it lies on"
        shown["between_class"] = shown["between_class"] + shown.pop("diagonal")
    heads = {n: style.label(n) for n in shown} | {"diagonal": "diagonal c'=c"}
    note = f"the diagonal, c' = c, {what} (theory/levels.md#L4)"
    return {heads[n]: x for n, x in shown.items()}, textwrap.wrap(note, 80)


def write_picture(path: Path, drawn: list[Axes]) -> None:
    """Write the figure of some axes; the ending of the path chooses the format."""
    with opened(path) as file:
        style.write(drawn[0], file, "png" if path == _STANDARD else path.suffix)
    say(f"picture: {path}")


def spectrum_record(result: Spectrum, title: str, covered: Coverage) -> dict[str, Any]:
    """Return a spectrum as plain data."""
    return {
        "of": title,
        "coverage": covered.document(),
        "values": np.asarray(backend.to_host(result.values)).tolist(),
        "radius": result.radius,
        "kind": result.kind,
        "dimension": result.dimension,
        "complete": result.complete,
        "left_out": result.left_out,
        "rows_left_out": result.rows_left_out,
    }


def attribution_record(
    result: Attribution, title: str, covered: Coverage
) -> dict[str, Any]:
    """Return an attribution as plain data."""
    return {
        **spectrum_record(result.spectrum, title, covered),
        "traces": result.traces,
        "shares": {n: x.tolist() for n, x in result.shares.items()},
        "kinds": result.kinds,
        "proved": result.proved.tolist(),
        "lower": result.lower.tolist(),
        "upper": result.upper.tolist(),
        "knockouts": {n: x.tolist() for n, x in result.knockouts.items()},
        "levels": {n: x.tolist() for n, x in result.levels.items()},
        "angles": {n: x.tolist() for n, x in result.angles.items()},
        "angle_bounds": {n: finite(x) for n, x in result.angle_bounds.items()},
    }


def finite(x: Any) -> Any:
    """Return numbers as JSON has them: null for what there is none of.

    Overlaps without a prediction and bounds that do not exist are not finite; all other
    numbers are answers, and must be.
    """
    numbers = np.asarray(x, dtype=np.float64).astype(object)
    numbers[~np.isfinite(x)] = None
    return numbers.tolist()
