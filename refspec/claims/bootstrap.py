"""What another draw of samples would have said: every number of a claim drawn again.

A radius says how far a number of these samples can be from the one computed. It does
not say how much of it is due to the samples. So they are drawn again, with replacement,
within each class, from those that are in memory: a sample that comes twice counts
twice, and the rows stay as they are. The network is not trained again.

Samples that come twice make a bump of their own, and what varies within a class of n
loses a part 1/n: resamples are off to one side of what they resample. Their spread is
right, their middle is not, and so the spread is put around the number that was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from refspec import backend, checks, ways
from refspec.backend import Array
from refspec.claims.catalogue import CLAIMS, expect_subject, judge
from refspec.claims.registry import Evidence, Finding, Findings, Subject
from refspec.classes import Snapshot, class_slices
from refspec.curvature import SecondMoment
from refspec.rows import Derived, Rows

#: Where evidence was found: of which claim, in which place.
_Place = tuple[str, str]


def bootstrap(
    network: Snapshot | SecondMoment | Subject,
    claims: Iterable[str] | None = None,
    *,
    draws: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    dense: int = 1000,
    per_layer: bool = True,
    whole: int | None = None,
    top: int | None = None,
) -> Findings:
    r"""Judge a network, every number with an interval over draws of its samples.

    Parameters
    ----------
    network, claims, dense, per_layer, whole, top
        As in `judge`. Every class has two samples with a weight at least, or none.
    draws : int
        How often samples are drawn again, B.
    confidence : float
        Of the intervals, in (0, 1).
    seed : int
        Of the draws.

    Returns
    -------
    Findings
        As of `judge`; every `Evidence` has `intervals` by the names of its numbers, and
        `agreeing`, the part of the draws with its verdict. A number that a draw does
        not have has no interval, and claims of several networks have none.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Notes
    -----
    With t what was found and :math:`t_1, ..., t_B` that of the draws, of mean m, the
    interval is :math:`t - m` plus the quantiles of :math:`t_b` at (1 - confidence) / 2
    from both ends, and t; of a count, rounded outwards. What lies between 0 and 1, or
    -1 and 1, in all draws stays there. It is meant for the mean over other draws of as
    many samples, of the same network, which was trained on these: new samples would
    differ from them by more. Cost B times that of `judge`.

    References
    ----------
    Efron (1979), "Bootstrap methods: another look at the jackknife", Annals of
    Statistics 7; El Karoui and Purdom (2016), "The bootstrap, covariance matrices and
    PCA in moderate and high-dimensions", arXiv 1608.00948: why resampled eigenvalues
    are biased.

    Examples
    --------
    >>> import refspec
    >>> (found,) = bootstrap(refspec.datasets.wine_sklearn(), "D", draws=20)
    >>> low, high = found.shown.intervals["share of the trace"]
    >>> low <= found.shown.numbers["share of the trace"] <= high
    True
    """
    subject = expect_subject(network, dense, per_layer, whole, top)
    checks.expect_size("draws", draws, least=2)
    checks.expect_probability("confidence", confidence, ends=False)
    checks.expect_size("seed", seed, least=0)
    return resampled(subject, list(judge(subject, claims)), draws, confidence, seed)


def resampled(
    subject: Subject,
    found: Sequence[Finding],
    draws: int,
    confidence: float,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Findings:
    """Return findings with intervals over draws; `tell` hears which is judged."""
    chosen, seen = [x.claim.id for x in found], []
    for k, drawn in enumerate(resamples(subject, draws, seed)):
        tell(f"draw {k + 1} of {draws}")
        seen.append(list(judge(drawn, chosen)))
    return with_intervals(found, seen, confidence)


def resamples(subject: Subject, draws: int, seed: int = 0) -> Iterator[Subject]:
    """Yield subjects of samples drawn again within their classes, as judged as this."""
    given, rng = subject.network, np.random.default_rng(seed)
    if isinstance(given, SecondMoment) and given.projection is not None:
        raise ValueError(
            "network must be a moment of its rows as they are, got a projected one, "
            "of which the projection would be drawn again too; give the whole"
        )
    if isinstance(given, SecondMoment):  # rows by differentiation once, not every time
        held = given.rows.explicit(ways.explicit_budget())
        given = replace(given, rows=held)
    mass = _masses(given)
    classes = [
        i + np.flatnonzero(mass[i:j] > 0) for _, i, j in class_slices(given.offsets)
    ]
    for c, some in enumerate(classes):
        if len(some) == 1:
            raise ValueError(
                "network must have no sample or two or more of every class, to be "
                f"drawn again, got 1 in class {c}; add some, or leave the class out"
            )
    for _ in range(draws):
        times = np.zeros(len(mass))
        for some in filter(len, classes):
            times[some] = rng.multinomial(len(some), np.full(len(some), 1 / len(some)))
        times *= mass.sum() / (mass @ times)  # 1, where samples weigh alike
        again, few = _drawn(given, times), subject.few
        yield Subject(again, subject.dense, subject.per_layer, subject.whole, few)


def _masses(given: Snapshot | SecondMoment) -> np.ndarray:
    """Return what every sample weighs, (N,)."""
    if isinstance(given, Snapshot):
        return backend.to_host(given.sample_weights)
    return np.asarray(backend.to_host(given.weights).sum(axis=1))


def _drawn(
    given: Snapshot | SecondMoment, times: np.ndarray
) -> Snapshot | SecondMoment:
    """Return a network or a moment in which sample i counts times[i] times."""
    if isinstance(given, Snapshot):
        s = given.sample_weights
        return replace(given, sample_weights=s * backend.beside(times, s))
    counts = backend.beside(times, given.weights)
    rows = Repeated(given.rows, given.xp.sqrt(counts))
    return replace(given, rows=rows, weights=given.weights * counts[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class Repeated(Derived):
    """The rows of another kind, those of sample i times roots[i]."""

    roots: Array

    def dot(self, V: Array) -> Array:
        """Return X V, shape (N, K, m)."""
        return self.rows.dot(V) * self.roots[:, None, None]

    def cross(self, Z: Array) -> Array:
        """Return X'Z, shape (P, m)."""
        return self.rows.cross(Z * self.roots[:, None, None])

    def part(self, i: int, j: int) -> Rows:
        """Return the rows of samples i to j."""
        return Repeated(self.rows.part(i, j), self.roots[i:j])

    def take(self, index: Array) -> Array:
        """Return chosen rows explicitly, (m, P)."""
        xp = self.xp
        mine = xp.take(self.roots, index // self.shape[1], axis=0)
        return self.rows.take(index) * mine[:, None]

    @property
    def roundings(self) -> int:
        """How many roundings an entry of XX' suffers at most."""
        return self.rows.roundings + 4

    @property
    def products(self) -> int:
        """How many roundings an entry of X(X'z) suffers at most."""
        return self.rows.products + 4

    def forming(self) -> float:
        """Bound the error made in forming the rows: as many times as the largest."""
        largest = backend.scalar(self.xp.max(self.roots))
        return self.rows.forming() * max(1.0, largest)


def with_intervals(
    found: Sequence[Finding], seen: Sequence[Sequence[Finding]], confidence: float
) -> Findings:
    """Return findings with the intervals that draws give, which found the same."""
    places: dict[_Place, list[Evidence]] = {}
    for draw in seen:
        for finding in draw:
            for x in finding.evidence:
                places.setdefault((finding.claim.id, x.place), []).append(x)
    made = {
        f.claim.id: replace(
            f,
            evidence=tuple(
                _spread(x, places.get((f.claim.id, x.place), []), len(seen), confidence)
                for x in f.evidence
            ),
        )
        if CLAIMS[f.claim.id].judge is not None
        else f
        for f in found
    }
    return Findings(made.__getitem__, list(made))


def _spread(x: Evidence, drawn: list[Evidence], B: int, confidence: float) -> Evidence:
    """Return evidence with the intervals of its numbers over B draws."""
    intervals = {}
    for name, t in x.numbers.items():
        values = np.array([y.numbers.get(name, math.nan) for y in drawn])
        if len(values) == B and math.isfinite(t) and np.all(np.isfinite(values)):
            intervals[name] = interval(t, values, confidence)
    same = sum(y.verdict == x.verdict for y in drawn) / B
    return replace(x, intervals=intervals, agreeing=same)


def interval(t: float, draws: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return t with the spread of draws around their mean, of a count (int) outwards.

    It contains t, and a part or a correlation stays one.
    """
    ends = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = (float(t + x) for x in ends - np.mean(draws))
    if isinstance(t, int):
        return max(0, min(t, math.floor(low))), max(t, math.ceil(high))
    least, largest = min(t, draws.min()), max(t, draws.max())
    if least >= -1 and largest <= 1:
        low, high = max(low, 0.0 if least >= 0 else -1.0), min(high, 1.0)
    return min(t, low), max(t, high)
