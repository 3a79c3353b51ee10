"""Export a JAX classifier: a function and its parameters, Flax, Equinox or plain.

The function is traced for one sample. Each parameter leaf that enters a matrix product
or a convolution is a linear map (`refspec.exporters.jax_tracing`); something zero is
added to what comes out of it, and the derivative by that, one vector-Jacobian product
for each label, are the errors. The function itself is not changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from refspec.classes import Snapshot
from refspec.export.errors import shown

try:
    import jax
    from jax import numpy as jnp

    from refspec.exporters import batches as shared
    from refspec.exporters.jax_moment import hessian as hessian
    from refspec.exporters.jax_moment import moment as moment
    from refspec.exporters.jax_sequential import sequential_operations
    from refspec.exporters.jax_tracing import Program, arrange, run, trace
except ImportError as error:
    raise ImportError(
        "the JAX exporter needs jax and rich, which are not installed; "
        "pip install 'refspec[jax]'"
    ) from error

_TAKES = (
    "function must take (parameters, inputs)",
    "compare the shapes and dtypes of inputs and parameters",
)
_TRACED = (
    "function must be one that JAX traces and differentiates",
    "compute with jax.numpy, without side effects",
)


def export(
    function: Callable[[Any, Any], Any],
    parameters: Any,
    loader: Iterable[tuple[Any, Any]],
    path: str | os.PathLike[str] | None,
    layers: Sequence[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Path | Snapshot:
    """Write an export of a classifier over the samples of a loader.

    Parameters
    ----------
    function : callable
        ``function(parameters, inputs)`` gives logits (batch, C) for a batch of inputs;
        in evaluation mode, each sample by itself.
    parameters : pytree
        Arrays, and whatever else the function needs. In Flax the variables (and
        ``module.apply`` is the function), in Equinox the model itself (and ``lambda
        model, x: jax.vmap(model)(x)`` is the function).
    layers : sequence of str, optional
        The linear maps, each by the name of its weights: the keys that lead to the
        leaf, joined by dots, as ``params.Dense_0.kernel`` or ``layers.0.weight``. By
        default every leaf that enters a matrix product or a convolution.
    loader, path, class_names, provenance, progress
        See `refspec.exporters`.

    Returns
    -------
    Path or Snapshot
        The path, or the Snapshot if `path` is None.

    Raises
    ------
    TypeError
        If function, loader or an option is of another type.
    ValueError
        If a leaf cannot be exported (used twice, in groups, in a loop, no part of the
        forward pass; it is named), samples are mixed, or the batches do not fit.
    ExportError
        If the path cannot be written.

    Notes
    -----
    A bias is a leaf added to what a map gives with nothing between, as the layers of
    all libraries do. A convolution's features are its patches, in the order of
    ``kernel`` as (out, in, *window). A plain multilayer perceptron with activations
    known to `refspec.models` is stored with its weights and inputs. The seeds are
    computed in float64 from the logits; the network runs in the dtype of its
    parameters. Cost: two forward and C backward passes a batch.

    Examples
    --------
    >>> W = {"first": jnp.ones((3, 4)), "b": jnp.ones(4), "last": jnp.ones((4, 2))}
    >>> def logits(W, x):
    ...     return jnp.tanh(x @ W["first"] + W["b"]) @ W["last"]
    >>> batch = np.eye(5, 3), [0, 1, 1, 0, 1]
    >>> made = export(logits, W, [batch], None)
    >>> [(x.name, x.features.shape, x.errors.shape) for x in made.layers]
    [('first', (5, 1, 4), (5, 2, 1, 4)), ('last', (5, 1, 4), (5, 2, 1, 2))]
    """
    if not callable(function):
        raise TypeError(
            "function must be callable as function(parameters, inputs), got "
            f"{type(function).__name__}; in Flax give module.apply, in Equinox a lambda"
        )
    first, batches, total = shared.open_loader(loader)
    names, leaves, rebuild = _leaves(parameters)

    def logits(leaves: Sequence[Any], inputs: Any) -> Any:
        return function(rebuild(leaves), inputs)

    inputs = _inputs(0, first[0], leaves)
    with shared.answering(0, *_TAKES):
        made = jax.eval_shape(logits, leaves, inputs)
    if getattr(made, "ndim", 0) != 2 or made.shape[0] != len(inputs):
        shared.outputs(0, made, [], len(inputs))  # says what is wrong
    with shared.answering(0, *_TRACED):
        alone = _is_samplewise(logits, leaves, inputs, made)
        found = trace(logits, leaves, inputs[0])
    if not alone:
        raise ValueError(
            "function must treat each sample by itself, got logits of sample 0 that "
            "depend on other samples; use running averages, as in evaluation mode"
        )
    program = _choose(found, names, leaves, layers)
    described = sequential_operations(found, names) if inputs.ndim == 2 else None
    operations, orders = described or (None, {})
    stored = dict(zip(names, leaves, strict=True))
    return shared.deliver(
        _rows(program, leaves, batches, operations is not None),
        path,
        {x: shared.host(stored[x]).ravel()[order] for x, order in orders.items()},
        framework=("jax", jax.__version__),
        architecture=_architecture(names, leaves),
        layers=[names[m.leaf] for m in program.maps],
        operations=operations,
        class_names=class_names,
        provenance=provenance,
        total=total,
        progress=progress,
    )


def _leaves(
    parameters: Any,
) -> tuple[list[str], list[Any], Callable[[Sequence[Any]], Any]]:
    """Return names and arrays of a tree, and what puts arrays back into it."""
    try:
        paths, tree = jax.tree_util.tree_flatten_with_path(parameters)
    except (TypeError, ValueError) as error:  # keys that cannot be sorted
        raise ValueError(
            f"parameters must be a tree of arrays that JAX can flatten, got "
            f"{shown(str(error))}; give the keys of each dict one type"
        ) from error
    whole = [x for _, x in paths]
    at = [k for k, x in enumerate(whole) if _is_leaf(x)]
    names = [jax.tree_util.keystr(paths[k][0], simple=True, separator=".") for k in at]
    names = [x.replace("/", ".") or "parameters" for x in names]

    def rebuild(leaves: Sequence[Any]) -> Any:
        full = list(whole)
        for k, x in zip(at, leaves, strict=True):
            full[k] = x
        return jax.tree_util.tree_unflatten(tree, full)

    if not at or len(set(names)) < len(names):
        raise ValueError(
            f"parameters must be a tree of arrays with distinct names, got {names}; "
            "give the parameters as a dict, or rename them"
        )
    return names, [jnp.asarray(whole[k]) for k in at], rebuild


def _is_leaf(x: Any) -> bool:
    """Whether an entry of the tree is an array of numbers."""
    there = isinstance(x, jax.Array | np.ndarray)
    return there and bool(jnp.issubdtype(x.dtype, np.number) or x.dtype == bool)


def _inputs(step: int, given: Any, leaves: Sequence[Any]) -> Any:
    """Return a batch on the device, in the dtype of the parameters if it is real."""
    there = isinstance(given, jax.Array)
    host = given if there else shared.as_numbers(step, given)
    shared.expect_samples(step, host.shape)
    expected = "inputs must be numbers that JAX has"
    # an infinity is refused later
    with shared.answering(step, expected, "convert them"), np.errstate(over="ignore"):
        inputs = jnp.asarray(host)
    if not there:
        shared.same_numbers(step, host, inputs)
    kinds = [x.dtype for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
    real = kinds and jnp.issubdtype(inputs.dtype, jnp.floating)
    return inputs.astype(jnp.result_type(*kinds)) if real else inputs


def _is_samplewise(
    logits: Callable[..., Any], leaves: Any, inputs: Any, made: Any
) -> bool:
    """Whether the logits of the first sample feel no other sample."""
    if len(inputs) < 2 or not jnp.issubdtype(inputs.dtype, jnp.floating):
        return True
    seed = jnp.arange(1, made.shape[1] + 1, dtype=made.dtype)
    first = jax.jit(lambda leaves, x: seed @ logits(leaves, x)[0])
    return not np.any(np.nan_to_num(jax.grad(first, 1)(leaves, inputs)[1:]))


def _choose(
    program: Program,
    names: list[str],
    leaves: Sequence[Any],
    layers: Sequence[str] | None,
) -> Program:
    """Return the program with the maps to export; refuse those that cannot be."""
    maps = {names[m.leaf]: m for m in program.maps}
    if layers is None and program.problems:
        n, why = next(iter(program.problems.items()))
        raise _refusal(names[n], why)
    what = " (leaves that enter a matrix product or a convolution)"
    chosen = shared.choose_layers(layers, list(maps), names, what)
    for name in chosen:
        n = names.index(name)
        if n in program.problems:
            raise _refusal(name, program.problems[n])
        if name not in maps:
            raise _refusal(name, "enters no matrix product or convolution")
        if leaves[n].dtype not in (np.float32, np.float64):
            raise _refusal(name, f"is {leaves[n].dtype}; convert it to float32")
    # a map is run where it stands, exported in the order asked for
    return replace(program, maps=tuple(maps[x] for x in chosen))


def _refusal(name: str, why: str) -> ValueError:
    return ValueError(
        "an export must hold weights that enter one matrix product or ungrouped "
        f"convolution in a forward pass, got one that differs: parameter {name!r} "
        f"{why}; name the others with layers=[...]"
    )


def _architecture(names: list[str], leaves: Sequence[Any]) -> str:
    return ", ".join(
        f"{name} {'x'.join(map(str, x.shape))}"
        for name, x in zip(names, leaves, strict=True)
    )


def _rows(
    program: Program,
    leaves: Sequence[Any],
    batches: Iterable[tuple[Any, Any]],
    with_inputs: bool,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of the schema batch by batch."""

    def forward(leaves: Any, x: Any) -> Any:
        return run(program, leaves, x, None)

    def backward(leaves: Any, x: Any, seeds: Any) -> Any:
        outs = [program.closed.eqns[m.at].outvars[0].aval for m in program.maps]
        zeros = [jnp.zeros(v.shape, v.dtype) for v in outs]
        _, pull, _ = jax.vjp(lambda t: run(program, leaves, x, t), zeros, has_aux=True)
        (errors,) = jax.vmap(pull)(seeds)
        return [
            jax.vmap(lambda g, m=m: arrange(program, m, g))(e)
            for m, e in zip(program.maps, errors, strict=True)
        ]

    forward = jax.jit(jax.vmap(forward, (None, 0)))
    backward = jax.jit(jax.vmap(backward, (None, 0, 0)))
    sample = program.closed.jaxpr.invars[-1].aval
    for step, (given, labels) in enumerate(batches):
        inputs = _inputs(step, given, leaves)
        if inputs.shape[1:] != sample.shape or inputs.dtype != sample.dtype:
            raise ValueError(
                f"samples must have the shape {sample.shape} of the first one, and "
                f"its dtype {sample.dtype}, got {inputs.shape[1:]} and {inputs.dtype} "
                f"in batch {step}; pad, resize or convert the inputs"
            )
        with shared.answering(step, *_TAKES):
            z, features = forward(leaves, inputs)
        made = shared.outputs(step, np.asarray(z), labels, len(inputs))
        shared.expect_no_softmax(step, made["logits"])
        seeds = jnp.asarray(shared.all_seeds(made["logits"]), z.dtype)
        with shared.answering(step, *_TRACED):
            errors = backward(leaves, inputs, seeds)
        pairs = []
        for m, h, e in zip(
            program.maps, map(shared.host, features), errors, strict=True
        ):
            h = h if m.bias is None else shared.pad(h)
            pairs.append((h, shared.host(e)))
        yield shared.row(shared.host(inputs) if with_inputs else None, made, pairs)
