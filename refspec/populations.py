r"""The law behind a planted world, in closed form: means, covariances and weights.

A population is what a theory needs to predict a spectrum and a generator needs to
draw one; neither sees the other. Vectors are indexed by sample i, class c and cross
class c', and are nested sums

.. math:: x_{icc'} = \mu_0 + \mu_c + \nu_{cc'} + \epsilon_{icc'}

of a fixed global mean, class means and cross-class means that are either fixed or
random, and independent noise. Everything here is float64 on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from refspec import rounding

__all__ = ["Covariance", "KroneckerPopulation", "Noise", "Population", "as_matrix"]

#: Isotropic s I (a float), diagonal (a vector, length d) or any PSD matrix (d, d).
Covariance = float | np.ndarray

Noise = Literal["gaussian", "student", "laplace"]


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    r"""The law of nested vectors :math:`\mu_0 + \mu_c + \nu_{cc'} + \epsilon_{icc'}`.

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
        Of the noise; one for all classes or one per class.
    global_mean : array, shape (d,), optional
        Fixed.
    class_means : array, shape (C, d), optional
        Fixed class means, relative to the global mean.
    class_covariance : Covariance, optional
        Of random class means, of mean 0. Not both.
    cross_means : array, shape (C, K, d), optional
        Fixed cross-class means, relative to the class means.
    cross_covariance : Covariance, optional
        Of random cross-class means, of mean 0. Not both.
    noise : {"gaussian", "student", "laplace"}
        Shape of the noise, always with the covariance above.

    Raises
    ------
    ValueError
        If a shape, a weight or a covariance is not as above.

    Examples
    --------
    >>> law = Population((2, 3), 4, np.ones((5, 2)), 1.0, class_means=np.ones((2, 4)))
    >>> law.C, law.K, law.N, law.class_kind, law.cross_kind
    (2, 2, 5, 'fixed', 'absent')
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

    def __post_init__(self) -> None:
        sizes = tuple(int(n) for n in self.sizes)
        if not sizes or min(sizes) < 1:
            raise ValueError(
                f"sizes must hold C >= 1 class sizes n_c >= 1, got {sizes}; "
                "leave empty classes out"
            )
        d = int(self.dimension)
        if d < 1:
            raise ValueError(f"dimension must be d >= 1, got {d}; give the vectors' d")
        if self.noise not in ("gaussian", "student", "laplace"):
            raise ValueError(
                "noise must be 'gaussian', 'student' or 'laplace', got "
                f"{self.noise!r}; choose one of the three"
            )
        C, N = len(sizes), sum(sizes)
        weights = np.array(self.weights, dtype=np.float64)
        if weights.ndim != 2 or weights.shape[0] != N or weights.shape[1] < 1:
            raise ValueError(
                f"weights must have shape (N, K) with N = sum(sizes) = {N}, got "
                f"{weights.shape}; axes are (sample, cross class)"
            )
        if not np.all(np.isfinite(weights) & (weights >= 0)) or not np.any(weights > 0):
            raise ValueError(
                "weights must be finite, >= 0 and not all 0, got values in "
                f"[{weights.min()}, {weights.max()}]; drop a cell with weight 0"
            )
        K = weights.shape[1]
        keep = object.__setattr__
        keep(self, "sizes", sizes)
        keep(self, "dimension", d)
        keep(self, "weights", _frozen(weights))
        shapes = {
            "global_mean": ("(d,)", (d,)),
            "class_means": ("(C, d)", (C, d)),
            "cross_means": ("(C, K, d)", (C, K, d)),
        }
        for name, (letters, shape) in shapes.items():
            if getattr(self, name) is not None:
                keep(self, name, _means(name, getattr(self, name), letters, shape))
        for level in ("class", "cross"):
            name = f"{level}_covariance"
            if getattr(self, name) is None:
                continue
            if getattr(self, f"{level}_means") is not None:
                raise ValueError(
                    f"{level} means must be fixed or random, got both {level}_means "
                    f"and {name}; give one of the two"
                )
            keep(self, name, _covariance(name, getattr(self, name), d))
        within = self.within_covariance
        if isinstance(within, tuple):
            if len(within) != C:
                raise ValueError(
                    f"within_covariance must be one covariance or a tuple of C = {C}, "
                    f"got {len(within)}; give one per class"
                )
            checked = (_covariance("within_covariance", w, d) for w in within)
            keep(self, "within_covariance", tuple(checked))
        else:
            checked_one = _covariance("within_covariance", within, d)
            keep(self, "within_covariance", checked_one)

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
        """Whether class means are `fixed`, `random` or `absent`."""
        return _kind(self.class_means, self.class_covariance)

    @property
    def cross_kind(self) -> str:
        """Whether cross-class means are `fixed`, `random` or `absent`."""
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
    r"""The law of gradients :math:`g_{icc'} = \delta_{icc'} \otimes h_{ic}`.

    Parameters
    ----------
    errors : Population
        Of delta, K = C; its weights are those of the gradients.
    features : Population
        Of h, K = 1, independent of the errors and shared by every c' of a sample.

    Raises
    ------
    ValueError
        If the features have a cross-class axis or other class sizes.

    Examples
    --------
    >>> errors = Population((2, 2), 3, np.ones((4, 2)), 1.0)
    >>> features = Population((2, 2), 5, np.ones((4, 1)), 1.0)
    >>> KroneckerPopulation(errors, features).dimension
    15
    """

    errors: Population
    features: Population

    def __post_init__(self) -> None:
        if self.features.K != 1:
            raise ValueError(
                "features must have K = 1 (shared by every cross class), got "
                f"K = {self.features.K}; give weights of shape (N, 1)"
            )
        if self.features.sizes != self.errors.sizes:
            raise ValueError(
                "features and errors must have the same class sizes, got "
                f"{self.features.sizes} and {self.errors.sizes}; a gradient pairs "
                "the two of one sample"
            )

    @property
    def dimension(self) -> int:
        """P, the product of the two dimensions."""
        return self.errors.dimension * self.features.dimension


