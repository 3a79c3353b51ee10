r"""How far a right answer in somebody's number format can be from refspec's.

The model, with u the largest unit roundoff of the snapshot, of what arrived, and of the
format the caller names, and k the number of operations on a path through the layers and
back: features, errors and probabilities are off by :math:`\gamma_k` of their norms,
errors also by 4 u of the largest over the labels of their sample (p - e_y cancels where
p_y is nearly 1). What is made of them is off by :math:`\gamma_n` more in summing over n
rows, in any order. This is the usual backward-error model, not a proof: a network whose
layers cancel to less than u k of their terms, or a relu whose input is 0 to rounding,
can be right and outside. For the Hessian in float64 the radius is proved
(theory/hessian.md#H7); in a coarser format the proof, which has to allow that all
roundings conspire, would say nothing, and the model is taken as for the others. Of a
deep network either may be larger than the Hessian itself: what is taken then is
measured on random probes (theory/hessian.md#H11). It bounds the 2-norm of the
difference of two right answers; the others bound its Frobenius norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refspec import hessian, models, rounding
from refspec.classes import log_softmax
from refspec.factors import lengths
from refspec.hessian.assembly import at_logits
from refspec.hessian.bounds import (
    algorithm_errors,
    hessian_radius,
    norm_of,
    roundings,
)
from refspec.kronecker import ekfac, kfac
from refspec.models.activations import EVALUATION
from refspec.models.network import in_format
from refspec.testing.questions import MOMENTS, Question, operator


@dataclass(frozen=True, slots=True, eq=False)
class Accuracy:
    """A radius and the numbers it was made of."""

    radius: (
        float  # of two right answers' difference: 2-norm for the Hessian, else |.|_F
    )
    u: float  # unit roundoff of the coarser of the two
    operations: int  # roundings on a path through the layers
    rows: int  # terms that are summed
    trace: float = math.inf  # of two right traces' difference, if asked for
    measured: bool = False  # on random probes, where the bound would say nothing


@dataclass(frozen=True, slots=True, eq=False)
class _Sizes:
    """Norms of features (N, T) and errors (N, C, T), and of what rounding adds."""

    h: np.ndarray
    dh: np.ndarray
    d: np.ndarray
    dd: np.ndarray


def format_roundoff(name: str) -> float:
    """Return the unit roundoff of a format by name, bfloat16 and tf32 included."""
    known = {"bfloat16": 2.0**-8, "tf32": 2.0**-11}
    if isinstance(name, str) and name in known:
        return known[name]
    try:
        kind = np.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        kind = np.dtype(object)
    if name is None or kind.kind != "f":
        raise ValueError(
            "dtype must name a floating format (float64, float32, float16, bfloat16, "
            f"tf32), got {name!r}; name the format your numbers were computed in"
        )
    return float(np.finfo(kind).eps) / 2


def accuracy(question: Question, u: float) -> Accuracy:
    """Bound the distance of a right answer in a format of unit roundoff u.

    Theory: theory/rounding.md#B1, #B2; theory/hessian.md#H7; theory/kronecker.md#K2.
    """
    snapshot = question.snapshot
    N, C = snapshot.probabilities.shape
    shapes = [(x.errors.shape[3], x.features.shape[2]) for x in snapshot.layers]
    operations = int(2 * sum(b + a + 4 for b, a in shapes) + 2 * C + EVALUATION)
    rows = N * C * max(snapshot.layer(x).features.shape[1] for x in question.layers)
    if question.of == "hessian":  # of the network's numbers, not of stored samples
        radius, measured = _hessian_radius(question, u)
        return Accuracy(2 * radius, u, operations, rows, measured=measured)
    stored = str(snapshot.provenance.get("dtype", "float64")).rsplit(".")[-1]
    u = max(u, format_roundoff(stored))
    along = rounding.gamma(operations, u)
    slack = 2 * along + rounding.gamma(rows + 8, u)
    sizes, w, dw = _sizes(question, u, along)
    if question.of in MOMENTS:
        radius = _moment_radius(sizes, w, dw, slack)
        if question.lost:  # what was measured in float64, in proportion to roundoff
            lost = question.lost * u / rounding.unit_roundoff(np.zeros(0))
            radius += 2 * lost * (math.sqrt(_trace(sizes, w)) + lost)
    else:
        each = [
            _kronecker_radius(question, name, x, w, dw, slack)
            for name, x in zip(question.layers, sizes, strict=True)
        ]
        radius = math.hypot(*each)
    return Accuracy(2 * radius, u, operations, rows)


def level_radius(question: Question, of: str, u: float) -> Accuracy:
    """Bound the distance of a right level of the fisher, errors or features.

    Theory: theory/rounding.md#B1, #B2; theory/levels.md#L1.
    """
    whole = accuracy(question, u)
    w, g, dg, slack = _vectors(question, of, whole)
    # a projection of the rows X mixes them: the bound is (|X| + |dX|)^2 - |X|^2 with
    # whole norms; the means' directions are off by the weights' relative error
    X, dX = (math.sqrt(float(np.sum(w * y))) for y in (g, dg))
    radius = 2 * (dX * (2 * X + dX) + slack * (X + dX) ** 2)
    return replace(whole, radius=radius, trace=radius)


def mean_radius(
    question: Question, of: str, which: str, weights: np.ndarray, u: float
) -> Accuracy:
    """Bound the distance of right means with weights (N, K), in the Frobenius norm.

    Theory: theory/rounding.md#B1; theory/levels.md#L1.
    """
    whole = accuracy(question, u)
    w, g, dg, slack = _vectors(question, of, whole)
    off = np.sqrt(w * weights) * (np.sqrt(dg) + slack * (np.sqrt(g) + np.sqrt(dg)))
    labels, C = question.snapshot.labels, question.snapshot.probabilities.shape[1]
    sums, mass = np.zeros((2, C, weights.shape[1]))
    np.add.at(sums, labels, off)
    np.add.at(mass, labels, weights)
    if which == "global_mean":
        sums, mass = sums.sum(), mass.sum()
    elif which == "class_means":
        others = 1 - np.eye(C) if weights.shape[1] > 1 else 1.0
        sums, mass = ((x * others).sum(axis=1) for x in (sums, mass))
    each = sums / np.where(mass > 0, mass, 1.0)
    return replace(whole, radius=2 * float(np.sqrt(np.sum(each**2))))


def _vectors(
    question: Question, of: str, whole: Accuracy
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return weights (N, K) of vectors, bounds on their squares and on their errors'.

    And what averages of them add, relative to their sizes.
    """
    along = rounding.gamma(whole.operations, whole.u)
    slack = 6 * along + rounding.gamma(whole.rows + 8, whole.u)
    sizes, w, _ = _sizes(question, whole.u, along)
    if of == "features":
        w = question.snapshot.sample_weights[:, None]
        g, dg = (np.sum(x**2, axis=1)[:, None] for x in (sizes[0].h, sizes[0].dh))
    elif of == "errors":
        g, dg = (np.sum(x**2, axis=2) for x in (sizes[0].d, sizes[0].dd))
    else:
        g, dg = _gradients(sizes)
    return w, g, dg, slack


