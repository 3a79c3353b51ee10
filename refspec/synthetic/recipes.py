r"""A world as plain data: what a file can record, and plant again.

A `Recipe` holds numbers and words only. The same recipe gives the same world, so that
an export that carries one can be compared with its population. What a recipe cannot
say (given Gram matrices, given probabilities, several kinds of layers) is planted from
`refspec.synthetic.Plan` directly.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refspec.backend import Namespace
from refspec.synthetic import covariances, geometry
from refspec.synthetic.hierarchy import Hierarchy, Plan
from refspec.synthetic.worlds import World, deepened, planted

__all__ = ["KINDS", "MEANS", "Recipe", "covariance", "from_record"]

#: How class means are planted: fixed (regular simplex, orthogonal, independent
#: directions) or a random level of covariance s^2 / d on average.
MEANS = ("simplex", "orthogonal", "directions", "random", "none")

#: Covariances by name, with the parameter they take.
KINDS = {
    "isotropic": None,
    "diagonal": "ratio of the largest to the smallest variance",
    "power-law": "exponent",
    "low-rank": "rank, which holds half of the variance",
    "toeplitz": "correlation of neighbours",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    r"""A world in plain data; `plant` it.

    Parameters
    ----------
    classes : int
        C >= 2.
    dim : int
        b, dimension of the errors.
    per_class : int or tuple of C int
        Samples of every class, or of each.
    means : {"simplex", "orthogonal", "directions", "random", "none"}
        Class means of the errors, see `MEANS`; of the features orthogonal ones.
    strength : float
        Length of every class mean (random: root mean square).
    cross_strength : float
        Root mean square length of random cross-class means; 0 for none.
    fixed_cross : bool
        Draw the cross-class means once and plant them, instead of a random level.
    global_strength : float
        Length of the mean of all errors.
    noise : float or tuple of C float
        Variance within, average over coordinates; for all classes or each.
    covariance : str
        Of the noise, ``kind`` or ``kind:parameter``, see `KINDS`.
    class_covariance, cross_covariance : str
        The same for random means.
    law : {"gaussian", "laplace", "student"}
        Of the noise.
    dof : float, optional
        Of Student's law.
    misclassification : float, optional
        Probability of all wrong classes together; chance if not given, 1 drops c' = c.
    confidence, spread : float, optional
        Softmax outputs instead: margin of the true class's logit, deviation of all.
    score_consistent : bool
        See `refspec.synthetic.Plan`.
    feature_dim : int
        a, dimension of features shared by the cross classes; 0 for none, gradients
        are then the errors.
    feature_strength, feature_noise : float
        Length of every class mean of the features, and their variance within.
    coupling : float
        Of features and errors, see `refspec.synthetic.Plan`.
    gains : tuple of float
        One layer each, class and cross-class means times the gain.
    seed : int
        Of every draw.

    Raises
    ------
    ValueError
        If a word is unknown or a number out of range; what depends on several fields
        is checked by `plant`.

    Notes
    -----
    With features every level is fixed: random means are drawn once and planted, as the
    features of one class share them.

    Examples
    --------
    >>> recipe = Recipe(classes=3, dim=20, per_class=5, strength=2.0)
    >>> world = recipe.plant()
    >>> world.snapshot.layer("layer1").errors.shape
    (15, 3, 1, 20)
    """

    classes: int = 10
    dim: int = 200
    per_class: int | tuple[int, ...] = 20
    means: str = "simplex"
    strength: float = 3.0
    cross_strength: float = 0.0
    fixed_cross: bool = False
    global_strength: float = 0.0
    noise: float | tuple[float, ...] = 1.0
    covariance: str = "isotropic"
    class_covariance: str = "isotropic"
    cross_covariance: str = "isotropic"
    law: str = "gaussian"
    dof: float | None = None
    misclassification: float | None = None
    confidence: float | None = None
    spread: float = 0.0
    score_consistent: bool = False
    feature_dim: int = 0
    feature_strength: float = 3.0
    feature_noise: float = 1.0
    coupling: float = 0.0
    gains: tuple[float, ...] = field(default=(1.0,))
    seed: int = 0

    def __post_init__(self) -> None:
        if self.classes < 2 or self.dim < 1 or self.feature_dim < 0:
            raise ValueError(
                "a recipe needs classes C >= 2, dim >= 1 and feature_dim >= 0, got "
                f"{self.classes}, {self.dim} and {self.feature_dim}; correct them"
            )
        if self.means not in MEANS:
            raise ValueError(
                f"means must be one of {MEANS}, got {self.means!r}; choose one"
            )
        for name in ("per_class", "noise"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) not in (1, self.classes):
                raise ValueError(
                    f"{name} must be one number or C = {self.classes}, got "
                    f"{len(value)}; give one for all classes or one for each"
                )
        for name in ("strength", "cross_strength", "global_strength"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be finite and >= 0, got {getattr(self, name)}; it is "
                    "a length"
                )
        if self.confidence is not None and self.misclassification is not None:
            raise ValueError(
                "probabilities must come from misclassification or confidence, got "
                f"{self.misclassification} and {self.confidence}; give one of the two"
            )
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0, got {self.seed}; give another")

    def plant(self, *, dtype: str = "float64", xp: Namespace | None = None) -> World:
        """Draw the world of this recipe.

        Parameters
        ----------
        dtype, xp
            As in `refspec.synthetic.planted`.

        Returns
        -------
        World
            Layers ``layer1``, ``layer2``, ...; its provenance holds the recipe.

        Raises
        ------
        ValueError
            If parts do not fit together, see `refspec.synthetic.planted`.
        """
        rng = np.random.default_rng(self.seed)
        counts = _each(self.per_class, self.classes)
        plan = Plan(
            "layer",
            self._errors(rng),
            self._features(rng),
            coupling=self.coupling,
            score_consistent=self.score_consistent,
        )
        if self.confidence is not None:
            p = geometry.softmax_outputs(
                np.repeat(np.arange(self.classes), counts),
                self.classes,
                confidence=self.confidence,
                spread=self.spread,
                rng=rng,
            )
        else:
            p = geometry.confusion(self.classes, self.misclassification)
        return planted(
            deepened(plan, self.gains),
            counts,
            rng=rng,
            probabilities=p,
            dtype=dtype,
            xp=xp,
            provenance={"recipe": self.record(), "numpy": np.__version__},
        )

    def record(self) -> dict[str, Any]:
        """Return the recipe as JSON holds it; `from_record` reads it."""
        plain = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    def _errors(self, rng: np.random.Generator) -> Hierarchy:
        """Return the law of the errors, its fixed means drawn."""
        C, b = self.classes, self.dim
        overall = self.global_strength * _direction(b, rng)
        between = covariance(self.class_covariance, b, self.strength**2 / b, rng)
        across = covariance(self.cross_covariance, b, self.cross_strength**2 / b, rng)
        within = covariance(self.covariance, b, 1.0, rng)
        fixed = None
        if self.means == "random" and self.feature_dim:
            fixed = _drawn((C, b), between, rng)
        elif self.means not in ("random", "none"):
            fixed = _fixed(self.means, C, b, self.strength, rng)
        cross = None
        if self.cross_strength and (self.fixed_cross or self.feature_dim):
            cross = _drawn((C, C, b), across, rng)
        noise = self.noise if isinstance(self.noise, tuple) else (self.noise,)
        return Hierarchy(
            C,
            b,
            global_mean=overall if self.global_strength else None,
            class_means=fixed,
            cross_means=cross,
            class_covariance=between
            if self.means == "random" and fixed is None
            else 0.0,
            cross_covariance=0.0 if cross is not None else across,
            within=tuple(s * within for s in noise)
            if len(noise) > 1
            else noise[0] * within,
            law=self.law,
            dof=self.dof,
        )

    def _features(self, rng: np.random.Generator) -> Hierarchy | None:
        """Return the law of the features, around orthogonal class means."""
        if not self.feature_dim:
            return None
        C, a = self.classes, self.feature_dim
        means = _fixed("orthogonal", C, a, self.feature_strength, rng)
        return Hierarchy(C, a, class_means=means, within=self.feature_noise)


def from_record(record: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a file records.

    Parameters
    ----------
    record : mapping
        As `Recipe.record` makes it.

    Returns
    -------
    Recipe

    Raises
    ------
    ValueError
        If a field is unknown, or its value not one that a recipe can have.

    Examples
    --------
    >>> recipe = Recipe(classes=2, per_class=(3, 4))
    >>> from_record(recipe.record()) == recipe
    True
    """
    known = {f.name for f in dataclasses.fields(Recipe)}
    unknown = sorted(set(record) - known)
    if unknown:
        raise ValueError(
            f"a recipe must have the fields of refspec.synthetic.Recipe, got {unknown} "
            "besides; it was made by another version"
        )
    plain: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in record.items()
    }
    try:
        return Recipe(**plain)
    except TypeError as error:
        raise ValueError(
            f"a recipe must hold numbers and words where they belong, got {plain}; "
            f"{error}"
        ) from error


