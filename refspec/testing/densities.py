r"""Assert that a stochastic Lanczos quadrature estimates the right spectral density.

A probe z gives k nodes and weights, the Gauss rule of the measure
:math:`\mu_z = \sum_i (u_i'z)^2/|z|^2 \delta_{\lambda_i}`, whose mean is the spectral
measure :math:`\mu`. Two things separate it from :math:`\mu`: the rule has k nodes, and
there are n probes. Both are bounded without asymptotics: partial sums of the weights
enclose the distribution function of :math:`\mu_z` (Chebyshev, Markov, Stieltjes), and
quadratic forms concentrate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.special

from refspec import checks, rounding
from refspec.backend import Array
from refspec.classes import Snapshot
from refspec.spectra import Spectrum
from refspec.testing import inputs, messages
from refspec.testing.accuracy import accuracy, format_roundoff
from refspec.testing.mistakes import scales, structures
from refspec.testing.questions import Question, ask, operator


@dataclass(frozen=True, slots=True, eq=False)
class _Check:
    """One comparison: a distance and what it may be."""

    name: str
    distance: float
    bound: float

    @property
    def ratio(self) -> float:
        return self.distance / self.bound if self.bound > 0 else math.inf


def assert_density(
    nodes: Array,
    weights: Array,
    expected: Snapshot | Spectrum,
    *,
    of: str = "fisher",
    layer: str | tuple[str, ...] | None = None,
    setting: str = "expand",
    dtype: str | None = None,
    draws: str = "gaussian",
    width: float | None = None,
    steps: int | None = None,
    probes: int = 1,
    vectors: Array | None = None,
    order: str | np.ndarray = "row_major",
) -> dict[str, tuple[float, float]]:
    r"""Assert that quadrature nodes, or a density on a grid, are of the right spectrum.

    Parameters
    ----------
    nodes, weights : Array, shape (k,) or (n, k)
        Nodes and weights of each probe's Gauss rule (Lanczos: eigenvalues and squared
        first components). With a `width`: a grid (g,), ascending, and the density on
        it.
    expected : Snapshot or Spectrum
        What it is the density of.
    of, layer, setting, dtype, order
        As in `refspec.testing.assert_operator`: the first three of a Snapshot, `order`
        that of the parameters in `vectors`.
    draws : {"gaussian", "rademacher"}
        How the probes were drawn; Gaussian ones may be normalised.
    width : float, optional
        Standard deviation of the Gaussian that smooths the density on a grid.
    steps, probes : int
        k and n behind a density on a grid.
    vectors : Array, shape (P, n), optional
        The probes that gave the nodes: moments are then compared probe by probe, with
        no statistics in them. Needs a Snapshot.

    Returns
    -------
    dict of str to (float, float)
        Distance and bound of each comparison: mass, first and second moment,
        distribution function.

    Raises
    ------
    AssertionError
        If one is larger than its bound; the message tries the usual mistakes.
    ValueError, TypeError
        If an argument is not as above, or there are so few probes that a wrong density
        would pass.

    Notes
    -----
    Every comparison fails a right answer with probability at most
    `rounding.FAILURE`. With B = f(A), :math:`x = \log(2/p)` and n probes,
    :math:`|mean\ z'Bz/z'z - tr B/P| \le (2 |B_0|_F \sqrt{x/n} + 2 |B_0| x/n)/P`, where
    B_0 is B less its mean (Laurent and Massart 2000; normalising helps by Jensen). For
    Rademacher probes Cortinovis and Kressner (2022), Theorem 1. A right Lanczos without
    reorthogonalisation passes: copies of an eigenvalue share its weight. On a grid the
    rule's own error is bounded by its Christoffel function.

    Examples
    --------
    >>> import refspec
    >>> s = refspec.datasets.digits_mlp()
    >>> exact = refspec.spectrum(refspec.curvature.features(s, "fc1"))
    >>> nodes = np.pad(exact.values, (0, exact.n_zero))
    >>> rules = np.tile(nodes, (400, 1)), np.full((400, 65), 1 / 65)
    >>> found = assert_density(*rules, exact)
    >>> found["mass"][0] <= found["mass"][1]
    True
    """
    x, y = inputs.host_real("nodes", nodes), inputs.host_real("weights", weights)
    u = max(inputs.roundoff(nodes), 0.0 if dtype is None else format_roundoff(dtype))
    inputs.expect_expected(expected)
    _expect(x, y, draws, width, steps, probes)
    question = None
    if isinstance(expected, Spectrum):
        known = inputs.host_real("expected.values", expected.values)
        values, radius = np.pad(known, (0, expected.n_zero)), expected.radius
    else:
        question = ask(expected, of, layer, setting)
        values, radius = operator(question).eigenvalues(), accuracy(question, u).radius
    values = np.sort(values)
    if width is None:
        ascending = np.argsort(np.atleast_2d(x), axis=1)
        x, y = (np.take_along_axis(np.atleast_2d(z), ascending, axis=1) for z in (x, y))

        moments = None
        if vectors is not None:
            moments = _moments(
                question, inputs.host_real("vectors", vectors), order, len(x)
            )

        def compare(values: np.ndarray, s: float = 1.0) -> list[_Check]:
            found = None if moments is None else [s * moments[0], s * s * moments[1]]
            return _rules(x, y, values, radius, u, draws, found)

    else:
        how = (width, steps or len(values), probes)
        edge = 1 - float(np.mean(np.diff(_steps(x[[0, -1]], values, width), axis=0)))

        def compare(values: np.ndarray, s: float = 1.0) -> list[_Check]:
            del s  # a density knows no vectors
            return _grid(x, y, values, radius, u, draws, how, edge)

    checks = compare(values)
    failed = [c for c in checks if not c.distance <= c.bound]
    if failed:
        raise AssertionError(_failure(question, checks, y, width, values, compare))
    if np.any(values) and all(c.distance <= c.bound for c in compare(2 * values, 2.0)):
        raise ValueError(
            "cannot tell: with these probes twice the spectrum would pass as well, "
            f"P = {len(values)}; use more probes, or give their vectors"
        )
    return {c.name: (c.distance, c.bound) for c in checks}


def _rules(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    radius: float,
    u: float,
    draws: str,
    moments: list[np.ndarray] | None,
) -> list[_Check]:
    """Compare Gauss rules (n, k) with eigenvalues, ascending, or their moments (n,)."""
    (n, k), P = x.shape, len(values)
    top = float(np.max(np.abs(values)))
    shift = radius + rounding.eigensolver_radius(P, top, u) + 2 * k * u * top
    mass = np.abs(y.sum(axis=1) - 1).max()
    out = [_Check("mass", float(mass), rounding.gamma(2 * k + 8, u))]
    for power, name in ((1, "first moment"), (2, "second moment")):
        each = np.sum(y * x**power, axis=1)
        move = power * shift * (top + shift) ** (power - 1)
        move += rounding.gamma(k + 8, u) * top**power
        if moments is None:
            off = abs(float(np.mean(each)) - float(np.mean(values**power)))
            out.append(_Check(name, off, move + _spread(values**power, n, draws, 3)))
        else:
            off = float(np.max(np.abs(each - moments[power - 1])))
            out.append(_Check(name, off, move))
    at = np.unique(np.concatenate([values - 2 * shift, values + 2 * shift]))
    sums = np.cumsum(np.pad(y, ((0, 0), (1, 1))), axis=1)  # 0, w_1, w_1 + w_2, ..., 1
    low, high = np.zeros(len(at)), np.zeros(len(at))
    for nodes, partial in zip(x, sums, strict=True):
        below = np.searchsorted(nodes, at, side="right")
        low += partial[np.maximum(below - 1, 0)] / n
        high += partial[np.minimum(below + 1, k)] / n
    least = np.searchsorted(values, at - shift, side="right") / P
    most = np.searchsorted(values, at + shift, side="right") / P
    ranks = np.arange(1, P) if P > 1 else np.array([1])
    bound = float(np.max(_projector_spread(ranks, P, n, draws, 2 * len(at))))
    bound += rounding.gamma(2 * k + 8, u)
    off = max(float(np.max(low - most)), float(np.max(least - high)), 0.0)
    return [*out, _Check("distribution function", off, bound)]


def _moments(
    question: Question | None, Z: np.ndarray, order: str | np.ndarray, n: int
) -> list[np.ndarray]:
    """Return z'Az / z'z and |Az|^2 / z'z of every probe."""
    P = 0 if question is None else question.parameters
    if question is None or Z.shape != (P, n):
        raise ValueError(
            f"vectors must be the n = {n} probes (P, n) of a Snapshot, P = {P}, got "
            f"shape {Z.shape}; give one column a row of nodes"
        )
    Z = Z[inputs.order_places(question, order)]
    AZ, size = operator(question).apply(Z), np.sum(Z * Z, axis=0)
    return [np.sum(Z * AZ, axis=0) / size, np.sum(AZ * AZ, axis=0) / size]


