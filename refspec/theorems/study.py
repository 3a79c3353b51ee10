"""A snapshot under study: what several checks need, computed once.

A check of a theorem about one layer goes over all of them; quantities that many checks
share (the Fisher information, its eigenbasis, its attribution) are computed when first
asked for and kept. A page's own quantities are kept by `Study.once`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from refspec import backend, checks, curvature, rounding
from refspec.attribution import Attribution, Eigenbasis, attribute, eigenbasis
from refspec.classes import Layer, Snapshot
from refspec.curvature import SecondMoment
from refspec.synthetic.worlds import World

_T = TypeVar("_T")


class AllNeededError(ValueError):
    """A check needs every eigenvalue of a study that is of the largest alone."""


class Study:
    """Lazily computed quantities of one snapshot.

    Parameters
    ----------
    snapshot : Snapshot
        N samples, C classes.
    world : World, optional
        The population that it was drawn from, if it was planted.
    seed : int
        For the probes of randomised checks, at least 0.
    top : int, optional
        How many of the Fisher's largest eigenvalues to compute, from products alone;
        all by default. What needs every one then raises `AllNeededError`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its type, the seed is negative, or `top` is not
        positive.

    Examples
    --------
    >>> import refspec
    >>> study = Study(refspec.datasets.digits_mlp())
    >>> study.fisher is study.fisher
    True
    """

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        world: World | None = None,
        seed: int = 0,
        top: int | None = None,
    ) -> None:
        checks.expect_type("snapshot", snapshot, Snapshot, "use refspec.snapshot")
        if world is not None:
            checks.expect_type("world", world, World, "make it by refspec.synthetic")
        self.snapshot = snapshot
        self.world = world
        self.seed = checks.expect_size("seed", seed)
        self.top = expect_top(top)
        self._kept: dict[Callable[[Study], Any], Any] = {}

    @cached_property
    def scaled(self) -> Study:
        """The same study, unless its products would overflow or underflow.

        Then features and errors are multiplied by powers of two, which is exact. All
        layers' gradients get the same power: what one layer is beside another stays.
        """
        return _scaled(self)

    def once(self, compute: Callable[[Study], _T]) -> _T:
        """Return ``compute(self)``, computed the first time it is asked for."""
        if compute not in self._kept:
            self._kept[compute] = compute(self)
        value: _T = self._kept[compute]
        return value

    def know(self, compute: Callable[[Study], _T], value: _T) -> None:
        """Keep a value that `once` would have computed."""
        self._kept[compute] = value

    def probes(self, *shape: int) -> np.ndarray:
        """Return standard normal numbers, the same for one seed and shape."""
        return np.random.default_rng([self.seed, *shape]).standard_normal(shape)

    @property
    def u(self) -> float:
        """Unit roundoff of the arithmetic that a check itself uses."""
        return rounding.unit_roundoff(self.snapshot.probabilities)

    @property
    def stored(self) -> float:
        """Unit roundoff of the narrowest numbers that the snapshot came from."""
        dtype = str(self.snapshot.provenance.get("dtype", ""))
        return max(self.u, 2.0**-24) if "32" in dtype else self.u

    @cached_property
    def tiny(self) -> float:
        """What underflow can take from a sum of squares over all rows and columns.

        A product of two errors that underflows is still to be multiplied by two
        features, and the other way round.
        """
        p, (n, P) = self.snapshot.probabilities, self.fisher.shape
        arrays = [y for x in self.snapshot.layers for y in (x.features, x.errors)]
        largest = max(float(np.max(np.abs(backend.to_host(y)))) for y in arrays)
        smallest = float(backend.namespace(p).finfo(p.dtype).smallest_normal)
        largest = max(1.0, largest)
        return smallest * 64 * (n + 1) * (P + 1) * largest * largest

    @cached_property
    def fisher(self) -> SecondMoment:
        """The Fisher information of all layers."""
        return curvature.fisher(self.snapshot)

    @cached_property
    def moments(self) -> dict[str, SecondMoment]:
        """Second moments: features, errors and gradients by layer, all gradients."""
        found = {}
        for x in self.snapshot.layers:
            found[f"features of {x.name}"] = curvature.features(self.snapshot, x.name)
            found[f"errors of {x.name}"] = curvature.errors(self.snapshot, x.name)
            if len(self.snapshot.layers) > 1:
                own = curvature.fisher(self.snapshot, [x.name])
                found[f"gradients of {x.name}"] = own
        return {**found, "gradients": self.fisher}

    @cached_property
    def images(self) -> dict[str, np.ndarray]:
        """XV of every moment, (N, K, 4), scaled to norm 1: X in 4 random directions.

        An identity between projections of the rows that holds for XV, V drawn at
        random, holds for X with probability one.
        """
        found = {}
        for name, moment in self.moments.items():
            V = backend.from_host(self.probes(moment.shape[1], 4), moment.weights)
            Y = backend.to_host(moment.dot(V))
            norm = np.linalg.norm(Y)
            found[name] = Y / norm if norm > 0 else Y
        return found

    @cached_property
    def basis(self) -> Eigenbasis:
        """The Fisher's eigenbasis, with the levels of the means in it."""
        self.expect_all()
        return eigenbasis(self.fisher)

    @cached_property
    def attribution(self) -> Attribution:
        """The Fisher's attribution."""
        if self.top is None:
            return attribute(self.basis)
        return attribute(self.fisher, top=min(self.top, *self.fisher.shape))

    def expect_all(self) -> None:
        """Refuse a study of the largest eigenvalues."""
        if self.top is not None:
            raise AllNeededError(
                f"it must have every eigenvalue, got the {self.top} largest; leave top "
                "out"
            )


