"""Flaws: the thing that a statement is about, changed as little as its check sees.

A check that holds shows nothing unless it fails where the statement is false. So every
statement has flaws, as data: the place where the thing it is about is computed, what
is made of the result there, and samples on which the check then has to fail. The size
of a flaw is a few times the resolution that the check itself states on these
samples, or, where a check is coarse, the smallest that it is said to see. What a check
reads or computes for itself is never changed: no place is in `refspec.theorems`.

A page has a module here: its `FLAWS`, and `REASONS` of the statements without any.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from refspec import Snapshot
from refspec.theorems import Study, find, worst
from support.verdicts import verdict

#: A flaw is so many times the resolution, unless it says otherwise.
TIMES = 8.0
#: No flaw that is given by a resolution is larger: far below a subtle mistake.
SMALL = 2.0**-20
#: The smallest flaw: where both sides are equal to the bit, the last of them.
LAST_BIT = 2.0**-52

#: Where in a program something is compared: function and line.
Place = tuple[str, int]
Wrong = Callable[[Callable[..., Any], float], Callable[..., Any]]


def nothing(_: pytest.MonkeyPatch) -> None:
    """Set nothing before the check is run."""


@dataclass(frozen=True, eq=False)
class Flaw:
    """One way in which a statement can be false.

    id: of the statement. what: is wrong, in a few words. place: of what is computed
    wrongly, "refspec.module:function" or "refspec.module:Class.method"; "data" for the
    samples themselves. wrong: of the right function and a size makes the wrong one;
    of samples and a size, for "data". on: makes the samples, or a study of them, on
    which the check has to see it. size: 0 for `times` resolutions. setting: of what is
    neither right nor wrong, such as how large a world is.
    """

    id: str
    what: str
    place: str
    wrong: Callable[..., Any]
    on: Callable[[], Study | Snapshot]
    size: float = 0.0
    times: float = TIMES
    setting: Callable[[pytest.MonkeyPatch], None] = nothing

    def __str__(self) -> str:
        """Name the statement and what is wrong."""
        return f"{self.id}: {self.what}"


@cache
def resolution(
    id: str,
    on: Callable[[], Study | Snapshot],
    setting: Callable[[pytest.MonkeyPatch], None],
) -> float:
    """Assert that a check holds without a flaw; return what it says that it sees."""
    with pytest.MonkeyPatch.context() as patch:
        setting(patch)
        found = verdict(id, on())
    assert found.holds, f"{found.residual} > {found.bound}, {found.detail}"
    return found.resolution


def seen_by(flaw: Flaw, monkeypatch: pytest.MonkeyPatch) -> set[Place]:
    """Assert that a check holds, and return which comparisons fail with the flaw."""
    known = resolution(flaw.id, flaw.on, flaw.setting)
    size = flaw.size
    if not size:
        size = max(flaw.times * known, LAST_BIT)
        assert size <= SMALL, f"{known} is too coarse for a resolution"
    flaw.setting(monkeypatch)
    subject = flaw.on()
    if flaw.place == "data":
        if isinstance(subject, Study):
            made = flaw.wrong(subject.snapshot, size)
            subject = Study(made, world=subject.world, seed=subject.seed)
        else:
            subject = flaw.wrong(subject, size)
    else:
        put(monkeypatch, flaw.place, flaw.wrong, size)
    study = subject if isinstance(subject, Study) else Study(subject)
    (theorem,) = find([flaw.id])
    found = compared(theorem.comparisons(theorem.subject(study)))
    return {place for place, comparison in found if not worst([comparison]).holds}


def compared(check: Iterator[Any]) -> Iterator[tuple[Place, Any]]:
    """Yield what a check compares, with the place in its program that yields it."""
    for comparison in check:
        inner = check
        while inner.gi_yieldfrom is not None:
            inner = inner.gi_yieldfrom
        frame = inner.gi_frame
        yield (frame.f_code.co_name, frame.f_lineno), comparison


def places(check: Callable[..., Any]) -> set[Place]:
    """Return all places in a check, and in what it yields from, that compare."""
    lines, first = inspect.getsourcelines(check)
    found: set[Place] = set()
    for node in ast.walk(ast.parse("".join(lines))):
        if isinstance(node, ast.Yield):
            found.add((check.__name__, first + node.lineno - 1))
        if isinstance(node, ast.YieldFrom):
            found |= places(check.__globals__[node.value.func.id])
    return found


def put(monkeypatch: pytest.MonkeyPatch, place: str, wrong: Wrong, size: float) -> None:
    """Put a wrong function in the place of the right one, wherever it is imported."""
    module, _, path = place.partition(":")
    owner: Any = import_module(module)
    *outer, name = path.split(".")
    for x in outer:
        owner = getattr(owner, x)
    right = inspect.getattr_static(owner, name)
    if isinstance(right, property):
        read = wraps(right.fget)(wrong(right.fget, size))
        monkeypatch.setattr(owner, name, property(read))
        return
    made = wraps(right)(wrong(right, size))
    monkeypatch.setattr(owner, name, made)
    for key, other in list(sys.modules.items()):
        if outer or not key.startswith("refspec"):
            continue
        for known, value in list(vars(other).items()):
            if value is right:
                monkeypatch.setattr(other, known, made)


def after(change: Callable[[Any, float], Any]) -> Wrong:
    """Change what a function returns."""

    def wrong(right: Callable[..., Any], size: float) -> Callable[..., Any]:
        return lambda *args, **given: change(right(*args, **given), size)

    return wrong


def before(change: Callable[[Any, float], Any]) -> Wrong:
    """Change the first thing that a function is given."""

    def wrong(right: Callable[..., Any], size: float) -> Callable[..., Any]:
        return lambda first, *args, **given: right(change(first, size), *args, **given)

    return wrong


def larger(x: Any, size: float) -> Any:
    """Return x times 1 + size."""
    return (1 + size) * x


def smaller(x: Any, size: float) -> Any:
    """Return x times 1 - size."""
    return (1 - size) * x


def field(name: str, change: Callable[[Any, float], Any]) -> Callable[..., Any]:
    """Change one field of a dataclass."""
    return lambda x, size: replace(x, **{name: change(getattr(x, name), size)})


def entry(name: str, change: Callable[[Any, float], Any]) -> Callable[..., Any]:
    """Change one entry of a dictionary."""
    return lambda x, size: x | {name: change(x[name], size)}


def first(change: Callable[[Any, float], Any]) -> Callable[..., Any]:
    """Change the first of several: values, say, and not their radius."""
    return lambda found, size: (change(found[0], size), *found[1:])


def features(change: Callable[[Any, float], Any]) -> Callable[..., Any]:
    """Change the features of every layer."""
    return _layers("features", change)


def errors(change: Callable[[Any, float], Any]) -> Callable[..., Any]:
    """Change the errors of every layer."""
    return _layers("errors", change)


def _layers(name: str, change: Callable[[Any, float], Any]) -> Callable[..., Any]:
    """Change an array of every layer of a snapshot."""

    def wrong(snapshot: Snapshot, size: float) -> Snapshot:
        changed = field(name, change)
        return replace(
            snapshot, layers=tuple(changed(x, size) for x in snapshot.layers)
        )

    return wrong


def tables() -> dict[str, Any]:
    """Return the modules here by the page of theory/ that they are about."""
    names = sorted(x.stem for x in Path(__file__).parent.glob("[a-z]*.py"))
    return {n: import_module(f"support.flaws.{n}") for n in names}


def flaws() -> list[Flaw]:
    """Return all flaws."""
    return [x for page in tables().values() for x in page.FLAWS]