def _sizes(
    question: Question, u: float, along: float
) -> tuple[list[_Sizes], np.ndarray, np.ndarray]:
    """Return sizes by layer, weights (N, C) of the rows and their errors."""
    snapshot, out = question.snapshot, []
    p, s = snapshot.probabilities, snapshot.sample_weights
    for name in question.layers:
        x = snapshot.layer(name)
        h, d = lengths(x.features, 2), lengths(x.errors, 3)
        out.append(
            _Sizes(h, along * h, d, along * d + 4 * u * d.max(axis=1, keepdims=True))
        )
    w = s[:, None] * p
    if question.of == "empirical_fisher" or question.fisher == "empirical":
        w = s[:, None] * np.eye(p.shape[1])[snapshot.labels]
    return out, w, along * w


def _gradients(sizes: list[_Sizes]) -> tuple[np.ndarray, np.ndarray]:
    """Bound squared norms (N, C) of gradients and of what rounding adds to them."""
    g: Any = 0.0
    dg: Any = 0.0
    for x in sizes:
        h, dh = x.h[:, None, :], x.dh[:, None, :]
        g = g + np.sum(x.d * h, axis=2) ** 2
        dg = dg + np.sum(x.d * dh + x.dd * (h + dh), axis=2) ** 2
    return g, dg


def _trace(sizes: list[_Sizes], w: np.ndarray) -> float:
    """Bound the trace of a moment."""
    return float(np.sum(w * _gradients(sizes)[0]))


def _moment_radius(
    sizes: list[_Sizes], w: np.ndarray, dw: np.ndarray, slack: float
) -> float:
    """Sum over rows: (w + dw)(|g| + |dg|)^2 - w |g|^2, and the rounding of sums."""
    g, dg = (np.sqrt(x) for x in _gradients(sizes))
    # (g + dg)^2 - g^2 without cancellation
    off = (w + dw) * dg * (2 * g + dg) + dw * g**2
    return float(np.sum(off + slack * (w + dw) * (g + dg) ** 2))


