"""What a prediction rests on, in sentences: its hypotheses, and how sure it is.

A law is a limit, and a limit has hypotheses. Each that a population does not show by
itself, and each that it strains, is said with the numbers of that population, so that
nobody reads four digits where there are two.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refspec.populations import (
    KroneckerPopulation,
    Population,
    as_kronecker,
    as_matrix,
)
from refspec.random_matrix import scores
from refspec.random_matrix.kronecker.design import freedom

#: Least degrees of freedom whose eighth moment exists: deviations then have deviations.
_TAME = 8.0


def mean_eigenvalue(population: Population | KroneckerPopulation) -> float:
    """Return tr E M / d, which exists whatever the noise is.

    Theory: theory/expectations.md#W7, #W9
    """
    both = as_kronecker(population)
    errors, features = both.errors, both.features
    A, label = scores.matrix_weights(errors), errors.labels
    traces = np.trace(A, axis1=1, axis2=2)
    shared, cross, own = _traces(errors)
    means = errors.fixed_means()[label]
    left = np.sum(means * (A @ means), axis=(1, 2)) + traces * (cross + own[label])
    left += np.sum(A, axis=(1, 2)) * shared
    common, _, noise = _traces(features)
    right = np.sum(features.fixed_means()[:, 0] ** 2, axis=1) + common + noise
    coupled = both.coupling * traces * (own * noise)[label]
    return float(np.sum(left * right[label] + coupled)) / population.dimension


def expect_fourth_moment(population: Population | KroneckerPopulation) -> None:
    """Refuse noise whose largest eigenvalues are single samples; say what exists."""
    for side in sides(population):
        if side.dof is not None and side.dof <= 4:
            raise ValueError(
                "noise must have a fourth moment, got Student's t of "
                f"{side.dof:.3g} degrees of freedom; the largest eigenvalues are then "
                "single samples, which no limiting law knows. What exists is the mean "
                f"of all eigenvalues, {mean_eigenvalue(population):.6g}, not their "
                "variance: take dof > 4"
            )


def sides(population: Population | KroneckerPopulation) -> tuple[Population, ...]:
    """Return the populations of vectors."""
    if isinstance(population, KroneckerPopulation):
        return population.errors, population.features
    return (population,)


def assumptions(
    population: Population | KroneckerPopulation,
    clear: tuple[bool, ...],
    edge: float,
    outliers: np.ndarray,
) -> tuple[str, ...]:
    """Say what a prediction assumes of a population, and where it is less sure.

    Theory: theory/random_matrix.md#R14; theory/kronecker_designs.md#G4
    """
    if isinstance(population, KroneckerPopulation):
        found = [*_of_products(population, edge, outliers)]
    else:
        found = [*_of_vectors(population)]
    for side in sides(population)[:1]:
        found += [*_of_scores(side), *_of_noise(side)]
    found.append("weights are fixed: they do not depend on the vectors")
    unclear = [k + 1 for k, sure in enumerate(clear) if not sure]
    if unclear:
        names = ", ".join(f"{k} and {k + 1}" for k in unclear[:4])
        more = ", ..." if len(unclear) > 4 else ""
        found.append(
            f"between bands {names}{more} the gap is not wider than the edges move: "
            "one draw may count an eigenvalue on the other side"
        )
    return tuple(found)


def _of_vectors(population: Population) -> Iterator[str]:
    """Say what is assumed of the design."""
    d, N = population.dimension, population.N
    yield (
        f"a limit: d = {d} and N = {N} grow together; the distribution function errs "
        f"by about 4 / d = {4 / d:.2g}"
    )
    rank = int(np.linalg.matrix_rank(population.fixed_means().reshape(-1, d)))
    if rank:
        yield f"fixed means span q = {rank} dimensions, few beside d"
    if population.class_covariance is not None:
        yield (
            "random class means are rows of noise: the deviations of their outliers "
            "are those of ordered eigenvalues of a Gaussian matrix"
        )


def _of_products(
    population: KroneckerPopulation, edge: float, outliers: np.ndarray
) -> Iterator[str]:
    """Say what is assumed of gradients: both sides large, as the noise sees them."""
    sizes = [effective_dimension(x) for x in sides(population)]
    b, a = (x.dimension for x in sides(population))
    yield (
        f"a limit: P = {b} x {a} grows with both sides, whose noise has "
        f"{sizes[0]:.3g} and {sizes[1]:.3g} effective dimensions (tr S)^2 / tr S^2"
    )
    if population.coupling:
        yield (
            f"coupling {population.coupling:g}: half of the samples of each class have "
            "either sign of the scales; how many do in a draw is not predicted"
        )
    if len(outliers):
        near = edge / float(outliers[-1])
        error = second_order(edge, outliers, min(sizes))[-1]
        yield (
            "outliers are right to first order in the noise: the lowest to "
            f"{100 * error:.2g} % of itself, its deviation short by up to "
            f"{100 * near:.2g} %"
        )


def _of_scores(side: Population) -> Iterator[str]:
    """Say what score-consistency makes of the errors."""
    if side.score_consistent:
        A = scores.matrix_weights(side)
        sizes = np.linalg.eigvalsh(A)[:, -1]
        share = float(np.max(sizes) / np.mean(sizes))
        yield (
            "scores are consistent: rows weigh as their odds say, the heaviest "
            f"{share:.3g} times the mean, few of them beside d"
        )


def _of_noise(side: Population) -> Iterator[str]:
    """Say what is assumed of the shape of the noise."""
    if side.noise == "gaussian":
        yield "noise is Gaussian"
        return
    tails = ""
    if side.dof is not None and side.dof <= _TAME:
        tails = f", and {side.dof:.3g} degrees of freedom make edges known slowly"
    yield (
        f"noise is {side.noise}: bands need its fourth moment alone, deviations and "
        f"scales are those of Gaussian noise{tails}"
    )


def effective_dimension(population: Population) -> float:
    """Return the least (tr S)^2 / tr S^2 of the noise of a class.

    Theory: theory/kronecker_designs.md#G4
    """
    return min(freedom(S, population.dimension) for S in population.within)


def second_order(edge: float, outliers: np.ndarray, size: float) -> np.ndarray:
    """Return (edge / lambda)^2 / r: what outliers of gradients miss, relative.

    Theory: theory/kronecker_designs.md#G4
    """
    return np.asarray((edge / outliers) ** 2 / size)


def _traces(population: Population) -> tuple[float, float, np.ndarray]:
    """Return traces of the covariances of class means, cell means and noise (C,)."""
    d = population.dimension
    levels = (population.class_covariance, population.cross_covariance)
    shared, cross = (float(np.trace(as_matrix(S, d))) for S in levels)
    own = np.asarray([float(np.trace(as_matrix(S, d))) for S in population.within])
    return shared, cross, own
