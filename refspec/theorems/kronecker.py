"""Checks of theory/kronecker.md: KFAC, EKFAC and CFAC of the layers of a snapshot.

Operators are compared by what they do to random vectors, where no matrix is needed:
if the difference of two operators has a norm of at most e, it moves z by e |z|.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from refspec import rounding
from refspec.classes import Layer, Snapshot
from refspec.factors import lengths
from refspec.kronecker import Kronecker, KroneckerSum, certified_spectrum, kfac
from refspec.kronecker.conventions import CONVENTIONS, placement
from refspec.kronecker.kfac import class_factors, kfac_error
from refspec.kronecker.operators import column_stacked
from refspec.theorems import outliers
from refspec.theorems.canonical import (
    few_classes,
)
from refspec.theorems.factored import (
    DENSE,
    dense_layers,
    factored,
    host,
    layer_probes,
    narrow,
    reach,
    smaller_than,
    without_positions,
)
from refspec.theorems.origins import parts
from refspec.theorems.preconditioning import average, closest, damped, solved
from refspec.theorems.quantities import norm
from refspec.theorems.registry import Comparison, Theorem, compared
from refspec.theorems.study import Study

__all__ = ["THEOREMS"]

_OUTPUTS = 16  # of a layer, looked at entry by entry
_LABELS = 4  # drawn per sample
_PAIRS = 2**24  # numbers in the factors of all pairs of classes


def _order(study: Study) -> Iterator[Comparison]:
    """K1: (L (x) R)(delta (x) h) = L delta (x) R h; column order is the transpose."""
    for x in study.once(factored):
        h, d = _unit(x.layer.features[:, 0]), _unit(x.layer.errors[:, 0, 0])
        rows = (d[:, :, None] * h[:, None, :]).reshape(len(h), -1).T
        columns = (h[:, :, None] * d[:, None, :]).reshape(len(h), -1).T
        away = column_stacked(rows, x.b, x.a) - columns
        yield float(np.max(np.abs(away))), 0.0, f"column order of {x.layer.name}"
        L, R = x.kfac.left, x.kfac.right
        images = ((d @ L)[:, :, None] * (h @ R)[:, None, :]).reshape(len(h), -1).T
        size = float(np.max(lengths(rows, 0)))
        bound = size * (rounding.gamma(4 * (x.a + x.b), study.u) * x.scale + x.slack)
        away = lengths(x.kfac.matvec(rows) - images, 0)
        yield float(np.max(away)), bound, f"KFAC of a gradient of {x.layer.name}"
        product = norm(np.outer(lengths(L, 0), lengths(R, 0)))
        bound = rounding.gamma(2 * (x.a + x.b) ** 2, study.u) * x.scale + x.slack
        yield abs(x.kfac.frobenius_norm() - product), bound, "norm of a product"


def _unit(x: np.ndarray) -> np.ndarray:
    """Scale a matrix to norm 1, if it is not 0."""
    size = norm(x)
    return x / size if size > 0 else x


def _spectra(operator: Kronecker | KroneckerSum, u: float, slack: float) -> Comparison:
    """Compare an operator's certified eigenvalues with those of its dense matrix."""
    values, radius = operator.certified_eigenvalues()
    dense, other = certified_spectrum(operator.matrix())
    formed = rounding.gamma(operator.dimension + 8, u) * operator.frobenius_norm()
    away = float(np.max(np.abs(values - dense)))
    return away, radius + other + formed + slack, type(operator).__name__


def _product_spectrum(study: Study) -> Iterator[Comparison]:
    """K2: products of eigenvalues; their sum and sum of squares for every layer."""
    for x in study.once(factored):
        values, radius = x.kfac.certified_eigenvalues()
        n, g = len(values), rounding.gamma(2 * len(values) + 8, study.u)
        bound = n * radius + g * n * x.scale + x.slack
        away = abs(float(np.sum(values)) - x.kfac.trace())
        yield away, bound, f"sum of the eigenvalues of {x.layer.name}"
    for x in dense_layers(study):
        away, bound, kind = _spectra(x.kfac, study.u, x.slack)
        yield away, bound, f"{kind} of {x.layer.name} and its matrix"


def _sum_spectrum(study: Study) -> Iterator[Comparison]:
    """K3: of CFAC, and of the CFAC of one sample a class: by its roots, if few."""
    few = Study(_taken(study.once(host), study.once(host).offsets[:-1]))
    for what, chosen in (("all samples", study), ("one sample a class", few)):
        for x in dense_layers(chosen):
            away, bound, kind = _spectra(x.cfac, study.u, x.slack)
            yield away, bound, f"{kind} of {x.layer.name}, {what}"


