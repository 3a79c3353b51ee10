"""Planted worlds: a Snapshot drawn from populations, one a layer.

`planted` draws it. What a world should show at any size is computed by
`refspec.synthetic.expectations`, exact and given the probabilities. Draws are made on
the host in float64 and then converted, so that one seed gives one world in every
namespace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refspec import checks, classes
from refspec.backend import Array, Namespace
from refspec.classes import Layer, Snapshot
from refspec.populations import (
    KroneckerPopulation,
    Population,
    as_kronecker,
    expect_count,
    expect_length,
    expect_predictable,
    stacked,
)
from refspec.synthetic import covariances, geometry
from refspec.synthetic.groups import Group, independent_groups

AnyPopulation = Population | KroneckerPopulation


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class World:
    """A drawn snapshot and the populations it was drawn from.

    Parameters
    ----------
    snapshot : Snapshot
    populations : mapping of str to Population or KroneckerPopulation
        By the layer's name: of the errors where the one feature is 1, otherwise of the
        gradients. Their weights are those of the world, p / N.
    probabilities : array, shape (N, C)
        Those of the snapshot, on the host in float64.
    groups : tuple of Group or None
        Eigenvalues of the expected Fisher where they are known in closed form.
    """

    snapshot: Snapshot
    populations: Mapping[str, AnyPopulation]
    probabilities: np.ndarray
    groups: tuple[Group, ...] | None = None

    def __repr__(self) -> str:
        N, C = self.probabilities.shape
        return f"World(N={N}, C={C}, layers={list(self.populations)})"

    def population(self, name: str, of: str = "gradients") -> AnyPopulation:
        """Return the population of a layer's gradients, errors or features.

        Of one side of a coupled layer, gradients with the constant 1: its noise has two
        scales. A ValueError says that no layer has this name, or that a level is fixed
        and random, which nothing predicts.
        """
        checks.expect_choice("of", of, ("gradients", "errors", "features"))
        expect_predictable(self.layer(name))
        if of == "gradients":
            return self.populations[name]
        both = as_kronecker(self.layer(name))
        found = both.errors if of == "errors" else both.features
        if not both.coupling:
            return found
        return replace(as_kronecker(found), coupling=both.coupling)

    def together(self) -> Population:
        """Return the population of the errors of all layers, one after the other.

        A ValueError says that layers have features: of their gradients together no law
        is known. Theory: theory/random_matrix.md#R17
        """
        parts = [x for x in self.populations.values() if isinstance(x, Population)]
        if len(parts) < len(self.populations):
            raise ValueError(
                "layers must have the constant 1 for their one feature to be predicted "
                f"together, got features in {len(self.populations) - len(parts)} of "
                f"{len(self.populations)}; predict one layer: its k-th eigenvalue is "
                "at most that of all"
            )
        found = stacked(parts)
        expect_predictable(found)
        return found

    def layer(self, name: str) -> AnyPopulation:
        """Return the population of a layer, predictable or not."""
        checks.expect_choice("layer", name, self.populations)
        return self.populations[name]


def planted(
    populations: Mapping[str, AnyPopulation],
    *,
    rng: np.random.Generator,
    probabilities: np.ndarray | None = None,
    dtype: str = "float64",
    xp: Namespace | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> World:
    r"""Draw a world.

    Parameters
    ----------
    populations : mapping of str to Population or KroneckerPopulation
        By the layer's name, of the same C >= 2 class sizes; layers are independent. A
        Population alone is that of the errors, the one feature is then 1.
    rng : numpy.random.Generator
    probabilities : array (C, C) or (N, C), optional
        A confusion matrix, or one row a sample (sorted by class). If not given, the
        weights of the first population, each sample's divided by their sum.
    dtype : {"float64", "float32"}, of the snapshot
    xp : namespace, optional, of the snapshot; NumPy by default
    provenance : mapping, optional, added to the snapshot's

    Returns
    -------
    World
        The weights of its populations are p / N, whatever they were before.

    Raises
    ------
    ValueError, TypeError
        If the populations and probabilities do not fit together, or one is
        score-consistent where the probability of the true class is 0.

    Notes
    -----
    Theory: theory/worlds.md#W5; theory/expectations.md#W8. Score-consistent errors
    satisfy :math:`\sum_{c'} p_{i,c,c'} \delta_{i,c,c'} = 0` within
    :math:`\gamma_{C+4} \sum_{c'} p |\delta|` entrywise.

    Examples
    --------
    >>> population = Population((5, 7), 3, np.ones((12, 2)), 1.0)
    >>> world = planted({"fc": population}, rng=np.random.default_rng(0))
    >>> world, world.snapshot.offsets
    (World(N=12, C=2, layers=['fc']), (0, 5, 12))
    """
    first = _expect_populations(populations)
    checks.expect_generator("rng", rng)
    labels = first.labels
    if provenance is not None:
        checks.expect_type("provenance", provenance, Mapping, "give a dict")
    if probabilities is None:
        probabilities = _shares(first.weights)
    p = geometry.per_sample(probabilities, labels)
    given = convert(p, dtype, xp)
    weighted = {name: _reweighted(x, p) for name, x in populations.items()}
    layers = []
    for name, population in weighted.items():
        features, errors = _draw_layer(as_kronecker(population), p, rng)
        both = (features, errors[:, :, None, :])
        layers.append(Layer(name, *(convert(x, dtype, xp) for x in both)))
    made = classes.snapshot(
        layers,
        labels,
        probabilities=given,
        provenance={"framework": "refspec.synthetic", "left_out": {}}
        | dict(provenance or {}),
    )
    return World(made, weighted, p)


def orthogonal(
    C: int,
    b: int,
    a: int,
    per_class: int,
    *,
    rng: np.random.Generator,
    error_norm: float = 1.0,
    feature_norm: float = 1.0,
    error_noise: float = 1.0,
    feature_noise: float = 1.0,
    coupling: float = 0.0,
    dtype: str = "float64",
    xp: Namespace | None = None,
) -> World:
    """Draw balanced classes around orthogonal means of errors and features.

    C, b, a: classes, dimensions of errors and features, at least C. Norms are lengths
    of class means, noises are variances. Theory: theory/expectations.md#W10.
    """
    n = expect_count("per_class", per_class)
    checks.expect_generator("rng", rng)
    groups = independent_groups(
        C,
        b,
        a,
        error_norm=error_norm,
        feature_norm=feature_norm,
        error_noise=error_noise,
        feature_noise=feature_noise,
        coupling=coupling,
    )

    def side(d: int, K: int, norm: float, noise: float) -> Population:
        means = geometry.means_of_gram(norm**2 * np.eye(C), d, rng=rng)
        return Population((n,) * C, d, np.ones((C * n, K)), noise, class_means=means)

    errors = side(b, C, error_norm, error_noise)
    features = side(a, 1, feature_norm, feature_noise)
    population = KroneckerPopulation(errors, features, coupling)
    world = planted({"orthogonal": population}, rng=rng, dtype=dtype, xp=xp)
    return replace(world, groups=groups)


def deepened(
    population: AnyPopulation, gains: Sequence[float], name: str = "layer"
) -> dict[str, AnyPopulation]:
    """Repeat a population over layers whose fixed and random means change by a gain.

    Global means and noise stay; layers are named and numbered from 1. Theory:
    theory/worlds.md#W5.
    """
    kinds = (Population, KroneckerPopulation)
    checks.expect_type("population", population, kinds, "make one first")
    checks.expect_type("name", name, str, "give the layers a name")
    factors = checks.host_array("gains", gains, "(layers,)").tolist()
    expect_length("gains", max(map(abs, factors), default=0.0))
    if not factors:
        raise ValueError("gains must be one a layer, got []; give at least one")
    return {f"{name}{k}": _deeper(population, g) for k, g in enumerate(factors, 1)}


def draw(
    population: Population,
    *,
    rng: np.random.Generator,
    scales: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Draw one vector per sample and cross class, shape (N, K, d).

    `scales` are factors (N,) of the noise's standard deviation. Cost O(N K d), for full
    covariances O(N K d^2). Theory: theory/worlds.md#W5.
    """
    C, K, d, labels = (
        population.C,
        population.K,
        population.dimension,
        population.labels,
    )
    means = population.fixed_means()
    levels = ((population.class_covariance, 1), (population.cross_covariance, K))
    for covariance, effects in levels:
        if covariance is not None and np.any(covariance):
            half = covariances.root(covariance)
            means += covariances.times_root(rng.standard_normal((C, effects, d)), half)
    noise = covariances.standard(
        (population.N, K, d), rng=rng, noise=population.noise, dof=population.dof
    )
    if isinstance(population.within_covariance, tuple):
        for c, covariance in enumerate(population.within_covariance):
            mine, half = labels == c, covariances.root(covariance)
            noise[mine] = covariances.times_root(noise[mine], half)
    else:
        half = covariances.root(population.within_covariance)
        noise = covariances.times_root(noise, half)
    return np.asarray(means[labels] + noise * np.reshape(scales, (-1, 1, 1)))


