"""One layer at a time: its Fisher, KFAC, CFAC and what rounding can do to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from refspec import backend, curvature, rounding
from refspec.classes import Layer, Snapshot
from refspec.curvature import SecondMoment
from refspec.kronecker import (
    ClassFactors,
    Kronecker,
    KroneckerSum,
    cfac,
    class_factors,
    kfac,
)
from refspec.theorems.quantities import norm
from refspec.theorems.study import Study

#: Parameters of a layer whose matrices are formed and diagonalised.
DENSE = 700
_SIDE = 1024  # of a factor
_NUMBERS = 2**24  # in the factors of all classes


@dataclass(frozen=True, slots=True, eq=False)
class Factored:
    """A layer on the host with its approximations, in the setting ``expand``."""

    layer: Layer
    fisher: SecondMoment
    kfac: Kronecker
    cfac: KroneckerSum
    factors: ClassFactors
    slack: float  # bounds the rounding of each of the three, in Frobenius norm
    scale: float  # bounds their Frobenius norms

    @property
    def b(self) -> int:
        """Outputs."""
        return int(self.layer.errors.shape[3])

    @property
    def a(self) -> int:
        """Inputs, the bias included."""
        return int(self.layer.features.shape[2])


def on_host(study: Study) -> Snapshot:
    """Return the snapshot with NumPy arrays, without its network."""
    s = study.snapshot
    return Snapshot(
        tuple(
            Layer(x.name, backend.to_host(x.features), backend.to_host(x.errors))
            for x in s.layers
        ),
        backend.to_host(s.probabilities),
        s.labels,
        backend.to_host(s.sample_weights),
        s.provenance,
    )


def factored(study: Study) -> list[Factored]:
    """Return every layer that is not too wide with its approximations."""
    s = study.once(on_host)
    by_class = s.labels, s.probabilities, s.sample_weights
    C = s.probabilities.shape[1]
    return [
        Factored(
            x,
            curvature.fisher(s, [x.name]),
            kfac(s, x.name),
            cfac(s, x.name),
            class_factors(x, *by_class),
            *_slack(s, x, study.u),
        )
        for x in s.layers
        if _is_narrow(x, C)
    ]


def _is_narrow(layer: Layer, C: int) -> bool:
    """Whether factors of every class fit in memory, and can be diagonalised."""
    a, b = layer.features.shape[2], layer.errors.shape[3]
    return bool(max(a, b) <= _SIDE and C * (a * a + b * b) <= _NUMBERS)


def narrow(study: Study) -> str:
    """Need a layer whose factors can be diagonalised."""
    s = study.snapshot
    some = any(_is_narrow(x, s.probabilities.shape[1]) for x in s.layers)
    return "" if some else f"needs a layer with at most {_SIDE} inputs and outputs"


def _slack(s: Snapshot, layer: Layer, u: float) -> tuple[float, float]:
    """Bound rounding and size of the Fisher, KFAC and CFAC, in Frobenius norm.

    Theory: theory/kronecker.md#K4.
    """
    # Every entry of a factor sums N C T or N T terms, one of the Fisher N C products of
    # two sums over T, each term a product of few numbers. What underflows is below the
    # smallest normal number times the other factor; what a subnormal weight loses is
    # below the smallest subnormal number times both.
    N, C, T, _ = layer.errors.shape
    w = s.sample_weights[:, None] * s.probabilities
    errors = np.sum(layer.errors**2, axis=(2, 3))
    features = np.sum(layer.features**2, axis=(1, 2))
    pi = np.bincount(s.labels, s.sample_weights, C)
    left = np.bincount(s.labels, np.sum(w * errors, axis=1), C)
    right = np.bincount(s.labels, s.sample_weights * features, C)
    within = np.sum(left * (right / np.where(pi > 0, pi, 1)))
    fisher = np.sum(w * errors * features[:, None])
    size = float((np.sum(left) * np.sum(right) + within) / T + fisher)
    kind = np.finfo(layer.errors.dtype)
    one, other = float(np.sum(errors)), float(np.sum(features))
    lost = float(kind.tiny) * (1 + one + other)
    lost += float(kind.smallest_subnormal) * one * other
    lost *= layer.parameters
    return rounding.gamma(N * (C + 1) * T + 4 * T + 64, u) * size + lost, size + lost


def layer_probes(study: Study, x: Factored) -> np.ndarray:
    """Return three random vectors of a layer's weights, as columns."""
    z = study.probes(x.layer.parameters, 3)
    return z.astype(x.layer.features.dtype)


def reach(x: Factored, z: np.ndarray, u: float) -> float:
    """Bound what the rounding of operators and products does to their action on z."""
    return norm(z) * (4 * x.slack + rounding.gamma(4 * (x.a + x.b) + 64, u) * x.scale)


def dense_layers(study: Study) -> Iterator[Factored]:
    """Yield the layers that are small enough for dense matrices."""
    for x in study.once(factored):
        if x.layer.parameters <= DENSE:
            yield x


def dense_layers_at_one_position(study: Study) -> Iterator[Factored]:
    """Yield those of them whose weights are not shared over positions."""
    for x in dense_layers(study):
        if x.layer.features.shape[1] == 1:
            yield x


def smaller_than(limit: int) -> Callable[[Study], str]:
    """Return the hypothesis that some layer has at most `limit` parameters."""

    def unmet(study: Study) -> str:
        few = min(x.parameters for x in study.snapshot.layers)
        return "" if few <= limit else f"needs a layer of {limit} parameters at most"

    return unmet


def without_positions(study: Study) -> str:
    """Need a layer whose weights are not shared over positions."""
    C = study.snapshot.probabilities.shape[1]
    few = [x for x in study.snapshot.layers if _is_narrow(x, C)]
    dense = any(x.features.shape[1] == 1 for x in few)
    return "" if dense else "needs a small layer without positions, T = 1"


def at_one_position(study: Study) -> str:
    """Need a layer at one position that is small enough for dense matrices."""
    layers = [x for x in study.snapshot.layers if x.features.shape[1] == 1]
    if any(x.parameters <= DENSE for x in layers):
        return ""
    return f"needs a layer at one position, of {DENSE} parameters at most"
