"""Networks that have no export: a function of a Python file returns what is asked of.

``mynet.py:network`` names the function ``network`` of that file, which is run as
``python mynet.py`` would run it, apart from what stands under ``__main__``. It returns
a moment by differentiation, a pair of Hessian and moment, or a snapshot.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from refspec.classes import Snapshot
from refspec.curvature import SecondMoment
from refspec.implicit import HessianOperator
from refspec.refusals import stated
from refspec.text import visible

#: What such a function may return.
Network = Snapshot | SecondMoment | tuple[HessianOperator, SecondMoment]

_NAMED = re.compile(r"(?P<file>.+\.py):(?P<name>\w+)")
_ADVICE = "as `def network(): return refspec.torch.moment(model, loader)`"


def named(given: Path) -> tuple[Path, str] | None:
    """Return the file and the function that are named, None of an export."""
    found = _NAMED.fullmatch(str(given))
    if found is not None and not given.exists():
        return Path(found["file"]), found["name"]
    if given.suffix == ".py":
        raise typer.BadParameter(
            f"a Python file must come with the name of a function in it, got {given}; "
            f"give {given}:network, {_ADVICE}"
        )
    return None


def expect_there(file: Path) -> None:
    """Refuse a Python file that is not there."""
    if not file.is_file():
        raise typer.BadParameter(f"no such file: {file}; give the path of a .py file")


def run(file: Path, name: str) -> Network:
    """Run a function of a Python file; return the network that it gives."""
    expect_there(file)
    where = f"{file}:{name}"
    with _answering(where):
        module = _module(file)
        make = getattr(module, name, None)
        found: Any = make() if callable(make) else make
    if make is None:
        raise typer.BadParameter(
            f"{file} must hold a function {name!r}, got none of that name; write one, "
            f"{_ADVICE.replace('network', name)}"
        )
    pair = isinstance(found, tuple) and len(found) == 2
    kinds = (Snapshot, SecondMoment)
    if isinstance(found, kinds) or (
        pair
        and isinstance(found[0], HessianOperator)
        and isinstance(found[1], SecondMoment)
    ):
        return found  # type: ignore[no-any-return]
    raise typer.BadParameter(
        f"{where} must return a SecondMoment, a pair (HessianOperator, SecondMoment) "
        f"or a Snapshot, got {visible(type(found).__name__)}; write it {_ADVICE}"
    )


def module(file: Path) -> ModuleType:
    """Import a Python file of the user's, whatever is in it."""
    expect_there(file)
    with _answering(str(file), "be a module that can be imported"):
        made: ModuleType = _module(file)
    return made


def value(file: Path, name: str, kind: type, advice: str) -> Any:
    """Return what a function of a Python file returns, of one kind."""
    make = getattr(module(file), name, None)
    if not callable(make):
        raise typer.BadParameter(
            f"{file} must hold a function {name!r}, got none of that name; {advice}"
        )
    with _answering(f"{file}:{name}", f"return a {kind.__name__}"):
        found = make()
    if not isinstance(found, kind):
        raise typer.BadParameter(
            f"{file}:{name} must return a {kind.__name__}, got "
            f"{visible(type(found).__name__)}; {advice}"
        )
    return found


def _module(file: Path) -> Any:
    """Import a file by its path, its folder first on the way as for a script."""
    spec = importlib.util.spec_from_file_location("refspec_network", file)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["refspec_network"] = module  # dataclasses and pickles look there
    sys.path.insert(0, str(file.resolve().parent))
    spec.loader.exec_module(module)
    return module


@contextmanager
def _answering(where: str, what: str = "return a network") -> Iterator[None]:
    """Turn what the user's own code raises into a sentence."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, Exception) and stated(error):
            raise  # a refusal of refspec's is a sentence already
        said = visible(" ".join(str(error).split()), 200)
        raise typer.BadParameter(
            f"{where} must {what}, got {type(error).__name__}: {said}; run it in "
            "Python, or see the traceback by `refspec --debug`"
        ) from error
