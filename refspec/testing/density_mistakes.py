"""What is usually wrong with a spectral density, and how it shows.

A mistake is undone: what was found, changed back, must be the density of the spectrum,
or a number that gives the mistake away is there (weights that are all equal). Where
nothing can be undone, right nodes with wrong weights are at least told from wrong
nodes. Each is one entry of a table, tried in its order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from refspec import rounding
from refspec.testing.comparisons import Rules, Smoothed, Truth


@dataclass(frozen=True, slots=True, eq=False)
class Undone:
    """A mistake that fits: its name and a sentence, and what remains with it undone.

    Without a rest the numbers give the mistake away by themselves.
    """

    name: str
    sentence: str
    rest: Rules | Smoothed | None = None


def of_rules(found: Rules, truth: Truth) -> list[Undone]:
    """Name what is wrong with Gauss rules, the first entry of the table that fits."""
    for look in _RULES:
        fits = [x for x in look(found, truth) if _right(x.rest, truth)]
        if fits:
            return fits
    return []


def of_smoothed(found: Smoothed, truth: Truth) -> list[Undone]:
    """Name what is wrong with a smoothed density."""
    for look in _SMOOTHED:
        for x in look(found, truth):
            end = x.rest is not None and x.rest.found_end(truth)
            if end is not False and _right(x.rest, truth):
                return [x]
    return []


def of_fewer(found: Smoothed, truth: Truth) -> list[Undone]:
    """Ask whether fewer probes, or fewer steps, would leave a density as far off."""
    if not found.is_mixture():
        return []
    every = itertools.chain(_fewer_probes(found), _fewer_steps(found))
    return list(itertools.islice((x for x in every if _right(x.rest, truth)), 1))


def hidden_outliers(width: float, values: np.ndarray) -> tuple[float, float] | None:
    """Return how wide the largest gap is, and a width that shows it, if this hides it.

    A gap is one that P uniform points would not leave, except with probability FAILURE
    (their spacings exceed (log P + x)/P with probability exp(-x)).
    """
    P, gaps = len(values), np.diff(values)
    if P < 2:
        return None
    widest = float(np.max(gaps))
    chance = (math.log(P) - math.log(rounding.FAILURE)) / P
    if widest <= chance * float(values[-1] - values[0]):
        return None
    # two equal Gaussian bumps are two only where they are more than two widths apart
    return (widest, widest / 4) if 2 * width >= widest else None


def _right(rest: Rules | Smoothed | None, truth: Truth) -> bool:
    """Whether nothing is wrong any more."""
    return rest is None or all(x.holds for x in rest.compare(truth))


def _given_away(found: Rules, truth: Truth) -> Iterator[Undone]:
    """Weights that are no weights at all."""
    x, y, k = found.nodes, found.weights, found.nodes.shape[1]
    P, bound = len(truth.values), rounding.gamma(2 * k + 8, found.u)
    sizes = np.abs(x)
    sums = np.sum(sizes, axis=1, keepdims=True)
    scaled = np.divide(sizes, sums, out=np.zeros_like(x), where=sums != 0)
    if np.array_equal(np.abs(y), sizes) or np.max(np.abs(y - scaled)) <= bound:
        yield Undone(
            "Ritz values as weights",
            "the weights are the Ritz values themselves: they are the squared first "
            "components of the eigenvectors of the tridiagonal matrix",
        )
    if k > 1 and k < P and np.ptp(y) <= bound * float(np.max(y)):
        text = (
            "all weights are equal: a histogram of Ritz values, which crowd at the "
            "ends; weigh each by its squared first component"
        )
        lost = k - found.steps(truth)
        if lost:
            text += (
                f" ({lost} of {k} Ritz values are ghosts, copies that Lanczos without "
                "reorthogonalisation makes: as a quadrature they do no harm)"
            )
        yield Undone("equal weights", text)


def _powers(found: Rules, truth: Truth) -> Iterator[Undone]:
    """First components that were not squared, or twice."""
    del truth
    yield Undone(
        "weights not squared",
        "the weights are the first components, not squared",
        replace(found, weights=found.weights**2),
    )
    if np.min(found.weights) >= 0:
        yield Undone(
            "weights squared twice",
            "the weights are squared first components, squared again",
            replace(found, weights=np.sqrt(found.weights)),
        )


def _sums(found: Rules, truth: Truth) -> Iterator[Undone]:
    """Weights whose sum is not 1."""
    sums = found.weights.sum(axis=1, keepdims=True)
    n, P = len(sums), len(truth.values)
    if not np.all(sums > 0):
        return
    rest = replace(found, weights=found.weights / sums)
    bound = rounding.gamma(2 * found.nodes.shape[1] + 8, found.u)
    known = {
        "P": (P, f"weights sum to P = {P}: counts; divide by P"),
        "1/P": (1 / P, f"weights sum to 1/P, P = {P}: divided once too often"),
        "n": (n, f"weights sum to n = {n}, the number of probes; divide by n"),
        "1/n": (
            1 / n,
            f"weights sum to 1/n, n = {n}: averaged over the probes before they are "
            "put together; each probe's sum to 1",
        ),
    }
    for name, (size, text) in known.items():
        if size != 1 and np.max(np.abs(sums - size)) <= bound * size:
            yield Undone(f"weights of sum {name}", text, rest)
            return
    # |z|^2 of a Gaussian vector is chi-squared (Laurent and Massart 2000)
    t = math.log(2 / rounding.FAILURE) / n
    near = abs(float(np.mean(sums)) - P) <= 2 * math.sqrt(P * t) + 2 * t < P / 2
    varies = np.ptp(sums) > 2 * bound * float(np.max(sums))
    if near and varies:
        text = (
            f"no normalisation: weights sum to {float(sums[0, 0]):.4g}, another number "
            "for another probe, |z|^2 of the start vector; divide by it"
        )
        yield Undone("weights of sum |z|^2", text, rest)
        return
    other = ", another number for another probe" * bool(varies)
    text = (
        f"no normalisation: weights sum to {float(sums[0, 0]):.9g}{other}: "
        "eigenvectors of the tridiagonal matrix must be orthonormal"
    )
    yield Undone("weights not normalised", text, rest)


def _pairs(found: Rules, truth: Truth) -> Iterator[Undone]:
    """Right weights of other nodes, or other components of the same vectors."""
    yield Undone(
        "weights in reverse",
        "nodes and weights are in opposite orders",
        replace(found, weights=found.weights[:, ::-1]),
    )
    other = _first_from_last(found, len(truth.values))
    if other is not None:
        yield Undone(
            "last components",
            "the weights are the squared last components of the eigenvectors of the "
            "tridiagonal matrix; take the first ones",
            other,
        )


def _repeated(found: Rules, truth: Truth) -> Iterator[Undone]:
    """Probes that are copies of one: the same seed every time."""
    n, distinct = len(found.nodes), found.distinct
    if distinct < n:
        rows = np.concatenate([found.nodes, found.weights], axis=1)
        index = np.sort(np.unique(rows, axis=0, return_index=True)[1])
        rest = replace(found, nodes=found.nodes[index], weights=found.weights[index])
        del truth
        yield Undone(
            "probes repeated",
            f"{n} probes are {distinct}, the others copies of them: the seed is set "
            "anew for every probe; draw them from one generator",
            rest,
        )


def _nodes_alone(found: Rules, truth: Truth) -> Iterator[Undone]:
    """Nodes that are right, an end of the spectrum found to rounding among them."""
    checks = found.compare(truth)
    wrong = [x.name for x in checks if not x.holds]
    nodes = {"mass", "largest node", "smallest node"}
    if wrong and not nodes & set(wrong) and found.found_end(truth):
        yield Undone(
            "other weights",
            "the nodes are right, they reach the spectrum's end to rounding; the "
            "weights are not the squared first components of the eigenvectors of the "
            f"tridiagonal matrix, wrong in the {wrong[0]}",
        )


def _first_from_last(found: Rules, P: int) -> Rules | None:
    """Squared first components from last ones: their product is B/p'(theta)^2.

    With p the product of all (theta - theta_i), B the same for all nodes. What has
    converged has a last component of rounding: it is given its mean weight, 1/P.
    """
    x, y, k = found.nodes, found.weights, found.nodes.shape[1]
    away = np.abs(x[:, :, None] - x[:, None, :]) + np.eye(k)
    known = y > rounding.gamma(k, found.u)
    lost = np.sum(~known, axis=1, keepdims=True)
    if k < 2 or not np.all(away > 0) or np.any(lost >= min(k, P)):
        return None
    logs = -2 * np.sum(np.log(away), axis=2) - np.log(np.where(known, y, 1.0))
    logs = np.where(known, logs, -np.inf)
    w = np.exp(logs - logs.max(axis=1, keepdims=True))
    w = w / w.sum(axis=1, keepdims=True) * (1 - lost / P)
    return replace(found, weights=np.where(known, w, 1 / P))


def _masses(found: Smoothed, truth: Truth) -> Iterator[Undone]:
    """Densities whose integral is not 1."""
    n, P, h = found.n, len(truth.values), found.width
    known = {
        "mass P": (P, f"the density integrates to P = {P}: it counts; divide by P"),
        "mass n": (n, f"summed over the n = {n} probes; take the mean"),
        "mass 1/n": (1 / n, f"divided by the n = {n} probes twice"),
        "kernel not normalised": (
            h * math.sqrt(2 * math.pi),
            "the kernel is exp(-x^2/2h^2) without its 1/(h sqrt(2 pi))",
        ),
        "kernel without 1/h": (
            h,
            "the kernel is divided by sqrt(2 pi), not by h sqrt(2 pi)",
        ),
    }
    for name, (size, text) in known.items():
        yield Undone(name, text, replace(found, density=found.density / size))
    total = float(np.trapezoid(found.density, found.grid))
    if total > 0:
        text = f"no normalisation: the density integrates to {total:.4g}; divide by it"
        rest = replace(found, density=found.density / total)
        yield Undone("density not normalised", text, rest)


def _widths(found: Smoothed, truth: Truth) -> Iterator[Undone]:
    """Densities smoothed with another width than was said, read off their last tail."""
    width, h = found.tail_width(), found.width
    if width is None:
        return
    rest = replace(found, width=width)
    if not rest.found_end(truth):
        return
    near = {"the variance h^2": h * h, "the root of h": math.sqrt(h)}
    what = [f", {name}," for name, x in near.items() if abs(x - width) <= width / 32]
    yield Undone(
        "kernel width",
        f"smoothed with a kernel of width {width:.4g}{''.join(what[:1]) or ','} not "
        f"h = {h:.4g}",
        rest,
    )


def _fewer_probes(found: Smoothed) -> Iterator[Undone]:
    """Yield densities of fewer probes than was said, the most first."""
    n = found.n // 2
    while n:
        text = f"as far off as {n} probe{'s' * (n > 1)} would leave it, not {found.n}"
        yield Undone("fewer probes", text, replace(found, n=n))
        n //= 2


def _fewer_steps(found: Smoothed) -> Iterator[Undone]:
    """Yield densities of fewer steps than was said, the most first."""
    k = found.k // 2
    while k:
        text = f"as far off as {k} step{'s' * (k > 1)} would leave it, not {found.k}"
        yield Undone("fewer steps", text, replace(found, k=k))
        k //= 2


_RULES: tuple[Callable[[Rules, Truth], Iterator[Undone]], ...] = (
    _given_away,
    _powers,
    _sums,
    _repeated,
    _pairs,
    _nodes_alone,
)
_SMOOTHED: tuple[Callable[[Smoothed, Truth], Iterator[Undone]], ...] = (
    _masses,
    _widths,
)
