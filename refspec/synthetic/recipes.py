r"""A world as plain data: what a file can record, and plant again.

A `Recipe` holds numbers and words only. The same recipe gives the same world, so that
an export that carries one can be compared with its population. What a recipe cannot
say (given Gram matrices, given probabilities, several kinds of layers) is planted from
`refspec.populations.Population` directly.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec import checks, memory
from refspec.backend import Namespace
from refspec.populations import (
    LONGEST,
    NOISES,
    KroneckerPopulation,
    Population,
    expect_count,
    expect_length,
    expect_noise,
)
from refspec.synthetic import covariances, geometry
from refspec.synthetic.covariances import KINDS
from refspec.synthetic.worlds import AnyPopulation, World, deepened, planted

#: How class means are planted: fixed (regular simplex, orthogonal, independent
#: directions) or a random level of covariance s^2 / d on average.
MEANS = ("simplex", "orthogonal", "directions", "random", "none")

ERRORS, PROBABILITIES, FEATURES = "Errors", "Probabilities", "Features and layers"
_NAMES = ", ".join(k if p is None else f"{k}:X" for k, p in KINDS.items())


def _field(
    default: Any, about: str, group: str | None = None, among: tuple[str, ...] = ()
) -> Any:
    """Declare a field with what `refspec synth` says of it."""
    metadata = {"about": about, "group": group, "among": among}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A world in plain data; `plant` it.

    The fields below say what they are, in the words of ``refspec synth --help``. With
    features every level is fixed: random means are drawn once and planted, as the
    features of one class share them.

    Raises
    ------
    ValueError, TypeError
        If a word is unknown or a number out of range; what depends on several fields
        is checked by `plant`.

    Examples
    --------
    >>> recipe = Recipe(classes=3, dim=20, per_class=5, strength=2.0)
    >>> world = recipe.plant()
    >>> world.snapshot.layer("layer1").errors.shape
    (15, 3, 1, 20)
    """

    classes: int = _field(10, "C.", ERRORS)
    dim: int = _field(200, "Dimension of the errors.", ERRORS)
    per_class: int | tuple[int, ...] = _field(
        20, "Samples of every class, or of each: 20 or 10,20,30.", ERRORS
    )
    means: str = _field(
        "simplex", "Class means: fixed, or a random level.", ERRORS, MEANS
    )
    strength: float = _field(3.0, "Length of a class mean.", ERRORS)
    cross_strength: float = _field(
        0.0, "Root mean square length of a cross-class mean.", ERRORS
    )
    fixed_cross: bool = _field(
        False, "Plant the cross-class means instead of a random level.", ERRORS
    )
    global_strength: float = _field(0.0, "Length of the mean of all errors.", ERRORS)
    noise: float | tuple[float, ...] = _field(
        1.0, "Variance within, for all classes or each: 1 or 1,2,1.", ERRORS
    )
    covariance: str = _field("isotropic", f"Of the noise: {_NAMES}.", ERRORS)
    class_covariance: str = _field(
        "isotropic", "Of random class means, likewise.", ERRORS
    )
    cross_covariance: str = _field(
        "isotropic", "Of random cross-class means, likewise.", ERRORS
    )
    law: str = _field("gaussian", "Of the noise.", ERRORS, NOISES)
    dof: float | None = _field(None, "Degrees of freedom, above 2, of student.", ERRORS)
    misclassification: float | None = _field(
        None,
        "Of the probabilities; chance if not given, 1 drops c' = c.",
        PROBABILITIES,
    )
    confidence: float | None = _field(
        None, "Softmax outputs: margin of the true logit.", PROBABILITIES
    )
    spread: float = _field(
        0.0, "Softmax outputs: deviation of every logit.", PROBABILITIES
    )
    score_consistent: bool = _field(
        False, "Make sum_c' p delta = 0 for every sample.", PROBABILITIES
    )
    feature_dim: int = _field(0, "Dimension of shared features; 0 for none.", FEATURES)
    feature_strength: float = _field(
        3.0, "Length of their orthogonal class means.", FEATURES
    )
    feature_noise: float = _field(1.0, "Their variance within.", FEATURES)
    coupling: float = _field(0.0, "Of features and errors, in [-1, 1].", FEATURES)
    gains: tuple[float, ...] = _field(
        (1.0,), "One layer each, means times the gain: 0.5,1,2.", FEATURES
    )
    seed: int = _field(0, "Of every draw.")

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(Recipe)
        for x in dataclasses.fields(self):
            value, among = getattr(self, x.name), x.metadata["among"]
            if among:
                checks.expect_choice(x.name, value, among)
            plain = _plain(x.name, value, hints[x.name])
            object.__setattr__(self, x.name, plain)
        for name, least in (
            ("classes", 2),
            ("dim", 1),
            ("feature_dim", 0),
            ("seed", 0),
        ):
            checks.expect_size(name, getattr(self, name), least=least)
        for name in ("per_class", "noise"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) not in (1, self.classes):
                raise ValueError(
                    f"{name} must be one number or C = {self.classes}, got "
                    f"{len(value)}; give one for all classes or one for each"
                )
        for name in ("strength", "cross_strength", "global_strength"):
            expect_length(name, getattr(self, name))
        expect_length("feature_strength", self.feature_strength)
        expect_noise(self.law, self.dof, "law")
        if self.confidence is not None and self.misclassification is not None:
            raise ValueError(
                "probabilities must come from misclassification or confidence, got "
                f"{self.misclassification} and {self.confidence}; give one of the two"
            )

    def plant(self, *, dtype: str = "float64", xp: Namespace | None = None) -> World:
        """Draw the world of this recipe; `dtype`, `xp` and errors as of `planted`.

        Its layers are ``layer1``, ``layer2``, ...; its provenance holds the recipe.
        """
        rng, C = np.random.default_rng(self.seed), self.classes
        counts = _each(self.per_class, C)
        for n in counts:
            expect_count("per_class", n)
        size = sum(counts) * C * max(self.dim, self.feature_dim)
        if size > LONGEST:
            raise ValueError(
                "a recipe must have N C dim <= 2^40 numbers, got about "
                f"2^{size.bit_length() - 1}; lower one of the three"
            )
        held = self._held(counts)
        if held > memory.limit():
            raise ValueError(
                f"a recipe must fit into {memory.limit()} bytes of memory, got about "
                f"{held} with N = {sum(counts)}, C = {C}, dim = {self.dim}; lower one "
                "of the three, or give more memory"
            )
        population = self._population(counts, rng)
        if self.confidence is not None:
            p = geometry.softmax_outputs(
                np.repeat(np.arange(C), counts),
                C,
                confidence=self.confidence,
                spread=self.spread,
                rng=rng,
            )
        else:
            p = geometry.confusion(C, self.misclassification)
        return planted(
            deepened(population, self.gains),
            rng=rng,
            probabilities=p,
            dtype=dtype,
            xp=xp,
            provenance={"recipe": self.record(), "numpy": np.__version__},
        )

    def _held(self, counts: tuple[int, ...]) -> int:
        """Return about how many bytes planting takes: noise, errors and their sum."""
        wide = self.dim * self.classes * max(1, len(self.gains)) + self.feature_dim
        return 8 * (3 * sum(counts) * wide + 2 * self.dim**2)

    def record(self) -> dict[str, Any]:
        """Return the recipe as JSON holds it; `from_record` reads it."""
        plain = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    def _population(
        self, counts: tuple[int, ...], rng: np.random.Generator
    ) -> AnyPopulation:
        """Return the population of the layer of gain 1, its fixed means drawn."""
        errors = self._errors(counts, rng)
        if not self.feature_dim:
            if self.coupling:
                raise ValueError(
                    f"coupling must be 0 without features, got {self.coupling}; give "
                    "a feature_dim or drop it"
                )
            return errors
        C, a = self.classes, self.feature_dim
        features = Population(
            counts,
            a,
            np.ones((sum(counts), 1)),
            self.feature_noise,
            class_means=_fixed("orthogonal", C, a, self.feature_strength, rng),
        )
        return KroneckerPopulation(errors, features, self.coupling)

    def _errors(self, counts: tuple[int, ...], rng: np.random.Generator) -> Population:
        """Return the population of the errors, its fixed means drawn."""
        C, b = self.classes, self.dim
        overall = self.global_strength * _direction(b, rng)
        between, across, within = (
            covariances.from_words(spec, b, variance, rng)
            for spec, variance in (
                (self.class_covariance, self.strength**2 / b),
                (self.cross_covariance, self.cross_strength**2 / b),
                (self.covariance, 1.0),
            )
        )
        fixed, cross = None, None
        if self.means == "random" and self.feature_dim:
            fixed = _drawn((C, b), between, rng)
        elif self.means not in ("random", "none"):
            fixed = _fixed(self.means, C, b, self.strength, rng)
        if self.cross_strength and (self.fixed_cross or self.feature_dim):
            cross = _drawn((C, C, b), across, rng)
        random = self.means == "random" and fixed is None and self.strength
        noise = self.noise if isinstance(self.noise, tuple) else (self.noise,)
        return Population(
            counts,
            b,
            np.ones((sum(counts), C)),  # a world weighs samples by its probabilities
            tuple(s * within for s in noise) if len(noise) > 1 else noise[0] * within,
            global_mean=overall if self.global_strength else None,
            class_means=fixed,
            class_covariance=between if random else None,
            cross_means=cross,
            cross_covariance=across if self.cross_strength and cross is None else None,
            noise=self.law,  # type: ignore[arg-type]
            dof=self.dof,
            score_consistent=self.score_consistent,
        )


