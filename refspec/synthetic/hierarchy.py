r"""Class-indexed vectors as a sum of levels: the law that synthetic worlds draw from.

.. math:: x_{i,c,c'} = m_{c,c'} + \alpha_c + \beta_{c,c'} + \epsilon_{i,c,c'}

m is planted (global, class and cross-class means), :math:`\alpha` and :math:`\beta`
are Gaussian random means, :math:`\epsilon` the noise within, all independent and
centred. Features have no cross class: K = 1 and no :math:`\beta`. Host arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec.populations import KroneckerPopulation, Population
from refspec.synthetic import covariances

__all__ = [
    "Hierarchy",
    "Plan",
    "draw",
    "feature_law",
    "planted_means",
    "population",
    "within",
]


@dataclass(frozen=True, slots=True, eq=False)
class Hierarchy:
    """The law of one family of class-indexed vectors.

    Parameters
    ----------
    classes, dimension : int
        C >= 2 and d >= 1.
    global_mean : array (d,), optional
        Added to every vector; 0 if not given.
    class_means : array (C, d), optional
        Planted means of the classes; see `refspec.synthetic.geometry.means`.
    cross_means : array (C, C, d), optional
        Planted means of the cross classes, on top of those of the classes.
    class_covariance, cross_covariance : float, array (d,) or (d, d)
        Of random class and cross-class means; 0 for none.
    within : float, array (d,) or (d, d), or a tuple of C of these
        Covariance of the noise; a tuple gives each class its own.
    law : {"gaussian", "laplace", "student"}
        Of the noise, see `refspec.synthetic.covariances.standard`.
    dof : float, optional
        Of Student's law.

    Raises
    ------
    ValueError
        If a shape does not fit, a value is not finite, or a covariance is not positive
        semidefinite.

    Examples
    --------
    >>> Hierarchy(3, 2, class_means=np.eye(3, 2)).within
    1.0
    """

    classes: int
    dimension: int
    global_mean: np.ndarray | None = None
    class_means: np.ndarray | None = None
    cross_means: np.ndarray | None = None
    class_covariance: Any = 0.0
    cross_covariance: Any = 0.0
    within: Any = 1.0
    law: str = "gaussian"
    dof: float | None = None

    def __post_init__(self) -> None:
        C, d = self.classes, self.dimension
        if C < 2 or d < 1:
            raise ValueError(
                f"a hierarchy needs C >= 2 classes and d >= 1, got C = {C}, d = {d}; "
                "raise them"
            )
        _expect_means("global_mean", self.global_mean, "(d,)", (d,))
        _expect_means("class_means", self.class_means, "(C, d)", (C, d))
        _expect_means("cross_means", self.cross_means, "(C, C, d)", (C, C, d))
        covariances.root(self.class_covariance, d, "class_covariance")
        covariances.root(self.cross_covariance, d, "cross_covariance")
        if isinstance(self.within, tuple) and len(self.within) != C:
            raise ValueError(
                f"within must hold one covariance per class, C = {C}, got "
                f"{len(self.within)}; give C of them or one for all"
            )
        for c, covariance in enumerate(_per_class(self.within)):
            covariances.root(covariance, d, f"within covariance {c}")
        covariances.expect_law(self.law, self.dof)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What to plant in one layer.

    Parameters
    ----------
    name : str
        Of the layer.
    errors : Hierarchy
        Law of the errors, K = C.
    features : Hierarchy, optional
        Law of the features, K = 1, shared by the cross classes of a sample as in a
        network. Not given: the one feature 1, so that gradients are the errors.
    coupling : float
        In [-1, 1]: E[s t] - 1 for the random scales s and t (of mean 1) of the
        variances of a sample's features and errors; 0 makes them independent.
    score_consistent : bool
        Replace the error at c' = c by the one that makes
        ``sum_c' p_{i,c,c'} delta_{i,c,c'} = 0`` for every sample.

    Raises
    ------
    ValueError
        If errors and features do not fit together, features have cross-class parts,
        or the coupling is out of range.

    Examples
    --------
    >>> Plan("fc", Hierarchy(3, 4), Hierarchy(3, 5)).coupling
    0.0
    """

    name: str
    errors: Hierarchy
    features: Hierarchy | None = None
    coupling: float = 0.0
    score_consistent: bool = False

    def __post_init__(self) -> None:
        if not abs(self.coupling) <= 1:
            raise ValueError(
                f"coupling of layer {self.name!r} must lie in [-1, 1], got "
                f"{self.coupling}; it is a covariance of scales of mean 1"
            )
        if self.features is None:
            if self.coupling:
                raise ValueError(
                    f"coupling of layer {self.name!r} must be 0 without features, got "
                    f"{self.coupling}; give features or drop it"
                )
            return
        if self.features.classes != self.errors.classes:
            raise ValueError(
                f"layer {self.name!r} must have one number of classes C, got "
                f"{self.errors.classes} for errors and {self.features.classes} for "
                "features; make them equal"
            )
        no_covariance = not np.any(np.asarray(self.features.cross_covariance))
        if self.features.cross_means is not None or not no_covariance:
            raise ValueError(
                f"features of layer {self.name!r} must have no cross-class part "
                "(K = 1), got cross means or a cross covariance; drop them"
            )


