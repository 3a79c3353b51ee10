"""Checks of theory/certificates.md: on numbers of the snapshot, in exact arithmetic.

Floats are rationals: sums, products and the signs of eigenvalues (Sylvester's law of
inertia) are computed in fractions, so these checks trust no floating-point code. They
test the machine too: its BLAS must sum products as theory/certificates.md#Q0 assumes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import scipy.linalg

from refspec import backend, rounding
from refspec.coordinates.certified import certified
from refspec.curvature import SecondMoment
from refspec.factors import Factor, Factors
from refspec.rounding import certificates, errorfree, forming, second
from refspec.theorems.registry import Comparison, identity, inequality
from refspec.theorems.study import Study

_U = 2.0**-53
_ROWS = 10  # of a matrix that is looked at in exact arithmetic
_FEWER = 6  # of a matrix whose eigenvalues are counted in exact arithmetic
_MORE = 40  # of all data
_COLUMNS = 64
_SIDE = 300  # of an eigenproblem

_exact = np.vectorize(Fraction, otypes=[object])


def _unit(x: np.ndarray) -> np.ndarray:
    """Scale by a power of two to max |x| in [1/2, 1), exact apart from underflow."""
    host = np.ascontiguousarray(x, dtype=np.float64)
    return errorfree.scaled(host, -errorfree.unit_exponent(host))


def _spread(n: int, most: int) -> np.ndarray:
    """Choose at most so many of n indices, evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))


def _data(study: Study) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return features and errors of some samples of every layer, of size 1."""
    s, found = study.snapshot, []
    N, C = s.probabilities.shape
    few = _spread(N, _MORE)
    for x in s.layers:
        h = backend.to_host(x.features)[few, 0, :_COLUMNS]
        d = backend.to_host(x.errors)[few, (s.labels[few] + 1) % C, 0, :_COLUMNS]
        found.append((x.name, _unit(h), _unit(d)))
    return found


def _small(study: Study) -> Iterator[tuple[str, np.ndarray]]:
    """Yield small matrices of the snapshot with rows of a few samples."""
    for name, h, d in study.once(_data):
        few = _spread(len(h), _ROWS)
        yield f"features of {name}", h[few]
        yield f"errors of {name}", d[few]


def _symmetric(study: Study) -> Iterator[tuple[str, np.ndarray]]:
    """Yield Gram matrices of features, errors and gradients of a few samples."""
    for name, h, d in study.once(_data):
        few = _spread(len(h), _FEWER)
        K, E = h[few] @ h[few].T, d[few] @ d[few].T
        for kind, A in (("features", K), ("errors", E), ("gradients", K * E)):
            yield f"Gram matrix of {kind} of {name}", np.tril(A) + np.tril(A, -1).T


def _ratios(
    away: np.ndarray, bound: np.ndarray, terms: np.ndarray, detail: str
) -> Comparison:
    """Return the entry that comes closest to its bound, or breaks it most.

    What was compared is as large as the largest of the terms.
    """
    gap, limit = (np.vectorize(float)(x) for x in (np.abs(away), bound))
    safe = np.where(limit > 0, limit, np.finfo(float).tiny)
    k = int(np.argmax(gap / safe))
    return float(gap.flat[k]), float(limit.flat[k]), float(np.max(abs(terms))), detail


@inequality(
    "The arithmetic that is assumed",
    "|fl(x'y) - x'y| <= gamma_k |x|'|y| + k 2^-1074, in any order",
)
def Q0(study: Study) -> Iterator[Comparison]:
    """Compare the machine's inner products, in whatever order it sums."""
    for name, x in _small(study):
        y = _exact(x)
        k, tiny = x.shape[1], x.shape[1] * 2.0**-1074
        exact = y @ y.T
        away = _exact(x @ x.T) - exact
        bound = Fraction(rounding.gamma(k, _U)) * (abs(y) @ abs(y).T) + Fraction(tiny)
        yield _ratios(away, bound, exact, f"inner products of {name}")


@identity(
    "Sums and products of two numbers without error",
    "a + b = s + e; a b = p + e",
)
def Q1(study: Study) -> Iterator[Comparison]:
    """Compare a + b with s + e, and a b with p + e."""
    for name, x in _small(study):
        a = x.reshape(-1)
        b = np.roll(a, 1) * (1 + 2.0**-30)
        s, e = errorfree.two_sum(a, b)
        away = _exact(a) + _exact(b) - _exact(s) - _exact(e)
        yield _ratios(away, np.zeros(len(a)), s, f"sums of {name}")
        p, e = errorfree.two_product(a, b)
        away = _exact(a) * _exact(b) - _exact(p) - _exact(e)
        normal = (np.abs(p) > 2.0**-960) | (p == 0) & ((a == 0) | (b == 0))
        yield _ratios(away, np.where(normal, 0, 2.0**-1070), p, f"products of {name}")


