"""What a result shows of itself: in a notebook, as a data frame, as a data set.

A result says once which arrays it holds, one entry a row (`Result.view`). The table of
a notebook, the frame of pandas and the data set of xarray write the same thing down.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from refspec.text import visible

if TYPE_CHECKING:
    import pandas
    import xarray

_Asked = TypeVar("_Asked")
_Found = TypeVar("_Found")

#: One entry a row, or several columns by name, which share the inner dimension.
Column = Any
Columns = Mapping[str, Column | Mapping[str, Column]]

#: Rows and columns of a notebook's table, characters of a cell and of the line above.
_SHOWN, _WIDE, _CELL, _LINE = 10, 16, 60, 500


@dataclass(frozen=True, slots=True)
class View:
    """Arrays with one entry a row, and what is said of all rows together.

    row: what a row is; labels: one a row; columns: by name; inner: what the columns of
    a group are; apart: arrays of another dimension, by name with its name; facts.
    """

    row: str
    labels: Sequence[Any]
    columns: Columns
    inner: str = "part"
    apart: Mapping[str, tuple[str, Column]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Result:
    """What can be shown as a table: the numbers are those of the attributes."""

    __slots__ = ()

    def view(self) -> View:
        """Say which arrays there are; of numbers alone, one row for each."""
        pairs = [(x.name, getattr(self, x.name)) for x in dataclasses.fields(self)]  # type: ignore[arg-type]
        numbers = {n: x for n, x in pairs if isinstance(x, int | float)}
        return View("quantity", list(numbers), {"value": list(numbers.values())})

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a frame of pandas, a row each; `attrs` holds what is of all rows.

        A group of columns has its name before each of theirs: share_between_class.
        """
        frame, v = _library("pandas", "to_dataframe"), self.view()
        columns = {}
        for name, column in v.columns.items():
            for part, entries in _parts(column):
                columns[f"{name}_{part}" if part else name] = np.asarray(entries)
        made = frame.DataFrame(columns, index=frame.Index(v.labels, name=v.row))
        made.attrs |= v.facts
        return made

    def to_xarray(self) -> xarray.Dataset:
        """Return a data set of xarray: a group of columns is one array of two axes."""
        library, v = _library("xarray", "to_xarray"), self.view()
        groups = [x for x in v.columns.values() if isinstance(x, Mapping)]
        inner = list(dict.fromkeys(n for x in groups for n in x))
        variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
        missing = [np.nan] * len(v.labels)
        for name, column in v.columns.items():
            if isinstance(column, Mapping):
                both = np.asarray([column.get(n, missing) for n in inner])
                variables[name] = ((v.inner, v.row), both)
            else:
                variables[name] = ((v.row,), np.asarray(column))
        for name, (dimension, entries) in v.apart.items():
            variables[name] = ((dimension,), np.asarray(entries))
        places = {v.row: list(v.labels)} | ({v.inner: inner} if inner else {})
        made: xarray.Dataset = library.Dataset(variables, places, dict(v.facts))
        return made

    def plot(self, **options: Any) -> Any:
        """Draw it, with the options of its function in `refspec.plots`."""
        # by name: pictures are a layer above, and matplotlib comes only when asked for
        return import_module("refspec.plots").draw(self, **options)

    def _repr_html_(self) -> str:
        """Return a table for a notebook: the repr, and the first rows."""
        v = self.view()
        pairs = [
            (f"{name} {part}".strip(), entries)
            for name, column in v.columns.items()
            for part, entries in _parts(column)
        ]
        cells = [[_cell(x) for x in islice(c, _SHOWN)] for _, c in pairs[:_WIDE]]
        heads = [v.row, *(name for name, _ in pairs[:_WIDE])]
        head = "".join(
            f'<th scope="col">{_safe(x.replace("_", " "))}</th>' for x in heads
        )
        body = "".join(
            f'<tr><th scope="row">{_safe(_cell(label))}</th>'
            + "".join(f"<td>{_safe(column[k])}</td>" for column in cells)
            + "</tr>"
            for k, label in enumerate(islice(v.labels, _SHOWN))
        )
        left = len(v.labels) - _SHOWN, len(pairs) - _WIDE
        more = [
            f"{n} more {x}"
            for n, x in zip(left, ("rows", "columns"), strict=True)
            if n > 0
        ]
        rest = f"<p>{', '.join(more)}: to_dataframe() has all</p>" if more else ""
        return (
            f"<table><caption>{_safe(repr(self), _LINE)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"
        )


class Several(Result, Sequence[_Found], Generic[_Asked, _Found]):
    """Results in their order, each computed when it is first reached, and kept."""

    def __init__(
        self, make: Callable[[_Asked], _Found], asked: Sequence[_Asked]
    ) -> None:
        self._make, self._asked = make, tuple(asked)
        self._kept: dict[int, _Found] = {}

    def __len__(self) -> int:
        return len(self._asked)

    @overload
    def __getitem__(self, k: int) -> _Found: ...
    @overload
    def __getitem__(self, k: slice) -> list[_Found]: ...
    def __getitem__(self, k: int | slice) -> _Found | list[_Found]:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        k = range(len(self))[k]
        if k not in self._kept:
            self._kept[k] = self._make(self._asked[k])
        return self._kept[k]

    def __repr__(self) -> str:
        """Say how many there are, and how many are known."""
        known, name = len(self._kept), type(self).__name__
        return f"{name}({len(self)}{f', {known} known' if known < len(self) else ''})"


def ranks(count: int) -> range:
    """Return 1, 2, ...: the labels of rows that are in descending order."""
    return range(1, count + 1)


def _library(name: str, method: str) -> Any:
    """Import a library of the extra, or say how to get it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{method}() needs {name}, which is not installed; "
            "pip install 'refspec[dataframe]'"
        ) from error


def _parts(column: Column | Mapping[str, Column]) -> list[tuple[str, Column]]:
    """Return the columns of a group by name; one alone without a name."""
    return list(column.items()) if isinstance(column, Mapping) else [("", column)]


def _cell(x: Any) -> str:
    """Return an entry as text: numbers with the six digits that a repr has."""
    if isinstance(x, bool | np.bool_):
        return "yes" if x else "no"
    if isinstance(x, float | np.floating):
        return f"{x:.6g}"
    return "" if x is None else visible(x, _CELL)


def _safe(text: str, longest: int = _CELL) -> str:
    """Return text that a page shows as it is."""
    return html.escape(visible(text, longest))
