"""How clear the class structure is, layer by layer: separation, orthogonality, cosine.

Three numbers a layer, for its features or its errors, to be drawn against depth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refspec import backend, checks, curvature, rounding, structure
from refspec.attribution.means import Means, class_means
from refspec.attribution.shares import Eigenbasis, eigenbasis, knockout
from refspec.classes import Snapshot
from refspec.coordinates import Coordinates, coordinates
from refspec.curvature import SecondMoment, in_pieces
from refspec.leading import leading, product_radius
from refspec.results import Result, View
from refspec.rounding import Bounded

_RATIOS = ("separation", "orthogonality")


@dataclass(frozen=True, slots=True, eq=False)
class Clarity:
    """How clear the class structure of some vectors is.

    Between-class is here the second moment of the class means (of features: with their
    global mean). A ratio whose denominator is not resolved from zero has radius inf.

    Parameters
    ----------
    separation : Bounded
        lambda_m(between-class) / lambda_1(within): above 1 all m eigenvalues of the
        class means stand above everything that varies within a class.
    orthogonality : Bounded
        lambda_2 / lambda_m, between-class: 1 if the class means, weighted by their
        masses, are orthogonal and equally long (or if m = 1).
    cosine : float
        Mean `|cos|` between centred class means, nan if they all coincide.
        Equiangular means have 1 / (C - 1).
    index : int
        m: min(C, d), less one if that eigenvalue is not resolved from zero, as in the
        last layer, whose errors add to zero.
    """

    separation: Bounded
    orthogonality: Bounded
    cosine: float
    index: int


class Profile(dict[str, Clarity], Result):
    """The clarity of every layer's class structure, by layer, from input to output."""

    def __init__(self, of: str, layers: Mapping[str, Clarity]) -> None:
        super().__init__(layers)
        self.of = of

    def __repr__(self) -> str:
        """Say the layers and the first and last separation."""
        clear = [f"{x.separation.value:.3g}" for x in self.values()]
        way = " to ".join(clear[:1] + clear[1:][-1:])
        return f"Profile({self.of} of {len(self)} layers, separation {way})"

    def view(self) -> View:
        """Give the numbers of every layer, with their radii."""
        ratios = {n: [getattr(x, n) for x in self.values()] for n in _RATIOS}
        columns: dict[str, list[float]] = {}
        for name, found in ratios.items():
            columns |= {name: [x.value for x in found]}
            columns |= {f"{name}_radius": [x.radius for x in found]}
        for name in ("cosine", "index"):
            columns |= {name: [getattr(x, name) for x in self.values()]}
        return View("layer", list(self), columns, facts={"of": self.of})


def class_clarity(
    moment: SecondMoment | Coordinates | Snapshot, basis: Eigenbasis | None = None
) -> Clarity:
    """Measure how clear the class structure of features, errors or gradients is.

    The ratios have the radius that their eigenvalues' radii give. `basis` is that of
    the coordinates, if it is known.
    """
    at = moment if isinstance(moment, Coordinates) else coordinates(moment)
    basis, C = basis or eigenbasis(at), at.means.shape[0]
    means = {"global_mean", "between_class"} & set(basis.rows)
    others = [n for n in (*basis.rows, basis.within) if n not in means]
    solved, radius = knockout(basis, others)
    classes = backend.to_host(solved)
    inner, inner_radius = knockout(basis, list(basis.rows))
    within = max(0.0, float(backend.to_host(inner)[0])) if len(classes) else 0.0
    m = min(C, len(classes))
    if m > 1 and classes[m - 1] <= radius:
        m -= 1
    last = max(0.0, float(classes[m - 1])) if m else 0.0
    second = max(0.0, float(classes[min(2, m) - 1])) if m else 0.0
    return Clarity(
        _ratio(last, radius, within, inner_radius),
        _ratio(second, radius, last, radius),
        mean_cosine(class_means(at)),
        m,
    )


def leading_clarity(moment: SecondMoment) -> Clarity:
    """Measure the same from products alone, without a factorisation of the whole.

    Class means are known by their Gram matrix, of the within level its edge is found.
    """
    moment = in_pieces(moment)
    norms = structure.cell_norms(moment)
    (C, K), u = norms.shape, rounding.unit_roundoff(norms)
    inner = leading(structure.decompose(moment).levels[structure.within_name(K)], 1)
    gram = backend.to_host(structure.cell_gram(moment, norms))
    values, Q = np.linalg.eigh(gram)
    roots = (Q * np.sqrt(np.maximum(values, 0))).reshape(C, K, -1)
    at_means, masses = structure.class_means(roots, backend.to_host(norms))
    means = Means(at_means, masses, roots, backend.to_host(norms) ** 2)
    weighted = at_means * np.sqrt(masses)[:, None]
    between = np.linalg.eigvalsh(weighted @ weighted.T)[::-1]
    trace = float(np.trace(gram))
    radius = inner.radius + rounding.eigensolver_radius(C * K, trace, u)
    radius += product_radius(moment, moment.trace())
    m = min(C, moment.shape[1])
    if m > 1 and between[m - 1] <= radius:
        m -= 1
    last, second = (max(0.0, float(between[k])) for k in (m - 1, min(2, m) - 1))
    within = max(0.0, float(inner.values[0]))
    return Clarity(
        _ratio(last, radius, within, inner.radius),
        _ratio(second, radius, last, radius),
        mean_cosine(means),
        m,
    )


def depth_profile(snapshot: Snapshot, of: str = "features") -> Profile:
    """Measure every layer's class structure, from the input to the output.

    Parameters
    ----------
    snapshot : Snapshot
    of : {"features", "errors"}
        What enters each layer, or what comes back to it.

    Returns
    -------
    Profile
        A dict of `Clarity` by layer, which a notebook shows as a table.

    Raises
    ------
    ValueError
        If `of` is something else.

    Notes
    -----
    Papyan (2020), Figures 7 to 10: features become clearer with depth, errors towards
    the output.

    Examples
    --------
    >>> import refspec
    >>> list(depth_profile(refspec.datasets.digits_mlp()))
    ['fc1', 'fc2', 'fc3']
    """
    advice = "refspec.snapshot(...) or refspec.load(...) makes one"
    checks.expect_type("snapshot", snapshot, Snapshot, advice)
    checks.expect_choice("of", of, ("features", "errors"))
    build = curvature.features if of == "features" else curvature.errors
    found = {x.name: class_clarity(build(snapshot, x.name)) for x in snapshot.layers}
    return Profile(of, found)


def mean_cosine(means: Means) -> float:
    """Return the mean |cos| over pairs of class means, centred at their mean."""
    total = float(means.class_mass.sum())
    if total == 0:
        return math.nan
    centre = means.class_mass @ means.classes / total
    x = (means.classes - centre)[means.class_mass > 0]
    length = np.linalg.norm(x, axis=1)
    x = x[length > 0] / length[length > 0, None]
    pairs = np.abs(x @ x.T)[np.triu_indices(len(x), 1)]
    return float(pairs.mean()) if len(pairs) else math.nan


def _ratio(a: float, a_radius: float, b: float, b_radius: float) -> Bounded:
    """Return a / b with the radius that those of a and b give."""
    if b <= b_radius:
        return Bounded(a / b if b > 0 else math.inf, math.inf)
    value = a / b
    return Bounded(value, (a_radius + value * b_radius) / (b - b_radius))