def feature_law(plan: Plan) -> Hierarchy:
    """Return the law of a plan's features: the constant 1 if none was given.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    Hierarchy

    Notes
    -----
    Theory: theory/worlds.md#W5.

    Examples
    --------
    >>> feature_law(Plan("fc", Hierarchy(2, 3))).dimension
    1
    """
    C = plan.errors.classes
    return plan.features or Hierarchy(C, 1, global_mean=np.ones(1), within=0.0)


def planted_means(law: Hierarchy, K: int) -> np.ndarray:
    """Return the fixed means m_{c,c'}: global plus class plus cross-class.

    Parameters
    ----------
    law : Hierarchy
    K : int
        C for errors, 1 for features.

    Returns
    -------
    array, shape (C, K, d)

    Notes
    -----
    Theory: theory/worlds.md#W5.

    Examples
    --------
    >>> planted_means(Hierarchy(2, 1, global_mean=np.ones(1)), 1).tolist()
    [[[1.0]], [[1.0]]]
    """
    means = np.zeros((law.classes, K, law.dimension))
    if law.global_mean is not None:
        means += law.global_mean
    if law.class_means is not None:
        means += np.asarray(law.class_means)[:, None, :]
    if law.cross_means is not None:
        means += law.cross_means
    return means


def within(law: Hierarchy, c: int) -> Any:
    """Return the covariance of the noise of class c, in the form it was given.

    Parameters
    ----------
    law : Hierarchy
    c : int
        The class.

    Returns
    -------
    float, array (d,) or array (d, d)

    Notes
    -----
    Theory: theory/worlds.md#W5.

    Examples
    --------
    >>> within(Hierarchy(2, 3, within=(1.0, 2.0)), 1)
    2.0
    """
    return law.within[c] if isinstance(law.within, tuple) else law.within


