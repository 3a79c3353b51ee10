"""Checks of theory/kronecker.md: KFAC, EKFAC and CFAC of the layers of a snapshot.

Operators are compared by what they do to random vectors, where no matrix is needed:
if the difference of two operators has a norm of at most e, it moves z by e |z|.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from refspec import curvature, rounding, structure
from refspec.classes import Layer, Snapshot
from refspec.factors import lengths
from refspec.kronecker import (
    Kronecker,
    KroneckerBasis,
    KroneckerSum,
    class_factors,
    damped_solve,
    ekfac,
    factored_tikhonov,
    kfac,
    origins,
)
from refspec.kronecker.classwise import kfac_error, running_average
from refspec.kronecker.conventions import CONVENTIONS, placement
from refspec.kronecker.eigensystems import certified_spectrum
from refspec.kronecker.operators import column_stacked
from refspec.synthetic.groups import Group, canonical_groups
from refspec.theorems.canonical import (
    canonical,
    exact_samples,
    few_classes,
    spread_out,
)
from refspec.theorems.factored import (
    DENSE,
    Factored,
    dense_layers,
    factored,
    layer_probes,
    narrow,
    on_host,
    reach,
    smaller_than,
    without_positions,
)
from refspec.theorems.quantities import norm
from refspec.theorems.registry import (
    Comparison,
    identity,
    inequality,
    lemma,
    statistical,
)
from refspec.theorems.study import Study

_U = 2.0**-53
_SAMPLES = 20  # whose labels are drawn
_LABELS = 1024  # drawn per sample
_DRAWN = 2**21  # numbers in the errors of all drawn labels
_FORMS = 2  # quadratic forms of a drawn factor
_PAIRS = 2**24  # numbers in the factors of all pairs of classes
_SMALL = smaller_than(DENSE)
_FAR = 2.0**-24  # where the first of two solutions stops
_LEVELS = {"outlier": ("diagonal", "between_class"), "bump": ("between_cross_class",)}


@identity(
    "Order of the factors",
    "(L (x) R) row(V) = row(L V R'); delta h' is delta (x) h in row order",
    narrow,
)
def K1(study: Study) -> Iterator[Comparison]:
    """(L (x) R)(delta (x) h) = L delta (x) R h; column order is the transpose."""
    for x in study.once(factored):
        h, d = _unit(x.layer.features[:, 0]), _unit(x.layer.errors[:, 0, 0])
        rows = (d[:, :, None] * h[:, None, :]).reshape(len(h), -1).T
        columns = (h[:, :, None] * d[:, None, :]).reshape(len(h), -1).T
        away = column_stacked(rows, x.b, x.a) - columns
        yield float(np.max(np.abs(away))), 0.0, 1.0, f"column order of {x.layer.name}"
        L, R = x.kfac.left, x.kfac.right
        images = ((d @ L)[:, :, None] * (h @ R)[:, None, :]).reshape(len(h), -1).T
        size = float(np.max(lengths(rows, 0)))
        bound = size * (rounding.gamma(4 * (x.a + x.b), study.u) * x.scale + x.slack)
        away = float(np.max(lengths(x.kfac.matvec(rows) - images, 0)))
        size = float(np.max(lengths(images, 0)))
        yield away, bound, size, f"KFAC of a gradient of {x.layer.name}"
        product = norm(np.outer(lengths(L, 0), lengths(R, 0)))
        bound = rounding.gamma(2 * (x.a + x.b) ** 2, study.u) * x.scale + x.slack
        away = abs(x.kfac.frobenius_norm() - product)
        yield away, bound, product, f"norm of KFAC of {x.layer.name}"


def _unit(x: np.ndarray) -> np.ndarray:
    """Scale a matrix to norm 1, if it is not 0."""
    size = norm(x)
    return x / size if size > 0 else x


def _spectra(
    operator: Kronecker | KroneckerSum, u: float, slack: float, of: str
) -> Comparison:
    """Compare an operator's certified eigenvalues with those of its dense matrix."""
    values, radius = operator.certified_eigenvalues()
    dense, other = certified_spectrum(operator.matrix())
    formed = rounding.gamma(operator.dimension + 8, u) * operator.frobenius_norm()
    away = float(np.max(np.abs(values - dense)))
    return away, radius + other + formed + slack, float(dense[0]), of


