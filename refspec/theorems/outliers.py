"""Checks of theory/kronecker.md that count outliers: K13, and K14's canonical model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from refspec import curvature, rounding, structure
from refspec.classes import Snapshot
from refspec.kronecker import Kronecker, certified_spectrum
from refspec.synthetic.groups import Group, canonical_groups
from refspec.theorems.canonical import (
    canonical,
    exact_samples,
    spread_out,
)
from refspec.theorems.factored import (
    DENSE,
    Factored,
    dense_layers,
    factored,
    host,
)
from refspec.theorems.registry import Comparison
from refspec.theorems.study import Study

__all__ = ["at_one_position", "counts", "merged_groups"]


def at_one_position(study: Study) -> str:
    """Say that no layer is at one position and small enough for dense matrices."""
    layers = [x for x in study.snapshot.layers if x.features.shape[1] == 1]
    if any(x.parameters <= DENSE for x in layers):
        return ""
    return f"needs a layer at one position, of {DENSE} parameters at most"


def counts(study: Study) -> Iterator[Comparison]:
    """K13: KFAC multiplies ranks, the Fisher's means do not."""
    s = study.once(host)
    C = s.probabilities.shape[1]
    for x in dense_layers(study):
        if x.layer.features.shape[1] > 1:
            continue
        name = x.layer.name
        feature = structure.decompose(curvature.features(s, name)).levels
        error = structure.decompose(curvature.errors(s, name)).levels
        H = feature["global_mean"].matrix() + feature["between_class"].matrix()
        D, cross = (error[y].matrix() for y in ("between_class", "between_cross_class"))
        nu, right = certified_spectrum(H)
        slack = 8 * x.slack + rounding.gamma(64 * len(s.labels) * C, study.u) * x.scale
        for what, left, most in (("class", D, C), ("cross", cross, C * (C - 2))):
            mu, radius = certified_spectrum(left)
            r, t = min(most, x.b), min(C, x.a)
            values, other = certified_spectrum(Kronecker(left, H).matrix())
            bound = radius * float(nu[0]) + right * float(mu[0]) + other + slack
            products = np.sort(np.ravel(mu[:r, None] * nu[:t]))[::-1]
            away = np.max(np.abs(values[: r * t] - products), initial=0)
            yield float(away), bound, f"{r} x {t} eigenvalues, {what} x class of {name}"
            if r * t < len(values):
                yield float(values[r * t]), bound, f"rank of {what} x class of {name}"
        pi = np.bincount(s.labels, s.sample_weights, C)
        h = np.stack(
            [
                s.sample_weights[i:j] @ x.layer.features[i:j, 0] / (pi[c] or 1)
                for c, (i, j) in enumerate(pairwise(s.offsets))
            ]
        )
        means = _class_means(s, x)
        rows = (means[:, :, None] * h[:, None, :]).reshape(C, -1)
        values, other = certified_spectrum(rows.T @ rows)
        if len(values) > C:
            yield float(values[C]), other + slack, f"rank of the means' part of {name}"


def _class_means(s: Snapshot, x: Factored) -> np.ndarray:
    """Return sqrt(p_c) delta_c, c' = c left out, shape (C, b)."""
    C = s.probabilities.shape[1]
    w = s.sample_weights[:, None] * s.probabilities
    w = w * (1 - np.eye(C, dtype=w.dtype)[s.labels])
    top = np.sum(w[:, :, None] * x.layer.errors[:, :, 0], axis=1)
    sums = np.stack([top[i:j].sum(axis=0) for i, j in pairwise(s.offsets)])
    mass = np.asarray([w[i:j].sum() for i, j in pairwise(s.offsets)])
    return np.asarray(sums / np.sqrt(np.where(mass > 0, mass, 1))[:, None])


def merged_groups(study: Study) -> Iterator[Comparison]:
    """K14: KFAC merges outliers and mini-bulk where CFAC is exact."""
    model = study.once(canonical)
    (x,) = factored(Study(exact_samples(model)))
    C, D, s, alpha = model.C, model.D, model.signal, model.alpha
    groups = canonical_groups(C, D, signal=s, alpha=alpha)
    bulk = groups[2].value
    merged = (
        Group("merged", bulk * (1 + s / C), C * (C - 1)),
        *groups[2:],
    )
    closed = rounding.gamma(32, 2.0**-53) * groups[0].value  # the formulas' rounding
    for what, matrix, expected in (
        ("Fisher", x.fisher.matrix(), groups),
        ("CFAC", x.cfac.matrix(), groups),
        ("KFAC", x.kfac.matrix(), merged),
    ):
        values, radius = certified_spectrum(matrix)
        away = float(np.max(np.abs(values - spread_out(expected))))
        bound = radius + 4 * x.slack + closed
        yield away, bound, f"{what} for C = {C}, D = {D}, alpha = {alpha:.3g}"
    trace = rounding.gamma(4 * x.layer.parameters, 2.0**-53) * x.scale
    yield abs(x.cfac.trace() - x.kfac.trace()), 4 * x.slack + trace, "same trace"
