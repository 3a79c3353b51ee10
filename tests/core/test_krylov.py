"""The top of an operator known by products: nothing missed, nothing found twice."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from refspec import backend, krylov, rounding
from refspec.rounding.bounds import rare_chi_squared
from refspec.spaces import Space

U = 2.0**-53


def turned(values, seed):
    """Return Q diag(values) Q' for a random rotation Q, and its eigenvectors Q."""
    n = len(values)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    return (Q * values) @ Q.T, Q


def forming(values):
    """Bound what making such a matrix, and multiplying with it, rounds."""
    n = len(values)
    return 3 * n * rounding.gamma(n + 2, U) * float(np.max(values))


@settings(max_examples=15)
@pytest.mark.theorem("S3")
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    k=st.integers(1, 12),
    decay=st.sampled_from([0.0, 0.3, 0.9, 0.99, 1.0]),
    repeated=st.integers(1, 12),
)
def test_S3(seed, n, k, decay, repeated):
    """The values of every rank, clusters of any multiplicity and null spaces too."""
    values = decay ** (np.arange(n) // repeated)
    A, _ = turned(values, seed)
    k, rounded = min(k, n), forming(values)
    found = krylov.leading(lambda x: A @ x, A[0], n, k, rounded, seed)
    away = np.max(np.abs(found.values - values[:k]))
    assert away <= found.radius + rounded
    if n > k + 20 and decay < 1:  # it says something
        assert found.radius <= 1e3 * rounded
    off = np.linalg.norm(found.vectors.T @ found.vectors - np.eye(k))
    assert off <= rounding.gamma(8 * n, U) * k


def projections(n, q, seed):
    """Return Q (n, q), orthonormal but for a zero column, and several D (q, q)."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((n, q)))[0]
    Q[:, 0] *= q == 1
    U = np.linalg.qr(rng.standard_normal((q, max(1, q // 2))))[0]
    if q > 1:  # nothing of the column that is zero
        U[0] = 0
        U = np.linalg.svd(U, full_matrices=False)[0]
    return Q, {"whole": np.zeros((q, q)), "within": np.eye(q), "without": U @ U.T}


def through(Q, several):
    """Return P = I - QDQ' of each."""
    return {name: np.eye(len(Q)) - Q @ D @ Q.T for name, D in several.items()}


@settings(max_examples=15)
@pytest.mark.theorem("S6")
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 60),
    q=st.integers(1, 12),
    k=st.integers(1, 12),
    decay=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    repeated=st.integers(1, 24),
)
def test_S6(seed, n, q, k, decay, repeated):
    """Of several projections from one space: values of every rank, clusters too."""
    values = decay ** (np.arange(n) // repeated)
    A, _ = turned(values, seed)
    k, q, rounded = min(k, n), min(q, n), 8 * forming(values)  # projected twice
    Q, several = projections(n, q, seed)
    P, seen = through(Q, several), {}
    for name, p in P.items():
        seen[name] = (lambda x, p=p: p @ (A @ (p @ x))), several[name]
    space = Space.alone(n)
    found = krylov.together(lambda x: A @ x, Q, space, k, seen, rounded, seed)
    assert set(found) == set(several)
    for name, p in P.items():
        true = np.linalg.eigvalsh(p @ A @ p)[::-1][:k]
        away = np.max(np.abs(found[name].values - true))
        assert away <= found[name].radius + rounded, name
        if n > k + q + 30 and decay < 1:  # it says something
            assert found[name].radius <= 1e3 * rounded, name


def test_one_space_takes_fewer_products_than_each(monkeypatch):
    """The largest of three projections: a column of the space is multiplied once."""
    n, k = 300, 20
    A, _ = turned(0.97 ** np.arange(n), 0)
    Q, several = projections(n, 6, 0)
    rounded, once, alone, seen = 8 * forming(np.ones(n)), [], [], {}
    monkeypatch.setattr(krylov, "norm_beyond", lambda *_: (0.0, 0.0))
    for name, p in through(Q, several).items():

        def product(x, p=p):
            alone.append(x.shape[1])
            return p @ (A @ (p @ x))

        krylov.leading(product, Q, n, k, rounded)
        seen[name] = (lambda x, p=p: p @ (A @ (p @ x))), several[name]

    def whole(x):
        once.append(x.shape[1])
        return A @ x

    krylov.together(whole, Q, Space.alone(n), k, seen, rounded)
    assert sum(once) < sum(alone) / 2


def test_a_space_without_the_cells_knows_no_knockout():
    """Effect: the residual that the small matrix says is not the true one."""
    A, _ = turned(0.8 ** np.arange(60), 0)
    Q, several = projections(60, 4, 0)
    D, rng = several["within"], np.random.default_rng(1)
    P = np.eye(60) - Q @ D @ Q.T
    for first, holds in ((Q, True), (rng.standard_normal((60, 4)), False)):
        start = np.concatenate([first, rng.standard_normal((60, 4))], axis=1)
        for found in krylov.lanczos(lambda x: A @ x, start, rng):
            if len(found.small) == 24:
                break
        V, b = found.basis, start.shape[1]
        W = V[:, :b].T @ Q
        theta, S, said = found.through(W @ D @ W.T).ritz(3)
        x = V @ S
        true = np.linalg.norm(P @ A @ P @ x - x * theta, axis=0)
        assert (np.max(np.abs(true - said)) <= forming(np.ones(60))) == holds


def test_the_norm_of_what_was_not_found():
    """S3: a value that V misses is seen; with nothing missing the bound is the next."""
    values = 0.9 ** np.arange(60)
    A, Q = turned(values, 0)
    rounded, rng = forming(values), np.random.default_rng(1)

    def beyond(V, enough):
        return krylov.norm_beyond(lambda x: A @ x, V, enough, rounded, rng)[1]

    assert 1 <= beyond(Q[:, 1:5], 0.0) + rounded <= 1.01
    assert values[5] <= beyond(Q[:, :5], 0.0) + rounded <= 1.01 * values[5]
    assert beyond(Q[:, :5], values[4]) <= values[4]  # stops when that is known


@pytest.mark.parametrize("steps", [1, 2, 5, 12])
@pytest.mark.parametrize("columns", [1, 2, 8])
def test_S3_holds_where_it_is_tight(steps, columns, monkeypatch):
    """Among 1500 spaces the failure probability, made large, is nearly used up."""
    monkeypatch.setattr("refspec.rounding.bounds.FAILURE", 0.1)
    rng, n = np.random.default_rng(7), 40
    failed, trials = 0, 1500
    # the spectrum against which a Chebyshev polynomial is the best: its own extrema
    eps = 0.3
    low = (1 + np.cos(np.pi * np.arange(n - 1) / max(1, n - 2))) / 2
    values = np.concatenate([[1 + eps], low])
    for _ in range(trials):
        Z = rng.standard_normal((n, columns))
        space = np.concatenate([values[:, None] ** j * Z for j in range(steps)], axis=1)
        Q = np.linalg.qr(space)[0]
        top = float(np.linalg.eigvalsh(Q.T @ (values[:, None] * Q))[-1])
        squares = float(np.linalg.norm(Z, 2)) ** 2
        failed += krylov.krylov_bound(top, steps, squares, columns) < values[0]
    # at most the failure probability, by Hoeffding's inequality at 1e-9
    slack = np.sqrt(np.log(1 / 1e-9) / (2 * trials))
    assert failed / trials <= 0.1 + slack


def test_S3_without_the_quantile_fails():
    """Effect: with the mean in place of the quantile the bound is at times too low."""
    n, columns, failed = 30, 1, 0
    rng = np.random.default_rng(3)
    values = np.concatenate([[1.0], np.full(n - 1, 0.5)])
    for _ in range(2000):
        Z = rng.standard_normal((n, columns))
        top = float(Z[:, 0] ** 2 @ values / (Z[:, 0] @ Z[:, 0]))
        squares = float(Z[:, 0] @ Z[:, 0])
        wrong = top * (1 + squares / scipy.special.chdtri(columns, 0.5) / n)
        failed += wrong < 1
    assert failed > 0


def test_the_krylov_space_is_an_invariant_one(asarray):
    """V'V = I, V'AV is what is said, AV = V (V'AV) + what is last, in any namespace."""
    rng = np.random.default_rng(0)
    host = rng.standard_normal((20, 20))
    host = host @ host.T
    A = asarray(host)
    start = asarray(rng.standard_normal((20, 3)))
    rounded = 400 * rounding.gamma(20, U) * np.linalg.norm(host)
    sizes = []
    for found in krylov.lanczos(lambda x: A @ x, start, rng):
        V = backend.to_host(found.basis)
        sizes.append(V.shape[1])
        assert np.linalg.norm(V.T @ V - np.eye(V.shape[1])) <= rounded
        assert np.linalg.norm(V.T @ host @ V - found.small) <= rounded
        out = host @ V - V @ found.small
        assert np.linalg.norm(out[:, : -len(found.last)]) <= rounded
        norms = np.linalg.norm(out[:, -len(found.last) :]), np.linalg.norm(found.last)
        assert abs(norms[0] - norms[1]) <= rounded
        theta, S, away = found.ritz()
        left = np.linalg.norm(host @ V @ S - V @ S * theta, axis=0)
        assert np.max(np.abs(left - away)) <= rounded
    assert sizes == [3, 6, 9, 12, 15, 18, 20]


def test_a_space_that_is_exhausted_goes_on():
    """Rank one, and zero: random vectors go on, and values are right."""
    v = np.arange(1.0, 31) / 100
    A = np.outer(v, v)
    found = krylov.leading(lambda x: A @ x, v, 30, 3)
    assert np.max(np.abs(found.values - [v @ v, 0, 0])) <= found.radius
    zero = krylov.leading(lambda x: 0 * x, v, 30, 3)
    assert zero.values.tolist() == [0, 0, 0]
    assert zero.radius == 0


def test_the_radius_holds_what_products_are_off_by():
    """Of the k vectors and 4 more, each by as much as it is told."""
    A, _ = turned(0.9 ** np.arange(60), 0)
    for forming in (2.0**-10, 2.0**-30):
        found = krylov.leading(lambda x: A @ x, A[0], 60, 3, forming)
        assert (3 + 4) ** 0.5 * forming <= found.radius <= 8 * forming


@pytest.mark.parametrize("steps", [1, 2])
def test_S3_solves_for_the_polynomial_it_names(steps):
    """Eps T(1 + 2 eps)^2 = ||Z||^2 / chi, T of degree 0 and 1."""
    ratio = 40.0 / rare_chi_squared(3)
    eps = krylov.krylov_bound(1.0, steps, 40.0, 3) - 1
    found = eps * (1 + 2 * eps) ** (2 * (steps - 1))
    assert ratio <= found <= ratio * (1 + 2.0**-26)


def test_what_is_beyond_is_cut_on_both_sides():
    """Of vectors that are no eigenvectors, in a space that is everything."""
    A, _ = turned(0.5 ** np.arange(12), 0)
    rng = np.random.default_rng(1)
    V = np.linalg.qr(rng.standard_normal((12, 3)))[0]
    away = np.eye(12) - V @ V.T
    true, rounded = np.linalg.norm(away @ A @ away, 2), forming(np.ones(12))
    top, bound = krylov.norm_beyond(lambda x: A @ x, V, 0.0, rounded, rng)
    assert abs(top - true) <= rounded
    assert true - rounded <= bound <= true + 2 * rounded


def test_probes_are_as_long_as_they_are():
    """After one step, ||Z||^2 >= n / 2 of n rows: the bound is that much above."""
    n, rng = 100, np.random.default_rng(0)
    V = np.eye(n)[:, :1]
    top, bound = krylov.norm_beyond(lambda x: x, V, np.inf, 0.0, rng)
    columns = krylov._PROBES
    assert bound >= top * (1 + n / 2 / rare_chi_squared(columns))
