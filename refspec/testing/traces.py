r"""Assert that a stochastic trace estimate is one of the right trace.

Hutchinson's mean of z'Az is off by what quadratic forms may be; Hutch++ takes an
orthonormal basis Q out first, :math:`tr(Q'AQ) + mean\ z'(I - QQ')A(I - QQ')z`. With the
probes known nothing is left to chance.
"""

from __future__ import annotations

import math

import numpy as np

from refspec import checks, rounding
from refspec.backend import Array
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment
from refspec.testing import inputs, messages
from refspec.testing.accuracy import accuracy, format_roundoff
from refspec.testing.fits import Fit, told
from refspec.testing.mistakes import scales, structures
from refspec.testing.probing import concentration
from refspec.testing.questions import Operator, Question, ask, operator


def assert_trace(
    found: float,
    expected: Snapshot | SecondMoment,
    *,
    of: str = "fisher",
    layer: str | tuple[str, ...] | None = None,
    setting: str = "expand",
    dtype: str | None = None,
    draws: str = "gaussian",
    probes: int = 1,
    basis: Array | None = None,
    vectors: Array | None = None,
    order: str | np.ndarray = "row_major",
) -> tuple[float, float]:
    r"""Assert that a trace estimate, Hutchinson's or Hutch++, is of the right matrix.

    Parameters
    ----------
    found : float
        The estimate.
    expected : Snapshot or SecondMoment
        What it is the trace of.
    of, layer, setting, dtype, order
        As in `assert_operator`; `order` that of the parameters in `basis` and
        `vectors`.
    draws : {"gaussian", "rademacher"}
        How the n probes were drawn, not normalised.
    probes : int
        n, if they are not given.
    basis : Array, shape (P, k), optional
        Hutch++'s orthonormal Q, whose part of the trace is exact.
    vectors : Array, shape (P, n), optional
        The probes: the estimate is then a number without chance in it.

    Returns
    -------
    (float, float)
        The distance, and what it may be.

    Raises
    ------
    AssertionError
        If it is larger; the message tries the usual mistakes.
    ValueError, TypeError
        If an argument is not as above, or so few probes tell nothing: twice the trace
        would pass as well.

    Notes
    -----
    Theory: theory/rounding.md#B1, #B4. :math:`|mean\ z'Bz - tr B| \le 2 |B|_F
    \sqrt{x/n} + 2 |B| x/n` for Gaussian probes, :math:`x = \log(2/p)` and p
    `rounding.FAILURE` (Laurent and Massart 2000); for Rademacher ones Cortinovis and
    Kressner (2022). What Q leaves, :math:`(I - QQ')A(I - QQ')`, has no larger norms
    than A (Cauchy's interlacing), so that the bound holds for Hutch++ (Meyer, Musco,
    Musco and Woodruff 2021) also if Q is not given.

    Examples
    --------
    >>> import refspec
    >>> s = refspec.datasets.digits_mlp()
    >>> F = refspec.fisher(s, ["fc3"])
    >>> Z = np.random.default_rng(0).standard_normal((170, 8))
    >>> mine = float(np.mean(np.sum(Z * F.matvec(Z), axis=0)))
    >>> distance, bound = assert_trace(mine, s, layer="fc3", vectors=Z)
    >>> distance <= bound
    True
    """
    value = checks.expect_number("the trace", found)
    checks.expect_choice("draws", draws, ("gaussian", "rademacher"))
    checks.expect_size("probes", probes, least=1)
    u = rounding.unit_roundoff(np.zeros(0))
    u = max(u, 0.0 if dtype is None else format_roundoff(dtype))
    question = ask(expected, of, layer, setting)
    places = inputs.order_places(question, order)
    Q = _columns("basis", "(P, k)", basis, question, places)
    Z = _columns("vectors", "(P, n)", vectors, question, places)
    Q = np.zeros((question.parameters, 0)) if Q is None else Q
    _expect_orthonormal(Q, u)
    true, radius = operator(question), accuracy(question, u).radius
    values = true.eigenvalues()
    trace, n = float(np.sum(values)), probes if Z is None else Z.shape[1]
    moved = radius * _weight(Q, Z, len(values))
    moved += rounding.gamma(2 * len(values), u) * float(np.sum(np.abs(values)))
    if Z is None:
        F, S = float(np.linalg.norm(values)), float(np.max(np.abs(values)))
        bound = moved + float(concentration(np.array(F), np.array(S), n, draws, 1))
    else:
        trace, bound = _estimate(true, Q, Z), moved
    distance = abs(value - trace)
    if not distance <= bound:
        fits = _fits(question, true, value, trace, bound, Q, Z)
        lines = [
            ("distance", messages.radii(distance, bound)),
            ("trace", f"found {value:.8g}, expected {trace:.8g}"),
            *messages.diagnosis(fits, np.array([value]), np.array([trace]), bound),
        ]
        what = "the trace differs from refspec's"
        raise AssertionError(messages.message(messages.heading(question, what), lines))
    if abs(value - 2 * trace) <= 2 * bound:
        raise ValueError(
            f"cannot tell: from n = {n} probes twice the trace would pass as well, "
            f"{trace:.4g} within {bound:.3g}; use more probes, or give their vectors"
        )
    return distance, bound