def _grid(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    radius: float,
    u: float,
    draws: str,
    how: tuple[float, int, int],
    edge: float,
) -> list[_Check]:
    """Compare a smoothed density on a grid, which may miss the mass `edge`."""
    h, k, n = how
    gaps = np.diff(x)
    pieces = gaps * (y[1:] + y[:-1]) / 2
    # the integral of a monotone piece is off by at most half its step times its rise
    doubt = gaps * np.abs(np.diff(y)) / 2
    trapezoid, size = float(np.sum(doubt)), np.maximum(np.abs(x[1:]), np.abs(x[:-1]))
    smooth = _steps(x, values, h)
    true = np.mean(smooth, axis=1)
    found = np.concatenate([[0.0], np.cumsum(pieces)]) + true[0]
    steep = radius / (h * math.sqrt(2 * math.pi))  # a shift moves a smoothed step so
    slack = _rule_error(x, values, h, k, n, draws)
    mass = abs(float(np.sum(pieces)) - 1)
    out = [_Check("mass", mass, trapezoid + edge + rounding.gamma(len(x) + k, u))]
    mean, middle = float(np.mean(values)), (x[1:] + x[:-1]) / 2
    first = abs(float(np.sum(pieces * middle)) - mean)
    bound = _spread(values, n, draws, 3) + radius + float(np.max(size)) * edge
    bound += float(np.sum(size * doubt + np.abs(pieces) * gaps / 2))
    out.append(_Check("first moment", first, bound))
    spread = max(_spread(b, n, draws, 2 * len(x)) for b in smooth)
    allowed = slack + spread + steep + trapezoid + rounding.gamma(len(x) + k, u)
    worst = int(np.argmax(np.abs(found - true) / allowed))
    off = float(np.abs(found - true)[worst])
    return [*out, _Check("distribution function", off, float(allowed[worst]))]