@identity(
    "Spectrum of one Kronecker product",
    "the eigenvalues of L (x) R are the products mu_j nu_k",
    narrow,
)
def K2(study: Study) -> Iterator[Comparison]:
    """Products of eigenvalues; their sum and sum of squares for every layer."""
    for x in study.once(factored):
        values, radius = x.kfac.certified_eigenvalues()
        n, g = len(values), rounding.gamma(2 * len(values) + 8, study.u)
        bound = n * radius + g * n * x.scale + x.slack
        away = abs(float(np.sum(values)) - x.kfac.trace())
        yield away, bound, x.kfac.trace(), f"sum of the eigenvalues of {x.layer.name}"
    for x in dense_layers(study):
        yield _spectra(x.kfac, study.u, x.slack, f"KFAC of {x.layer.name}")


@identity(
    "Spectrum of a sum of Kronecker products",
    "sum pi_c L_c (x) R_c has the non-zero eigenvalues of its roots' Gram matrix",
    _SMALL,
)
def K3(study: Study) -> Iterator[Comparison]:
    """Diagonalise CFAC, and the CFAC of one sample a class: by its roots, if few."""
    host = study.once(on_host)
    first = [i for i, j in pairwise(host.offsets) if i < j]
    few = Study(_taken(host, first))
    for what, chosen in (("all samples", study), ("one sample a class", few)):
        for x in dense_layers(chosen):
            yield _spectra(x.cfac, study.u, x.slack, f"CFAC of {x.layer.name}, {what}")


def _taken(s: Snapshot, index: Sequence[int]) -> Snapshot:
    """Return some samples, in order, with equal weights."""
    i = np.asarray(index)
    layers = tuple(Layer(x.name, x.features[i], x.errors[i]) for x in s.layers)
    w = np.full(len(i), 1 / len(i)).astype(s.sample_weights.dtype)
    return Snapshot(layers, s.probabilities[i], s.labels[i], w, s.provenance)


@identity(
    "The factors and their rounding",
    "H_c, Delta_c are means over the class; tr F - tr CFAC is a covariance",
    narrow,
)
def K4(study: Study) -> Iterator[Comparison]:
    """Factors as sums over the samples; the traces."""
    s = study.once(on_host)
    for x in study.once(factored):
        h, d = x.layer.features, x.layer.errors
        w = s.sample_weights[:, None] * s.probabilities
        T, name = h.shape[1], x.layer.name
        pairs = []
        for c, (i, j) in enumerate(pairwise(s.offsets)):
            rows = (h[i:j] * s.sample_weights[i:j, None, None] / T).reshape(-1, x.a)
            H = rows.T @ h[i:j].reshape(-1, x.a)
            rows = (d[i:j] * w[i:j, :, None, None]).reshape(-1, x.b)
            D = rows.T @ d[i:j].reshape(-1, x.b)
            pi = x.factors.frequencies[c]
            pairs.append((H, pi * x.factors.features[c], f"H_{c} of {name}"))
            pairs.append((D, pi * x.factors.errors[c], f"Delta_{c} of {name}"))
        pairs.append((sum(p[0] for p in pairs[0::2]), x.kfac.right, f"H of {name}"))
        pairs.append(
            (sum(p[0] for p in pairs[1:-1:2]), x.kfac.left, f"Delta of {name}")
        )
        k = rounding.gamma(4 * int(np.prod(d.shape[:3])) + 64, study.u)
        kind, sizes = np.finfo(d.dtype), norm(h) + norm(d)
        tiny = float(kind.tiny) * (1 + sizes)
        tiny += float(kind.smallest_subnormal) * sizes * sizes
        tiny *= x.a * x.b
        for direct, computed, what in pairs:
            traces = abs(float(np.trace(direct))) + abs(float(np.trace(computed)))
            size = norm(direct) + norm(computed)
            yield norm(direct - computed), k * traces + tiny, size, what
        if T == 1:
            trace = x.fisher.trace() - x.cfac.trace()
            own = np.sum(w * np.sum(d[:, :, 0] ** 2, axis=2), axis=1)
            size = np.sum(h[:, 0] ** 2, axis=1)
            within = size - np.trace(x.factors.features, axis1=1, axis2=2)[s.labels]
            # sum s (tr D - tr Delta_c)(.) = sum s tr D (.): the other factor is centred
            away = abs(trace - float(np.sum(own * within)))
            yield away, 8 * x.slack, x.cfac.trace(), f"tr F - tr CFAC of {name}"