def _kronecker_radius(
    question: Question,
    name: str,
    x: _Sizes,
    w: np.ndarray,
    dw: np.ndarray,
    slack: float,
) -> float:
    """Bound a layer's Delta (x) H, by class for CFAC; sums in place of means of t."""
    s, labels = question.snapshot.sample_weights, question.snapshot.labels
    T = x.h.shape[1]
    more = T if question.setting == "reduce" else 1  # |sum_t|^2 <= T sum |.|^2

    def moment(*sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w, dw, v, dv = sizes
        off = (w + dw) * dv * (2 * v + dv) + dw * v**2
        size = (w + dw) * (v + dv) ** 2
        axes = tuple(range(1, size.ndim))
        return np.sum(w * v**2, axis=axes), np.sum(off + slack * size, axis=axes)

    left, dleft = moment(w[..., None], dw[..., None], x.d, x.dd)
    right, dright = moment((s / T)[:, None], slack * s[:, None] / T, x.h, x.dh)
    left, dleft = more * left, more * dleft
    kinds = labels if question.of == "cfac" else np.zeros_like(labels)
    total = 0.0
    for c in np.unique(kinds):
        mine = kinds == c
        mass = float(np.sum(s[mine])) if question.of == "cfac" else 1.0
        if mass > 0:
            L, dL = float(np.sum(left[mine])), float(np.sum(dleft[mine]))
            R, dR = float(np.sum(right[mine])), float(np.sum(dright[mine]))
            total += (dL * (R + dR) + L * dR) / mass + 4 * slack * L * R / mass
            if question.of == "ekfac":
                total += _turned(question, name, dL, dR)
    return total


def _turned(question: Question, name: str, dL: float, dR: float) -> float:
    """Bound what turning EKFAC's eigenvectors does: Davis-Kahan, one by one.

    EKFAC is not continuous in its factors: where eigenvalues nearly coincide the bound
    is EKFAC's size. Vectors of eigenvalue 0 meet no gradient: S is 0 in any basis.
    """
    how: dict[str, Any] = {"setting": question.setting, "fisher": question.fisher}
    factors = kfac(question.snapshot, name, **how)
    S = np.asarray(ekfac(question.snapshot, name, **how).values)
    turns = []
    for matrix, off in ((factors.left, dL), (factors.right, dR)):
        values = np.linalg.eigvalsh(matrix)
        gap = np.diff(values, prepend=-np.inf, append=np.inf)
        near = np.minimum(gap[:-1], gap[1:])
        close = np.maximum(near, 2 * off)
        turns.append(2 * off / np.where(close > 0, close, 1.0))
    turn = turns[0][:, None] + turns[1][None, :]
    change = 2 * turn * np.sqrt(np.max(S, initial=0.0) * np.abs(S)) + turn**2 * S
    moved = 2 * np.sqrt(2) * turn * np.abs(S)
    return float(np.sum(change + moved))


def _hessian_radius(question: Question, u: float) -> tuple[float, bool]:
    """Bound a Hessian computed in the format of roundoff u by any algorithm.

    And say whether the bound is measured: where another is not below the size of H.
    """
    if question.snapshot.model is None:
        return math.inf, False
    z = np.random.default_rng(0).standard_normal((question.parameters, 1))
    Hz = operator(question).apply(z)
    bound, size = (
        _hessian_bound(question, u),
        math.sqrt(np.sum(Hz * Hz) / np.sum(z * z)),
    )
    if bound < size or size == 0:
        return bound, False
    # in float64; in proportion to roundoff otherwise, as the rows of a moment
    lost = hessian.operator(question.snapshot, list(question.layers)).lost
    return lost * u / rounding.unit_roundoff(z), True


def _hessian_bound(question: Question, u: float) -> float:
    """Bound the same as proved in float64; in a coarser format by this module's model.

    It has the sum over paths of absolute values that the proof has.
    """
    snapshot = question.snapshot
    network, X = in_format(*models.of_snapshot(snapshot))
    s, y = snapshot.sample_weights.astype(np.float64), snapshot.labels
    if u <= rounding.unit_roundoff(X):
        return hessian_radius(network, X, y, sample_weights=s)
    steps, curvature, seeds = at_logits(network, X, y, "hessian", s)
    shapes, every = models.layer_shapes(network), np.eye(curvature.shape[1])
    shapes = {name: x for name, x in shapes.items() if name in question.layers}
    p = np.exp(log_softmax(models.evaluation.logits(network, X)))
    # differences 1 - p lose 4 u, which the factor gamma_K of all that follows divides
    lost = 4 * u / rounding.gamma(roundings(steps, curvature), u) * s[:, None]
    curvature = np.abs(curvature) + (lost * p)[:, :, None] * every
    errors = np.abs(np.asarray(seeds)) + lost * every[y]
    errors_of = algorithm_errors((steps, curvature, errors), shapes, u, np)
    return norm_of(errors_of, network, X, question.layers)
