"""The Fisher information and the Hessian of any JAX classifier, by derivatives.

No layer need be understood: `jax.jvp` gives J V, `jax.vjp` gives J'S, in any choice of
leaves of its parameters (`refspec.differentiated`); the derivative of the loss's
gradient gives products with its Hessian (`refspec.implicit`). Where rows are too many
to be formed, those of leaves of linear maps are factors (`jax_factors`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from refspec.backend import Array
from refspec.differentiated import Jacobian, NetworkMoment, fits
from refspec.differentiated import moment as moment_of_jacobian
from refspec.export.errors import shown
from refspec.exporters import feeding
from refspec.exporters.gathering import Piece, Samples, gathered_in_both
from refspec.exporters.jax_factors import factors
from refspec.exporters.jax_leaves import Choice, Leaves
from refspec.exporters.reading import Reading, expect_smoothing
from refspec.factors import Factor
from refspec.implicit import HessianOperator, operator

_TAKES = (
    "function must take (parameters, inputs)",
    "compare shapes and dtypes; one with float32 constants takes dtype=numpy.float32",
)


def moment(
    function: Callable[[Any, Any], Any],
    parameters: Any,
    loader: Iterable[Any],
    chosen: Choice = None,
    *,
    dtype: Any = np.float64,
    classes: Sequence[int] | None = None,
    class_weights: Any = None,
    sample_weights: Any = None,
    ignore_index: int | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> NetworkMoment:
    """Return the Fisher information of any classifier, in any of its parameters.

    Parameters
    ----------
    function, parameters, loader
        See `export`. Inputs may be any tree of arrays, samples on their first axis.
    chosen : sequence of str or callable, optional
        Names of leaves (keys joined by dots), or of what holds some, as
        ``params.Dense_0``; or a predicate of name and leaf. By default all real leaves,
        of Flax's variables those of ``params``.
    dtype : numpy.float64 or numpy.float32
        The precision in which the function is run and differentiated; float64 is
        switched on for that, whatever JAX is set to.
    classes, class_weights, sample_weights, ignore_index, class_names, seed
        See `refspec.exporters`.

    Returns
    -------
    NetworkMoment
        Its ``coverage`` says which parameters it is of, ``blocks`` their names. Arrays
        are NumPy's.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If a name is unknown, samples are mixed, the function cannot be differentiated,
        or the batches do not fit.

    Notes
    -----
    Theory: theory/curvature.md#C8, #C11.

    J V by forward mode, or where a function has its own reverse mode only, by
    differentiating that; as many samples at a time as the largest batch of the loader
    has. Rows are formed where they fit in 256 MiB: C reverse products a sample. Where
    they do not, those of leaves that an export would take (that enter one matrix
    product or convolution, and what is added after it) are factors, gathered and
    checked as there, if these fit in a third of the memory and the rows of all other
    leaves in 256 MiB; they are compared with four products of forward mode. Where
    factors do not fit together, they are gathered map by map for the Gram matrix XX',
    if that is what is asked for, and it is compared with four products with X and X'.
    Else rows are known by products alone. Columns are the entries of leaves, raveled
    as `jax.flatten_util.ravel_pytree` does, however rows are known.

    Examples
    --------
    >>> W = {"first": jnp.ones((3, 4)), "scale": jnp.ones(4), "last": jnp.ones((4, 2))}
    >>> def logits(W, x):
    ...     return (jnp.tanh(x @ W["first"]) * W["scale"]) @ W["last"]
    >>> batch = np.eye(5, 3), [0, 1, 1, 0, 1]
    >>> print(moment(logits, W, [batch], ["scale"]).coverage)
    covers 4 of 24 parameters (1 of 3 modules); left out: first 12, last 8
    """
    how = Reading(class_names, classes, class_weights, sample_weights, ignore_index)
    pair, samples, found = _opened(function, parameters, loader, chosen, dtype, how)
    one, *other = (Derivative(x, samples) for x in pair)
    seen: dict[str, Factor] = {}
    places: dict[str, np.ndarray] = {}
    source = rest = None
    if not fits(one.shape):
        seen, places, source = factors(pair[0], samples)
        there = {*seen} if source is None else source.parameters
        left = [name for name, _ in found["blocks"] if name not in there]
        if there and left:
            rest = Derivative(pair[0].of(left), samples)
    return moment_of_jacobian(
        one,
        samples.logits,
        samples.labels,
        sample_weights=samples.weights,
        other=other[0] if other else None,
        factors=seen,
        places=places,
        source=source,
        rest=rest,
        seed=seed,
        **found,
    )


def hessian(
    function: Callable[[Any, Any], Any],
    parameters: Any,
    loader: Iterable[Any],
    chosen: Choice = None,
    *,
    dtype: Any = np.float64,
    classes: Sequence[int] | None = None,
    class_weights: Any = None,
    sample_weights: Any = None,
    ignore_index: int | None = None,
    class_names: Sequence[str] | None = None,
    label_smoothing: float = 0.0,
    seed: int = 0,
) -> HessianOperator:
    """Return the Hessian of the mean cross-entropy of any classifier, by its products.

    Parameters
    ----------
    function, parameters, loader, chosen, dtype
        See `moment`.
    classes, class_weights, sample_weights, ignore_index, class_names
        See `refspec.exporters`.
    label_smoothing, seed
        See `refspec.exporters`.

    Returns
    -------
    HessianOperator
        ``ends(k)`` has the largest and the smallest eigenvalues, ``matrix()`` is dense;
        `refspec.attribution.attribute_hessian` attributes it through `moment` of the
        same parameters.

    Raises
    ------
    TypeError, ValueError
        See `moment`; the function must be differentiable twice.

    Notes
    -----
    Theory: theory/hessian.md#H11. The exact Hessian, not the Gauss-Newton matrix:
    forward over reverse mode.

    Examples
    --------
    >>> W = {"first": jnp.ones((3, 4)), "last": jnp.ones((4, 2))}
    >>> def logits(W, x):
    ...     return jax.nn.softplus(x @ W["first"]) @ W["last"]
    >>> H = hessian(logits, W, [(np.eye(5, 3), [0, 1, 1, 0, 1])])
    >>> H.matrix().shape
    (20, 20)
    """
    expect_smoothing(label_smoothing)
    how = Reading(class_names, classes, class_weights, sample_weights, ignore_index)
    pair, samples, found = _opened(function, parameters, loader, chosen, dtype, how)
    one, *other = (
        (SecondDerivative(x, samples, label_smoothing), x.like) for x in pair
    )
    return operator(
        *one,
        pair[0].size,
        other=other[0] if other else None,
        seed=seed,
        **found,
    )


class Passes:
    """A function of some leaves in one precision, at samples sorted by class."""

    def __init__(
        self, function: Callable[[Any, Any], Any], leaves: Leaves, dtype: Any
    ) -> None:
        self._function, self.leaves, self.dtype = function, leaves, np.dtype(dtype)
        self.like = np.zeros(1, self.dtype)
        with self.running():
            self.every = [self._cast(x) for x in leaves.arrays]
            self.chosen = [self.every[k] for k in leaves.at]
        self.sizes = [int(x.size) for x in self.chosen]
        self.size = sum(self.sizes)
        self._run = jax.jit(self.__call__)

    def _cast(self, x: Any) -> Any:
        """Copy an array to the device, a real one in the precision of the passes."""
        if jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.array(x, self.dtype)
        return jnp.asarray(x)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Switch float64 on where it is asked for."""
        wide = getattr(jax, "enable_x64", None)
        if wide is None:  # older versions of JAX
            wide = jax.experimental.enable_x64
        with wide(True) if self.dtype == np.float64 else nullcontext():
            yield

    def __call__(self, chosen: Sequence[Any], inputs: Any) -> Any:
        """Return what the function gives for logits."""
        every = list(self.every)
        for k, x in zip(self.leaves.at, chosen, strict=True):
            every[k] = x
        return self.whole(every, inputs)

    def whole(self, every: Sequence[Any], inputs: Any) -> Any:
        """Return the same as a function of all leaves, chosen or not."""
        return logits_of(self._function(self.leaves.rebuild(every), inputs))

    def of(self, names: Sequence[str]) -> Passes:
        """Return passes of other leaves, by name."""
        return Passes(self._function, self.leaves.of(names), self.dtype)

    def read(self, step: int, given: Any) -> tuple[Any, int]:
        """Return a batch as the function takes it, and how many inputs that is."""
        inputs = jax.tree.map(partial(_array, step), given, is_leaf=_is_list)
        return inputs, feeding.count(step, jax.tree.leaves(inputs))

    def logits(self, step: int, inputs: Any) -> np.ndarray:
        """Return what the function gives for logits, on the host."""
        with self.running(), feeding.answering(step, *_TAKES):
            z = self._run(self.chosen, self.placed(inputs))
        expect_logits(z)
        return np.asarray(z)

    def part(self, inputs: Any, index: Any) -> Any:
        """Return some inputs, by their numbers or a slice."""
        return jax.tree.map(lambda x: x[index], inputs)

    def joined(self, parts: Sequence[Any]) -> Any:
        """Return the inputs of all batches as those of one."""
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)

    def placed(self, inputs: Any) -> Any:
        """Return inputs on the device, real ones in the precision of the passes."""
        return jax.tree.map(self._cast, inputs)

    def split(self, vector: Any) -> list[Any]:
        """Return a vector (P,) as leaves."""
        parts = np.split(np.asarray(vector, self.dtype), np.cumsum(self.sizes)[:-1])
        pairs = zip(parts, self.chosen, strict=True)
        return [jnp.asarray(x.reshape(y.shape)) for x, y in pairs]

    def flat(self, parts: Sequence[Any]) -> np.ndarray:
        """Return leaves as a vector (P,) on the host."""
        return np.concatenate([np.asarray(x).reshape(-1) for x in parts])

    @contextmanager
    def differentiating(self) -> Iterator[None]:
        """Whatever JAX says of a function becomes a sentence."""
        try:
            with self.running():
                yield
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(
                f"function must be differentiable by the parameters in {self.dtype}, "
                f"got {type(error).__name__} {shown(' '.join(str(error).split()))}; "
                "compute with jax.numpy, without loops of unknown length"
            ) from error


