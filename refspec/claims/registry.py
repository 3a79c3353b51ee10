"""What a claim and a finding are: numbers held against thresholds fixed beforehand.

A theorem is true of every snapshot and tests the library. A claim is a sentence about
trained networks; it may be false of this one. It says what is measured, from where on
it is said to hold, and why from there; the thresholds are the same for every network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import scipy.stats

from refspec.classes import Snapshot
from refspec.curvature import SecondMoment, moment_of
from refspec.leading import with_gram_for
from refspec.results import Result, Several, View

_T = TypeVar("_T")

#: What a finding says, from the best to the worst; the last is no answer.
VERDICTS = ("holds", "holds in part", "does not hold", "cannot be judged")

#: What a sentence means by "made of", "explained by", "grows with": nine tenths of a
#: trace, of an eigenvalue, of samples, or a rank correlation of nine tenths. What is
#: left is then a tenth, about what a histogram shows as nothing.
NEARLY_ALL = 0.9

#: Less than that, but the larger part: a sentence holds in part.
MOST = 0.5

#: How the paper is cited: its text beyond abstract and introduction was not at hand.
PAPER = "Papyan (2020), arXiv 2008.11865"
FROM_NOTES = "cited from notes about the paper, not from its text"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found in one place.

    place: a layer, or all of them; numbers by name, in the order to be shown; verdict:
    one of `VERDICTS`; reason: what decided it, in a few words. Of samples that were
    drawn again, intervals: of numbers, by name; agreeing: the part of the draws with
    this verdict, nan without draws.
    """

    place: str
    numbers: dict[str, float]
    verdict: str
    reason: str
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    agreeing: float = math.nan


class Subject:
    """A network to be judged, and what several claims ask of it, computed once.

    network: a snapshot, or the Fisher information of a network whose layers are not
    known; dense: the most parameters of a matrix that is formed; per_layer: whether the
    Fisher information of every layer is looked at, beside that of all; whole: the most
    eigenvalues that are all computed, of others the C^2 largest; None: of any; top: how
    many of the largest, C^2 at least since claims count them; None: as `whole` says.
    """

    def __init__(
        self,
        network: Snapshot | SecondMoment,
        dense: int,
        per_layer: bool,
        whole: int | None = None,
        top: int | None = None,
    ) -> None:
        self.network = network
        self.dense = dense
        self.per_layer = per_layer
        self.whole = whole
        self.few = top
        self._kept: dict[tuple[Any, ...], Any] = {}

    @property
    def snapshot(self) -> Snapshot:
        """The network's features and errors, layer by layer."""
        assert isinstance(self.network, Snapshot)  # as what the claim needs
        return self.network

    @property
    def C(self) -> int:
        """How many classes there are."""
        return len(self.network.offsets) - 1

    def top(self, moment: SecondMoment) -> int | None:
        """Return how many of a moment's largest eigenvalues to look at; None: all."""
        if self.whole is None and self.few is None:
            return None
        counted = max(self.few or 0, self.C**2)
        all_of_it = min(moment.shape) <= max(self.whole or 0, counted)
        return None if all_of_it else counted

    def know(self, value: Any, compute: Callable[..., Any], *arguments: Any) -> None:
        """Keep a value that `once` would have computed."""
        self._kept[compute, *arguments] = value

    def once(self, compute: Callable[..., _T], *arguments: Any) -> _T:
        """Return ``compute(self, *arguments)``, computed when first asked for."""
        key = (compute, *arguments)
        if key not in self._kept:
            self._kept[key] = compute(self, *arguments)
        found: _T = self._kept[key]
        return found