@identity(
    "Splitting; the product of high parts is exact",
    "X = X_1 + X_2; fl(X_1 Y_1') = X_1 Y_1'",
)
def Q2(study: Study) -> Iterator[Comparison]:
    """Nothing is lost in the cut, nor in the product of high parts."""
    for name, x in _small(study):
        part = errorfree.split_rows(x)
        away = _exact(x) - _exact(part.high) - _exact(part.low)
        yield _ratios(away, np.zeros(x.shape), x, f"cut of {name}")
        high = _exact(part.high)
        head = part.high @ part.high.T
        away = _exact(head) - high @ high.T
        grid = np.frexp(np.max(np.abs(x), axis=1))[1] - part.bits
        fine = grid[:, None] + grid[None, :] < -1074
        bound = np.where(fine, x.shape[1] * 2.0**-1074, 0)
        yield _ratios(away, bound, head, f"head of {name}")


@inequality(
    "Bounds that are computed in rounded arithmetic",
    "|AB' - head - tail| <= gamma_{k+10}(|a_1||b_2| + |a_2||b|); ||M|| from above",
)
def Q3(study: Study) -> Iterator[Comparison]:
    """Head and tail within the bound of rank two; a norm bounded from above."""
    for name, x in _small(study):
        part = errorfree.split_rows(x)
        made, y = errorfree.row_product(part, part), _exact(x)
        away = y @ y.T - _exact(made.head) - _exact(made.tail)
        bound = made.left @ made.right.T
        yield _ratios(away, bound, made.head, f"products of {name}")
        v = np.linalg.svd(x)[0][:, 0]
        image = _exact(v) @ y  # |x'v|^2 / |v|^2 <= ||x||^2
        least = sum(image * image) / sum(_exact(v) * _exact(v))
        above = Fraction(certificates.spectral_norm_bound(x)) ** 2
        yield float(least - above), 0.0, float(least), f"norm of {name}, squared"


def inertia(A: np.ndarray, x: Fraction) -> tuple[int, int]:
    """Count the eigenvalues of a symmetric matrix below and above x, exactly.

    By Sylvester's law of inertia: congruences in fractions, no rounding.
    """
    M = np.array(_exact(A) - x * np.eye(len(A), dtype=int))
    below = above = 0
    while len(M):
        k = next((i for i in range(len(M)) if M[i, i] != 0), None)
        if k is None:  # a zero diagonal: add a row to another where they meet
            pairs = np.argwhere(M != 0)
            if not len(pairs):
                break
            k, j = pairs[0]
            M[k] = M[k] + M[j]
            M[:, k] = M[:, k] + M[:, j]
        above, below = above + (M[k, k] > 0), below + (M[k, k] < 0)
        rest = np.arange(len(M)) != k
        column = M[rest, k]
        M = M[np.ix_(rest, rest)] - np.outer(column, column) / M[k, k]
    return below, above


def _misplaced(A: np.ndarray, found: certificates.Certified) -> int:
    """Count the eigenvalues that are not within their radius, exactly."""
    n, wrong = len(A), 0
    for i, (value, radius) in enumerate(zip(found.values, found.radii, strict=True)):
        low, high = (Fraction(value) + sign * Fraction(radius) for sign in (-1, 1))
        below, _ = inertia(A, low)
        _, above = inertia(A, high)
        wrong += below > n - 1 - i or above > i
    return wrong


@inequality(
    "All eigenvalues from one residual",
    "|lambda_i - l_i| <= ||AX - XL|| / sigma_min(X) for every i",
)
def Q4(study: Study) -> Iterator[Comparison]:
    """Vectors that are eigenvectors to a few digits only."""
    rng = np.random.default_rng(study.seed)
    for name, A in _symmetric(study):
        Q = np.linalg.eigh(A)[1]
        Q = Q + 2.0**-20 * rng.standard_normal(Q.shape)
        found = certificates.certified_eigenvalues(A, vectors=Q)
        wrong = float(_misplaced(A, found))
        yield wrong, 0.0, len(A), f"eigenvalues misplaced, {name}"