def convert(x: np.ndarray, dtype: str, xp: Namespace | None) -> Array:
    """Move a float64 host array to a namespace and dtype."""
    checks.expect_choice("dtype", dtype, ("float64", "float32"))
    if xp is not None and not hasattr(xp, "asarray"):
        raise TypeError(
            f"xp must be an array namespace, got {xp!r} of type {type(xp).__name__}; "
            "give a module such as numpy or torch"
        )
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        host = x.astype(dtype)
    return host if xp is None else xp.asarray(host)


def _expect_populations(populations: Mapping[str, AnyPopulation]) -> Population:
    """Check that layers are named and fit together; return the first one's errors."""
    advice = "give a dict of populations by layer"
    checks.expect_type("populations", populations, Mapping, advice)
    for name, x in populations.items():
        checks.expect_type("the name of a layer", name, str, advice)
        kinds = (Population, KroneckerPopulation)
        checks.expect_type(f"populations[{name!r}]", x, kinds, "make one first")
    errors = [as_kronecker(x).errors for x in populations.values()]
    sizes = {x.sizes for x in errors}
    if len(sizes) != 1 or any(x.K != x.C or x.C < 2 for x in errors):
        got = [(x.sizes, x.K) for x in errors]
        raise ValueError(
            "populations must be at least one, all of the same C >= 2 class sizes and "
            f"with K = C cross classes, got (sizes, K) of {got}; make them alike"
        )
    return errors[0]


