"""CFAC as a method: running class factors and a damped solve by conjugate gradients.

A sum of three or more Kronecker products has no closed-form inverse, but its products
are cheap and KFAC, the product of its means, has one: it preconditions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from refspec import backend, rounding
from refspec.backend import Array
from refspec.kronecker.eigenbasis import KroneckerBasis
from refspec.kronecker.kfac import ClassFactors
from refspec.kronecker.products import KroneckerSum

__all__ = ["Solution", "default_residual", "running_average", "solve"]


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """What a damped solve returns.

    Parameters
    ----------
    value : Array
        X, the shape of the right-hand side.
    residual : float
        ``||V - (G + damping I) X|| / ||V||``, recomputed from X at the end.
    iterations : int
        Steps taken, each one product with G and one with the preconditioner.
    """

    value: Array
    residual: float
    iterations: int


def running_average(
    old: ClassFactors, batch: ClassFactors, decay: float
) -> ClassFactors:
    r"""Average class factors over batches; a class absent from a batch keeps its own.

    Parameters
    ----------
    old : ClassFactors
        The average so far.
    batch : ClassFactors
        Of the new batch, the same C, a and b.
    decay : float
        In [0, 1): the share of the old.

    Returns
    -------
    ClassFactors
        Frequencies :math:`\pi = \beta \pi^{old} + (1-\beta)\pi^{batch}` and factors
        :math:`(\beta \pi_c^{old} H_c^{old} + (1-\beta) \pi_c^{batch} H_c^{batch}) /
        \pi_c`: the average of the unnormalised moments.

    Raises
    ------
    ValueError
        If decay is outside [0, 1).

    Notes
    -----
    Theory: theory/kronecker.md#K11. A convex combination class by class, so factors
    stay positive semidefinite and samples of a rare class are not overweighted.

    Examples
    --------
    >>> import numpy as np
    >>> one, two = np.ones((2, 1, 1)), 2 * np.ones((2, 1, 1))
    >>> old = ClassFactors(np.asarray([0.5, 0.5]), one, one)
    >>> new = ClassFactors(np.asarray([1.0, 0.0]), two, two)
    >>> average = running_average(old, new, 0.5)
    >>> average.features[1, 0, 0].item(), average.frequencies.tolist()
    (1.0, [0.75, 0.25])
    """
    if not 0 <= decay < 1:
        raise ValueError(
            f"decay must lie in [0, 1), got {decay}; it is the share of the old average"
        )
    xp = backend.namespace(old.frequencies, batch.frequencies)
    kept, added = decay * old.frequencies, (1 - decay) * batch.frequencies
    pi = kept + added
    share = added / xp.where(pi > 0, pi, xp.ones_like(pi))  # 0 for a class never seen
    new, past = share[:, None, None], 1 - share[:, None, None]
    return ClassFactors(
        pi,
        past * old.errors + new * batch.errors,
        past * old.features + new * batch.features,
    )


def default_residual(operator: KroneckerSum, damping: float) -> float:
    r"""Return the relative residual below which rounding hides the true one.

    Parameters
    ----------
    operator : KroneckerSum
        G, m terms with factors of sides b and a.
    damping : float
        lambda > 0.

    Returns
    -------
    float
        :math:`\gamma_{a+b+m+3} (1 + \sum_c \pi_c \|\Delta_c\|_F \|H_c\|_F / \lambda)`,
        at most 1.

    Notes
    -----
    Theory: theory/kronecker.md#K12. One product errs by at most gamma times that norm
    times ||X||, and ||X|| <= ||V|| / lambda.

    Examples
    --------
    >>> import numpy as np
    >>> G = KroneckerSum(np.ones(1), np.ones((1, 1, 1)), np.ones((1, 1, 1)))
    >>> default_residual(G, 1.0) < 1e-14
    True
    """
    xp, m = backend.namespace(operator.lefts), operator.lefts.shape[0]
    norms = xp.abs(operator.coefficients)
    norms = norms * xp.linalg.matrix_norm(operator.lefts)
    norms = norms * xp.linalg.matrix_norm(operator.rights)
    k = operator.lefts.shape[1] + operator.rights.shape[1] + m + 3
    g = rounding.gamma(k, rounding.unit_roundoff(operator.lefts))
    return min(1.0, g * (1 + backend.scalar(xp.sum(norms)) / damping))


def solve(
    operator: KroneckerSum,
    V: Array,
    damping: float,
    preconditioner: KroneckerBasis,
    *,
    relative_residual: float | None = None,
    iterations: int | None = None,
) -> Solution:
    r"""Solve (G + damping I) vec X = vec V by preconditioned conjugate gradients.

    Parameters
    ----------
    operator : KroneckerSum
        G, positive semidefinite, e.g. CFAC.
    V : Array, shape (b, a)
        The gradient of the weight.
    damping : float
        lambda > 0.
    preconditioner : KroneckerBasis
        Positive definite; `refspec.kronecker.eigenbasis.factored_tikhonov` of KFAC.
    relative_residual : float, optional
        Stop when :math:`\|V - (G + \lambda) X\|_F \le` this times :math:`\|V\|_F`,
        judged on a recomputed residual. Default `default_residual`, the most that
        rounding is sure to allow.
    iterations : int, optional
        Stop after this many steps in any case; default no limit.

    Returns
    -------
    Solution
        With the residual it reached: compare it with the one asked for.

    Raises
    ------
    ValueError
        If V has another shape, or damping is not positive.

    Notes
    -----
    Theory: theory/kronecker.md#K12. The recurrence's residual drifts from the true one,
    so on its convergence, or after the a b steps that finish it in exact arithmetic,
    the true residual is computed and the iteration restarts from it. It ends when the
    residual is reached or when a restart fails to halve it: rounding is the limit. A
    step costs a product with G, 2 C a b (a + b), and one with the preconditioner, 4 a b
    (a + b).

    References
    ----------
    Hestenes and Stiefel (1952); Martens and Grosse (2015), section 6.3.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec.kronecker.eigenbasis import factored_tikhonov
    >>> factors = ClassFactors(np.ones(1), np.eye(2)[None], np.eye(3)[None])
    >>> P = factored_tikhonov(factors.kfac(), 1.0)
    >>> solve(factors.cfac(), np.ones((2, 3)), 1.0, P).value[0, 0].item()
    0.5
    """
    xp = backend.namespace(V, operator.lefts)
    shape = (operator.lefts.shape[1], operator.rights.shape[1])
    if tuple(V.shape) != shape or not damping > 0:
        raise ValueError(
            f"V must have shape (b, a) = {shape} and damping be > 0, got "
            f"{tuple(V.shape)} and {damping}; transpose V, or raise the damping"
        )
    if relative_residual is None:
        relative_residual = default_residual(operator, damping)
    v = xp.reshape(V, (-1,))
    size = backend.scalar(xp.linalg.vector_norm(v))
    target = relative_residual * size
    left = math.inf if iterations is None else iterations
    x, r, used, reached, before = xp.zeros_like(v), v, 0, size, math.inf
    while reached > target and reached <= before / 2 and left > used:
        step, taken = _conjugate_gradients(
            operator, r, damping, preconditioner, target, min(v.shape[0], left - used)
        )
        x, used, before = x + step, used + taken, reached
        r = v - operator.matvec(x) - damping * x
        reached = backend.scalar(xp.linalg.vector_norm(r))
    return Solution(xp.reshape(x, shape), reached / size if size else 0.0, used)


def _conjugate_gradients(
    operator: KroneckerSum,
    r: Array,
    damping: float,
    preconditioner: KroneckerBasis,
    target: float,
    limit: float,
) -> tuple[Array, int]:
    """X with ||r - (G + damping) x|| <= target by recurrence, and the steps taken."""
    xp = backend.namespace(r)
    x, p, rho, used = xp.zeros_like(r), xp.zeros_like(r), 1.0, 0
    while used < limit and backend.scalar(xp.linalg.vector_norm(r)) > target:
        z = preconditioner.matvec(r)
        rho, old = _dot(r, z), rho
        p = z + (rho / old) * p
        q = operator.matvec(p) + damping * p
        curved = _dot(p, q)
        if not curved > 0:  # underflow, or no number any more
            break
        step = rho / curved
        x, r, used = x + step * p, r - step * q, used + 1
    return x, used


def _dot(x: Array, y: Array) -> float:
    return backend.scalar(backend.namespace(x, y).sum(x * y))