def fisher(subject: Subject) -> SecondMoment:
    """Return the Fisher information of all layers, for all that asks for its largest.

    With its Gram matrix held where an attribution of them would hold one.
    """
    moment = moment_of(subject.network)
    return with_gram_for(moment, subject.top(moment))


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One of several networks that a claim compares.

    network, normalisation: its name, and what normalises its layers; samples, epochs,
    label_noise (the part of labels that were replaced), test_error: nan where unknown;
    numbers: of its Fisher information, by name.
    """

    network: str
    normalisation: str
    samples: int
    epochs: float
    label_noise: float
    test_error: float
    numbers: dict[str, float]

    def __repr__(self) -> str:
        """Name it, and what tells it from others."""
        return (
            f"Member({self.network}, {self.normalisation}, N={self.samples}, epochs="
            f"{self.epochs:g}, label_noise={self.label_noise:g})"
        )


#: Looks at a network and yields evidence.
Judge = Callable[[Subject], Iterable[Evidence]]
#: Looks at several networks and yields evidence.
Comparison = Callable[[Sequence[Member]], Iterable[Evidence]]


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """A sentence about trained networks, and how numbers judge it.

    Parameters
    ----------
    id : str
        A letter.
    title, sentence : str
        A few words; what is claimed.
    source : str
        Where it is claimed.
    numbers : str
        What is measured.
    threshold : str
        From where on it holds, or holds in part, and why from there.
    judge : callable or None
        `Subject` to evidence; None if one network cannot show it.
    layered : bool
        Whether it needs features and errors, layer by layer, beside the Fisher.
    compare : callable or None
        Several `Member` to evidence, of a claim that one network cannot show.
    needs : str
        The networks that such a claim needs.
    """

    id: str
    title: str
    sentence: str
    source: str
    numbers: str
    threshold: str
    judge: Judge | None
    layered: bool = True
    compare: Comparison | None = None
    needs: str = ""

    @property
    def of_the_paper(self) -> bool:
        """Whether the paper claims it, and not somebody else."""
        return self.source.startswith(PAPER)

    def __repr__(self) -> str:
        """Say the title."""
        return f"Claim({self.id}: {self.title})"


@dataclass(frozen=True, slots=True, eq=False)
class Finding(Result):
    """What a network says to a claim.

    Parameters
    ----------
    claim : Claim
    verdict : str
        One of `VERDICTS`: that of the places if they agree, `holds in part` if they do
        not; places that cannot be judged do not count beside others.
    evidence : tuple of Evidence
        By place.
    seconds : float
        What it took.
    """

    claim: Claim
    verdict: str
    evidence: tuple[Evidence, ...]
    seconds: float = field(default=math.nan)

    @property
    def shown(self) -> Evidence:
        """The first place that can be judged, if there is one."""
        known = (x for x in self.evidence if x.verdict != "cannot be judged")
        return next(known, self.evidence[0])

    def __repr__(self) -> str:
        """Say the verdict."""
        return f"Finding({self.claim.id}: {self.verdict}, {len(self.evidence)} places)"

    def view(self) -> View:
        """Give what was found in each place, with its numbers."""
        return _places(self.evidence, [x.place for x in self.evidence], "place", {})

    def plain(self) -> dict[str, object]:
        """Return it as JSON holds it: numbers that JSON lacks are null."""
        places = []
        for x in self.evidence:
            said: dict[str, object] = {
                "place": x.place,
                "verdict": x.verdict,
                "reason": x.reason,
                "numbers": {
                    n: v if math.isfinite(v) else None for n, v in x.numbers.items()
                },
            }
            if math.isfinite(x.agreeing):
                said["intervals"] = {n: list(v) for n, v in x.intervals.items()}
                said["agreeing"] = x.agreeing
            places.append(said)
        c = self.claim
        return {
            "id": c.id,
            "title": c.title,
            "sentence": c.sentence,
            "source": c.source,
            "measured": c.numbers,
            "threshold": c.threshold,
            "verdict": self.verdict,
            "places": places,
        }


class Findings(Several[str, Finding]):
    """Findings in the order of their claims, each judged when it is first reached."""

    def view(self) -> View:
        """Give what was found in each place, claim by claim."""
        found = [(x.claim, place) for x in self for place in x.evidence]
        columns = {"title": [claim.title for claim, _ in found]}
        columns |= {"place": [x.place for _, x in found]}
        ids = [claim.id for claim, _ in found]
        return _places([x for _, x in found], ids, "claim", columns)


def _places(
    found: Sequence[Evidence], labels: Sequence[str], row: str, columns: dict[str, Any]
) -> View:
    """Return evidence as rows: what decided it, then every number that one has."""
    for name in ("verdict", "reason"):
        columns[name] = [getattr(x, name) for x in found]
    names = dict.fromkeys(n for x in found for n in x.numbers)
    numbers = {n: [float(x.numbers.get(n, math.nan)) for x in found] for n in names}
    columns |= {"number": numbers} if numbers else {}
    if any(x.intervals for x in found):
        for k, end in enumerate(("lower", "upper")):
            columns[end] = {
                n: [x.intervals.get(n, (math.nan,) * 2)[k] for x in found]
                for n in names
            }
        columns["agreeing"] = [x.agreeing for x in found]
    return View(row, labels, columns, "of")


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Spearman's, rounded once where it is a fraction: .9 is not below .9.

    nan if one of the two does not vary or is not known.
    """
    if min(len(set(x)), len(set(y))) < 2 or not np.all(np.isfinite([*x, *y])):
        return math.nan
    twice = [[round(2 * float(r)) for r in scipy.stats.rankdata(v)] for v in (x, y)]
    a, b = ([len(v) * r - sum(v) for r in v] for v in twice)
    square = sum(r * r for r in a) * sum(r * r for r in b)
    root = math.isqrt(square)
    inner = sum(r * s for r, s in zip(a, b, strict=True))
    return inner / (root if root * root == square else math.sqrt(square))


def said(x: float, form: str, instead: str = "none") -> str:
    """Write a number, or what is to be said where there is none."""
    return f"{x:{form}}" if math.isfinite(x) else instead


def together(verdicts: Iterable[str]) -> str:
    """Return the verdict of several places."""
    seen = {x for x in verdicts if x != "cannot be judged"}
    if not seen:
        return "cannot be judged"
    return seen.pop() if len(seen) == 1 else "holds in part"


def graded(x: float, full: float = NEARLY_ALL, part: float = MOST) -> str:
    """Return the verdict of a number that should be large."""
    if not math.isfinite(x):
        return "cannot be judged"
    return VERDICTS[0] if x >= full else VERDICTS[1] if x >= part else VERDICTS[2]


def small(x: float) -> str:
    """Return the verdict of an error, or of a share that should be nothing."""
    return graded(1 - x)


def counted(found: tuple[int, int], expected: int) -> str:
    """Return the verdict of a count, known to lie between two numbers, as expected.

    It holds where it is certain, in part from half the number on.
    """
    low, high = found
    if low == high == expected:
        return VERDICTS[0]
    return VERDICTS[1] if 2 * low >= expected and low <= 2 * expected else VERDICTS[2]


def unjudged(place: str, reason: str) -> Evidence:
    """Return evidence that there is none."""
    return Evidence(place, {}, "cannot be judged", reason)
