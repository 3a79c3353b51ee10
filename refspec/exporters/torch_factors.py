"""Rows of a PyTorch classifier as factors, wherever a layer is understood.

Of most networks nearly all parameters are the weights and biases of linear maps. Their
rows are errors (x) features, which an export gathers and checks; what cannot be
exported is left to differentiation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from refspec import backend, memory
from refspec.backend import Array
from refspec.classes import log_softmax
from refspec.differentiated import fits
from refspec.exporters import checking, delivery, feeding
from refspec.exporters.checking import LayerError
from refspec.exporters.gathering import Samples
from refspec.exporters.torch_layers import choose, linear
from refspec.exporters.torch_network import Network
from refspec.exporters.torch_rows import (
    Exporter,
    converted,
    evaluating,
    expect_samplewise,
    watching,
)
from refspec.factors import Factor, weighted

_COPIES = 3  # of features and errors: gathered, weighed, and on the way there


def factors(
    network: Network, batches: Sequence[Any], samples: Samples, like: Array
) -> dict[str, Factor]:
    """Return the rows of each parameter that is one of a linear map, by its name.

    None of a layer that an export would refuse, and none at all where they, or the
    explicit rows of the others, do not fit into memory.
    """
    chosen, (N, C) = network.chosen, samples.logits.shape
    own = {name: _parameters(name, x) for name, x in linear(network.model).items()}
    names = [name for name, roles in own.items() if any(x in chosen for x in roles)]

    def rest() -> int:
        seen = {x for name in names for x in own[name]}
        return sum(x.numel() for name, x in chosen.items() if name not in seen)

    while names and fits((N, C, rest())):
        try:
            found = _gathered(network.model, batches, names, samples, network.dtype)
        except LayerError as error:
            names.remove(error.layer)
        except ValueError:  # of the model as a whole
            break
        else:
            return _weighed(found, names, network, samples, like)
    return {}


def _parameters(name: str, module: nn.Module) -> list[str]:
    """Return the names of a module's parameters: of its weight, of its bias."""
    roles = [x for x in ("weight", "bias") if getattr(module, x, None) is not None]
    return [f"{name}.{x}" if name else x for x in roles]


def _gathered(
    model: nn.Module,
    batches: Sequence[Any],
    names: Sequence[str],
    samples: Samples,
    dtype: torch.dtype,
) -> dict[str, np.ndarray]:
    """Return features and errors of some modules, sorted by class."""
    expect_samplewise(model)
    choose(model, names, (), halves=True)
    model = converted(model, dtype)
    chosen = {name: model.get_submodule(name) for name in names}
    first, pairs, total = feeding.open_loader(batches)
    checked = checking.checked_steps(total, np.random.default_rng(0))
    exporter = Exporter(model, chosen, replace(samples.how, read=0), checked)
    with evaluating(model, chosen), watching(chosen, exporter.seen):
        N, C = samples.logits.shape
        sizes = exporter.sizes(first[0]).values()
        held = sum(8 * N * T * (a + C * b) for T, a, b in sizes)
        if _COPIES * held > memory.limit():
            raise ValueError(f"{held} bytes of features and errors do not fit")
        parts = [x for x in exporter.rows(pairs) if len(x["labels"])]
    return delivery.by_class(parts, {})


def _weighed(
    found: dict[str, np.ndarray],
    names: Sequence[str],
    network: Network,
    samples: Samples,
    like: Array,
) -> dict[str, Factor]:
    """Return the rows of weights, and those of biases, whose feature is the last."""
    p = np.exp(log_softmax(samples.logits))
    made: dict[str, Factor] = {}
    for k, name in enumerate(names):
        errors, h = (found.pop(f"layers/{k}/{x}") for x in ("errors", "features"))
        layer = weighted(errors, h, (samples.weights, p))
        roots, h = (
            backend.beside(np.asarray(x), like) for x in (layer.roots, layer.features)
        )
        weight, *bias = _parameters(name, network.model.get_submodule(name))
        if weight in network.chosen:
            made[weight] = Factor(roots, h[..., : h.shape[2] - len(bias)])
        if bias and bias[0] in network.chosen:
            one = h[:, None, :, -1:]
            total = backend.namespace(roots).sum(roots * one, axis=2, keepdims=True)
            made[bias[0]] = Factor(total, None)
    return made