def _shares(weights: np.ndarray) -> np.ndarray:
    """Return the probabilities that weights (N, C) imply."""
    largest = np.max(weights, axis=1, keepdims=True)
    if np.any(largest == 0):
        raise ValueError(
            f"weights must not vanish for a whole sample, got {np.sum(largest == 0)} "
            "that do; give probabilities"
        )
    p = weights / largest  # first, for weights whose sum overflows or underflows
    return np.asarray(p / np.sum(p, axis=1, keepdims=True))


def _reweighted(population: AnyPopulation, p: np.ndarray) -> AnyPopulation:
    """Give a population the weights of a world, p / N."""
    if isinstance(population, Population):
        return replace(population, weights=p / len(p))
    samples = np.full((len(p), 1), 1 / len(p))
    errors = replace(population.errors, weights=p / len(p))
    features = replace(population.features, weights=samples)
    return replace(population, errors=errors, features=features)


def _deeper(population: AnyPopulation, gain: float) -> AnyPopulation:
    """Multiply the means of errors and features by a gain."""
    if isinstance(population, Population):
        return _scaled(population, gain)
    errors = _scaled(population.errors, gain)
    features = _scaled(population.features, gain)
    return replace(population, errors=errors, features=features)


def _scaled(population: Population, gain: float) -> Population:
    """Multiply class and cross-class means, fixed or random, by a gain."""

    def times(x: Any, factor: float) -> Any:
        with np.errstate(over="ignore"):  # what becomes infinite is refused as such
            return None if x is None or not factor else factor * x

    return replace(
        population,
        class_means=times(population.class_means, gain),
        cross_means=times(population.cross_means, gain),
        class_covariance=times(population.class_covariance, gain**2),
        cross_covariance=times(population.cross_covariance, gain**2),
    )


def _draw_layer(
    population: KroneckerPopulation, p: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw features (N, 1, a) and errors (N, C, b) with shared random scales."""
    errors, kappa, N = population.errors, population.coupling, len(p)
    # z = +-1 of each sample: E[(1 + r z)(1 + sign r z)] - 1 = kappa with r^2 = |kappa|
    z = 2.0 * rng.integers(0, 2, N) - 1
    r = np.sqrt(abs(kappa))
    features = draw(population.features, rng=rng, scales=np.sqrt(1 + r * z))
    delta = draw(errors, rng=rng, scales=np.sqrt(1 + r * np.sign(kappa) * z))
    if errors.score_consistent:
        every, labels = np.arange(N), errors.labels
        delta[every, labels] = 0
        score = np.sum(p[:, :, None] * delta, axis=1)
        delta[every, labels] = -score / p[every, labels][:, None]
    return features, delta
