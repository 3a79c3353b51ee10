"""Damped inverses: closed forms in an eigenbasis, conjugate gradients for a sum.

A sum of three or more Kronecker products has no closed-form inverse, but its products
are cheap and KFAC, the product of its means, has one: it preconditions.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg

from refspec import backend, checks, rounding
from refspec.backend import Array
from refspec.kronecker.eigenbasis import KroneckerBasis
from refspec.kronecker.eigensystems import times_power, unit_scaled
from refspec.kronecker.operators import linear_operator
from refspec.kronecker.products import Kronecker, KroneckerSum


def damped_inverse(operator: KroneckerBasis, damping: float) -> KroneckerBasis:
    """Return (A + damping I)^-1, exact in the eigenbasis.

    Parameters
    ----------
    operator : KroneckerBasis, positive semidefinite: EKFAC
    damping : float, lambda > 0

    Returns
    -------
    KroneckerBasis
        Values ``1 / (max(value, 0) + damping)``.

    Raises
    ------
    ValueError, TypeError
        If damping is not positive and finite, its inverse not finite, or operator no
        KroneckerBasis.

    Notes
    -----
    Theory: theory/preconditioners.md#K10.

    Examples
    --------
    >>> import numpy as np
    >>> A = KroneckerBasis(np.eye(1), np.eye(2), np.asarray([[1.0, 3.0]]))
    >>> damped_inverse(A, 1.0).values.tolist()
    [[0.5, 0.25]]
    """
    checks.expect_type("operator", operator, KroneckerBasis, "e.g. from ekfac")
    damping = checks.expect_positive("damping", damping)
    positive = operator.xp.clip(operator.values, min=0.0)
    return KroneckerBasis(operator.left, operator.right, 1 / (positive + damping))


def factored_tikhonov(operator: Kronecker, damping: float) -> KroneckerBasis:
    r"""Return the inverse of a Kronecker product with the damping split over factors.

    Parameters
    ----------
    operator : Kronecker
        KFAC: left :math:`\Delta` (b, b), right H (a, a), positive semidefinite.
    damping : float, lambda > 0

    Returns
    -------
    KroneckerBasis
        :math:`(\Delta + \sqrt\lambda / \varpi\, I)^{-1} \otimes
        (H + \varpi \sqrt\lambda\, I)^{-1}` with
        :math:`\varpi^2 = (tr H / a) / (tr \Delta / b)`.

    Raises
    ------
    ValueError, TypeError
        As `damped_inverse`, operator a Kronecker.

    Notes
    -----
    Theory: theory/preconditioners.md#K10. Martens and Grosse (2015), section 6.3. The
    split minimises the bound on the cross terms that factored damping adds. A zero
    factor, or one that has underflowed, has no scale: varpi = 1.

    Examples
    --------
    >>> import numpy as np
    >>> P = factored_tikhonov(Kronecker(np.eye(1), 4 * np.eye(1)), 1.0)
    >>> bool(P.values[0, 0] == 1 / (1.5 * 6))
    True
    """
    checks.expect_type("operator", operator, Kronecker, "e.g. from kfac")
    damping = checks.expect_positive("damping", damping)
    xp = operator.xp
    (mu, Q), (nu, R) = backend.eigh(operator.left, xp), backend.eigh(operator.right, xp)
    mu, nu = xp.clip(mu, min=0.0), xp.clip(nu, min=0.0)
    scales = backend.scalar(xp.mean(nu)), backend.scalar(xp.mean(mu))
    smallest = xp.finfo(mu.dtype).smallest_normal
    split = scales[0] ** 0.5 / scales[1] ** 0.5 if min(scales) >= smallest else 1.0
    root = damping**0.5
    values = (mu + root / split)[:, None] * (nu + root * split)[None, :]
    return KroneckerBasis(Q, R, 1 / values)


@dataclass(frozen=True, slots=True, eq=False)
class DampedSolution:
    """What a damped solve returns.

    Parameters
    ----------
    value : Array, shape (b, a), X
    residual : float
        ``||V - (G + damping I) X|| / ||V||``, recomputed from X at the end.
    iterations : int
        Steps taken, each one product with G and one with the preconditioner.
    """

    value: Array
    residual: float
    iterations: int

    def __repr__(self) -> str:
        """Say how far it came, not the entries."""
        (b, a), r = self.value.shape, self.residual
        return f"DampedSolution(b={b}, a={a}, {r:.3g} in {self.iterations} iterations)"


def damped_solve(
    operator: KroneckerSum,
    V: Array,
    damping: float,
    preconditioner: KroneckerBasis,
    *,
    relative_residual: float | None = None,
    iterations: int | None = None,
) -> DampedSolution:
    r"""Solve (G + damping I) vec X = vec V by preconditioned conjugate gradients.

    Parameters
    ----------
    operator : KroneckerSum
        G, positive semidefinite, e.g. CFAC.
    V : Array, shape (b, a), the gradient of the weight
    damping : float, lambda > 0
    preconditioner : KroneckerBasis
        Positive definite; `factored_tikhonov` of KFAC.
    relative_residual : float, optional
        Stop when :math:`\|V - (G + \lambda) X\|_F \le` this times :math:`\|V\|_F`,
        judged on a recomputed residual. By default :math:`\gamma_{a+b+m+3} (1 + \sum_c
        \pi_c \|\Delta_c\|_F \|H_c\|_F / \lambda)`, the most that rounding is sure to
        allow.
    iterations : int, optional, stop after this many steps in any case; default no limit

    Returns
    -------
    DampedSolution
        With the residual it reached: compare it with the one asked for.

    Raises
    ------
    ValueError, TypeError
        If V has another shape, damping is not positive, or an operator is of another
        kind.

    Notes
    -----
    Theory: theory/preconditioners.md#K12. Hestenes and Stiefel (1952). The iteration is
    SciPy's, on the host: where the factors are on a device they stay there, and one
    vector goes there and back a product. The recurrence's residual drifts from the true
    one, so on its convergence, or after the a b steps that finish it in exact
    arithmetic, the true residual is computed and the iteration restarts from it. It
    ends when the residual is reached or when a restart fails to halve it: rounding is
    the limit. A step costs a product with G, 2 C a b (a + b), and one with the
    preconditioner, 4 a b (a + b).

    Examples
    --------
    >>> import numpy as np
    >>> G = KroneckerSum(np.ones(1), np.eye(2)[None], np.eye(3)[None])
    >>> P = factored_tikhonov(Kronecker(np.eye(2), np.eye(3)), 1.0)
    >>> damped_solve(G, np.ones((2, 3)), 1.0, P).value[0, 0].item()
    0.5
    """
    limit = _expect_system(operator, V, damping, preconditioner, iterations)
    if relative_residual is None:
        relative_residual = default_residual(operator, damping)
    relative_residual = checks.expect_positive(
        "relative_residual", relative_residual, zero=True
    )
    xp, P = operator.xp, operator.dimension
    scaled, e = unit_scaled(V, xp)  # the solution is linear in V, its square is not
    v = np.reshape(backend.to_host(scaled), (-1,))
    G, M = linear_operator(operator), linear_operator(preconditioner)

    def damped(x: np.ndarray) -> np.ndarray:
        return np.asarray(G @ x + damping * x)

    A = scipy.sparse.linalg.LinearOperator((P, P), matvec=damped, dtype=v.dtype)
    size = float(np.linalg.norm(v))
    target = relative_residual * size
    x, r, used, reached, before = np.zeros_like(v), v, 0, size, math.inf
    while reached > target and reached <= before / 2 and limit > used:
        step, taken = _conjugate_gradients(A, r, M, target, min(P, limit - used))
        x, used, before = x + step, used + taken, reached
        r = v - damped(x)
        reached = float(np.linalg.norm(r))
    value = times_power(xp.reshape(backend.from_host(x, V), tuple(V.shape)), e)
    return DampedSolution(value, reached / size if size else 0.0, used)


def default_residual(operator: KroneckerSum, damping: float) -> float:
    """Return the relative residual below which rounding hides the true one, at most 1.

    Theory: theory/preconditioners.md#K12.
    """
    xp, m = operator.xp, operator.lefts.shape[0]
    norms = xp.abs(operator.coefficients)
    norms = norms * xp.linalg.matrix_norm(operator.lefts)
    norms = norms * xp.linalg.matrix_norm(operator.rights)
    k = operator.lefts.shape[1] + operator.rights.shape[1] + m + 3
    g = rounding.gamma(k, rounding.unit_roundoff(operator.lefts))
    return min(1.0, g * (1 + backend.scalar(xp.sum(norms)) / damping))


def _expect_system(
    operator: KroneckerSum,
    V: Array,
    damping: float,
    preconditioner: KroneckerBasis,
    iterations: int | None,
) -> float:
    """Refuse all but a system that fits together; return how many steps it may take."""
    checks.expect_type("operator", operator, KroneckerSum, "e.g. from cfac")
    checks.expect_type(
        "preconditioner", preconditioner, KroneckerBasis, "e.g. from factored_tikhonov"
    )
    sizes = {"b": operator.lefts.shape[1], "a": operator.rights.shape[1]}
    checks.expect_array("V", V, "(b, a)", sizes=sizes)
    checks.expect_alike(V=V, operator=operator.like, preconditioner=preconditioner.like)
    checks.expect_positive("damping", damping)
    shape = tuple(preconditioner.values.shape)
    if shape != tuple(V.shape):
        raise ValueError(
            f"preconditioner must act on weights of shape (b, a) = {tuple(V.shape)}, "
            f"got one of {shape}; make it of the same layer"
        )
    if iterations is None:
        return math.inf
    return checks.expect_size("iterations", iterations)


def _conjugate_gradients(
    A: scipy.sparse.linalg.LinearOperator,
    r: np.ndarray,
    M: scipy.sparse.linalg.LinearOperator,
    target: float,
    limit: float,
) -> tuple[np.ndarray, int]:
    """Return x with ||r - A x|| <= target by recurrence, and the steps taken."""
    taken, kept = 0, np.zeros_like(r)

    def see(x: np.ndarray) -> None:
        nonlocal taken, kept
        taken += 1
        if not np.all(np.isfinite(x)):  # an inner product has underflowed: 0 / 0
            raise FloatingPointError
        kept = x.copy()

    stop = {"rtol": 0.0, "atol": target}  # SciPy's names for a residual of our own
    with np.errstate(all="ignore"), contextlib.suppress(FloatingPointError):
        scipy.sparse.linalg.cg(A, r, maxiter=int(limit), M=M, callback=see, **stop)
    return kept, taken
