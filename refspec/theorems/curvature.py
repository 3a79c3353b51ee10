"""Checks of theory/curvature.md: second moments, the Fisher, Khatri-Rao, interlacing.

The second path is loops over samples and cross classes on the host, from the stored
features and errors, never the factors of `refspec.curvature`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from refspec import backend, curvature, factors, models, rounding
from refspec.classes import class_slices
from refspec.differentiated import Differentiated, Jacobian
from refspec.grams import held
from refspec.shards import joined
from refspec.spectra import Spectrum, spectrum
from refspec.synthetic import linear
from refspec.theorems.canonical import few_classes
from refspec.theorems.quantities import (
    cell_rows,
    gradient_norms,
    level_roundings,
    norm,
    score_norms,
    sizes_of_rows,
)
from refspec.theorems.registry import Comparison, identity, inequality
from refspec.theorems.study import Study

_INPUTS = 5  # of linear networks; their hidden layers, with a bottleneck and without
_HIDDEN = ((6, 2, 4), (7,), ())
_FEW = 24  # rows of the Gram matrix that are compared entry by entry


def gradients(study: Study, i: int) -> np.ndarray:
    """Return the extended gradients of sample i by the definition, shape (C, P)."""
    parts = []
    for x in study.snapshot.layers:
        h, e = (backend.to_host(y[i, ...]) for y in (x.features, x.errors))
        rows = [e[:, t, :, None] * h[t, None, :] for t in range(h.shape[0])]
        parts.append(np.sum(rows, axis=0).reshape(e.shape[0], -1))
    return np.asarray(np.concatenate(parts, axis=1))


def directions(study: Study) -> np.ndarray:
    """Return three random directions of the parameter space, shape (P, 3)."""
    P = study.fisher.shape[1]
    return np.asarray(study.probes(P, 3) / P**0.5)


def derivatives(study: Study) -> np.ndarray:
    """Return every gradient in those directions, g_{i,c'}'V, shape (N, C, 3)."""
    N, C = study.snapshot.probabilities.shape
    V, total, start = study.once(directions), np.zeros((N, C, 3)), 0
    for x in study.snapshot.layers:
        h, e = backend.to_host(x.features), backend.to_host(x.errors)
        part = V[start : start + x.parameters].reshape(e.shape[3], h.shape[2], 3)
        start += x.parameters
        for t in range(h.shape[1]):
            for k in range(3):
                total[:, :, k] += (
                    e[:, :, t] @ (part[:, :, k] @ h[:, t].T).T[..., None]
                )[..., 0]
    return total


@identity(
    "Second moments are expected outer products",
    "X'X = sum_{i,c'} w g g' for rows sqrt(w) g, g = sum_t errors (x) features",
)
def C1(study: Study) -> Iterator[Comparison]:
    """Compare X'XV with the expected outer product, in three directions."""
    V, D, moment = study.once(directions), study.once(derivatives), study.fisher
    s = backend.to_host(study.snapshot.sample_weights)
    w = s[:, None] * backend.to_host(study.snapshot.probabilities)
    trace, k = moment.trace(), sum(moment.shape) + 64
    size = trace * float(np.sum(V * V))
    form = sum(D[i].T @ (w[i][:, None] * D[i]) for i in range(len(s)))
    found = V.T @ backend.to_host(moment.matvec(backend.from_host(V, moment.weights)))
    bound = 4 * rounding.second_moment_radius(k, size, study.u)
    away = float(np.abs(found - form).max())
    yield away, bound + study.tiny, norm(form), "V'X'XV by loops"
    norms = study.once(gradient_norms)
    exact = [x.features.shape[1] == 1 for x in study.snapshot.layers]
    if all(exact):  # ||g|| = ||delta|| ||h|| where there is one position
        direct = float(sum(np.sum(w * x * x) for x in norms.values()))
        bound = 4 * rounding.second_moment_radius(k, trace, study.u)
        yield abs(direct - trace), bound + study.tiny, trace, "trace by norms"


@identity(
    "Khatri-Rao: Gram matrices multiply and add",
    "XX' = sum over layers of (errors errors') o (features features')",
)
def C2(study: Study) -> Iterator[Comparison]:
    """Compare rows of the Gram matrix with products of explicit gradients."""
    snapshot, moment = study.snapshot, study.fisher
    N, C = snapshot.probabilities.shape
    chosen = np.random.default_rng(study.seed).permutation(N)[: max(2, _FEW // C)]
    s = backend.to_host(snapshot.sample_weights)
    root = np.sqrt(s[:, None]) * np.sqrt(backend.to_host(snapshot.probabilities))
    rows = {i: root[i][:, None] * gradients(study, i) for i in chosen.tolist()}
    X = np.concatenate(list(rows.values()))
    pivots = (chosen[:, None] * C + np.arange(C)).reshape(-1)
    there = backend.from_host(pivots, moment.weights)
    ends = np.cumsum([0, *(x.parameters for x in snapshot.layers)])
    parts = [
        (curvature.fisher(snapshot, [x.name]).rows, X[:, i:j])
        for x, i, j in zip(snapshot.layers, ends, ends[1:], strict=False)
    ]
    parts.append((moment.rows, X))
    names = [*(x.name for x in snapshot.layers), "all exported layers"]
    for name, (mine, x) in zip(names, parts, strict=True):
        K = backend.to_host(mine.gram(there))[:, pivots]
        norms = factors.lengths(x, 1)
        size = float(norms @ norms)
        g = 2 * rounding.second_moment_radius(x.shape[1] + 64, size, study.u)
        away = float(np.abs(K - x @ x.T).max())
        yield away, g + study.tiny, norm(K), f"Gram of {name}"
    if moment.shape[1] <= 4096:
        V = study.once(directions)
        direct = backend.to_host(moment.matrix()) @ V
        through = backend.to_host(moment.matvec(backend.from_host(V, moment.weights)))
        size = moment.trace() * float(np.sum(V * V)) ** 0.5
        bound = 4 * rounding.second_moment_radius(sum(moment.shape), size, study.u)
        away = float(np.abs(direct - through).max())
        yield away, bound + study.tiny, norm(direct), "blocks of X'X"


@identity(
    "Fisher = Gauss-Newton",
    "sum_{i,c'} s_i p_{i,c'} g g' = sum_i s_i J'(diag p - pp')J (+ scores, 0)",
)
def C3(study: Study) -> Iterator[Comparison]:
    """Compare V'GV with V'J'(diag p - pp')JV and the scores, J from differences."""
    V, D, moment = study.once(directions), study.once(derivatives), study.fisher
    s = backend.to_host(study.snapshot.sample_weights)
    p, sizes = backend.to_host(study.snapshot.probabilities), study.once(sizes_of_rows)
    form, spread = np.zeros((3, 3)), moment.trace()
    for c, i, j in class_slices(moment.offsets):
        J = D[i:j, c : c + 1] - D[i:j]  # J_c' - J_c: (diag p - pp') 1 = 0
        mean = np.sum(p[i:j, :, None] * J, axis=1, keepdims=True)
        J = (np.sqrt(s[i:j, None] * p[i:j])[:, :, None] * (J - mean)).reshape(-1, 3)
        scores = np.sqrt(s[i:j])[:, None] * np.sum(p[i:j, :, None] * D[i:j], axis=1)
        form += J.T @ J + scores.T @ scores
        others = np.arange(p.shape[1]) != c
        both = sizes[i:j] + sizes[i:j, c : c + 1]
        spread += 2 * float(np.sum((s[i:j, None] * p[i:j] * both**2)[:, others]))
    found = V.T @ backend.to_host(moment.matvec(backend.from_host(V, moment.weights)))
    size = spread * float(np.sum(V * V))
    bound = 8 * rounding.second_moment_radius(sum(moment.shape) + 64, size, study.u)
    away = float(np.abs(found - form).max())
    yield away, bound + study.tiny, norm(form), "V'GV"


@inequality(
    "The empirical Fisher is another matrix",
    "p_c g_c g_c' <= (1 - p_c) F_i, F_i = sum_c' p_c' g g': it vanishes in a fit",
)
def C4(study: Study) -> Iterator[Comparison]:
    """Bound the gradient at the label by the others, by Cauchy-Schwarz."""
    snapshot, own = study.snapshot, curvature.empirical_fisher(study.snapshot)
    p, labels = backend.to_host(snapshot.probabilities), snapshot.labels
    s = backend.to_host(snapshot.sample_weights)
    correct = p[np.arange(len(labels)), labels]
    is_other = np.arange(p.shape[1]) != labels[:, None]
    wrong = np.sum(p * is_other, axis=1)
    mine = correct * np.sqrt(backend.to_host(own.rows.squares())[:, 0])
    rest = np.sum(backend.to_host(study.fisher.rows.squares()) * is_other, axis=1)
    limit = np.sqrt(wrong) * np.sqrt(rest)
    g = rounding.gamma(sum(study.fisher.shape) + 64, study.u)
    bound = np.sqrt(s) * study.once(score_norms) + 2 * g * (mine + limit)
    bound += study.tiny**0.5
    i = int(np.argmax((mine - limit) / np.where(bound > 0, bound, 1)))
    yield mine[i] - limit[i], bound[i], mine[i] + limit[i], f"sample {i}"


@identity(
    "C - 1 rows a sample",
    "X'X = Y'Y + the scores' second moment, Y_c' = X_c' - u_c' X_c / (1 + u_c)",
)
def C5(study: Study) -> Iterator[Comparison]:
    """Compare reduced rows and the scores left out with all rows."""
    reduced = curvature.score_reduced(study.fisher)
    moment, V = study.fisher, study.once(directions)
    trace, there = moment.trace(), backend.from_host(V, moment.weights)
    X, Y = (backend.to_host(rows.dot(there)) for rows in (moment.rows, reduced))
    root = np.sqrt(backend.to_host(study.snapshot.probabilities))[:, :, None]
    few, left, whole = Y.reshape(-1, 3), np.sum(root * X, axis=1), X.reshape(-1, 3)
    form = whole.T @ whole
    gap = np.abs(few.T @ few + left.T @ left - form).max()
    size = trace * float(np.sum(V * V))
    bound = 8 * rounding.second_moment_radius(sum(moment.shape) + 64, size, study.u)
    what = "second moment of reduced rows and scores"
    yield float(gap), bound + study.tiny, norm(form), what


def spectra_of_layers(study: Study) -> list[Spectrum]:
    """Return the spectrum of every layer's block of the Fisher."""
    study.expect_all()
    names = [x.name for x in study.snapshot.layers]
    return [spectrum(study.moments[f"gradients of {n}"]) for n in names]


def _one_layer(study: Study) -> str:
    """Say that there is no block inside the whole where there is one layer."""
    return "" if len(study.snapshot.layers) > 1 else "needs two layers at least"


@inequality(
    "Layer blocks interlace",
    "lambda_{k+P-P_l}(G) <= lambda_k(G_l) <= lambda_k(G)",
    _one_layer,
    question="data",
)
def C6(study: Study) -> Iterator[Comparison]:
    """Compare the spectrum of every layer block with that of the whole."""
    whole = study.basis.spectrum
    above = np.zeros(whole.dimension)
    values = backend.to_host(whole.values)
    above[: len(values)] = values
    for x, part in zip(
        study.snapshot.layers, study.once(spectra_of_layers), strict=True
    ):
        mine = np.zeros(part.dimension)
        found = backend.to_host(part.values)
        mine[: len(found)] = found
        radius = whole.radius + part.radius + study.tiny
        over, largest = float(np.max(mine - above[: len(mine)])), float(above[0])
        yield over, radius, largest, f"block of {x.name} below the whole"
        over = float(np.max(above[len(above) - len(mine) :] - mine))
        yield over, radius, largest, f"block of {x.name} above the whole's"


@identity(
    "Gradient means are Kronecker products of means, plus a covariance",
    "g_cc' = delta_cc' (x) h_cc' + Cov, ||Cov|| <= spread(h) spread(delta)",
)
def C7(study: Study) -> Iterator[Comparison]:
    """Compare gradient means with Kronecker products of means, cell by cell."""
    cells, moment, start = study.once(cell_rows)["gradients"], study.fisher, 0
    w = backend.to_host(moment.weights)
    g = rounding.gamma(level_roundings(moment) + sum(moment.shape), study.u)
    for x in study.snapshot.layers:
        part = cells[:, :, start : start + x.parameters]
        start += x.parameters
        h, e = backend.to_host(x.features), backend.to_host(x.errors)
        for c, i, j in class_slices(moment.offsets):
            for k in range(w.shape[1]):
                mass = float(np.sum(w[i:j, k]))
                if mass <= study.tiny / study.u:  # weights have lost their digits
                    continue
                q, H, E = w[i:j, k] / mass, h[i:j], e[i:j, k]
                mean, error = np.tensordot(q, H, 1), np.tensordot(q, E, 1)
                rest_h, rest_e = H - mean, E - error
                # sums over samples and positions of errors (x) features
                root = np.sqrt(q)[:, None, None]
                a = (root * rest_e).reshape(-1, e.shape[3])
                b = (root * rest_h).reshape(-1, h.shape[2])
                covariance = a.T @ b
                found = part[c, k].reshape(e.shape[3], -1) / mass**0.5
                gap = found - error.T @ mean - covariance
                size = norm(root * E) * norm(root * H)
                where = f"cell ({c}, {k}) of {x.name}"
                bound = 8 * g * size + study.tiny**0.5
                yield norm(gap), bound, size, where
                over = norm(found - error.T @ mean) - norm(a) * norm(b)
                yield over, bound, size, f"Cauchy-Schwarz, {where}"


class _Array(Jacobian):
    """A derivative (N, C, P) that is known explicitly."""

    def __init__(self, entries: np.ndarray) -> None:
        self.entries = entries

    @property
    def shape(self) -> tuple[int, int, int]:
        N, C, P = self.entries.shape
        return N, C, P

    @property
    def like(self) -> np.ndarray:
        return self.entries

    def dot(self, V: np.ndarray, i: int, j: int) -> np.ndarray:
        return np.asarray(self.entries[i:j] @ V)

    def cross(self, S: np.ndarray, i: int, j: int) -> np.ndarray:
        C, P = self.shape[1:]
        flat = self.entries[i:j].reshape(-1, P)
        return np.asarray(flat.T @ S.reshape((j - i) * C, -1))


@identity(
    "Rows by differentiation",
    "x_c'V = sqrt(w_c') (p'(T - T_k) - (T_c' - T_k)), T = JV, k the most probable",
)
def C8(study: Study) -> Iterator[Comparison]:
    """Make rows of differences of gradients, -J up to a common term; and transpose."""
    D, s = study.once(derivatives), backend.to_host(study.snapshot.sample_weights)
    p, sizes = backend.to_host(study.snapshot.probabilities), study.once(sizes_of_rows)
    N, C, m = D.shape
    every, top = np.arange(N), np.argmax(p, axis=1)
    T, roots = D[every, top][:, None] - D, np.sqrt(s)[:, None] * np.sqrt(p)
    rows, g = Differentiated(_Array(T), p, roots), rounding.gamma(4 * C + 64, study.u)
    X, scale = rows.dot(np.eye(m, dtype=T.dtype)), roots[:, :, None]
    scores = np.sum(p[:, :, None] * D, axis=1, keepdims=True)
    both = sizes + sizes[every, top][:, None]
    size = norm(roots * (both + np.sum(p * both, axis=1, keepdims=True)))
    size *= float(np.linalg.norm(study.once(directions)))
    k = rounding.gamma(sum(study.fisher.shape) + 64, study.u)
    gap = norm(X - scale * (D - scores))
    yield gap, 4 * k * size + study.tiny, norm(X), "rows and gradients"
    misses = p[:, None, :] * (1 - np.eye(C, dtype=p.dtype))
    misses -= np.sum(misses, axis=2, keepdims=True) * np.eye(C, dtype=p.dtype)
    exact, terms = scale * (misses @ T), scale * (np.abs(misses) @ np.abs(T))
    bound = 2 * g * terms + study.tiny
    worst = np.unravel_index(np.argmax(np.abs(X - exact) / bound), X.shape)
    gap = abs(X - exact)[worst]
    yield gap, bound[worst], terms[worst], "a row, to relative accuracy"
    Z = study.probes(N, C, m).astype(T.dtype)
    exact = X.reshape(-1, m).T @ Z.reshape(-1, m)
    bound = rounding.gamma(4 * N * C + 64, study.u) * norm(Z) * size
    yield norm(rows.cross(Z) - exact), bound + study.tiny, norm(exact), "the transpose"


@identity("Rows of shards", "Xv = pieces of the shards, X'z = the sum of theirs")
def C9(study: Study) -> Iterator[Comparison]:
    """Put every other sample into a shard of its own, and join the two again."""
    whole = study.fisher
    V = backend.from_host(study.once(directions), whole.weights)
    T = backend.to_host(whole.rows.dot(V))
    N, K, m = T.shape
    order, shards = _dealt(whole.offsets), []
    for k in range(min(2, N)):
        some = np.arange(k, N, 2)
        rows = T[some] / np.sqrt(T.dtype.type(len(some) / N))
        offsets = tuple(np.searchsorted(some, whole.offsets).tolist())
        weights = backend.to_host(whole.weights)[some] * T.dtype.type(N / len(some))
        factors_of = factors.Factors((factors.Factor(rows[:, :, None, :], None),))
        shards.append(curvature.SecondMoment(factors_of, weights, offsets))
    rows, T = joined(shards).rows, T[order]
    size, g = norm(T), rounding.gamma(N * K + m + 64, study.u)
    one = np.eye(m, dtype=T.dtype)
    gap = norm(rows.dot(one) - T)
    yield gap, rounding.gamma(16, study.u) * size + study.tiny, size, "pieces"
    Z = study.probes(N, K, m).astype(T.dtype)
    images = T.reshape(-1, m).T @ Z.reshape(-1, m)
    scale = norm(Z) * size
    gap = norm(rows.cross(Z) - images)
    yield gap, g * scale + study.tiny, scale, "the sum"
    gap = norm(rows.gram_times(Z) - T @ images)
    yield gap, 2 * g * scale * size + study.tiny, scale * size, "there and back"
    gap = norm(rows.second_times(one) - T.reshape(-1, m).T @ T.reshape(-1, m))
    yield gap, 2 * g * size * size + study.tiny, size * size, "every shard both ways"


def _dealt(offsets: tuple[int, ...]) -> np.ndarray:
    """Return the samples class by class, the even ones of each first."""
    return np.concatenate(
        [
            np.arange(i + (i + k) % 2, j, 2)
            for _, i, j in class_slices(offsets)
            for k in (0, 1)
        ]
    )


@identity(
    "The rank of a deep linear network's Fisher",
    "sum_l a_l b_l - sum_l a_l b_(l+1), ranks above and below; q(r + C - 1 - q)",
    few_classes,
)
def C10(study: Study) -> Iterator[Comparison]:
    """Count the eigenvalues of linear networks with and without a bottleneck."""
    C = study.snapshot.probabilities.shape[1]
    rng = np.random.default_rng(study.seed)
    labels = np.repeat(np.arange(C), 3)
    X = rng.standard_normal((len(labels), _INPUTS))
    for hidden in _HIDDEN:
        widths = [_INPUTS, *hidden, C]
        network = _linear(widths, rng)
        seen = models.snapshot(network, X, labels)
        found = spectrum(curvature.fisher(seen))
        rank = linear.fisher_rank(widths, min(_INPUTS, len(labels)))
        values, what = backend.to_host(found.values), f"widths {widths}"
        beyond = np.pad(values, (0, rank + 1))[rank]
        yield float(beyond), found.radius, float(values[0]), f"beyond the rank, {what}"
        missing = rank - float(np.sum(values > found.radius))
        yield missing, 0.0, rank, f"rank {rank}, {what}"


def _linear(widths: list[int], rng: np.random.Generator) -> models.Network:
    """Return a network of linear layers without biases, weights of singular value 1."""
    steps, weights = [], {}
    for k, (a, b) in enumerate(pairwise(widths)):
        U, _, V = np.linalg.svd(rng.standard_normal((b, a)), full_matrices=False)
        weights[f"W{k}"] = U @ V
        steps.append({"op": "linear", "name": f"l{k}", "weight": f"W{k}", "bias": None})
    return models.Network(steps, weights)


@identity(
    "One Gram matrix, of C - 1 rows a sample, layer by layer",
    "XX' = R'YY'R, Y = RX; YY' = sum_l (RX_l)(RX_l)'",
)
def C11(study: Study) -> Iterator[Comparison]:
    """Compare products and the diagonal of what is held with those of the rows."""
    moment = study.fisher
    rows, made = moment.rows, held(moment)
    N, K, _ = rows.shape
    trace, Z = moment.trace(), study.probes(N, K, 3)
    there = backend.beside(Z, moment.weights)
    right = backend.to_host(rows.gram_times(there))
    found = backend.to_host(made.gram_times(there))
    k = sum(moment.shape) + 8 * K + 64
    bound = 4 * rounding.second_moment_radius(k, trace, study.u) + made.off + study.tiny
    yield norm(found - right), bound * norm(Z), norm(right), "products"
    squares, true = (backend.to_host(x.squares()) for x in (made, rows))
    gap, size = norm(squares - true), norm(true)
    yield gap, bound, size, "the diagonal"
    if made.unit is None or not isinstance(rows, factors.Factors):
        return
    total = None
    for f in rows.layers:
        one = factors.Factors((f,)).reduced(made.unit, made.offsets)
        total = one.outer(total)
    kept = backend.to_host(made.held)
    yield norm(backend.to_host(total) - kept), bound, norm(kept), "layer by layer"