def _steps(x: np.ndarray, values: np.ndarray, h: float) -> np.ndarray:
    """Return the smoothed unit steps at every value, shape (g, P)."""
    z = (x[:, None] - values[None, :]) / h
    return np.asarray(scipy.special.ndtr(z))


def _rule_error(
    x: np.ndarray, values: np.ndarray, h: float, k: int, n: int, draws: str
) -> np.ndarray:
    """Smoothed Christoffel function: what k nodes leave open of the spectrum."""
    P = len(values)
    k = min(k, len(np.unique(values)))
    alpha, beta, Q = _jacobi(values, k)
    at, previous = np.ones(len(x)), np.zeros(len(x))
    rows = []
    with np.errstate(over="ignore", invalid="ignore"):
        for j in range(len(alpha)):
            rows.append(at)
            if j + 1 < len(alpha):
                back = beta[j - 1] * previous if j else 0.0
                at, previous = ((x - alpha[j]) * at - back) / beta[j], at
        polynomials = np.stack(rows)  # (k, g), orthonormal under the spectral measure
        size = np.sum(polynomials**2, axis=0)
        christoffel = np.where(np.isfinite(size), 1 / size, 0.0)
        best = np.where(np.isfinite(polynomials), polynomials, 0.0) * christoffel
    squares = (best.T @ (Q.T * math.sqrt(P))) ** 2  # q_x(lambda_i)^2, (g, P)
    doubt = np.array([_spread(b, n, draws, 2 * len(x)) for b in squares])
    open_ = np.minimum(1.0, christoffel + doubt)
    kernel = np.exp(-(((x[:, None] - x[None, :]) / h) ** 2) / 2)
    return np.asarray(kernel @ open_ / kernel.sum(axis=1))