def as_matrix(covariance: Covariance, d: int) -> np.ndarray:
    """Return a covariance as a (d, d) matrix.

    Examples
    --------
    >>> as_matrix(2.0, 2).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """
    if np.ndim(covariance) == 2:
        return np.asarray(covariance)
    return np.diag(np.broadcast_to(covariance, (d,)))


def _kind(means: np.ndarray | None, covariance: Covariance | None) -> str:
    """Name what is known of a level."""
    if means is not None:
        return "fixed"
    return "absent" if covariance is None else "random"


def _frozen(array: np.ndarray) -> np.ndarray:
    """Make our own copy read-only."""
    array.flags.writeable = False
    return array


def _means(
    name: str, value: np.ndarray, letters: str, shape: tuple[int, ...]
) -> np.ndarray:
    """Check a table of means."""
    means = np.array(value, dtype=np.float64)
    if means.shape != shape:
        raise ValueError(
            f"{name} must have shape {letters} = {shape}, got {means.shape}; "
            "axes are (class, cross class, dimension)"
        )
    if not np.all(np.isfinite(means)):
        raise ValueError(
            f"{name} must be finite, got {np.sum(~np.isfinite(means))} values that "
            "are not; remove them"
        )
    return _frozen(means)


def _covariance(name: str, value: Covariance, d: int) -> Covariance:
    """Check one covariance: shape, finite, symmetric, positive semidefinite."""
    covariance = np.array(value, dtype=np.float64)
    if covariance.shape not in ((), (d,), (d, d)):
        raise ValueError(
            f"{name} must be a number, a vector (d,) or a matrix (d, d) with d = {d}, "
            f"got shape {covariance.shape}; it is a covariance of d coordinates"
        )
    if not np.all(np.isfinite(covariance)):
        raise ValueError(
            f"{name} must be finite, got {np.sum(~np.isfinite(covariance))} values "
            "that are not; remove them"
        )
    if covariance.ndim < 2:
        lowest, radius = float(covariance.min()), 0.0
    else:
        # the matrix was itself computed, as a product of matrices of its size
        u, trace = rounding.unit_roundoff(covariance), float(np.trace(abs(covariance)))
        formed = 2 * rounding.gamma(d + 2, u) * trace
        skew = float(np.max(np.abs(covariance - covariance.T)))
        if skew > formed:
            raise ValueError(
                f"{name} must be symmetric, got entries that differ by {skew} from "
                "those of the transpose; symmetrise it"
            )
        covariance = (covariance + covariance.T) / 2
        values = np.linalg.eigvalsh(covariance)
        lowest, norm = float(values[0]), float(np.max(np.abs(values)))
        radius = formed + rounding.eigensolver_radius(d, norm, u)
    if lowest < -radius:
        raise ValueError(
            f"{name} must be positive semidefinite, got an eigenvalue {lowest}; "
            "project it on the PSD cone or correct its sign"
        )
    return float(covariance) if covariance.ndim == 0 else _frozen(covariance)
