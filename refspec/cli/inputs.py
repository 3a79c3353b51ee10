"""What a command reads: its options, an export, and the second moment asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from refspec import backend, checks, coverage, curvature, datasets, export
from refspec.classes import Snapshot
from refspec.cli import completion, python
from refspec.cli.apart import Apart
from refspec.cli.terminal import working
from refspec.coverage import Coverage
from refspec.curvature import SecondMoment
from refspec.differentiated import NetworkMoment, coverage_of
from refspec.implicit import HessianOperator
from refspec.plans import Plan, plan
from refspec.text import listed, visible


class Of(StrEnum):
    """What the second moment is of."""

    features = "features"
    errors = "errors"
    fisher = "fisher"
    hessian = "hessian"


class Backend(StrEnum):
    """Array namespaces by name."""

    numpy = "numpy"
    cupy = "cupy"
    torch = "torch"


File = Annotated[
    Path | None,
    typer.Argument(
        help="An export, or FILE.py:NAME, a function that returns a moment (of PyTorch "
        "or JAX, by differentiation), (hessian, moment) or a snapshot; the embedded "
        "digits network if none.",
    ),
]
Files = Annotated[
    list[Path] | None,
    typer.Argument(help="As FILE of attribute; the embedded digits network if none."),
]
LayerName = Annotated[
    str | None,
    typer.Option(
        "--layer",
        help="One layer by name, of a moment a module; all if not given.",
        autocompletion=completion.layers,
    ),
]
LayerNames = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        help="A layer by name; of a network several together if given again, the last "
        "one if none; of a planted world all if none.",
        autocompletion=completion.layers,
    ),
]
OfWhat = Annotated[
    Of,
    typer.Option(
        "--of",
        help="Of features or errors of one --layer; fisher, of gradients, of all "
        "layers or one; hessian likewise.",
    ),
]
Dense = Annotated[
    int,
    typer.Option(min=0, help="Most parameters of a matrix formed: KFAC, Hessian."),
]
Top = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Only so many eigenvalues, the largest, from products: for what is too "
        "large to be factorised. All if not given.",
    ),
]
#: How many eigenvalues are printed of all.
PRINTED = 20
On = Annotated[Backend, typer.Option("--backend", help="Array library.")]
Certify = Annotated[bool, typer.Option("--certify", help="Radius with a proof.")]


def _part(text: str | float) -> float:
    """Read a part of the trace."""
    number: float | str = text
    with suppress(ValueError):
        number = float(text)
    try:
        return checks.expect_share("--leave-out", number)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


LeaveOut = Annotated[
    float,
    typer.Option(
        parser=_part,
        metavar="PART",
        help="Part of the trace, as 1e-6, that may be left out with rows too short to "
        "matter: less time and memory; the radius holds it.",
    ),
]


def _bytes(text: str) -> int:
    """Read a size: 500MB, 4GB, 2GiB, or a number of bytes."""
    found = re.fullmatch(r"([0-9.]+) *([kMGT]?)(i?)B?", text.strip())
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:  # two points
        number = 0.0
    if found is None or not number >= 1:
        raise typer.BadParameter(
            f"--memory must be a size such as 500MB, 4GB or 2GiB, got {visible(text)!r}"
        )
    base = 1024 if found[3] else 1000
    return int(number * base ** " kMGT".index(found[2] or " "))


Memory = Annotated[
    int | None,
    typer.Option(
        "--memory",
        parser=_bytes,
        metavar="SIZE",
        help="What all of it may take, as 4GB; what is free if not given.",
    ),
]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What a command is about: a network, and what it is called."""

    name: str
    network: Snapshot | SecondMoment
    hessian: HessianOperator | None = None

    @property
    def coverage(self) -> Coverage:
        """How much of the network it is of."""
        return coverage_of(self.network)


def load(
    file: Path | None, on: Backend = Backend.numpy, layer: str | None = None
) -> Source:
    """Load an export or run a function of a Python file; the embedded one if none.

    Of an export one layer alone, if that is all that is asked for.
    """
    of_python = None if file is None else python.named(file)
    if of_python is None:
        xp = None if on is Backend.numpy else backend.named(on.value)
        if file is None:
            return Source("the embedded digits network", datasets.digits_mlp(xp=xp))
        expect_file(file)
        if layer is not None:
            _expect_name(export.sizes(file)[2], layer)
        layers = None if layer is None else [layer]
        return Source(str(file), export.load(file, xp=xp, layers=layers))
    if on is not Backend.numpy:
        raise typer.BadParameter(
            f"--backend must be numpy for {file}, got {on.value}; its arrays are those "
            "that the function makes"
        )
    name = str(file)
    with working(f"running {visible(name, 60)}"):
        found = python.run(*of_python)
    if isinstance(found, tuple):
        return Source(name, found[1], found[0])
    return Source(name, found)


def load_snapshot(file: Path | None, on: Backend = Backend.numpy) -> Snapshot:
    """Load what has features and errors, layer by layer."""
    found = load(file, on).network
    if isinstance(found, Snapshot):
        return found
    raise typer.BadParameter(
        "this needs features and errors, layer by layer, or the network of an export, "
        f"got the moment of {visible(str(file), 60)}; export the model, or see refspec "
        "attribute, spectrum, verify, claims and report, which take moments"
    )


