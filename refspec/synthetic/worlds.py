"""Planted worlds: a Snapshot drawn from a law whose population is known.

A world is a list of `refspec.synthetic.hierarchy.Plan`, one a layer, and probabilities;
`planted` draws it. What it should show at any size is computed by
`refspec.synthetic.quantities`, exact and given the probabilities. Draws are made on the
host in float64 and then converted, so that one seed gives one world in every namespace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refspec import backend, classes
from refspec.backend import Namespace
from refspec.classes import Layer, Snapshot
from refspec.populations import KroneckerPopulation, Population
from refspec.synthetic import geometry, hierarchy
from refspec.synthetic.groups import Group, independent_groups
from refspec.synthetic.hierarchy import Hierarchy, Plan

__all__ = [
    "World",
    "deepened",
    "orthogonal",
    "planted",
]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A drawn snapshot and the law it was drawn from.

    Parameters
    ----------
    snapshot : Snapshot
        What was drawn.
    plans : tuple of Plan
        The law of each layer.
    probabilities : array, shape (N, C)
        Those of the snapshot, on the host in float64.
    groups : tuple of Group or None
        Eigenvalues of the expected Fisher with multiplicities, where they are known in
        closed form.
    """

    snapshot: Snapshot
    plans: tuple[Plan, ...]
    probabilities: np.ndarray
    groups: tuple[Group, ...] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples of each class, length C."""
        return tuple(np.diff(self.snapshot.offsets).tolist())

    @property
    def weights(self) -> np.ndarray:
        """Weights w_{i,c,c'} = p_{i,c,c'} / N of the errors, shape (N, C)."""
        return self.probabilities / len(self.probabilities)

    def plan(self, name: str) -> Plan:
        """Return the plan of the layer called `name`."""
        self.snapshot.layer(name)  # its error, if there is none
        return next(x for x in self.plans if x.name == name)

    def population(
        self, name: str, of: str = "gradients"
    ) -> Population | KroneckerPopulation:
        """Return what predictions need of a layer, see `hierarchy.population`."""
        return hierarchy.population(self.plan(name), self.sizes, self.weights, of=of)


def planted(
    plans: Sequence[Plan],
    counts: Sequence[int],
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
    plans : sequence of Plan
        One per layer, of C classes; layers are independent.
    counts : sequence of int
        Samples of each class, all at least 1.
    rng : numpy.random.Generator
        Source of randomness.
    probabilities : array (C, C) or (N, C), optional
        A confusion matrix, or one row a sample (sorted by class); uniform if not given.
    dtype : {"float64", "float32"}
        Of the snapshot.
    xp : namespace, optional
        Of the snapshot; NumPy by default.
    provenance : mapping, optional
        Added to the snapshot's.

    Returns
    -------
    World

    Raises
    ------
    ValueError
        If the plans, counts and probabilities do not fit together, or a plan is
        score-consistent where the probability of the true class is 0.

    Notes
    -----
    Theory: theory/worlds.md#W5, #W8. The errors of a score-consistent plan satisfy
    :math:`\sum_{c'} p_{i,c,c'} \delta_{i,c,c'} = 0` within
    :math:`\gamma_{C+4} \sum_{c'} p |\delta|` entrywise.

    Examples
    --------
    >>> plan = Plan("fc", Hierarchy(2, 3), Hierarchy(2, 4))
    >>> world = planted([plan], [5, 7], rng=np.random.default_rng(0))
    >>> world.snapshot.offsets
    (0, 5, 12)
    """
    plans, labels, p = _expect_world(plans, counts, probabilities)
    if dtype not in ("float32", "float64"):
        raise ValueError(
            f"dtype must be 'float64' or 'float32', got {dtype!r}; choose one of these"
        )
    layers = [_draw(plan, labels, p, rng, dtype, xp) for plan in plans]
    made = classes.snapshot(
        layers,
        labels,
        probabilities=_convert(p, dtype, xp),
        provenance={"framework": "refspec.synthetic"} | dict(provenance or {}),
    )
    return World(made, plans, p)


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

    Parameters
    ----------
    C, b, a, per_class : int
        Classes, dimensions of errors and features (at least C), samples a class.
    rng : numpy.random.Generator
        Source of randomness; also turns the means to random frames.
    error_norm, feature_norm : float
        Length of every class mean.
    error_noise, feature_noise : float
        Variances of isotropic noise.
    coupling : float
        As in `refspec.synthetic.hierarchy.Plan`.
    dtype, xp
        As in `planted`.

    Returns
    -------
    World
        With its `groups`.

    Raises
    ------
    ValueError
        If a dimension is below C, or as in `planted`.

    Notes
    -----
    Theory: theory/worlds.md#W10.

    Examples
    --------
    >>> world = orthogonal(2, 2, 3, 5, rng=np.random.default_rng(0))
    >>> [g.name for g in world.groups]
    ['matched', 'mismatched', 'error mean', 'feature mean', 'noise']
    """
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

    def law(d: int, norm: float, noise: float) -> Hierarchy:
        means = geometry.means(norm**2 * np.eye(C), d, rng=rng)
        return Hierarchy(C, d, class_means=means, within=noise)

    errors = law(b, error_norm, error_noise)
    features = law(a, feature_norm, feature_noise)
    plan = Plan("orthogonal", errors, features, coupling=coupling)
    world = planted([plan], [per_class] * C, rng=rng, dtype=dtype, xp=xp)
    return replace(world, groups=groups)


def deepened(plan: Plan, gains: Sequence[float]) -> tuple[Plan, ...]:
    """Repeat a plan over layers whose signal changes with depth.

    Parameters
    ----------
    plan : Plan
        Of the layer of gain 1.
    gains : sequence of float
        Factor of all class and cross-class means of each layer, planted or random,
        first layer first; global means and noise stay.

    Returns
    -------
    tuple of Plan
        Named after the plan, numbered from 1.

    Raises
    ------
    ValueError
        If there is no gain or one is not finite.

    Notes
    -----
    Theory: theory/worlds.md#W5.

    Examples
    --------
    >>> plan = Plan("fc", Hierarchy(2, 1, class_means=np.ones((2, 1))))
    >>> [x.errors.class_means[0, 0].item() for x in deepened(plan, [0.5, 1, 2])]
    [0.5, 1.0, 2.0]
    """
    if not len(gains) or not np.all(np.isfinite(gains)):
        raise ValueError(
            f"gains must be finite, one a layer, got {list(gains)}; give at least one"
        )

    def scaled(law: Hierarchy, gain: float) -> Hierarchy:
        def times(x: Any, factor: float) -> Any:
            return None if x is None else factor * np.asarray(x)

        return replace(
            law,
            class_means=times(law.class_means, gain),
            cross_means=times(law.cross_means, gain),
            class_covariance=times(law.class_covariance, gain**2),
            cross_covariance=times(law.cross_covariance, gain**2),
        )

    return tuple(
        replace(
            plan,
            name=f"{plan.name}{depth}",
            errors=scaled(plan.errors, gain),
            features=None if plan.features is None else scaled(plan.features, gain),
        )
        for depth, gain in enumerate(gains, 1)
    )


def _expect_world(
    plans: Sequence[Plan], counts: Sequence[int], probabilities: np.ndarray | None
) -> tuple[tuple[Plan, ...], np.ndarray, np.ndarray]:
    """Check that plans, counts and probabilities fit; return labels and (N, C)."""
    plans, C = tuple(plans), len(counts)
    if not plans or any(x.errors.classes != C for x in plans):
        got = [x.errors.classes for x in plans]
        raise ValueError(
            f"plans must be at least one, of C = {C} classes to match counts, got "
            f"classes {got}; give one count per class"
        )
    if min(counts) < 1:
        raise ValueError(
            f"every class must have at least 1 sample, got counts {list(counts)}; "
            "drop the empty class or add samples"
        )
    labels = np.repeat(np.arange(C), counts)
    if probabilities is None:
        probabilities = geometry.confusion(C)
    p = geometry.per_sample(probabilities, labels)
    lowest = float(p[np.arange(len(p)), labels].min())
    if lowest == 0 and any(x.score_consistent for x in plans):
        raise ValueError(
            "a score-consistent plan needs p_{i,c,c} > 0 for every sample, got 0; "
            "raise the probability of the true class"
        )
    return plans, labels, p


def _draw(
    plan: Plan,
    labels: np.ndarray,
    p: np.ndarray,
    rng: np.random.Generator,
    dtype: str,
    xp: Namespace | None,
) -> Layer:
    """Draw one layer: scales, features, errors, and the diagonal if consistent."""
    N, C = p.shape
    sign = 2.0 * rng.integers(0, 2, N) - 1
    size = np.sqrt(abs(plan.coupling))
    scales = [np.sqrt(1 + size * f * sign) for f in (1, np.sign(plan.coupling))]
    law = hierarchy.feature_law(plan)
    features = hierarchy.draw(law, labels, 1, rng=rng, scales=scales[0])
    errors = hierarchy.draw(plan.errors, labels, C, rng=rng, scales=scales[1])
    if plan.score_consistent:
        every = np.arange(N)
        errors[every, labels] = 0
        score = np.sum(p[:, :, None] * errors, axis=1)
        errors[every, labels] = -score / p[every, labels][:, None]
    h, delta = (_convert(x, dtype, xp) for x in (features, errors[:, :, None, :]))
    return Layer(plan.name, h, delta)


def _convert(x: np.ndarray, dtype: str, xp: Namespace | None) -> backend.Array:
    """Move a float64 host array to the namespace and dtype of a world."""
    host = x.astype(dtype)
    return host if xp is None else xp.asarray(host)
