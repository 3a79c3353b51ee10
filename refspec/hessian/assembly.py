"""The exact Hessian of the mean cross-entropy: Fisher plus residual, no framework.

    Hessian = G + E,   G = sum_n w_n J_n'(diag p_n - p_n p_n')J_n,
    E = sum_n w_n sum_k (p_n - e_y)_k d^2 f_k / d theta^2.

All three come from one computation with two seeds at the logits, the second derivative
diag p - pp' and the first p - e_y: G keeps the second derivative only, E the first. A
multilayer perceptron goes through `refspec.hessian.blocks`, a network with convolutions
or residual sums through Hessian-vector products of blocks of unit vectors.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from refspec import backend, checks, classes, models
from refspec.backend import Array, Namespace
from refspec.classes import Snapshot
from refspec.hessian import blocks
from refspec.models import Network, evaluation, operations
from refspec.models.operations import Step

#: Unit vectors multiplied at once where a network is no multilayer perceptron.
BLOCK = 64

#: A network's steps with w (diag p - pp') and w (p - e_y), what begins at the logits.
Seeded = tuple[list[Step], Array, Array | None]


def hessian(
    network: Network,
    X: Array,
    labels: Array,
    *,
    layers: str | Sequence[str] | None = None,
    part: str = "hessian",
    sample_weights: Array | None = None,
) -> Array:
    """Compute the Hessian of the weighted mean cross-entropy, or one of its parts.

    Parameters
    ----------
    network : Network
    X : Array, shape (N, ...), inputs, N >= 1
    labels : Array of int, shape (N,), in 0..C-1; a class may be absent
    layers : str or sequence of str, optional
        One layer, a pair, any subset: the rows and columns of these only, in the order
        of the network. All if not given.
    part : {"hessian", "fisher", "residual"}, the sum, or one of its terms
    sample_weights : Array, shape (N,), optional, non-negative; 1/N if not given

    Returns
    -------
    Array, shape (P, P)
        Symmetric to the bit, in the order of `refspec.models.flatten`.

    Raises
    ------
    ValueError, TypeError
        If a layer or a part is unknown, or inputs, labels or weights do not fit.

    Notes
    -----
    Theory: theory/hessian.md#H1, #H2, #H3, #H4, #H5, #H8, #H9. Papyan (2020), section 2
    (Hessian = G + E); Pearlmutter (1994) for the products. Where an input of a relu is
    exactly 0 the Hessian does not exist; relu has slope 0 and bend 0 there, so this is
    the Hessian almost everywhere. Cost O(N P^2) operations in matrix products and,
    beside the result, temporaries of O(`blocks.BUDGET`) numbers or an eighth of it.
    Rounding: `hessian_radius`.

    Examples
    --------
    >>> import numpy as np
    >>> network = models.softmax_regression(1, 2)
    >>> hessian(network, np.ones((1, 1)), [0]).tolist()[0]
    [0.25, 0.25, -0.25, -0.25]
    """
    seeded = at_logits(network, X, labels, part, sample_weights)
    return assembled(seeded, chosen(network, layers), models.layer_shapes(network))


def assembled(
    seeded: Seeded,
    shapes: Mapping[str, tuple[int, int]],
    every: Mapping[str, tuple[int, int]],
) -> Array:
    """Form the matrix (P, P) of layers of some shapes, of those of the network."""
    places, P = {}, 0
    for name, (b, a) in shapes.items():
        places[name], P = P, P + b * a
    steps, curvature, _ = seeded
    xp = backend.namespace(curvature)
    H = xp.zeros((P, P), dtype=curvature.dtype, device=backend.device(curvature))
    if blocks.apply(steps):
        for chunk in _chunks(seeded, blocks.samples_at_once(every, P)):
            blocks.add_blocks(H, places, *chunk, xp)
    else:
        for chunk in _chunks(seeded, _samples_at_once(steps, BLOCK)):
            _add_products(H, places, shapes, *chunk, xp)
        for start, end in itertools.pairwise([*places.values(), P]):
            block = H[start:end, start:end]
            H[start:end, start:end] = (block + xp.matrix_transpose(block)) / 2
    _mirror(H, [*places.values(), P], xp)
    return H


def of_snapshot(
    snapshot: Snapshot,
    layers: str | Sequence[str] | None = None,
    *,
    part: str = "hessian",
) -> Array:
    """Compute the Hessian at a snapshot: its own network, inputs, labels and weights.

    Parameters
    ----------
    snapshot : Snapshot, with a model section
    layers : str or sequence of str, optional
        All layers of the snapshot if not given.
    part : as in `hessian`

    Returns
    -------
    Array, shape (P, P)
        Layers in the order given, of a snapshot in its own, whatever the network's: so
        that the part "fisher" is the matrix of `refspec.fisher` of the same layers.

    Raises
    ------
    ValueError
        If the snapshot holds no network, or as in `hessian`.

    Examples
    --------
    >>> import refspec
    >>> of_snapshot(refspec.datasets.digits_mlp(), "fc3").shape
    (170, 170)
    """
    network, X = models.of_snapshot(snapshot)
    every = [x.name for x in snapshot.layers]
    names = every if layers is None else [layers] if isinstance(layers, str) else layers
    how = {"layers": names, "sample_weights": snapshot.sample_weights}
    H = hessian(network, X, snapshot.labels, part=part, **how)
    return _in_order(H, chosen(network, names), names)


def hessian_vector_product(
    network: Network,
    X: Array,
    labels: Array,
    vectors: Array,
    *,
    layers: str | Sequence[str] | None = None,
    part: str = "hessian",
    sample_weights: Array | None = None,
) -> Array:
    """Multiply the Hessian, or one of its parts, with vectors, without forming it.

    Parameters
    ----------
    network, X, labels, layers, part, sample_weights : as in `hessian`
    vectors : Array, shape (P,) or (P, K), one vector, or K of them as columns

    Returns
    -------
    Array, shape (P,) or (P, K)
        ``hessian(...) @ vectors``.

    Raises
    ------
    ValueError, TypeError
        If the vectors do not have P rows, or as in `hessian`.

    Notes
    -----
    Theory: theory/hessian.md#H6. Exact, by forward-over-reverse differentiation
    (Pearlmutter 1994): the tangent of every activation forward, then errors and their
    tangents back. Cost O(K) gradients.

    Examples
    --------
    >>> import numpy as np
    >>> network = models.softmax_regression(1, 2)
    >>> v = np.asarray([1.0, 0.0, 0.0, 0.0])
    >>> hessian_vector_product(network, np.ones((1, 1)), [0], v).tolist()
    [0.25, 0.25, -0.25, -0.25]
    """
    seeded = at_logits(network, X, labels, part, sample_weights)
    shapes = chosen(network, layers)
    P = sum(b * a for b, a in shapes.values())
    columns = "(P,)" if getattr(vectors, "ndim", 2) == 1 else "(P, K)"
    checks.expect_array("vectors", vectors, columns)
    xp = backend.namespace(X, vectors)
    if vectors.ndim not in (1, 2) or vectors.shape[0] != P or vectors.dtype != X.dtype:
        raise ValueError(
            f"vectors must have shape (P,) or (P, K) with P = {P} and dtype {X.dtype}, "
            f"got {tuple(vectors.shape)} and {vectors.dtype}; columns are vectors in "
            "the order of refspec.models.flatten"
        )
    rows = xp.matrix_transpose(xp.reshape(vectors, (P, -1)))
    total = multiplied(seeded, shapes, rows, xp)
    return xp.reshape(xp.matrix_transpose(total), tuple(vectors.shape))


def multiplied(
    seeded: Seeded, shapes: Mapping[str, tuple[int, int]], rows: Array, xp: Namespace
) -> Array:
    """Multiply vectors, the rows (K, P) of layers of some shapes: rows of (H V)'."""
    K, start, split = rows.shape[0], 0, {}
    for name, (b, a) in shapes.items():
        split[name] = xp.reshape(rows[:, start : start + b * a], (K, b, a))
        start += b * a
    total = xp.zeros_like(rows)
    for chunk in _chunks(seeded, _samples_at_once(seeded[0], K)):
        total = total + _products(split, list(shapes), *chunk, xp)
    return total