def split(given: list[str]) -> list[str]:
    """Return the words of an option that is repeated, or holds several with commas."""
    return [x.strip() for x in ",".join(given).split(",")]


def expect_file(file: Path) -> None:
    """Refuse an export or a Python file that is not there."""
    of_python = python.named(file)
    if of_python is not None:
        python.expect_there(of_python[0])
    elif not file.exists():
        raise typer.BadParameter(f"no such file: {file}; give the path of an export")


def expect_layer(snapshot: Snapshot, layer: str | None) -> None:
    """Refuse the name of a layer that the snapshot lacks."""
    if layer is not None:
        _expect_name([x.name for x in snapshot.layers], layer)


def expect_layers(snapshot: Snapshot, layers: list[str]) -> None:
    """Refuse names of layers that the snapshot lacks, and one given twice."""
    for i, layer in enumerate(layers):
        expect_layer(snapshot, layer)
        if layer in layers[:i]:
            raise typer.BadParameter(
                f"--layer must name different layers, got {visible(layer)!r} twice; "
                "give it once"
            )


def _expect_name(names: Iterable[str], layer: str) -> None:
    """Refuse a name that is not among those of the layers."""
    names = list(names)
    if layer not in names:
        raise typer.BadParameter(
            f"--layer must be one of {listed(names)}; got {visible(layer)!r}"
        )


@dataclass(frozen=True)
class Chosen:
    """A second moment that was asked for, its title, what it covers, and the plan."""

    moment: SecondMoment
    title: str
    covered: Coverage
    plan: Plan


def choose_moment(
    file: Path | None,
    layer: str | None,
    of: Of,
    on: Backend,
    what: str,
    top: int | None = None,
    certify: bool = False,
    parts: Apart | None = None,
    leave_out: float = 0.0,
) -> Chosen:
    """Plan what was asked for, refuse what does not fit, and build the moment."""
    if parts is not None:
        moment, covered = _of_parts(file, layer, of, on, parts)
    else:
        network = load(file, on, layer).network
        if isinstance(network, Snapshot):
            return _of_layers(network, layer, of, what, top, certify, leave_out)
        moment = part(network, layer, of)
        covered = coverage_of(moment)
    planned = plan(
        moment, what=what, top=top, certify=certify, leave_out=leave_out
    ).expect_room()
    title = f"Fisher information, {called(covered, layer)}"
    return Chosen(moment, title, covered, planned)


def _of_layers(
    snapshot: Snapshot,
    layer: str | None,
    of: Of,
    what: str,
    top: int | None,
    certify: bool,
    leave_out: float,
) -> Chosen:
    """Plan what was asked for of a snapshot's layers, before its moment is built."""
    expect_layer(snapshot, layer)
    chosen = None if layer is None else [layer]
    kind = of.value if of in (Of.features, Of.errors) else "fisher"
    if kind != "fisher" and layer is None:
        names = listed([x.name for x in snapshot.layers])
        raise typer.BadParameter(f"--of {of} needs --layer, one of {names}")
    planned = plan(
        snapshot,
        what=what,
        of=kind,
        layers=chosen,
        top=top,
        certify=certify,
        leave_out=leave_out,
    ).expect_room()
    covered = coverage.of_snapshot(snapshot, chosen)
    if kind == "fisher":
        title = f"Fisher information, {called(covered, layer)}"
        return Chosen(curvature.fisher(snapshot, chosen), title, covered, planned)
    build = curvature.features if of is Of.features else curvature.errors
    title = f"{of} of layer {layer}"
    return Chosen(build(snapshot, str(layer)), title, covered, planned)


def _of_parts(
    file: Path | None, layer: str | None, of: Of, on: Backend, parts: Apart
) -> tuple[SecondMoment, Coverage]:
    """Return the Fisher information of an export in parts, and what it covers."""
    if file is None or python.named(file) is not None:
        raise typer.BadParameter(
            "--shards, --workers and --scheduler need a .zarr export, got "
            f"{'none' if file is None else file}; refspec.joined takes other moments"
        )
    if of is not Of.fisher or on is not Backend.numpy:
        raise typer.BadParameter(
            f"parts are of the Fisher information in NumPy, got --of {of} with "
            f"--backend {on.value}; leave these out"
        )
    expect_file(file)
    if layer is not None:
        _expect_name(export.sizes(file)[2], layer)
    return parts.moment(file, None if layer is None else [layer])


def part(moment: SecondMoment, layer: str | None, of: Of) -> SecondMoment:
    """Return a moment, or that of one of its modules."""
    if of in (Of.features, Of.errors):
        raise typer.BadParameter(
            f"--of {of} needs features and errors, layer by layer: an export; got a "
            "Fisher information, for which leave --of out"
        )
    if layer is None:
        return moment
    if not isinstance(moment, NetworkMoment) or not moment.blocks:
        raise typer.BadParameter(
            f"--layer must name parameters of the moment, got {visible(layer)!r} and "
            "one without names; leave it out"
        )
    try:
        return moment.part([layer])
    except ValueError as error:
        raise typer.BadParameter(f"--layer: {error}") from error


def called(covered: Coverage, layer: str | None) -> str:
    """Return what a title calls the parameters that it is about."""
    return covered.title if layer is None else f"layer {layer}"
