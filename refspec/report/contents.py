"""What a report says: computed once from a snapshot, in the library's own types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec import checks, coverage, curvature
from refspec.attribution import (
    Attribution,
    Clarity,
    HessianAttribution,
    attribute,
    class_means,
    distances,
    eigenbasis,
)
from refspec.claims import Finding, judge
from refspec.claims.curvature import attributed, compared
from refspec.claims.depth import profiled
from refspec.claims.edges import edges_in, seen
from refspec.claims.registry import Subject
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment
from refspec.kronecker import LayerComparison
from refspec.report.knockouts import knockout_record
from refspec.theorems import Study, Theorem
from refspec.verify import Record, expect_theorems, verify

#: Numbers of one page's spectra: some nine characters each, a megabyte in all.
_NUMBERS = 120_000

#: Deeper networks show the Fisher of each layer only, not its features and errors.
_DEEP = 40

#: Classes on a map of means: more cannot be told apart.
_MAPPED = 10


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """Everything that a report shows.

    Parameters
    ----------
    snapshot : Snapshot
        What it is about.
    findings : list of Finding
        What it says to each claim.
    whole : Attribution
        What makes up the Fisher information of all layers.
    layers : mapping of str to Attribution
        The same for each layer; empty if not asked for.
    traces : mapping of str to float
        Trace of each layer's Fisher information.
    spectra : list of dict
        From `refspec.report.knockouts.knockout_record`: the whole first, then by layer.
    profiles : mapping of str to (mapping of str to Clarity)
        `features` and `errors`, by layer.
    means : mapping of str to tuple
        Distances and points of class means, of the last layer's features and errors.
    comparisons : mapping of str to LayerComparison
        KFAC, EKFAC and CFAC of every layer that is small enough.
    hessian : HessianAttribution or None
        The Hessian of the last layers that together are small enough.
    hessian_layers : list of str
        Which those are.
    hessian_note : str
        Why there is no Hessian, if there is none.
    verdicts : list of Record
        One of each theorem that was asked for.
    dense : int
        The most parameters of a dense matrix: what "small enough" is.
    """

    snapshot: Snapshot
    findings: list[Finding]
    whole: Attribution
    layers: Mapping[str, Attribution]
    traces: Mapping[str, float]
    spectra: list[dict[str, Any]]
    profiles: Mapping[str, Mapping[str, Clarity]]
    means: Mapping[str, tuple[np.ndarray, np.ndarray]]
    comparisons: Mapping[str, LayerComparison]
    hessian: HessianAttribution | None
    hessian_layers: list[str]
    hessian_note: str
    verdicts: list[Record]
    dense: int

    def __repr__(self) -> str:
        """Say what it is about, and how much there is."""
        spectra, verdicts = len(self.spectra), len(self.verdicts)
        return f"Contents({self.snapshot!r}; {spectra} spectra, {verdicts} verdicts)"


def collect(
    snapshot: Snapshot,
    *,
    per_layer: bool = True,
    dense: int = 1000,
    theorems: Iterable[Theorem] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Contents:
    """Compute everything that a report shows.

    Parameters
    ----------
    snapshot : Snapshot
    per_layer : bool
        Spectra of each layer's Fisher, features and errors, not only of the whole.
    dense : int
        Most parameters of a matrix that is formed: KFAC and CFAC are compared with
        layers up to this, the Hessian is of the last layers up to this together.
    theorems : iterable of Theorem, optional, to verify; those on data if not given
    progress : callable, optional, told what begins

    Returns
    -------
    Contents
        In the library's types.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Notes
    -----
    Cost: one eigenbasis and 2^L small eigenproblems for each spectrum, L its number of
    levels; four dense eigenproblems a compared layer, three for the Hessian.
    """
    advice = "refspec.snapshot(...) or refspec.load(...) makes one"
    checks.expect_type("snapshot", snapshot, Snapshot, advice)
    checks.expect_flag("per_layer", per_layer)
    dense = checks.expect_size("dense", dense)
    wanted = expect_theorems(theorems)
    if not (progress is None or callable(progress)):
        raise TypeError(
            f"progress must be callable or None, got {type(progress).__name__}; print "
            "is one"
        )
    say = progress or (lambda _: None)
    names = [x.name for x in snapshot.layers]
    subject = Subject(snapshot, dense, per_layer)
    jobs: list[tuple[str, SecondMoment, tuple[str, ...]]] = []
    whole = curvature.fisher(snapshot)
    title = f"Fisher information, {coverage.of_snapshot(snapshot).title}"
    jobs.append((title, whole, ("gradients",)))
    for name in names if per_layer else []:
        fisher = curvature.fisher(snapshot, [name])
        title = f"Fisher information of layer {name}"
        jobs.append((title, fisher, ("gradients", name)))
    for name in names if per_layer and len(names) <= _DEEP else []:
        features, errors = (f(snapshot, name) for f in _BOTH.values())
        jobs.append((f"features entering layer {name}", features, ("features", name)))
        title = f"errors coming back to layer {name}"
        jobs.append((title, errors, ("errors", name)))
    top = max(40, min(400, _NUMBERS // (len(jobs) * 21)))
    spectra, found = [], []
    for title, moment, place in jobs:
        say(title)
        basis = eigenbasis(moment)
        found.append(attribute(basis))
        spectra.append(knockout_record(title, basis, found[-1], top))
        subject.know(edges_in(basis, found[-1]), seen, *place)
    say("class structure by depth")
    profiles = {of: subject.once(profiled, of) for of in _BOTH}
    comparisons = {}
    for x in snapshot.layers:
        if x.parameters <= dense:
            say(f"KFAC and CFAC of layer {x.name}")
            comparisons[x.name] = subject.once(compared, x.name)
    say("the Hessian of the last layers")
    result, chosen, note = subject.once(attributed)
    say("claims")
    findings = list(judge(subject))
    verdicts: list[Record] = []
    study = Study(snapshot)
    for theorem in wanted:
        say(f"theorem {theorem.id}")
        verdicts += verify(study, theorems=[theorem])
    layers = found[1 : 1 + len(names)]
    return Contents(
        snapshot,
        findings,
        found[0],
        dict(zip(names, layers, strict=True)) if per_layer else {},
        {n: curvature.fisher(snapshot, [n]).trace() for n in names},
        spectra,
        profiles,
        {of: _mapped(snapshot, build) for of, build in _BOTH.items()},
        comparisons,
        result,
        chosen,
        note,
        verdicts,
        dense,
    )


_BOTH = {"features": curvature.features, "errors": curvature.errors}


def _mapped(
    snapshot: Snapshot, build: Callable[[Snapshot, str], curvature.SecondMoment]
) -> tuple[np.ndarray, np.ndarray]:
    """Return distances of the means of the last layer, of a few classes."""
    C = snapshot.probabilities.shape[1]
    means = class_means(build(snapshot, snapshot.layers[-1].name))
    return distances(means, range(min(C, _MAPPED)))
