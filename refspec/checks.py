"""The checks that the class-indexed types make at birth, one function a condition.

Every message has three parts: what was expected, what arrived, what to do.
"""

from __future__ import annotations

import numpy as np

from refspec import backend, rounding
from refspec.backend import Array

__all__ = [
    "expect_finite",
    "expect_floating",
    "expect_nonnegative",
    "expect_shape",
    "expect_sum_one",
    "sorted_labels",
]


def sorted_labels(
    labels: Array, N: int, C: int | None
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Check labels and return them on the host with the class offsets.

    Raises
    ------
    ValueError
        If they are not N sorted integers 0..C-1 with every class among them.
    """
    host = np.asarray(backend.to_host(labels) if hasattr(labels, "dtype") else labels)
    if host.shape != (N,) or host.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape (N,) = ({N},), got {host.dtype} of "
            f"shape {host.shape}; give one class index 0..C-1 per sample"
        )
    if C is None:
        C = int(host.max(initial=0)) + 1
    if N == 0 or host.min() < 0 or host.max() >= C:
        got = "no samples" if N == 0 else f"values {host.min()}..{host.max()}"
        raise ValueError(
            f"labels must lie in 0..C-1 = 0..{C - 1} with N >= 1, got {got}; "
            "number the classes from 0"
        )
    if np.any(host[1:] < host[:-1]):
        raise ValueError(
            "labels must be non-decreasing (samples sorted by class), got "
            f"{int(host[np.argmax(host[1:] < host[:-1])])} before a smaller one; "
            "refspec.snapshot(...) sorts for you"
        )
    counts = np.bincount(host, minlength=C)
    if not counts.all():
        empty = np.flatnonzero(counts == 0).tolist()
        raise ValueError(
            f"every class 0..{C - 1} must have a sample, got none for {empty}; "
            "drop the class (and its logit) or add samples"
        )
    offsets = tuple(int(x) for x in np.concatenate([[0], np.cumsum(counts)]))
    host = host.astype(np.int64)
    host.setflags(write=False)
    return host, offsets


def expect_floating(name: str, x: Array, letters: str, *others: Array) -> None:
    """Refuse arrays of another rank than `letters` or of mixed or other dtypes."""
    xp = backend.namespace(x, *others)
    if len(x.shape) != letters.count(",") + (not letters.endswith(",)")):
        raise ValueError(
            f"{name} must have shape {letters}, got {tuple(x.shape)}; "
            "axes are explained in refspec.classes"
        )
    for y in (x, *others):
        if not xp.isdtype(y.dtype, "real floating") or y.dtype != x.dtype:
            raise ValueError(
                f"{name} and the arrays beside it must share one real floating dtype, "
                f"got {x.dtype} and {y.dtype}; convert with xp.astype(x, xp.float64)"
            )


def expect_shape(
    name: str, x: Array, letters: str, shape: tuple[int, ...], why: str
) -> None:
    """Refuse an array whose shape is not `shape`."""
    if tuple(x.shape) != shape:
        raise ValueError(
            f"{name} must have shape {letters} = {shape}{' ' * bool(why)}{why}, got "
            f"{tuple(x.shape)}; axes are explained in refspec.classes"
        )


def expect_finite(name: str, x: Array) -> None:
    """Refuse nan and infinity."""
    xp = backend.namespace(x)
    if xp.isdtype(x.dtype, "real floating") and not bool(xp.all(xp.isfinite(x))):
        bad = int(backend.scalar(xp.sum(xp.astype(~xp.isfinite(x), xp.int64))))
        raise ValueError(
            f"{name} must be finite, got {bad} of {x.size if x.size else 0} values "
            "nan or infinite; look for a diverged network or an overflow"
        )


def expect_nonnegative(name: str, x: Array) -> None:
    """Refuse negative weights."""
    xp = backend.namespace(x)
    low = backend.scalar(xp.min(x)) if x.shape[0] else 0.0
    if low < 0:
        raise ValueError(
            f"{name} must be >= 0, got a smallest value of {low:.3g}; "
            "weights are probabilities, never signed"
        )


def expect_sum_one(name: str, x: Array, axis: int) -> None:
    """Check sums of k rounded softmax outputs: gamma_{2k+16} covers both steps."""
    xp = backend.namespace(x)
    off = backend.scalar(xp.max(xp.abs(xp.sum(x, axis=axis) - 1)))
    bound = rounding.gamma(2 * x.shape[axis] + 16, rounding.unit_roundoff(x))
    if off > bound:
        raise ValueError(
            f"{name} must sum to 1 within rounding ({bound:.1e}), got a sum off by "
            f"{off:.3g}; give logits, or divide by the sum"
        )