def from_record(record: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a file records.

    Parameters
    ----------
    record : mapping, as `Recipe.record` makes it

    Returns
    -------
    Recipe

    Raises
    ------
    ValueError, TypeError
        If a field is unknown, or its value not one that a recipe can have.

    Examples
    --------
    >>> recipe = Recipe(classes=2, per_class=(3, 4))
    >>> from_record(recipe.record()) == recipe
    True
    """
    checks.expect_type("record", record, Mapping, "give what Recipe.record makes")
    known = {f.name for f in dataclasses.fields(Recipe)}
    unknown = sorted(set(map(str, record)) - known)
    if unknown:
        raise ValueError(
            f"a recipe must have the fields of refspec.synthetic.Recipe, got {unknown} "
            "besides; it was made by another version"
        )
    try:
        return Recipe(**record)
    except TypeError as error:
        raise ValueError(
            f"a recipe must hold numbers and words where they belong, got {record}; "
            f"{error}"
        ) from error


def _plain(name: str, value: Any, hint: Any) -> Any:
    """Return a value as the plain type that its field has, or refuse it."""
    if isinstance(hint, types.UnionType):  # a number or none, a number or several
        kinds = typing.get_args(hint)
        if value is None and type(None) in kinds:
            return None
        several = [k for k in kinds if typing.get_origin(k) is tuple]
        many = bool(several) and isinstance(value, (tuple, list))
        return _plain(name, value, several[0] if many else kinds[0])
    if typing.get_origin(hint) is tuple:
        checks.expect_type(name, value, (tuple, list), "give numbers in a tuple")
        kind = typing.get_args(hint)[0]
        return tuple(_plain(f"{name}[{k}]", x, kind) for k, x in enumerate(value))
    if hint is int:
        return checks.expect_size(name, value)
    if hint is float:
        return checks.expect_number(name, value)
    checks.expect_type(name, value, hint, "see refspec.synthetic.Recipe")
    return value


def _each(value: int | tuple[int, ...], C: int) -> tuple[int, ...]:
    """Return one number per class."""
    counts = value if isinstance(value, tuple) else (value,)
    return counts * (C if len(counts) == 1 else 1)


def _fixed(
    kind: str, C: int, d: int, norm: float, rng: np.random.Generator
) -> np.ndarray:
    """Return fixed class means in a random frame."""
    if kind == "directions":
        return norm * np.stack([_direction(d, rng) for _ in range(C)])
    if kind == "simplex":
        gram = geometry.simplex_gram(C, norm)
    else:
        gram = geometry.orthogonal_gram(np.full(C, norm))
    return geometry.means_of_gram(gram, d, rng=rng)


def _direction(d: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a unit vector."""
    x = rng.standard_normal(d)
    return np.asarray(x / np.linalg.norm(x))


def _drawn(
    shape: tuple[int, ...], S: float | np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw means of a covariance once, to plant them."""
    half = covariances.root(S)
    return np.asarray(covariances.times_root(rng.standard_normal(shape), half))
