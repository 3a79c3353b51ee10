"""The linear maps of a JAX function, found in its equations.

A function of one sample is traced and written as one flat list of equations. A
parameter leaf that enters one matrix product or convolution, its axes moved at most, is
a linear map; what enters beside it are the features, and a leaf added to what comes
out, nothing between, is the bias. Arrays of indices go through the same transposes and
reshapes as the leaves, so which entry meets which is known and not guessed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np
from jax import lax
from jax import numpy as jnp

_CALLS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2")
_MOVES = ("transpose", "reshape", "squeeze", "broadcast_in_dim", "copy")


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """One linear map: a leaf in a matrix product or a convolution."""

    leaf: int  # its weights, by number in the list of leaves
    at: int  # number of its equation
    side: int  # the operand that is the leaf; the other one gives the features
    order: np.ndarray  # (b, a): where in the raveled leaf each weight is
    bias: int | None = None  # the leaf added to what comes out


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A traced function of leaves and a sample: equations, and the maps among them."""

    closed: Any  # ClosedJaxpr, giving one row of logits (1, C)
    maps: tuple[Map, ...]  # in the order of the forward pass
    problems: dict[int, str]  # why a leaf that enters a product is no map of ours
    #: What is a leaf, the sample, or what comes out of a map, its axes moved: its
    #: source, ("leaf", n), ("input", n) or ("map", n), and which entry of it is where.
    moved: dict[Any, tuple[tuple[str, int], np.ndarray]]


def trace(
    function: Callable[[Sequence[Any], Any], Any], leaves: Sequence[Any], sample: Any
) -> Program:
    """Trace ``function(leaves, sample[None])`` and find its linear maps.

    A sample may be a tree of arrays.
    """
    closed = jax.make_jaxpr(
        lambda leaves, x: function(leaves, jax.tree.map(lambda y: y[None], x))
    )(leaves, sample)
    inputs = jax.tree.leaves(sample)
    closed = flat(closed, *leaves, *inputs)
    program = Program(closed, (), {}, {})
    variables, jaxpr = closed.jaxpr.invars, closed.jaxpr
    for n, (v, leaf) in enumerate(zip(variables, leaves, strict=False)):
        program.moved[v] = ("leaf", n), _indices(np.shape(leaf))
    for n, (v, x) in enumerate(zip(variables[len(leaves) :], inputs, strict=True)):
        program.moved[v] = ("input", n), _indices(np.shape(x))
    uses = Counter(v for v in _operands(jaxpr) if isinstance(v, jex.Var))
    maps: list[Map] = []
    for at, equation in enumerate(jaxpr.eqns):
        _follow(program, maps, uses, at, equation)
    met = Counter(range(len(leaves)))  # ends of a leaf's way: moves do not count
    for v, (source, _) in program.moved.items():
        if source[0] == "leaf":
            met[source[1]] += uses[v] - 1
    for n, m in enumerate(maps):
        if met[m.leaf] > 1:
            program.problems[m.leaf] = f"is used {met[m.leaf]} times in a forward pass"
        if m.bias is not None and met[m.bias] > 1:
            maps[n] = replace(m, bias=None)
    return replace(program, maps=tuple(maps))


def _follow(
    program: Program,
    maps: list[Map],
    uses: Counter[Any],
    at: int,
    equation: Any,
) -> None:
    """See what one equation does to leaves, maps and the sample."""
    moved, kind, operands = program.moved, equation.primitive.name, equation.invars
    known = [moved.get(v) if isinstance(v, jex.Var) else None for v in operands]
    if not any(known):
        return
    if is_move(equation):
        source, index = known[0]  # type: ignore[misc]
        moved[equation.outvars[0]] = source, move(equation, index)
        return
    leaves = [k for k, x in enumerate(known) if x and x[0][0] == "leaf"]
    found = None
    if kind in ("dot_general", "conv_general_dilated"):
        found = _found(program, at, equation, leaves, known)
    if found is not None:
        maps.append(found)
        moved[equation.outvars[0]] = (
            ("map", len(maps) - 1),
            _outputs(equation, found.side, len(found.order)),
        )
    elif kind in ("add", "add_any") and len(leaves) == 1 and all(known):
        (source, index), (leaf, rows) = known[1 - leaves[0]], known[leaves[0]]  # type: ignore[misc]
        single = all(uses[v] == 1 for v, x in moved.items() if x[0] == source)
        m = maps[source[1]] if source[0] == "map" and single else None
        rows = np.broadcast_to(rows, equation.outvars[0].aval.shape)
        if m and m.bias is None and np.array_equal(index, rows):
            maps[source[1]] = replace(m, bias=leaf[1])
            moved[equation.outvars[0]] = source, index
    inner = any(True for _ in jex.jaxprs_in_params(equation.params))
    for k in leaves:
        (_, n), index = known[k]  # type: ignore[misc]
        if inner and index.ndim > 1:
            program.problems.setdefault(n, f"enters {kind}")


