"""A traced JAX function as the operations that `refspec.models` knows.

Its equations are read one after the other. What depends on parameters alone is
computed; what depends on the sample must be an operation, a sum, an affine map of each
channel (a batch norm), or a move of axes. Arrays of indices say which entry of an
operation's output is where, so that any layout of images is told from any other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np
from jax import numpy as jnp

from refspec.exporters.jax_tracing import (
    Map,
    Program,
    evaluate,
    features_of,
    flat,
    is_move,
    move,
    piece,
)
from refspec.exporters.sections import Section, UnknownOperationError, without

_ACTIVATIONS: tuple[tuple[dict[str, Any], Callable[[Any], Any]], ...] = (
    ({"op": "tanh"}, jnp.tanh),
    ({"op": "relu"}, jax.nn.relu),
    ({"op": "relu"}, lambda z: jnp.maximum(z, 0)),
    ({"op": "relu"}, lambda z: jnp.maximum(0, z)),
    ({"op": "sigmoid"}, jax.nn.sigmoid),
    ({"op": "softplus"}, jax.nn.softplus),
    ({"op": "log_sigmoid"}, jax.nn.log_sigmoid),
    ({"op": "silu"}, jax.nn.silu),
    ({"op": "gelu"}, lambda z: jax.nn.gelu(z, approximate=False)),
    ({"op": "gelu_tanh"}, lambda z: jax.nn.gelu(z, approximate=True)),
    ({"op": "leaky_relu"}, jax.nn.leaky_relu),
    ({"op": "elu"}, jax.nn.elu),
    ({"op": "clip", "low": 0.0, "high": 6.0}, jax.nn.relu6),
    ({"op": "clip", "low": -1.0, "high": 1.0}, jax.nn.hard_tanh),
    ({"op": "hard_sigmoid"}, jax.nn.hard_sigmoid),
    ({"op": "hard_swish"}, jax.nn.hard_swish),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Value:
    """An array that depends on the sample: (x - mean) scale + bias of x, a sum.

    x is the sum of the outputs `of`, its raveled entry index[j] at place j.
    """

    of: list[int]
    index: np.ndarray
    mean: Any = 0.0
    scale: Any = 1.0
    bias: Any = 0.0

    @property
    def plain(self) -> bool:
        zero = not np.any(self.mean) and not np.any(self.bias)
        return zero and bool(np.all(np.asarray(self.scale) == 1))


@dataclass(eq=False)
class _Reader:
    """The operations read so far."""

    program: Program
    names: Sequence[str]
    operations: list[dict[str, Any]] = field(default_factory=list)
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: list[tuple[int, ...]] = field(default_factory=list)  # of every output
    values: dict[Any, _Value] = field(default_factory=dict)
    constants: dict[Any, Any] = field(default_factory=dict)

    def append(self, found: dict[str, Any], of: list[int], shape: Any) -> list[int]:
        """Append an operation; return what reads its output."""
        named = {} if of == [len(self.operations)] else {"of": of}
        self.operations.append(found | named)
        self.shapes.append(tuple(int(n) for n in shape))
        return [len(self.operations)]

    def settled(self, v: Any) -> _Value:
        """Return a value without an affine map: as a batch norm that is one."""
        x = self.values[v]
        if x.plain:
            return x
        shape, n = self.shapes[x.of[0]], len(self.operations)
        found: dict[str, Any] = {"op": "batch_norm", "epsilon": 0.0}
        roles = {"mean": x.mean, "weight": x.scale, "bias": x.bias, "variance": 1.0}
        for role, given in roles.items():
            whole = np.empty(math.prod(shape), v.aval.dtype)
            whole[x.index.ravel()] = np.broadcast_to(given, x.index.shape).ravel()
            rows = whole.reshape(shape[0], -1)
            if np.any(rows != rows[:, :1]):
                raise UnknownOperationError(
                    "its entries are scaled or shifted one by one, not by channel"
                )
            found[role] = f"affine_{n}.{role}"
            self.parameters[found[role]] = rows[:, 0]
        self.values[v] = _Value(self.append(found, x.of, shape), x.index)
        return self.values[v]


def describe(program: Program, names: Sequence[str], leaves: Sequence[Any]) -> Section:
    """Describe a traced function by operations, or say why that cannot be."""
    jaxpr = program.closed.jaxpr
    *given, sample = jaxpr.invars
    order = _layout(program, sample)
    index = np.empty(order.size, dtype=int)
    index[order.ravel()] = np.arange(order.size)
    reader = _Reader(program, names)
    reader.shapes.append(order.shape)
    reader.values[sample] = _Value([0], index.reshape(sample.aval.shape))
    reader.constants |= dict(zip(given, leaves, strict=True))
    reader.constants |= dict(zip(jaxpr.constvars, program.closed.consts, strict=True))
    try:
        at = 0
        while at < len(jaxpr.eqns):
            with np.errstate(all="ignore"):  # what is not finite is refused later
                at += _read(reader, jaxpr, at)
        (out,) = jaxpr.outvars
        if out not in reader.values:
            return without("its logits do not depend on the inputs")
        last = reader.settled(out)
        if not np.array_equal(last.index.ravel(), np.arange(last.index.size)):
            return without("its logits are in another order than the last layer's")
        if last.of != [len(reader.operations)]:
            reader.append({"op": "identity"}, last.of, last.index.shape)
    except UnknownOperationError as error:
        return without(str(error))
    plain = np.array_equal(order.ravel(), np.arange(order.size))
    same = plain and order.shape == sample.aval.shape
    return Section(reader.operations, reader.parameters, order=None if same else order)


def _layout(program: Program, sample: Any) -> np.ndarray:
    """Return where in the raveled sample each entry of (channels, *space) is."""
    for m in program.maps:
        equation = program.closed.eqns[m.at]
        if equation.primitive.name != "conv_general_dilated":
            continue
        source, index = program.moved.get(equation.invars[0], (None, None))
        if source == ("input", 0):
            spec = equation.params["dimension_numbers"].lhs_spec
            return np.asarray(index).transpose(spec)[0]  # type: ignore[no-any-return]
        break
    return np.arange(math.prod(sample.aval.shape)).reshape(sample.aval.shape)


def _read(reader: _Reader, jaxpr: Any, at: int) -> int:
    """Read the equation at a place, or the ones that are an activation; count them."""
    equation = jaxpr.eqns[at]
    variables = [v for v in equation.invars if isinstance(v, jex.Var)]
    read = [v for v in variables if v in reader.values]
    if not read:
        given = [
            v.val if isinstance(v, jex.Literal) else reader.constants[v]
            for v in equation.invars
        ]
        made = evaluate(jaxpr, equation, given)
        reader.constants |= dict(zip(equation.outvars, made, strict=True))
        return 1
    found = _activation(jaxpr, at, read[0])
    if found is not None:
        operation, count = found
        x = reader.settled(read[0])
        (end,) = jaxpr.eqns[at + count - 1].outvars
        of = reader.append(operation, x.of, reader.shapes[x.of[0]])
        reader.values[end] = _Value(of, x.index)
        return count
    (out,) = equation.outvars[:1]
    reader.values[out] = _made(reader, at, equation, read)
    return 1


def _made(reader: _Reader, at: int, equation: Any, read: list[Any]) -> _Value:
    """Return what one equation gives; refuse one that is no operation."""
    kind, maps = equation.primitive.name, {m.at: m for m in reader.program.maps}
    if at in maps:
        m = maps[at]
        x = reader.settled(read[0])
        return _convolution(reader, m, x) if kind[0] == "c" else _linear(reader, m, x)
    if is_move(equation):
        x = reader.settled(read[0])
        return replace(x, index=move(equation, x.index))
    moved = reader.program.moved.get(equation.outvars[0])
    if kind in ("add", "add_any") and moved and moved[0][0] == "map":
        return reader.values[read[0]]  # a bias, which its layer has
    if kind in ("add", "add_any") and len(read) == 2:
        one, other = (reader.settled(v) for v in read)
        if not np.array_equal(one.index, other.index):
            raise UnknownOperationError("it adds arrays in different layouts")
        return _Value([*one.of, *other.of], one.index)
    if kind in ("add", "sub", "mul", "div") and len(read) == 1:
        return _affine(reader, equation, read[0])
    if kind.startswith(("reduce_window_", "reduce_")) and len(read) == 1:
        found = _pool(reader, equation, reader.settled(read[0]))
        if found is not None:
            return found
    raise UnknownOperationError(f"{kind} is no operation of refspec.models")


def _activation(jaxpr: Any, at: int, start: Any) -> tuple[dict[str, Any], int] | None:
    """Return the activation that begins at a place, and how many equations it is.

    Of several the longest: silu begins as a sigmoid.
    """
    like = jax.ShapeDtypeStruct(start.aval.shape, start.aval.dtype)
    found: tuple[dict[str, Any], int] | None = None
    if not jnp.issubdtype(like.dtype, jnp.floating):
        return None
    for operation, function in _ACTIVATIONS:
        known = flat(jax.make_jaxpr(function)(like), like).jaxpr
        count = len(known.eqns)
        equations = jaxpr.eqns[at : at + count]
        if [x.primitive for x in equations] != [x.primitive for x in known.eqns]:
            continue
        made = {v for x in equations for v in x.outvars}
        given = {v for x in equations for v in x.invars if isinstance(v, jex.Var)}
        if given - made - {start} or (found and found[1] >= count):
            continue
        end = equations[-1].outvars[0]
        if str(piece(jaxpr, [start], [end], equations)) == str(known):
            found = operation, count
    return found


def _linear(reader: _Reader, m: Map, x: _Value) -> _Value:
    """Append a dense layer, flattening before it what is no vector."""
    equation, (b, a) = reader.program.closed.eqns[m.at], m.order.shape
    index, of = features_of(reader.program, m, x.index), x.of
    shape = reader.shapes[of[0]]
    if index.shape != (1, a):
        raise UnknownOperationError(
            f"parameter {reader.names[m.leaf]!r} multiplies several vectors of a sample"
        )
    whole = np.arange(a).reshape(shape) if math.prod(shape) == a else None
    if whole is not None and np.array_equal(index[0], whole.ravel()):
        of = reader.append({"op": "flatten"}, of, (a,)) if len(shape) > 1 else of
    elif whole is not None and np.array_equal(index[0], _last(whole)):
        of = reader.append({"op": "flatten_channels_last"}, of, (a,))
    else:
        raise UnknownOperationError("a flattening is in an order of its own")
    of = reader.append({"op": "linear"} | _weights(reader, m, (b, a)), of, (b,))
    return _Value(of, np.arange(b).reshape(equation.outvars[0].aval.shape))


def _convolution(reader: _Reader, m: Map, x: _Value) -> _Value:
    """Append a convolution."""
    equation = reader.program.closed.eqns[m.at]
    how, out = equation.params, equation.outvars[0].aval.shape
    spec = how["dimension_numbers"]
    shape = reader.shapes[x.of[0]]
    entering = x.index.transpose(spec.lhs_spec)
    if not np.array_equal(entering[0], np.arange(math.prod(shape)).reshape(shape)):
        raise UnknownOperationError("an image enters a convolution in another layout")
    kernel = [equation.invars[1].aval.shape[k] for k in spec.rhs_spec[1:]]
    operation = {"op": f"conv{len(shape) - 1}d", "stride": _ints(how["window_strides"])}
    operation["padding"] = _even(how["padding"])
    if any(n != 1 for n in how["rhs_dilation"]):
        operation["dilation"] = _ints(how["rhs_dilation"])
    operation |= _weights(reader, m, (len(m.order), *kernel))
    made = [out[k] for k in spec.out_spec]
    of = reader.append(operation, x.of, made[1:])
    index = np.arange(math.prod(made)).reshape(made)
    return _Value(of, index.transpose(np.argsort(spec.out_spec)))


def _weights(reader: _Reader, m: Map, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the names of a layer's parameters, and keep the parameters."""
    name, bias = reader.names[m.leaf], None if m.bias is None else reader.names[m.bias]
    leaves = [reader.constants[v] for v in reader.program.closed.jaxpr.invars[:-1]]
    reader.parameters[name] = np.asarray(leaves[m.leaf]).ravel()[m.order].reshape(shape)
    if m.bias is not None and bias is not None:
        reader.parameters[bias] = np.asarray(leaves[m.bias]).ravel()
    return {"name": name, "weight": name, "bias": bias}


