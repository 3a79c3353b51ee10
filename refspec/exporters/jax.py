"""Export a JAX classifier: a function and its parameters, Flax, Equinox or plain.

The function is traced for one sample. Each parameter leaf that enters a matrix product
or a convolution is a linear map (`refspec.exporters.jax_tracing`); something zero is
added to what comes out of it, and the derivative by that, one vector-Jacobian product
for each label, are the errors. The function itself is not changed. That rows are its
gradient is not taken for granted: they are compared with what JAX gives for a batch.
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
    from refspec.exporters.jax_moment import expect_logits, leaves_of, logits_of
    from refspec.exporters.jax_moment import hessian as hessian
    from refspec.exporters.jax_moment import moment as moment
    from refspec.exporters.jax_operations import describe
    from refspec.exporters.jax_tracing import Program, arrange, run, trace
    from refspec.exporters.reading import Layout, Reading, expect_classes
    from refspec.exporters.sections import Section, confirmed, without
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
    with feeding.answering(0, *_TAKES):
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
    with feeding.answering(0, *_TRACED):
        found = trace(logits, leaves, inputs[0])
    program = _choose(found, names, leaves, layers, exclude)
    section = without("classes= leaves out some of its logits")
    if layout.positions:
        section = without("its inputs hold several samples each")
    elif classes is None:
        section = describe(found, names, leaves)
    rows = _Rows(program, names, leaves, logits, how, layout)
    section = rows.confirmed(section, inputs)
    return delivery.deliver(
        rows.of(batches, total, section),
        path,
        section.parameters,
        framework=("jax", jax.__version__),
        architecture=_architecture(names, leaves),
        layers=rows.names,
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


class _Rows:
    """A traced function at work on batches."""

    def __init__(
        self,
        program: Program,
        names: list[str],
        leaves: Sequence[Any],
        logits: Callable[[Sequence[Any], Any], Any],
        how: Reading,
        layout: Layout,
    ) -> None:
        self.program, self.leaves = program, leaves
        self.names = [names[m.leaf] for m in program.maps]
        self.how, self.layout = how, layout
        self.forward = jax.jit(jax.vmap(self._forward, (None, 0)))
        self.backward = jax.jit(jax.vmap(self._backward, (None, 0, 0)))
        self.together = jax.jit(logits)
        own = {n for m in program.maps for n in (m.leaf, m.bias) if n is not None}

        def gradient(leaves: Any, x: Any, seeds: Any) -> Any:
            def of(chosen: Any) -> Any:
                return logits([chosen.get(n, y) for n, y in enumerate(leaves)], x)

            return jax.vjp(of, {n: leaves[n] for n in sorted(own)})[1](seeds)[0]

        self.gradient = jax.jit(gradient)

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

    def confirmed(self, section: Section, inputs: Any) -> Section:
        """Return the section if it gives the function's logits of some samples."""
        if section.operations is None:
            return section
        with feeding.answering(0, *_TAKES):
            z, _ = self.forward(self.leaves, inputs[:2])
        return confirmed(section, feeding.host(inputs[:2]), np.asarray(z))

    def of(
        self, batches: Iterable[Any], total: int | None, section: Section
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arrays of the schema batch by batch."""
        sample = self.program.closed.jaxpr.invars[-1].aval
        checked = checking.checked_steps(total, np.random.default_rng(0))
        rng = np.random.default_rng(1)
        for step, (given, labels) in enumerate(batches):
            inputs = _inputs(step, given, self.leaves)
            if inputs.shape[1:] != sample.shape or inputs.dtype != sample.dtype:
                raise ValueError(
                    f"samples must have the shape {sample.shape} of the first one, and "
                    f"its dtype {sample.dtype}, got {inputs.shape[1:]} and "
                    f"{inputs.dtype} in batch {step}; pad, resize or convert the inputs"
                )
            with feeding.answering(step, *_TAKES):
                z, features = self.forward(self.leaves, inputs)
            n, S = len(inputs), self.layout.samples
            flat = np.asarray(z).reshape(n * S, -1)
            made = self.how.outputs(step, flat, labels, n, self.layout)
            checking.expect_no_softmax(step, made["logits"])
            seeds = delivery.all_seeds(made["logits"])
            with feeding.answering(step, *_TRACED):
                each = jnp.asarray(_apart(seeds, S), z.dtype)
                errors = self.backward(self.leaves, inputs, each)
            pairs = []
            for m, h, e in zip(
                self.program.maps, map(feeding.host, features), errors, strict=True
            ):
                h = h if m.bias is None else delivery.pad(h)
                e = feeding.host(e).reshape(n * S, -1, *e.shape[2:])
                pairs.append((np.repeat(h, S, axis=0) if S > 1 else h, e))
            if step in checked:
                self._check(step, inputs, z, seeds, pairs, rng)
            stored = None
            if section.operations is not None:
                stored = section.arranged(feeding.host(inputs))
            yield delivery.row(stored, made, pairs)

    def _check(
        self,
        step: int,
        inputs: Any,
        z: Any,
        seeds: np.ndarray,
        pairs: Sequence[tuple[np.ndarray, np.ndarray]],
        rng: np.random.Generator,
    ) -> None:
        """Compare logits and rows with what the function gives of the whole batch."""
        path, unit = self._path(), _unit(z)
        with feeding.answering(step, *_TRACED):
            together = np.asarray(self.together(self.leaves, inputs))
        checking.expect_alone(step, np.asarray(z), together, path, unit)
        drawn = checking.probe(len(seeds), seeds.shape[1], rng)
        seed = (seeds[:, drawn.label] * drawn.weights[:, None]).reshape(z.shape)
        with feeding.answering(step, *_TRACED):
            found = self.gradient(self.leaves, inputs, jnp.asarray(seed, z.dtype))
        for m, name, rows in zip(self.program.maps, self.names, pairs, strict=True):
            columns = [feeding.host(found[m.leaf]).ravel()[m.order]]
            if m.bias is not None:
                columns.append(feeding.host(found[m.bias]).reshape(-1, 1))
            gradient = np.concatenate(columns, axis=1)
            checking.expect_gradient(step, name, rows, drawn, gradient, path, unit)

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