def at_logits(
    network: Network,
    X: Array,
    labels: Array,
    part: str,
    sample_weights: Array | None,
) -> Seeded:
    """Run the network; its steps and the part's derivatives at the logits."""
    checks.expect_choice("part", part, ("hessian", "fisher", "residual"))
    steps, f = evaluation.forward(network, X)
    return seed(steps, f, labels, part, sample_weights)


def seed(
    steps: list[Step], f: Array, labels: Array, part: str, sample_weights: Array | None
) -> Seeded:
    """Return steps with w (diag p - pp') (N, C, C) and w (p - e_y) (N, C) of a part."""
    xp = backend.namespace(f)
    w = evaluation.sample_average(sample_weights, f, xp)
    hot = evaluation.one_hot(labels, f, xp)
    p = xp.exp(classes.log_softmax(f))
    every = xp.eye(f.shape[1], dtype=f.dtype, device=backend.device(f))
    curvature = -(w[:, None] * p)[:, :, None] * (
        evaluation.misses(p[:, None, :], every, xp)
    )
    if part == "residual":
        curvature = xp.zeros_like(curvature)
    errors = None if part == "fisher" else w[:, None] * evaluation.misses(p, hot, xp)
    return steps, curvature, errors


def chosen(
    network: Network, layers: str | Sequence[str] | None
) -> dict[str, tuple[int, int]]:
    """Return the shapes of the layers asked for, in the network's order."""
    shapes = models.layer_shapes(network)
    given = [layers] if isinstance(layers, str) else layers
    names = tuple(shapes) if given is None else given
    names = checks.expect_names("layers", names, shapes)
    if not names:
        raise ValueError(
            f"layers must be distinct names among {list(shapes)}, got none; leave "
            "layers out for all"
        )
    return {name: shape for name, shape in shapes.items() if name in names}