@identity(
    "What KFAC leaves out: covariance between classes",
    "CFAC - KFAC = sum pi_c (Delta_c - Delta) (x) (H_c - H)",
    narrow,
)
def K5(study: Study) -> Iterator[Comparison]:
    """CFAC - KFAC is a covariance between classes; KFAC pairs all with all."""
    for x in study.once(factored):
        z, pi = layer_probes(study, x), x.factors.frequencies
        whole = x.cfac.matvec(z)
        size, gap = norm(whole), whole - x.kfac.matvec(z)
        # the covariance's terms are up to four times those of KFAC
        bound = 2 * reach(x, z, study.u)
        bound += abs(float(np.sum(pi)) - 1) * x.scale * norm(z)
        away = norm(gap - kfac_error(x.factors).matvec(z))
        yield away, bound, size, f"CFAC - KFAC of {x.layer.name}"
        C = len(pi)
        if C * C * (x.a**2 + x.b**2) > _PAIRS:
            continue
        one, other = np.repeat(np.arange(C), C), np.tile(np.arange(C), C)
        all_pairs = KroneckerSum(
            pi[one] * pi[other], x.factors.errors[one], x.factors.features[other]
        )
        away = norm(all_pairs.matvec(z) - x.kfac.matvec(z))
        yield away, bound, size, f"KFAC of {x.layer.name} by pairs of classes"


