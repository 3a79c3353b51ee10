"""The validating door: one function a condition, called before any work.

Every message has three parts: what was expected, what arrived, what to do. What is no
array or has the wrong type ends in a TypeError, everything else in a ValueError. A
function that has to read a value to check it returns it converted, so that a door is

    xp = checks.expect_array("A", A, "(n, n)", symmetric=True)
    steps = checks.expect_size("steps", steps, least=1)
"""

from __future__ import annotations

import math
import numbers
import operator
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from refspec import backend
from refspec.backend import Array, Namespace

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def expect_array(
    name: str,
    x: Array,
    letters: str,
    *,
    sizes: Mapping[str, int] | None = None,
    finite: bool = True,
    symmetric: bool = False,
    nonnegative: bool = False,
) -> Namespace:
    """Refuse all but a real float32 or float64 array of shape `letters`; return xp.

    A letter that comes twice, as in "(n, n)", or is in `sizes`, is one size.
    """
    if not backend.is_array(x):
        raise TypeError(
            f"{name} must be an array of shape {letters}, got {type(x).__name__}; "
            "convert it first, e.g. numpy.asarray(x, dtype=float)"
        )
    xp = backend.namespace(x)
    _expect_letters(name, tuple(x.shape), letters, sizes)
    _expect_dtype(name, x.dtype, xp)
    if finite:
        expect_finite(name, x)
    if nonnegative:
        expect_nonnegative(name, x)
    if symmetric:
        _expect_symmetric(name, x, xp)
    return xp


def expect_some_array(name: str, x: Any) -> None:
    """Refuse what is no array, whatever its shape and dtype."""
    if not backend.is_array(x):
        raise TypeError(
            f"{name} must be an array, got {type(x).__name__}; convert it first, e.g. "
            "numpy.asarray(x)"
        )


def expect_alike(**arrays: Array) -> Namespace:
    """Refuse arrays of several libraries or dtypes; return their namespace."""
    xp = backend.namespace(*arrays.values())
    kinds = {name: x.dtype for name, x in arrays.items()}
    if len(set(kinds.values())) > 1:
        got = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        raise ValueError(
            f"{', '.join(kinds)} must share one dtype, got {got}; "
            "convert with xp.astype(x, xp.float64)"
        )
    return xp


def host_array(name: str, x: Any, letters: str, **how: Any) -> np.ndarray:
    """Return numbers of any kind (lists, integers, any library) as host float64.

    Conditions as in `expect_array`, which `how` is passed to; float16 is converted.
    """
    if backend.is_array(x):
        x = backend.to_host(x)
    try:
        host = np.asarray(x)
    except ValueError as error:
        raise ValueError(
            f"{name} must be numbers of shape {letters}, got {_SHORT.repr(x)}; give "
            "rows of one length"
        ) from error
    if host.dtype.kind not in "iuf":
        got = type(x).__name__ if host.dtype.kind == "O" else host.dtype
        raise (TypeError if host.dtype.kind in "OUSV" else ValueError)(
            f"{name} must be real numbers of shape {letters}, got {got}; "
            "convert to floats first"
        )
    host = np.asarray(host, dtype=np.float64)
    expect_array(name, host, letters, **how)
    return host


def expect_size(name: str, n: Any, *, least: int = 0) -> int:
    """Refuse all but an integer >= `least`: not 2.0, not True, not "3"."""
    try:
        if isinstance(n, (bool, np.bool_)):
            raise TypeError
        size = operator.index(n)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer >= {least}, got {_SHORT.repr(n)} of type "
            f"{type(n).__name__}; convert it with int(...) if it is a whole number"
        ) from None
    if size < least:
        raise ValueError(
            f"{name} must be an integer >= {least}, got {size}; give a larger one"
        )
    return size


def expect_number(name: str, x: Any) -> float:
    """Refuse all but one finite real number; return it as a float."""
    if isinstance(x, np.ndarray) and x.shape == () and x.dtype.kind in "iuf":
        x = x[()]
    if not isinstance(x, numbers.Real) or isinstance(x, bool):
        raise TypeError(
            f"{name} must be a real number, got {_SHORT.repr(x)} of type "
            f"{type(x).__name__}; give a float"
        )
    try:
        value = float(x)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(
            f"{name} must be finite, got {value}; look for an overflow or a 0 / 0"
        )
    return value