def _in_order(
    H: Array, shapes: Mapping[str, tuple[int, int]], names: Sequence[str]
) -> Array:
    """Put rows and columns of layers of some shapes in the order of `names`."""
    if list(shapes) == list(names):
        return H
    place = backend.from_host(places(shapes, names), H)
    xp = backend.namespace(H)
    return xp.take(xp.take(H, place, axis=0), place, axis=1)


def places(shapes: Mapping[str, tuple[int, int]], names: Sequence[str]) -> np.ndarray:
    """Return where in a vector of layers of some shapes those of `names` are, (P,)."""
    ends = np.cumsum([b * a for b, a in shapes.values()])
    at = {
        name: np.arange(end - b * a, end)
        for end, (name, (b, a)) in zip(ends, shapes.items(), strict=True)
    }
    return np.concatenate([at[name] for name in names])


def _chunks(whole: Seeded, size: int) -> Iterator[Seeded]:
    """Cut the samples into chunks of at most `size`."""
    steps, curvature, errors = whole
    N = curvature.shape[0]
    for start in range(0, N, size):
        rows = slice(start, min(start + size, N))

        def cut(x: Array | None, rows: slice = rows) -> Array | None:
            return None if x is None else x[rows, ...]

        fewer = [
            dataclasses.replace(
                step,
                features=cut(step.features),
                slope=cut(step.slope),
                bend=cut(step.bend),
                choice=cut(step.choice),
            )
            for step in steps
        ]
        yield fewer, cut(curvature), cut(errors)


