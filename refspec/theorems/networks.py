"""The network of an export, as the checks of theory/hessian.md need it.

The matrices are those of the last layers that are small enough: a principal submatrix
of the Hessian is the Hessian in these parameters, so every statement applies to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec import backend, models
from refspec.classes import Layer, Snapshot
from refspec.hessian.bounds import norm_of, product_errors
from refspec.models import Network, evaluation
from refspec.models.activations import bends
from refspec.models.network import in_format
from refspec.models.operations import LAYERS, SPACE
from refspec.theorems.registry import of_a_network
from refspec.theorems.study import Study

#: Parameters of an eigenproblem with vectors.
EIGENPROBLEM = 1024
_PARAMETERS = 4096  # of a dense Hessian
_WORK = 2e10  # multiplications: some seconds


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """A network, its samples and the last layers whose Hessian is formed.

    In float64, whatever the file's precision: the same numbers, and less rounding.
    """

    network: Network
    X: backend.Array
    samples: Snapshot
    layers: tuple[str, ...]
    radius: float

    @property
    def given(self) -> dict[str, Any]:
        """What the Hessian's functions are told besides the network and inputs."""
        return {"layers": self.layers, "sample_weights": self.samples.sample_weights}


def problem(study: Study) -> Problem:
    """Read the network of an export."""
    found, X = in_format(*models.of_snapshot(study.snapshot))
    shapes = models.layer_shapes(found)
    s = _wide(study.snapshot)
    layers: list[str] = []
    for name in reversed(shapes):
        chosen = [name, *layers]
        if _work(s, chosen, _is_dense(found)) > _WORK:
            break
        if sum(math.prod(shapes[x]) for x in chosen) > _PARAMETERS:
            break
        layers = chosen
    errors_of = product_errors(
        found, X, s.labels, sample_weights=s.sample_weights, subtracted=False
    )
    radius = math.inf if errors_of is None else norm_of(errors_of, found, X)
    return Problem(found, X, s, tuple(layers), radius)


def _wide(s: Snapshot) -> Snapshot:
    """Return a snapshot in float64, without its network."""
    xp = backend.namespace(s.probabilities)

    def wide(x: backend.Array) -> backend.Array:
        return xp.astype(x, xp.float64)

    layers = [Layer(x.name, wide(x.features), wide(x.errors)) for x in s.layers]
    p, w = wide(s.probabilities), wide(s.sample_weights)
    # float32 sums to 1 within its own rounding, which their bounds hold
    p, w = p / xp.sum(p, axis=1, keepdims=True), w / xp.sum(w)
    return Snapshot(tuple(layers), p, s.labels, w)


def _work(s: Snapshot, names: list[str], dense: bool) -> float:
    """Estimate the multiplications: N P^2, or P products with a network."""
    N, layers = s.probabilities.shape[0], [s.layer(x) for x in names]
    P = sum(x.parameters for x in layers)
    each = sum(x.features.shape[1] * x.parameters for x in s.layers)
    return float(N * P * P) if dense else 4.0 * N * P * each


def tail(study: Study) -> tuple[Network, backend.Array]:
    """Return the last layer as a network of its own, and what enters it."""
    network, X = in_format(*models.of_snapshot(study.snapshot))
    steps, _ = evaluation.forward(network, X)
    last = max(i for i, x in enumerate(steps) if x.kind in LAYERS)
    operations = network.operations[last:]
    keys = {operations[0]["weight"], operations[0].get("bias")} - {None}
    parameters = {key: network.parameters[key] for key in keys}
    return Network(operations, parameters), steps[last].features[:, 0, : _inputs(steps)]


def _inputs(steps: list[models.operations.Step]) -> int:
    """Return how many inputs the last layer has, its bias aside."""
    last = [x for x in steps if x.kind in LAYERS][-1]
    return int(last.matrix.shape[1])


def _is_dense(network: Network) -> bool:
    """Whether there are no convolutions, no pooling and no sums."""
    plain = all("of" not in x for x in network.operations)
    return plain and not {x["op"] for x in network.operations} & {*SPACE}


def whole_network(study: Study) -> str:
    """Need every layer of the network in the export, in one precision."""
    if missing := of_a_network(study):
        return missing
    network, _ = models.of_snapshot(study.snapshot)
    names = {x.name for x in study.snapshot.layers}
    like = next(iter(network.parameters.values()))
    if set(models.layer_shapes(network)) != names:
        return "needs every layer of the network in the export"
    if like.dtype != study.snapshot.probabilities.dtype:
        return "needs network and samples in one dtype"
    return ""


def small_hessian(study: Study) -> str:
    """Need a Hessian of affordable size, away from the kinks."""
    if missing := whole_network(study):
        return missing
    p = study.once(problem)
    if not p.layers:
        return f"needs a last layer of at most {_PARAMETERS} parameters"
    if math.isinf(p.radius):
        return "needs relu inputs whose sign is certain (H5, H7)"
    if not _squarable(study):
        return "needs second derivatives whose squares are finite numbers"
    return ""


def _squarable(study: Study) -> bool:
    """Whether norms of a Hessian, of fourth powers of gradients, do not overflow."""
    chosen = [study.snapshot.layer(x) for x in study.once(problem).layers]
    most = float(np.finfo(np.float64).max ** 0.25) / sum(x.parameters for x in chosen)
    sizes = [[_largest(y) for y in (x.features, x.errors)] for x in chosen]
    return all(h < most / d for h, d in sizes if d > 0)


def _largest(x: backend.Array) -> float:
    """Return the largest entry in size."""
    return float(np.max(np.abs(backend.to_host(x)), initial=0.0))


def small_and_dense(study: Study) -> str:
    """Need layers and activations only."""
    if missing := small_hessian(study):
        return missing
    dense = _is_dense(study.once(problem).network)
    return "" if dense else "needs a network without convolutions"


def piecewise_linear(study: Study) -> str:
    """Need relus or no activations."""
    if missing := small_hessian(study):
        return missing
    operations = study.once(problem).network.operations
    smooth = sorted({x["op"] for x in operations if bends(x)})
    return f"needs piecewise linear activations, not {smooth[0]}" if smooth else ""


def linear_logits(study: Study) -> str:
    """Need logits that are a linear layer's outputs."""
    if missing := whole_network(study):
        return missing
    network, _ = models.of_snapshot(study.snapshot)
    return "" if network.operations[-1]["op"] == "linear" else "needs linear logits"


def dense_last_layer(study: Study) -> str:
    """Need a dense layer before the logits."""
    if missing := whole_network(study):
        return missing
    network, _ = models.of_snapshot(study.snapshot)
    last = [x for x in network.operations if x["op"] in LAYERS][-1]
    if last["op"] != "linear":
        return "needs a dense last layer"
    few = study.snapshot.layer(last["name"]).parameters <= EIGENPROBLEM
    return "" if few else f"needs a last layer of {EIGENPROBLEM} parameters at most"


def few_parameters(study: Study) -> str:
    """Need an eigenproblem of affordable size."""
    if missing := small_hessian(study):
        return missing
    last = study.snapshot.layer(study.once(problem).layers[-1])
    small = last.parameters <= EIGENPROBLEM
    return "" if small else f"needs a last layer of {EIGENPROBLEM} parameters at most"
