"""All theorems, collected from the modules of their pages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import ModuleType

from refspec.theorems import (
    attribution,
    certificates,
    curvature,
    hessian,
    kronecker,
    levels,
    rounding,
    spectra,
    weights,
    worlds,
)
from refspec.theorems.registry import Theorem

__all__ = ["PAGES", "all_theorems", "find"]

#: One module a page of theory/, each with a tuple THEOREMS.
PAGES: tuple[ModuleType, ...] = (
    attribution,
    certificates,
    curvature,
    hessian,
    kronecker,
    levels,
    rounding,
    spectra,
    weights,
    worlds,
)


def all_theorems() -> tuple[Theorem, ...]:
    """Return every theorem, sorted by id.

    Examples
    --------
    >>> ids = [x.id for x in all_theorems()]
    >>> len(ids) == len(set(ids))
    True
    """
    found = [x for page in PAGES for x in page.THEOREMS]
    return tuple(sorted(found, key=_order))


def find(ids: Iterable[str]) -> tuple[Theorem, ...]:
    """Return the theorems of some ids, sorted.

    Raises
    ------
    ValueError
        If there is no theorem of that id.
    """
    wanted, known = set(ids), all_theorems()
    wrong = sorted(wanted - {x.id for x in known})
    if wrong:
        raise ValueError(
            f"ids must be among {' '.join(x.id for x in known)}, got "
            f"{' '.join(wrong)}; theory/README.md lists them"
        )
    return tuple(x for x in known if x.id in wanted)


def _order(theorem: Theorem) -> tuple[str, int]:
    """Sort A2 before A10."""
    letter, number = re.fullmatch(r"([A-Z]+)(\d+)", theorem.id).groups()  # type: ignore[union-attr]
    return letter, int(number)
