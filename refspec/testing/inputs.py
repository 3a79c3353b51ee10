"""What people hand over: matrices, operators and functions of any array library.

Products with probes come to the host in float64, in refspec's order of parameters, with
the unit roundoff of the format they arrived in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from refspec import backend, checks, rounding
from refspec.backend import Array
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment
from refspec.spectra import Spectrum
from refspec.testing.questions import Question

#: Orders of a parameter vector, layer by layer, W the (b, a) weight without its bias:
#: ``row_major``: refspec's, [W bias] raveled by rows, errors (x) features;
#: ``column_stacked``: [W bias] raveled by columns, features (x) errors, as in papers;
#: ``torch``: W by rows, then the bias, as torch.nn.utils.parameters_to_vector;
#: ``jax``: the bias, then the kernel W' by rows, as the flattened tree of a flax Dense.
ORDERS = ("row_major", "column_stacked", "torch", "jax")


def order_places(question: Question, order: str | np.ndarray) -> np.ndarray:
    """Return where each of refspec's P parameters is in the other order.

    That is one of `ORDERS`, or a permutation of 0..P-1: the places themselves.
    """
    P = question.parameters
    if not isinstance(order, str):
        places = np.asarray(
            backend.to_host(order) if backend.is_array(order) else order
        )
        whole = places.dtype.kind in "iu" and places.shape == (P,)
        if not whole or not np.array_equal(np.sort(places), np.arange(P)):
            raise ValueError(
                f"order must be one of {ORDERS} or a permutation of 0..P-1 with "
                f"P = {P}, got {places.dtype} of shape {places.shape}; give the place "
                "of each parameter"
            )
        return places
    checks.expect_choice("order", order, ORDERS)
    parts = []
    shapes, biased, slices = question.shapes, question.biased, question.slices
    for (b, a), bias, part in zip(shapes, biased, slices, strict=True):
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
        parts.append(part.start + np.ravel(place))
    return np.concatenate(parts)


def products(
    operator: Any, Z: np.ndarray, places: np.ndarray, like: Array | None
) -> tuple[np.ndarray, float]:
    """Return A Z in refspec's order, float64, and the roundoff of A's format."""
    there = np.empty_like(Z)
    there[places] = Z
    if backend.is_array(operator):
        out, u = matrix(operator, len(Z)) @ there, roundoff(operator)
    else:
        side = dimension(operator)
        if side not in (None, len(Z)):
            raise ValueError(
                f"the operator must be of side P = {len(Z)}, got {side}; flatten "
                "parameters and concatenate layers"
            )
        out, u = _applied(operator, there, like)
    if not np.all(np.isfinite(out)):
        raise ValueError(
            "products of the operator must be finite, got "
            f"{np.sum(~np.isfinite(out))} of {out.size} nan or infinite; look for an "
            "overflow"
        )
    return out[places], u


def matrix(operator: Array, P: int) -> np.ndarray:
    """Return a finite real matrix (P, P) on the host."""
    A = host_real("the operator", operator)
    if A.shape != (P, P):
        raise ValueError(
            f"the operator must be square (P, P) with P = {P}, got shape {A.shape}; "
            "flatten parameters and concatenate layers"
        )
    checks.expect_finite("the operator", A)
    return A


def host_real(name: str, x: Array) -> np.ndarray:
    """Return a real array of any library, half precisions too, as host float64.

    Complex numbers pass whose imaginary part is 0; nan and infinity are the caller's.
    """
    if not backend.is_array(x):
        raise TypeError(
            f"{name} must be an array of numbers, got {type(x).__name__}; convert it, "
            "e.g. numpy.asarray(x)"
        )
    xp = backend.namespace(x)
    if str(x.dtype).rsplit(".")[-1] == "bfloat16":
        x = xp.astype(x, xp.float32)
    out = backend.to_host(x)
    if out.dtype.kind == "c":
        most = float(np.max(np.abs(out.imag), initial=0.0))
        if not most == 0:
            raise ValueError(
                f"{name} must be real, got imaginary parts up to {most:.3g}; curvature "
                "has none: look at the transform that made them"
            )
        out = out.real
    if out.dtype.kind not in "iuf":
        raise TypeError(
            f"{name} must be numbers, got an array of {out.dtype}; convert it to floats"
        )
    return np.asarray(out, dtype=np.float64)


def roundoff(x: Array) -> float:
    """Return the unit roundoff of an array's format, 2**-53 for integers."""
    xp = backend.namespace(x)
    if not xp.isdtype(x.dtype, ("real floating", "complex floating")):
        return rounding.unit_roundoff(np.zeros(0))
    return float(xp.finfo(x.dtype).eps) / 2


def dimension(operator: Any) -> int | None:
    """Return the side of an operator that knows it; it must be square."""
    shape = getattr(operator, "shape", None)
    if shape is None or callable(shape):
        found = getattr(operator, "dimension", None)
        return int(found) if isinstance(found, int | np.integer) else None
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(
            f"the operator must be square (P, P), got {tuple(shape)}; curvature "
            "matrices are symmetric"
        )
    return int(shape[0])


def expect_expected(expected: Any) -> None:
    """Refuse what says nothing of a spectrum."""
    advice = (
        "give the snapshot, the moment, or refspec.spectrum(...) of what you compare "
        "with"
    )
    kinds = (Snapshot, SecondMoment, Spectrum)
    checks.expect_type("expected", expected, kinds, advice)


def expect_like(like: Array | None) -> None:
    """Refuse what is no array whose format vectors can have."""
    if like is None:
        return
    if not backend.is_array(like):
        raise TypeError(
            f"like must be an array or None, got {type(like).__name__}; give one of "
            "the library, device and dtype that vectors must have"
        )
    if not backend.namespace(like).isdtype(like.dtype, "real floating"):
        raise ValueError(
            f"like must be of a floating dtype, got {like.dtype}; vectors are not "
            "whole numbers"
        )


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
        if not backend.is_array(out):
            raise TypeError(
                f"the operator must return an array, got {type(out).__name__}; "
                "flatten and concatenate its blocks"
            )
        if tuple(out.shape) != z.shape:
            raise ValueError(
                f"the operator must map vectors (P,) to (P,) with P = {len(z)}, got "
                f"{tuple(out.shape)}; flatten what it returns"
            )
        columns.append(host_real("products of the operator", out))
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
