"""What reaches the terminal: plain text, whatever the file that it came from holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from refspec import costs
from refspec.text import visible

if TYPE_CHECKING:
    from refspec.plans import Plan

#: Characters of a title or table cell, and of a line that is no table.
_TITLE, _LINE = 78, 2000


class _Plain(Console):
    """Prints text as it is, and leaves a broken pipe to who maps exceptions."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class _PlainTable(Table):
    """Makes every cell visible text."""

    def add_row(self, *cells: object, **options: object) -> None:
        shown = (x if isinstance(x, Text) else visible(x, _TITLE) for x in cells)
        super().add_row(*shown, **options)  # type: ignore[arg-type]


console = _Plain()
errors = _Plain(stderr=True)


def say(text: str) -> None:
    """Print a line."""
    console.print(visible(text, _LINE), soft_wrap=True)


def complain(text: str) -> None:
    """Print a line where errors go."""
    errors.print(Text(visible(text, _LINE), style="red"), soft_wrap=True)


def announce(plan: Plan) -> None:
    """Say a plan where errors go, if someone looks."""
    if errors.is_terminal:
        errors.print(visible(plan.sentence(), _LINE), soft_wrap=True)


@contextmanager
def working(text: str, plan: Plan | None = None) -> Iterator[Callable[[str], None]]:
    """Show what is being done; yield what tells that something else began.

    With a plan: say it first, and draw how much of it is done and the time left.
    """
    if plan is None or not errors.is_terminal:
        with console.status(Text(visible(text, _TITLE))) as status:
            yield lambda other: status.update(Text(visible(other, _TITLE)))
        return
    announce(plan)
    left, name = TimeRemainingColumn(), TextColumn("{task.description}", markup=False)
    with Progress(name, BarColumn(), left, console=errors, transient=True) as bar:
        task = bar.add_task(visible(text, _TITLE), total=plan.seconds)

        def tell(other: str) -> None:
            bar.update(task, description=visible(other, _TITLE))

        with costs.heard(lambda cost: bar.advance(task, plan.time_of(cost))):
            yield tell


def new_table(title: str, columns: list[str]) -> Table:
    """Return an empty table for 80 columns: headings have a line for every word."""
    table = _PlainTable(title=visible(title, _TITLE), box=SIMPLE_HEAD, pad_edge=False)
    table.padding, table.collapse_padding = (0, 1) if len(columns) < 9 else 0, True
    for name in columns:
        heading = visible(name).replace(" ", "\n")
        table.add_column(heading, justify="right", vertical="bottom", overflow="fold")
    return table
