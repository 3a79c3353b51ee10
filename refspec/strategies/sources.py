"""Strategies for where snapshots come from: small networks and planted worlds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from refspec import models, synthetic
from refspec.backend import Array, Namespace
from refspec.classes import Snapshot
from refspec.models import Network
from refspec.models.activations import ACTIVATIONS, kinks
from refspec.populations import NOISES, KroneckerPopulation, Population
from refspec.strategies import samples
from refspec.synthetic import World, geometry
from refspec.synthetic.worlds import AnyPopulation, convert


class LabelledNetwork(NamedTuple):
    """A network with inputs X (N, ...) and sorted labels (N,), every class present."""

    network: Network
    inputs: Array
    labels: np.ndarray

    def snapshot(self) -> Snapshot:
        """Return the network seen through its samples, with its model section."""
        return models.snapshot(self.network, self.inputs, self.labels)


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    classes: int | None = None,
    convolutions: bool | None = None,
    smooth: bool = False,
    bias: bool | None = None,
    max_layers: int = 3,
    max_width: int = 4,
    dtype: str = "float64",
    xp: Namespace | None = None,
) -> Network:
    """Draw an untrained network of refspec.models.

    Parameters
    ----------
    classes : int, optional
        C logits; 2 to 4 if not given.
    convolutions : bool, optional
        A CNN on images (1 or 2, 4, 4), or a multilayer perceptron; either if not given.
    smooth : bool
        Only activations with a continuous second derivative, where finite differences
        and bounds on the Hessian hold everywhere; relu too otherwise.
    bias : bool, optional
        Whether layers have biases; any mixture of layers if not given.
    max_layers, max_width : int
        Linear maps, and inputs or channels of each.
    dtype, xp
        Format and library of the parameters.

    Returns
    -------
    strategy of Network
        Weights are Gaussian of a drawn scale, from nearly linear to saturated. Shrinks
        to softmax regression on one input.

    Raises
    ------
    ValueError, TypeError
        If an argument allows nothing, or is not of the type above.

    Examples
    --------
    >>> from hypothesis import find
    >>> network = find(networks(), lambda x: len(x.operations) > 1)
    >>> [x["op"] for x in network.operations]
    ['linear', 'identity', 'linear']
    """
    samples.expect_range("number of layers", 1, max_layers, 1)
    samples.expect_range("width", 1, max_width, 1)
    samples.expect_flags(convolutions=convolutions, smooth=smooth, bias=bias)
    C = draw(st.integers(2, 4)) if classes is None else classes
    samples.expect_range("classes C", 2, C, 2)
    wide = st.integers(1, max_width)
    kinds = [x for x in sorted(ACTIVATIONS) if not kinks({"op": x}) and x != "identity"]
    kind = draw(st.sampled_from(["identity", *["relu"] * (not smooth), *kinds]))
    rng = np.random.default_rng(draw(samples.seeds))
    gain = 2.0 ** draw(st.integers(-2, 2))
    image = draw(st.booleans()) if convolutions is None else convolutions
    hidden = draw(st.lists(wide, min_size=int(image), max_size=max_layers - 1 + image))
    if image:
        network = models.cnn(
            (draw(st.integers(1, 2)), 4, 4),
            hidden[:2],
            C,
            activation=kind,
            kernel=draw(st.integers(1, 3)),
            stride=1,
            pool=draw(st.integers(1, 2)),
            rng=rng,
        )
    else:
        network = models.mlp([draw(wide), *hidden, C], kind, rng=rng)
    operations: list[Mapping[str, Any]] = []
    parameters: dict[str, np.ndarray] = {}
    for operation in network.operations:
        if "weight" in operation:
            key = operation["weight"]
            parameters[key] = gain * network.parameters[key]
            if draw(st.booleans()) if bias is None else bias:
                size = network.parameters[key].shape[0]
                parameters[operation["bias"]] = gain * rng.standard_normal(size)
            else:
                operation = dict(operation) | {"bias": None}
        operations.append(operation)
    made = {k: convert(v, dtype, xp) for k, v in parameters.items()}
    return Network(operations, made)


@st.composite
def labelled_networks(
    draw: st.DrawFn,
    *,
    sizes: Sequence[int] | st.SearchStrategy[tuple[int, ...]] | None = None,
    convolutions: bool | None = None,
    smooth: bool = False,
    bias: bool | None = None,
    max_layers: int = 3,
    max_width: int = 4,
    dtype: str = "float64",
    xp: Namespace | None = None,
) -> LabelledNetwork:
    """Draw a network of refspec.models with data for it.

    Parameters
    ----------
    sizes
        As in `snapshots`.
    convolutions, smooth, bias, max_layers, max_width, dtype, xp
        As in `networks`.

    Returns
    -------
    strategy of LabelledNetwork
        Inputs are whole numbers or Gaussian of any scale, so logits may be large.

    Raises
    ------
    ValueError, TypeError
        As `networks`.

    Examples
    --------
    >>> from hypothesis import Phase, find, settings
    >>> simplest = settings(phases=[Phase.generate])
    >>> found = find(labelled_networks(), lambda x: True, settings=simplest)
    >>> found.snapshot().probabilities.tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    y = draw(samples.labels(sizes))
    network = draw(
        networks(
            classes=int(y[-1]) + 1,
            convolutions=convolutions,
            smooth=smooth,
            bias=bias,
            max_layers=max_layers,
            max_width=max_width,
            dtype=dtype,
            xp=xp,
        )
    )
    first = network.operations[0]
    width = int(network.parameters[first["weight"]].shape[1])
    shape = (width, 4, 4) if first["op"] == "conv2d" else (width,)
    X = samples.numbers(draw, (len(y), *shape), exact=False)
    return LabelledNetwork(network, convert(X, dtype, xp), y)


