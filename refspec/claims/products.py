"""Are means of gradients products of means? Class by class, cell by cell.

A gradient is errors (x) features, and its mean over a cell is the product of the means
plus the covariance of errors and features within the cell (theory/kronecker.md#K4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from refspec import backend, checks
from refspec.claims.registry import Evidence, Subject, small, together, unjudged
from refspec.classes import Snapshot, class_slices


@dataclass(frozen=True, slots=True)
class ProductErrors:
    """How far means of gradients are from products of means, in one layer.

    Parameters
    ----------
    by_class, by_cell : float
        Root mean square distance over root mean square length, of the class means and
        of the cross-class means with c' != c, by mass; nan where they vanish.
    covariance : float
        The same for the cells with features averaged with the weights of the gradients:
        what the covariance of errors and features within a cell makes up. The rest is
        that the paper averages features without those weights.
    """

    by_class: float
    by_cell: float
    covariance: float


def product_errors(snapshot: Snapshot, layer: str) -> ProductErrors:
    """Compare the means of a layer's gradients with the products of means.

    Parameters
    ----------
    snapshot : Snapshot
    layer : str
        Its name. Over positions products are formed first, one at each, and summed.

    Returns
    -------
    ProductErrors

    Raises
    ------
    TypeError, ValueError
        If they are no snapshot and no layer of it.

    Notes
    -----
    Theory: theory/kronecker.md#K4. Papyan (2020), section 7, from notes about it.
    Cost N C T a b.

    Examples
    --------
    >>> import refspec
    >>> found = product_errors(refspec.datasets.digits_mlp(), "fc2")
    >>> 0 < found.covariance <= 1
    True
    """
    advice = "refspec.snapshot(...) or refspec.load(...) makes one"
    checks.expect_type("snapshot", snapshot, Snapshot, advice)
    x = snapshot.layer(layer)
    h, e = backend.to_host(x.features), backend.to_host(x.errors)
    s, p = (
        backend.to_host(y) for y in (snapshot.sample_weights, snapshot.probabilities)
    )
    squares = np.zeros((3, 2))  # by class, by cell, covariance: distance, length
    for c, i, j in class_slices(snapshot.offsets):
        w = s[i:j, None] * p[i:j]
        mass = w.sum(axis=0)
        share = w / np.where(mass > 0, mass, 1)
        plain = s[i:j] / s[i:j].sum() if s[i:j].sum() > 0 else s[i:j]
        mean = np.tensordot(plain, h[i:j], 1)  # (T, a)
        cells = np.zeros((len(mass), e.shape[3], h.shape[2]))
        products, weighed = np.zeros_like(cells), np.zeros_like(cells)
        deltas = np.zeros((len(mass), *e.shape[2:]))
        for k, q in enumerate(share.T):
            error = q[:, None, None] * e[i:j, k]
            deltas[k] = error.sum(axis=0)
            cells[k] = error.reshape(-1, e.shape[3]).T @ h[i:j].reshape(-1, h.shape[2])
            products[k] = deltas[k].T @ mean
            weighed[k] = deltas[k].T @ np.tensordot(q, h[i:j], 1)
        off = mass * (np.arange(len(mass)) != c)
        squares[1] += _squares(cells - products, off), _squares(cells, off)
        squares[2] += _squares(cells - weighed, off), _squares(cells, off)
        if off.sum() > 0:
            own = off / off.sum()
            gradient = np.tensordot(own, cells, 1)
            product = np.tensordot(own, deltas, 1).T @ mean
            squares[0] += (
                off.sum() * np.sum((gradient - product) ** 2),
                off.sum() * np.sum(gradient**2),
            )
    ratios = [float(np.sqrt(a / b)) if b > 0 else np.nan for a, b in squares]
    return ProductErrors(*ratios)


def kronecker_means(subject: Subject) -> Iterator[Evidence]:
    """Judge K in every layer."""
    for x in subject.snapshot.layers:
        found, place = product_errors(subject.snapshot, x.name), f"layer {x.name}"
        if not np.isfinite(found.by_cell):
            yield unjudged(place, "the means of its gradients vanish")
            continue
        numbers = {
            "relative error by class": found.by_class,
            "relative error by cell": found.by_cell,
            "covariance within the cell alone": found.covariance,
        }
        text = f"off by {found.by_class:.2f} a class, {found.by_cell:.2f} a cell"
        verdict = together([small(found.by_class), small(found.by_cell)])
        yield Evidence(place, numbers, verdict, text)


def _squares(x: np.ndarray, weights: np.ndarray) -> float:
    """Return the sum of weights times squared lengths, x (K, b, a)."""
    return float(weights @ np.sum(x**2, axis=(1, 2)))