def _samples_at_once(steps: Sequence[Step], K: int) -> int:
    """How many samples' K tangents fit in the budget, the widest step deciding."""
    width = max(
        [math.prod(step.shape) for step in steps]
        + [math.prod(x.features.shape[1:]) for x in steps if x.features is not None]
    )
    return int(max(1, blocks.BUDGET // (width * K)))


def _add_products(
    H: Array,
    places: Mapping[str, int],
    shapes: Mapping[str, tuple[int, int]],
    steps: Sequence[Step],
    curvature: Array,
    errors: Array | None,
    xp: Namespace,
) -> None:
    """Add one chunk of samples to the blocks (l, m), l <= m, by unit vectors."""
    names = list(shapes)
    for k, (name, (b, a)) in enumerate(shapes.items()):
        for start in range(0, b * a, BLOCK):
            K, place = min(BLOCK, b * a - start), places[name]
            unit = xp.eye(K, b * a, k=start, dtype=H.dtype, device=backend.device(H))
            vectors = {name: xp.reshape(unit, (K, b, a))}
            products = _products(vectors, names[k:], steps, curvature, errors, xp)
            H[place + start : place + start + K, place:] += products


def _products(
    vectors: Mapping[str, Array],
    wanted: Sequence[str],
    steps: Sequence[Step],
    curvature: Array,
    errors: Array | None,
    xp: Namespace,
) -> Array:
    """Rows of (Hessian vectors)' (K, P) in the layers wanted; vectors (K, b, a)."""
    tangents: list[Array] = [None]  # of the inputs and of what each step gives
    for step in steps:
        tangent = operations.entering(step.of, tangents)
        tangent = None if tangent is None else operations.push(step, tangent, xp)
        if step.name in vectors:
            moved = _apply(step, vectors[step.name], step.features, xp)
            tangent = moved if tangent is None else tangent + moved
        tangents.append(tangent)
    # Forward over reverse: errors and their tangents go back together. At a layer the
    # gradient is errors' features, so its tangent has two terms (`_outer`); at weights
    # that move, and where an activation bends, the tangent of the errors changes too.
    nothing: list[Array] = [None] * len(steps)
    all_turned, all_errors = [*nothing, tangents[-1] @ curvature], [*nothing, errors]
    found: dict[str, Array] = {}
    for k, step in reversed(list(enumerate(steps))):
        turned, errors, change = all_turned[k + 1], all_errors[k + 1], None
        tangent = operations.entering(step.of, tangents)
        if step.name in wanted:
            found[step.name] = _outer(step, turned, errors, tangent, xp)
            if len(found) == len(wanted):
                break
        if errors is not None:
            if step.name in vectors:
                change = _apply_adjoint(step, vectors[step.name], errors, xp)
            elif step.bend is not None and tangent is not None:
                change = (step.bend * errors)[:, None, ...] * tangent
            errors = operations.pull(step, errors[:, None, ...], xp)[:, 0, ...]
            operations.leave(step.of, errors, all_errors)
        turned = operations.pull(step, turned, xp)
        turned = turned if change is None else turned + change
        operations.leave(step.of, turned, all_turned)
        all_turned[k + 1] = all_errors[k + 1] = tangents[k + 1] = None
    return xp.concat(
        [xp.reshape(found[x], (found[x].shape[0], -1)) for x in wanted], axis=1
    )


def _apply(step: Step, V: Array, features: Array, xp: Namespace) -> Array:
    """Compute the layer's outputs (n, K, ...) with each of the matrices V (K, b, a)."""
    n, T, a = features.shape
    K, b, _ = V.shape
    flat = xp.reshape(features, (n * T, a)) @ xp.matrix_transpose(
        xp.reshape(V, (K * b, a))
    )
    z = xp.permute_dims(xp.reshape(flat, (n, T, K, b)), (0, 2, 1, 3))
    z = operations.arrange(step, xp.reshape(z, (n * K, T, b)), xp)
    return xp.reshape(z, (n, K, *z.shape[1:]))


def _apply_adjoint(step: Step, V: Array, errors: Array, xp: Namespace) -> Array:
    """Errors (n, ...) pulled back through each of the matrices V (K, b, a)."""
    a = step.matrix.shape[1]
    K, b, _ = V.shape
    rows = operations.positions(step, errors, xp)
    n, T, _ = rows.shape
    across = xp.reshape(xp.permute_dims(V[:, :, :a], (1, 0, 2)), (b, K * a))
    flat = xp.reshape(rows, (n * T, b)) @ across
    patches = xp.permute_dims(xp.reshape(flat, (n, T, K, a)), (0, 2, 1, 3))
    x = operations.fold(step, xp.reshape(patches, (n * K, T, a)), xp)
    return xp.reshape(x, (n, K, *step.shape))


def _outer(
    step: Step,
    turned: Array,
    errors: Array | None,
    tangent: Array | None,
    xp: Namespace,
) -> Array:
    """Tangent of the gradient errors' features: (K, b, a)."""
    n, K = turned.shape[:2]
    rows = xp.reshape(turned, (n * K, *turned.shape[2:]))
    rows = operations.positions(step, rows, xp)
    T, b = rows.shape[1:]
    a = step.features.shape[2]
    rows = xp.permute_dims(xp.reshape(rows, (n, K, T, b)), (1, 3, 0, 2))
    out = xp.reshape(rows, (K * b, n * T)) @ xp.reshape(step.features, (n * T, a))
    out = xp.reshape(out, (K, b, a))
    if errors is None or tangent is None:
        return out
    inner = step.matrix.shape[1]
    patches = operations.unfold(step, xp.reshape(tangent, (n * K, *step.shape)), xp)
    patches = xp.permute_dims(xp.reshape(patches, (n, K, T, inner)), (0, 2, 1, 3))
    left = xp.reshape(operations.positions(step, errors, xp), (n * T, b))
    moved = xp.matrix_transpose(left) @ xp.reshape(patches, (n * T, K * inner))
    moved = xp.permute_dims(xp.reshape(moved, (b, K, inner)), (1, 0, 2))
    return xp.concat([out[:, :, :inner] + moved, out[:, :, inner:]], axis=2)


def _mirror(H: Array, edges: Sequence[int], xp: Namespace) -> None:
    """Copy the blocks above the diagonal below it, a few rows at a time, in place."""
    few = max(1, blocks.BUDGET // H.shape[0])
    for start, end in itertools.pairwise(edges):
        for row in range(start, end, few):
            last = min(row + few, end)
            H[end:, row:last] = xp.matrix_transpose(H[row:last, end:])