def logits_of(out: Any) -> Any:
    """Return the logits that an output holds; whatever else as it is."""
    if isinstance(out, Mapping):
        out = out.get("logits", out)
    return getattr(out, "logits", out)


def expect_logits(z: Any) -> None:
    """Refuse what is no array."""
    if not hasattr(z, "ndim"):
        raise ValueError(
            "function must give an array of logits (batch, C), or an output that holds "
            f"it as `logits`, got {type(z)}; wrap it so that it does"
        )


class _AtSamples:
    """A function at samples that are sorted by class, as many inputs at a time."""

    def __init__(self, passes: Passes, samples: Samples) -> None:
        self._passes, self._samples = passes, samples

    def _pieces(self, i: int, j: int) -> Iterator[tuple[Piece, Any]]:
        """Yield pieces as large as the loader's largest batch, with their inputs."""
        for piece in self._samples.pieces(i, j, self._samples.largest):
            yield piece, self._placed(piece.inputs)

    def _placed(self, numbers: np.ndarray) -> Any:
        """Return inputs by their numbers, on the device."""
        of = self._passes
        return of.placed(of.part(self._samples.inputs, numbers))

    def _logits(self, chosen: Any, inputs: Any) -> Any:
        """Return logits (m S, C) of m inputs."""
        return self._samples.flat(self._passes(chosen, inputs), jnp)


