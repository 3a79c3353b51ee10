r"""The distribution behind planted data: means, covariances and weights.

Worlds are drawn from a `Population` (`refspec.synthetic`), spectra are predicted from
one (`refspec.random_matrix`); neither sees the other. Vectors are indexed by sample i,
class c and cross class c', and are nested sums

.. math:: x_{icc'} = \mu_0 + \mu_c + \nu_{cc'} + \epsilon_{icc'}

of a fixed global mean, class means and cross-class means that are fixed, random or
both, and independent noise. Everything here is float64 on the host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import scipy.linalg

from refspec import checks, rounding

#: Isotropic s I (a float), diagonal (a vector, length d) or any PSD matrix (d, d).
Covariance = float | np.ndarray

Noise = Literal["gaussian", "laplace", "student"]
NOISES: tuple[str, ...] = get_args(Noise)

#: No vector is longer than the first, no matrix has a side beyond the second: 8 TiB.
LONGEST, WIDEST = 2**40, 2**20


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Population:
    r"""Nested vectors :math:`\mu_0 + \mu_c + \nu_{cc'} + \epsilon_{icc'}`.

    A level with means is fixed, a level with a covariance is random, a level with
    neither is absent. Cells (c, c') and samples of weight 0 take no part: c' = c is
    dropped by giving it weight 0.

    Parameters
    ----------
    sizes : tuple of int, length C
        Samples in each class; N is their sum.
    dimension : int
        d.
    weights : array, shape (N, K)
        Non-negative, rows sorted by class; K = C for errors, 1 for features.
    within_covariance : Covariance or tuple of C of them
        Covariance of the noise, one for all classes or one per class.
    global_mean : array, shape (d,), optional
        Fixed.
    class_means : array, shape (C, d), optional
        Fixed class means, relative to the global mean.
    class_covariance : Covariance, optional
        Covariance of random class means around the fixed ones.
    cross_means : array, shape (C, K, d), optional
        Fixed cross-class means, relative to the class means.
    cross_covariance : Covariance, optional
        Covariance of random cross-class means around the fixed ones.
    noise : {"gaussian", "laplace", "student"}
        Shape of the noise, always with the covariance above.
    dof : float, optional
        Degrees of freedom of Student's noise, above 2.
    score_consistent : bool
        Replace the vector at c' = c by the one that makes
        :math:`\sum_{c'} w_{icc'} x_{icc'} = 0` for every sample (K = C).

    Raises
    ------
    ValueError, TypeError
        If a shape, a weight, a mean, a covariance or the noise is not as above.

    Notes
    -----
    Theory: theory/worlds.md#W5; theory/expectations.md#W8.

    Examples
    --------
    >>> Population((2, 3), 4, np.ones((5, 2)), 1.0, class_means=np.eye(2, 4))
    Population(C=2, K=2, N=5, d=4, class means fixed, cross means absent, gaussian)
    """

    sizes: tuple[int, ...]
    dimension: int
    weights: np.ndarray
    within_covariance: Covariance | tuple[Covariance, ...]
    global_mean: np.ndarray | None = None
    class_means: np.ndarray | None = None
    class_covariance: Covariance | None = None
    cross_means: np.ndarray | None = None
    cross_covariance: Covariance | None = None
    noise: Noise = "gaussian"
    dof: float | None = None
    score_consistent: bool = False

    def __post_init__(self) -> None:
        sizes = expect_sizes("sizes", self.sizes)
        d, C, N = expect_count("dimension", self.dimension), len(sizes), sum(sizes)
        weights = _frozen("weights", self.weights, "(N, K)", {"N": N}, positive=True)
        K = weights.shape[1]
        with np.errstate(over="ignore"):
            total = float(np.sum(weights))
        if not 0 < total < math.inf:
            raise ValueError(
                f"weights must have a sum that is finite and > 0, got {total}; drop "
                "single cells with weight 0"
            )
        keep = object.__setattr__
        keep(self, "sizes", sizes)
        keep(self, "dimension", d)
        keep(self, "weights", weights)
        letters = {"C": C, "K": K, "d": d}
        shapes = {"global_mean": "(d,)", "class_means": "(C, d)"}
        for name, shape in {**shapes, "cross_means": "(C, K, d)"}.items():
            given = getattr(self, name)
            if given is not None:
                keep(self, name, _frozen(name, given, shape, letters))
        for name in ("class_covariance", "cross_covariance"):
            given = getattr(self, name)
            if given is not None:
                keep(self, name, expect_covariance(name, given, d))
        keep(self, "within_covariance", _within(self.within_covariance, C, d))
        keep(self, "dof", expect_noise(self.noise, self.dof))
        checks.expect_type("score_consistent", self.score_consistent, bool, "give one")
        if self.score_consistent:
            _expect_own_weight(weights, self.labels, C)

    def __repr__(self) -> str:
        return (
            f"Population(C={self.C}, K={self.K}, N={self.N}, d={self.dimension}, class "
            f"means {self.class_kind}, cross means {self.cross_kind}, "
            f"{self.noise}{', score-consistent' * self.score_consistent})"
        )

    @property
    def C(self) -> int:
        """Number of classes."""
        return len(self.sizes)

    @property
    def K(self) -> int:
        """Number of cross classes."""
        return int(self.weights.shape[1])

    @property
    def N(self) -> int:
        """Number of samples."""
        return sum(self.sizes)

    @property
    def labels(self) -> np.ndarray:
        """Class of each sample, shape (N,)."""
        return np.repeat(np.arange(self.C), self.sizes)

    @property
    def class_kind(self) -> str:
        """Whether class means are `fixed`, `random`, `fixed and random`, `absent`."""
        return _kind(self.class_means, self.class_covariance)

    @property
    def cross_kind(self) -> str:
        """The same of cross-class means."""
        return _kind(self.cross_means, self.cross_covariance)

    @property
    def within(self) -> tuple[Covariance, ...]:
        """Covariance of the noise of each class, length C."""
        shared = self.within_covariance
        return shared if isinstance(shared, tuple) else (shared,) * self.C

    def fixed_means(self) -> np.ndarray:
        """Return the sum of the fixed means of every cell, shape (C, K, d)."""
        means = np.zeros((self.C, self.K, self.dimension))
        if self.global_mean is not None:
            means += self.global_mean
        if self.class_means is not None:
            means += self.class_means[:, None, :]
        if self.cross_means is not None:
            means += self.cross_means
        return means


@dataclass(frozen=True, slots=True, eq=False)
class KroneckerPopulation:
    r"""Gradients :math:`g_{icc'} = \delta_{icc'} \otimes h_{ic}`.

    Parameters
    ----------
    errors : Population
        The population of delta, K = C; its weights are those of the gradients.
    features : Population
        That of h, K = 1 and no cross-class part, shared by every c' of a sample.
    coupling : float
        In [-1, 1]: E[s t] - 1 for the random scales s and t (of mean 1) of the
        variances of a sample's features and errors; 0 makes them independent.

    Raises
    ------
    ValueError, TypeError
        If the two do not fit together or the coupling is out of range.

    Notes
    -----
    Theory: theory/expectations.md#W9.

    Examples
    --------
    >>> errors = Population((2, 2), 3, np.ones((4, 2)), 1.0)
    >>> features = Population((2, 2), 5, np.ones((4, 1)), 1.0)
    >>> KroneckerPopulation(errors, features).dimension
    15
    """

    errors: Population
    features: Population
    coupling: float = 0.0

    def __post_init__(self) -> None:
        for name in ("errors", "features"):
            checks.expect_type(name, getattr(self, name), Population, "make one first")
        if self.features.K != 1 or self.features.cross_kind != "absent":
            raise ValueError(
                "features must have K = 1 and no cross-class part (they are shared by "
                f"every cross class), got {self.features}; give weights of shape (N, 1)"
            )
        if self.features.sizes != self.errors.sizes:
            raise ValueError(
                "features and errors must have the same class sizes, got "
                f"{self.features.sizes} and {self.errors.sizes}; a gradient pairs "
                "the two of one sample"
            )
        if self.features.score_consistent:
            raise ValueError(
                "features must have no score identity (one cross class), got "
                "score_consistent=True; it is a property of errors"
            )
        coupling = checks.expect_number("coupling", self.coupling)
        if not abs(coupling) <= 1:
            raise ValueError(
                f"coupling must lie in [-1, 1], got {coupling}; it is a covariance of "
                "scales of mean 1"
            )
        object.__setattr__(self, "coupling", coupling)

    @property
    def dimension(self) -> int:
        """P, the product of the two dimensions."""
        return self.errors.dimension * self.features.dimension


def as_kronecker(population: Population | KroneckerPopulation) -> KroneckerPopulation:
    """Give errors alone their one feature, the constant 1: gradients are the errors."""
    if isinstance(population, KroneckerPopulation):
        return population
    samples = np.sum(population.weights, axis=1, keepdims=True)
    one = Population(population.sizes, 1, samples, 0.0, global_mean=np.ones(1))
    return KroneckerPopulation(population, one)


def stacked(populations: Sequence[Population]) -> Population:
    """Put the errors of several layers, of the same samples, one after the other.

    Layers are independent given their means. Theory: theory/random_matrix.md#R17
    """
    first, C = populations[0], populations[0].C
    kinds = {(x.sizes, x.noise, x.dof, x.score_consistent) for x in populations}
    if len(kinds) > 1 or any(np.any(x.weights != first.weights) for x in populations):
        raise ValueError(
            "layers must share class sizes, weights and the shape of their noise to be "
            f"predicted together, got {[str(x) for x in populations]}; predict one"
        )

    def means(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        given = [getattr(x, name) for x in populations]
        if all(x is None for x in given):
            return None
        zero = [np.zeros((*shape, x.dimension)) for x in populations]
        parts = [z if x is None else x for x, z in zip(given, zero, strict=True)]
        return np.concatenate(parts, axis=-1)

    def covariance(parts: Sequence[Covariance | None]) -> Covariance | None:
        if all(x is None for x in parts):
            return None
        known = [0.0 if x is None else x for x in parts]
        if all(np.ndim(x) == 0 for x in known) and len(set(map(float, known))) == 1:
            return known[0]
        sides = [x.dimension for x in populations]
        if all(np.ndim(x) < 2 for x in known):
            spread = zip(known, sides, strict=True)
            return np.concatenate([np.broadcast_to(x, (d,)) for x, d in spread])
        blocks = (as_matrix(x, d) for x, d in zip(known, sides, strict=True))
        return np.asarray(scipy.linalg.block_diag(*blocks))

    within = [covariance([x.within[c] for x in populations]) for c in range(C)]
    shared = not any(isinstance(x.within_covariance, tuple) for x in populations)
    noise = [0.0 if x is None else x for x in within]
    return Population(
        first.sizes,
        sum(x.dimension for x in populations),
        first.weights,
        noise[0] if shared else tuple(noise),
        global_mean=means("global_mean", ()),
        class_means=means("class_means", (C,)),
        class_covariance=covariance([x.class_covariance for x in populations]),
        cross_means=means("cross_means", (C, first.K)),
        cross_covariance=covariance([x.cross_covariance for x in populations]),
        noise=first.noise,
        dof=first.dof,
        score_consistent=first.score_consistent,
    )


def as_matrix(covariance: Covariance | None, d: int) -> np.ndarray:
    """Return a covariance as a (d, d) matrix, 0 for an absent level."""
    if covariance is None:
        return np.zeros((d, d))
    if np.ndim(covariance) == 2:
        return np.asarray(covariance)
    return np.diag(np.broadcast_to(covariance, (d,)))


def square_root(S: np.ndarray) -> np.ndarray:
    """Return the symmetric square root of a PSD matrix, which rounding may have bent.

    `refspec.synthetic.covariances.root` refuses what is not PSD.
    """
    values, vectors = np.linalg.eigh(S)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def expect_predictable(population: Population | KroneckerPopulation) -> None:
    """Refuse what no prediction covers: a level that is fixed and random."""
    both = as_kronecker(population)
    for x in (both.errors, both.features):
        for level, kind in (("class", x.class_kind), ("cross-class", x.cross_kind)):
            if kind == "fixed and random":
                raise ValueError(
                    f"{level} means must be fixed or random to be predicted, got both; "
                    "give one of the two"
                )


def expect_count(name: str, n: Any, least: int = 1, most: int = LONGEST) -> int:
    """Refuse all but an integer that can be the side of an array."""
    count = checks.expect_size(name, n, least=least)
    if count > most:
        raise ValueError(
            f"{name} must be at most {most} for an array to have this side, got about "
            f"2^{count.bit_length() - 1}; give a smaller one"
        )
    return count


def expect_length(name: str, x: Any) -> float:
    """Refuse all but a number >= 0 whose square is finite."""
    length = checks.expect_positive(name, x, zero=True)
    if not math.isfinite(length * length):
        raise ValueError(
            f"{name} must have a finite square, got {length:.3g}; scale it down"
        )
    return length


def expect_sizes(name: str, sizes: Any, *, classes: int = 1) -> tuple[int, ...]:
    """Refuse all but class sizes n_c >= 1 of at least so many classes."""
    if isinstance(sizes, str) or not hasattr(sizes, "__len__"):
        raise TypeError(
            f"{name} must hold class sizes n_c >= 1, got {sizes!r} of type "
            f"{type(sizes).__name__}; give one integer per class"
        )
    counts = tuple(expect_count(f"{name}[{c}]", n) for c, n in enumerate(sizes))
    if len(counts) < classes:
        raise ValueError(
            f"{name} must hold C >= {classes} class sizes n_c >= 1, got {counts}; "
            "give one per class"
        )
    return counts


def expect_noise(noise: Any, dof: Any, name: str = "noise") -> float | None:
    """Check the shape of noise and its degrees of freedom, and return the latter."""
    checks.expect_choice(name, noise, NOISES)
    if (noise == "student") != (dof is not None):
        raise ValueError(
            "dof must be given for student noise and for no other, got "
            f"{name}={noise!r}, dof={dof}; set or drop it"
        )
    if dof is None:
        return None
    value = checks.expect_number("dof", dof)
    if not value > 2:
        raise ValueError(
            f"dof must be > 2 (a finite variance to normalise), got {value}; use "
            "gaussian noise for the limit of many"
        )
    return value


def expect_covariance(name: str, value: Any, d: int) -> Covariance:
    """Refuse all but a covariance of d coordinates; return it symmetric to the bit."""
    ndim = np.ndim(value) if np.isscalar(value) or hasattr(value, "ndim") else 1
    letters = {0: "()", 1: "(d,)"}.get(ndim, "(d, d)")
    covariance = checks.host_array(name, value, letters, sizes={"d": d})
    if covariance.ndim < 2:
        lowest = float(covariance.min())
        if lowest < 0:
            raise ValueError(
                f"{name} must be positive semidefinite, got a variance of "
                f"{lowest:.3g}; variances are >= 0"
            )
        return float(covariance) if covariance.ndim == 0 else _read_only(covariance)
    symmetric, formed = symmetric_part(name, covariance)
    expect_semidefinite(name, np.linalg.eigvalsh(symmetric), formed)
    return _read_only(symmetric)


def symmetric_part(name: str, A: np.ndarray) -> tuple[np.ndarray, float]:
    """Return (A + A') / 2, and what A lost if it was computed as a product.

    A product of d columns errs by gamma_{d+2} `tr |A|` at most, and so does its mirror.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        symmetric, trace = (A + A.T) / 2, float(np.trace(np.abs(A)))
        skew = float(np.max(np.abs(A - A.T)))
    if not (math.isfinite(trace) and np.all(np.isfinite(symmetric))):
        raise ValueError(
            f"{name} must have sums of entries that are finite, got entries up to "
            f"{np.max(np.abs(A)):.3g}; scale it down"
        )
    formed = 2 * rounding.gamma(len(A) + 2, 2.0**-53) * trace
    if skew > formed:
        raise ValueError(
            f"{name} must be symmetric, got entries that differ by {skew:.3g} from "
            "their mirror; give (A + A') / 2"
        )
    return symmetric, formed


def expect_semidefinite(name: str, values: np.ndarray, formed: float) -> float:
    """Refuse a negative eigenvalue; return how large one can be that is rounding."""
    size = float(np.max(np.abs(values)))
    radius = formed + rounding.eigensolver_radius(len(values), size, 2.0**-53)
    lowest = float(np.min(values))
    if lowest < -radius:
        raise ValueError(
            f"{name} must be positive semidefinite, got a smallest eigenvalue of "
            f"{lowest:.3g}; shift it, e.g. A + {-lowest:.3g} I"
        )
    return radius


def _expect_own_weight(weights: np.ndarray, labels: np.ndarray, C: int) -> None:
    """Refuse scores that no vector at c' = c could balance."""
    if weights.shape[1] != C:
        raise ValueError(
            f"score_consistent needs weights of K = C = {C} cross classes, got "
            f"K = {weights.shape[1]}; it is a property of errors"
        )
    own = weights[np.arange(len(labels)), labels]
    if np.any((own == 0) & np.any(weights > 0, axis=1)):
        raise ValueError(
            "score_consistent needs weights w_{i,c,c} > 0 for every sample of some "
            "weight, got 0; raise the probability of the true class"
        )


def _kind(means: np.ndarray | None, covariance: Covariance | None) -> str:
    """Name what is known of a level."""
    given = ["fixed"] * (means is not None) + ["random"] * (covariance is not None)
    return " and ".join(given) or "absent"


def _within(value: Any, C: int, d: int) -> Covariance | tuple[Covariance, ...]:
    """Check the covariance of the noise, one or one per class."""
    name = "within_covariance"
    if not isinstance(value, tuple):
        return expect_covariance(name, value, d)
    if len(value) != C:
        raise ValueError(
            f"{name} must be one covariance or a tuple of C = {C}, got {len(value)}; "
            "give one per class"
        )
    return tuple(expect_covariance(f"{name}[{c}]", x, d) for c, x in enumerate(value))


def _frozen(
    name: str, value: Any, letters: str, sizes: dict[str, int], positive: bool = False
) -> np.ndarray:
    """Check an array and return a copy of it that nobody can change."""
    return _read_only(
        checks.host_array(name, value, letters, sizes=sizes, nonnegative=positive)
    )


def _read_only(array: np.ndarray) -> np.ndarray:
    """Return our own copy, read-only."""
    copy = np.array(array)
    copy.flags.writeable = False
    return copy