def _taken(s: Snapshot, index: Sequence[int]) -> Snapshot:
    """Return some samples, in order, with equal weights."""
    i = np.asarray(index)
    layers = tuple(Layer(x.name, x.features[i], x.errors[i]) for x in s.layers)
    w = np.full(len(i), 1 / len(i)).astype(s.sample_weights.dtype)
    return Snapshot(layers, s.probabilities[i], s.labels[i], w, s.provenance)


def _factors(study: Study) -> Iterator[Comparison]:
    """K4: factors as sums over the samples; the traces."""
    s = study.once(host)
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
            size = abs(float(np.trace(direct))) + abs(float(np.trace(computed)))
            yield norm(direct - computed), k * size + tiny, what
        if T == 1:
            trace = x.fisher.trace() - x.cfac.trace()
            own = np.sum(w * np.sum(d[:, :, 0] ** 2, axis=2), axis=1)
            size = np.sum(h[:, 0] ** 2, axis=1)
            within = size - np.trace(x.factors.features, axis1=1, axis2=2)[s.labels]
            # sum s (tr D - tr Delta_c)(.) = sum s tr D (.): the other factor is centred
            away = abs(trace - float(np.sum(own * within)))
            yield away, 8 * x.slack, f"tr F - tr CFAC of {name}"


def _between(study: Study) -> Iterator[Comparison]:
    """K5: CFAC - KFAC is a covariance between classes; KFAC pairs all with all."""
    for x in study.once(factored):
        z, pi = layer_probes(study, x), x.factors.frequencies
        gap = x.cfac.matvec(z) - x.kfac.matvec(z)
        bound = reach(x, z, study.u) + abs(float(np.sum(pi)) - 1) * x.scale * norm(z)
        away = norm(gap - kfac_error(x.factors).matvec(z))
        yield away, 4 * bound, f"CFAC - KFAC of {x.layer.name}"
        C = len(pi)
        if C * C * (x.a**2 + x.b**2) > _PAIRS:
            continue
        one, other = np.repeat(np.arange(C), C), np.tile(np.arange(C), C)
        all_pairs = KroneckerSum(
            pi[one] * pi[other], x.factors.errors[one], x.factors.features[other]
        )
        away = norm(all_pairs.matvec(z) - x.kfac.matvec(z))
        yield away, 4 * bound, f"KFAC of {x.layer.name} by pairs of classes"


def _within(study: Study) -> Iterator[Comparison]:
    """K6: F - CFAC is a covariance within classes."""
    s = study.once(host)
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
        gap = x.fisher.matvec(z) - x.cfac.matvec(z) - total.reshape(len(V), -1).T
        yield norm(gap), 4 * reach(x, z, study.u), f"F - CFAC of {x.layer.name}"


def _monte_carlo(study: Study) -> Iterator[Comparison]:
    """K7: Hoeffding, for a few outputs of every layer, all entries at once."""
    s, N = study.once(host), len(study.snapshot.labels)
    layers = study.once(factored)
    for x in layers:
        m, rng = min(x.b, _OUTPUTS), np.random.default_rng(study.seed)
        drawn = kfac(s, x.layer.name, fisher="monte_carlo", rng=rng, samples=_LABELS)
        spread = np.zeros((m, m))
        for i in range(N):
            d = x.layer.errors[i, :, :, :m]
            each = np.swapaxes(d, 1, 2) @ d
            ranges = each.max(axis=0) - each.min(axis=0)
            spread += (s.sample_weights[i] * ranges) ** 2 / _LABELS
        log = np.log(2 * m * m * len(layers) / rounding.FAILURE)
        bound = np.sqrt(log / 2 * spread) + 4 * rounding.gamma(
            4 * N * x.layer.errors.shape[1] * x.layer.errors.shape[2] + 64, study.u
        ) * (np.trace(x.kfac.left) + np.trace(drawn.left))
        away = np.abs(drawn.left - x.kfac.left)[:m, :m]
        k = int(np.argmax(away / np.where(bound > 0, bound, 1)))
        yield away.flat[k], bound.flat[k], f"entry of Delta of {x.layer.name}"


def _settings(study: Study) -> Iterator[Comparison]:
    """K8: expand is KFAC of all positions; conventions move scalars only."""
    s = study.once(host)
    for x in study.once(factored):
        z, (N, C, T, _) = layer_probes(study, x), x.layer.errors.shape
        want = x.kfac.matvec(z)
        bound = 4 * T * reach(x, z, study.u)
        for name in CONVENTIONS:
            made = kfac(s, x.layer.name, convention=name)
            how = placement(name, "expand", "exact", N=N, T=T, columns=C - 1)
            if name == "backpack" and T > 1:  # the exception: another operator
                continue
            away = norm(how.block * made.matvec(z) - want)
            yield away, bound, f"{name} of {x.layer.name}"
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
        yield norm(made.matvec(z) - want), bound, f"positions of {x.layer.name}"


