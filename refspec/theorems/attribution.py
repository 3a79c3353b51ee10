"""Checks of theory/attribution.md, on the Fisher information of all layers.

A = B + M: B the levels of the means that a statement is about, M the rest. Eigenvalues
of A, B, M and of knock-outs come from the eigenbasis; traces of the levels, against
which shares are checked, from the rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refspec import backend, rounding, structure
from refspec.attribution import knockout, sines
from refspec.theorems.quantities import level_roundings, level_rows
from refspec.theorems.registry import Comparison, identity, inequality
from refspec.theorems.study import Study

_CLASS = ("diagonal", "between_class")
_MEANS = (*_CLASS, "between_cross_class")
_Solved = dict[tuple[str, ...], tuple[np.ndarray, float]]  # eigenvalues and radius


def _values(study: Study) -> tuple[np.ndarray, float]:
    """Return all P eigenvalues of A, zeros included, and their radius."""
    whole = study.basis.spectrum
    values = np.zeros(whole.dimension)
    found = backend.to_host(whole.values)
    values[: len(found)] = found
    return values, whole.radius + study.tiny


def level_values(study: Study) -> _Solved:
    """Return the eigenvalues of B from its rows, without the eigenbasis, and a radius.

    For B the levels of class means, and all levels of the means.
    """
    moment, rows = study.fisher, level_rows(study, "gradients")
    k = level_roundings(moment) + sum(moment.shape)
    g = 8 * rounding.second_moment_radius(k, moment.trace(), study.u)
    found: _Solved = {}
    for names in (_CLASS, _MEANS):
        x = np.concatenate([rows[n] for n in names])
        found[names] = np.linalg.svd(x, compute_uv=False) ** 2, g + study.tiny
    return found


def rests(study: Study) -> _Solved:
    """Return the eigenvalues of M = A - B by subtraction, and their radius."""
    found: _Solved = {}
    for names in (_CLASS, _MEANS):
        values, radius = knockout(study.basis, names)
        found[names] = backend.to_host(values), radius + study.tiny
    return found


def projected(study: Study) -> _Solved:
    """Return the eigenvalues of PAP, P the complement of range B, and their radius."""
    found: _Solved = {}
    for names in (_CLASS, _MEANS):
        values, radius = knockout(study.basis, names, by="projection")
        found[names] = backend.to_host(values), radius
    return found


def _top(values: np.ndarray) -> float:
    """Return the largest value, or 0: what is left out is 0."""
    return float(np.max(values, initial=0.0))


def _ranks(study: Study) -> dict[tuple[str, ...], int]:
    """Return how many eigenvalues of B the knock-out by projection can tell from 0."""
    edge = study.basis.radius / 2
    found = study.once(level_values)
    return {names: int(np.sum(edge < B)) for names, (B, _) in found.items()}


@inequality(
    "Sandwich and subtraction",
    "lambda_k(B) <= lambda_k(A) <= lambda_k(B) + lambda_1(M), M = A - B >= 0",
    question="data",
    layered=False,
)
def A1(study: Study) -> Iterator[Comparison]:
    """Compare eigenvalues of A with those of B and of M."""
    values, radius = _values(study)
    for names, (B, known) in study.once(level_values).items():
        rest, solved = study.once(rests)[names]
        largest = float(values[0])
        B = np.pad(B, (0, max(0, len(values) - len(B))))[: len(values)]
        edge, label = _top(rest), " + ".join(names)
        over = float(np.max(B - values, initial=0.0))
        yield over, radius + known, largest, f"{label} below the whole"
        over, bound = float(np.max(values - B, initial=0.0)) - edge, radius + known
        yield over, bound + solved, largest, f"whole below {label} + edge"
        over, what = -float(np.min(rest, initial=0.0)), "is a second moment"
        yield over, solved, largest, f"the whole without {label} {what}"


@inequality(
    "Counting",
    "lambda_{r+1}(A) <= lambda_1(M), r = rank B: at most r lie above the edge of M",
    question="data",
    layered=False,
)
def A6(study: Study) -> Iterator[Comparison]:
    """Compare the first eigenvalue past the rank of B with the edge of M."""
    values, radius = _values(study)
    for names, rank in _ranks(study).items():
        rest, solved = study.once(rests)[names]
        solved += study.basis.radius  # what counts as zero of B
        if rank < len(values):
            over = float(values[rank]) - _top(rest)
            what = f"eigenvalue {rank + 1} and {' + '.join(names)}"
            yield over, radius + solved, float(values[0]), what
    largest = float(values[0])
    edge, solved = study.once(rests)[_MEANS]
    bound = radius + solved + study.once(level_values)[_MEANS][1]
    over = largest - float(study.once(level_values)[_MEANS][0][0]) - _top(edge)
    yield over, bound, largest, "the first eigenvalue"


@inequality(
    "Projection",
    "lambda_{k+r}(A) <= lambda_k(PAP) <= lambda_k(A), lambda_1(PAP) <= lambda_1(M)",
    question="data",
    layered=False,
)
def A2(study: Study) -> Iterator[Comparison]:
    """Compare PAP with A (Cauchy) and with M, P the complement of range B."""
    values, radius = _values(study)
    for names, rank in _ranks(study).items():
        cut, solved = study.once(projected)[names]
        rest, other = study.once(rests)[names]
        # directions of B below its radius stay: they move M's edge by that much
        slack, label = radius + solved + other + study.basis.radius, " + ".join(names)
        size = float(values[0])
        over = float(np.max(cut - values[: len(cut)], initial=0.0))
        yield over, slack, size, f"{label}: PAP below A"
        later = values[rank : rank + len(cut)]
        if len(later):
            over = float(np.max(later - cut[: len(later)]))
            yield over, slack, size, f"{label}: A, {rank} later, below PAP"
        yield _top(cut) - _top(rest), slack, size, f"{label}: PAP below the edge"


def _something(study: Study) -> str:
    """Say that there is nothing to attribute."""
    return "" if study.fisher.trace() > 0 else "the Fisher information is zero"


def _separated(study: Study) -> str:
    """Say that no eigenvalue is large enough for an angle."""
    found = min(study.attribution.angle_bounds.values())
    return "" if found < 1 else "lambda_1(A) must be above lambda_1(M)"


@inequality(
    "Eigenvectors above the edge point along the means",
    "sin angle(top-k eigenspace of A, range B) <= lambda_1(M) / lambda_k(A)",
    _separated,
    question="data",
    layered=False,
)
def A3(study: Study) -> Iterator[Comparison]:
    """Compare the largest sine with the bound, for class means and for all means."""
    found = study.attribution
    # sines come from an orthonormal basis of the span, computed by an SVD
    rounded = rounding.gamma(4 * len(found.kinds), study.u)
    sides, told = [], []
    for kind, angles in found.angles.items():
        if len(angles):
            sine, bound = float(np.max(np.sin(angles))), found.angle_bounds[kind]
            sides.append(sine - bound)
            what = "class means" if kind == "outlier" else "all means"
            told.append(f"sine of the top {len(angles)} to {what} {sine:.3g}")
            told[-1] += f", at most {bound:.3g}"
    for over in sides:
        yield over, rounded, 1.0, "; ".join(told)


@inequality(
    "Angle and share",
    "sin^2(v, range B) <= (1 - w) lambda_1(PAP) / l; cos^2(v, b_1..b_j) <= w l / s_j",
    _something,
    question="data",
    layered=False,
)
def A7(study: Study) -> Iterator[Comparison]:
    """Compare every eigenvector's angles to class means and all means with shares."""
    basis, sides, told = study.basis, [], []
    values, slack = backend.to_host(basis.values), 2 * basis.radius + study.tiny
    rounded = rounding.gamma(8 * len(values) + 64, study.u)
    for names, (cut, solved) in study.once(projected).items():
        rows = np.concatenate([backend.to_host(basis.rows[n]) for n in names])
        own = np.sum(rows * rows, axis=0)  # v'Bv
        # Av is lv, M >= 0 and all of B is in its span, up to the radius
        edge, rest = _top(cut) + solved + slack, np.maximum(values - own, 0) + slack
        most = np.sqrt(edge) * np.sqrt(rest)  # the product may underflow
        bound, sine = (most + slack) / values, sines(basis, names)
        sides.append((float(np.max(sine - bound)), rounded, 1.0))
        # of the bounds that say something, those below 1
        k = int(np.argmax(np.where(bound < 1, sine, -1) - bound))
        what = "class means" if names == _CLASS else "all means"
        told.append(f"eigenvector {k + 1} and {what}: sine {sine[k]:.3g}")
        told[-1] += f", at most {bound[k]:.3g}"
        V = np.linalg.svd(rows, full_matrices=False)[2]
        s, known = study.once(level_values)[names]
        n = min(len(s), len(V))
        over = np.cumsum(V[:n] ** 2, axis=0) * s[:n, None] - own
        sides.append((float(np.max(over)), known + slack + rounded * s[0], s[0]))
    for side in sides:
        yield *side, "; ".join(told)


