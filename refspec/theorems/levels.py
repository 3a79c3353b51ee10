"""Checks of theory/levels.md: the projections of the row index space and their ranks.

Each identity is computed along two paths: the projections of `refspec.structure`, and
the means of the paper's formulas, in loops over classes on the host.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refspec import backend, rounding, structure
from refspec.classes import class_slices
from refspec.factors import lengths
from refspec.theorems.quantities import (
    LEAST,
    cell_rows,
    error_norms,
    level_roundings,
    level_rows,
    norm,
    of_scores,
    score_bound,
    score_bounds,
    scores,
    seed_accuracy,
    sizes_of_rows,
)
from refspec.theorems.registry import Comparison, identity, together
from refspec.theorems.study import Study


def defined_cell_means(study: Study) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return means of the images and masses of all cells, by the definition.

    For every moment: v_{cc'}, shape (C, K, 4), and p_{cc'}, shape (C, K).
    """
    found = {}
    for name, moment in study.moments.items():
        Y, w = study.images[name], backend.to_host(moment.weights)
        v, p = [], []
        for i, j in zip(moment.offsets, moment.offsets[1:], strict=False):
            mass = w[i:j].sum(0)
            top = (np.sqrt(w[i:j])[:, :, None] * Y[i:j]).sum(0)
            v.append(top / np.where(mass > 0, mass, np.inf)[:, None])
            p.append(mass)
        found[name] = np.stack(v), np.stack(p)
    return found


