"""Strategies for the class-indexed types: ClassArray, Layer, Snapshot.

Errors come in two kinds. Those of a network are J (p - e_c') for some matrix J per
sample, so that ``sum_c' p_c' delta_c' = 0`` (the score identity) within rounding;
*unscored* ones are arbitrary. What holds for unscored errors needs no score identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from refspec import checks, classes
from refspec.backend import Namespace
from refspec.classes import ClassArray, Layer, Snapshot
from refspec.models import evaluation
from refspec.strategies import samples
from refspec.synthetic.worlds import convert


@st.composite
def class_arrays(
    draw: st.DrawFn,
    *,
    cross: bool | None = None,
    sizes: Sequence[int] | st.SearchStrategy[tuple[int, ...]] | None = None,
    max_dimension: int = 4,
    exact: bool = False,
    allow_zero: bool = True,
    dtype: str = "float64",
    xp: Namespace | None = None,
) -> ClassArray:
    """Draw class-indexed vectors with weights.

    Parameters
    ----------
    cross : bool, optional
        Whether there is a cross-class axis, K = C, or K = 1; either if not given.
    sizes, dtype, xp
        As in `snapshots`.
    max_dimension : int
        d is at most this; it may be below or above C and N.
    exact : bool
        Values are whole numbers up to 9 and weights squares of such, so that weighted
        rows, sums and products are exact in rational arithmetic.
    allow_zero : bool
        Weights may be 0, those of a whole class or cell included.

    Returns
    -------
    strategy of ClassArray
        Shrinks to one vector (0,) in each of two classes.

    Raises
    ------
    ValueError, TypeError
        If an argument allows nothing, or is not of the type above.

    Examples
    --------
    >>> from hypothesis import Phase, find, settings
    >>> simplest = settings(phases=[Phase.generate])
    >>> find(class_arrays(cross=True), lambda x: True, settings=simplest).values.shape
    (2, 2, 1)
    """
    samples.expect_range("dimension d", 1, max_dimension, 1)
    samples.expect_flags(cross=cross, exact=exact, allow_zero=allow_zero)
    y = draw(samples.labels(sizes))
    N, C = len(y), int(y[-1]) + 1
    cross = draw(st.booleans()) if cross is None else cross
    K, d = C if cross else 1, draw(st.integers(1, max_dimension))
    roots = samples.choices(draw, [1, 2, 3, 4, *[0] * allow_zero], N * K)
    weights = roots.reshape(N, K) ** 2
    values = samples.numbers(draw, (N, K, d), exact=exact)
    if not exact and weights.any():
        weights = weights / weights.sum()
    values, weights = (convert(x, dtype, xp) for x in (values, weights))
    return ClassArray(values, weights, y)


@st.composite
def layers(
    draw: st.DrawFn,
    N: int,
    C: int,
    *,
    name: str = "layer",
    probabilities: np.ndarray | None = None,
    max_inputs: int = 4,
    max_outputs: int = 3,
    max_positions: int = 3,
    bias: bool | None = None,
    exact: bool = False,
    dtype: str = "float64",
    xp: Namespace | None = None,
) -> Layer:
    """Draw one layer: features (N, T, a) and errors (N, C, T, b).

    Parameters
    ----------
    N, C : int
        Samples and classes.
    name : str
    probabilities : array, shape (N, C), optional
        The errors then obey the score identity with these, as those of a network do;
        they are arbitrary otherwise.
    max_inputs, max_outputs, max_positions : int
        Largest a, b and T; a and b may be below C, T = 1 is a dense layer.
    bias : bool, optional
        Whether the last feature is 1; either if not given.
    exact : bool
        Features, and errors without probabilities, are whole numbers up to 9.
    dtype, xp
        Format and library of the arrays.

    Returns
    -------
    strategy of Layer
        Shrinks to T = a = b = 1 and zeros.

    Raises
    ------
    ValueError, TypeError
        If an argument allows nothing, or is not of the type above.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(layers(2, 2), lambda x: x.features.any()).features.shape
    (2, 1, 1)
    """
    samples.expect_range("samples N", 1, N, 1)
    samples.expect_range("classes C", 2, C, 2)
    samples.expect_flags(bias=bias, exact=exact)
    checks.expect_type("name", name, str, "give the layer a name")
    for what, most in (("a", max_inputs), ("b", max_outputs), ("T", max_positions)):
        samples.expect_range(f"size {what}", 1, most, 1)
    T, a, b = (
        draw(st.integers(1, x)) for x in (max_positions, max_inputs, max_outputs)
    )
    bias = draw(st.booleans()) if bias is None else bias
    h = samples.numbers(draw, (N, T, a), exact=exact)
    if bias:
        h[:, :, -1] = 1
    if probabilities is None:
        errors = samples.numbers(draw, (N, C, T, b), exact=exact)
    else:  # as back-propagation does: one linear map of p - e_c' for each sample
        p = checks.host_array(
            "probabilities", probabilities, "(N, C)", sizes={"N": N, "C": C}
        )
        seeds = evaluation.misses(p[:, None, :], np.eye(C)[None, ...], np)
        J = samples.numbers(draw, (N, C, T * b), exact=exact)
        errors = np.reshape(seeds @ J, (N, C, T, b))
    return Layer(name, *(convert(x, dtype, xp) for x in (h, errors)))


@st.composite
def snapshots(
    draw: st.DrawFn,
    *,
    scored: bool | None = True,
    sizes: Sequence[int] | st.SearchStrategy[tuple[int, ...]] | None = None,
    max_layers: int = 2,
    max_inputs: int = 4,
    max_outputs: int = 3,
    max_positions: int = 3,
    bias: bool | None = None,
    weighted: bool | None = None,
    allow_zero_weight: bool = True,
    allow_tiny: bool = True,
    allow_zero: bool = True,
    exact: bool = False,
    dtype: str = "float64",
    xp: Namespace | None = None,
) -> Snapshot:
    """Draw a classifier seen through its samples.

    Parameters
    ----------
    scored : bool, optional
        Whether errors obey the score identity as those of a network do; either if None.
    sizes : sequence of int, or strategy, optional
        Samples of each class; `samples.class_sizes` if not given.
    max_layers, max_inputs, max_outputs, max_positions, bias, exact
        As in `layers`; at least one layer.
    weighted : bool, optional
        Whether samples have unequal weights; either if not given, 1 / N if False.
    allow_zero_weight : bool
        Samples may have weight 0, all those of a class too.
    allow_tiny, allow_zero
        As in `probabilities`.
    dtype, xp
        Format, {"float64", "float32"}, and library, by default NumPy, of the arrays.

    Returns
    -------
    strategy of Snapshot
        No model section; for networks see `labelled_networks`. Shrinks to one layer of
        one parameter, two classes of one sample.

    Raises
    ------
    ValueError, TypeError
        If an argument allows nothing, or is not of the type above.

    Notes
    -----
    The score identity holds within ``gamma_{2C+4}`` of the absolute sums.

    Examples
    --------
    >>> from hypothesis import Phase, find, settings
    >>> simplest = settings(phases=[Phase.generate])
    >>> find(snapshots(), lambda s: True, settings=simplest).offsets
    (0, 1, 2)
    """
    samples.expect_range("number of layers", 1, max_layers, 1)
    samples.expect_flags(scored=scored, weighted=weighted)
    scored = draw(st.booleans()) if scored is None else scored
    weighted = draw(st.booleans()) if weighted is None else weighted
    depth = draw(st.integers(1, max_layers))
    y = draw(samples.labels(sizes))
    N, C = len(y), int(y[-1]) + 1
    p = draw(
        samples.probabilities(
            N, C, labels=y, allow_tiny=allow_tiny, allow_zero=allow_zero, dtype=dtype
        )
    )
    s = None
    if weighted:
        s = draw(
            samples.sample_weights(N, allow_zero=allow_zero_weight, dtype=dtype, xp=xp)
        )
    drawn = [
        draw(
            layers(
                N,
                C,
                name=f"layer{k}",
                probabilities=p if scored else None,
                max_inputs=max_inputs,
                max_outputs=max_outputs,
                max_positions=max_positions,
                bias=bias,
                exact=exact,
                dtype=dtype,
                xp=xp,
            )
        )
        for k in range(1, depth + 1)
    ]
    p = convert(p, dtype, xp)
    return classes.snapshot(drawn, y, probabilities=p, sample_weights=s)
