"""A traced JAX function as the operations that `refspec.models` knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np
from jax import numpy as jnp

from refspec.exporters.jax_tracing import Map, Program, features_of, flat, piece

_ACTIVATIONS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("tanh", jnp.tanh),
    ("relu", jax.nn.relu),
    ("relu", lambda z: jnp.maximum(z, 0)),
    ("relu", lambda z: jnp.maximum(0, z)),
    ("sigmoid", jax.nn.sigmoid),
    ("softplus", jax.nn.softplus),
    ("silu", jax.nn.silu),
    ("gelu", lambda z: jax.nn.gelu(z, approximate=False)),
    ("gelu_tanh", lambda z: jax.nn.gelu(z, approximate=True)),
)


def sequential_operations(
    program: Program, names: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]] | None:
    """Describe a plain multilayer perceptron by operations, or return None.

    Beside them: where in the raveled leaf each entry of a parameter is.
    """
    # every equation must belong to a map, to the moving of axes, or to an activation
    # between two maps, known by its own equations, traced the same way
    jaxpr, moved = program.closed.jaxpr, program.moved
    operations: list[dict[str, Any]] = []
    orders: dict[str, np.ndarray] = {}
    ends = {source: v for v, (source, _) in moved.items()}  # the last of each
    start, before, width = ends.get(("input", 0)), -1, None
    for k, m in enumerate(program.maps):
        entering = jaxpr.eqns[m.at].invars[1 - m.side]
        between = [
            x
            for x in jaxpr.eqns[before + 1 : m.at]
            if not any(v in moved for v in x.outvars)
        ]
        if entering is not start:
            name = k and _activation(jaxpr, start, entering, between)
            if not name:
                return None
            operations.append({"op": name})
        elif between:
            return None
        index = features_of(program, m, moved[start][1]) if _dense(program, m) else None
        width = m.order.shape[1]
        if index is None or not np.array_equal(index, np.arange(width)[None]):
            return None
        bias = None if m.bias is None else names[m.bias]
        orders[names[m.leaf]] = m.order
        if bias is not None:
            orders[bias] = np.arange(len(m.order))
        name = names[m.leaf]
        operations.append({"op": "linear", "name": name, "weight": name, "bias": bias})
        start, before = ends[("map", k)], m.at
    last = moved.get(jaxpr.outvars[0])
    trailing = [x for x in jaxpr.eqns[before + 1 :] if x.outvars[0] not in moved]
    if not program.maps or last is None or trailing or jaxpr.outvars[0] is not start:
        return None
    natural = np.array_equal(last[1].ravel(), np.arange(last[1].size))
    return (operations, orders) if natural else None


def _dense(program: Program, m: Map) -> bool:
    equation = program.closed.eqns[m.at]
    single = equation.outvars[0].aval.size == len(m.order)
    return bool(equation.primitive.name == "dot_general" and single)


def _activation(jaxpr: Any, start: Any, end: Any, equations: list[Any]) -> str | None:
    """Return the name of the activation that these equations are."""
    made = {v for x in equations for v in x.outvars}
    given = {v for x in equations for v in x.invars if isinstance(v, jex.Var)}
    if end not in made or given - made - {start} or end.aval.shape != start.aval.shape:
        return None
    text = str(piece(jaxpr, [start], [end], equations))
    like = jax.ShapeDtypeStruct(start.aval.shape, start.aval.dtype)
    for name, function in _ACTIVATIONS:
        if str(flat(jax.make_jaxpr(function)(like), like).jaxpr) == text:
            return name
    return None
