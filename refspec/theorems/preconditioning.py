"""Checks of theory/kronecker.md on what the factors make: EKFAC, inverses, solves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refspec import rounding
from refspec.classes import Layer
from refspec.kronecker import ekfac
from refspec.kronecker.eigenbasis import KroneckerBasis, factored_tikhonov
from refspec.kronecker.kfac import class_factors
from refspec.kronecker.preconditioner import running_average, solve
from refspec.theorems.factored import (
    Factored,
    dense_layers,
    factored,
    host,
    layer_probes,
    reach,
)
from refspec.theorems.quantities import norm
from refspec.theorems.registry import Comparison
from refspec.theorems.study import Study

__all__ = ["average", "closest", "damped", "solved"]

_FAR = 2.0**-10  # where the first of two solutions stops


def closest(study: Study) -> Iterator[Comparison]:
    """K9: the Fisher's diagonal in the basis, its trace, and Pythagoras."""
    for x in study.once(factored):
        made = ekfac(study.once(host), x.layer.name)
        n, T = x.layer.parameters, x.layer.features.shape[1]
        few = np.random.default_rng(study.seed).permutation(n)[:64]
        Q = made.left[:, few // x.a][:, None, :] * made.right[:, few % x.a][None, :, :]
        Q = Q.reshape(n, -1)
        diagonal = np.sum(Q * x.fisher.matvec(Q), axis=0)
        bound = T * reach(x, np.ones(1), study.u)
        away = np.max(np.abs(diagonal - made.values.reshape(-1)[few]))
        yield float(away), bound, f"q'Fq of {x.layer.name}"
        away = abs(made.trace() - x.fisher.trace())
        orthogonal = rounding.gamma(4 * (x.a**2 + x.b**2), study.u) * x.scale
        yield away, 4 * T * x.slack + orthogonal, f"trace of {x.layer.name}"
    for x in dense_layers(study):
        made = ekfac(study.once(host), x.layer.name)
        F, E, K = x.fisher.matrix(), made.matrix(), x.kfac.matrix()
        scale = max(norm(F), norm(E), norm(K))
        if scale > 0:
            F, E, K = F / scale, E / scale, K / scale
            away = abs(norm(F - K) ** 2 - norm(F - E) ** 2 - norm(E - K) ** 2)
            T = x.layer.features.shape[1]
            u = 8 * T * x.slack + rounding.gamma(8 * len(F), study.u) * x.scale
            yield away, 16 * u / scale, f"Pythagoras for {x.layer.name}"


def damped(study: Study) -> Iterator[Comparison]:
    """K10: the split damping multiplied out, its best split, and its inverse."""
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
        more = root * (split * (L @ V) + V @ R / split)
        gap = A @ V @ B - L @ V @ R - damping * V - more
        g = rounding.gamma(4 * (x.a + x.b) + 32, study.u)
        yield norm(gap), g * norm(A) * norm(B) * norm(V), f"of {x.layer.name}"

        least = _extra(split, x, left, right)
        for other in (split / 2, 2 * split) if scaled else ():
            away = least - _extra(other, x, left, right)
            yield away, rounding.gamma(32, study.u) * least, "trace at the best split"
        inverse = factored_tikhonov(x.kfac, damping)
        bound = _inverse_defect(inverse, A, B, study.u) * norm(V)
        image = inverse.matvec(z).T.reshape(V.shape)
        yield norm(A @ image @ B - V), bound, f"inverse of {x.layer.name}"


def _damping(x: Factored) -> float:
    """Return KFAC's mean eigenvalue, or 1 where it all but underflows."""
    mean = x.kfac.trace() / x.layer.parameters
    return mean if mean**2 > np.finfo(x.layer.features.dtype).tiny else 1.0


def _extra(split: float, x: Factored, left: float, right: float) -> float:
    """Return the trace of the cross terms over sqrt(lambda)."""
    return split * x.a * left + x.b * right / split


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
    one, other = (4 * rounding.eigensolver_radius(len(X), norm(X), u) for X in (A, B))
    rest = norm(M) * (F + other) + (E + one) * norm(N) + (E + one) * (F + other)
    defects = [norm(X.T @ X - np.eye(len(X))) for X in (Q, R)]
    skew = sum(defects) + defects[0] * defects[1] + rounding.gamma(4 * (n + m), u) * n
    largest = float(np.max(inverse.values))
    whole = skew + (1 + skew) * rest * largest
    size = norm(A) * norm(B) * largest
    return float(2 * whole + rounding.gamma(8 * (n + m) + 32, u) * 4 * (1 + size))


def average(study: Study) -> Iterator[Comparison]:
    """K11: of two batches, the even and the odd samples."""
    s, decay = study.once(host), 0.75
    for x in study.once(factored):
        batches = []
        for part in (slice(0, None, 2), slice(1, None, 2)):
            w = s.sample_weights[part]
            w = w / w.sum() if w.any() else w + 1 / max(1, len(w))
            if len(w):
                layer = Layer("batch", x.layer.features[part], x.layer.errors[part])
                law = s.labels[part], s.probabilities[part], w
                batches.append(class_factors(layer, *law))
        old, new = batches
        made = running_average(old, new, decay)
        g = rounding.gamma(16, study.u)
        away = abs(float(np.sum(made.frequencies)) - 1)
        yield away, rounding.gamma(4 * len(s.labels), study.u), "sum of the frequencies"
        for what in ("errors", "features"):
            for c, pi in enumerate(made.frequencies):
                mine, other = (
                    share * y.frequencies[c] * getattr(y, what)[c]
                    for share, y in ((decay, old), (1 - decay, new))
                )
                size = norm(mine) + norm(other)
                away = norm(pi * getattr(made, what)[c] - mine - other)
                tiny = float(np.finfo(mine.dtype).tiny) * mine.size
                yield away, g * size + tiny, f"{what} of class {c}, {x.layer.name}"
            absent = (new.frequencies == 0) & (old.frequencies > 0)
            kept = getattr(made, what)[absent] - getattr(old, what)[absent]
            yield float(np.max(np.abs(kept), initial=0)), 0.0, "an absent class"


def solved(study: Study) -> Iterator[Comparison]:
    """K12: two solutions of the damped system differ by their residuals over lambda."""
    for x in dense_layers(study):
        P = x.layer.parameters
        damping = _damping(x)
        v = study.probes(P).astype(x.layer.features.dtype)
        preconditioner = factored_tikhonov(x.kfac, damping)
        found = solve(
            x.cfac, v.reshape(x.b, x.a), damping, preconditioner, relative_residual=_FAR
        )
        one = found.value.reshape(-1)
        two = np.linalg.solve(x.cfac.matrix() + damping * np.eye(P, dtype=v.dtype), v)
        left = v - x.cfac.matvec(two) - damping * two
        bound = found.residual * norm(v) + norm(left)
        k = rounding.gamma(4 * (x.a + x.b + len(x.factors.frequencies)) + 32, study.u)
        bound += k * (x.scale + damping) * (norm(one) + norm(two))
        yield norm(one - two), bound / damping, f"(CFAC + lambda)^-1 v, {x.layer.name}"
