"""What a theorem and a verdict are: a residual against a bound computed from the data.

A statement has an id, never renumbered, that its page in theory/, the code it is about,
its check and its property test share: theory/kronecker.md#K9 is checked by
`refspec.theorems.kronecker.K9`, a generator of comparisons declared by its kind. A
check never answers with a bare bool: it gives the two sides of what it compared, and
the size of the terms: a bound that is wide beside them would let an error pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from refspec.theorems.study import Study

#: identity: both sides equal, apart from rounding. inequality: true, apart from
#: rounding. statistical: fails with probability at most `rounding.FAILURE`.
#: asymptotic: an error falls at the stated rate. observation: seen in real networks,
#: not proved. lemma: a fact of arithmetic or algebra, with nothing to check on data.
KINDS = (
    "identity",
    "inequality",
    "statistical",
    "asymptotic",
    "observation",
    "lemma",
)

#: data: what a file can get wrong, or a network can lack. The statement compares what
#: an export states more than once (errors and probabilities, labels and loss, all of it
#: and its network), or it is an inequality between spectra or has a hypothesis on them.
#: code: true of whatever numbers are put in, of drawn ones or of arithmetic, so that a
#: failure is a fault of refspec.
QUESTIONS = ("data", "code")


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The outcome of a check.

    Parameters
    ----------
    residual : float
        What the statement says is at most the bound. For an inequality it is by how
        much one side exceeds the other: negative where there is slack.
    bound : float
        Computed from the data. A side that is nan or infinite decides nothing: the
        verdict fails and says so.
    detail : str
        What was compared, in a few words.
    resolution : float
        The smallest relative error that the check is sure to see: bound over size, the
        size being the norm of the terms that enter a comparison, never of their
        difference. Of several comparisons it is the largest of theirs, since an error
        may be in the one that sees least; residual and bound are of the one closest to
        failing. nan where nothing was compared.

    Examples
    --------
    >>> Verdict(1.0, 2.0).margin, Verdict(0.0, 0.0).holds, Verdict(0.0, math.inf).holds
    (0.5, True, False)
    """

    residual: float
    bound: float
    detail: str = ""
    resolution: float = math.nan

    @property
    def holds(self) -> bool:
        """Whether both sides are finite and residual <= bound."""
        return self.decided and self.residual <= self.bound

    @property
    def decided(self) -> bool:
        """Whether both sides are finite."""
        return math.isfinite(self.residual) and math.isfinite(self.bound)

    @property
    def margin(self) -> float:
        """Residual over bound: at most 1 where the statement holds, above it if not."""
        if not self.decided:
            return math.inf
        if self.bound > 0:
            return max(0.0, self.residual / self.bound)
        return 0.0 if self.holds else math.inf


#: Residual, bound, size of the terms, and what was compared.
Comparison = tuple[float, float, float, str]
#: What a check compares, and the hypothesis that is not met, '' if all are.
Check = Callable[[Study], Iterable[Comparison]]
Unmet = Callable[[Study], str]


def worst(comparisons: Iterable[Comparison]) -> Verdict:
    """Return the comparison that comes closest to failing, with the worst resolution.

    Parameters
    ----------
    comparisons : iterable of (residual, bound, size, detail)

    Returns
    -------
    Verdict

    Examples
    --------
    >>> found = worst([(1, 4, 100, "fc1"), (3, 4, 400, "fc2")])
    >>> found.detail, found.margin, found.resolution
    ('fc2', 0.75, 0.04)
    """
    found = [_verdict(*x) for x in comparisons]
    nothing = Verdict(math.nan, 0.0, "nothing was compared")
    closest = max(found, key=lambda x: x.margin, default=nothing)
    seen = max((x.resolution for x in found), default=math.nan)
    return replace(closest, resolution=seen)


def together(
    residuals: np.ndarray, bounds: np.ndarray, sizes: np.ndarray, detail: str
) -> Comparison:
    """Compare many numbers of one thing, each with its own bound.

    The margin is that of the one closest to failing; norms of bounds and sizes give the
    resolution, the smallest relative error common to all that is sure to be seen.
    """
    over = np.where(residuals > 0, math.inf, 0.0)
    ratios = np.divide(residuals, bounds, out=over, where=bounds > 0)
    margin, bound = float(np.max(ratios)), float(np.linalg.norm(bounds))
    size = float(np.linalg.norm(sizes))
    return margin * bound if bound > 0 else margin, bound, size, detail


def _verdict(residual: float, bound: float, size: float, detail: str) -> Verdict:
    """Return the verdict of a comparison; where it decides nothing, it says so."""
    residual, bound, size = float(residual), float(bound), float(size)
    seen = 0.0 if bound == 0 else bound / size if size > 0 else math.inf
    found = Verdict(residual, bound, detail, seen)
    if found.decided:
        return found
    text = f"{detail}: {residual:.3g} against {bound:.3g} decides nothing"
    return replace(found, detail=text)