class MomentStudy(Study):
    """What is known of a network by its Fisher information alone.

    moment: such as `refspec.torch.moment` gives; there is no snapshot.
    """

    def __init__(
        self, moment: SecondMoment, *, seed: int = 0, top: int | None = None
    ) -> None:
        self.seed = checks.expect_size("seed", seed)
        self.top = expect_top(top)
        self.world = None
        self.fisher = moment
        self.moments = {"gradients": moment}
        self.scaled = self
        self._kept = {}

    @property
    def u(self) -> float:
        """Unit roundoff of the moment's numbers."""
        return rounding.unit_roundoff(self.fisher.weights)

    @property
    def tiny(self) -> float:
        """What underflow can take from a sum of squares over all rows and columns."""
        n, P = self.fisher.shape
        w = self.fisher.weights
        smallest = float(backend.namespace(w).finfo(w.dtype).smallest_normal)
        return smallest * 64 * (n + 1) * (P + 1)


def expect_top(top: int | None) -> int | None:
    """Refuse a number of eigenvalues below one; None are all of them."""
    return None if top is None else checks.expect_size("top", top, least=1)


def _scaled(study: Study) -> Study:
    """Bring the largest features and gradients near 1 if some are far from it."""
    s = study.snapshot
    kind = np.finfo(backend.to_host(s.probabilities).dtype)
    # checks form fourth powers of gradients: eighth powers of 2^limit stay in range
    limit = kind.maxexp // 16
    h = [_exponent(x.features) for x in s.layers]
    d = [_exponent(x.errors) for x in s.layers]
    known = [i for i in (*h, *d) if i is not None]
    if all(-2 * limit <= i <= limit for i in known):
        return study
    sizes = [
        None if i is None or j is None else i + j for i, j in zip(h, d, strict=True)
    ]
    largest = max((x for x in sizes if x is not None), default=0)
    layers = []
    for x, i, j, size in zip(s.layers, h, d, sizes, strict=True):
        # a layer that is nothing beside the others keeps errors to be checked by itself
        k = 0 if size is None else max(size - largest, -4 * limit)
        features, errors = _times(x.features, -(i or 0)), _times(x.errors, k - (j or 0))
        layers.append(Layer(x.name, features, errors))
    made = Snapshot(
        tuple(layers), s.probabilities, s.labels, s.sample_weights, s.provenance
    )
    return Study(made, world=study.world, seed=study.seed, top=study.top)


def _exponent(x: backend.Array) -> int | None:
    """Return the least k with max |x| < 2^k, None for zeros."""
    largest = np.max(np.abs(backend.to_host(x)), initial=0.0)
    return int(np.frexp(largest)[1]) if largest > 0 else None


def _times(x: backend.Array, k: int) -> backend.Array:
    """Return x times 2^k, in two steps: 2^k alone may overflow."""
    return x * 2.0 ** (k // 2) * 2.0 ** (k - k // 2)
