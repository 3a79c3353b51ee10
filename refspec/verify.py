"""Check theorems on a snapshot: which hold, by what margin, in how long.

By default those that ask about the data: is the export consistent with itself and with
its network, which hypotheses does it meet, which inequalities say something here?
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from refspec import checks
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment, expect_fisher
from refspec.results import Several, View
from refspec.synthetic.worlds import World
from refspec.theorems import Study, Theorem, asked
from refspec.theorems.study import AllNeededError, MomentStudy

#: holds, fails; unmet: a hypothesis that the data do not meet; skipped: asked for by
#: deep only, or in need of every eigenvalue where `top` asks for some; lemma: proved
#: and tested, with nothing to check on data.
STATUSES = ("holds", "fails", "unmet", "skipped", "lemma")


@dataclass(frozen=True, slots=True)
class Record:
    """One theorem on one snapshot.

    Parameters
    ----------
    id, title, kind : str
        The theorem's.
    source : str
        What the snapshot is called.
    status : str
        One of `STATUSES`.
    residual, bound, margin : float
        The two sides of the comparison, and their ratio; nan where there was none.
    resolution : float
        The smallest relative error that the check is sure to see; nan as above.
    detail : str
        What was compared, or why nothing was.
    seconds : float
        Time of the check, with the shared quantities that it was the first to need.
    place : str
        Where its proof is, `theory/levels.md#L1`; '' of a statement of others.
    """

    id: str
    title: str
    kind: str
    source: str
    status: str
    residual: float
    bound: float
    margin: float
    resolution: float
    detail: str
    seconds: float
    place: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON holds it: numbers that JSON lacks are null."""
        record = asdict(self)
        for name in ("residual", "bound", "margin", "resolution"):
            value = float(record[name])
            record[name] = value if np.isfinite(value) else None
        return record


class Records(Several[Any, Record]):
    """Records in the order of the theorems, each checked when it is first reached."""

    def view(self) -> View:
        """Give every verdict with the two sides of its comparison."""
        names = ["source", "title", "status", "residual", "bound", "margin"]
        names += ["resolution", "seconds", "detail"]
        columns = {n: [getattr(x, n) for x in self] for n in names}
        return View("theorem", [x.id for x in self], columns)


def verify(
    subject: Snapshot | World | SecondMoment | Study,
    *,
    theorems: Iterable[Theorem] | None = None,
    source: str = "snapshot",
    deep: bool = False,
    top: int | None = None,
) -> Records:
    """Check theorems on a snapshot, one after the other.

    Parameters
    ----------
    subject : Snapshot, World, SecondMoment or Study
        A world's population is known, so that statements about it apply too. Of the
        Fisher information of a network whose layers are not known, such as
        `refspec.torch.moment` gives, only those apply that need no layers.
    theorems : iterable of Theorem, optional
        Those that ask about data, `refspec.theorems.asked("data")`, if not given.
    source : str
        What to call the snapshot.
    deep : bool
        Also the slow ones.
    top : int, optional
        Only so many of the Fisher's eigenvalues, the largest, from products alone; what
        needs all of them is skipped. A study keeps its own.

    Returns
    -------
    Records
        A sequence of `Record` in the order of the theorems, each checked when it is
        first reached; a notebook shows it as a table.

    Raises
    ------
    TypeError, ValueError
        If an argument has another type (`refspec.theorems.find` gives theorems by id),
        or the moment has no cross classes.

    Examples
    --------
    >>> from refspec import datasets
    >>> from refspec.theorems import find
    >>> [x.status for x in verify(datasets.digits_mlp(), theorems=find(["L3", "L8"]))]
    ['holds', 'holds']
    """
    kinds = (Snapshot, World, Study, SecondMoment)
    checks.expect_type("subject", subject, kinds, "read one with refspec.export.load")
    checks.expect_type("source", source, str, "give the file's name")
    checks.expect_flag("deep", deep)
    chosen = expect_theorems(theorems)
    if isinstance(subject, World):
        subject = Study(subject.snapshot, world=subject, top=top)
    elif isinstance(subject, SecondMoment):
        subject = MomentStudy(expect_fisher("subject", subject), top=top)
    study = subject if isinstance(subject, Study) else Study(subject, top=top)
    return Records(lambda theorem: _run(theorem, study, source, deep), chosen)


def expect_theorems(theorems: Iterable[Theorem] | None) -> tuple[Theorem, ...]:
    """Refuse all but theorems; return them, or those on data for None."""
    advice = "refspec.theorems.find gives theorems by their ids"
    if theorems is None:
        return asked("data")
    checks.expect_type("theorems", theorems, Iterable, advice)
    chosen = tuple(theorems)
    for x in chosen:
        checks.expect_type("each of theorems", x, Theorem, advice)
    return chosen


_Sides = tuple[float, float, float, float]  # residual, bound, margin, resolution


def _run(theorem: Theorem, study: Study, source: str, deep: bool) -> Record:
    """Check one theorem."""
    start, missing = time.perf_counter(), float("nan")

    def record(status: str, sides: _Sides, detail: str) -> Record:
        seconds = time.perf_counter() - start
        t = theorem
        about, found = (t.id, t.title, t.kind, source, status), (detail, seconds)
        return Record(*about, *sides, *found, t.place)

    nothing = (missing, missing, missing, missing)
    if theorem.comparisons is None:
        return record("lemma", nothing, "proved and tested; nothing to check on data")
    if theorem.deep and not deep:
        return record("skipped", nothing, "slow, asked for by --deep")
    if theorem.layered and isinstance(study, MomentStudy):
        text = "needs features and errors, layer by layer: an export"
        return record("unmet", nothing, text)
    try:
        reason = theorem.unmet(theorem.subject(study))
        if reason:
            return record("unmet", nothing, reason)
        verdict = theorem.check(study)
    except AllNeededError:
        text = "needs every eigenvalue, and only the largest were asked for (top)"
        return record("skipped", nothing, text)
    except (ArithmeticError, ValueError) as error:  # data too wrong to be computed with
        return record("fails", (missing, missing, float("inf"), missing), str(error))
    v = verdict
    sides = (v.residual, v.bound, v.margin, v.resolution)
    return record("holds" if v.holds else "fails", sides, v.detail)
