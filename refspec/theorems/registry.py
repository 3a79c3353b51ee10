"""What a theorem and a verdict are: a residual against a bound computed from the data.

A statement has an id, never renumbered, that its page in theory/, its code, its check
and its property test share. A check never answers with a bare bool: it gives the two
sides of its comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from refspec.theorems.study import Study

__all__ = ["KINDS", "Theorem", "Verdict", "everywhere"]

#: identity: equal but for rounding. inequality: one side above the other but for
#: rounding. statistical: fails with probability at most `rounding.FAILURE`.
#: asymptotic: an error that falls at the stated rate. observation: reported, of real
#: networks, not proved. lemma: about arithmetic or algebra, no snapshot to check it on.
KINDS = (
    "identity",
    "inequality",
    "statistical",
    "asymptotic",
    "observation",
    "lemma",
)


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The outcome of a check.

    Parameters
    ----------
    residual : float
        What the statement says is at most the bound; nan fails.
    bound : float
        Computed from the data; infinite where nothing could be bounded, which fails.
    detail : str
        What was compared, in a few words.
    """

    residual: float
    bound: float
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether residual <= bound < infinity."""
        return self.residual <= self.bound < math.inf

    @property
    def margin(self) -> float:
        """Residual over bound: at most 1 where the statement holds; 0 for 0 over 0."""
        if self.residual == 0 or math.isinf(self.bound):
            return 0.0 if self.holds else math.inf
        return self.residual / self.bound if self.bound else math.inf


def everywhere(_: Study) -> str:
    """Say that a statement has no hypothesis beyond those of a Snapshot."""
    return ""


@dataclass(frozen=True, slots=True, eq=False)
class Theorem:
    """A formal statement with its check.

    Parameters
    ----------
    id : str
        Letter of the page and number, e.g. `L1`.
    title : str
        A few words.
    kind : str
        One of `KINDS`.
    statement : str
        One line, with the letters of the page.
    page : str
        File of theory/ that holds hypotheses, proof and source.
    test : str
        The property test, ``file::function``, with its mutant.
    check : callable or None
        Study to Verdict; None for a lemma.
    unmet : callable
        Study to str: the hypothesis that the snapshot does not meet, '' if it meets
        all.
    deep : bool
        Too slow for every run: asked for by ``--deep``.
    """

    id: str
    title: str
    kind: str
    statement: str
    page: str
    test: str
    check: Callable[[Study], Verdict] | None = None
    unmet: Callable[[Study], str] = everywhere
    deep: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS or (self.check is None) != (self.kind == "lemma"):
            raise ValueError(
                f"theorem {self.id} must have a kind among {KINDS} and, unless it is a "
                f"lemma, a check, got {self.kind!r}; correct its entry"
            )
