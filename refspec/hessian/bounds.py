"""How far a computed Hessian can be from the exact one, by any exact algorithm.

An entry of the Hessian is a sum over paths of products of weights, features, slopes,
bends and the derivatives at the logits. Rounding does two things to it: to the sums and
products themselves, in whatever order, and to the factors, which come from rounded
pre-activations. One majorant bounds both: the same sum over paths of absolute values,
which is a product with a non-negative vector, each factor enlarged by its error.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from refspec import backend, classes, rounding
from refspec.backend import Array, Namespace
from refspec.hessian.assembly import Seeded, at_logits, multiplied
from refspec.models import Network, evaluation, layer_shapes, operations, running
from refspec.models.activations import ACTIVATIONS, EVALUATION, doubtful
from refspec.models.operations import Step, overlap

#: By how much errors of factors are enlarged, and what they add divided again.
_SCALE = 64.0
_ITERATIONS = 8  # of the power method: any positive vector gives a bound
_LEAST = 2.0**-10  # of its entries beside the largest: nothing is divided by 0


def hessian_radius(
    network: Network,
    X: Array,
    labels: Array,
    *,
    sample_weights: Array | None = None,
) -> float:
    r"""Bound the 2-norm error of a computed Hessian, Fisher matrix or residual.

    Parameters
    ----------
    network, X, labels, sample_weights : as in `refspec.hessian.hessian`

    Returns
    -------
    float
        :math:`\|fl(H) - H\|_2` is at most this for H of every part and any layers; inf
        where nothing can be proved, e.g. if the sign of a relu's input is not certain,
        as in deep networks: `refspec.hessian.operator` measures it then.

    Raises
    ------
    ValueError
        If inputs, labels or weights do not fit.

    Notes
    -----
    Theory: theory/hessian.md#H7. Entries are off by at most those of a matrix
    :math:`B \ge 0`: :math:`\gamma_K` times the sum over paths of absolute values, and
    what errors of the factors add to that sum. :math:`\|B\|_2 \le \max_i (Bv)_i / v_i`
    for any v > 0; a few steps of the power method give a good one. It holds for every
    algorithm that sums the same products in any order, automatic differentiation too,
    barring underflow. Cost: about that of 16 products with a vector.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec import models
    >>> network = models.mlp([3, 4, 2], rng=np.random.default_rng(0))
    >>> 0 < hessian_radius(network, np.ones((5, 3)), [0, 1, 0, 1, 1]) < 1e-11
    True
    """
    errors_of = product_errors(network, X, labels, sample_weights=sample_weights)
    return math.inf if errors_of is None else norm_of(errors_of, network, X)


def norm_of(
    errors_of: Callable[[Array], Array],
    network: Network,
    X: Array,
    layers: Sequence[str] | None = None,
) -> float:
    """Bound ||B||_2 of B >= 0 for the parameters of some layers, all if None."""
    xp, best = backend.namespace(X), math.inf
    P = sum(b * a for b, a in _shapes(network, layers).values())
    v = xp.ones(P, dtype=X.dtype, device=backend.device(X))
    for _ in range(_ITERATIONS):
        w = errors_of(v)
        best = min(best, backend.scalar(xp.max(w / v)))
        largest = backend.scalar(xp.max(w))
        if not 0 < largest < math.inf:
            break
        v = xp.where(w < _LEAST * largest, xp.full_like(w, _LEAST), w / largest)
    return best


def algorithm_errors(
    seeded: Seeded, shapes: Mapping[str, tuple[int, int]], u: float, xp: Namespace
) -> Callable[[Array], Array]:
    """Return v -> Bv: from these factors, H z is computed to B|z| at most, entrywise.

    By blocks or by products. Theory: theory/hessian.md#H7.
    """
    g, plain = rounding.gamma(roundings(*seeded[:2]), u), _absolute(seeded, xp)
    # twice, here and below: the rounding of this bound
    return lambda v: 2 * g * multiplied(plain, shapes, v[None, :], xp)[0, :]


def product_errors(
    network: Network,
    X: Array,
    labels: Array,
    *,
    layers: Sequence[str] | None = None,
    sample_weights: Array | None = None,
    subtracted: bool = True,
) -> Callable[[Array], Array] | None:
    """Return v -> Bv: a computed H z is off by at most B|z|, entrywise; None: unknown.

    Factors are off as well; `subtracted` if 1 - p may be taken as a difference, which
    it never is here. Theory: theory/hessian.md#H7.
    """
    seeded = at_logits(network, X, labels, "hessian", sample_weights)
    xp, u = backend.namespace(X), rounding.unit_roundoff(X)
    g, shapes = rounding.gamma(roundings(*seeded[:2]), u), _shapes(network, layers)
    w = evaluation.sample_average(sample_weights, X, xp)
    # parameters move every entry of a layer's outputs, be its error 0
    least = float(xp.finfo(X.dtype).smallest_normal) / u
    run = running.forward(network, X, u, xp, least=least)
    moved, own = running.probability_errors(run.logits, run.errors, u, xp)
    tau = (moved + own)[:, 0]  # of a probability, relative
    if not (g < 1 and bool(xp.all(tau < 1)) and _certain(run, network, xp)):
        return None
    # a difference 1 - p is off by as much as p, and by roundings of its own
    lost = w[:, None] * (2 * own + 2 * g) if subtracted else 0 * own
    p = xp.exp(classes.log_softmax(run.logits))
    hot = evaluation.one_hot(labels, p, xp)
    plain = _absolute(seeded, xp)
    more = _with_errors(plain, run, network, tau, lost * p, lost * hot, u, xp)

    def errors_of(v: Array) -> Array:
        # what errors add is convex in their size, and so at most a part of what larger
        # ones add; the last term is the rounding of the difference
        low, high = (multiplied(x, shapes, v[None, :], xp)[0, :] for x in (plain, more))
        return 2 * (g * low + (high - low + 2 * g * high) / _SCALE)

    return errors_of


def _shapes(
    network: Network, layers: Sequence[str] | None
) -> dict[str, tuple[int, int]]:
    """Return the shapes of some layers, in the network's order, or of all."""
    every = layer_shapes(network)
    return {x: every[x] for x in every if layers is None or x in layers}


