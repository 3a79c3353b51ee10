"""What several networks show together: over epochs, over samples, over label noise.

Of every network a few numbers of its Fisher information, from products alone: its
largest eigenvalues and those of its parts. A claim compares them over networks that are
alike in all but one respect.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from refspec import backend
from refspec.attribution.leading import over_cells
from refspec.claims.registry import (
    VERDICTS,
    Evidence,
    Member,
    graded,
    rank_correlation,
    said,
    unjudged,
)
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment, expect_fisher, moment_of
from refspec.leading import leading
from refspec.results import Result
from refspec.spectra import eigenvalues
from refspec.structure import cell_gram, cell_norms, decompose

#: Networks that make a trend, at least.
_FEWEST = 3
#: Resamplings of networks for the interval of a rank correlation, and its part.
_RESAMPLED, _INSIDE = 1000, 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Signs(Result):
    """The eigenvalues of a Fisher information that claims compare over networks.

    Parameters
    ----------
    largest, mean_top, last_top : float
        Its largest eigenvalue, the mean of its C largest, the C-th.
    class_edge, within_edge : float
        Largest eigenvalue without class means and diagonal, and of the within level.
    cross : float
        Median of the C(C - 2) largest of the cross-class level, its rank; nan if C = 2.
    within_trace, trace : float
        Of the within level, and of the whole.
    radius : float
        Every eigenvalue is known to this.
    """

    largest: float
    mean_top: float
    last_top: float
    class_edge: float
    within_edge: float
    cross: float
    within_trace: float
    trace: float
    radius: float

    def __repr__(self) -> str:
        """Say how far the outliers and the bump reach above the bulk."""
        height, cross = (
            _over(x, self.within_edge) for x in (self.mean_top, self.cross)
        )
        return f"Signs(top C over within {height:.3g}, cross over within {cross:.3g})"


def signs(moment: SecondMoment | Snapshot) -> Signs:
    """Return the few eigenvalues that tell outliers, bump and bulk apart.

    Parameters
    ----------
    moment : SecondMoment or Snapshot
        A Fisher information, or the network it is of.

    Returns
    -------
    Signs

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If it is a moment of features.

    Notes
    -----
    Theory: theory/spectra.md#S3; theory/curvature.md#C7. From products with X and X'
    alone, about C of them.

    Examples
    --------
    >>> import refspec
    >>> found = signs(refspec.datasets.wine_sklearn())
    >>> found.largest >= found.class_edge >= found.within_edge
    True
    """
    moment = expect_fisher("moment", moment_of(moment))
    norms = cell_norms(moment)
    C = norms.shape[0]
    split = decompose(moment)
    rest = split.together(("between_cross_class", "within_cross_class"))
    whole = leading(moment, min(C, *moment.shape))
    without = leading(rest, 1)
    within = leading(split.levels["within_cross_class"], 1)
    gram, xp = cell_gram(moment, norms), moment.xp
    levels = {
        n: eigenvalues(over_cells(gram, split, [n], norms, xp), xp)
        for n in split.of_cells
    }
    values, solver = levels["between_cross_class"]
    cross = backend.to_host(values)[: C * (C - 2)]
    trace = moment.trace()
    of_means = sum(float(np.sum(backend.to_host(x))) for x, _ in levels.values())
    top = whole.values
    return Signs(
        float(top[0]),
        float(np.mean(top)),
        float(top[-1]),
        float(without.values[0]),
        float(within.values[0]),
        float(np.median(cross)) if len(cross) else math.nan,
        trace - of_means,
        trace,
        max(whole.radius, without.radius, within.radius, whole.radius + solver),
    )


def member(
    snapshot: Snapshot | SecondMoment,
    found: Signs | None = None,
    facts: dict[str, object] | None = None,
) -> Member:
    """Return what is compared of a network: its provenance, or facts, and its signs.

    Of them ``network``, ``normalisation``, ``epochs``, ``label_noise``, ``test_error``.
    """
    known = getattr(snapshot, "provenance", {}) if facts is None else facts
    found = signs(snapshot) if found is None else found
    return Member(
        str(known.get("network", "")),
        str(known.get("normalisation", "none")),
        len(snapshot.offsets) and int(snapshot.offsets[-1]),
        _number(known.get("epochs")),
        _number(known.get("label_noise", 0.0)),
        _number(known.get("test_error")),
        asdict(found),
    )


def epochs_and_samples(members: Sequence[Member]) -> Iterator[Evidence]:
    """Judge T: cross over within rises with epochs and falls with samples."""
    for along, sign in (("epochs", 1), ("samples", -1)):
        for alike, some in _alike(members, along):
            x = [float(getattr(m, along)) for m in some]
            y = [_over(m.numbers["cross"], m.numbers["within_edge"]) for m in some]
            found = rank_correlation(x, y)
            numbers = {f"rank correlation with {along}": found}
            numbers |= _listed("cross over within", along, x, y)
            at = ", ".join(said(b, ".2g") for b in y)
            if not math.isfinite(found):
                text = f"no trend in {at} at {_said(x)} {along}"
                yield unjudged(alike, text)
                continue
            text = f"rank correlation {found:.2f}: {at} at {_said(x)} {along}"
            yield Evidence(alike, numbers, graded(sign * found), text)


def misclassification(members: Sequence[Member]) -> Iterator[Evidence]:
    """Judge M: the more errors, the smaller outlier over bulk."""
    for along in ("label_noise", "epochs"):
        for alike, some in _alike(members, along):
            x = [m.test_error for m in some]
            y = [_over(m.numbers["mean_top"], m.numbers["within_edge"]) for m in some]
            found, (low, high) = rank_correlation(x, y), _interval(x, y)
            place = f"{alike}, over {_WORDS[along]}"
            if not math.isfinite(found):
                text = "test error or outlier over bulk is unknown or does not vary"
                yield unjudged(place, text)
                continue
            numbers = {
                "rank correlation with the test error": found,
                f"its {_INSIDE:.0%} interval, from": low,
                "to": high,
            }
            numbers |= _listed("outlier over bulk", "test error", x, y)
            text = (
                f"rank correlation {found:.2f} ({low:.2f} to {high:.2f}) over "
                f"{len(x)} networks with test errors {min(x):.3f} to {max(x):.3f}"
            )
            yield Evidence(place, numbers, graded(-found), text)


def batch_norm(members: Sequence[Member]) -> Iterator[Evidence]:
    """Judge B: batch norm lowers the largest outlier, the mean put back raises it."""
    kinds = ("none", "batch norm", "batch norm, mean put back")
    groups: dict[str, dict[str, Member]] = {}
    for m in members:
        place = f"{m.network}, N = {m.samples}, {_epochs(m)}"
        groups.setdefault(place, {})[m.normalisation] = m
    for place, by in groups.items():
        if len(by) < 2 or kinds[0] not in by or kinds[1] not in by:
            continue
        height = {
            k: _over(by[k].numbers["largest"], by[k].numbers["within_edge"])
            for k in kinds
            if k in by
        }
        numbers = {f"largest over the within edge, {k}": v for k, v in height.items()}
        if not all(map(math.isfinite, height.values())):
            yield unjudged(place, "nothing varies within classes: there is no edge")
            continue
        plain, normed = height[kinds[0]], height[kinds[1]]
        heights = ", ".join(f"{v:.3g} ({k})" for k, v in height.items())
        if not normed < plain:
            yield Evidence(
                place, numbers, VERDICTS[2], f"it is not suppressed: {heights}"
            )
            continue
        if kinds[2] not in height:
            text = f"suppressed, {heights}; whether by the mean needs the mean put back"
            yield Evidence(place, numbers, VERDICTS[1], text)
            continue
        back = math.log(height[kinds[2]] / normed) / math.log(plain / normed)
        numbers["part of the suppression that the mean undoes, of its logarithm"] = back
        text = f"{heights}; the mean put back undoes {back:.2f} of it"
        yield Evidence(place, numbers, graded(back), text)


_WORDS = {"epochs": "epochs", "samples": "samples", "label_noise": "label noise"}


def _alike(members: Sequence[Member], along: str) -> Iterator[tuple[str, list[Member]]]:
    """Yield networks that are alike in all but one respect, enough of them, and how."""
    respects = ("epochs", "samples", "label_noise")
    groups: dict[tuple[object, ...], list[Member]] = {}
    for m in members:
        key = tuple(getattr(m, r) for r in respects if r != along)
        groups.setdefault((m.network, m.normalisation, *key), []).append(m)
    for (network, normalisation, *_), some in groups.items():
        if len({getattr(m, along) for m in some}) < _FEWEST:
            continue
        m, words = some[0], [str(network) if network else "networks"]
        words += [str(normalisation)] if normalisation != "none" else []
        words += [f"N = {m.samples}"] if along != "samples" else []
        words += [_epochs(m)] if along != "epochs" else []
        noisy = along != "label_noise" and m.label_noise > 0
        words += [f"label noise {m.label_noise:g}"] if noisy else []
        yield ", ".join(words), sorted(some, key=lambda m: float(getattr(m, along)))


def _interval(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return the bootstrap interval of the rank correlation, networks drawn again."""
    rng, pairs = np.random.default_rng(0), np.asarray([x, y])
    draws = rng.integers(len(x), size=(_RESAMPLED, len(x)))
    found = np.asarray([rank_correlation(*pairs[:, k].tolist()) for k in draws])
    found = found[np.isfinite(found)]
    if not len(found):
        return math.nan, math.nan
    low, high = np.quantile(found, [(1 - _INSIDE) / 2, (1 + _INSIDE) / 2])
    return float(low), float(high)


def _listed(
    what: str, along: str, x: Sequence[float], y: Sequence[float]
) -> dict[str, float]:
    """Name every value by its place, and by number where places are the same."""
    named: dict[str, float] = {}
    for a, b in zip(x, y, strict=True):
        name, k = f"{what} at {along} {a:g}", 2
        while name in named:
            name, k = f"{what} at {along} {a:g} ({k})", k + 1
        named[name] = b
    return named


def _over(a: float, b: float) -> float:
    """Return a / b, nan where nothing is within classes."""
    return a / b if b > 0 else math.nan


def _epochs(m: Member) -> str:
    """Say how long a network was trained."""
    return f"{said(m.epochs, 'g', 'unknown')} epochs"


def _said(x: Sequence[float]) -> str:
    return ", ".join(f"{a:g}" for a in x)


def _number(x: object) -> float:
    """Return a number of a provenance, nan if there is none."""
    known = isinstance(x, int | float) and not isinstance(x, bool)
    return float(x) if known else math.nan  # type: ignore[arg-type]
