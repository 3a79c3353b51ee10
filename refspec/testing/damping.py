"""Damping: a multiple of the identity of some parameters, read off products with it.

What is left of products once the matrix is taken off, D Z with D diagonal, gives the
amount of each group of parameters; who is damped, and whether alike, gives the name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from refspec.testing.inputs import frobenius
from refspec.testing.questions import Question, parameter_groups

#: How damping is said that leaves the biases out.
OF_WEIGHTS = " of the weights, not of the biases"
_SHOWN = 4  # groups that a sentence names


@dataclass(frozen=True, slots=True, eq=False)
class Damping:
    """The amount of each parameter, (P,), how it is said and what makes it.

    `of` says of which parameters, or nothing; `name` is that of a mistake.
    """

    name: str
    amount: str
    of: str
    each: np.ndarray


def dampings(
    q: Question, left: np.ndarray, Z: np.ndarray, radius: float
) -> Iterator[Damping]:
    """Yield what D may be if `left`, (P, m), is D Z to within the radius.

    First one amount for all that are damped, then one for each group of parameters.
    """
    groups, weights = parameter_groups(q), weights_alone(q)
    there = [x for x in groups if frobenius(left[x[2]]) > radius / len(groups)]
    if not there:
        return
    on = np.any([mask for _, _, mask in there], axis=0)
    found = amount(left[on], Z[on])
    words = [f"{layer}'s {part}" if part else layer for layer, part, _ in there]
    some = ", ".join(words[:_SHOWN]) + ", ..." * (len(words) > _SHOWN)
    if on.all():
        name, of = "damping", ""
    elif np.array_equal(on, weights):
        name, of = "weight decay", OF_WEIGHTS
    else:
        name, of = "damping in part", f" of {some} alone"
    yield Damping(name, f"{found:.6g}", of, found * on)
    if len(there) > 1:
        amounts = [amount(left[mask], Z[mask]) for _, _, mask in there]
        said = ", ".join(f"{x:.4g}" for x in amounts[:_SHOWN])
        said += ", ..." * (len(words) > _SHOWN)
        each = sum(x * mask for x, (_, _, mask) in zip(amounts, there, strict=True))
        yield Damping("damping by parameter", said, f" of {some}", np.asarray(each))


def weights_alone(q: Question) -> np.ndarray:
    """Return which parameters, (P,), are no biases, by name if they are by name."""

    def is_bias(layer: str, part: str) -> bool:
        return part == "bias" or (not part and "bias" in layer.rpartition(".")[2])

    kept = [mask for *who, mask in parameter_groups(q) if not is_bias(*who)]
    return np.asarray(np.any(np.reshape(kept, (-1, q.parameters)), axis=0))


def amount(left: np.ndarray, Z: np.ndarray) -> float:
    """Return d that minimises ||left - d Z||."""
    size = float(np.sum(Z * Z))
    return float(np.sum(left * Z)) / size if size > 0 else 0.0