@identity(
    "What CFAC leaves out: covariance within classes",
    "F - CFAC = sum s_i (D_i - Delta_c) (x) (h_i h_i' - H_c), T = 1",
    without_positions,
)
def K6(study: Study) -> Iterator[Comparison]:
    """F - CFAC is a covariance within classes."""
    s = study.once(on_host)
    for x in study.once(factored):
        if x.layer.features.shape[1] > 1:
            continue
        z = layer_probes(study, x)
        V = z.T.reshape(-1, x.b, x.a)
        total, step = np.zeros_like(V), max(1, 2**22 // (x.b * (x.a + x.b)))
        runs = [slice(k, k + step) for k in range(0, len(s.labels), step)]
        for i in runs:  # D_i - Delta_c and v (h h' - H_c), some samples at a time
            h, d, c = x.layer.features[i, 0], x.layer.errors[i, :, 0], s.labels[i]
            D = np.swapaxes(d * s.probabilities[i, :, None], 1, 2) @ d
            D = s.sample_weights[i, None, None] * (D - x.factors.errors[c])
            for v, out in zip(V, total, strict=True):
                moved = (v @ h.T).T[:, :, None] * h[:, None, :]
                out += np.sum(D @ (moved - (v @ x.factors.features)[c]), axis=0)
        whole = x.fisher.matvec(z)
        gap = whole - x.cfac.matvec(z) - total.reshape(len(V), -1).T
        bound = 2 * reach(x, z, study.u)
        yield norm(gap), bound, norm(whole), f"F - CFAC of {x.layer.name}"


def _uncertain(study: Study) -> Snapshot:
    """Take a few samples in float64, the labels' probabilities halfway to chance."""
    s = study.once(on_host)
    C = s.probabilities.shape[1]
    each = max(1, _SAMPLES // C)
    few = _taken(s, [i for j, k in pairwise(s.offsets) for i in range(j, k)[:each]])
    layers = (
        Layer(x.name, x.features.astype(np.float64), x.errors.astype(np.float64))
        for x in few.layers
    )
    p = few.probabilities.astype(np.float64)
    p = (p / p.sum(axis=1, keepdims=True) + 1 / C) / 2
    weights = np.full(len(p), 1 / len(p))
    return Snapshot(tuple(layers), p, few.labels, weights, few.provenance)


@statistical(
    "Kinds of Fisher",
    "|z'(Delta_M - Delta)z| <= sqrt(2 V log(2/eta)) + R log(2/eta) / 3",
    narrow,
    coarse="20 samples of 1024 labels: sees 5 to 15 % of a trace, 30 % of a form",
)
def K7(study: Study) -> Iterator[Comparison]:
    """Bernstein with exact variances: some quadratic forms of Delta, and its trace."""
    s, layers = study.once(_uncertain), study.once(factored)
    p, w = s.probabilities, s.sample_weights
    log = math.log(2 * (_FORMS + 1) * len(layers) / rounding.FAILURE)
    for x in layers:
        name, errors = x.layer.name, s.layer(x.layer.name).errors
        M = max(1, min(_LABELS, _DRAWN // (len(w) * errors[0, 0].size)))
        rng = np.random.default_rng(study.seed)
        drawn = kfac(s, name, fisher="monte_carlo", rng=rng, samples=M).left
        z = study.probes(x.b, _FORMS) / x.b**0.5
        found = np.append(np.sum(z * (drawn @ z), axis=0), np.trace(drawn))
        squares = np.sum((errors @ z) ** 2, axis=2)
        squares = np.append(squares, np.sum(errors**2, axis=(2, 3))[..., None], axis=2)
        each = np.sum(p[:, :, None] * squares, axis=1)  # (N, forms)
        away = squares - each[:, None, :]
        variances = w**2 @ np.sum(p[:, :, None] * away**2, axis=1) / M
        ranges = np.max(w[:, None, None] * np.abs(away), axis=(0, 1)) / M
        bounds = np.sqrt(2 * variances * log) + ranges * log / 3
        rows = len(w) * M * errors.shape[2]
        bounds += rounding.gamma(rows + 4 * x.b + 64, _U) * (w @ each + found)
        for k, mean in enumerate(w @ each):
            what = "trace" if k == _FORMS else "a form"
            detail = f"{what} of Delta of {name}, {len(w)} x {M} labels"
            yield abs(found[k] - mean), bounds[k], mean, detail


@identity(
    "Settings and conventions",
    "expand is KFAC of NT samples; conventions move scalars between the factors",
    narrow,
)
def K8(study: Study) -> Iterator[Comparison]:
    """Expand is KFAC of all positions; conventions move scalars only."""
    s = study.once(on_host)
    for x in study.once(factored):
        z, (N, C, T, _) = layer_probes(study, x), x.layer.errors.shape
        want = x.kfac.matvec(z)
        bound = reach(x, z, study.u)
        for name in CONVENTIONS:
            made = kfac(s, x.layer.name, convention=name)
            how = placement(name, "expand", "exact", N=N, T=T, columns=C - 1)
            if name == "backpack" and T > 1:  # the exception: another operator
                continue
            away = norm(how.block * made.matvec(z) - want)
            yield away, bound, norm(want), f"{name} of {x.layer.name}"
        apart = Layer(
            "apart",
            x.layer.features.reshape(N * T, 1, x.a),
            np.swapaxes(x.layer.errors, 1, 2).reshape(N * T, C, 1, x.b) * T**0.5,
        )
        made = class_factors(
            apart,
            np.repeat(s.labels, T),
            np.repeat(s.probabilities, T, axis=0),
            np.repeat(s.sample_weights / T, T),
        ).kfac()
        away = norm(made.matvec(z) - want)
        yield away, bound, norm(want), f"positions of {x.layer.name}"


@identity(
    "EKFAC is the best operator in its basis",
    "S = diag in the basis, tr S = tr F; |F-K|^2 = |F-E|^2 + |E-K|^2",
    narrow,
)
def K9(study: Study) -> Iterator[Comparison]:
    """Compare the Fisher's diagonal in the basis, its trace, and Pythagoras' sides."""
    for x in study.once(factored):
        made = ekfac(study.once(on_host), x.layer.name)
        n = x.layer.parameters
        few = np.random.default_rng(study.seed).permutation(n)[:64]
        Q = made.left[:, few // x.a][:, None, :] * made.right[:, few % x.a][None, :, :]
        Q = Q.reshape(n, -1)
        diagonal = np.sum(Q * x.fisher.matvec(Q), axis=0)
        bound = reach(x, np.ones(1), study.u)
        away = np.max(np.abs(diagonal - made.values.reshape(-1)[few]))
        size = float(np.max(diagonal))
        yield float(away), bound, size, f"q'Fq of {x.layer.name}"
        size = x.fisher.trace()
        away = abs(made.trace() - size)
        orthogonal = rounding.gamma(4 * (x.a**2 + x.b**2), study.u) * x.scale
        yield away, 4 * x.slack + orthogonal, size, f"trace of {x.layer.name}"
    for x in dense_layers(study):
        made = ekfac(study.once(on_host), x.layer.name)
        F, E, K = x.fisher.matrix(), made.matrix(), x.kfac.matrix()
        scale = max(norm(F), norm(E), norm(K))
        if scale > 0:
            F, E, K = F / scale, E / scale, K / scale
            away = abs(norm(F - K) ** 2 - norm(F - E) ** 2 - norm(E - K) ** 2)
            u = x.slack + rounding.gamma(8 * len(F), study.u) * x.scale
            yield away, 16 * u / scale, 1.0, f"Pythagoras for {x.layer.name}"


@identity(
    "Damped inverses",
    "(Delta + sqrt(l)/w)(x)(H + w sqrt(l)) = KFAC + l I + cross terms, least at w",
    narrow,
)
def K10(study: Study) -> Iterator[Comparison]:
    """Undo KFAC, damping and cross terms; compare the trace with the least of all."""
    for x in study.once(factored):
        L, R, z = x.kfac.left, x.kfac.right, layer_probes(study, x)
        left, right = float(np.trace(L)), float(np.trace(R))
        scale = min(left / x.b, right / x.a)
        damping, scaled = _damping(x), scale >= np.finfo(L.dtype).tiny
        split = (right / x.a) ** 0.5 / (left / x.b) ** 0.5 if scaled else 1.0
        root = damping**0.5
        A = L + root / split * np.eye(x.b, dtype=L.dtype)
        B = R + split * root * np.eye(x.a, dtype=R.dtype)
        V = z.T.reshape(-1, x.b, x.a)
        terms = L @ V @ R + damping * V + root * (split * (L @ V) + V @ R / split)
        inverse = factored_tikhonov(x.kfac, damping)
        image = inverse.matvec(np.asarray(terms.reshape(len(V), -1).T))
        g = rounding.gamma(4 * (x.a + x.b) + 32, study.u)
        largest = norm(A) * norm(B) * float(np.max(inverse.values))
        bound = (_inverse_defect(inverse, A, B, study.u) + g * largest) * norm(V)
        yield norm(image - z), bound, norm(V), f"inverse of {x.layer.name}"

        if scaled:  # the cross terms a w tr L + b tr R / w are least at this w
            least = (left**0.5 * right**0.5 + (damping * x.a * x.b) ** 0.5) ** 2
            one, other = (_solved(X, study.u) for X in (A, B))
            bound = x.b * one * float(np.trace(B)) + x.a * other * float(np.trace(A))
            bound = 2 * bound + 4 * rounding.gamma(x.a * x.b + 64, study.u) * least
            away = abs(float(np.sum(1 / inverse.values)) - least)
            yield away, bound, least, f"trace at the best split of {x.layer.name}"


def _damping(x: Factored) -> float:
    """Return KFAC's mean eigenvalue, or 1 where it all but underflows."""
    mean = x.kfac.trace() / x.layer.parameters
    return mean if mean**2 > np.finfo(x.layer.features.dtype).tiny else 1.0


def _solved(X: np.ndarray, u: float) -> float:
    """Bound the error of eigenvalues of X from a solver and from quotients."""
    return 4 * rounding.eigensolver_radius(len(X), norm(X), u)


def _inverse_defect(
    inverse: KroneckerBasis, A: np.ndarray, B: np.ndarray, u: float
) -> float:
    """Bound ||I - (A (x) B) Z M^-1 Z'||, Z = Q (x) R, from residuals of Q and R.

    With AQ = QM + E and BR = RN + F, (A (x) B) Z = Z (M (x) N) + QM (x) F + E (x) RN
    + E (x) F: the defect is that of ZZ' plus the norm of the rest times max 1/mn.
    """
    Q, R = inverse.left, inverse.right
    M, N = np.sum(Q * (A @ Q), axis=0), np.sum(R * (B @ R), axis=0)
    n, m = len(A), len(B)
    E = norm(A @ Q - Q * M) + rounding.gamma(4 * n, u) * norm(A) * n**0.5
    F = norm(B @ R - R * N) + rounding.gamma(4 * m, u) * norm(B) * m**0.5
    # the solver's eigenvalues, clipped at 0, are this near to the quotients M and N
    one, other = (_solved(X, u) for X in (A, B))
    rest = norm(M) * (F + other) + (E + one) * norm(N) + (E + one) * (F + other)
    defects = [norm(X.T @ X - np.eye(len(X))) for X in (Q, R)]
    skew = sum(defects) + defects[0] * defects[1] + rounding.gamma(4 * (n + m), u) * n
    largest = float(np.max(inverse.values))
    whole = skew + (1 + skew) * rest * largest
    size = norm(A) * norm(B) * largest
    return float(2 * whole + rounding.gamma(8 * (n + m) + 32, u) * 4 * (1 + size))


@identity(
    "Running averages of class factors",
    "pi_c H_c is the exponential average of the moments; absent classes stay",
    narrow,
)
def K11(study: Study) -> Iterator[Comparison]:
    """Average two batches, the even and the odd samples."""
    s, decay = study.once(on_host), 0.75
    for x in study.once(factored):
        batches = []
        for part in (slice(0, None, 2), slice(1, None, 2)):
            w = s.sample_weights[part]
            w = w / w.sum() if w.any() else w + 1 / max(1, len(w))
            if len(w):
                layer = Layer("batch", x.layer.features[part], x.layer.errors[part])
                by_class = s.labels[part], s.probabilities[part], w
                batches.append(class_factors(layer, *by_class))
        old, new = batches
        made = running_average(old, new, decay)
        g = rounding.gamma(16, study.u)
        away = abs(float(np.sum(made.frequencies)) - 1)
        bound = rounding.gamma(4 * len(s.labels), study.u)
        yield away, bound, 1.0, "sum of the frequencies"
        for what in ("errors", "features"):
            for c, pi in enumerate(made.frequencies):
                mine, other = (
                    share * y.frequencies[c] * getattr(y, what)[c]
                    for share, y in ((decay, old), (1 - decay, new))
                )
                size = norm(mine) + norm(other)
                away = norm(pi * getattr(made, what)[c] - mine - other)
                tiny = float(np.finfo(mine.dtype).tiny) * mine.size
                where = f"{what} of class {c}, {x.layer.name}"
                yield away, g * size + tiny, size, where
            absent = (new.frequencies == 0) & (old.frequencies > 0)
            kept = getattr(made, what)[absent] - getattr(old, what)[absent]
            yield float(np.max(np.abs(kept), initial=0)), 0.0, 1.0, "an absent class"


@inequality(
    "The damped solve",
    "the error of a solution of (G + lambda) x = v is at most |r| / lambda",
    _SMALL,
)
def K12(study: Study) -> Iterator[Comparison]:
    """Two solutions of the damped system differ by their residuals over lambda."""
    for x in dense_layers(study):
        P = x.layer.parameters
        damping = _damping(x)
        v = study.probes(P).astype(x.layer.features.dtype)
        preconditioner = factored_tikhonov(x.kfac, damping)
        found = damped_solve(
            x.cfac, v.reshape(x.b, x.a), damping, preconditioner, relative_residual=_FAR
        )
        one = found.value.reshape(-1)
        two = np.linalg.solve(x.cfac.matrix() + damping * np.eye(P, dtype=v.dtype), v)
        left = v - x.cfac.matvec(two) - damping * two
        bound = found.residual * norm(v) + norm(left)
        k = rounding.gamma(4 * (x.a + x.b + len(x.factors.frequencies)) + 32, study.u)
        bound += k * (x.scale + damping) * (norm(one) + norm(two))
        what = f"(CFAC + lambda)^-1 v, {x.layer.name}"
        yield norm(one - two), bound / damping, norm(two), what


def at_one_position(study: Study) -> str:
    """Say that no layer is at one position and small enough for dense matrices."""
    layers = [x for x in study.snapshot.layers if x.features.shape[1] == 1]
    if any(x.parameters <= DENSE for x in layers):
        return ""
    return f"needs a layer at one position, of {DENSE} parameters at most"


@identity(
    "KFAC's number of outliers",
    "rank C of the Fisher's class means, C^2 of KFAC's; cross rho C, not C(C-2)",
    at_one_position,
)
def K13(study: Study) -> Iterator[Comparison]:
    """KFAC multiplies ranks, the Fisher's means do not: both against the samples'."""
    s = study.once(on_host)
    C = s.probabilities.shape[1]
    for x in dense_layers(study):
        if x.layer.features.shape[1] > 1:
            continue
        name = x.layer.name
        feature = structure.decompose(curvature.features(s, name)).levels
        error = structure.decompose(curvature.errors(s, name)).levels
        H = feature["global_mean"].matrix() + feature["between_class"].matrix()
        h, own, others, _ = _mean_rows(s, x.layer)
        nu = _squares(h)
        slack = 8 * x.slack + rounding.gamma(64 * len(s.labels) * C, study.u) * x.scale
        for what, level, rows, most in (
            ("class", "between_class", own, C * C),
            ("cross-class", "between_cross_class", others, C * C * (C - 2)),
        ):
            part = Kronecker(error[level].matrix(), H).matrix()
            values, radius = certified_spectrum(part)
            wanted = np.sort(np.outer(_squares(rows), nu), axis=None)[::-1]
            wanted = np.append(wanted, np.zeros(len(values)))[: len(values)]
            bound, away = radius + slack, float(np.max(np.abs(values - wanted)))
            detail = f"{what} part of the errors (x) class part of {name}"
            yield away, bound, float(wanted[0]), detail
            full = min(most, len(values))
            if wanted[full - 1] > 2 * bound:  # the means are independent, beyond doubt
                missing = full - float(np.sum(values > bound))
                yield missing, 0.0, full, f"rank {full}, {detail}"
        # the Fisher's pairs each mean of errors with its own class's features
        outer = (y[:, :, None] * y[:, None, :] for y in (own, h))
        part = KroneckerSum(np.ones(C, dtype=own.dtype), *outer)
        values, radius = part.certified_eigenvalues()
        few, other = certified_spectrum((own @ own.T) * (h @ h.T))
        n = max(len(values), C)
        away = np.pad(values, (0, n - len(values))) - np.pad(few, (0, n - C))
        bound, detail = (
            radius + other + slack,
            f"means' part of {name}, rank {C} at most",
        )
        yield float(np.max(np.abs(away))), bound, float(few[0]), detail


def _squares(rows: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of rows' rows, without zeros for lack of rows."""
    return np.asarray(np.linalg.svd(rows, compute_uv=False) ** 2)


def _mean_rows(s: Snapshot, layer: Layer) -> tuple[np.ndarray, ...]:
    """Return means times roots of masses at one position, (C, a) and (C, b) or more.

    Of features; of errors of each class, c' = c left out; what cross-class means
    deviate from them; of errors at c' = c.
    """
    # from the samples, by the definition: independent of `refspec.structure`
    C = s.probabilities.shape[1]
    w = s.sample_weights[:, None] * s.probabilities
    own = np.eye(C, dtype=w.dtype)[s.labels]

    def over(y: np.ndarray) -> np.ndarray:
        return np.stack([y[i:j].sum(axis=0) for i, j in pairwise(s.offsets)])

    def mean(sums: np.ndarray, mass: np.ndarray) -> np.ndarray:
        return np.asarray(sums / np.where(mass > 0, mass, 1)[..., None])

    pi, d = over(s.sample_weights), layer.errors[:, :, 0]
    h = mean(over(s.sample_weights[:, None] * layer.features[:, 0]), pi)
    mass = over(w * own)
    diagonal = np.sqrt(mass)[..., None] * mean(over((w * own)[:, :, None] * d), mass)
    mass = over(w * (1 - own))
    sums = over((w * (1 - own))[:, :, None] * d)
    whole = mass.sum(axis=1)
    of_class = mean(sums.sum(axis=1), whole)
    others = np.sqrt(mass)[..., None] * (mean(sums, mass) - of_class[:, None])
    return (
        np.sqrt(pi)[:, None] * h,
        np.sqrt(whole)[:, None] * of_class,
        others.reshape(-1, d.shape[2]),
        diagonal.sum(axis=1),
    )


@identity(
    "KFAC in the canonical model",
    "KFAC has kappa(1 + s/C) C(C-1) times where F = CFAC has outliers and bump",
    few_classes,
)
def K14(study: Study) -> Iterator[Comparison]:
    """KFAC merges outliers and mini-bulk where CFAC is exact."""
    model = study.once(canonical)
    (x,) = factored(Study(exact_samples(model)))
    C, D, s, alpha = model.C, model.D, model.signal, model.alpha
    groups = canonical_groups(C, D, signal=s, alpha=alpha)
    bulk = groups[2].value
    merged = (
        Group("merged", bulk * (1 + s / C), C * (C - 1)),
        *groups[2:],
    )
    closed = rounding.gamma(32, _U) * groups[0].value  # the formulas' rounding
    for what, matrix, expected in (
        ("Fisher", x.fisher.matrix(), groups),
        ("CFAC", x.cfac.matrix(), groups),
        ("KFAC", x.kfac.matrix(), merged),
    ):
        values, radius = certified_spectrum(matrix)
        away = float(np.max(np.abs(values - spread_out(expected))))
        bound, size = radius + 4 * x.slack + closed, expected[0].value
        detail = f"{what} for C = {C}, D = {D}, alpha = {alpha:.3g}"
        yield away, bound, size, detail
    size = x.cfac.trace()
    bound = 4 * x.slack + rounding.gamma(4 * x.layer.parameters, _U) * x.scale
    yield abs(size - x.kfac.trace()), bound, size, "same trace"


@identity(
    "Where the eigenvalues of KFAC and CFAC come from",
    "class part + cross-class part + rest, all >= 0; C, C and C^2 outliers",
)
def K16(study: Study) -> Iterator[Comparison]:
    """z'(part)z is that of the levels, and no part exceeds its matrix."""
    s = study.once(on_host)
    for x in study.once(factored):
        name, z = x.layer.name, layer_probes(study, x)
        bound = reach(x, z, study.u) * norm(z)
        values = np.sum(z * x.fisher.matvec(z), axis=0)
        found = origins.fisher_shares(x.fisher, values, z)
        levels = structure.decompose(x.fisher).levels
        for kind, names in _LEVELS.items():
            exact = sum(np.sum(z * levels[n].matvec(z), axis=0) for n in names)
            away = float(np.max(np.abs(found[kind] * values - exact)))
            size = float(np.max(values))
            yield away, bound, size, f"{kind} of the Fisher of {name}"
        flat = origins.positions_apart(s, name, "expand")
        means = origins.factor_means(flat)
        values = np.sum(z * x.cfac.matvec(z), axis=0)
        pi = x.factors.frequencies
        found = origins.class_shares(means, pi, values, z)
        over = (found["outlier"] + found["bump"] - 1) * values
        size = float(np.max(values))
        yield float(np.max(over)), bound, size, f"parts of CFAC of {name}"
        h, own, others, diagonal = _mean_rows(flat, flat.layers[0])
        h = h / np.sqrt(np.where(pi > 0, pi, 1))[:, None]
        images = np.transpose(z.T.reshape(-1, x.b, x.a) @ h.T)  # V h_c, (C, b, k)
        for kind, rows in (
            ("outlier", np.stack([own, diagonal], axis=1)),
            ("bump", others.reshape(len(pi), -1, x.b)),
        ):
            exact = np.sum((rows @ images) ** 2, axis=(0, 1))
            away = float(np.max(np.abs(found[kind] * values - exact)))
            yield away, bound, size, f"{kind} of CFAC of {name}"
        v = (x.layer.errors[:3, 0, 0, :, None] * x.layer.features[:3, 0, None, :]).T
        v = np.moveaxis(v, 0, 1).reshape(-1, v.shape[2])  # products: KFAC factorises
        values = np.sum(v * x.kfac.matvec(v), axis=0)
        delta, h = x.layer.errors[:3, 0, 0].T, x.layer.features[:3, 0].T
        along = np.sum((means.features @ h) ** 2, axis=0)
        forms = origins.mean_forms(means.norms, means.errors @ delta)
        over = sum(forms.values()) * along - values
        bound = reach(x, v, study.u) * norm(v) + study.tiny
        yield float(np.max(over)), bound, float(np.max(values)), f"KFAC of {name}"


K15 = lemma(
    __name__,
    "K15",
    "The top of a spectrum from products",
    "|lambda_i(A) - theta_i| <= |AV - V Theta| + max(0, |B| - theta_k)",
    "tests/kronecker/test_leading.py::test_leading_of_a_large_operator",
)
