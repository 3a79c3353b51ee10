r"""Coordinates with a proof: rows W of an eigenbasis, whatever they were made of.

If :math:`XX' = WW' + R`, the eigenvalues of XX' are those of W'W within
:math:`\|R\|`, and W'W is diagonal up to what is measured: nothing remains to be solved.
W comes from ordinary arithmetic; both errors are then computed almost without
rounding. On the host, in float64, whatever the rows are in.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np
import scipy.linalg

from refspec import backend, costs, rounding, ways
from refspec.backend import Array
from refspec.classes import class_slices
from refspec.coordinates.factorisation import pivoted_rows
from refspec.coordinates.frame import (
    Coordinates,
    means_radius,
    most_samples,
    rescaled,
    scaled,
    uncertain,
)
from refspec.curvature import SecondMoment
from refspec.factors import Factor, Factors
from refspec.rounding import errorfree, forming
from refspec.rounding.certificates import spectral_norm_bound
from refspec.rows import Rows, forming_radius
from refspec.structure import cell_rows

_U = 2.0**-53
_ENTRIES = 2**21  # of a block of the Gram matrix
_REST = 32  # n u trace over this is where the factorisation stops


def certified(moment: SecondMoment) -> Coordinates:
    """Use an eigenbasis as coordinates, r the numerical rank, with certified radii.

    Theory: theory/certificates.md#Q10. Cost about twice that of other coordinates and
    of their eigenvectors, memory O(N K r).
    """
    weights = _host(moment.weights)
    hosted = replace(moment, rows=_hosted(moment.rows), weights=weights)
    small, power = scaled(hosted)
    return rescaled(_certified(small), hosted, power)


def _certified(moment: SecondMoment) -> Coordinates:
    """Do as `certified` says, without scaling."""
    rows, n = cast(Factors, moment.rows).explicit(math.inf), moment.shape[0]
    trace = float(np.sum(rows.squares()))
    few = ways.primal(moment)
    W, radius = _turned_parameters(rows) if few else _turned_pivots(rows, trace)
    costs.done(ways.certificate(moment, W.shape[1]))
    d, off = forming.squared_columns(W)
    radius += off + forming_radius(rows, trace, _U)
    radius *= errorfree.inflation(n) if trace > 0 else 0.0  # all rows are 0
    order, norms = np.argsort(-d, kind="stable"), _norms(moment)
    means, lost = _means(moment, W[:, order], norms)
    level = radius + means_radius(moment, trace, 0) + lost * trace
    return Coordinates(
        np.diag(d[order]),
        means,
        moment,
        norms,
        trace,
        radius,
        level + uncertain(moment, rows, trace),
        "certified" if rows.known == "a priori" else f"certified, rows {rows.known}",
        moment.shape,
        "primal" if few else "dual",
        solved=True,
    )


def _turned_pivots(rows: Factors, trace: float) -> tuple[np.ndarray, float]:
    """Return pivoted rows turned to their eigenbasis, W (n, r), and ||XX' - WW'||."""
    N, K, _ = rows.shape
    L = pivoted_rows(rows, N * K * _U * trace / _REST, rows.xp).L
    W = np.ascontiguousarray(L.T @ _eigenvectors(L @ L.T))
    made = forming.gram([_pair(f) for f in rows.layers], K)
    blocks = made.blocks(max(1, _ENTRIES // (N * K * K)))
    return W, forming.residual_norm(blocks, W) + made.error * trace


def _turned_parameters(rows: Factors) -> tuple[np.ndarray, float]:
    """Return rows turned to their eigenbasis, W = XV (n, P), and ||XX' - WW'||."""
    X = np.concatenate(list(rows.chunks()))
    V = _eigenvectors(X.T @ X)
    P, turned, lost = len(V), errorfree.split_rows(V.T), forming.split_error(len(V))
    W = forming.close_product(errorfree.split_rows(X), turned)
    product = errorfree.row_product(turned, turned)
    product.head.flat[:: P + 1] -= 1
    gap = product.head + product.tail
    away = spectral_norm_bound(gap) + 2 * _U * math.sqrt(_square(gap)) + 2 * lost * P
    size, off = math.sqrt(_square(X)), _U * math.sqrt(_square(W))
    # X, too, is rounded once more, where factors are multiplied out
    off += (2 * lost * math.sqrt(P) + 2 * _U) * size
    error = away * spectral_norm_bound(X.T, 1) ** 2 + (4 * size + off) * off
    return W, error if away <= 1 else math.inf


def _hosted(rows: Rows) -> Factors:
    """Return the same rows on the host in float64, as factors."""
    u = rounding.unit_roundoff(rows.like)
    if isinstance(rows, Factors):
        pairs = [(f.roots, f.features) for f in rows.layers]
        layers = (Factor(_host(d), None if h is None else _host(h)) for d, h in pairs)
        made = Factors(tuple(layers), rows.lost, rows.how)
        return replace(made, lost=made.weighing(u)) if u > _U else made
    X = np.concatenate([_host(x) for x in rows.chunks()])
    lost = rows.forming() + rounding.gamma(rows.roundings, u) * math.sqrt(_square(X))
    X = X.reshape(*rows.shape[:2], 1, -1)
    return Factors((Factor(X, None),), lost, rows.known)


def _pair(f: Factor) -> tuple[np.ndarray | None, np.ndarray]:
    """Return features (N, a), or None, and roots (N K, b) of one position."""
    N, K, T, b = f.roots.shape
    h = None if f.features is None else f.features[:, 0, :]
    return h, f.roots.reshape(N * K, T * b)


def _norms(moment: SecondMoment) -> np.ndarray:
    """Return the square roots of the cells' masses, (C, K), a few roundings off."""
    w = moment.weights
    sums = [
        [math.fsum(x) for x in w[i:j].T] for _, i, j in class_slices(moment.offsets)
    ]
    return np.sqrt(sums)


def _means(
    moment: SecondMoment, W: np.ndarray, norms: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return Q'W, (C, K, r), and its error, counted twice, over the trace."""
    K, found = norms.shape[1], []
    for c, i, j in class_slices(moment.offsets):
        q = cell_rows(moment, norms, c).reshape(-1, K)
        pair = (np.ascontiguousarray(x.T) for x in (q, W[i * K : j * K]))
        found.append(forming.close_product(*map(errorfree.split_rows, pair)))
    lost = forming.split_error(K * most_samples(moment))
    return np.stack(found), 2 * math.sqrt(K) * lost


def _eigenvectors(A: np.ndarray) -> np.ndarray:
    """Return eigenvectors as columns, those of the largest eigenvalues first."""
    try:
        Q = scipy.linalg.eigh(A, driver="evd", check_finite=False)[1]
    except np.linalg.LinAlgError:  # whatever they are, it is measured
        return np.eye(len(A))
    return np.ascontiguousarray(Q[:, ::-1])


def _square(x: np.ndarray) -> float:
    """Return ||x||_F^2."""
    return float(np.vdot(x, x))


def _host(x: Array) -> np.ndarray:
    """Return an array on the host in float64, exactly."""
    return np.ascontiguousarray(backend.to_host(x), dtype=np.float64)
