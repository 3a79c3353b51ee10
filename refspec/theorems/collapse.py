"""Checks of theory/collapse.md: the last layer of a network fitted all the way.

At collapse with the classes, the signal and the misclassification of the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refspec import attribution, curvature, rounding
from refspec.kronecker import kfac
from refspec.kronecker.eigensystems import certified_spectrum
from refspec.spectra import spectrum
from refspec.synthetic import collapse
from refspec.theorems.canonical import (
    Canonical,
    canonical,
    few_classes,
    spread_out,
)
from refspec.theorems.quantities import norm
from refspec.theorems.registry import Comparison, identity
from refspec.theorems.study import Study

_U = 2.0**-53  # worlds are made in float64
_MEANS = (0.0, 1.0)  # lengths of the features' global mean


@identity(
    "The Fisher at collapse: C outliers, a bump, nothing within",
    "k C(1-a) once, k(1 + d(C-2)) C-1 times, k C^2-3C+1 times; k = s a / (C-1)^2",
    few_classes,
)
def N1(study: Study) -> Iterator[Comparison]:
    """Compare all eigenvalues, with and without a global mean of the features."""
    model = study.once(canonical)
    for mean in _MEANS:
        given = _given(model, mean)
        found = spectrum(curvature.fisher(collapse.collapsed(model.C, **given)))
        want = spread_out(collapse.collapsed_groups(model.C, **given))
        values = np.pad(found.values, (0, len(want) - len(found.values)))
        yield _apart(model, mean, values, want, found.radius)


@identity(
    "Outlier eigenvectors at collapse, and the gradient among them",
    "outliers span the (e_c - 1/C) (x) h_c; sum_c of them is the gradient, k C(1-a)",
    few_classes,
)
def N2(study: Study) -> Iterator[Comparison]:
    """Apply the Fisher to products of means and to the gradient."""
    model = study.once(canonical)
    given = _given(model, 0.0)
    made = collapse.collapsed(model.C, **given)
    F, C = curvature.fisher(made), model.C
    first, second, *_ = collapse.collapsed_groups(C, **given)
    h = made.layers[0].features[:, 0]
    products = np.stack(
        [np.kron(x, y) for x, y in zip(collapse.centred(C), h, strict=True)], axis=1
    )
    # on the span: `second` everywhere, and what `first` has more along the sum
    mean = products.mean(axis=1, keepdims=True)
    want = second.value * products + (first.value - second.value) * mean
    size = first.value * norm(products)
    bound = _formed(model, 0.0) * norm(products)
    yield norm(F.matvec(products) - want), bound, size, "F on products of means"
    found = attribution.gradient_alignment(F, 1)
    # eigenvectors turn by the rounding over the gap, squares of cosines by twice that
    gap = first.value - (second.value if C > 2 else 0.0)
    turned = 4 * _formed(model, 0.0) / gap if gap > 0 else np.inf
    if turned < 1:  # at chance all of it is one eigenvalue
        yield abs(1 - found.first), turned, 1.0, "the gradient's part along the first"


@identity(
    "KFAC at collapse has no class structure",
    "k(1 + d) (C-1)^2 times: outliers and bump are one eigenvalue",
    few_classes,
)
def N3(study: Study) -> Iterator[Comparison]:
    """Compare all eigenvalues of KFAC."""
    model = study.once(canonical)
    for mean in _MEANS:
        given = _given(model, mean)
        made = collapse.collapsed(model.C, **given)
        values, radius = certified_spectrum(kfac(made, "last").matrix())
        want = spread_out(collapse.collapsed_kfac_groups(model.C, **given))
        yield _apart(model, mean, values, want, radius)


def _apart(
    model: Canonical, mean: float, values: np.ndarray, want: np.ndarray, radius: float
) -> Comparison:
    """Compare all eigenvalues with those in closed form."""
    what = f"C = {model.C}, a = {model.alpha:.3g}, mean {mean:g}"
    away = float(np.max(np.abs(values - want)))
    return away, radius + _formed(model, mean), float(want[0]), what


def _given(model: Canonical, mean: float) -> dict[str, Any]:
    """Return what a network at collapse is told besides the number of classes."""
    return {"signal": model.signal, "alpha": model.alpha, "mean": mean}


def _formed(model: Canonical, mean: float) -> float:
    """Bound the rounding of p, features, their products and C sums of them."""
    # p_c - 1 is a sum of the others: every term of the Fisher has a factor alpha
    size = model.alpha * (model.signal + mean * mean)
    return rounding.gamma(8 * model.C + 64, _U) * size