def expect_positive(name: str, x: Any, *, zero: bool = False) -> float:
    """Refuse all but a finite number > 0, or >= 0; return it as a float."""
    value = expect_number(name, x)
    if value < 0 or (value == 0 and not zero):
        sign = ">= 0" if zero else "> 0"
        raise ValueError(
            f"{name} must be {sign}, got {value:.3g}; give a number {sign}"
        )
    return value


def expect_probability(name: str, x: Any, *, ends: bool = True) -> float:
    """Refuse all but a number in [0, 1], or in (0, 1); return it as a float."""
    value = expect_number(name, x)
    if not (0 <= value <= 1 if ends else 0 < value < 1):
        interval = "[0, 1]" if ends else "(0, 1)"
        raise ValueError(
            f"{name} must lie in {interval}, got {value:.3g}; give a share, "
            "not a percentage or a count"
        )
    return value


def expect_share(name: str, x: Any) -> float:
    """Refuse what is no number in [0, 1); return it as float."""
    if not 0 <= (share := expect_number(name, x)) < 1:
        raise ValueError(
            f"{name} must be a part of the trace, in [0, 1), got {x}; give 1e-6, say, "
            "or 0 for nothing"
        )
    return share


def expect_choice(name: str, value: Any, options: Iterable[str]) -> None:
    """Refuse all but one of the `options`."""
    known = tuple(options)
    if not isinstance(value, str) or value not in known:
        raise (ValueError if isinstance(value, str) else TypeError)(
            f"{name} must be one of {', '.join(map(repr, known))}, got "
            f"{_SHORT.repr(value)}; choose one of these"
        )


def expect_names(name: str, given: Any, among: Iterable[str]) -> tuple[str, ...]:
    """Refuse a string, unknown names and names given twice; return the names."""
    known = tuple(among)
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(
            f"{name} must be a sequence of names, got {_SHORT.repr(given)}; "
            f"put it in a list, e.g. [{known[0] if known else 'name'!r}]"
        )
    names = tuple(given)
    for i, each in enumerate(names):
        expect_choice(f"each of {name}", each, known)
        if each in names[:i]:
            raise ValueError(
                f"{name} must be distinct, got {_SHORT.repr(each)} twice; "
                "give every name once"
            )
    return names


def expect_generator(name: str, rng: Any) -> None:
    """Refuse all but a NumPy Generator, seeds and None included."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"{name} must be a numpy.random.Generator, got {_SHORT.repr(rng)} of type "
            f"{type(rng).__name__}; make one with numpy.random.default_rng(seed)"
        )


def expect_type(name: str, x: Any, kind: type | tuple[type, ...], advice: str) -> None:
    """Refuse what is no instance of `kind`; `advice` says how to make one."""
    if not isinstance(x, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise TypeError(
            f"{name} must be a {' or '.join(k.__name__ for k in kinds)}, got "
            f"{type(x).__name__}; {advice}"
        )


def expect_flag(name: str, x: Any) -> None:
    """Refuse all but True and False: not 1, not "no", not None."""
    if not isinstance(x, (bool, np.bool_)):
        raise TypeError(
            f"{name} must be True or False, got {_SHORT.repr(x)} of type "
            f"{type(x).__name__}; give one of the two"
        )


def host_labels(labels: Any, N: int) -> np.ndarray:
    """Refuse all but N integers, in any order; return them on the host."""
    try:
        host = np.asarray(
            backend.to_host(labels) if backend.is_array(labels) else labels
        )
    except ValueError:  # lists of several lengths
        host = np.asarray(None)
    if host.shape != (N,) or host.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape (N,) = ({N},), got {host.dtype} of "
            f"shape {host.shape}; give one class index 0..C-1 per sample"
        )
    return host


def sorted_labels(
    labels: Array, N: int, C: int | None
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Refuse all but N sorted integers 0..C-1; return them and the class offsets.

    A class may have no sample, but where C is None and the labels alone can tell C.
    """
    host, told = host_labels(labels, N), C is not None
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
    if C > N and not told:  # before an array of length C is made
        raise ValueError(
            f"every class 0..C-1 = 0..{C - 1} must have a sample, got N = {N} samples; "
            "drop the classes (and their logits) without samples"
        )
    counts = np.bincount(host, minlength=C)
    if not told and not counts.all():
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
    for y in (x, *others):
        if not backend.is_array(y):
            raise TypeError(
                f"{name} and the arrays beside it must be arrays, {name} of shape "
                f"{letters}, got {type(y).__name__}; convert it first, e.g. "
                "numpy.asarray(x, dtype=float)"
            )
    xp = backend.namespace(x, *others)
    _expect_letters(name, tuple(x.shape), letters, None)
    for y in (x, *others):
        _expect_dtype(f"{name} and the arrays beside it", y.dtype, xp)
        if y.dtype != x.dtype:
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
    kinds = ("real floating", "complex floating")
    if xp.isdtype(x.dtype, kinds) and not bool(xp.all(xp.isfinite(x))):
        bad = int(backend.scalar(xp.sum(xp.astype(~xp.isfinite(x), xp.int64))))
        raise ValueError(
            f"{name} must be finite, got {bad} of {math.prod(x.shape)} values "
            "nan or infinite; look for an overflow, or a network that diverged"
        )