def _found(
    program: Program, at: int, equation: Any, leaves: list[int], known: list[Any]
) -> Map | None:
    """Return the map that a product is, or note why it is none."""
    side, kind = (leaves or [-1])[0], equation.primitive.name
    why = None
    if len(leaves) > 1:
        why = "is multiplied by another parameter"
    elif kind == "dot_general" and equation.params["dimension_numbers"][1][0]:
        why = "is a stack of matrices, one for each group"
    elif kind == "conv_general_dilated":
        p = equation.params
        if p["feature_group_count"] != 1 or p["batch_group_count"] != 1:
            why = "is a convolution of several groups"
        elif set(p["lhs_dilation"]) != {1}:
            why = "is a transposed convolution"
        elif side == 0:
            why = "is the image of a convolution"
    if side < 0:
        return None
    (_, n), index = known[side]
    if why is None and np.unique(index).size < index.size:
        why = "is repeated before it is multiplied"
    if why is not None:
        program.problems[n] = why
        return None
    return Map(n, at, side, _matrix(equation, side, index))


def is_move(equation: Any) -> bool:
    """Whether an equation moves the axes of one array, or converts floats to floats."""
    single = equation.primitive.name in _MOVES and len(equation.invars) == 1
    return single or _same(equation)


def move(equation: Any, x: np.ndarray) -> np.ndarray:
    """Move the axes of indices as an equation does those of an array."""
    kind, how = equation.primitive.name, equation.params
    if kind == "transpose":
        return x.transpose(how["permutation"])
    if kind == "reshape":
        return x.reshape(how["new_sizes"])
    if kind == "squeeze":
        return np.squeeze(x, tuple(how["dimensions"]))
    if kind == "broadcast_in_dim":
        shape = [1] * len(how["shape"])
        for size, k in zip(x.shape, how["broadcast_dimensions"], strict=True):
            shape[k] = size
        return np.broadcast_to(x.reshape(shape), how["shape"])
    return x


def _same(equation: Any) -> bool:
    """Whether an equation converts a floating dtype to itself or another one."""
    kind = equation.params.get("new_dtype")
    converts = equation.primitive.name == "convert_element_type"
    return converts and bool(jnp.issubdtype(kind, jnp.floating))


