"""Export a JAX classifier: a function and its parameters, Flax, Equinox or plain.

The function is traced for one sample. Each parameter leaf that enters a matrix product
or a convolution is a linear map (`refspec.exporters.jax_tracing`), whose features and
errors are found by `refspec.exporters.jax_rows`. The function itself is not changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from refspec.classes import Snapshot

try:
    import jax
    from jax import numpy as jnp

    from refspec.exporters import checking, delivery, feeding
    from refspec.exporters.jax_leaves import leaves_of
    from refspec.exporters.jax_moment import expect_logits, logits_of
    from refspec.exporters.jax_moment import hessian as hessian
    from refspec.exporters.jax_moment import moment as moment
    from refspec.exporters.jax_operations import describe
    from refspec.exporters.jax_rows import TAKES, TRACED, Traced
    from refspec.exporters.jax_tracing import Program, trace
    from refspec.exporters.reading import Layout, Reading, expect_classes
    from refspec.exporters.sections import Section, confirmed, without
except ImportError as error:
    raise ImportError(
        "the JAX exporter needs jax and rich, which are not installed; "
        "pip install 'refspec[jax]'"
    ) from error


def export(
    function: Callable[[Any, Any], Any],
    parameters: Any,
    loader: Iterable[Any],
    path: str | os.PathLike[str] | None,
    layers: Sequence[str] | None = None,
    *,
    exclude: Sequence[str] = (),
    classes: Sequence[int] | None = None,
    class_weights: Any = None,
    sample_weights: Any = None,
    ignore_index: int | None = None,
    class_names: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    recomputed: bool = False,
    progress: bool = True,
) -> Path | Snapshot:
    """Write an export of a classifier over the samples of a loader.

    Parameters
    ----------
    function : callable
        ``function(parameters, inputs)`` gives logits (batch, C) for a batch of inputs,
        or an output that holds them as ``logits``; in evaluation mode, each sample by
        itself. Of a single logit, and of tokens or pixels, see `refspec.exporters`.
    parameters : pytree
        Arrays, and whatever else the function needs. In Flax the variables (and
        ``module.apply`` is the function), in Equinox the model itself (and ``lambda
        model, x: jax.vmap(model)(x)`` is the function).
    layers, exclude : sequence of str, optional
        The linear maps, each by the name of its weights: the keys that lead to the
        leaf, joined by dots, as ``params.Dense_0.kernel`` or ``layers.0.weight``. By
        default every leaf that enters a matrix product or a convolution. What is left
        out is stated, see `refspec.coverage`: all other real leaves, of Flax's
        variables those of ``params``.
    loader, path, classes, class_weights, sample_weights, ignore_index
        See `refspec.exporters`.
    class_names, provenance, recomputed, progress
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
        forward pass; it is named), its rows are not JAX's gradient, samples are mixed,
        or the batches do not fit.
    ExportError
        If the path cannot be written.

    Notes
    -----
    A bias is a leaf added to what a map gives with nothing between, as the layers of
    all libraries do. A convolution's features are its patches, in the order of
    `kernel` as `(out, in, *window)`. A plain multilayer perceptron with activations
    known to `refspec.models` is stored with its weights and inputs. The seeds are
    computed in float64 from the logits; the network runs in the dtype of its
    parameters. Cost: two forward and C backward passes a batch, of the two that are
    checked one more each: for random r_n and c', sum_n r_n errors_n (x) features_n must
    be the gradient of sum_n r_n loss_(n,c') that JAX gives, within rounding, and the
    logits of a batch must be those of its samples alone.

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
    how = Reading(class_names, classes, class_weights, sample_weights, ignore_index)
    first, batches, total = feeding.open_loader(loader)
    names, leaves, rebuild = _leaves(parameters)

    inputs = _inputs(0, first[0], leaves)
    with feeding.answering(0, *TAKES):
        whole = jax.eval_shape(
            lambda leaves, x: logits_of(function(rebuild(leaves), x)), leaves, inputs
        )
    expect_logits(whole)
    layout = how.layout(0, whole.shape, first[1], len(inputs))

    def logits(leaves: Sequence[Any], inputs: Any) -> Any:
        z = layout.flat(logits_of(function(rebuild(leaves), inputs)), jnp)
        return how.chosen(z).reshape(len(inputs), *_several(layout), -1)

    if classes is not None:
        every = jax.eval_shape(lambda z: layout.flat(z, jnp), whole)
        expect_classes(classes, every.shape[1])
    with feeding.answering(0, *TRACED):
        found = trace(logits, leaves, inputs[0])
    program = _choose(found, names, leaves, layers, exclude)
    section = without("classes= leaves out some of its logits")
    if layout.positions:
        section = without("its inputs hold several samples each")
    elif classes is None:
        section = describe(found, names, leaves)
    traced = Traced(program, names, leaves, logits, layout.samples)
    section = _confirmed(section, traced, inputs)
    return delivery.deliver(
        _rows(traced, batches, total, section, how, layout),
        path,
        section.parameters,
        framework=("jax", jax.__version__),
        architecture=_architecture(names, leaves),
        layers=traced.names,
        operations=section.operations,
        without=section.reason,
        **_statement(program, names, leaves),
        class_names=class_names,
        provenance=provenance,
        total=total,
        recomputed=recomputed,
        progress=progress,
        how=how,
    )


def _several(layout: Layout) -> tuple[int, ...]:
    """Return the axis of an input's samples, if it holds several."""
    return (layout.samples,) if layout.samples > 1 else ()


def _statement(
    program: Program, names: Sequence[str], leaves: Sequence[Any]
) -> dict[str, Any]:
    """Return what the manifest says of the leaves that are in no layer."""
    real = [bool(jnp.issubdtype(x.dtype, jnp.floating)) for x in leaves]
    flax = [x.startswith("params.") for x in names]
    there = {m.leaf for m in program.maps} | {m.bias for m in program.maps}
    left_out = {
        name: int(x.size)
        for n, (name, x) in enumerate(zip(names, leaves, strict=True))
        if real[n] and n not in there and x.size and (flax[n] or not any(flax))
    }
    biases = {names[m.leaf]: m.bias is not None for m in program.maps}
    return {"left_out": left_out, "biases": biases}


def _leaves(
    parameters: Any,
) -> tuple[list[str], list[Any], Callable[[Sequence[Any]], Any]]:
    """Return names and arrays of a tree, and what puts arrays back into it."""
    names, arrays, rebuild = leaves_of(parameters)
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"parameters must be a tree of arrays with distinct names, got {names}; "
            "give the parameters as a dict, or rename them"
        )
    return names, list(map(jnp.asarray, arrays)), rebuild