def _jacobi(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lanczos with full reorthogonalisation on the spectral measure of P values."""
    P = len(values)
    Q, alpha, beta = [np.full(P, P**-0.5)], [], []
    top = float(np.max(np.abs(values)))
    for j in range(k):
        v = values * Q[j]
        alpha.append(float(Q[j] @ v))
        basis = np.stack(Q)
        for _ in range(2):
            v = v - basis.T @ (basis @ v)
        size = float(np.linalg.norm(v))
        if j + 1 == k or size <= P * 2.0**-53 * top:
            break
        beta.append(size)
        Q.append(v / size)
    return np.array(alpha), np.array(beta), np.stack(Q, axis=1)


def _spread(b: np.ndarray, n: int, draws: str, count: int) -> float:
    """Bound |mean of z'Bz/z'z - tr B / P| over n probes, b the eigenvalues of B."""
    centred = b - np.mean(b)
    F, S = math.sqrt(float(np.sum(centred**2))), float(np.max(np.abs(centred)))
    return float(_concentration(np.array(F), np.array(S), n, draws, count)) / len(b)


def _projector_spread(
    ranks: np.ndarray, P: int, n: int, draws: str, count: int
) -> np.ndarray:
    """Bound the same for projectors of the given ranks."""
    share = ranks / P
    F, S = np.sqrt(ranks * (1 - share)), np.maximum(share, 1 - share)
    return np.asarray(_concentration(F, S, n, draws, count) / P)


def _concentration(
    F: np.ndarray, S: np.ndarray, n: int, draws: str, count: int
) -> np.ndarray:
    """Tail of a quadratic form at FAILURE, shared by `count` of them."""
    t = math.log(2 * count / rounding.FAILURE)
    if draws == "gaussian":
        return np.asarray(2 * F * math.sqrt(t / n) + 2 * S * t / n)
    a = 8 * t * 2 * S  # without its diagonal a matrix has at most twice the norm
    return np.asarray((a + np.sqrt(a**2 + 32 * n * t * F**2)) / (2 * n))


def _failure(
    question: Question | None,
    checks: list[_Check],
    y: np.ndarray,
    width: float | None,
    values: np.ndarray,
    compare: Callable[..., list[_Check]],
) -> str:
    """Say which comparison is off, and which other spectrum would not be."""
    first = "the density is not that of the spectrum"
    if question is not None:
        first = messages.heading(question, "the density differs from refspec's")
    lines = [(c.name, messages.radii(c.distance, c.bound)) for c in checks]
    why = []
    total = float(np.mean(y.sum(axis=1))) if width is None else math.nan
    P = len(values)
    if abs(total - P) <= P * checks[0].bound * P:
        why.append(f"weights sum to P = {P}: counts; divide by P [weights of sum P]")
    if question is not None and not why:
        for name, (s, text) in scales(question).items():
            if all(c.distance <= c.bound for c in compare(np.sort(s * values), s)):
                why.append(f"{text} [{name}]")
        for mistake in () if why else structures(question, "row_major"):
            if mistake.same_spectrum:
                continue
            other = np.sort(mistake.build().eigenvalues())
            if len(other) == P and all(c.distance <= c.bound for c in compare(other)):
                why.append(f"{mistake.sentence} [{mistake.name}]")
    if not why:
        why.append("none of the usual convention mistakes fits")
    return messages.message(first, [*lines, *(("diagnosis", x) for x in why)])


def _expect(
    x: np.ndarray,
    y: np.ndarray,
    draws: str,
    width: float | None,
    steps: int | None,
    probes: int,
) -> None:
    """Check shapes and names."""
    checks.expect_choice("draws", draws, ("gaussian", "rademacher"))
    checks.expect_size("probes", probes, least=1)
    if x.shape != y.shape or x.ndim not in (1, 2) or not x.size:
        raise ValueError(
            "nodes and weights must have one shape, (k,) or (n, k), got "
            f"{x.shape} and {y.shape}; one row a probe"
        )
    checks.expect_finite("nodes", x)
    checks.expect_finite("weights", y)
    if np.min(y) < 0:
        raise ValueError(
            f"weights must be >= 0, got a smallest one of {np.min(y):.3g}; look for "
            "weights that are not squared"
        )
    if width is None:
        return
    checks.expect_positive("width", width)
    if steps is None or x.ndim != 1 or not np.all(np.diff(x) > 0):
        raise ValueError(
            "a density needs an ascending grid (g,), width > 0 and the steps k behind "
            f"it, got shape {x.shape}, width {width}, steps {steps}; give all three"
        )
    checks.expect_size("steps", steps, least=1)