def _affine(reader: _Reader, equation: Any, v: Any) -> _Value:
    """Join the sum or product with something constant to the affine map before it."""
    x, kind = reader.values[v], equation.primitive.name
    one, other = equation.invars
    first = one is v
    given = other if first else one
    c = given.val if isinstance(given, jex.Literal) else reader.constants[given]
    c = np.asarray(c)
    if kind == "mul":
        return replace(x, scale=x.scale * c, bias=x.bias * c)
    if kind == "div" and first:
        return replace(x, scale=x.scale / c, bias=x.bias / c)
    if kind == "sub" and not first:
        return replace(x, scale=-1 * np.asarray(x.scale), bias=c - x.bias)
    if kind == "div":
        raise UnknownOperationError("div by what depends on the sample is no operation")
    c = -c if kind == "sub" else c
    if kind == "sub" and np.all(np.asarray(x.scale) == 1) and not np.any(x.bias):
        return replace(x, mean=x.mean - c)
    return replace(x, bias=x.bias + c)


def _pool(reader: _Reader, equation: Any, x: _Value) -> _Value | None:
    """Append a pooling; a sum over windows is their mean times their size."""
    kind, how = equation.primitive.name, equation.params
    shape = reader.shapes[x.of[0]]
    axes = _axes(x.index, shape)
    op = {"max": "max_pool", "sum": "avg_pool"}.get(kind.rsplit("_", 1)[1])
    if op is None or axes is None or len(shape) < 2:
        return None
    d = len(shape) - 1
    if kind.startswith("reduce_window"):
        sizes, space = how["window_dimensions"], axes[2:]
        if {sizes[axes[0]], sizes[axes[1]], *how["base_dilation"]} != {1}:
            return None
        kernel = _ints([sizes[k] for k in space])
        operation = {"op": f"{op}{d}d", "kernel": kernel}
        operation["stride"] = _ints([how["window_strides"][k] for k in space])
        padding = _even([how["padding"][k] for k in space])
        dilation = [how["window_dilation"][k] for k in space]
        if any(padding):
            operation["padding"] = padding
        if any(n != 1 for n in dilation):
            if op == "avg_pool":
                return None
            operation["dilation"] = _ints(dilation)
        out = equation.outvars[0].aval.shape
        of = reader.append(operation, x.of, [out[k] for k in axes[1:]])
        made = [out[k] for k in axes]
        index = np.arange(math.prod(made)).reshape(made).transpose(np.argsort(axes))
    else:
        if sorted(how["axes"]) != sorted(axes[2:]):
            return None
        kernel = list(shape[1:])
        operation = {"op": f"{op}{d}d", "kernel": kernel, "stride": kernel}
        of = reader.append(operation, x.of, (shape[0], *[1] * d))
        of = reader.append({"op": "flatten"}, of, shape[:1])
        index = np.arange(shape[0]).reshape(equation.outvars[0].aval.shape)
    count = math.prod(kernel) if op == "avg_pool" else 1
    return _Value(of, index, scale=float(count))


def _last(whole: np.ndarray) -> np.ndarray:
    """Ravel (channels, *space), the channels as the last axis."""
    return np.moveaxis(whole, 0, -1).ravel()


def _axes(index: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return which axes of an array are (batch, channels, *space), if they are."""
    if index.ndim != 1 + len(shape):
        return None
    whole = np.arange(math.prod(shape)).reshape(1, *shape)
    for axes in itertools.permutations(range(index.ndim)):
        if np.array_equal(index.transpose(axes), whole):
            return axes
    return None


def _even(pads: Sequence[Any]) -> list[int]:
    """Return padding that is the same on both sides."""
    if any(low != high or low < 0 for low, high in pads):
        raise UnknownOperationError(
            f"padding {[tuple(x) for x in pads]} differs between the two sides"
        )
    return [int(low) for low, _ in pads]


def _ints(sizes: Sequence[Any]) -> list[int]:
    return [int(x) for x in sizes]