@identity(
    "Shares",
    "v'X'P_level X v / lambda sum to 1 over levels, to the traces over eigenvalues",
    _something,
)
def A4(study: Study) -> Iterator[Comparison]:
    """Compare sum_k share_k lambda_k with the trace of the level from the rows."""
    values = backend.to_host(study.basis.values)
    found, moment = study.attribution, study.fisher
    r = len(found.kinds)
    rows, total = level_rows(study, "gradients"), np.zeros(r)
    k = level_roundings(moment) + sum(moment.shape)
    g = 4 * rounding.second_moment_radius(k, moment.trace(), study.u)
    bound = 2 * (r + 1) * found.radius + g + study.tiny
    within = whole = moment.trace()
    for name, x in rows.items():
        trace = float(np.sum(x * x))
        within -= trace
        off = abs(float(found.shares[name] @ values) - trace)
        yield off, bound, whole, f"shares of {name}"
    off = abs(float(found.shares[study.basis.within] @ values) - within)
    yield off, bound, whole, f"shares of {study.basis.within}"
    total = np.sum(list(found.shares.values()), axis=0)
    bound = rounding.gamma(2 * len(found.shares), study.u)
    off = float(np.max(np.abs(total - 1), initial=0.0))
    yield off, bound, 1.0, "sum of the shares"


