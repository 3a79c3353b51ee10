"""What was claimed of the same spectra before and after, by others.

Gradients lie in the outliers' space (Gur-Ari, Roberts and Dyer 2018); eigenvectors are
products of class means (Garrod and Keating 2024): both are proved at collapse,
theory/collapse.md#N2. The Hessian of the outputs and the second moment of the features
decouple (Wu et al. 2020), which is KFAC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from refspec import backend, checks, curvature, rounding
from refspec.attribution import gradient_alignment
from refspec.claims.curvature import compared
from refspec.claims.registry import (
    Evidence,
    Subject,
    fisher,
    graded,
    small,
    together,
    unjudged,
)
from refspec.classes import Snapshot, class_slices
from refspec.curvature import SecondMoment
from refspec.leading import leading
from refspec.results import Result

_NUMBERS = 2**27  # in all products of means, a gibibyte


@dataclass(frozen=True, slots=True)
class ProductSpan(Result):
    """How much of a layer's top C eigenvectors products of class means make up.

    Parameters
    ----------
    matched : float
        Mean squared length of their parts in the span of the C products of a class's
        mean of errors and the same class's mean of features.
    every : float
        The same of all C^2 products of a mean of errors and a mean of features.
    """

    matched: float
    every: float


def product_span(snapshot: Snapshot, layer: str) -> ProductSpan:
    """Project a layer's top C eigenvectors on products of class means.

    Parameters
    ----------
    snapshot : Snapshot
        C classes.
    layer : str
        Its name. Over positions products are formed first, one at each, and summed.

    Returns
    -------
    ProductSpan
        Of as many eigenvectors as there are, if those are fewer than C.

    Raises
    ------
    TypeError, ValueError
        If they are no snapshot and no layer of it.

    Notes
    -----
    Theory: theory/collapse.md#N2. Garrod and Keating (2024), arXiv 2404.06106. A mean
    of errors leaves c' = c out. Cost N C a b C and C^2 vectors of length a b.

    Examples
    --------
    >>> import refspec
    >>> found = product_span(refspec.datasets.digits_mlp(), "fc3")
    >>> 0 < found.matched <= found.every <= 1
    True
    """
    advice = "refspec.snapshot(...) or refspec.load(...) makes one"
    checks.expect_type("snapshot", snapshot, Snapshot, advice)
    x, moment = snapshot.layer(layer), curvature.fisher(snapshot, [layer])
    C, k = (
        snapshot.probabilities.shape[1],
        min(len(snapshot.offsets) - 1, *moment.shape),
    )
    T, (b, a) = x.features.shape[1], (x.outputs, x.features.shape[2])
    top = leading(moment, k)
    V = backend.to_host(moment.rows.cross(top.rows))  # (P, k), of length sqrt(lambda)
    V = V / np.where(top.values > 0, np.sqrt(np.maximum(top.values, 0)), 1)
    errors = _means(curvature.errors(snapshot, layer)).reshape(C, T, b)
    features = _means(curvature.features(snapshot, layer)).reshape(C, T, a)
    every = np.tensordot(errors, features, ((1,), (1,)))  # (C, b, C, a)
    every = np.transpose(every, (0, 2, 1, 3))
    matched = every[np.arange(C), np.arange(C)]
    return ProductSpan(*(_inside(y.reshape(-1, a * b), V) for y in (matched, every)))


def _means(moment: SecondMoment) -> np.ndarray:
    """Return the class means of a moment's rows, X'Z, on the host, (C, P)."""
    xp, w, seeds = moment.xp, moment.weights, []
    classes = xp.arange(len(moment.offsets) - 1, device=backend.device(w))
    own = xp.arange(w.shape[1], device=backend.device(w))
    for c, i, j in class_slices(moment.offsets):
        kept = w[i:j, :] * xp.astype((own != c) | (w.shape[1] == 1), w.dtype)
        mass = backend.scalar(xp.sum(kept))
        root = xp.sqrt(kept) / (mass if mass > 0 else 1)
        seeds.append(root[:, :, None] * xp.astype(classes == c, w.dtype))
    return backend.to_host(moment.rows.cross(backend.concatenate(seeds))).T


def _inside(products: np.ndarray, V: np.ndarray) -> float:
    """Return the mean squared length of unit columns of V inside the span of rows."""
    size = np.linalg.norm(products, axis=1, keepdims=True)
    unit = products / np.where(size > 0, size, 1)
    _, s, basis = np.linalg.svd(unit, full_matrices=False)
    # means that depend on each other do so up to rounding
    kept = basis[s > rounding.gamma(max(unit.shape), rounding.unit_roundoff(unit))]
    return float(np.mean(np.sum((kept @ V) ** 2, axis=0)))


def gradients_align(subject: Subject) -> Iterator[Evidence]:
    """Judge A: the gradient of the loss lies in the top C eigenspace of the Fisher."""
    moment = subject.once(fisher)
    place, k = "all layers of the export", min(subject.C, *moment.shape)
    if isinstance(subject.network, SecondMoment):
        place = "the Fisher information"
    try:
        found = gradient_alignment(moment, k)
    except ValueError as error:  # no gradient, or a row of it is lost
        yield unjudged(place, str(error))
        return
    numbers = {
        f"part of the gradient in the top {k} eigenvectors": found.part,
        "part along the first": found.first,
        "length of the gradient": found.length,
    }
    text = f"{found.part:.2f} of its square in {k} directions, {found.first:.2f} in one"
    yield Evidence(place, numbers, graded(found.part), text)


def eigenvectors_are_products(subject: Subject) -> Iterator[Evidence]:
    """Judge V in every layer that fits."""
    for x in subject.snapshot.layers:
        place = f"layer {x.name}"
        if (C2 := subject.C**2) * x.parameters > _NUMBERS:
            yield unjudged(place, f"{C2} products of {x.parameters} numbers are many")
            continue
        found = product_span(subject.snapshot, x.name)
        numbers = {
            "of the top C eigenvectors in C products of means": found.matched,
            "in all C^2 products of means": found.every,
        }
        text = f"{found.matched:.2f} in C products, {found.every:.2f} in all C^2"
        yield Evidence(place, numbers, graded(found.matched), text)


def outputs_decouple(subject: Subject) -> Iterator[Evidence]:
    """Judge U in every layer that fits: the Fisher is the product of two means."""
    for x in subject.snapshot.layers:
        place = f"layer {x.name}"
        if x.parameters > subject.dense:
            yield unjudged(
                place, f"{x.parameters} parameters, more than {subject.dense}"
            )
            continue
        found = subject.once(compared, x.name)
        off, angles = float(found.frobenius_error["kfac"]), found.angles["kfac"]
        overlap = float(np.mean(np.cos(angles) ** 2)) if len(angles) else np.nan
        if not np.isfinite(off) or not np.isfinite(overlap):
            yield unjudged(place, "the matrix is zero")
            continue
        numbers = {
            "relative Frobenius error of the product": off,
            "overlap of the top C eigenspaces": overlap,
        }
        text = f"off by {off:.2f}, top eigenspaces overlap by {overlap:.2f}"
        verdict = together([small(off), graded(overlap)])
        yield Evidence(place, numbers, verdict, text)
