"""Checks of theory/kronecker_spectra.md: what class means make of the eigenvalues."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from refspec import curvature, rounding, structure
from refspec.classes import Layer, Snapshot
from refspec.kronecker import Kronecker, KroneckerSum, origins
from refspec.kronecker.eigensystems import certified_spectrum
from refspec.synthetic.groups import Group, canonical_groups
from refspec.theorems.canonical import canonical, exact_samples, few_classes, spread_out
from refspec.theorems.factored import (
    at_one_position,
    dense_layers_at_one_position,
    factored,
    layer_probes,
    on_host,
    reach,
)
from refspec.theorems.quantities import norm
from refspec.theorems.registry import Comparison, identity, lemma
from refspec.theorems.study import Study

_U = 2.0**-53
_LEVELS = {"outlier": ("diagonal", "between_class"), "bump": ("between_cross_class",)}


@identity(
    "KFAC's number of outliers",
    "rank C of the Fisher's class means, C^2 of KFAC's; cross rho C, not C(C-2)",
    at_one_position,
)
def K13(study: Study) -> Iterator[Comparison]:
    """KFAC multiplies ranks, the Fisher's means do not: both against the samples'."""
    s = study.once(on_host)
    C = s.probabilities.shape[1]
    for x in dense_layers_at_one_position(study):
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