@inequality(
    "The cut at the numerical rank",
    "no eigenvalue of a level or a knock-out falls by more than the first one cut",
)
def A5(study: Study) -> Iterator[Comparison]:
    """Compare what the eigenbasis keeps with the whole, and levels with their rows."""
    basis, moment = study.basis, study.fisher
    whole = backend.to_host(basis.spectrum.values)
    kept = len(backend.to_host(basis.values))
    lost = float(np.sum(np.abs(whole[kept:])))
    bound, size = basis.spectrum.radius + study.tiny, float(np.sum(np.abs(whole)))
    yield lost, bound, size, "sum of the eigenvalues cut"
    k = level_roundings(moment) + sum(moment.shape)
    g = 8 * rounding.second_moment_radius(k, moment.trace(), study.u) + study.tiny
    for name, x in level_rows(study, "gradients").items():
        own = np.linalg.svd(x, compute_uv=False) ** 2
        found = study.attribution.levels[name]
        n = min(len(own), len(found))
        off = float(np.max(np.abs(own[:n] - found[:n]), initial=0.0))
        bound = study.attribution.radius + g
        yield off, bound, float(np.max(whole, initial=0.0)), f"{name} in the eigenbasis"
    split = structure.decompose(moment).levels[basis.within].trace()
    trace = study.attribution.traces[basis.within]
    bound = (kept + 1) * study.attribution.radius + g
    yield abs(split - trace), bound, size, f"trace of {basis.within} in the eigenbasis"
