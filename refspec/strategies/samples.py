"""Strategies for how samples are counted and weighed: sizes, labels, probabilities.

Arrays are made on the host in float64 and converted last, so that one draw is the same
in every namespace: `xp` is anything with `asarray`, `dtype` float64 or float32. Sizes
are drawn first and entries last, each array in one go: that is what shrinks well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from refspec import checks
from refspec.backend import Array, Namespace
from refspec.classes import log_softmax
from refspec.populations import WIDEST, expect_sizes
from refspec.synthetic.worlds import convert

#: Seeds of numpy.random.default_rng, where drawing entry by entry would not pay.
seeds = st.integers(0, 2**32 - 1)

#: Whole numbers up to 9, the small ones often: equal, orthogonal and zero vectors.
WHOLE = (*[0, 1, -1] * 5, *(sign * k for k in range(2, 10) for sign in (1, -1)))


def class_sizes(
    *, min_classes: int = 2, max_classes: int = 4, max_per_class: int = 4
) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw the number of samples of each class, equal or not, all at least 1.

    Shrinks to one sample in each of `min_classes` classes, 2 at least.
    """
    expect_range("classes C", min_classes, max_classes, 2)
    expect_range("samples a class", 1, max_per_class, 1)
    counts = st.integers(1, max_per_class)
    return st.lists(counts, min_size=min_classes, max_size=max_classes).map(tuple)


@st.composite
def labels(
    draw: st.DrawFn,
    sizes: Sequence[int] | st.SearchStrategy[tuple[int, ...]] | None = None,
    *,
    shuffled: bool = False,
) -> np.ndarray:
    """Draw class labels (N,), every class present; sorted unless `shuffled`."""
    if sizes is None:
        sizes = class_sizes()
    counts = draw(sizes) if isinstance(sizes, st.SearchStrategy) else sizes
    counts = expect_sizes("sizes", counts, classes=2)
    expect_flags(shuffled=shuffled)
    y = np.repeat(np.arange(len(counts)), counts)
    return y[draw(st.permutations(range(len(y))))] if shuffled else y


@st.composite
def sample_weights(
    draw: st.DrawFn,
    N: int,
    *,
    allow_zero: bool = True,
    dtype: str = "float64",
    xp: Namespace | None = None,
) -> Array:
    """Draw weights of samples (N,), of sum 1; some, never all, may be 0.

    They are multiples of one number and shrink to equal weights.
    """
    expect_range("samples N", 1, N, 1)
    expect_flags(allow_zero=allow_zero)
    table = [1, 2, 5, 100, *[0, 0] * allow_zero]  # shrinks to equal weights
    w = choices(draw, table, N)
    w = w if w.any() else w + 1
    return convert(w / w.sum(), dtype, xp)


@st.composite
def probabilities(
    draw: st.DrawFn,
    N: int,
    C: int,
    *,
    labels: np.ndarray | None = None,
    allow_tiny: bool = True,
    allow_zero: bool = True,
    dtype: str = "float64",
    xp: Namespace | None = None,
) -> Array:
    """Draw softmax outputs.

    Parameters
    ----------
    N, C : int
        Samples, at least 1, and classes, at least 2.
    labels : array of int, shape (N,), optional
        Labels that confident rows favour, as a fitted network does; rows that are wrong
        remain. Any class if not given.
    allow_tiny : bool
        Probabilities may be below the unit roundoff, down to subnormal ones, so that
        1 - p loses them.
    allow_zero : bool
        They may underflow to 0, up to rows that are one-hot to the bit.
    dtype, xp
        Format and library of the arrays.

    Returns
    -------
    strategy of Array, shape (N, C)
        Shrinks to 1 / C everywhere. Rows sum to 1 within the rounding of a softmax.

    Raises
    ------
    ValueError, TypeError
        If N < 1 or C < 2, or the labels are not N of C classes.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(probabilities(1, 2), lambda p: p.min() == 0).tolist()
    [[1.0, 0.0]]
    """
    expect_range("samples N", 1, N, 1)
    expect_range("classes C", 2, C, 2)
    expect_flags(allow_tiny=allow_tiny, allow_zero=allow_zero)
    checks.expect_choice("dtype", dtype, ("float64", "float32"))
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (N,) or not set(labels.tolist()) <= set(range(C)):
            raise ValueError(
                f"labels must be N = {N} integers in 0..{C - 1}, got "
                f"{labels.dtype} of shape {labels.shape}; give one class per sample"
            )
    # softmax loses 1 - p, is subnormal, and is 0, at these margins of a logit
    lost, subnormal, zero = (20, 95, 200) if dtype == "float32" else (40, 730, 1500)
    table = [0, 1, 8, *[lost, subnormal] * allow_tiny, *[zero] * allow_zero]
    towards = draw(st.booleans()) if labels is not None else False
    rows = numbers(draw, (N, C), exact=True) / 3
    margins = choices(draw, table, N)
    top = np.arange(N) % C if labels is None else labels.astype(np.int64)
    if not towards:
        top = choices(draw, range(C), N).astype(np.int64)
    rows[np.arange(N), top] += margins
    p = np.exp(log_softmax(rows))
    if not allow_zero:
        p = np.maximum(p, float(np.finfo(dtype).smallest_subnormal))
    return convert(p, dtype, xp)


def numbers(draw: st.DrawFn, shape: tuple[int, ...], *, exact: bool) -> np.ndarray:
    """Draw vectors on the last axis: of whole numbers, unit vectors, or Gaussian."""
    kinds = ["whole", "unit", *["gaussian"] * (not exact)]
    kind, d = draw(st.sampled_from(kinds)), shape[-1]
    if kind == "whole":
        return choices(draw, WHOLE, math.prod(shape)).reshape(shape)
    if kind == "unit":  # equal or orthogonal, so that eigenvalues repeat
        axes = choices(draw, range(d), math.prod(shape[:-1])).astype(np.int64)
        return np.eye(d)[axes].reshape(shape)
    scale = 2.0 ** draw(st.integers(-12, 12))
    return scale * np.random.default_rng(draw(seeds)).standard_normal(shape)


def choices(draw: st.DrawFn, table: Sequence[float], n: int) -> np.ndarray:
    """Draw n entries of a table, shape (n,); they shrink to its first."""
    # what is drawn has a form that does not depend on n, a seed for all entries and a
    # few of the first ones, so that sizes can shrink while entries stay
    seed, head = draw(st.integers(0, 2**16)), draw(st.binary(max_size=16))
    index = np.zeros(n, dtype=np.int64)
    if seed:
        index = np.random.default_rng(seed).integers(0, len(table), n)
    few = min(n, len(head))
    index[:few] = np.frombuffer(head, np.uint8)[:few] % len(table)
    return np.asarray(table, dtype=np.float64)[index]


def expect_range(what: str, low: int, high: int, least: int) -> None:
    """Refuse a range that is empty or begins too low."""
    low, high = (checks.expect_size(what, x) for x in (low, high))
    if not least <= low <= high <= WIDEST:
        raise ValueError(
            f"{what} must have a range with {least} <= smallest <= largest <= 2^20, "
            f"got {low}..{high}; change it"
        )


def expect_flags(**flags: bool | None) -> None:
    """Refuse all but True, False and None."""
    for name, flag in flags.items():
        checks.expect_type(name, flag, (bool, type(None)), "give True or False")