def roundings(steps: Sequence[Step], curvature: Array) -> int:
    """Count roundings on a path: each step twice, then the sum over samples."""
    N, C = curvature.shape[:2]
    count, positions = 4 * EVALUATION + 2 * C, 1
    for step in steps:
        if step.matrix is not None:
            b, a = step.matrix.shape
            count += 2 * (a + b * overlap(step) + 4)
            positions = max(positions, step.features.shape[1])
        else:
            kernel = 1 if step.window is None else math.prod(step.window[0])
            count += 2 * (kernel + overlap(step) + 4)
        count += 4 * (len(step.of) - 1)
    return int(count + N * positions)


def _certain(run: running.Run, network: Network, xp: Namespace) -> bool:
    """Whether all is on one side of every kink, and each maximum one entry.

    Entries that no parameter moves, of error 0, may lie anywhere.
    """
    for step, operation, (x, e) in zip(
        run.steps, network.operations, run.into, strict=True
    ):
        if step.kind in ACTIVATIONS and bool(xp.any(doubtful(operation, x, e, xp))):
            return False
        if step.choice is not None:
            near = operations.near_the_maximum(step, x, e, xp)
            if bool(xp.any(near * operations.windows(step, e, xp) > 0)):
                return False
    return True


def _absolute(seeded: Seeded, xp: Namespace) -> Seeded:
    """Take absolute values of all factors."""
    steps, curvature, errors = seeded
    found = []
    for step in steps:
        names = ("matrix", "features", "slope", "bend")  # a choice is 0 or 1
        known = {n: getattr(step, n) for n in names if getattr(step, n) is not None}
        sizes = {name: xp.abs(x) for name, x in known.items()}
        found.append(dataclasses.replace(step, **sizes))
    return found, xp.abs(curvature), None if errors is None else xp.abs(errors)


def _with_errors(
    plain: Seeded,
    run: running.Run,
    network: Network,
    tau: Array,
    lost: Array,
    lost_seeds: Array,
    u: float,
    xp: Namespace,
) -> Seeded:
    """Add errors of all factors, enlarged, to their absolute values.

    A probability is off by tau of itself, (N,); `lost`, (N, C), is what differences 1 -
    p lose, in the diagonal of w (diag p - pp') and in w (p - e).
    """
    found, (_, curvature, errors) = [], plain
    for k, (size, step) in enumerate(zip(plain[0], run.steps, strict=True)):
        z, e = run.into[k]
        if step.matrix is not None:
            off = operations.unfold(step, e, xp)
            bias = xp.zeros_like(size.features[:, :, off.shape[2] :])
            more = size.features + _SCALE * xp.concat([off, bias], axis=2)
            size = dataclasses.replace(size, features=more)
        elif step.slope is not None:
            s, b = running.slope_errors(step, network.operations[k], z, e, u, xp)
            slope, bend = size.slope + _SCALE * s, size.bend + _SCALE * b
            size = dataclasses.replace(size, slope=slope, bend=bend)
        found.append(size)
    C = curvature.shape[1]
    every = xp.eye(C, dtype=tau.dtype, device=backend.device(tau))
    # an entry is a product of two probabilities or differences
    curvature = curvature * (1 + 3 * _SCALE * tau)[:, None, None]
    curvature = curvature + _SCALE * lost[:, None, :] * every
    if errors is not None:
        errors = errors * (1 + _SCALE * tau)[:, None] + _SCALE * lost_seeds
    return found, curvature, errors
