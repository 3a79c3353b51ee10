"""How much of a network a snapshot covers, said in one sentence, and stated in one way.

A spectrum is one of some of a network's parameters: of the layers that were exported.
What was left out is part of every result, so an export states it in its manifest:

- ``left_out``: parameters by the name of the module that holds them, ``{}`` for none;
- ``biases``: for each layer, whether its last feature is the 1 of a bias.

Where the manifest does not say, a model section does, for it is the whole network.
Where there is neither, nothing is known, and that is what is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refspec import checks
from refspec.classes import ModelSection, Snapshot
from refspec.results import Result, View
from refspec.text import visible

_NAMED = 4  # modules left out that the sentence names, the largest first


@dataclass(frozen=True, slots=True, eq=False)
class Coverage(Result):
    """The parameters that layers hold, and those of the network that they do not.

    ``str`` of it is the sentence that a result begins with.

    Parameters
    ----------
    covered : mapping of str to int
        Parameters of each layer.
    left_out : mapping of str to int, or None
        Parameters of each module that are in no layer; None if that is not known. A
        name may be that of a layer, which then covers a part of its module.

    Examples
    --------
    >>> print(Coverage({"fc": 100}, {"lstm": 5632}))
    covers 100 of 5,732 parameters (1 of 2 modules); left out: lstm 5,632
    >>> print(Coverage({"fc": 100}, {"fc": 20}))
    covers 100 of 120 parameters (0 of 1 modules, part of 1); left out: fc 20
    >>> print(Coverage({"fc": 100}, {}))
    covers all 100 parameters (1 module)
    >>> print(Coverage({"fc": 100}, None))
    coverage not stated
    """

    covered: Mapping[str, int]
    left_out: Mapping[str, int] | None

    @property
    def parameters(self) -> int:
        """Parameters covered."""
        return sum(self.covered.values())

    @property
    def complete(self) -> bool:
        """Whether it is known that nothing is left out."""
        return self.left_out is not None and not self.left_out

    @property
    def title(self) -> str:
        """What a title calls all of the layers: "all layers" only where it is true."""
        if self.complete:
            return "all layers"
        if self.left_out is None:
            return "all exported layers"
        return f"{self.parameters:,} of {self._in_all:,} parameters"

    def document(self) -> dict[str, Any]:
        """Return it for JSON: what is not known is None."""
        stated, modules = self.left_out is not None, self._modules
        return {
            "sentence": str(self),
            "parameters": self.parameters,
            "parameters_in_all": self._in_all if stated else None,
            "modules": modules[0] if stated else None,
            "modules_in_all": modules[1] if stated else None,
            "left_out": None if self.left_out is None else dict(self.left_out),
        }

    @property
    def _in_all(self) -> int:
        return self.parameters + sum((self.left_out or {}).values())

    @property
    def _modules(self) -> tuple[int, int]:
        """Modules that hold parameters: those wholly covered, and all."""
        left = set(self.left_out or {})
        return len(set(self.covered) - left), len(set(self.covered) | left)

    def __repr__(self) -> str:
        """Say the sentence."""
        return f"Coverage({self})"

    def view(self) -> View:
        """Give the parameters of every module: covered, and left out."""
        left = self.left_out or {}
        modules = list(dict.fromkeys([*self.covered, *left]))
        columns = {
            "covered": [self.covered.get(n, 0) for n in modules],
            "left_out": [left.get(n, 0) for n in modules],
        }
        return View("module", modules, columns, facts={"sentence": str(self)})

    def __str__(self) -> str:
        """Say it in one sentence, whatever is in the names."""
        if self.left_out is None:
            return "coverage not stated"
        whole, modules = self._modules
        if self.complete:
            plural = "s" * (modules != 1)
            return (
                f"covers all {self.parameters:,} parameters ({modules} module{plural})"
            )
        ranked = sorted(self.left_out.items(), key=lambda x: -x[1])
        parts = [f"{visible(name)} {count:,}" for name, count in ranked[:_NAMED]]
        rest = ranked[_NAMED:]
        if rest:
            count = sum(count for _, count in rest)
            parts.append(f"{len(rest)} more {count:,}")
        broken = len(set(self.covered) & set(self.left_out))
        some = f", part of {broken}" if broken else ""
        return (
            f"covers {self.parameters:,} of {self._in_all:,} parameters ({whole} of "
            f"{modules} modules{some}); left out: {', '.join(parts)}"
        )


def of_snapshot(snapshot: Snapshot, layers: Sequence[str] | None = None) -> Coverage:
    """Return how much of its network a snapshot covers, or some of its layers do.

    Parameters
    ----------
    snapshot : Snapshot
        Its provenance, or else its model section, says what is left out.
    layers : sequence of str, optional
        Names of some of its layers: the others are left out too.

    Returns
    -------
    Coverage
        Its ``str`` is the sentence.

    Raises
    ------
    TypeError
        If it is no snapshot.
    ValueError
        If a layer is unknown, or ``left_out`` of the provenance is no such mapping.

    Examples
    --------
    >>> import refspec
    >>> snapshot = refspec.datasets.digits_mlp()
    >>> print(of_snapshot(snapshot))
    covers all 2,778 parameters (3 modules)
    >>> print(of_snapshot(snapshot, ["fc3"]))
    covers 170 of 2,778 parameters (1 of 3 modules); left out: fc1 2,080, fc2 528
    """
    checks.expect_type("snapshot", snapshot, Snapshot, "make one by refspec.snapshot")
    covered = {x.name: x.parameters for x in snapshot.layers}
    chosen = (
        covered if layers is None else checks.expect_names("layers", layers, covered)
    )
    left_out = _left_out(snapshot)
    if left_out is not None:
        for name in covered.keys() - set(chosen):
            left_out[name] = left_out.get(name, 0) + covered[name]
    return Coverage({x: covered[x] for x in chosen}, left_out)


def biases(snapshot: Snapshot) -> dict[str, bool | None]:
    """Return for each layer whether its last feature is a bias's 1; None: not stated.

    Parameters
    ----------
    snapshot : Snapshot
        Its provenance, or else its model section, says so. Data cannot: a constant
        feature equal to 1 is no bias.

    Returns
    -------
    dict of str to bool or None
        By the layers' names.

    Raises
    ------
    TypeError
        If it is no snapshot.
    ValueError
        If ``biases`` of the provenance is no mapping to True or False.

    Examples
    --------
    >>> import refspec
    >>> biases(refspec.datasets.digits_mlp())
    {'fc1': True, 'fc2': True, 'fc3': True}
    """
    checks.expect_type("snapshot", snapshot, Snapshot, "make one by refspec.snapshot")
    said = dict(_stated(snapshot, "biases", bool) or {})
    steps = [] if snapshot.model is None else snapshot.model.operations
    for step in steps:
        if "weight" in step:
            said.setdefault(str(step.get("name")), step.get("bias") is not None)
    return {x.name: said.get(x.name) for x in snapshot.layers}


def statement(snapshot: Snapshot) -> dict[str, Any]:
    """Return the keys of the manifest that state coverage, those that are known."""
    left_out, found = _left_out(snapshot), biases(snapshot)
    known = {name: x for name, x in found.items() if x is not None}
    stated: dict[str, Any] = {} if left_out is None else {"left_out": left_out}
    return stated | ({"biases": known} if known else {})


def _left_out(snapshot: Snapshot) -> dict[str, int] | None:
    """Return what is left out by all layers together, None if it is not known."""
    names = {x.name for x in snapshot.layers}
    stated = _stated(snapshot, "left_out", int)
    if stated is not None:
        there = snapshot.provenance.get("layers")
        # a snapshot of fewer layers than were exported is not what was stated
        return dict(stated) if there is None or set(there) == names else None
    if snapshot.model is None:
        return None
    return {k: n for k, n in _parameters(snapshot.model).items() if k not in names}


def _parameters(model: ModelSection) -> dict[str, int]:
    """Count the parameters of every operation that has weights."""
    found: dict[str, int] = {}
    for k, step in enumerate(model.operations):
        keys = [step[x] for x in ("weight", "bias") if step.get(x) is not None]
        if keys:
            sizes = (math.prod(model.parameters[x].shape) for x in keys)
            found[str(step.get("name", k))] = sum(sizes)
    return found


def _stated(snapshot: Snapshot, key: str, kind: type[int]) -> Mapping[str, Any] | None:
    """Return what the provenance says of its modules, if it is what it must be."""
    given = snapshot.provenance.get(key)
    if given is None or is_statement(given, kind):
        return given
    raise ValueError(
        f"{key} of the provenance must be a mapping from names to {kind.__name__}, "
        f"got {visible(given, 100)}; leave it out if it is not known"
    )


def is_statement(given: Any, kind: type[int]) -> bool:
    """Whether it is a mapping from names to flags, or to counts of at least 1."""
    return isinstance(given, Mapping) and all(
        isinstance(name, str) and type(x) is kind and (kind is bool or x > 0)
        for name, x in given.items()
    )