@st.composite
def worlds(
    draw: st.DrawFn,
    *,
    sizes: Sequence[int] | st.SearchStrategy[tuple[int, ...]] | None = None,
    max_layers: int = 2,
    max_dimension: int = 4,
    score_consistent: bool | None = None,
    dtype: str = "float64",
    xp: Namespace | None = None,
) -> World:
    """Draw a planted world: a snapshot and the populations it came from.

    Parameters
    ----------
    sizes, dtype, xp
        As in `snapshots`.
    max_layers, max_dimension : int
        Layers, and dimension of features and of errors, which may be below C.
    score_consistent : bool, optional
        Whether errors obey the score identity; either, layer by layer, if not given.

    Returns
    -------
    strategy of World
        Levels may be planted, random or absent, their means of any rank; noise may be
        zero, anisotropic, heavy-tailed or coupled between features and errors;
        probabilities run from chance to nearly certain, evenly confused or not.

    Raises
    ------
    ValueError, TypeError
        If an argument allows nothing, or is not of the type above.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(worlds(), lambda w: len(w.populations) > 1)
    World(N=2, C=2, layers=['layer1', 'layer2'])
    """
    samples.expect_range("number of layers", 1, max_layers, 1)
    samples.expect_range("dimension d", 1, max_dimension, 1)
    samples.expect_flags(score_consistent=score_consistent)
    y = draw(samples.labels(sizes))
    C, counts = int(y[-1]) + 1, tuple(np.bincount(y).tolist())
    populations = {
        f"layer{k}": _layer(draw, counts, max_dimension, score_consistent)
        for k in range(1, draw(st.integers(1, max_layers)) + 1)
    }
    miss = draw(st.sampled_from([(C - 1) / C, 0.25, 2.0**-10, 2.0**-60]))
    p: np.ndarray = geometry.confusion(C, miss)
    if draw(st.booleans()):
        p = draw(
            samples.probabilities(
                len(y), C, labels=y, allow_tiny=False, allow_zero=False
            )
        )
    rng = np.random.default_rng(draw(samples.seeds))
    return synthetic.planted(populations, rng=rng, probabilities=p, dtype=dtype, xp=xp)


def _layer(
    draw: st.DrawFn, sizes: tuple[int, ...], most: int, consistent: bool | None
) -> AnyPopulation:
    """Draw the population of one layer."""
    shared = draw(st.booleans())
    features = _population(draw, sizes, most, 1, False) if shared else None
    coupling = draw(st.sampled_from([0.0, 0.5, -0.5, 1.0, -1.0])) if shared else 0.0
    score = draw(st.booleans()) if consistent is None else consistent
    errors = _population(draw, sizes, most, len(sizes), score)
    if features is None:
        return errors
    return KroneckerPopulation(errors, features, coupling)


def _population(
    draw: st.DrawFn, sizes: tuple[int, ...], most: int, K: int, score: bool
) -> Population:
    """Draw the population of one family of vectors; K = 1 has no cross classes."""
    C, d = len(sizes), draw(st.integers(1, most))
    noise = draw(st.sampled_from(NOISES))
    given: dict[str, Any] = {"noise": noise, "score_consistent": score}
    given["dof"] = 5.0 if noise == "student" else None
    for level, shape in (("class", (C, d)), ("cross", (C, C, d))):
        if level == "cross" and K == 1:
            continue
        kind = draw(st.sampled_from(["absent", "planted", "random"]))
        if kind == "planted":
            given[f"{level}_means"] = samples.numbers(draw, shape, exact=True)
        elif kind == "random":
            given[f"{level}_covariance"] = draw(_covariances(d))
    if draw(st.booleans()):
        given["global_mean"] = samples.numbers(draw, (d,), exact=True)
    within = draw(_covariances(d))
    if draw(st.booleans()):
        within = tuple(draw(_covariances(d)) for _ in range(C))
    return Population(sizes, d, np.ones((sum(sizes), K)), within, **given)


def _covariances(d: int) -> st.SearchStrategy[Any]:
    """Draw isotropic or diagonal covariances, zero included."""
    variances = st.integers(0, 4).map(float)
    whole = st.lists(variances, min_size=d, max_size=d).map(np.array)
    return st.one_of(variances, whole)