_PAGE, _TEST = "kronecker.md", "tests/test_theorems_kronecker.py::test_"
_SMALL = smaller_than(DENSE)

THEOREMS = (
    Theorem(
        "K1", "Order of the factors", "identity",
        "(L (x) R) row(V) = row(L V R'); delta h' is delta (x) h in row order",
        _PAGE, _TEST + "K1", compared(_order), narrow,
    ),
    Theorem(
        "K2", "Spectrum of one Kronecker product", "identity",
        "the eigenvalues of L (x) R are the products mu_j nu_k",
        _PAGE, _TEST + "K2", compared(_product_spectrum), narrow,
    ),
    Theorem(
        "K3", "Spectrum of a sum of Kronecker products", "identity",
        "sum pi_c L_c (x) R_c has the non-zero eigenvalues of its roots' Gram matrix",
        _PAGE, _TEST + "K3", compared(_sum_spectrum), _SMALL,
    ),
    Theorem(
        "K4", "The factors and their rounding", "identity",
        "H_c, Delta_c are means over the class; tr F - tr CFAC is a covariance",
        _PAGE, _TEST + "K4", compared(_factors), narrow,
    ),
    Theorem(
        "K5", "What KFAC leaves out: covariance between classes", "identity",
        "CFAC - KFAC = sum pi_c (Delta_c - Delta) (x) (H_c - H)",
        _PAGE, _TEST + "K5", compared(_between), narrow,
    ),
    Theorem(
        "K6", "What CFAC leaves out: covariance within classes", "identity",
        "F - CFAC = sum s_i (D_i - Delta_c) (x) (h_i h_i' - H_c), T = 1",
        _PAGE, _TEST + "K6", compared(_within), without_positions,
    ),
    Theorem(
        "K7", "Kinds of Fisher", "statistical",
        "Monte-Carlo's Delta is within sqrt(log(2 b^2/eta) sum s^2 rho^2 / 2M)",
        _PAGE, _TEST + "K7", compared(_monte_carlo), narrow,
    ),
    Theorem(
        "K8", "Settings and conventions", "identity",
        "expand is KFAC of NT samples; conventions move scalars between the factors",
        _PAGE, _TEST + "K8", compared(_settings), narrow,
    ),
    Theorem(
        "K9", "EKFAC is the best operator in its basis", "identity",
        "S = diag in the basis, tr S = tr F; |F-K|^2 = |F-E|^2 + |E-K|^2",
        _PAGE, _TEST + "K9", compared(closest), narrow,
    ),
    Theorem(
        "K10", "Damped inverses", "identity",
        "(Delta + sqrt(l)/w)(x)(H + w sqrt(l)) = KFAC + l I + cross terms, least at w",
        _PAGE, _TEST + "K10", compared(damped), narrow,
    ),
    Theorem(
        "K11", "Running averages of class factors", "identity",
        "pi_c H_c is the exponential average of the moments; absent classes stay",
        _PAGE, _TEST + "K11", compared(average), narrow,
    ),
    Theorem(
        "K12", "The damped solve", "inequality",
        "the error of a solution of (G + lambda) x = v is at most |r| / lambda",
        _PAGE, _TEST + "K12", compared(solved), _SMALL,
    ),
    Theorem(
        "K13", "KFAC's number of outliers", "identity",
        "rank C of the Fisher's class means, C^2 of KFAC's; cross rho C, not C(C-2)",
        _PAGE, _TEST + "K13", compared(outliers.counts), outliers.at_one_position,
    ),
    Theorem(
        "K14", "KFAC in the canonical model", "identity",
        "KFAC has kappa(1 + s/C) C(C-1) times where F = CFAC has outliers and bump",
        _PAGE, _TEST + "K14", compared(outliers.merged_groups), few_classes,
    ),
    Theorem(
        "K15", "The top of a spectrum from products", "lemma",
        "|lambda_i(A) - theta_i| <= |AV - V Theta| + max(0, |B| - theta_k)",
        _PAGE, "tests/test_leading.py::test_leading_of_a_large_operator",
    ),
    Theorem(
        "K16", "Where the eigenvalues of KFAC and CFAC come from", "identity",
        "class part + cross-class part + rest, all >= 0; C, C and C^2 outliers",
        _PAGE, _TEST + "K16", compared(parts),
    ),
)  # fmt: skip
