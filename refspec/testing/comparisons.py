r"""Quadratures and smoothed densities, each compared with a known spectrum.

Moments come first: a Gauss rule of k nodes has those of its probe up to 2k - 1 exactly.
Then the ends, which nodes may not pass and must reach; then the distribution function,
which partial sums of the weights enclose (Chebyshev, Markov, Stieltjes). Every
comparison fails a right answer with probability at most `rounding.FAILURE`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import scipy.special

from refspec import rounding
from refspec.testing.probing import end_reached, projector_spread, spread

_HELD = 2**26  # bytes of kernels that are held
_NAMES = ("first moment", "second moment", "third moment", "fourth moment")


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One comparison: a distance and what it may be."""

    name: str
    distance: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the distance is within the bound."""
        return self.distance <= self.bound


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """A spectrum: ascending eigenvalues, and how far two right matrices are apart.

    With the probes known, `moments` are z'A^q z / z'z, shape (q, n).
    """

    values: np.ndarray
    radius: float
    moments: np.ndarray | None = None

    @property
    def top(self) -> float:
        """The largest eigenvalue by size."""
        return float(np.max(np.abs(self.values)))

    def times(self, s: float) -> Truth:
        """Return s times the spectrum."""
        moments = self.moments
        if moments is not None:
            moments = moments * s ** np.arange(1, len(moments) + 1)[:, None]
        return Truth(np.sort(s * self.values), abs(s) * self.radius, moments)

    def plus(self, shift: float) -> Truth:
        """Return the spectrum of A + shift."""
        moments = self.moments
        if moments is not None:
            every = [np.ones_like(moments[0]), *moments]
            moments = np.stack(
                [
                    sum(
                        math.comb(q, j) * shift ** (q - j) * every[j]
                        for j in range(q + 1)
                    )
                    for q in range(1, len(every))
                ]
            )
        return Truth(self.values + shift, self.radius, moments)


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """Nodes, ascending, and weights of the Gauss rules of n probes, both (n, k)."""

    nodes: np.ndarray
    weights: np.ndarray
    u: float
    draws: str

    @property
    def distinct(self) -> int:
        """Probes that are not copies of another: of independent ones there are none."""
        both = np.concatenate([self.nodes, self.weights], axis=1)
        return len(np.unique(both, axis=0))

    @property
    def size(self) -> tuple[int, int]:
        """Independent probes n, steps k."""
        return self.distinct, self.nodes.shape[1]

    def shift(self, truth: Truth) -> float:
        """How far a node may be off: right matrices, Lanczos and the small solver."""
        k, top = self.nodes.shape[1], truth.top
        solver = rounding.eigensolver_radius(len(truth.values), top, self.u)
        return float(truth.radius + solver + 2 * k * self.u * top)

    def steps(self, truth: Truth) -> int:
        """Count steps that found something new: copies of a node are lost to rounding.

        Of the probe that lost most.
        """
        apart = np.diff(self.nodes, axis=1) > 4 * self.shift(truth)
        return 1 + int(np.min(np.sum(apart, axis=1)))

    def compare(self, truth: Truth) -> list[Check]:
        """Mass, moments, ends, distribution function; probes are no copies."""
        away = np.abs(self.weights.sum(axis=1) - 1)
        k = self.nodes.shape[1]
        mass = Check("mass", float(away.max()), rounding.gamma(2 * k + 8, self.u))
        rest = [*self._moments(truth), *self._ends(truth), self._steps(truth)]
        copies = len(self.nodes) - self.distinct
        # not of signs: a diagonal matrix looks alike from all of them
        random = self.draws == "gaussian" and np.ptp(truth.values) > 4 * self.shift(
            truth
        )
        more = (
            [Check("copies of probes", float(copies), 0.0)] if copies and random else []
        )
        return [mass, *rest, *more]

    def _moments(self, truth: Truth) -> Iterable[Check]:
        x, y, k = self.nodes, self.weights, self.nodes.shape[1]
        shift, top, known = self.shift(truth), truth.top, truth.moments
        exact = min(2 * k - 1, 2 if known is None else len(known))
        for q, name in zip(range(1, exact + 1), _NAMES, strict=False):
            each = np.sum(y * x**q, axis=1)
            move = q * shift * (top + shift) ** (q - 1)
            move += rounding.gamma(k + 8, self.u) * top**q
            if known is None:
                b = truth.values**q
                off = abs(float(np.mean(each)) - float(np.mean(b)))
                yield Check(name, off, move + spread(b, self.distinct, self.draws, 3))
            else:
                off = float(np.max(np.abs(each - known[q - 1])))
                yield Check(name, off, move)

    def _ends(self, truth: Truth) -> Iterable[Check]:
        shift, k = self.shift(truth), self.steps(truth)
        for name, ends, seen in self._both_ends(truth):
            least = end_reached(ends, k, self.distinct, self.draws)
            off = float(np.max(np.maximum(seen - ends[-1], least - seen)))
            yield Check(name, max(off, 0.0), 2 * shift)

    def _both_ends(
        self, truth: Truth
    ) -> tuple[tuple[str, np.ndarray, np.ndarray], ...]:
        x, values = self.nodes, truth.values
        smallest = "smallest node", -values[::-1], -x[:, 0]
        return ("largest node", values, x[:, -1]), smallest

    def found_end(self, truth: Truth) -> bool | None:
        """Whether an end that all probes found alike is the spectrum's; None: no such.

        Independent probes agree to rounding on what has converged, and on nothing else.
        """
        allowed, said = 4 * self.shift(truth), None
        for _, ends, seen in self._both_ends(truth):
            large = abs(float(seen[0])) > 2 * allowed  # many have the eigenvalue 0
            if self.distinct > 1 and large and np.ptp(seen) <= allowed:
                if not np.max(np.abs(seen - ends[-1])) <= allowed:
                    return False
                said = True
        return said

    def _steps(self, truth: Truth) -> Check:
        x, y, (n, k) = self.nodes, self.weights, self.nodes.shape
        values, shift, P = truth.values, self.shift(truth), len(truth.values)
        at = np.unique(np.concatenate([values - 2 * shift, values + 2 * shift]))
        # 0, w_1, w_1 + w_2, ..., 1
        sums = np.cumsum(np.pad(y, ((0, 0), (1, 1))), axis=1)
        low, high = np.zeros(len(at)), np.zeros(len(at))
        for nodes, partial in zip(x, sums, strict=True):
            below = np.searchsorted(nodes, at, side="right")
            low += partial[np.maximum(below - 1, 0)] / n
            high += partial[np.minimum(below + 1, k)] / n
        least = np.searchsorted(values, at - shift, side="right") / P
        most = np.searchsorted(values, at + shift, side="right") / P
        ranks = np.arange(1, P) if P > 1 else np.array([1])
        doubt = projector_spread(ranks, P, self.distinct, self.draws, 2 * len(at))
        bound = float(np.max(doubt)) + rounding.gamma(2 * k + 8, self.u)
        off = max(float(np.max(low - most)), float(np.max(least - high)), 0.0)
        return Check("distribution function", off, bound)


@dataclass(frozen=True, slots=True, eq=False)
class Smoothed:
    """A density on an ascending grid: n rules of k nodes under a Gaussian of width h.

    The grid may leave out the mass `edge` of the true one.
    """

    grid: np.ndarray
    density: np.ndarray
    width: float
    k: int
    n: int
    u: float
    draws: str

    @property
    def size(self) -> tuple[int, int]:
        """Probes n, steps k."""
        return self.n, self.k

    def compare(self, truth: Truth) -> list[Check]:
        """Mass, first moment and distribution function."""
        x, y, h, k, n = self.grid, self.density, self.width, self.k, self.n
        values = truth.values
        pieces = np.diff(x) * (y[1:] + y[:-1]) / 2
        size, doubt = float(np.max(np.abs(x))), self._trapezoid()
        smooth = steps(x, values, h)
        inside = smooth[-1] - smooth[0]
        true = np.mean(smooth, axis=1)
        found = np.concatenate([[0.0], np.cumsum(pieces)]) + true[0]
        # a shift moves a smoothed step so
        steep = truth.radius / (h * math.sqrt(2 * math.pi))
        slack = _rule_error(x, values, h, k, n, self.draws)
        rounded = rounding.gamma(len(x) + k, self.u)
        # a probe may have more than its share of what lies beyond the grid, but no node
        # lies beyond the spectrum
        edge = 1 - float(np.mean(inside)) + spread(inside, n, self.draws, 3)
        edge += float(slack[0] + slack[-1])
        edge = min(edge, 1 - float(np.min(inside)))
        mass = abs(float(np.sum(pieces)) - 1)
        out = [Check("mass", mass, doubt[0] + edge + rounded)]
        known = truth.moments
        mean = float(np.mean(values if known is None else known[0]))
        first = abs(float(np.trapezoid(x * y, x)) - mean)
        bound = truth.radius + size * (edge + rounded) + doubt[1]
        bound += spread(values, n, self.draws, 3) if known is None else 0.0
        out.append(Check("first moment", first, bound))
        wide = max(spread(b, n, self.draws, 2 * len(x)) for b in smooth)
        allowed = slack + wide + steep + doubt[0] + rounded
        worst = int(np.argmax(np.abs(found - true) / allowed))
        off = float(np.abs(found - true)[worst])
        return [*out, Check("distribution function", off, float(allowed[worst]))]

    def _trapezoid(self) -> tuple[float, float]:
        """Bound the error of the trapezoidal rule for f and x f, f this density.

        On a step of length d at most d^2/8 times the integral of |f''|, which for a
        Gaussian is 4 phi(1)/h^2; that of |f'| is 2 phi(0)/h.
        """
        x, h = self.grid, self.width
        one, zero = (math.exp(-t / 2) / math.sqrt(2 * math.pi) for t in (1, 0))
        d = float(np.max(np.diff(x))) ** 2 / 8
        size, bends = float(np.max(np.abs(x))), 4 * one / h**2
        return d * bends, d * (size * bends + 2 * 2 * zero / h)

    def found_end(self, truth: Truth) -> bool | None:
        """Whether the largest node is the largest eigenvalue, to a width; None: unseen.

        Beyond it the logarithm of the density falls as that of the last Gaussian does.
        """
        seen, (x, h) = self._tail(), (self.grid, self.width)
        if len(seen) < 2 or x[seen[-1]] < truth.values[-1] + 4 * h:
            return None
        i, j = seen[-2:]
        fall = np.log(self.density[j] / self.density[i]) / (x[j] - x[i])
        node = float((x[i] + x[j]) / 2 + h * h * fall)
        return abs(node - float(truth.values[-1])) <= h

    def tail_width(self) -> float | None:
        """Read the width off the bend of the logarithm in the last tail, -1/h^2."""
        seen = self._tail()
        if len(seen) < 3 or seen[-1] - seen[-3] != 2:
            return None
        x, logs = self.grid[seen[-3:]], np.log(self.density[seen[-3:]])
        falls = np.diff(logs) / np.diff(x)
        bend = float(2 * (falls[1] - falls[0]) / (x[2] - x[0]))
        return math.sqrt(-1 / bend) if bend < 0 else None

    def _tail(self) -> np.ndarray:
        """Where the density is a number that has not lost its digits."""
        least = np.finfo(np.float64).smallest_normal / np.finfo(np.float64).eps
        return np.flatnonzero(self.density > least)

    def is_mixture(self) -> bool:
        """Whether it is a mixture of Gaussians of its width, nodes an eighth apart.

        Two of them make one between within (1/8)^2/8 of its height.
        """
        h, x = self.width, self.grid
        nodes = np.arange(x[0], x[-1] + h, h / 8)
        if len(nodes) * len(x) * 8 > _HELD:
            return True
        kernels = np.exp(-(((x[:, None] - nodes) / h) ** 2) / 2)
        rest = float(scipy.optimize.nnls(kernels, self.density)[1])
        return bool(rest <= np.linalg.norm(self.density) / 8**3)


def steps(x: np.ndarray, values: np.ndarray, h: float) -> np.ndarray:
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
    doubt = np.array([spread(b, n, draws, 2 * len(x)) for b in squares])
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