def _inputs(step: int, given: Any, leaves: Sequence[Any]) -> Any:
    """Return a batch on the device, in the dtype of the parameters if it is real."""
    there = isinstance(given, jax.Array)
    host = given if there else feeding.as_numbers(step, given)
    feeding.expect_samples(step, host.shape)
    expected = "inputs must be numbers that JAX has"
    # an infinity is refused later
    with feeding.answering(step, expected, "convert them"), np.errstate(over="ignore"):
        inputs = jnp.asarray(host)
    if not there:
        feeding.same_numbers(step, host, inputs)
    kinds = [x.dtype for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
    real = kinds and jnp.issubdtype(inputs.dtype, jnp.floating)
    return inputs.astype(jnp.result_type(*kinds)) if real else inputs


def _choose(
    program: Program,
    names: list[str],
    leaves: Sequence[Any],
    layers: Sequence[str] | None,
    exclude: Sequence[str],
) -> Program:
    """Return the program with the maps to export; refuse those that cannot be."""
    maps = {names[m.leaf]: m for m in program.maps}
    every = [*maps, *(names[n] for n in program.problems if names[n] not in maps)]
    what = " (leaves that enter a matrix product or a convolution)"
    chosen = delivery.choose_layers(layers, every, names, what, exclude)
    for name in sorted(chosen, key=lambda x: names.index(x) not in program.problems):
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
        f"{why}; leave it out by exclude=[{name!r}], or take rows by differentiation: "
        "`moment`, beside `export`"
    )


def _architecture(names: list[str], leaves: Sequence[Any]) -> str:
    return ", ".join(
        f"{name} {'x'.join(map(str, x.shape))}"
        for name, x in zip(names, leaves, strict=True)
    )


def _confirmed(section: Section, traced: Traced, inputs: Any) -> Section:
    """Return the section if it gives the function's logits of some samples."""
    if section.operations is None:
        return section
    z, _ = traced.forward(0, inputs[:2])
    return confirmed(section, feeding.host(inputs[:2]), np.asarray(z))


def _rows(
    traced: Traced,
    batches: Iterable[Any],
    total: int | None,
    section: Section,
    how: Reading,
    layout: Layout,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of the schema batch by batch."""
    sample = traced.program.closed.jaxpr.invars[-1].aval
    checked = checking.checked_steps(total, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for step, (given, labels) in enumerate(batches):
        inputs = _inputs(step, given, traced.leaves)
        if inputs.shape[1:] != sample.shape or inputs.dtype != sample.dtype:
            raise ValueError(
                f"samples must have the shape {sample.shape} of the first one, and "
                f"its dtype {sample.dtype}, got {inputs.shape[1:]} and "
                f"{inputs.dtype} in batch {step}; pad, resize or convert the inputs"
            )
        z, features = traced.forward(step, inputs)
        n = len(inputs)
        flat = np.asarray(z).reshape(n * layout.samples, -1)
        made = how.outputs(step, flat, labels, n, layout)
        checking.expect_no_softmax(step, made["logits"])
        seeds = delivery.all_seeds(made["logits"])
        pairs = traced.pairs(step, inputs, features, seeds)
        if step in checked:
            traced.check(step, inputs, z, seeds, pairs, rng)
        stored = None
        if section.operations is not None:
            stored = section.arranged(feeding.host(inputs))
        yield delivery.row(stored, made, pairs)