def expect_nonnegative(name: str, x: Array) -> None:
    """Refuse negative weights."""
    xp = backend.namespace(x)
    low = backend.scalar(xp.min(x)) if math.prod(x.shape) else 0.0
    if low < 0:
        raise ValueError(
            f"{name} must be >= 0, got a smallest value of {low:.3g}; "
            "weights are probabilities, never signed"
        )


def expect_sum_one(name: str, x: Array, axis: int) -> None:
    """Refuse sums that are not 1 after k rounded divisions: gamma_{2k+16} is both."""
    xp = backend.namespace(x)
    off = backend.scalar(xp.max(xp.abs(xp.sum(x, axis=axis) - 1)))
    ku = (2 * x.shape[axis] + 16) * float(xp.finfo(x.dtype).eps) / 2
    bound = ku / (1 - ku)  # theory/rounding.md#B1
    if not off <= bound:
        raise ValueError(
            f"{name} must sum to 1 within rounding ({bound:.1e}), got a sum off by "
            f"{off:.3g}; give logits, or divide by the sum"
        )


def _expect_letters(
    name: str, shape: tuple[int, ...], letters: str, sizes: Mapping[str, int] | None
) -> None:
    """Match a shape with letters such as "(N, T, a)"; a number stands for itself."""
    wanted = [x for x in letters.strip("()").replace(" ", "").split(",") if x]
    known = dict(sizes or {})
    fits = len(wanted) == len(shape)
    for letter, size in zip(wanted, shape, strict=False):
        fits &= (
            known.setdefault(letter, int(letter) if letter.isdigit() else size) == size
        )
    if not fits:
        given = ", ".join(f"{k} = {n}" for k, n in (sizes or {}).items() if k in wanted)
        raise ValueError(
            f"{name} must have shape {letters}{' with ' * bool(given)}{given}, got "
            f"{shape}; reshape it, or look whether its axes are in this order"
        )


def _expect_dtype(name: str, dtype: Any, xp: Namespace) -> None:
    """Refuse integers, complex numbers and halves."""
    if dtype in (xp.float32, xp.float64):
        return
    advice = "convert with xp.astype(x, xp.float64)"
    if xp.isdtype(dtype, "complex floating"):
        advice = "take the real part, once its imaginary part is seen to be 0"
    raise ValueError(
        f"{name} must be real floating, float32 or float64, got {dtype}; {advice}"
    )


def _expect_symmetric(name: str, x: Array, xp: Namespace) -> None:
    """Refuse what is not symmetric to the last bit."""
    mirrored = xp.matrix_transpose(x)
    if not bool(xp.all(x == mirrored)):
        with np.errstate(over="ignore"):
            away, size = (backend.scalar(xp.max(xp.abs(y))) for y in (x - mirrored, x))
        raise ValueError(
            f"{name} must equal its transpose exactly, got max |A - A'| = {away:.3g} "
            f"with max |A| = {size:.3g}; symmetrize it, e.g. (A + A.T) / 2"
        )
