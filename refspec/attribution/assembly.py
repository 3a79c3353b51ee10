"""What a spectrum is made of, put together from its parts, however they were found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refspec import backend
from refspec.results import Result, View, ranks
from refspec.spectra import Spectrum
from refspec.structure import KINDS, kinds


@dataclass(frozen=True, slots=True, eq=False)
class Attribution(Result):
    """What a spectrum is made of; arrays on the host.

    Parameters
    ----------
    spectrum : Spectrum
        The whole second moment's.
    traces : dict of str to float
        Trace of every level; they add up to the whole's.
    shares : dict of str to ndarray, shape (r,)
        Part of every eigenvalue that each level makes up; they add up to 1. In a
        cluster (values that their radii do not separate) the cluster's mean share.
    kinds : list of str
        `outlier`, `bump` or `bulk`: of the level group with the largest share.
    proved : ndarray of bool, shape (r,)
        Whether the eigenvalue provably stands above all that weaker levels can make.
    lower, upper : ndarray, shape (r,)
        The sandwich lambda_k(B) <= lambda_k <= lambda_k(B) + lambda_1(M), B the levels
        of class means and M the rest, widened by the radius.
    levels : dict of str to ndarray
        Eigenvalues of each level by itself.
    knockouts : dict of str to ndarray
        Eigenvalues of the whole minus each level. Of the largest alone as many here,
        and of the within level.
    angles : dict of str to ndarray
        Principal angles, in radians, of the eigenspace of the eigenvalues above all
        that weaker levels can make to the span of means. `outlier`: of class means;
        `bump`: of class and cross-class means. Empty if no eigenvalue is above.
    angle_bounds : dict of str to float
        No sine of `angles` exceeds it, and it is below 1; inf where there is none.
    radius : float
        Every eigenvalue here, of the whole, a level or a knock-out, is known to this.

    Notes
    -----
    Theory: theory/attribution.md#A1, #A2, #A3, #A4.
    """

    spectrum: Spectrum
    traces: dict[str, float]
    shares: dict[str, np.ndarray]
    kinds: list[str]
    proved: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    levels: dict[str, np.ndarray]
    knockouts: dict[str, np.ndarray]
    angles: dict[str, np.ndarray]
    angle_bounds: dict[str, float]
    radius: float

    @property
    def counts(self) -> dict[str, int]:
        """How many eigenvalues of each kind stand above the radius."""
        values = np.asarray(backend.to_host(self.spectrum.values))[: len(self.kinds)]
        seen = [k for k, x in zip(self.kinds, values > self.radius, strict=True) if x]
        return {k: seen.count(k) for k in dict.fromkeys(KINDS.values())}

    def __repr__(self) -> str:
        """Say how many eigenvalues are of each kind, and every level's trace."""
        made = ", ".join(f"{n} {k}" for k, n in self.counts.items())
        traces = ", ".join(f"{n} {x:.3g}" for n, x in self.traces.items())
        return f"Attribution({made}; traces: {traces}; {self.spectrum!r})"

    def view(self) -> View:
        """Give the attributed eigenvalues by rank, with the share of every level."""
        r = len(self.kinds)
        columns = {
            "value": np.asarray(backend.to_host(self.spectrum.values))[:r],
            "share": self.shares,
            "kind": self.kinds,
            "proved": self.proved,
            "lower": self.lower,
            "upper": self.upper,
            "knockout": {n: np.pad(x, (0, r))[:r] for n, x in self.knockouts.items()},
        }
        traces = {f"trace_{n}": x for n, x in self.traces.items()}
        facts = self.spectrum.facts | {"radius": self.radius} | traces
        return View("rank", ranks(r), columns, "level", facts=facts)


def assembled(
    spectrum: Spectrum,
    traces: dict[str, float],
    values: np.ndarray,
    shares: dict[str, np.ndarray],
    levels: dict[str, np.ndarray],
    knockouts: dict[str, np.ndarray],
    between: np.ndarray,
    angles: Callable[[list[str], int], np.ndarray],
    radius: float,
) -> Attribution:
    """Put together what is known of the eigenvalues (r,) that are resolved from zero.

    `between` are the eigenvalues of B, the class means; `angles` gives those of the
    first k eigenvectors to the span of some levels.
    """
    means = [n for n in shares if KINDS[n] == "outlier"]
    (within,) = [n for n in shares if KINDS[n] == "bulk"]
    B = np.pad(between, (0, len(values)))[: len(values)]
    # M = A - B is what is within, or lies below A minus the between-class level alone
    rest = levels[within] if "global_mean" in means else knockouts["between_class"]
    edges = {"outlier": _top(rest), "bump": _top(levels[within]), "bulk": np.inf}
    made = kinds(shares)
    proved = [v - edges[k] > 2 * radius for v, k in zip(values, made, strict=True)]
    spans, near, bounds = {"outlier": means}, {}, {}
    if cross := [n for n in shares if KINDS[n] == "bump"]:
        spans["bump"] = [*means, *cross]
    for kind, names in spans.items():
        k = int(np.sum(values - radius > edges[kind] + radius))
        near[kind] = angles(names, k) if k else np.zeros(0)
        lowest = float(values[k - 1]) - radius if k else 0.0
        bounds[kind] = (edges[kind] + radius) / lowest if k else np.inf
    return Attribution(
        spectrum,
        traces,
        shares,
        made,
        np.asarray(proved, dtype=bool),
        B - radius,
        B + edges["outlier"] + radius,
        levels,
        knockouts,
        near,
        bounds,
        radius,
    )


def _top(values: np.ndarray) -> float:
    """Return the largest eigenvalue, or 0 if there is none or all are negative."""
    return max(0.0, float(values[0])) if len(values) else 0.0