@inequality(
    "One separated eigenvalue from its Rayleigh quotient",
    "|lambda_i - rho| <= |Ax - rho x|^2 / g",
)
def Q5(study: Study) -> Iterator[Comparison]:
    """Rayleigh quotients of separated eigenvalues, and clusters."""
    for name, A in _symmetric(study):
        found = certificates.certified_eigenvalues(A)
        wrong = float(_misplaced(A, found))
        yield wrong, 0.0, len(A), f"eigenvalues misplaced, {name}"


@inequality(
    "The computed certificate",
    "|lambda_i - values_i| <= radii_i, whatever the eigenvectors were",
)
def Q6(study: Study) -> Iterator[Comparison]:
    """Second moments of features: trace and Frobenius norm of the spectrum."""
    for x in study.snapshot.layers:
        h = _unit(backend.to_host(x.features)[:, 0, :_SIDE])
        A = h.T @ h
        A = np.tril(A) + np.tril(A, -1).T
        found = certificates.certified_eigenvalues(A)
        v, r = found.values, found.radii
        away = abs(math.fsum([*v.tolist(), *(-np.diag(A)).tolist()]))
        bound = math.fsum(r) * (1 + rounding.gamma(4, _U))
        size = float(np.trace(A))
        yield away, bound + 2.0**-1074, size, f"trace of {x.name}"
        whole = [y.tolist() for y in errorfree.two_product(A.ravel(), A.ravel())]
        parts = [(-y).tolist() for y in errorfree.two_product(v, v)]
        squares = itertools.chain(*whole, *parts)
        bound = math.fsum((2 * abs(v) + r) * r) * (1 + rounding.gamma(8, _U))
        away, size = abs(math.fsum(squares)), float(np.sum(A * A))
        yield away, bound + 2.0**-1022, size, f"squares of {x.name}"
        size = float(np.max(np.abs(v)))
        typical = 20 * 2 * _U * size + 2.0**-1074
        yield float(np.median(r)), typical, size, f"median radius of {x.name}"


@inequality(
    "One bound for all split products",
    "|a'b - head - tail| <= gamma_{k+10} k 2^-24 |a| |b|",
)
def Q7(study: Study) -> Iterator[Comparison]:
    """Compare split products with exact ones, relative to the lengths of the rows."""
    for name, x in _small(study):
        part = errorfree.split_rows(x)
        made, y = errorfree.row_product(part, part), _exact(x)
        exact = y @ y.T
        away = exact - _exact(made.head) - _exact(made.tail)
        sizes = np.maximum(np.linalg.norm(x, axis=1), errorfree.FLOOR)
        bound = forming.split_error(x.shape[1]) * np.outer(sizes, sizes)
        bound *= 1 + rounding.gamma(x.shape[1] + 8, _U)
        yield _ratios(away, bound, exact, f"products of {name}")


@inequality(
    "Forming a Gram matrix",
    "|K^ - K| <= kappa sum_l x_l x_l', ||K^ - K|| <= kappa tr K",
)
def Q8(study: Study) -> Iterator[Comparison]:
    """Compare a few entries with exact ones, relative to the lengths of the rows."""
    layers = study.once(_data)
    few = _spread(len(layers[0][1]), _ROWS)
    made = forming.gram([(h[few], d[few]) for _, h, d in layers], 1)
    K = np.zeros((len(few), len(few)))
    for i, block in zip(range(0, len(few), 3), made.blocks(3), strict=True):
        K[i : i + len(block), i:] = block
    exact, bound = _exact(np.zeros(K.shape)), np.zeros(K.shape)
    for _, h, d in layers:
        x, y = _exact(h[few]), _exact(d[few])
        exact = exact + (x @ x.T) * (y @ y.T)
        size = np.linalg.norm(h[few], axis=1) * np.linalg.norm(d[few], axis=1)
        bound += np.outer(size, size)
    bound = bound * made.error * (1 + rounding.gamma(2 * _COLUMNS + 9, _U))
    away, upper = _exact(K) - exact, np.triu_indices(len(K))
    bound = bound[upper] + errorfree.FLOOR
    yield _ratios(away[upper], bound, exact, "Gram matrix of gradients")


