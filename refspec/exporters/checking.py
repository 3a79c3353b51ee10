"""An exporter checks itself: its rows must be the framework's own gradient.

For random weights r_n of samples and a random label c', sum_n r_n errors_n (x)
features_n is the gradient of sum_n r_n loss_(n,c') in a layer's weights, and logits of
a sample do not move when other samples do. One comparison shows many faults: a layer
that does something else, weights used twice, samples that are mixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from refspec import rounding

_SEEN = 4  # samples of a batch that are checked


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Random r_n and a label c': of sum_n r_n loss_(n,c') the gradient is compared."""

    weights: np.ndarray  # r, (n,)
    label: int  # c'


class LayerError(ValueError):
    """A layer whose rows are no factors, by name."""

    def __init__(self, message: str, layer: str) -> None:
        super().__init__(message)
        self.layer = layer


def checked_steps(total: int | None, rng: np.random.Generator) -> set[int]:
    """Return the batches to check: the first, and a later one drawn at random.

    Of a stream without a length it is the second.
    """
    return {0, int(rng.integers(1, total)) if (total or 0) > 1 else 1}


def probe(n: int, C: int, rng: np.random.Generator) -> Probe:
    """Draw r and c' for a batch of n samples: `_SEEN` of them weigh, the others 0."""
    # Powers of two scale every rounding with them: a pass of r times a seed gives r
    # times its errors, to the bit, where samples are not mixed. And the fewer terms a
    # sum has, the fewer roundings, the smaller the faults that it shows.
    r = np.zeros(n)
    seen = rng.choice(n, min(n, _SEEN), replace=False)
    # no two are alike: rows that belong to another sample are seen
    sizes = rng.permutation(2.0 ** np.arange(_SEEN))[: len(seen)]
    r[seen] = rng.choice([-1.0, 1.0], len(seen)) * sizes
    return Probe(r, int(rng.integers(C)))


def expect_gradient(
    step: int,
    name: str,
    rows: tuple[np.ndarray, np.ndarray],
    drawn: Probe,
    gradient: np.ndarray,
    path: int,
    unit: float | None = None,
) -> None:
    """Refuse a layer unless sum_n r_n errors_n (x) features_n is the gradient.

    `rows`: its features (n, T, a) and errors (n, C, T, b); `gradient` (b, a): the
    framework's, by [weight bias], of sum_n r_n loss_(n,c'); `path`: see `path_length`.
    """
    features, errors = rows
    unit = rounding.unit_roundoff(errors) if unit is None else unit
    seen = np.flatnonzero(drawn.weights)
    r = drawn.weights[seen]
    h = features[seen].astype(np.float64)
    e = errors[seen, drawn.label].astype(np.float64) * r[:, None, None]
    (m, T, a), b = h.shape, e.shape[2]
    e, h = e.reshape(m * T, b), h.reshape(m * T, a)
    with np.errstate(all="ignore"):  # what is not finite is refused later
        made = np.abs(e).T @ np.abs(h)
        size, off = float(np.linalg.norm(made)), math.inf
        if gradient.shape == made.shape:
            np.matmul(e.T, h, out=made)
            off = float(np.linalg.norm(np.subtract(made, gradient, out=made)))
    if not np.isfinite(size):
        return
    k = m * T + path
    bound = _likely_gamma(k, unit, a * b) * size
    bound += rounding.underflow(k, unit) * math.sqrt(a * b) * float(np.abs(r).max())
    if not off <= bound:
        raise LayerError(
            f"errors (x) features of layer {name!r} must make up the gradient of its "
            f"weights, got a sum that is off by {off:.2g} of {size:.2g}, more than "
            f"rounding ({bound:.2g}), in batch {step}: the layer does something else "
            "than multiply its inputs (a subclass, a hook), its weights are used again "
            "or tied, its samples are not on the first axis, or samples are mixed; "
            f"leave it out by exclude=[{name!r}], or take rows by differentiation: "
            "`moment`, beside `export`",
            name,
        )


def expect_alone(
    step: int, one: np.ndarray, other: np.ndarray, path: int, unit: float | None = None
) -> None:
    """Refuse logits (m, C) of samples that change when other samples of the batch do.

    `one` and `other` are those of the same samples among different ones (`replaced`).
    """
    unit = rounding.unit_roundoff(one) if unit is None else unit
    with np.errstate(all="ignore"):  # what is not finite is refused later
        off = np.abs(one.astype(np.float64) - other.astype(np.float64))
        size = float(np.max(np.abs(one)))
    if (
        np.isfinite(size)
        and not np.max(off) <= _likely_gamma(path, unit, off.size) * size
    ):
        raise ValueError(
            "model must treat each sample by itself, got logits of a sample that move "
            f"by {np.max(off):.2g} of {size:.2g} when others of batch {step} are "
            "replaced; use running averages in place of batch statistics, as in "
            "evaluation mode, and nothing random"
        )


def expect_company(seen: np.ndarray, alone: np.ndarray) -> None:
    """Refuse logits of samples that are others when fewer are beside them."""
    with np.errstate(all="ignore"):  # what is not finite is refused later
        gap, size = (float(np.max(np.abs(x))) for x in (seen - alone, seen))
    half = float(np.finfo(seen.dtype).eps) ** 0.5  # of the digits
    if not gap <= half * size:
        raise ValueError(
            "model must treat each sample by itself, got logits that move by "
            f"{gap:.2g} of {size:.2g} when half of the batch is left out; use running "
            "averages in place of batch statistics, as in evaluation mode, the batch "
            "on the first axis, and nothing random"
        )


def replaced(n: int) -> tuple[np.ndarray, int]:
    """Return a choice of n samples whose first ones are as they were, and how many.

    The others give way to copies of these: logits of the first ones may not move.
    """
    same = n // 2
    return (np.resize(np.arange(same), n) if same else np.arange(n)), same


def path_length(layers: Iterable[tuple[int, int]]) -> int:
    """Count the roundings on a way through a network: a + b of each layer, at least."""
    return 64 + 4 * sum(a + b for a, b in layers)


def _likely_gamma(k: int, u: float, entries: int) -> float:
    """Bound k roundings in each of many entries, but for a chance of `FAILURE`.

    Of independent roundings of mean 0 (Higham and Mary, SISC 41(5), 2019, Thm 2.4).
    """
    chance = 2 * math.log(2 * max(k, 1) * entries / rounding.FAILURE)
    likely = math.expm1(math.sqrt(chance * k) * u + k * u * u / (1 - u))
    return min(rounding.gamma(k, u), likely)


def expect_no_softmax(step: int, logits: np.ndarray) -> None:
    """Refuse rows that are >= 0 and sum to 1: a softmax would be taken twice."""
    z = logits.astype(np.float64)
    with np.errstate(all="ignore"):  # what is not finite is refused later
        off = np.max(np.abs(np.sum(z, axis=1) - 1))
    bound = rounding.gamma(2 * z.shape[1] + 16, rounding.unit_roundoff(logits))
    if np.min(z) >= 0 and off <= bound:
        raise ValueError(
            "model must give logits, got rows that are >= 0 and sum to 1, which are "
            f"probabilities, in batch {step}; take the softmax off its end"
        )