class Derivative(_AtSamples, Jacobian):
    """J of a function at samples that are sorted by class."""

    def __init__(self, passes: Passes, samples: Samples) -> None:
        super().__init__(passes, samples)
        self._ways = [jax.jit(self._forward), jax.jit(self._twice)]
        self._pull = jax.jit(self._reverse)
        self._rows = jax.jit(self._each)

    @property
    def shape(self) -> tuple[int, int, int]:
        """N samples, C logits, P parameters."""
        N, C = self._samples.logits.shape
        return N, C, self._passes.size

    @property
    def like(self) -> Array:
        """NumPy's."""
        return self._passes.like

    def dot(self, V: Array, i: int, j: int) -> Array:
        """Return J V of samples i to j, shape (j - i, C, m)."""
        of = self._passes
        image = np.zeros((j - i, self.shape[1], V.shape[1]), of.dtype)
        with of.differentiating():
            columns = [of.split(v) for v in V.T]
            for piece, inputs in self._pieces(i, j):
                for k, v in enumerate(columns):
                    made = np.asarray(self._pushed(inputs, v))
                    image[piece.samples, :, k] = made[piece.rows]
        return image

    def cross(self, S: Array, i: int, j: int) -> Array:
        """Return sum_i J_i'S_i, shape (P, m)."""
        of, C = self._passes, self.shape[1]
        total = np.zeros((S.shape[2], of.size), of.dtype)
        with of.differentiating():
            for piece, inputs in self._pieces(i, j):
                each = np.zeros((len(piece.inputs) * self._samples.S, C), of.dtype)
                for k, row in enumerate(total):
                    each[piece.rows] = S[piece.samples, :, k]
                    row += of.flat(self._pull(of.chosen, inputs, jnp.asarray(each)))
        return total.T

    def explicit(self, i: int, j: int) -> Array:
        """Return J_i of samples i to j, (j - i, C, P), each by itself."""
        of, parts, step = self._passes, [], self._samples.largest
        one = np.eye(self._samples.S, dtype=of.dtype)
        with of.differentiating():
            for a in range(i, j, step):
                numbers, which = self._samples.at(a, min(a + step, j))
                given = self._placed(numbers), jnp.asarray(one[which])
                parts.append(np.asarray(self._rows(of.chosen, *given)))
        return np.concatenate(parts)

    def _pushed(self, inputs: Any, v: Sequence[Any]) -> Any:
        """Return J v by the first way that there is."""
        given = self._passes.chosen, inputs, v
        while len(self._ways) > 1:
            try:
                return self._ways[0](*given)
            except (TypeError, NotImplementedError, ValueError):
                self._ways.pop(0)  # a reverse mode of its own, and no other
        return self._ways[0](*given)

    def _forward(self, chosen: Any, inputs: Any, v: Any) -> Any:
        return jax.jvp(lambda x: self._logits(x, inputs), (chosen,), (v,))[1]

    def _twice(self, chosen: Any, inputs: Any, v: Any) -> Any:
        """Return J v: J'u is linear in u, its transpose is J."""
        z, pull = jax.vjp(lambda x: self._logits(x, inputs), chosen)
        _, push = jax.vjp(lambda u: pull(u)[0], jnp.zeros_like(z))
        return push(v)[0]

    def _reverse(self, chosen: Any, inputs: Any, seed: Any) -> Any:
        return jax.vjp(lambda x: self._logits(x, inputs), chosen)[1](seed)[0]

    def _each(self, chosen: Any, inputs: Any, which: Any) -> Any:
        """Return J of some samples, each by itself, (n, C, P)."""

        def rows(sample: Any, own: Any) -> Any:
            alone = jax.tree.map(lambda x: x[None], sample)

            def logits(x: Any) -> Any:
                return jnp.sum(own[:, None] * self._logits(x, alone), axis=0)

            z, pull = jax.vjp(logits, chosen)
            (parts,) = jax.vmap(pull)(jnp.eye(len(z), dtype=z.dtype))
            return jnp.concatenate([x.reshape(len(z), -1) for x in parts], axis=1)

        return jax.vmap(rows)(inputs, which)