def population(
    plan: Plan, sizes: Sequence[int], weights: np.ndarray, *, of: str = "gradients"
) -> Population | KroneckerPopulation:
    """Return a plan's law in the terms that predictions are made from.

    Parameters
    ----------
    plan : Plan
    sizes : sequence of int, length C
        Samples of each class.
    weights : array, shape (N, C)
        ``p_{i,c,c'} / N``.
    of : {"gradients", "errors", "features"}
        Of which vectors.

    Returns
    -------
    Population or KroneckerPopulation
        Of the gradients a KroneckerPopulation, of the errors alone where the one
        feature is 1.

    Raises
    ------
    ValueError
        If the vectors are not independent given their means (coupled, or errors that
        are score-consistent), a level is planted and random at once, or `of` is
        unknown.

    Notes
    -----
    Theory: theory/worlds.md#W5.

    Examples
    --------
    >>> law = population(Plan("fc", Hierarchy(2, 3)), [1, 1], np.full((2, 2), 0.25))
    >>> law.K, law.class_kind, law.within_covariance
    (2, 'absent', 1.0)
    """
    if of not in ("gradients", "errors", "features"):
        raise ValueError(
            f"of must be 'gradients', 'errors' or 'features', got {of!r}; choose one"
        )
    if plan.coupling or (plan.score_consistent and of != "features"):
        raise ValueError(
            "a population needs vectors independent given their means, got coupling = "
            f"{plan.coupling}, score_consistent = {plan.score_consistent} in layer "
            f"{plan.name!r}; plan it without, or use refspec.synthetic.quantities"
        )
    shares = np.full((len(weights), 1), 1 / len(weights))
    if of == "features":
        return _population(feature_law(plan), sizes, shares)
    errors = _population(plan.errors, sizes, weights)
    if of == "errors" or plan.features is None:
        return errors
    return KroneckerPopulation(errors, _population(plan.features, sizes, shares))


def draw(
    law: Hierarchy,
    labels: np.ndarray,
    K: int,
    *,
    rng: np.random.Generator,
    scales: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Draw one vector per sample and cross class.

    Parameters
    ----------
    law : Hierarchy
    labels : array of int, shape (N,)
        Class of each sample.
    K : int
        C for errors, 1 for features.
    rng : numpy.random.Generator
        Source of randomness.
    scales : array (N,), optional
        Factors of the noise's standard deviation, one per sample.

    Returns
    -------
    array, shape (N, K, d)

    Notes
    -----
    Theory: theory/worlds.md#W5. Memory and cost O(N K d) and O(N K d^2) for a full
    covariance.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> draw(Hierarchy(2, 3), np.asarray([0, 1, 1]), 1, rng=rng).shape
    (3, 1, 3)
    """
    C, d, N = law.classes, law.dimension, len(labels)
    means = planted_means(law, K)
    for covariance, effects in ((law.class_covariance, 1), (law.cross_covariance, K)):
        if np.any(np.asarray(covariance)):
            half = covariances.root(covariance, d)
            means += covariances.times_root(rng.standard_normal((C, effects, d)), half)
    noise = covariances.standard((N, K, d), rng=rng, law=law.law, dof=law.dof)
    if isinstance(law.within, tuple):
        for c in range(C):
            mine = np.asarray(labels) == c
            half = covariances.root(law.within[c], d)
            noise[mine] = covariances.times_root(noise[mine], half)
    else:
        noise = covariances.times_root(noise, covariances.root(law.within, d))
    return np.asarray(means[labels] + noise * np.reshape(scales, (-1, 1, 1)))


def _population(
    law: Hierarchy, sizes: Sequence[int], weights: np.ndarray
) -> Population:
    """Translate a hierarchy: a covariance of 0 is an absent level."""

    def present(covariance: Any) -> Any:
        return covariance if np.any(np.asarray(covariance)) else None

    return Population(
        tuple(sizes),
        law.dimension,
        weights,
        law.within,
        global_mean=law.global_mean,
        class_means=law.class_means,
        class_covariance=present(law.class_covariance),
        cross_means=law.cross_means,
        cross_covariance=present(law.cross_covariance),
        noise=law.law,  # type: ignore[arg-type]
    )


def _per_class(covariance: Any) -> tuple[Any, ...]:
    """Return the distinct covariances of a hierarchy's noise."""
    return covariance if isinstance(covariance, tuple) else (covariance,)


def _expect_means(
    name: str, x: np.ndarray | None, letters: str, shape: tuple[int, ...]
) -> None:
    if x is None:
        return
    x = np.asarray(x)
    if x.shape != shape:
        raise ValueError(
            f"{name} must have shape {letters} = {shape}, got {x.shape}; match the "
            "classes and the dimension of the hierarchy"
        )
    if not math.isfinite(float(np.sum(np.abs(x)))):
        raise ValueError(
            f"{name} must be finite, got nan or infinite entries; correct them"
        )
