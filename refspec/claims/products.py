"""Are means of gradients products of means? Class by class, cell by cell.

A gradient is errors (x) features, and its mean over a cell is the product of the means
plus the covariance of errors and features within the cell (theory/kronecker.md#K4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from refspec import backend, checks
from refspec.backend import Array, Namespace
from refspec.claims.registry import Evidence, Subject, small, together, unjudged
from refspec.classes import Snapshot, class_slices
from refspec.results import Result


@dataclass(frozen=True, slots=True)
class ProductErrors(Result):
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
    Cost N C T min(a b, N T (a + b) / C).

    Examples
    --------
    >>> import refspec
    >>> found = product_errors(refspec.datasets.digits_mlp(), "fc2")
    >>> 0 < found.covariance <= 1
    True
    """
    advice = "refspec.snapshot(...) or refspec.load(...) makes one"
    checks.expect_type("snapshot", snapshot, Snapshot, advice)
    x, s, p = snapshot.layer(layer), snapshot.sample_weights, snapshot.probabilities
    xp = backend.namespace(p)
    squares = np.zeros((3, 2))  # by class, by cell, covariance: distance, length
    for c, i, j in class_slices(snapshot.offsets):
        h, e, w = x.features[i:j, ...], x.errors[i:j, ...], s[i:j, None] * p[i:j, :]
        masses = xp.sum(w, axis=0)
        # a mean is a sum over samples with these
        share = w / xp.where(masses > 0, masses, xp.ones_like(masses))
        total = backend.scalar(xp.sum(s[i:j]))
        plain = _centred(h, s[i:j] / (total if total > 0 else 1), xp)
        off = backend.to_host(masses) * (np.arange(w.shape[1]) != c)
        for k in np.flatnonzero(off).tolist():
            error = share[:, k, None, None] * e[:, k, ...]
            length = off[k] * _square(error, h, xp)
            squares[1] += off[k] * _square(error, plain, xp), length
            centred = _centred(h, share[:, k], xp)
            squares[2] += off[k] * _square(error, centred, xp), length
        if off.sum() > 0:
            own = share * backend.from_host(off / off.sum(), share)
            error = xp.sum(own[:, :, None, None] * e, axis=1)
            squares[0] += (
                off.sum() * _square(error, plain, xp),
                off.sum() * _square(error, h, xp),
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


def _centred(h: Array, weights: Array, xp: Namespace) -> Array:
    """Return features (n, T, a) minus their mean with weights (n,)."""
    return h - xp.sum(weights[:, None, None] * h, axis=0)[None, ...]


def _square(errors: Array, features: Array, xp: Namespace) -> float:
    """Return ||sum_it errors_it (x) features_it||^2, (n, T, b) and (n, T, a).

    A mean of gradients minus the product with a mean m is that sum for features - m.
    """
    E, H = (xp.reshape(x, (-1, x.shape[2])) for x in (errors, features))
    (m, b), a = E.shape, H.shape[1]
    if m * (a + b) < a * b:  # by Gram matrices, m x m
        inner = (x @ xp.matrix_transpose(x) for x in (E, H))
        return max(0.0, backend.scalar(xp.sum(next(inner) * next(inner))))
    return backend.scalar(xp.sum((xp.matrix_transpose(E) @ H) ** 2))