def everywhere(_: Study) -> str:
    """Say that a statement has no hypothesis beyond those of a Snapshot."""
    return ""


def of_a_network(study: Study) -> str:
    """Say that a statement needs the network itself."""
    return "" if study.snapshot.model is not None else "needs a model section"


def of_every_class(study: Study) -> str:
    """Say that a statement needs a sample of every class, as a world has them."""
    offsets = study.snapshot.offsets
    empty = [c for c, (i, j) in enumerate(pairwise(offsets)) if i == j]
    return f"needs a sample of every class, none of {empty[:4]}" if empty else ""


def of_a_world(study: Study) -> str:
    """Say that a statement needs the population that the snapshot was drawn from."""
    return "" if study.world is not None else "needs a planted world (--deep)"


@dataclass(frozen=True, slots=True, eq=False)
class Theorem:
    """A formal statement with its check, `refspec.theorems.<page>.<id>`.

    Parameters
    ----------
    id : str
        A letter, of one page or of a few that belong together, and a number: `L1`.
    title : str
        A few words.
    kind : str
        One of `KINDS`.
    statement : str
        One line, with the letters of the page.
    page : str
        File of theory/ that holds hypotheses, proof and source.
    test : str
        The property test, ``tests/file.py::function``, with its mutant.
    comparisons : callable or None
        Study to the comparisons that must hold; None for a lemma.
    unmet : callable
        Study to str: the hypothesis that the snapshot does not meet, '' if it meets
        all.
    deep : bool
        Too slow for every run: asked for by ``--deep``.
    as_stored : bool
        Not homogeneous in features and errors: checked on the numbers as they are,
        however large, never on `Study.scaled`.
    coarse : str
        Why the check sees only large errors where it applies, and which it sees; '' if
        its resolution is that of rounding (tests/theorems/test_resolution.py).
    question : str
        One of `QUESTIONS`: `data` is asked by ``refspec verify``, `code` by ``refspec
        selftest``.
    layered : bool
        Whether it needs features and errors, layer by layer; what does not is also
        asked of a Fisher information alone.
    """

    id: str
    title: str
    kind: str
    statement: str
    page: str
    test: str
    comparisons: Check | None = None
    unmet: Unmet = everywhere
    deep: bool = False
    as_stored: bool = False
    coarse: str = ""
    question: str = "code"
    layered: bool = True

    def __post_init__(self) -> None:
        lacks = (self.comparisons is None) != (self.kind == "lemma")
        if self.kind not in KINDS or lacks:
            raise ValueError(
                f"theorem {self.id} must have a kind among {KINDS} and, unless it is a "
                f"lemma, a check, got {self.kind!r}; correct its entry"
            )
        if self.question not in QUESTIONS:
            raise ValueError(
                f"theorem {self.id} must ask one of {QUESTIONS}, got "
                f"{self.question!r}; correct its entry"
            )

    @property
    def place(self) -> str:
        """Where its proof is, `theory/levels.md#L1`; '' of a statement of others."""
        check = self.comparisons  # a lemma has none, and is of refspec
        ours = check is None or check.__module__.startswith("refspec.theorems.")
        return f"theory/{self.page}#{self.id}" if ours else ""

    def subject(self, study: Study) -> Study:
        """Return what is checked in a study's place."""
        return study if self.as_stored else study.scaled

    def check(self, study: Study) -> Verdict:
        """Return the comparison that comes closest to failing, with the resolution."""
        subject = self.subject(study)
        found = worst(self.comparisons(subject) if self.comparisons else ())
        note = "" if subject is study else ", features and errors scaled"
        return replace(found, detail=found.detail + note)


def _declare(
    kind: str,
    title: str,
    statement: str,
    unmet: Unmet = everywhere,
    *,
    deep: bool = False,
    as_stored: bool = False,
    coarse: str = "",
    question: str = "code",
    layered: bool = True,
    test: str = "",
) -> Callable[[Check], Theorem]:
    """Make a theorem of the check that follows, by the check's name and module."""

    def theorem(check: Check) -> Theorem:
        id, page = check.__name__, check.__module__.rpartition(".")[2]
        at = test or f"tests/theorems/test_{page}.py::test_{id}"
        about = id, title, kind, statement, f"{page}.md", at
        how = deep, as_stored, coarse, question, layered
        return Theorem(*about, check, unmet, *how)

    return theorem


identity = partial(_declare, "identity")
inequality = partial(_declare, "inequality")
statistical = partial(_declare, "statistical")
asymptotic = partial(_declare, "asymptotic")
observation = partial(_declare, "observation")


def lemma(module: str, id: str, title: str, statement: str, test: str) -> Theorem:
    """Return a statement of a page's module that has nothing to check on data."""
    page = f"{module.rpartition('.')[2]}.md"
    return Theorem(id, title, "lemma", statement, page, test)
