r"""From a snapshot to a law: the spectrum of layers predicted from class statistics.

`law_of` estimates what the Fisher information of a layer, or of several together,
depends on: the means of the features, class by class, how they depend on the outputs,
the covariances that are left, and the errors, which the outputs decide. `predict_layer`
solves for the spectrum. The last layer's outputs are the logits; given these, or drawn
from Gaussians too, nothing but class statistics and the softmax is left
(Theory: theory/conditional.md#Y1, #Y5). A convolution is a layer with positions, whose
errors and features are Gaussian over all of them (Theory: theory/conditional.md#Y7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import scipy.linalg

from refspec import backend, checks, rounding
from refspec.classes import Layer, Snapshot, log_softmax, misses
from refspec.random_matrix.conditional import positions
from refspec.random_matrix.conditional import spectrum as conditional_spectrum
from refspec.random_matrix.conditional.design import (
    SIDE,
    WIDE,
    ConditionalDesign,
    Regression,
    conditional_design,
    fitting,
    narrowed,
)
from refspec.random_matrix.conditional.together import together
from refspec.random_matrix.drawn import fit_responses, gaussian_logits
from refspec.random_matrix.estimation import estimated, less_of_each
from refspec.random_matrix.outliers import no_outliers, row_space
from refspec.random_matrix.prediction import Prediction, assembled
from refspec.random_matrix.tables import LawTable

_SINGLE = 2.0**-24  # exports may hold float32


@dataclass(frozen=True, slots=True, eq=False)
class LayerLaw:
    """What the law of the Fisher information of layers is made of.

    Parameters
    ----------
    layers : tuple of str, their names
    shapes : tuple of (int, int), number of errors and of features of each
    given : {"outputs", "class"}
        What the features are Gaussian given.
    outputs : {"data", "drawn", "fitted"}
        Where the outputs, and with them the errors, are taken from.
    weights : {"errors", "samples"}
        What a sample counts for in class statistics.
    design : ConditionalDesign
        Errors, means, slopes and covariances, in frames.
    means : array, shape (C, d)
        Class means of the features, of all layers one after the other, or (C T, d) at
        all T positions.
    samples : array, shape (C,) or (1,)
        How many samples each covariance rests on, 1 / sum of squared shares.
    effective : array, shape (C,) or (1,)
        (tr S)^2 / tr S^2: the dimension that a covariance fills. Where it is not small
        beside `samples` the estimate widens the law.
    responses : array, shape (C,)
        gamma of each class; 0 but for `fitted` outputs.
    refits : tuple of ConditionalDesign
        Of statistics in which a group of samples counts a little less.
    """

    layers: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    given: str
    outputs: str
    weights: str
    design: ConditionalDesign
    means: np.ndarray
    samples: np.ndarray
    effective: np.ndarray
    responses: np.ndarray
    refits: tuple[ConditionalDesign, ...] = ()

    def __repr__(self) -> str:
        """Say what it is of, not the entries."""
        known = f"given {self.given}, outputs {self.outputs}"
        names = ", ".join(map(repr, self.layers))
        return f"LayerLaw({names}, {known}; P={self.design.dimension})"

    @property
    def assumes(self) -> tuple[str, ...]:
        """What a prediction from this rests on, in sentences."""
        gamma = f"{np.min(self.responses):.3g} to {np.max(self.responses):.3g}"
        source = {
            "data": "the outputs are those of the data",
            "drawn": "the outputs are drawn from a Gaussian for each class",
            "fitted": "the outputs are those of a fit: Gaussian for each class without "
            f"the sample, which moves them by {gamma} times its error",
        }[self.outputs]
        given = "class and outputs" if self.given == "outputs" else "the class alone"
        share = float(np.max(self.effective / self.samples))
        h, t = self.design.inside.shape[-1], self.design.outside.shape[1]
        s = len(self.samples)
        what = "one covariance of all classes" if s == 1 else "a covariance a class"
        if self.weights == "errors":
            what += ", samples weighed by their errors"
        whose = "the layer's features are"
        if self.design.positions > 1:
            whose = f"features of all {self.design.positions} positions are together"
        if len(self.layers) > 1:
            whose = "features of all layers are together"
            given += ", which is all that errors tell of them"
        return (
            f"{whose} Gaussian given {given}; {source}",
            f"{what}, estimated from {float(np.min(self.samples)):.3g} samples or "
            f"more; they fill up to {share:.2g} dimensions for each of these",
            f"of the covariances' squares beyond the {h} leading directions of {h + t} "
            f"{self.design.kept:.0%} is kept, which are variances",
        )


def law_of(
    snapshot: Snapshot,
    layers: str | Sequence[str] | None = None,
    *,
    given: Literal["outputs", "class"] = "outputs",
    outputs: Literal["data", "drawn", "fitted"] = "data",
    covariances: Literal["class", "shrunk", "pooled"] = "class",
    weights: Literal["errors", "samples"] = "errors",
    head: int | None = None,
    groups: int = 0,
    seed: int = 0,
) -> LayerLaw:
    """Estimate what the law of the Fisher information of layers is made of.

    Parameters
    ----------
    snapshot : Snapshot
    layers : str or sequence of str, optional
        One, or several together, of one position each; the last one if not given. One
        alone may have several, a convolution, whose gradients are sums over them.
    given : {"outputs", "class"}
        What the features are Gaussian given. The errors depend on them through the
        outputs alone, which are known for the last layer (the logits), and are taken to
        do so in those that are together with it. Given the class alone errors and
        features are taken as independent, in any layer.
    outputs : {"data", "drawn", "fitted"}
        `drawn`: logits from a Gaussian for each class, so that class statistics alone
        predict; of the last layer alone. `fitted`: from a Gaussian and the proximal map
        of a fit, so that the mean error of each class is that of the data.
    covariances : {"class", "shrunk", "pooled"}
        One for each class, each moved towards the pooled one by as much as its error
        (Ledoit and Wolf), or the pooled one alone.
    weights : {"errors", "samples"}
        `errors`: in means, slopes and covariances a sample counts for as much as in the
        trace of the Fisher information, so that the law has its trace whatever the
        features are; `samples`: all count the same.
    head : int, optional
        Coordinates of the features, of all layers, whose covariances are kept whole; in
        the others each class keeps its variances. If not given nothing is cut off up to
        (C - 1) d = 2400, and beyond it as many are kept as fit a matrix of side 400.
    groups : int
        Into how many groups samples are divided to tell what estimation leaves open, 8
        say: `predict_layer` then gives deviations. 0 for none.
    seed : int, of the outputs drawn, and of the groups

    Returns
    -------
    LayerLaw

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, layers together have positions, those of one do
        not fit the memory, or outputs are asked for and not known.

    Notes
    -----
    Theory: theory/conditional.md#Y1, #Y2, #Y4, #Y5, #Y7; theory/regressions.md#Z2. Cost
    O(N d^2 + C d^3), 1 + `groups` times; d is T d with T positions.

    Examples
    --------
    >>> import refspec
    >>> snapshot = refspec.datasets.wine_sklearn()
    >>> law_of(snapshot)
    LayerLaw('coefs_2', given outputs, outputs data; P=27)
    >>> law_of(snapshot, ["coefs_1", "coefs_2"]).design.dimension
    115
    >>> law_of(refspec.datasets.mnist_cnn(), "conv1", given="class")
    LayerLaw('conv1', given class, outputs data; P=60)
    """
    chosen = expect_settings(
        snapshot, layers, given, outputs, covariances, weights, head, groups
    )
    p = np.asarray(backend.to_host(snapshot.probabilities), dtype=np.float64)
    if given == "outputs" or outputs != "data":
        _expect_last(chosen[-1], p)
    labels, T = np.asarray(snapshot.labels), chosen[0].features.shape[1]
    if T > 1:
        positions.expect_room(chosen[0], covariances)
    features, parts = zip(*(_host(snapshot, x) for x in chosen), strict=True)
    for part in parts:
        _expect_classes(labels, part)
    shapes = [(x.shape[3], h.shape[2]) for x, h in zip(parts, features, strict=True)]
    tell = partial(_told, chosen, shapes, given, outputs, weights)
    if T > 1:
        by = parts[0] if weights == "errors" else None
        lighter = [None, *less_of_each(labels, groups, seed)]
        return tell(
            *_of_positions(features[0], by, parts[0], labels, covariances, lighter)
        )
    features, parts = ([x[..., 0, :] for x in y] for y in (features, parts))
    rows = np.concatenate(parts, axis=2)
    logits = np.zeros((len(labels), 0))
    if given == "outputs" or outputs != "data":
        tiny = np.finfo(np.float64).tiny
        logits = np.log(np.maximum(p, tiny))
        logits = logits - np.mean(logits, axis=1, keepdims=True)
    sizes = [np.sum(x * x, axis=(1, 2)) for x in parts]
    counts = sizes if weights == "errors" else [None] * len(parts)
    fitted, xi = together(features, logits, labels, covariances, counts)
    responses = np.zeros(len(fitted.slopes))
    if outputs != "data":
        if outputs == "fitted":
            responses = fit_responses(logits, labels)
        z = gaussian_logits(logits, labels, covariances, seed, responses)
        # slopes are about the means of the outputs that they were fitted on
        xi = np.concatenate([xi[:, :1], xi[:, 1:] + z - logits], axis=1)
        rows = _rows(snapshot, z)
    b, d = (np.repeat(np.arange(len(n)), n) for n in zip(*shapes, strict=True))
    made = partial(conditional_design, head=head, side=WIDE, layers=(b, d))
    design = made(rows, labels, fitted, xi)
    refits = []
    for less in less_of_each(labels, groups, seed):
        lighter = [less if x is None else less * x for x in counts]
        again, moved = together(features, logits, labels, covariances, lighter)
        refits.append(made(rows, labels, again, moved))
    return tell(fitted, design, refits, responses)


def _of_positions(
    features: np.ndarray,
    by: np.ndarray | None,
    rows: np.ndarray,
    labels: np.ndarray,
    covariances: str,
    weights: Sequence[np.ndarray | None],
) -> tuple[Regression, ConditionalDesign, list[ConditionalDesign]]:
    """Fit statistics of a layer with positions, for each of some weights of samples."""
    fits = [positions.statistics(features, by, labels, covariances, x) for x in weights]
    design, *refits = (positions.positions_design(rows, labels, x) for x in fits)
    return fits[0], design, refits


def _told(
    chosen: Sequence[Layer],
    shapes: Sequence[tuple[int, int]],
    given: str,
    outputs: str,
    weights: str,
    fitted: Regression,
    design: ConditionalDesign,
    refits: Sequence[ConditionalDesign],
    responses: np.ndarray | None = None,
) -> LayerLaw:
    """Say what a law is made of."""
    C, s = len(fitted.slopes), len(fitted.residual)
    squares = np.sum(fitted.residual**2, axis=(1, 2))
    traces = np.trace(fitted.residual, axis1=1, axis2=2)
    effective = np.divide(traces**2, squares, out=np.zeros(s), where=squares > 0)
    return LayerLaw(
        tuple(x.name for x in chosen),
        tuple(shapes),
        given,
        outputs,
        weights,
        design,
        np.reshape(fitted.slopes[:, :, 0], (-1, sum(d for _, d in shapes))),
        fitted.samples,
        effective,
        np.zeros(C) if responses is None else responses,
        # errors are what they are, in one frame
        tuple(replace(x, roots=design.roots) for x in refits),
    )


def expect_settings(
    snapshot: Snapshot,
    layers: str | Sequence[str] | None = None,
    given: str = "outputs",
    outputs: str = "data",
    covariances: str = "class",
    weights: str = "errors",
    head: int | None = None,
    groups: int = 0,
) -> list[Layer]:
    """Refuse what does not go together in `law_of`; return the layers."""
    advice = "refspec.snapshot(...) or refspec.load(...) makes one"
    checks.expect_type("snapshot", snapshot, Snapshot, advice)
    checks.expect_choice("given", given, ("outputs", "class"))
    checks.expect_choice("outputs", outputs, ("data", "drawn", "fitted"))
    checks.expect_choice("covariances", covariances, ("class", "shrunk", "pooled"))
    checks.expect_choice("weights", weights, ("errors", "samples"))
    if head is not None:
        checks.expect_size("head", head, least=1)
    groups = checks.expect_size("groups", groups)
    if groups == 1 or (groups and outputs != "data"):
        raise ValueError(
            f"groups must be 0 or at least 2, and 0 unless outputs are those of the "
            f"data, got groups={groups} and outputs={outputs!r}; take 8, or drop it"
        )
    names = [x.name for x in snapshot.layers]
    if layers is None:
        layers = names[-1]
    asked = checks.expect_names(
        "layers", [layers] if isinstance(layers, str) else layers, names
    )
    if not asked:
        raise ValueError("layers must be one or more names, got none; leave it out")
    if given == "class" and outputs != "data":
        raise ValueError(
            "outputs must be those of the data where the class alone is given, got "
            f"outputs={outputs!r} and given='class'; drop one of them"
        )
    if len(asked) > 1 and outputs != "data":
        raise ValueError(
            "outputs must be those of the data for several layers, whose errors at "
            f"others are not known, got outputs={outputs!r} and {len(asked)} layers; "
            "drop one of them"
        )
    chosen = [x for x in snapshot.layers if x.name in asked]
    for layer in chosen:
        _expect_positions(layer, len(chosen), head)
    return chosen


def _expect_positions(layer: Layer, together: int, head: int | None) -> None:
    """Refuse a layer with positions in company, one to be cut, or too large a one."""
    (_, T, d), b = layer.features.shape, layer.errors.shape[3]
    if T > 1 and together > 1:
        raise ValueError(
            f"layers together must have one position each, got T = {T} of layer "
            f"{layer.name!r}; take it alone"
        )
    if T > 1 and (b * d > WIDE or (head is not None and head < d)):
        raise ValueError(
            "nothing is cut off a layer with positions: errors times features must be "
            f"at most {WIDE}, and head at least the features, got {b} x {d} of layer "
            f"{layer.name!r} and head={head}; take a smaller layer, and leave head out"
        )


def predict_layer(law: LayerLaw, *, resolution: float = 0.25) -> Prediction:
    """Predict the spectrum of the Fisher information of layers.

    Parameters
    ----------
    law : LayerLaw, from `law_of`
    resolution : float
        Error of the distribution function that is accepted, in eigenvalues; 1 % of the
        rank where that is more.

    Returns
    -------
    Prediction
        Its outliers are the eigenvalues above the band of the largest mass, at most a
        hundred; overlaps are with errors (x) class means of the features, a layer.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or float64 resolves the law nowhere.

    Notes
    -----
    Theory: theory/conditional.md#Y1, #Y2, #Y3, #Y5, #Y7. Some 100 solutions of a dozen
    steps; of a law with `groups`, 16 solutions more, two and the outliers, and a step
    of each for every group.

    Examples
    --------
    >>> import refspec
    >>> predict_layer(law_of(refspec.datasets.wine_sklearn())).dimension
    27
    """
    checks.expect_type("law", law, LayerLaw, "refspec.random_matrix.law_of makes one")
    resolution = checks.expect_probability("resolution", resolution, ends=False)
    table, outliers = conditional_spectrum.tabulate(law.design, resolution=resolution)
    ends = np.cumsum([d for _, d in law.shapes])[:-1]
    columns = np.split(law.means, ends, axis=1)
    parts = zip(law.shapes, columns, strict=True)
    spans = [np.kron(np.eye(b), row_space(x)) for (b, _), x in parts]
    means = scipy.linalg.block_diag(*spans)
    made = assembled("conditional", table, no_outliers(), outliers, means)
    made = replace(made, assumes=(*law.assumes, *_hidden(law.design, table)))
    if not law.refits:
        return made
    # a deviation is told by the frame that the law is iterated in
    head = fitting(law.design, SIDE)
    base, *refits = (narrowed(x, head) for x in (law.design, *law.refits))
    bulk = table.bands[0]
    edges = [(x, side) for x, side in ((bulk.lower, 1), (bulk.upper, -1)) if x > 0]
    told = estimated(base, refits, made.eigenvalues, edges)
    return replace(made, estimation=told)


def _hidden(design: ConditionalDesign, table: LawTable) -> tuple[str, ...]:
    """Say how many eigenvalues are too small for their law to be told."""
    P = design.dimension
    count = round(table.atom * P) - (P - design.reached)
    if count <= 0:
        return ()
    return (
        f"float64 tells the law down to {float(table.x[0]):.2g}: {count} eigenvalues "
        "below are counted at 0",
    )


def _host(snapshot: Snapshot, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return features (N, T, d) and weighed errors (N, C, T, b), on the host."""
    p, s = snapshot.probabilities, snapshot.sample_weights
    arrays = (layer.features, layer.errors, p, s)
    h, e, p, s = (np.asarray(backend.to_host(x), dtype=np.float64) for x in arrays)
    return h, e * np.sqrt(s[:, None] * p)[:, :, None, None]


