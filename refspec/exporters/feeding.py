"""What people feed an exporter: batches of many kinds, or a sentence.

Inputs and labels come as arrays of any library, as lists, as mappings, as one sample by
mistake. What they must be is the same for all frameworks, and stated here; whatever a
framework says of them below becomes a sentence.
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from refspec.export.errors import shown

_PAIRS = "for two arrays X and y give [(X, y)]"


def open_loader(
    loader: Iterable[Any],
) -> tuple[tuple[Any, Any], Iterator[tuple[Any, Any]], int | None]:
    """Return the first batch, all batches, and how many there are if that is known.

    Batches are pairs, or mappings with `labels`.
    """
    kind = type(loader)
    if not (hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")):
        raise TypeError(
            "loader must be an iterable of batches (inputs, labels), got "
            f"{shown(loader, 60)} of type {kind.__name__}; {_PAIRS}"
        )
    batches = _pairs(loader)
    first = next(batches, None)
    if first is None:
        raise ValueError("loader must give at least one batch, got none; check it")
    try:
        total = len(loader)  # type: ignore[arg-type]
    except TypeError:  # a stream's: torch's loader has a length that raises
        total = None
    return first, itertools.chain([first], batches), total


def _pairs(loader: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield batches, each seen to be a pair that holds several samples."""
    for step, batch in enumerate(loader):
        if isinstance(batch, Mapping) and "labels" in batch:  # as of transformers
            inputs = {key: x for key, x in batch.items() if key != "labels"}
            batch = inputs, batch["labels"]
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            got = type(batch).__name__
            if isinstance(batch, tuple | list):
                got = f"a {got} of {len(batch)}"
            elif isinstance(batch, Mapping):
                got = f"a {got} of {shown(list(batch), 100)}"
            raise ValueError(
                f"loader must give batches (inputs, labels), got {got} in batch "
                f"{step}; {_PAIRS}"
            )
        inputs, labels = batch
        if isinstance(labels, numbers.Number | str) or _shape(labels) == ():
            raise ValueError(
                "loader must give batches (inputs, labels), got one sample with the "
                f"label {shown(labels, 60)} in batch {step}; a Dataset goes into a "
                f"DataLoader, and {_PAIRS}"
            )
        yield inputs, labels


@contextmanager
def answering(step: int, expected: str, advice: str) -> Iterator[None]:
    """Turn whatever is raised below, in a framework or a model, into a sentence."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"{expected}, got in batch {step}: {type(error).__name__} "
            f"{shown(' '.join(str(error).split()))}; {advice}"
        ) from error


def _shape(x: Any) -> tuple[int, ...] | None:
    """Return the shape of an array of any library, None of what is no array."""
    shape = getattr(x, "shape", None)
    return None if shape is None else tuple(shape)


def as_array(step: int, name: str, x: Any) -> np.ndarray:
    """Return what a batch holds as an array on the host."""
    masked = isinstance(x, np.ma.MaskedArray)
    if masked or (isinstance(x, tuple) and any(_shape(y) for y in x)):
        got = "a masked array" if masked else f"a tuple of {len(x)} arrays"
        raise ValueError(
            f"{name} must be one array without gaps, got {got} in batch {step}; fill "
            "it, or wrap the model so that it takes one array"
        )
    with answering(step, f"{name} must be one array", "give rows of one length"):
        return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)


def as_numbers(step: int, x: Any, *, real: bool = False) -> np.ndarray:
    """Return the inputs of a batch on the host: numbers, samples on the first axis."""
    host = as_array(step, "inputs", x)
    if host.dtype.kind == "O" and host.ndim:  # numbers in objects, as of a table
        with answering(step, "inputs must be numbers", "convert them"):
            host = host.astype(np.float64)
    kind = host.dtype.kind
    if kind in "OSTUMm" or host.dtype.type is np.void or (real and kind == "c"):
        got = type(x).__name__ if host.ndim == 0 else f"an array of {host.dtype}"
        raise ValueError(
            f"inputs must be an array of {'real ' * real}numbers, got {got} in batch "
            f"{step}; convert them, or wrap the model so that it takes one array"
        )
    expect_samples(step, host.shape)
    wide = kind == "f" and host.dtype.itemsize > 8
    return np.ascontiguousarray(
        host, dtype=np.float64 if wide else host.dtype.newbyteorder("=")
    )


def same_numbers(step: int, given: np.ndarray, made: Any) -> None:
    """Refuse integers that the dtype of the model's inputs cannot hold."""
    if given.dtype.kind in "iu" and not np.array_equal(given, np.asarray(made)):
        raise ValueError(
            f"inputs must be integers of {made.dtype}, got {given.min()}.."
            f"{given.max()} in batch {step}; number them anew, or give floats"
        )


def expect_samples(step: int, shape: Sequence[int]) -> None:
    """Refuse inputs without a batch axis, and a batch of no samples."""
    if not shape:
        raise ValueError(
            f"inputs must have samples on their first axis, got a single number in "
            f"batch {step}; give an array of shape (batch, ...)"
        )
    if shape[0] < 1:
        raise ValueError(f"batch {step} must hold a sample, got none; drop it")


def count(step: int, arrays: Iterable[Any]) -> int:
    """Return the number of samples, the same in all inputs of a batch."""
    sizes = {len(x) for x in arrays if x.ndim}
    if len(sizes) != 1:
        raise ValueError(
            "inputs must have samples on their first axis, got the sizes "
            f"{sorted(sizes)} in batch {step}; give arrays of shape (batch, ...)"
        )
    n = sizes.pop()
    expect_samples(step, (n,))
    return n


def expect_precise(dtype: Any) -> None:
    """Refuse logits of half precision, complex ones and integers."""
    if str(dtype).removeprefix("torch.") not in ("float32", "float64"):
        raise ValueError(
            f"model must give logits of float32 or float64, got {dtype}; convert it, "
            "and leave automatic casting"
        )


def expect_real(dtype: Any) -> None:
    """Refuse complex numbers, whose conversion would drop a part."""
    if "complex" in str(dtype):
        raise ValueError(
            f"inputs, features and errors must be real, got {dtype}; take the parts "
            "apart, as two real numbers, before the first layer"
        )


def host(x: Any) -> np.ndarray:
    """Copy to a NumPy array of float64 or, if narrower, float32."""
    x = np.asarray(x)
    expect_real(x.dtype)
    wide = x.dtype.kind == "f" and x.dtype.itemsize >= 8
    with np.errstate(over="ignore"):  # what is not finite is refused later
        return np.array(x, dtype=np.float64 if wide else np.float32)
