"""Checks of theory/preconditioners.md: damped inverses, running averages, solves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refspec import rounding
from refspec.classes import Layer
from refspec.kronecker import (
    KroneckerBasis,
    class_factors,
    damped_solve,
    factored_tikhonov,
)
from refspec.kronecker.classwise import running_average
from refspec.theorems.factored import (
    DENSE,
    Factored,
    dense_layers,
    factored,
    layer_probes,
    narrow,
    on_host,
    smaller_than,
)
from refspec.theorems.quantities import norm
from refspec.theorems.registry import Comparison, identity, inequality
from refspec.theorems.study import Study

_SMALL = smaller_than(DENSE)
_FAR = 2.0**-24  # where the first of two solutions stops


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