def _estimate(true: Operator, Q: np.ndarray, Z: np.ndarray) -> float:
    """Return tr Q'AQ and the mean of z'(I - QQ')A(I - QQ')z."""
    exact, left = _parts(true, Q, Z)
    return exact + left / int(Z.shape[1])


def _parts(true: Operator, Q: np.ndarray, Z: np.ndarray) -> tuple[float, float]:
    """Return tr Q'AQ, and the sum over the probes of what Q leaves of them."""
    rest = Z - Q @ (Q.T @ Z)
    exact = float(np.sum(Q * true.apply(Q))) if Q.shape[1] else 0.0
    return exact, float(np.sum(rest * true.apply(rest)))


def _weight(Q: np.ndarray, Z: np.ndarray | None, P: int) -> float:
    """Return ||G||_F for the estimate tr(AG): G = QQ' + (I - QQ')ZZ'(I - QQ')/n."""
    if Z is None:
        return math.sqrt(P)
    rest = Z - Q @ (Q.T @ Z)
    return math.hypot(
        math.sqrt(Q.shape[1]), inputs.frobenius(rest.T @ rest) / Z.shape[1]
    )


def _fits(
    question: Question,
    true: Operator,
    value: float,
    trace: float,
    bound: float,
    Q: np.ndarray,
    Z: np.ndarray | None,
) -> list[Fit]:
    """Try usual factors, halves of Hutch++, and with the probes other matrices."""
    tried = {name: (text, s * trace) for name, (s, text) in scales(question).items()}
    if Z is not None:
        n, k, squares = Z.shape[1], Q.shape[1], float(np.sum(Z * Z))
        sketched, left = _parts(true, Q, Z)
        tried |= {
            "sum over probes": (f"summed over n = {n} probes", sketched + left),
            "probes normalised": (
                "the probes were normalised: multiply by P",
                sketched + left / squares,
            ),
        }
        if k:
            tried |= {
                "sketch alone": ("tr Q'AQ alone, without what Q leaves", sketched),
                "probes not projected": (
                    "z'Az of probes that still hold Q's part: take it out",
                    sketched + _estimate(true, Q[:, :0], Z),
                ),
                "all probes divided by": (
                    f"divided by k + n = {k + n} in place of n = {n}",
                    sketched + left / (k + n),
                ),
            }
        for mistake in structures(question, "row_major"):
            if not mistake.same_spectrum:
                other = _estimate(mistake.build(), Q, Z)
                tried[mistake.name] = mistake.sentence, other
    fits, size = [], abs(value)
    for name, (text, other) in tried.items():
        gap = abs(value - other)
        allowed = bound * max(1.0, abs(other / trace) if trace else 1.0)
        if gap <= allowed < size / 8:
            fits.append(Fit(name, text, gap / allowed, 2 * gap / size))
    return told(fits, len(tried))


def _columns(
    name: str, shape: str, given: Array | None, q: Question, places: np.ndarray
) -> np.ndarray | None:
    """Return vectors in refspec's order of parameters."""
    if given is None:
        return None
    x = inputs.host_real(name, given)
    checks.expect_array(name, x, shape, sizes={"P": q.parameters})
    return np.asarray(x[places])


def _expect_orthonormal(Q: np.ndarray, u: float) -> None:
    """Refuse a basis that is none."""
    P, k = Q.shape
    off = inputs.frobenius(Q.T @ Q - np.eye(k))
    if off > rounding.gamma(8 * P * max(k, 1), u) * math.sqrt(max(k, 1)):
        raise ValueError(
            f"basis must have orthonormal columns, got Q'Q off by {off:.3g}; take Q "
            "of a QR factorisation of the sketch A S"
        )
