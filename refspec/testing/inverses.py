"""Assert that an influence function's inverse products are those of A + damping.

An inverse is hard to compare and easy to check: x is the product with v exactly if
(A + damping) x is v. So what is compared is that residual, with what a right answer in
the same format may leave, and, of an iterative solver, with what it says it left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec import backend, checks, rounding
from refspec.backend import Array
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment
from refspec.factors import lengths
from refspec.kronecker import kfac
from refspec.testing import inputs, messages
from refspec.testing.accuracy import accuracy, format_roundoff
from refspec.testing.damping import OF_WEIGHTS, amount, dampings, weights_alone
from refspec.testing.fits import Fit
from refspec.testing.mistakes import scales, structures
from refspec.testing.questions import Operator, Question, ask, operator

_PROBES = 8
_ORTHOGONAL = 2.0**-10  # cosine; of P random numbers none of 16 is as small by chance


def assert_inverse(
    found: Any,
    expected: Snapshot | SecondMoment,
    *,
    damping: float,
    of: str = "fisher",
    layer: str | tuple[str, ...] | None = None,
    order: str | np.ndarray = "row_major",
    setting: str = "expand",
    dtype: str | None = None,
    like: Array | None = None,
    residual: float = 0.0,
    seed: int = 0,
) -> tuple[float, float]:
    r"""Assert that products with an inverse, as influence functions need, are right.

    Parameters
    ----------
    found : matrix, operator or callable
        v to :math:`(A + damping)^{-1} v`, as in `assert_operator`.
    expected : Snapshot or SecondMoment
        What A is the curvature of.
    damping : float
        Positive.
    of, layer, order, setting, dtype, like, seed
        As in `assert_operator`.
    residual : float
        What an iterative solver left of v, relative to its length; 0 of a direct one.

    Returns
    -------
    (float, float)
        The largest relative residual, and what it may be.

    Raises
    ------
    AssertionError
        If it is larger; the message names another damping or one of some parameters
        alone, the usual factors, other matrices, and a solver that was stopped.
    ValueError, TypeError
        If an argument is not as above.

    Notes
    -----
    Theory: theory/rounding.md#B1. With x as found :math:`\|(A + d) x - v\| \le (r +
    \gamma_k (\|A\| + d)) \|x\|`: r what two right matrices may differ by, and the
    second term what a stable solver in this format leaves (its backward error). Eight
    Gaussian vectors v.

    Examples
    --------
    >>> import refspec
    >>> s = refspec.datasets.digits_mlp()
    >>> F = refspec.fisher(s, ["fc3"]).matrix()
    >>> mine = np.linalg.inv(F + 0.1 * np.eye(170))
    >>> off, bound = assert_inverse(mine, s, layer="fc3", damping=0.1)
    >>> off <= bound
    True
    """
    question = ask(expected, of, layer, setting)
    places = inputs.order_places(question, order)
    damping = checks.expect_positive("damping", damping)
    residual = checks.expect_positive("residual", residual, zero=True)
    checks.expect_size("seed", seed)
    inputs.expect_like(like)
    u = 0.0 if dtype is None else format_roundoff(dtype)
    coarse = inputs.roundoff(found) if backend.is_array(found) else u
    coarse = coarse if like is None else inputs.roundoff(like)
    V = inputs.probes(question.parameters, _PROBES, max(u, coarse), seed)
    X, format_ = inputs.products(found, V, places, like)
    u = max(u, format_)
    true, radius = operator(question), accuracy(question, u).radius
    size = float(np.max(np.abs(true.eigenvalues()))) + damping
    k = question.parameters**1.5  # of a factorisation, in the 2-norm
    slack = radius + rounding.gamma(8 * k, u) * size
    allowed = slack * lengths(X, 0) / lengths(V, 0) + residual
    AX = true.apply(X)
    back = AX + damping * X
    off = lengths(back - V, 0) / lengths(V, 0)
    worst = int(np.argmax(off / allowed))
    distance, bound = float(off[worst]), float(allowed[worst])
    if not distance <= bound:
        fits = _fits(_Solved(question, true, V, X, AX, damping, allowed, size))
        lines = [
            ("residual", messages.radii(distance, bound)),
            *messages.diagnosis(fits, V, back, bound),
        ]
        what = f"products with the inverse at damping {damping:.6g} differ"
        raise AssertionError(messages.message(messages.heading(question, what), lines))
    return distance, bound


@dataclass(frozen=True, slots=True, eq=False)
class _Solved:
    """Products X (P, m) found for V, the damping, and relative residuals allowed.

    `size` is a bound on the norm of A + damping.
    """

    question: Question
    true: Operator
    V: np.ndarray
    X: np.ndarray
    AX: np.ndarray
    damping: float
    allowed: np.ndarray
    size: float

    def fit(self, name: str, sentence: str, gap: np.ndarray) -> list[Fit]:
        """Return a mistake that leaves a gap (P, m) as small as allowed."""
        ratio = float(np.max(lengths(gap, 0) / lengths(self.V, 0) / self.allowed))
        sharp = float(np.max(self.allowed)) < 1 / 4
        return [Fit(name, sentence, ratio)] if ratio <= 1 and sharp else []

    def least(self, name: str, sentence: str, d: np.ndarray) -> list[Fit]:
        """Ask whether X is nearest to a solution of B = A + d, which may have none.

        B times the gap is then zero.
        """
        gap = self.AX + d[:, None] * self.X - self.V
        back = self.true.apply(gap) + d[:, None] * gap
        return self.fit(name, sentence, back / self.size)

    def damped(
        self, BX: np.ndarray, mistake: str = "", sentence: str = ""
    ) -> list[Fit]:
        """Ask whether B with another damping, or one of some parameters, was solved."""
        left, N = self.V - BX, len(self.question.snapshot.labels)
        radius = inputs.frobenius(self.allowed * lengths(self.V, 0))
        for x in dampings(self.question, left, self.X, radius):
            name = "other damping" if x.name == "damping" else x.name
            text = _said(x.amount, x.of, self.damping)
            if self.fit("", "", BX + self.damping / N * self.X - self.V):
                text += f": it is divided by N = {N}, as of a loss that is summed"
            text = "; and ".join(y for y in (sentence, text) if y)
            name = ", ".join(y for y in (mistake, name) if y)
            fits = self.fit(name, text, BX + x.each[:, None] * self.X - self.V)
            if fits:
                return fits
        return []


def _fits(x: _Solved) -> list[Fit]:
    """Try another damping, factors of the inverse or of A, and other matrices.

    Another matrix with another damping only where none of these fits.
    """
    q, V, X, AX, damping = x.question, x.V, x.X, x.AX, x.damping
    others = []
    for name, (s, text) in scales(q).items():
        others.append((f"{name} of the matrix", f"of the matrix: {text}", s * AX))
    for mistake in structures(q, "row_major"):
        others.append((mistake.name, mistake.sentence, mistake.build().apply(X)))
    fits = x.damped(AX)
    for name, (s, text) in scales(q).items():
        gap = (AX + damping * X) / s - V
        fits += x.fit(f"{name} of the inverse", f"of the inverse: {text}", gap)
    gap = X - x.true.apply(V) - damping * V
    fits += x.fit("no inverse", "these are products with the matrix itself", gap)
    for name, text, BX in others:
        fits += x.fit(name, text, BX + damping * X - V)
    for look in (_undamped, _of_factors, _stopped):
        fits = fits or look(x)
    seen = x.allowed * lengths(V, 0)
    for name, text, BX in others if not fits else ():
        if np.all(lengths(BX - AX, 0) > seen):
            fits += x.damped(BX, name, text)
    return fits


def _undamped(x: _Solved) -> list[Fit]:
    """Ask whether nothing was damped, or no bias: the matrix may be singular then.

    Of a softmax it is: the same added to all logits changes nothing.
    """
    P = x.question.parameters
    text = f"without damping, a pseudo-inverse of the matrix: add {x.damping:.6g} to it"
    fits = x.least("no damping", text, np.zeros(P))
    on = weights_alone(x.question)
    if fits or on.all() or not on.any():
        return fits
    d = amount((x.V - x.AX)[on], x.X[on])
    text = _said(f"{d:.6g}", OF_WEIGHTS, x.damping)
    return x.least("weight decay", text, d * on)


def _said(amount: str, of: str, damping: float) -> str:
    """Say which damping was found, of which parameters, and which was asked for."""
    asked = f"where {damping:.6g} of all parameters is asked for"
    return f"the damping is {amount}{of}, {asked if of else f'not {damping:.6g}'}"


def _of_factors(x: _Solved) -> list[Fit]:
    """Ask whether KFAC's factors were damped, each by the root, or by traces (pi)."""
    q, m = x.question, x.X.shape[1]
    if q.of != "kfac":
        return []
    root, fits = math.sqrt(x.damping), []
    how: dict[str, Any] = {"setting": q.setting, "fisher": q.fisher}
    for balanced in (False, True):
        parts = []
        for name, (b, a), part in zip(q.layers, q.shapes, q.slices, strict=True):
            K = kfac(q.snapshot, name, **how)
            means = [float(np.trace(F)) / len(F) for F in (K.right, K.left)]
            pi = math.sqrt(means[0] / means[1]) if balanced and min(means) > 0 else 1.0
            left, right = (
                K.left + root / pi * np.eye(b),
                K.right + root * pi * np.eye(a),
            )
            made = left @ x.X[part].T.reshape(m, b, a) @ right.T
            parts.append(made.reshape(m, -1).T)
        by = "by the factors' mean eigenvalues, pi" if balanced else "alike"
        text = (
            f"the factors are damped, each by the root of {x.damping:.6g}, shared out "
            f"{by}: their product is not KFAC + {x.damping:.6g}"
        )
        fits += x.fit("damping of the factors", text, np.concatenate(parts) - x.V)
    return fits


def _stopped(x: _Solved) -> list[Fit]:
    """Ask whether conjugate gradients were stopped: what they leave is orthogonal to x.

    And to v, from which they began.
    """
    left = x.V - x.AX - x.damping * x.X
    size = lengths(left, 0)
    along = [np.abs(np.sum(left * y, axis=0)) / lengths(y, 0) for y in (x.X, x.V)]
    if not (np.all(size > 0) and float(np.max(along / size)) <= _ORTHOGONAL):
        return []
    worst = float(np.max(size / lengths(x.V, 0)))
    text = (
        f"not converged: conjugate gradients were stopped at a residual of {worst:.3g} "
        "of v, it is orthogonal to v and to the product; take more steps, or say "
        "`residual=`"
    )
    return [Fit("not converged", text, 0.0)]