def _second(v: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return sum of weights v v'."""
    rows = (np.sqrt(weights)[..., None] * v).reshape(-1, v.shape[-1])
    return np.asarray(rows.T @ rows)


def defined_class_means(v: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return v_c and p_c of (C, C) cells, the diagonal left out."""
    # by the definition: independent of `refspec.structure`, which projects
    off = p * (1 - np.eye(len(p)))
    mass = off.sum(1)
    top = (off[:, :, None] * v).sum(1)
    return top / np.where(mass > 0, mass, 1)[:, None], mass


def formula(v: np.ndarray, p: np.ndarray) -> dict[str, np.ndarray]:
    """Return the levels of the means by equation (6.4), or its form for features."""
    if v.shape[1] == 1:
        v, p = v[:, 0], p[:, 0]
        overall = (p[:, None] * v).sum(0) / p.sum()
        return {
            "global_mean": _second(overall[None], p.sum(keepdims=True)),
            "between_class": _second(v - overall, p),
        }
    own, mass = defined_class_means(v, p)
    off = p * (1 - np.eye(len(p)))
    index = np.arange(len(p))
    return {
        "diagonal": _second(v[index, index], p[index, index]),
        "between_class": _second(own, mass),
        "between_cross_class": _second(v - own[:, None], off),
    }


@identity(
    "Levels are orthogonal projections",
    "X'X = sum over levels of X'P_level X; P_a P_b = [a = b] P_a, sum P = I",
)
def L1(study: Study) -> Iterator[Comparison]:
    """Projections, orthogonal, adding up, and equal to the formulas."""
    for name, moment in study.moments.items():
        host = study.images[name]
        Y, one = backend.from_host(host, moment.weights), float(np.linalg.norm(host))
        split = structure.decompose(moment)
        seen = {n: backend.to_host(x.project(Y)) for n, x in split.levels.items()}
        g = rounding.gamma(level_roundings(moment), study.u)
        total = np.linalg.norm(sum(seen.values()) - host)
        yield float(total), 4 * g * one, one, f"sum of the levels of {name}"
        for n, x in seen.items():
            again = backend.from_host(x, moment.weights)
            for m, level in split.levels.items():
                gap = backend.to_host(level.project(again)) - (x if n == m else 0)
                away, what = float(np.linalg.norm(gap)), f"{m} of {n} of {name}"
                yield away, 4 * g * one, one, what
        for n, matrix in formula(*study.once(defined_cell_means)[name]).items():
            x = seen[n].reshape(-1, host.shape[2])
            gap = np.linalg.norm(x.T @ x - matrix)
            yield float(gap), 8 * g * one**2, one**2, f"{n} of {name} by its formula"


def ranks(C: int, K: int, scored: bool) -> dict[tuple[str, ...], int]:
    """Return the largest rank of sets of levels, smaller by the score identity."""
    if K == 1:
        return {("global_mean",): 1, ("between_class",): C - 1}
    together = ("diagonal", "between_class")
    return {
        ("diagonal",): C,
        ("between_class",): C,
        ("between_cross_class",): C * (C - 2),
        together: C if scored else 2 * C,
        (*together, "between_cross_class"): C * (C - 1) if scored else C * C,
    }


@identity(
    "Traces add, ranks are known",
    "tr = sum of traces; ranks C, C(C-2), C; with the score C(C-1) together",
    question="data",
)
def L2(study: Study) -> Iterator[Comparison]:
    """Add traces and bound ranks."""
    yield from _traces(study)
    yield from _ranks(study)


def _traces(study: Study) -> Iterator[Comparison]:
    """Add traces, of the means by the cells, of the rest by the rows."""
    several = len(study.snapshot.layers) > 1
    for name, moment in study.moments.items():
        if several and name == "gradients":
            continue  # the sum of its layers
        rows = level_rows(study, name)
        parts = [float(np.sum(x * x)) for x in rows.values()]
        levels = structure.decompose(moment).levels
        parts += [x.trace() for n, x in levels.items() if n not in rows]
        k = level_roundings(moment) + sum(moment.shape)
        total = moment.trace()
        bound = 4 * rounding.second_moment_radius(k, total, study.u)
        away = abs(sum(parts) - total)
        yield away, bound + study.tiny, total, f"traces of the levels of {name}"


def _ranks(study: Study) -> Iterator[Comparison]:
    """Bound ranks, by the singular value that has to vanish."""
    s, scored = backend.to_host(study.snapshot.sample_weights), not of_scores(study)
    for name, moment in study.moments.items():
        C, K = len(moment.offsets) - 1, moment.weights.shape[1]
        rows, score = level_rows(study, name), 0.0
        if moment.scored:
            score = float(np.sqrt(np.sum(s * score_bound(study, name) ** 2)))
        g = rounding.gamma(level_roundings(moment) + sum(moment.shape), study.u)
        g *= moment.trace() ** 0.5
        for levels, rank in ranks(C, K, scored).items():
            x = np.concatenate([rows[n] for n in levels])
            values = np.linalg.svd(x, compute_uv=False)
            if rank < len(values):
                bound = 4 * g + (score if len(levels) > 1 else 0) + study.tiny**0.5
                label = f"rank {rank} of {' + '.join(levels)} of {name}"
                yield float(values[rank]), bound, norm(x), label


@identity(
    "The score identity",
    "sum_c' p_{i,c'} x_{i,c'} = 0 for every sample, errors and gradients",
    of_scores,
    question="data",
)
def L3(study: Study) -> Iterator[Comparison]:
    """Average over all c', sample by sample."""
    p = backend.to_host(study.snapshot.probabilities)
    for x in study.snapshot.layers:
        terms = np.sum(p * error_norms(study, x.name), axis=1)
        off = lengths(study.once(scores)[x.name], (1, 2))
        bound = study.once(score_bounds)[x.name]
        i = int(np.argmax(off / np.where(bound > 0, bound, 1)))
        yield together(off, bound, terms, f"sample {i} of {x.name}")


@identity(
    "Diagonal and class means are collinear",
    "p_cc v_cc = -p_c v_c, so the diagonal term is p_c / p_cc times the class term",
    of_scores,
    question="data",
)
def L4(study: Study) -> Iterator[Comparison]:
    """Compare p_cc v_cc + p_c v_c with the sum of scores, on all gradients; both 0."""
    M, moment = study.once(cell_rows)["gradients"], study.fisher
    norms = backend.to_host(structure.cell_norms(moment))
    s = backend.to_host(study.snapshot.sample_weights)
    accuracy = s * score_bound(study, "gradients")
    sides = []
    g = rounding.gamma(level_roundings(moment) + sum(moment.shape), study.u)
    for c, i, j in class_slices(moment.offsets):
        own = norms[c, c] * M[c, c]
        others = np.delete(norms[c], c) @ np.delete(M[c], c, axis=0)
        parts = []
        for x in study.snapshot.layers:
            score = s[i:j, None, None] * study.once(scores)[x.name][i:j]
            h = backend.to_host(x.features[i:j, ...]).reshape(-1, x.features.shape[2])
            parts.append((score.reshape(-1, score.shape[2]).T @ h).reshape(-1))
        terms = norm(own) + norm(others)
        size = float(norms[c] @ lengths(M[c], 1))
        size += float(np.sum(s[i:j, None] * p_sizes(study)[i:j]))
        gap = norm(own + others - np.concatenate(parts))
        bound = 8 * g * size + study.tiny**0.5
        yield gap, bound, size, f"class {c}, with its scores"
        bound += float(np.sum(accuracy[i:j]))
        sides.append((norm(own + others), bound, terms))
    off, bounds, sizes = np.asarray(sides).T
    c = int(np.argmax(off / np.where(bounds > 0, bounds, 1)))
    yield together(off, bounds, sizes, f"class {c}")


def p_sizes(study: Study) -> np.ndarray:
    """Return p_{i,c'} times a bound of ||g_{i,c'}||, shape (N, C)."""
    p = backend.to_host(study.snapshot.probabilities)
    return np.asarray(p * study.once(sizes_of_rows))


@identity(
    "The 2019 convention is plain means",
    "G = G0 + G1 + G2 + G3 with delta = sqrt(p) g and plain means",
)
def L5(study: Study) -> Iterator[Comparison]:
    """Build the four terms of the 2019 paper, with plain means of sqrt(p) g."""
    s = backend.to_host(study.snapshot.sample_weights)
    for name, moment in study.moments.items():
        Y = study.images[name]
        if not moment.scored:
            continue
        levels = structure.decompose(structure.plain_means(moment)).levels
        C, one = Y.shape[1], float(np.sum(Y * Y))
        terms = {n: np.zeros((Y.shape[2],) * 2) for n in levels}
        for c, i, j in class_slices(moment.offsets):
            mass, root = float(np.sum(s[i:j])), np.sqrt(s[i:j])[:, None, None]
            if mass == 0:
                continue
            v = (root * Y[i:j]).sum(0) / mass
            others = np.delete(v, c, axis=0)
            own = others.mean(0)
            terms["diagonal"] += mass * np.outer(v[c], v[c])
            terms["between_class"] += mass * (C - 1) * np.outer(own, own)
            terms["between_cross_class"] += mass * (others - own).T @ (others - own)
            rest = (Y[i:j] - root * v).reshape(-1, Y.shape[2])
            terms["within_cross_class"] += rest.T @ rest
        g = rounding.gamma(level_roundings(moment), study.u)
        there = backend.from_host(Y, moment.weights)
        for n, expected in terms.items():
            x = backend.to_host(levels[n].project(there)).reshape(-1, Y.shape[2])
            gap = np.linalg.norm(x.T @ x - expected)
            yield float(gap), 8 * g * one, one, f"{n} of {name}, plain means"


@identity(
    "Features split off the global mean",
    "H = h_G h_G' + sum_c pi_c (h_c - h_G)(.)' + within, ranks 1 and C - 1",
)
def L6(study: Study) -> Iterator[Comparison]:
    """Build global and class means from the features themselves."""
    s = backend.to_host(study.snapshot.sample_weights)
    for x in study.snapshot.layers:
        moment = study.moments[f"features of {x.name}"]
        V = study.probes(moment.shape[1], 4)
        h = backend.to_host(x.features).reshape(len(s), -1)
        y = h @ V
        mass = np.asarray([s[i:j].sum() for _, i, j in class_slices(moment.offsets)])
        own = np.stack([s[i:j] @ y[i:j] for _, i, j in class_slices(moment.offsets)])
        own /= np.where(mass > 0, mass, 1)[:, None]
        overall = s @ y
        size = float(s @ np.sum(h * h, axis=1)) * float(np.sum(V * V))
        g = rounding.gamma(level_roundings(moment) + sum(moment.shape), study.u)
        levels = structure.decompose(moment).levels
        there = backend.from_host(V, moment.weights)
        for n, expected in (
            ("global_mean", np.outer(overall, overall)),
            ("between_class", _second(own - overall, mass)),
        ):
            gap = backend.to_host(levels[n].matvec(there))
            away = float(np.abs(V.T @ gap - expected).max())
            yield away, 8 * g * size, norm(expected), f"{n}, {x.name}"


@identity(
    "Global split of the class term",
    "V_class = m v_G v_G' + sum_c p_c (v_c - v_G)(.)', ranks 1 and C - 1",
)
def L7(study: Study) -> Iterator[Comparison]:
    """Split the class term in the global mean of the class means and the rest."""
    for name, moment in study.moments.items():
        if not moment.scored:
            continue
        v, p = study.once(defined_cell_means)[name]
        own, mass = defined_class_means(v, p)
        total = float(np.sum(mass))
        overall = (mass @ own) / total if total > 0 else 0 * own[0]
        # roots of the masses first: where they all but vanish, squared means overflow
        split = _second(overall[None], np.asarray([total]))
        split = split + _second(own - overall, mass)
        g = rounding.gamma(level_roundings(moment), study.u)
        Y = backend.from_host(study.images[name], moment.weights)
        x = backend.to_host(
            structure.decompose(moment).levels["between_class"].project(Y)
        )
        x = x.reshape(-1, Y.shape[2])
        one = float(np.sum(study.images[name] ** 2))
        away = float(np.linalg.norm(x.T @ x - split))
        yield away, 8 * g * one, one, f"class term of {name}"


def _logits_layer(study: Study) -> str:
    """Say whether the last layer's outputs are the logits.

    By the network; without one by most samples, so that a few wrong ones are found.
    """
    x = study.snapshot.layers[-1]
    N, C = study.snapshot.probabilities.shape
    if tuple(x.errors.shape[2:]) != (1, C):
        return f"the last layer, {x.name}, does not have C outputs at one position"
    if study.snapshot.model is not None:
        last = study.snapshot.model.operations[-1]
        ends = last["op"] == "linear" and last.get("name") == x.name
        return "" if ends else f"{x.name} is not the network's last operation"
    off, bound = study.once(_seed_gaps)
    if 2 * np.sum((off <= bound).all(axis=(1, 2))) < N:
        return f"the outputs of the last layer, {x.name}, are not the logits"
    return ""


def _seed_gaps(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Return |delta - (p - e_c')| of the last layer and its bound, (N, C, C)."""
    p = backend.to_host(study.snapshot.probabilities)
    C = p.shape[1]
    errors = backend.to_host(study.snapshot.layers[-1].errors)[:, :, 0, :]
    g = study.once(seed_accuracy)[:, None, None]
    # entry c' is minus the sum of the others, and has what each of them is off by
    others = np.eye(C) * (1 - np.minimum(p, 1))[:, None, :]
    bound = g * (p[:, None, :] + others) + 4 * study.stored * np.eye(C) + LEAST
    return np.abs(errors - (p[:, None, :] - np.eye(C))), bound


@identity(
    "Errors at the logits",
    "delta = p - e_c' at the logits, so 1'delta = 0 and the rank is at most C - 1",
    _logits_layer,
    as_stored=True,
    question="data",
)
def L8(study: Study) -> Iterator[Comparison]:
    """Errors of the last layer are p - e_c'; they sum to 0, so the rank is C - 1."""
    off, most = study.once(_seed_gaps)
    i = np.unravel_index(int(np.argmax(off / most)), off.shape)
    what = f"sample {i[0]}, c' = {i[1]}, logit {i[2]}"
    errors = backend.to_host(study.snapshot.layers[-1].errors)[:, :, 0, :]
    yield together(off.reshape(-1), most.reshape(-1), errors.reshape(-1), what)
    name = f"errors of {study.snapshot.layers[-1].name}"
    moment = study.moments[name]
    values = np.linalg.eigvalsh(backend.to_host(moment.matrix()))
    s, k = backend.to_host(study.snapshot.sample_weights), moment.shape[1]
    score = most.sum(axis=2).max(axis=1)
    radius = 2 * rounding.second_moment_radius(
        sum(moment.shape), moment.trace(), study.u
    )
    radius += rounding.eigensolver_radius(k, moment.trace(), study.u)
    bound = radius + float(np.sum(s * score**2)) + study.tiny
    yield float(values[0]), bound, moment.trace(), f"rank C - 1, {name}"
