"""What people hand over: matrices, operators and functions of any array library.

Products with probes come to the host in float64, in refspec's order of parameters, with
the unit roundoff of the format they arrived in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import array_api_compat
import numpy as np

from refspec import backend, rounding
from refspec.backend import Array
from refspec.testing.questions import Question

__all__ = [
    "ORDERS",
    "dimension",
    "frobenius",
    "host",
    "is_array",
    "order_places",
    "probes",
    "products",
    "roundoff",
]

#: Orders of a parameter vector, layer by layer, W the (b, a) weight without its bias:
#: ``row_major``: refspec's, [W bias] raveled by rows, errors (x) features;
#: ``column_stacked``: [W bias] raveled by columns, features (x) errors, as in papers;
#: ``torch``: W by rows, then the bias, as torch.nn.utils.parameters_to_vector;
#: ``jax``: the bias, then the kernel W' by rows, as the flattened tree of a flax Dense.
ORDERS = ("row_major", "column_stacked", "torch", "jax")


def order_places(question: Question, order: str | np.ndarray) -> np.ndarray:
    """Return where each of refspec's P parameters is in the other order.

    Parameters
    ----------
    question : Question
        Its layers give the shapes.
    order : str or array of int, shape (P,)
        One of `ORDERS`, or the places themselves.

    Raises
    ------
    ValueError
        If the name is unknown or the array no permutation of 0..P-1.
    """
    P = question.parameters
    if not isinstance(order, str):
        places = np.asarray(order)
        if places.shape != (P,) or not np.array_equal(np.sort(places), np.arange(P)):
            raise ValueError(
                f"order must be one of {ORDERS} or a permutation of 0..P-1 with "
                f"P = {P}, got shape {places.shape}; give the place of each parameter"
            )
        return places
    if order not in ORDERS:
        raise ValueError(
            f"order must be one of {ORDERS} or a permutation, got {order!r}; choose one"
        )
    parts, start = [], 0
    for (b, a), bias in zip(question.shapes, question.biased, strict=True):
        j, k = np.arange(b)[:, None], np.arange(a)[None, :]
        inner = a - bias  # features that are not the bias
        if order == "row_major":
            place = j * a + k
        elif order == "column_stacked":
            place = k * b + j
        elif order == "torch":
            place = np.where(k < inner, j * inner + k, b * inner + j)
        else:
            place = np.where(k < inner, b * bias + k * b + j, j)
        parts.append(start + np.ravel(place))
        start += a * b
    return np.concatenate(parts)


def products(
    operator: Any, Z: np.ndarray, places: np.ndarray, like: Array | None
) -> tuple[np.ndarray, float]:
    """Return A Z in refspec's order, float64, and the roundoff of A's format.

    Raises
    ------
    TypeError
        If the operator is nothing that can be multiplied with.
    ValueError
        If a product has another shape than the vector, or is not finite.
    """
    there = np.empty_like(Z)
    there[places] = Z
    if is_array(operator):
        out, u = host(operator) @ there, roundoff(operator)
    else:
        out, u = _applied(operator, there, like)
    if out.shape != Z.shape:
        raise ValueError(
            f"the operator must map vectors (P,) to (P,) with P = {Z.shape[0]}, got "
            f"{out.shape[:1]}; flatten what it returns"
        )
    if not np.all(np.isfinite(out)):
        raise ValueError(
            "products must be finite, got nan or infinite ones; look for an overflow"
        )
    return out[places], u


def is_array(x: Any) -> bool:
    """Whether x is an array of some library."""
    return bool(array_api_compat.is_array_api_obj(x))


def host(x: Array) -> np.ndarray:
    """Return any array, half precisions of every library too, as host float64."""
    xp = backend.namespace(x)
    if str(x.dtype).rsplit(".")[-1] == "bfloat16":
        x = xp.astype(x, xp.float32)
    return np.asarray(backend.to_host(x), dtype=np.float64)


def roundoff(x: Array) -> float:
    """Return the unit roundoff of an array's format, 2**-53 for integers."""
    xp = backend.namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        return rounding.unit_roundoff(np.zeros(0))
    return rounding.unit_roundoff(x)


def dimension(operator: Any) -> int | None:
    """Return the side of an operator that knows it.

    Raises
    ------
    ValueError
        If it is not square.
    """
    shape = getattr(operator, "shape", None)
    if shape is None or callable(shape) or len(shape) != 2:
        found = getattr(operator, "dimension", None)
        return None if found is None else int(found)
    if shape[0] != shape[1]:
        raise ValueError(
            f"the operator must be square (P, P), got {tuple(shape)}; curvature "
            "matrices are symmetric"
        )
    return int(shape[0])


def _applied(
    operator: Any, Z: np.ndarray, like: Array | None
) -> tuple[np.ndarray, float]:
    """Multiply an object column by column, in the arrays it takes."""
    if like is None:
        like = getattr(operator, "like", None)
    if like is None:
        kind = getattr(operator, "dtype", None)
        like = np.zeros(0, dtype=kind if isinstance(kind, np.dtype) else np.float64)
    xp = backend.namespace(like)
    apply = _function(operator)
    columns, u = [], roundoff(like)
    for z in Z.T:
        vector = xp.astype(backend.from_host(np.ascontiguousarray(z), like), like.dtype)
        out = apply(vector)
        if not is_array(out):
            raise TypeError(
                f"the operator must return an array, got {type(out).__name__}; "
                "flatten and concatenate its blocks"
            )
        columns.append(host(out))
        u = max(u, roundoff(out))
    return np.stack(columns, axis=1), u


def _function(operator: Any) -> Callable[[Array], Array]:
    for name in ("matvec", "_matvec"):
        found = getattr(operator, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    if hasattr(type(operator), "__matmul__"):
        return lambda v: operator @ v
    if callable(operator):
        return operator  # type: ignore[no-any-return]
    raise TypeError(
        "the operator must be a matrix, something with matvec or @, or a function of a "
        f"vector, got {type(operator).__name__}; wrap it in a function"
    )


def probes(P: int, m: int, u: float, seed: int) -> np.ndarray:
    """Draw Gaussian vectors (P, m), rounded to the format so that nobody rounds them.

    The rounding changes a chi-squared sum by at most the relative 4 u.
    """
    Z = np.random.default_rng(seed).standard_normal((P, m))
    for narrow in (np.float32, np.float16):
        if u > rounding.unit_roundoff(np.zeros(0, np.float64)) and (
            narrow is np.float32 or u > rounding.unit_roundoff(np.zeros(0, np.float32))
        ):
            Z = Z.astype(narrow).astype(np.float64)
    if u > rounding.unit_roundoff(np.zeros(0, np.float16)):  # bfloat16: 8 bits
        mantissa, exponent = np.frexp(Z)
        Z = np.ldexp(np.round(mantissa * 2**8) / 2**8, exponent)
    return Z


def frobenius(x: np.ndarray) -> float:
    """Return the Frobenius norm."""
    return math.sqrt(float(np.sum(x * x)))