def covariance(
    spec: str, d: int, variance: float, rng: np.random.Generator
) -> float | np.ndarray:
    """Return a covariance by name, of a given average variance.

    Parameters
    ----------
    spec : str
        ``kind`` or ``kind:parameter``, see `KINDS`.
    d : int
        Dimension.
    variance : float
        Trace over d.
    rng : numpy.random.Generator
        For the directions of a low-rank part.

    Returns
    -------
    float, array (d,) or array (d, d)

    Raises
    ------
    ValueError
        If the kind is unknown, or its parameter missing, extra or out of range.

    Notes
    -----
    Theory: theory/worlds.md#W1.

    Examples
    --------
    >>> covariance("diagonal:3", 3, 1.0, np.random.default_rng(0)).tolist()
    [0.5, 1.0, 1.5]
    """
    kind, _, word = spec.partition(":")
    if kind not in KINDS:
        raise ValueError(
            f"covariance must be one of {tuple(KINDS)}, got {spec!r}; write e.g. "
            "'toeplitz:0.5'"
        )
    try:
        parameter = float(word) if word else None
    except ValueError:
        parameter = math.nan
    if (KINDS[kind] is None) != (parameter is None) or (
        parameter is not None and not math.isfinite(parameter)
    ):
        wants = f"{KINDS[kind] or 'no parameter'} after a colon"
        raise ValueError(f"{kind!r} takes {wants}, got {spec!r}; correct it")
    if parameter is None:
        return float(variance)
    if kind == "low-rank":
        r = int(parameter)
        if r != parameter or not 1 <= r <= d:
            limits = f"1 <= r <= d = {d}"
            raise ValueError(f"low-rank needs a whole {limits}, got {spec!r}; lower it")
        frame = np.linalg.qr(rng.standard_normal((d, r)))[0]
        shape = covariances.low_rank_plus_noise(math.sqrt(d / r) * frame, 1.0)
    elif kind == "toeplitz":
        shape = covariances.toeplitz(d, parameter)
    elif kind == "power-law":
        shape = covariances.power_law(d, parameter)
    else:
        if parameter < 1:
            raise ValueError(f"diagonal needs a ratio >= 1, got {spec!r}; correct it")
        shape = np.linspace(1.0, parameter, d)
    trace = float(np.sum(shape) if shape.ndim == 1 else np.trace(shape))
    return shape * (variance * d / trace)


def _each(value: int | tuple[int, ...], C: int) -> list[int]:
    """Return one number per class."""
    counts = value if isinstance(value, tuple) else (value,)
    return list(counts) * (C if len(counts) == 1 else 1)


def _fixed(
    kind: str, C: int, d: int, norm: float, rng: np.random.Generator
) -> np.ndarray:
    """Return fixed class means in a random frame."""
    if kind == "directions":
        return norm * np.stack([_direction(d, rng) for _ in range(C)])
    flat = geometry.orthogonal_gram(np.full(C, norm))
    gram = geometry.simplex_gram(C, norm) if kind == "simplex" else flat
    return geometry.means(gram, d, rng=rng)


def _direction(d: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a unit vector."""
    x = rng.standard_normal(d)
    return np.asarray(x / np.linalg.norm(x))


def _drawn(
    shape: tuple[int, ...], S: float | np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw means of a covariance once, to plant them."""
    half = covariances.root(S, shape[-1])
    return np.asarray(covariances.times_root(rng.standard_normal(shape), half))
