"""Features and errors of a traced JAX function's linear maps, batch by batch.

Something zero is added to what comes out of each map; the derivative by that, one
vector-Jacobian product for each label, are the errors. That errors (x) features are the
gradient is not taken for granted: they are compared with what JAX gives for a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from refspec.exporters import checking, delivery, feeding
from refspec.exporters.jax_tracing import Program, arrange, run

TAKES = (
    "function must take (parameters, inputs)",
    "compare the shapes and dtypes of inputs and parameters",
)
TRACED = (
    "function must be one that JAX traces and differentiates",
    "compute with jax.numpy, without side effects",
)
#: Features (n S, T, a) of a map, the bias appended, and its errors (n S, C, T, b).
Pair = tuple[np.ndarray, np.ndarray]


class Traced:
    """A traced function at work on batches; `logits` is the same of a whole batch."""

    def __init__(
        self,
        program: Program,
        names: Sequence[str],
        leaves: Sequence[Any],
        logits: Callable[[Sequence[Any], Any], Any],
        samples: int,
    ) -> None:
        self.program, self.leaves, self.samples = program, leaves, samples
        self.names = [names[m.leaf] for m in program.maps]
        self._run = jax.jit(jax.vmap(self._forward, (None, 0)))
        self._pull = jax.jit(jax.vmap(self._backward, (None, 0, 0)))
        self._together = jax.jit(logits)
        own = {n for m in program.maps for n in (m.leaf, m.bias) if n is not None}

        def gradient(leaves: Any, x: Any, seeds: Any) -> Any:
            def of(chosen: Any) -> Any:
                return logits([chosen.get(n, y) for n, y in enumerate(leaves)], x)

            return jax.vjp(of, {n: leaves[n] for n in sorted(own)})[1](seeds)[0]

        self._gradient = jax.jit(gradient)

    def forward(self, step: int, inputs: Any) -> tuple[Any, list[Any]]:
        """Return the logits of inputs, and what enters each map."""
        with feeding.answering(step, *TAKES):
            z, features = self._run(self.leaves, inputs)
        return z, features

    def pairs(self, step: int, inputs: Any, features: Any, seeds: Any) -> list[Pair]:
        """Return features and errors of each map, by the seeds (n S, C, C)."""
        S, pairs = self.samples, []
        with feeding.answering(step, *TRACED):
            each = jnp.asarray(_apart(seeds, S), self._dtype)
            errors = self._pull(self.leaves, inputs, each)
        maps = self.program.maps
        for m, h, e in zip(maps, map(feeding.host, features), errors, strict=True):
            h = h if m.bias is None else delivery.pad(h)
            e = feeding.host(e).reshape(len(seeds), -1, *e.shape[2:])
            pairs.append((np.repeat(h, S, axis=0) if S > 1 else h, e))
        return pairs

    def check(
        self,
        step: int,
        inputs: Any,
        z: Any,
        seeds: np.ndarray,
        pairs: Sequence[Pair],
        rng: np.random.Generator,
    ) -> None:
        """Compare logits and rows with what the function gives of the whole batch."""
        path, unit = self._path(), _unit(z)
        with feeding.answering(step, *TRACED):
            together = np.asarray(self._together(self.leaves, inputs))
        checking.expect_alone(step, np.asarray(z), together, path, unit)
        drawn = checking.probe(len(seeds), seeds.shape[1], rng)
        seed = (seeds[:, drawn.label] * drawn.weights[:, None]).reshape(z.shape)
        with feeding.answering(step, *TRACED):
            found = self._gradient(self.leaves, inputs, jnp.asarray(seed, z.dtype))
        for m, name, rows in zip(self.program.maps, self.names, pairs, strict=True):
            columns = [feeding.host(found[m.leaf]).ravel()[m.order]]
            if m.bias is not None:
                columns.append(feeding.host(found[m.bias]).reshape(-1, 1))
            gradient = np.concatenate(columns, axis=1)
            checking.expect_gradient(step, name, rows, drawn, gradient, path, unit)

    def sizes(self, inputs: Any) -> list[tuple[int, int, int]]:
        """Return positions, features and errors (T, a, b) of each map in an input."""
        with feeding.answering(0, *TRACED):
            _, features = jax.eval_shape(self._run, self.leaves, inputs)
        return [
            (int(h.shape[1]), int(h.shape[2]) + (m.bias is not None), len(m.order))
            for m, h in zip(self.program.maps, features, strict=True)
        ]

    @property
    def numbers(self) -> int:
        """How many numbers are computed for an input, forward and back, at most."""
        jaxpr = self.program.closed.jaxpr
        forward = sum(math.prod(v.aval.shape) for x in jaxpr.eqns for v in x.outvars)
        (z,) = jaxpr.outvars
        return int(forward * (1 + math.prod(z.aval.shape)))

    @property
    def _dtype(self) -> Any:
        return self.program.closed.jaxpr.outvars[0].aval.dtype

    def _forward(self, leaves: Any, x: Any) -> Any:
        return run(self.program, leaves, x, None)

    def _backward(self, leaves: Any, x: Any, seeds: Any) -> Any:
        program = self.program
        outs = [program.closed.eqns[m.at].outvars[0].aval for m in program.maps]
        zeros = [jnp.zeros(v.shape, v.dtype) for v in outs]
        _, pull, _ = jax.vjp(lambda t: run(program, leaves, x, t), zeros, has_aux=True)
        (errors,) = jax.vmap(pull)(seeds)
        return [
            jax.vmap(lambda g, m=m: arrange(program, m, g))(e)
            for m, e in zip(program.maps, errors, strict=True)
        ]

    def _path(self) -> int:
        sizes = (x.shape for x in self.leaves if x.ndim > 1)
        return checking.path_length((x[0], int(np.prod(x[1:]))) for x in sizes)


def _apart(seeds: np.ndarray, S: int) -> np.ndarray:
    """Return seeds (n S, C, C) by inputs; of S samples each meets its own logits."""
    n, C = len(seeds) // S, seeds.shape[1]
    if S == 1:
        return seeds
    each = np.zeros((n, S, C, S, C), seeds.dtype)
    for s in range(S):
        each[:, s, :, s] = seeds[s::S]
    return each.reshape(n, S * C, S, C)


def _unit(z: Any) -> float:
    """Return the unit roundoff of products, coarser than the dtype's on a device."""
    if z.dtype == np.float64:
        return 2.0**-53
    if jax.default_backend() == "cpu":
        return 2.0**-24
    exact = jax.config.jax_default_matmul_precision in ("float32", "highest")
    return 2.0**-24 if exact else 2.0**-8  # bfloat16 passes, or tf32
