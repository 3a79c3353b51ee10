"""Train a network in JAX and write its export; needs jax and scikit-learn.

    python tests/networks/digits_jax.py [refspec/data/digits_jax.npz]

A 64-24-16-10 tanh network in plain JAX learns all 1797 digits of scikit-learn to 100 %
training accuracy by full-batch Adam with weight decay; 200 samples, 11 + 2c of class c,
are exported. Seeded; another machine may still give another network of the same kind.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from sklearn.datasets import load_digits

from refspec.exporters.jax import export

WIDTHS = (64, 24, 16, 10)
STEPS, RATE, DECAY = 2500, 1e-2, 1e-4


def start() -> dict[str, dict[str, jax.Array]]:
    """Return Glorot weights and zero biases."""
    keys = jax.random.split(jax.random.key(0), len(WIDTHS) - 1)
    return {
        f"layer{k}": {
            "W": jax.random.normal(key, (a, b)) * (2 / (a + b)) ** 0.5,
            "b": jnp.zeros(b),
        }
        for k, (key, (a, b)) in enumerate(
            zip(keys, itertools.pairwise(WIDTHS), strict=True), start=1
        )
    }


def logits(parameters: Any, x: jax.Array) -> jax.Array:
    """Run the network on a batch."""
    *hidden, last = parameters.values()
    for layer in hidden:
        x = jnp.tanh(x @ layer["W"] + layer["b"])
    return x @ last["W"] + last["b"]


def train(X: jax.Array, y: jax.Array) -> Any:
    """Return the parameters after full-batch Adam."""

    def loss(parameters: Any) -> jax.Array:
        miss = -jax.nn.log_softmax(logits(parameters, X))[jnp.arange(len(y)), y].mean()
        squares = sum(jnp.sum(x * x) for x in jax.tree.leaves(parameters))
        return miss + DECAY / 2 * squares

    @jax.jit
    def step(k: int, state: Any) -> Any:
        parameters, mean, square = state
        gradient = jax.grad(loss)(parameters)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, square, gradient)
        parameters = jax.tree.map(
            lambda p, m, s: (
                p - RATE * m / (1 - 0.9**k) / (jnp.sqrt(s / (1 - 0.999**k)) + 1e-8)
            ),
            parameters,
            mean,
            square,
        )
        return parameters, mean, square

    zero = jax.tree.map(jnp.zeros_like, start())
    return jax.lax.fori_loop(1, STEPS + 1, step, (start(), zero, zero))[0]


def main(path: Path) -> None:
    """Train, export, and say how well the network fits."""
    images, labels = load_digits(return_X_y=True)
    X, y = jnp.asarray(images / 16, "float32"), jnp.asarray(labels)
    parameters = train(X, y)
    accuracy = float((logits(parameters, X).argmax(1) == y).mean())
    chosen = np.concatenate(
        [np.flatnonzero(labels == c)[: 11 + 2 * c] for c in range(10)]
    )
    batch = X[chosen], labels[chosen]
    names, said = list("0123456789"), {"data": "sklearn.datasets.load_digits (BSD-3)"}
    export(logits, parameters, [batch], path, class_names=names, provenance=said)
    sys.stdout.write(
        f"training accuracy {accuracy:.4f}, {len(chosen)} samples, "
        f"{path.stat().st_size / 1e3:.0f} kB in {path.name}\n"
    )


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2] / "refspec/data/digits_jax.npz"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