class SecondDerivative(_AtSamples):
    """The Hessian of the cross-entropy, by its products: forward over reverse mode."""

    def __init__(self, passes: Passes, samples: Samples, smoothing: float) -> None:
        super().__init__(passes, samples)
        self._smoothing = smoothing
        self._product = jax.jit(self._along)

    def __call__(self, V: Array) -> Array:
        """Return H V, shape (P, m)."""
        of, known = self._passes, self._samples
        total = np.zeros((V.shape[1], of.size), of.dtype)
        with of.differentiating():
            columns = [of.split(v) for v in V.T]
            for piece, inputs in self._pieces(0, len(known.labels)):
                m = len(piece.inputs) * known.S
                s, labels = np.zeros(m, of.dtype), np.zeros(m, np.int64)
                s[piece.rows] = known.weights[piece.samples]
                labels[piece.rows] = known.labels[piece.samples]
                given = inputs, jnp.asarray(labels), jnp.asarray(s)
                for row, v in zip(total, columns, strict=True):
                    row += of.flat(self._product(of.chosen, v, *given))
        return total.T

    def _along(self, chosen: Any, v: Any, *given: Any) -> Any:
        gradient = jax.grad(self._loss)
        return jax.jvp(lambda x: gradient(x, *given), (chosen,), (v,))[1]

    def _loss(self, chosen: Any, inputs: Any, labels: Any, s: Any) -> Any:
        z = self._logits(chosen, inputs)
        # by differences from the largest logit p - e_c, the derivative, keeps its
        # digits where the sample is fitted
        top = jnp.argmax(z, 1, keepdims=True)
        gaps = z - jnp.take_along_axis(z, top, 1)
        others = jnp.where(jnp.arange(z.shape[1]) == top, 0, jnp.exp(gaps))
        own = jnp.take_along_axis(gaps, labels[:, None], 1)[:, 0]
        own = (1 - self._smoothing) * own + self._smoothing * jnp.mean(gaps, 1)
        return jnp.sum(s * (jnp.log1p(jnp.sum(others, 1)) - own))


