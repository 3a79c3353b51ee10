r"""Coordinates with a proof: rows W of an eigenbasis, whatever they were made of.

If :math:`XX' = WW' + R`, the eigenvalues of XX' are those of W'W within
:math:`\|R\|`, and W'W is diagonal up to what is measured: nothing remains to be solved.
W comes from ordinary arithmetic; both errors are then computed almost without
rounding. On the host, in float64, whatever the rows are in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
    omitted,
    rescaled,
    scaled,
    uncertain,
)
from refspec.curvature import SecondMoment
from refspec.factors import Factor, Factors
from refspec.rounding import errorfree, forming, second
from refspec.rows import Rows, forming_radius
from refspec.structure import cell_rows, unit_rows

_U = 2.0**-53
_ENTRIES = 2**21  # of a block of the Gram matrix
_ROWS = 256  # of a matrix over the parameters
_REST = 32  # n u trace over this is where the factorisation stops


def certified(moment: SecondMoment, leave_out: float = 0.0) -> Coordinates:
    """Use an eigenbasis as coordinates, r the numerical rank, with certified radii.

    Theory: theory/certificates.md#Q10. Cost about twice that of other coordinates and
    of their eigenvectors, memory O(N K r).
    """
    weights = _host(moment.weights)
    hosted = replace(moment, rows=_hosted(moment.rows), weights=weights)
    small, power = scaled(hosted)
    return rescaled(_certified(small, leave_out), hosted, power)


def _certified(moment: SecondMoment, leave_out: float) -> Coordinates:
    """Do as `certified` says, without scaling."""
    rows, n = cast(Factors, moment.rows).explicit(math.inf), moment.shape[0]
    trace, norms = float(np.sum(rows.squares())), _norms(moment)
    kept = ways.kept(moment, leave_out)
    few = ways.primal(moment, kept)
    if few:
        d, means, radius, more = _turned_parameters(rows, moment, norms, trace)
        left, k = 0.0, 0
    else:
        made = pivoted_rows(
            rows, n * _U * trace / _REST, rows.xp, left_out=leave_out * trace
        )
        d, means, radius, more = _turned_pivots(rows, made.L, moment, norms, trace)
        left, k = (made.left, len(made.others)) if leave_out else (0.0, 0)
    costs.done(ways.certificate(moment, len(d), kept))
    radius += forming_radius(rows, trace, _U)
    inflation = errorfree.inflation(n) if trace > 0 else 0.0  # all rows are 0
    radius, more = radius * inflation, more * inflation
    level = radius + more + means_radius(moment, trace, 0)
    order = np.argsort(-d, kind="stable")
    kind = "certified" if rows.known == "a priori" else f"certified, rows {rows.known}"
    return Coordinates(
        np.diag(d[order]),
        means[:, :, order],
        moment,
        norms,
        trace,
        radius,
        level + uncertain(moment, rows, trace),
        kind + (f", {omitted(k, n, left, trace)}" if k else ""),
        moment.shape,
        "primal" if few else "dual",
        solved=True,
        left_out=left,
        rows_left_out=k,
    )


def _turned_pivots(
    rows: Factors,
    L: np.ndarray,
    moment: SecondMoment,
    norms: np.ndarray,
    trace: float,
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Turn pivoted rows to their eigenbasis, W (n, r): XX' = WW' and what is measured.

    Returned are the diagonal of W'W, Q'W, the radius, and what levels need besides.
    """
    N, K, _ = rows.shape
    W = np.ascontiguousarray(L.T @ _eigenvectors(L @ L.T)[1])
    made = forming.gram([_pair(f) for f in rows.layers], K)
    blocks = made.blocks(max(1, _ENTRIES // (N * K * K)))
    radius = forming.residual_norm(blocks, W) + made.error * trace
    d, off = forming.squared_columns(W)
    means, lost = _means(moment, W, norms)
    return d, means, radius + off, lost * trace


def _turned_parameters(
    rows: Factors, moment: SecondMoment, norms: np.ndarray, trace: float
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Turn the parameters to an eigenbasis V: X'X = V diag(d) V' and what is measured.

    Returned are d, Q'XV, the radius, and what levels need besides.
    """
    layers = [second.layer(d, h) for h, d in map(_sides, rows.layers)]
    A, error = second.second_moment(layers, trace)
    d, V = _eigenvectors(A)
    W = V * np.sqrt(d)
    radius = error + forming.residual_norm(_upper(A), W)
    radius += rounding.gamma(6, _U) * _square(W)
    near, off, unit = _gap(V, d)
    if unit >= 1:
        return d, np.zeros((*norms.shape, len(d))), math.inf, 0.0
    delta = near / (2 - unit)
    tau = (1 + unit) * delta + unit * math.sqrt(radius)
    more = 2 * delta * math.sqrt(d[0]) + delta**2 + (2 * math.sqrt(trace) + tau) * tau
    Q = np.concatenate([unit_rows(moment, norms, c) for c in range(len(norms))])
    means, lost = second.cell_means(layers, Q, moment.offsets, trace)
    C, K, P = means.shape
    size = math.sqrt(trace)
    pair = (np.ascontiguousarray(x) for x in (means.reshape(C * K, P), V.T))
    seen = forming.close_product(*map(errorfree.split_rows, pair))
    lost = 2 * lost + (2 * _U + 2 * forming.split_error(P) * math.sqrt(P)) * size
    more += (4 * size + lost) * lost
    return d, seen.reshape(C, K, P), radius + off, more


def _gap(V: np.ndarray, d: np.ndarray) -> tuple[float, float, float]:
    """Bound V'V - I, in Frobenius norm: times the roots of d, on both sides, alone."""
    P, turned = len(d), errorfree.split_rows(np.ascontiguousarray(V.T))
    head, tail = forming.square_product(turned)
    head.flat[:: P + 1] -= 1
    head += tail
    lost, sizes = 4 * forming.split_error(P), (P * P, P * np.sum(d), np.sum(d) ** 2)
    alone = _square(head)
    head *= np.sqrt(d)
    one = _square(head)
    head *= np.sqrt(d)[:, None]
    pairs = zip((alone, one, _square(head)), sizes, strict=True)
    unit, near, off = (
        (1 + 8 * _U) * math.sqrt(x) + lost * math.sqrt(y) for x, y in pairs
    )
    return near, off, unit


def _hosted(rows: Rows) -> Factors:
    """Return the same rows on the host in float64, as factors."""
    u = rounding.unit_roundoff(rows.like)
    if isinstance(rows, Factors):
        pairs = [(f.roots, f.features) for f in rows.layers]
        layers = (Factor(_host(d), None if h is None else _host(h)) for d, h in pairs)
        made = replace(rows, layers=tuple(layers))
        return replace(made, lost=made.weighing(u)) if u > _U else made
    X = np.concatenate([_host(x) for x in rows.chunks()])
    lost = rows.forming() + rounding.gamma(rows.roundings, u) * math.sqrt(_square(X))
    X = X.reshape(*rows.shape[:2], 1, -1)
    return Factors((Factor(X, None),), lost, rows.known)


def _sides(f: Factor) -> tuple[np.ndarray | None, np.ndarray]:
    """Return features (N, a), or None, and roots (N, K, b) of one position."""
    N, K, T, b = f.roots.shape
    h = None if f.features is None else f.features[:, 0, :]
    return h, f.roots.reshape(N, K, T * b)


def _pair(f: Factor) -> tuple[np.ndarray | None, np.ndarray]:
    """Return features (N, a), or None, and roots (N K, b) of one position."""
    h, roots = _sides(f)
    return h, roots.reshape(-1, roots.shape[2])


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


def _upper(A: np.ndarray) -> Iterator[np.ndarray]:
    """Yield blocks of rows of a symmetric matrix, from their own columns on."""
    for i in range(0, len(A), _ROWS):
        yield A[i : i + _ROWS, i:]


def _eigenvectors(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, none below 0, and eigenvectors as columns, the largest first.

    Whatever they are, it is measured.
    """
    try:
        d, Q = scipy.linalg.eigh(A, driver="evd", check_finite=False)
    except np.linalg.LinAlgError:
        return np.full(len(A), np.trace(A) / max(1, len(A))), np.eye(len(A))
    return np.maximum(d[::-1], 0.0), np.ascontiguousarray(Q[:, ::-1])


def _square(x: np.ndarray) -> float:
    """Return ||x||_F^2."""
    return float(np.vdot(x, x))


def _host(x: Array) -> np.ndarray:
    """Return an array on the host in float64, exactly."""
    return np.ascontiguousarray(backend.to_host(x), dtype=np.float64)
