"""Assert that an influence function's inverse products are those of A + damping.

An inverse is hard to compare and easy to check: x is the product with v exactly if
(A + damping) x is v. So what is compared is that residual, with what a right answer in
the same format may leave, and, of an iterative solver, with what it says it left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refspec import checks, rounding
from refspec.backend import Array
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment
from refspec.factors import lengths
from refspec.testing import inputs, messages
from refspec.testing.accuracy import accuracy, format_roundoff
from refspec.testing.fits import Fit
from refspec.testing.mistakes import scales, structures
from refspec.testing.questions import Operator, Question, ask, operator

_PROBES = 8


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
        If it is larger; the message names another damping, the usual factors and other
        matrices.
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
    coarse = inputs.roundoff(inputs.entering(found, like))
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
        fits = list(_fits(question, true, V, X, AX, damping, allowed))
        lines = [
            ("residual", messages.radii(distance, bound)),
            *messages.diagnosis(fits, V, back, bound),
        ]
        what = f"products with the inverse at damping {damping:.6g} differ"
        raise AssertionError(messages.message(messages.heading(question, what), lines))
    return distance, bound


def _fits(
    question: Question,
    true: Operator,
    V: np.ndarray,
    X: np.ndarray,
    AX: np.ndarray,
    damping: float,
    allowed: np.ndarray,
) -> Iterator[Fit]:
    """Try another damping, factors of the inverse or of A, and other matrices."""
    sizes = lengths(V, 0)

    def fit(name: str, text: str, gap: np.ndarray) -> Iterator[Fit]:
        ratio = float(np.max(lengths(gap, 0) / sizes / allowed))
        if ratio <= 1 and float(np.max(allowed)) < 1 / 4:
            yield Fit(name, text, ratio)

    square = float(np.sum(X * X))
    other = float(np.sum((V - AX) * X)) / square if square > 0 else 0.0
    text = f"the damping is {other:.6g}, not {damping:.6g}"
    yield from fit("other damping", text, AX + other * X - V)
    whole = AX + damping * X
    for name, (s, text) in scales(question).items():
        gap = whole / s - V
        yield from fit(f"{name} of the inverse", f"of the inverse: {text}", gap)
        gap = s * AX + damping * X - V
        yield from fit(f"{name} of the matrix", f"of the matrix: {text}", gap)
    gap = X - true.apply(V) - damping * V
    yield from fit("no inverse", "these are products with the matrix itself", gap)
    for mistake in structures(question, "row_major"):
        gap = mistake.build().apply(X) + damping * X - V
        yield from fit(mistake.name, mistake.sentence, gap)
