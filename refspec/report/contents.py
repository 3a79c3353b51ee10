"""What a report says: computed once from a network, in the library's own types.

Of a snapshot everything; of a Fisher information by differentiation what it alone
tells, its modules in place of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec import backend, checks, curvature, rounding
from refspec.attribution import (
    Attribution,
    Clarity,
    HessianAttribution,
    Means,
    Profile,
    attribute,
    class_means,
    distances,
    eigenbasis,
)
from refspec.attribution.depth import class_clarity
from refspec.claims import Finding, judge
from refspec.claims.curvature import attributed, compared, nearest_terms
from refspec.claims.depth import profiled
from refspec.claims.edges import edges_in, edges_of, seen
from refspec.claims.registry import Subject, fisher
from refspec.classes import Snapshot
from refspec.coordinates import coordinates
from refspec.coverage import Coverage
from refspec.curvature import SecondMoment
from refspec.differentiated import MODULES, NetworkMoment, coverage_of, module_of
from refspec.kronecker import LayerComparison, Nearest
from refspec.leading import with_gram_for
from refspec.quadrature import Density
from refspec.quadrature import densities as counted
from refspec.report.knockouts import knockout_record, knockouts_of, leading_knockouts
from refspec.theorems import Study, Theorem
from refspec.theorems.curvature import spectra_of_layers
from refspec.theorems.study import MomentStudy
from refspec.verify import Record, expect_theorems, verify

#: Numbers of one page's spectra: some six characters each, a megabyte in all.
_NUMBERS = 220_000

#: Deeper networks show the Fisher of each layer only, not its features and errors;
#: moments of more modules only the whole.
_DEEP = MODULES

#: Classes on a map of means: more cannot be told apart.
_MAPPED = 10


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """Everything that a report shows.

    Parameters
    ----------
    snapshot : Snapshot or None
        What it is about; None of a moment.
    moment : SecondMoment
        The Fisher information of all its parameters.
    coverage : Coverage
        How much of the network that is of.
    parameters : mapping of str to int
        Parameters of each layer, of a moment of each module.
    findings : list of Finding
        What it says to each claim.
    whole : Attribution
        What makes up that Fisher information.
    layers : mapping of str to Attribution
        The same for each layer; empty if not asked for.
    traces : mapping of str to float
        Trace of each layer's Fisher information.
    spectra : list of dict
        From `refspec.report.knockouts.knockout_record`: the whole first, then by layer.
    profiles : mapping of str to (mapping of str to Clarity)
        `features` and `errors`, by layer.
    means : mapping of str to tuple
        Distances and points of class means, of the last layer's features and errors;
        of those that are told apart.
    comparisons : mapping of str to LayerComparison
        KFAC, EKFAC and CFAC of every layer that is small enough.
    nearest : mapping of str to Nearest
        Of these layers the nearest Kronecker product, and the nearest sum of C.
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
    densities : mapping of str to Density
        Where only the largest eigenvalues of the whole were asked for: how many lie
        where, of it and, by level, without each.
    """

    snapshot: Snapshot | None
    moment: SecondMoment
    coverage: Coverage
    parameters: Mapping[str, int]
    findings: list[Finding]
    whole: Attribution
    layers: Mapping[str, Attribution]
    traces: Mapping[str, float]
    spectra: list[dict[str, Any]]
    profiles: Mapping[str, Mapping[str, Clarity]]
    means: Mapping[str, tuple[np.ndarray, np.ndarray]]
    comparisons: Mapping[str, LayerComparison]
    nearest: Mapping[str, Nearest]
    hessian: HessianAttribution | None
    hessian_layers: list[str]
    hessian_note: str
    verdicts: list[Record]
    dense: int
    densities: Mapping[str, Density]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, as far as they are stated; of none of them if not."""
        source = {} if self.snapshot is None else self.snapshot.provenance
        names, C = source.get("class_names"), len(self.moment.offsets) - 1
        if not isinstance(names, list | tuple) or len(names) != C:
            return []
        return [str(x) for x in names]

    def __repr__(self) -> str:
        """Say what it is about, and how much there is."""
        spectra, verdicts = len(self.spectra), len(self.verdicts)
        about = self.moment if self.snapshot is None else self.snapshot
        return f"Contents({about!r}; {spectra} spectra, {verdicts} verdicts)"