def _expect_classes(labels: np.ndarray, rows: np.ndarray) -> None:
    """Refuse a layer of which a class or all errors are missing."""
    sizes = np.bincount(labels)
    if not np.all(sizes) or not np.any(rows):
        empty = np.flatnonzero(sizes == 0).tolist()
        size = float(np.max(np.abs(rows)))
        raise ValueError(
            "each class up to the last label must have a sample and some error be not "
            f"0, got none of {empty or 'no class'} and a largest error of {size:.3g}; "
            "relabel the classes, or take a network that is not sure of all samples"
        )


def _expect_last(layer: Layer, p: np.ndarray) -> None:
    """Refuse a layer whose errors are not p - e: its outputs are not the logits."""
    C = p.shape[1]
    e = np.asarray(backend.to_host(layer.errors), dtype=np.float64)
    if e.shape[2:] == (1, C):
        off = np.max(np.abs(e[:, :, 0, :] - (p[:, None, :] - np.eye(C))))
        if off <= rounding.gamma(4, _SINGLE):
            return
    raise ValueError(
        f"the outputs of layer {layer.name!r} must be the logits, got errors that are "
        "not p - e_c'; give the last layer, or given='class'"
    )


def _rows(snapshot: Snapshot, logits: np.ndarray) -> np.ndarray:
    """Return the weighted errors (N, C, C) of logits."""
    p = np.exp(log_softmax(logits))
    s = np.asarray(backend.to_host(snapshot.sample_weights), dtype=np.float64)
    errors = misses(p[:, None, :], np.eye(p.shape[1]), np)
    return np.asarray(errors * np.sqrt(s[:, None] * p)[:, :, None])