def _opened(
    function: Callable[[Any, Any], Any],
    parameters: Any,
    loader: Iterable[Any],
    chosen: Choice,
    dtype: Any,
    how: Reading,
) -> tuple[list[Any], Samples, dict[str, Any]]:
    """Return passes in the precision asked for and, where it runs, in the other one.

    With the samples, and which parameters are chosen.
    """
    if not callable(function):
        raise TypeError(
            "function must be callable as function(parameters, inputs), got "
            f"{type(function).__name__}; in Flax give module.apply, in Equinox a lambda"
        )
    if dtype not in (np.float32, np.float64):
        raise ValueError(
            f"dtype must be numpy.float32 or numpy.float64, got {shown(dtype, 60)}; "
            "use one of these"
        )
    leaves = Leaves(parameters, chosen)
    wide, narrow = (Passes(function, leaves, x) for x in (np.float64, np.float32))
    single = np.dtype(dtype) == np.float32
    pair, samples = gathered_in_both(wide, narrow, loader, how, single=single)
    found = {
        "blocks": leaves.sizes(chosen=True),
        "left_out": leaves.sizes(chosen=False),
    }
    return pair, samples, found


def _is_list(x: Any) -> bool:
    """Whether an entry of a tree is numbers in lists, and no tree of arrays."""
    return isinstance(x, list) and not any(hasattr(y, "shape") for y in x)


def _array(step: int, x: Any) -> np.ndarray:
    if not isinstance(x, jax.Array):
        return feeding.as_numbers(step, x)
    feeding.expect_samples(step, x.shape)
    return np.asarray(x)
