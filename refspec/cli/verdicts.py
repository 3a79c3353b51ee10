"""Verdicts on theorems as they come: a table on a terminal, lines when piped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.style import Style
from rich.table import Table
from rich.text import Text

from refspec.cli import completion
from refspec.cli.inputs import split
from refspec.cli.outcomes import DATA
from refspec.cli.outputs import write_json
from refspec.cli.python import module
from refspec.cli.terminal import console, say
from refspec.text import visible
from refspec.theorems import Theorem, asked, find, of_module
from refspec.theorems.places import address, expect_site, published
from refspec.verify import Record

_ONLY = "Statements by id: L1 or L1,C3; may be repeated."
OfData = Annotated[
    list[str] | None,
    typer.Option("--only", help=_ONLY, autocompletion=completion.of_data),
]
OfCode = Annotated[
    list[str] | None,
    typer.Option("--only", help=_ONLY, autocompletion=completion.of_code),
]

Own = Annotated[
    Path | None,
    typer.Option(
        "--theorems", help="A Python file: check the theorems it holds, and no others."
    ),
]

Site = Annotated[
    str | None,
    typer.Option(
        "--site",
        envvar="REFSPEC_SITE",
        help="Link theorems to their proofs there: the address of a documentation "
        "site, or the folder that make docs wrote.",
    ),
]

#: Characters of what was compared, in the live table.
_DETAIL = 400

_HEADS = ("id", "title", "verdict", "residual", "bound", "margin", "sees", "time", "of")

_COLOURS = {"holds": "green", "fails": "bold red"}


def chosen(
    only: list[str] | None, question: str, own: Path | None = None
) -> tuple[Theorem, ...]:
    """Return the theorems that were asked for, or all that answer the question.

    Of a module of the user's, all of them or those asked for.
    """
    if own is not None:
        return _own(own, only)
    if not only:
        return asked(question)
    try:
        return find(split(only))
    except ValueError as error:
        raise typer.BadParameter(f"--only: {error}") from error


def site_of(given: str | None) -> str:
    """Return the address of the site that was given, or that the package states."""
    try:
        return published() if given is None else expect_site(given)
    except ValueError as error:
        raise typer.BadParameter(f"--site: {error}") from error


def _own(file: Path, only: list[str] | None) -> tuple[Theorem, ...]:
    """Return the theorems of a module of the user's."""
    try:
        found = of_module(module(file))
    except ValueError as error:
        raise typer.BadParameter(f"--theorems: {error}") from error
    if not only:
        return found
    wanted = split(only)
    known = {x.id: x for x in found}
    missing = [x for x in wanted if x not in known]
    if missing:
        raise typer.BadParameter(
            f"--only must name theorems of {file}, got {', '.join(missing)}; it holds "
            f"{', '.join(known)}"
        )
    return tuple(known[x] for x in known if x in wanted)


def show(
    source: str, found: Iterable[Record], total: int, site: str = ""
) -> list[Record]:
    """Print records as they come: a live table on a terminal, lines when piped."""
    records: list[Record] = []
    if not console.is_terminal:
        say(source)
        say(_line(_HEADS))
        for r in found:
            records.append(r)
            say(_line(_cells(r)))
        return records
    with Live(
        console=console, refresh_per_second=8, vertical_overflow="visible"
    ) as live:
        for r in found:
            records.append(r)
            live.update(_table(source, records, total, site))
    return records


def _line(cells: Sequence[str]) -> str:
    """Return a line of columns; the last, what was compared, is as long as it is."""
    id, title, *rest, detail = cells
    return f"{id:4} {title:58} " + " ".join(f"{x:8}" for x in rest) + f" {detail}"


def conclude(
    records: list[Record], json_file: Path | None, schema: str, **more: Any
) -> None:
    """Count, name what fails, write the JSON; exit 1 if a statement fails."""
    counts = {x: sum(r.status == x for r in records) for x in ("holds", "fails")}
    rest = len(records) - sum(counts.values())
    say(f"{counts['holds']} hold, {counts['fails']} fail, {rest} not applicable")
    for r in records:
        if r.status == "fails":
            proof = f"; proof: {r.place}" * bool(r.place)
            say(f"FAILS: {r.id} ({r.title}) on {r.source}: {r.detail}{proof}")
    if json_file is not None:
        write_json(json_file, schema, {**more, "records": [x.plain() for x in records]})
    if counts["fails"]:
        raise typer.Exit(DATA)


def _table(source: str, records: list[Record], total: int, site: str) -> Table:
    """Draw what is known so far."""
    done = "" if len(records) == total else f", {len(records)} of {total}"
    table = Table(title=visible(source, 60) + done)
    for name in _HEADS[:-1]:
        right = name in _HEADS[3:]
        table.add_column(name, justify="right" if right else "left", no_wrap=right)
    for r in records:
        colour = _COLOURS.get(r.status, "dim")
        cells = _cells(r)
        verdict = cells[2] if r.status == "holds" else f"{cells[2]}: {r.detail}"
        said = Text(visible(verdict, _DETAIL), style=colour)
        id = Text(r.id, Style(link=address(site, r.place) or None))
        table.add_row(id, r.title, said, *cells[3:8])
    return table


def _cells(r: Record) -> list[str]:
    """Return the columns of a record as text."""
    numbers = ["" if math.isnan(x) else f"{x:.1e}" for x in (r.residual, r.bound)]
    margin = "" if math.isnan(r.margin) else f"{r.margin:.2g}"
    sees = "" if math.isnan(r.resolution) else f"{r.resolution:.0e}"
    time = f"{r.seconds:.2f}s"
    status = "FAILS" if r.status == "fails" else r.status
    return [r.id, r.title, status, *numbers, margin, sees, time, r.detail]