def collect(
    network: Snapshot | SecondMoment,
    *,
    per_layer: bool = True,
    dense: int = 1000,
    theorems: Iterable[Theorem] | None = None,
    progress: Callable[[str], None] | None = None,
    top: int | None = None,
) -> Contents:
    """Compute everything that a report shows.

    Parameters
    ----------
    network : Snapshot or SecondMoment
        A moment is the Fisher information of a network whose layers are not known,
        such as `refspec.torch.moment` gives.
    per_layer : bool
        Spectra of each layer's Fisher, features and errors, not only of the whole; of a
        moment those of each module's Fisher.
    dense : int
        Most parameters of a matrix that is formed: KFAC and CFAC are compared with
        layers up to this, the Hessian is of the last layers up to this together.
    theorems : iterable of Theorem, optional, to verify; those on data if not given
    progress : callable, optional, told what begins
    top : int, optional
        Only so many eigenvalues of a spectrum, the largest, from products alone, C^2 at
        least, which claims count; of spectra that have no more, all.

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
    checks.expect_type("network", network, (Snapshot, SecondMoment), advice)
    if isinstance(network, SecondMoment):
        curvature.expect_fisher("network", network)
    checks.expect_flag("per_layer", per_layer)
    dense = checks.expect_size("dense", dense)
    wanted = expect_theorems(theorems)
    if not (progress is None or callable(progress)):
        raise TypeError(
            f"progress must be callable or None, got {type(progress).__name__}; print "
            "is one"
        )
    say = progress or (lambda _: None)
    snapshot = network if isinstance(network, Snapshot) else None
    if top is not None:
        checks.expect_size("top", top, least=1)
    subject = Subject(network, dense, per_layer, top=top)
    covered, sizes, jobs = _jobs(network, per_layer)
    few = subject.top(jobs[0][1])
    shown = max(40, min(400, _NUMBERS // (len(jobs) * 54)))  # 16 knock-outs and shares
    if snapshot is None:
        study: Study = MomentStudy(jobs[0][1], top=few)
    else:
        study = Study(snapshot, top=few)
    spectra, found, last = [], [], {}
    clear: dict[str, dict[str, Clarity]] = {of: {} for of in _BOTH}
    for title, moment, (of, *layers) in jobs:
        say(title)
        k = subject.top(moment)
        if k is not None:
            held = with_gram_for(moment, k) if layers else subject.once(fisher)
            found.append(attribute(held, top=k))
            if not layers:  # what theorems see
                study.attribution = found[-1]
            made = leading_knockouts(held, found[-1])
            spectra.append(knockout_record(title, made, found[-1], shown))
            subject.know(edges_of(found[-1], subject.C), seen, of, *layers)
            continue
        # one factorisation, for the page, the claims and the theorems
        at = coordinates(moment) if layers else None
        basis = study.basis if at is None else eigenbasis(at)
        made = knockouts_of(basis)
        found.append(study.attribution if at is None else attribute(basis))
        spectra.append(knockout_record(title, made, found[-1], shown))
        subject.know(edges_in(basis, found[-1]), seen, of, *layers)
        if at is not None and of in _BOTH:
            clear[of][layers[0]] = class_clarity(at, basis)
            if layers[0] == list(sizes)[-1]:
                last[of] = class_means(at)
    profiles, means, comparisons, nearest = {}, {}, {}, {}
    result: HessianAttribution | None = None
    chosen: list[str] = []
    note = _NO_LAYERS
    if snapshot is not None:
        say("class structure by depth")
        for of, build in _BOTH.items():
            if len(clear[of]) == len(sizes):
                subject.know(Profile(of, clear[of]), profiled, of)
            profiles[of] = subject.once(profiled, of)
            if of not in last:
                last[of] = class_means(build(snapshot, snapshot.layers[-1].name))
            C = len(last[of].classes)
            found_means = distances(last[of], range(min(C, _MAPPED)))
            if _apart(last[of], found_means[0], snapshot.probabilities.shape[0]):
                means[of] = found_means
        for name, size in sizes.items():
            if size <= dense:
                say(f"KFAC and CFAC of layer {name}")
                comparisons[name] = subject.once(compared, name)
                nearest[name] = subject.once(nearest_terms, name)
        say("the Hessian of the last layers")
        result, chosen, note = subject.once(attributed)
    by_layer = found[1 : 1 + len(sizes)]
    if snapshot is not None and few is None and by_layer:
        study.know(spectra_of_layers, [x.spectrum for x in by_layer])
    densities = {} if few is None else counted(subject.once(fisher))
    say("claims")
    findings = list(judge(subject))
    verdicts: list[Record] = []
    for theorem in wanted:
        say(f"theorem {theorem.id}")
        verdicts += verify(study, theorems=[theorem])
    return Contents(
        snapshot,
        jobs[0][1],
        covered,
        sizes,
        findings,
        found[0],
        dict(zip(sizes, by_layer, strict=True)) if len(jobs) > 1 else {},
        _traces(network, sizes),
        spectra,
        profiles,
        means,
        comparisons,
        nearest,
        result,
        chosen,
        note,
        verdicts,
        dense,
        densities,
    )


def _apart(means: Means, matrix: np.ndarray, N: int) -> bool:
    """Tell whether some means differ by more than rounding makes of equal ones."""
    size = float(np.linalg.norm(means.classes, axis=1).max(initial=0.0))
    u = rounding.unit_roundoff(means.classes)
    steps = N * means.classes.shape[1] + len(matrix)
    return float(matrix.max(initial=0.0)) > rounding.gamma(steps, u) * size


#: A spectrum: its title, the moment, and where claims look for its edges.
_Job = tuple[str, SecondMoment, tuple[str, ...]]

#: Why there is no Hessian of a moment.
_NO_LAYERS = (
    "this is a Fisher information by differentiation, and the Hessian a matrix of its "
    "own; refspec attribute FILE.py:NAME --of hessian takes both"
)


def _jobs(
    network: Snapshot | SecondMoment, per_layer: bool
) -> tuple[Coverage, dict[str, int], list[_Job]]:
    """Return what is covered, the parameters of each layer, and spectra to compute."""
    covered, whole = coverage_of(network), curvature.moment_of(network)
    kind = "layer" if isinstance(network, Snapshot) else "module"
    sizes = dict(covered.covered)
    jobs: list[_Job] = [(f"Fisher information, {covered.title}", whole, ("gradients",))]
    if not per_layer or (kind == "module" and not 1 < len(sizes) <= _DEEP):
        return covered, sizes, jobs
    for name in sizes:
        title = f"Fisher information of {kind} {name}"
        jobs.append((title, _block(network, name), ("gradients", name)))
    if isinstance(network, Snapshot) and len(sizes) <= _DEEP:
        for name in sizes:
            features, errors = (f(network, name) for f in _BOTH.values())
            title = f"features entering layer {name}"
            jobs.append((title, features, ("features", name)))
            title = f"errors coming back to layer {name}"
            jobs.append((title, errors, ("errors", name)))
    return covered, sizes, jobs


def _block(network: Snapshot | SecondMoment, name: str) -> SecondMoment:
    """Return the Fisher information of one layer or module."""
    if isinstance(network, Snapshot):
        return curvature.fisher(network, [name])
    if not isinstance(network, NetworkMoment):
        return network
    return network.part([x for x, _ in network.blocks if module_of(x) == name])


def _traces(
    network: Snapshot | SecondMoment, sizes: Mapping[str, int]
) -> dict[str, float]:
    """Return the trace of each block; of a moment in one pass over its rows."""
    if not isinstance(network, NetworkMoment) or network.projection is not None:
        return {name: _block(network, name).trace() for name in sizes}
    xp, at, squares = network.xp, 0, np.zeros(network.shape[1])
    for x in network.rows.chunks():
        squares += backend.to_host(xp.sum(x * x, axis=0))
    found = dict.fromkeys(sizes, 0.0)
    for name, size in network.blocks:
        found[module_of(name)] += float(np.sum(squares[at : at + size]))
        at += size
    return found


_BOTH = {"features": curvature.features, "errors": curvature.errors}
