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
from refspec.rounding import certificates, errorfree, forming
from refspec.theorems.registry import Comparison, identity, inequality
from refspec.theorems.study import Study

_U = 2.0**-53
_ROWS = 10  # of a matrix that is looked at in exact arithmetic
_FEWER = 6  # of a matrix whose eigenvalues are counted in exact arithmetic
_MORE = 40  # of a Gram matrix
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
    M = _exact(A) - x * np.eye(len(A), dtype=int)
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
        infinite = float(np.sum(np.isinf(found.radii)))
        yield infinite, 0.0, len(A), f"radii of inf, {name}"
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


def _gram(study: Study) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Return features, errors, and the exact Gram matrix of a few rows."""
    layers = study.once(_data)
    H, D = [h for _, h, _ in layers], [d for _, _, d in layers]
    few = _spread(len(H[0]), _ROWS)
    exact = _exact(np.zeros((len(few), len(few))))
    for h, d in zip(H, D, strict=True):
        x, y = _exact(h[few]), _exact(d[few])
        exact = exact + (x @ x.T) * (y @ y.T)
    return H, D, exact


@inequality(
    "Forming a Gram matrix, a priori",
    "||fl(K) - K|| <= gamma_k max (Pv)_i / v_i + tau",
)
def Q7(study: Study) -> Iterator[Comparison]:
    """Compare the machine's products with the a priori bound."""
    H, D, exact = study.once(_gram)
    few = np.ix_(*[_spread(len(H[0]), _ROWS)] * 2)
    K = sum((h @ h.T) * (d @ d.T) for h, d in zip(H, D, strict=True))
    bound = np.full(exact.shape, forming.gram_error_bound(H, D))
    yield _ratios(_exact(K[few]) - exact, bound, exact, "Gram matrix of gradients")
    sure, radius = forming.certified_gram(H, D)
    away = float(np.linalg.norm(K - sure, 2))
    both = 2 * (float(bound.flat[0]) + radius)
    yield away, both, float(np.linalg.norm(sure, 2)), "against the certified one"


@inequality(
    "Forming a Gram matrix, tight",
    "|K^ - K| <= u |K^| + E, and a bound of its norm",
)
def Q8(study: Study) -> Iterator[Comparison]:
    """Almost correctly rounded."""
    H, D, exact = study.once(_gram)
    few = np.ix_(*[_spread(len(H[0]), _ROWS)] * 2)
    K, radius = forming.certified_gram(H, D)
    away = _exact(K[few]) - exact
    bound = np.full(exact.shape, radius)
    yield _ratios(away, bound, exact, "certified Gram matrix")


@inequality(
    "The residual of a factorization",
    "||K - LL'||_F is at most the computed bound",
)
def Q9(study: Study) -> Iterator[Comparison]:
    """Bound the residual of a Gram matrix and its leading eigenvectors, all or half."""
    for name, A in _symmetric(study):
        values, Q = scipy.linalg.eigh(A)
        for r in sorted({len(A), max(1, len(A) // 2)}):
            L = (Q * np.sqrt(np.maximum(values, 0)))[:, -r:]
            bound = forming.certified_residual_norm([A], L)
            rest = _exact(A) - _exact(L) @ _exact(L).T
            least = np.sum(rest * rest)
            away, size = float(least - Fraction(bound) ** 2), float(np.sum(A * A))
            yield away, 0.0, size, f"rank {r} of {name}"