def _axes(equation: Any, side: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the free and the contracted axes of one operand of a product."""
    contracted = equation.params["dimension_numbers"][0][side]
    free = [k for k in range(equation.invars[side].aval.ndim) if k not in contracted]
    return tuple(free), tuple(contracted)


def _matrix(equation: Any, side: int, x: Any) -> Any:
    """Turn the weights as they enter a map into the matrix (b, a)."""
    if equation.primitive.name == "dot_general":
        free, contracted = _axes(equation, side)
        rows = math.prod(x.shape[k] for k in free)
        return x.transpose(free + contracted).reshape(rows, -1)
    out, *rest = equation.params["dimension_numbers"].rhs_spec
    return x.transpose(out, *rest).reshape(x.shape[out], -1)


def _outputs(equation: Any, side: int, b: int) -> np.ndarray:
    """Return, for every entry that comes out of a map, which of its b outputs it is."""
    shape = equation.outvars[0].aval.shape
    if equation.primitive.name == "dot_general":
        positions = math.prod(shape) // b
        grid = np.broadcast_to(np.arange(b), (positions, b))
        return np.array((grid if side else grid.T).reshape(shape))
    channel = equation.params["dimension_numbers"].out_spec[1]
    line = [b if k == channel else 1 for k in range(len(shape))]
    return np.array(np.broadcast_to(np.arange(b).reshape(line), shape))


def arrange(program: Program, m: Map, out: Any) -> Any:
    """Turn what comes out of a map, or its derivative, into (T, b)."""
    equation, b = program.closed.eqns[m.at], len(m.order)
    if equation.primitive.name == "dot_general":
        return out.reshape(-1, b) if m.side else out.reshape(b, -1).T
    n, channel, *space = equation.params["dimension_numbers"].out_spec
    return out.transpose(n, *space, channel).reshape(-1, b)


def features_of(program: Program, m: Map, x: Any) -> Any:
    """Turn what enters a map beside its weights into (T, a)."""
    equation, a = program.closed.eqns[m.at], m.order.shape[1]
    if equation.primitive.name == "dot_general":
        free, contracted = _axes(equation, 1 - m.side)
        return x.transpose(free + contracted).reshape(-1, a)
    p = equation.params
    numbers = p["dimension_numbers"]
    patches = lax.conv_general_dilated_patches(
        x,
        [equation.invars[1].aval.shape[k] for k in numbers.rhs_spec[2:]],
        p["window_strides"],
        p["padding"],
        rhs_dilation=p["rhs_dilation"],
        dimension_numbers=numbers,
        precision=lax.Precision.HIGHEST,
    )
    n, channel, *space = numbers.out_spec
    return patches.transpose(n, *space, channel).reshape(-1, a)


def run(
    program: Program, leaves: Sequence[Any], sample: Any, taps: Sequence[Any] | None
) -> tuple[Any, list[Any]]:
    """Run the program on one sample; return the logits (C,) and the features (T, a).

    Taps are added to what comes out of each map; the derivative by them: the errors.
    """
    maps = {m.at: k for k, m in enumerate(program.maps)}
    features: dict[int, Any] = {}

    def tap(at: int, values: list[Any], out: list[Any]) -> list[Any]:
        if at not in maps:
            return out
        k = maps[at]
        m = program.maps[k]
        features[k] = features_of(program, m, values[1 - m.side])
        return out if taps is None else [out[0] + taps[k]]

    jaxpr, consts = program.closed.jaxpr, program.closed.consts
    (logits,) = _run(jaxpr, consts, (*leaves, *jax.tree.leaves(sample)), tap)
    return logits.reshape(logits.shape[1:]), [features[k] for k in sorted(features)]


def piece(jaxpr: Any, given: list[Any], wanted: list[Any], equations: Any) -> Any:
    """Return some of the equations of a program as one of its own."""
    return jaxpr.replace(constvars=[], invars=given, outvars=wanted, eqns=equations)


def _indices(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(math.prod(shape)).reshape(shape)


def _operands(jaxpr: Any) -> list[Any]:
    return [v for x in jaxpr.eqns for v in x.invars] + list(jaxpr.outvars)


def flat(closed: Any, *given: Any) -> Any:
    """Write calls out in full and leave out what nothing depends on."""
    traced = jax.make_jaxpr(lambda *x: _run(closed.jaxpr, closed.consts, x))(*given)
    jaxpr, kept = traced.jaxpr, []
    needed = set(_operands(jaxpr)[-len(jaxpr.outvars) :])
    for equation in reversed(jaxpr.eqns):
        if equation.effects or any(v in needed for v in equation.outvars):
            kept.append(equation)
            needed |= {v for v in equation.invars if isinstance(v, jex.Var)}
    return traced.replace(jaxpr=jaxpr.replace(eqns=kept[::-1]))


def _run(
    jaxpr: Any,
    consts: Sequence[Any],
    given: Sequence[Any],
    tap: Callable[[int, list[Any], list[Any]], list[Any]] | None = None,
) -> list[Any]:
    """Evaluate equations one after the other, calls from within."""
    names = [*jaxpr.constvars, *jaxpr.invars]
    values = dict(zip(names, [*consts, *given], strict=True))

    def read(v: Any) -> Any:
        return v.val if isinstance(v, jex.Literal) else values[v]

    for at, equation in enumerate(jaxpr.eqns):
        operands = [read(v) for v in equation.invars]
        if equation.primitive.name in _CALLS:
            inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            if not isinstance(inner, jex.ClosedJaxpr):
                inner = jex.ClosedJaxpr(inner, ())
            out = _run(inner.jaxpr, inner.consts, operands)
        else:
            out = evaluate(jaxpr, equation, operands)
        out = tap(at, operands, list(out)) if tap else out
        values.update(zip(equation.outvars, out, strict=True))
    return [read(v) for v in jaxpr.outvars]


def evaluate(jaxpr: Any, equation: Any, operands: Sequence[Any]) -> list[Any]:
    """Evaluate one equation of a program."""
    given = zip(equation.invars, operands, strict=True)
    own = {v: x for v, x in given if isinstance(v, jex.Var)}
    single = piece(jaxpr, list(own), equation.outvars, [equation])
    return list(jex.jaxpr_as_fun(jex.ClosedJaxpr(single, ()))(*own.values()))