@inequality(
    "A matrix and its factor, a factor and its columns",
    "||K - WW'|| and ||W'W - diag d|| are at most the computed bounds",
)
def Q9(study: Study) -> Iterator[Comparison]:
    """Take a Gram matrix and its leading eigenvectors, all or half, scaled."""
    for name, A in _symmetric(study):
        values, Q = scipy.linalg.eigh(A)
        for r in sorted({len(A), max(1, len(A) // 2)}):
            W = (Q * np.sqrt(np.maximum(values, 0)))[:, -r:][:, ::-1].copy()
            size, exact = float(np.linalg.norm(A)), _exact(W)
            bound = forming.residual_norm([A], W)
            rest = _exact(A) - exact @ exact.T
            over = math.sqrt(np.sum(rest * rest)) - bound
            yield over, 8 * _U * bound, size, f"rank {r} of {name}"
            d, bound = forming.squared_columns(W)
            rest = exact.T @ exact - np.diag(_exact(d))
            bound *= math.sqrt(r)  # of the 2-norm, not Frobenius'
            over = math.sqrt(np.sum(rest * rest)) - bound
            yield over, 8 * _U * bound, size, f"columns, rank {r} of {name}"


@inequality(
    "Certified coordinates",
    "|lambda_k - d_k| <= ||XX' - WW'|| + ||W'W - diag d||, whatever W is",
)
def Q10(study: Study) -> Iterator[Comparison]:
    """Certified spectra of rows and of their transpose: both sides, exactly counted."""
    for name, x in _small(study):
        for rows, how in ((x[:_FEWER], "rows"), (x[:, :_FEWER].T, "columns")):
            if not rows.any():
                continue
            n = len(rows)
            made = Factors((Factor(np.ascontiguousarray(rows)[:, None, None], None),))
            at = certified(SecondMoment(made, np.ones((n, 1)), (0, n)))
            A = _exact(rows) @ _exact(rows).T
            values = np.zeros(n)
            values[: len(at.second)] = np.diagonal(at.second)[:n]
            off = _furthest(A, values)
            yield off, at.radius, at.trace, f"{how} of {name}, {at.side}"


@inequality(
    "Forming a second moment and its cell means",
    "||fl(X'X) - X'X||_F <= (gamma_{t+6} + 2 eps_K) tr X'X + 2 eps_s mu",
)
def Q11(study: Study) -> Iterator[Comparison]:
    """Compare X'X and Q'X of a few columns with exact ones, two classes, K = 2."""
    pairs = [(h[:, :3], d[:, :3]) for _, h, d in study.once(_data)]
    few = _spread(len(pairs[0][0]), _ROWS)
    twice = [(h[few], np.stack([d[few], d[few][::-1]], axis=1)) for h, d in pairs]
    layers = [second.layer(d, h) for h, d in twice]
    rows = [
        (_exact(d)[:, :, :, None] * _exact(h)[:, None, None, :]).reshape(
            len(few), 2, -1
        )
        for h, d in twice
    ]
    X = np.concatenate(rows, axis=2)
    trace = float(np.sum(X * X))
    flat = X.reshape(2 * len(few), -1)
    made, error = second.second_moment(layers, trace)
    away, size = _exact(made) - flat.T @ flat, float(np.linalg.norm(made))
    yield _length(away), error, size, "second moment of gradients"
    unit = np.full((len(few), 2), 2.0**-2)  # squares of a class sum to 1 at most
    offsets = (0, len(few) // 2, len(few))
    means, error = second.cell_means(layers, unit, offsets, trace)
    parts = [X[i:j].sum(axis=0) / 4 for i, j in itertools.pairwise(offsets)]
    away, size = _exact(means) - np.stack(parts), float(np.linalg.norm(means))
    yield _length(away), error, size, "cell means of gradients"


def _length(x: np.ndarray) -> float:
    """Return the Frobenius norm of exact numbers, rounded once or twice."""
    return math.sqrt(np.sum(x * x))


def _furthest(A: np.ndarray, values: np.ndarray) -> float:
    """Bound the largest |value - eigenvalue| of an exact matrix from below.

    The trace times a power of two, the largest tried that misplaces an eigenvalue.
    """
    n, size = len(A), sum(A[i, i] for i in range(len(A)))
    off = size * Fraction(2) ** -2
    while off > size * Fraction(2) ** -60:
        for i, value in enumerate(values):
            below, _ = inertia(A, Fraction(value) - off)
            _, above = inertia(A, Fraction(value) + off)
            if below > n - 1 - i or above > i:
                return float(off)
        off /= 16 if off > size * Fraction(2) ** -40 else 4
    return 0.0
