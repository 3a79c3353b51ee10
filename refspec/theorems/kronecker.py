"""Checks of theory/kronecker.md: KFAC, EKFAC and CFAC of the layers of a snapshot.

Operators are compared by what they do to random vectors, where no matrix is needed:
if the difference of two operators has a norm of at most e, it moves z by e |z|.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from refspec import rounding
from refspec.classes import Layer, Snapshot
from refspec.factors import lengths
from refspec.kronecker import Kronecker, KroneckerSum, class_factors, ekfac, kfac
from refspec.kronecker.classwise import kfac_error
from refspec.kronecker.conventions import CONVENTIONS, placement
from refspec.kronecker.eigensystems import certified_spectrum
from refspec.kronecker.operators import column_stacked
from refspec.theorems.factored import (
    DENSE,
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
from refspec.theorems.registry import Comparison, identity, statistical
from refspec.theorems.study import Study

_U = 2.0**-53
_SAMPLES = 20  # whose labels are drawn
_LABELS = 1024  # drawn per sample
_DRAWN = 2**21  # numbers in the errors of all drawn labels
_FORMS = 2  # quadratic forms of a drawn factor
_PAIRS = 2**24  # numbers in the factors of all pairs of classes
_SMALL = smaller_than(DENSE)


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
