"""Score-consistent errors: matrices of weights, the tree on them, growing worlds."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from refspec import rounding
from refspec.populations import KroneckerPopulation, Population
from refspec.random_matrix import predict, scores
from refspec.random_matrix.assumptions import mean_eigenvalue
from refspec.random_matrix.comparison import kolmogorov
from refspec.random_matrix.free.design import reduction
from refspec.random_matrix.nested.design import nested_design
from refspec.random_matrix.nested.tree import resistance, sweep
from refspec.synthetic import expectations
from refspec.synthetic.worlds import draw

U = 2.0**-53


def softmax(sizes, rng, margin=1.0, spread=0.5):
    """Weights p / N of softmax outputs."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    z = spread * rng.standard_normal((len(labels), len(sizes)))
    z[np.arange(len(labels)), labels] += margin
    p = np.exp(z)
    return p / np.sum(p, axis=1, keepdims=True) / len(labels)


def rows(population, rng):
    """Weighted errors, their score made 0 by the one at c' = c."""
    x, w, own = draw(population, rng=rng), population.weights, population.labels
    every = np.arange(population.N)
    x[every, own] = 0
    x[every, own] = -np.sum(w[:, :, None] * x, axis=1) / w[every, own][:, None]
    return (x * np.sqrt(w)[..., None]).reshape(-1, population.dimension)


@given(st.integers(2, 5), st.integers(0, 2**31))
def test_roots_square_to_the_weights(K, seed):
    rng = np.random.default_rng(seed)
    w = rng.choice([0.0, 1.0, 3.0], (6, K)) * rng.uniform(0.5, 2, (6, K))
    own = int(rng.integers(K))
    w[:, own] = rng.uniform(0.01, 2, 6)
    w[0] = 0
    R = scores.roots(w, own)
    for one, x in zip(R, w, strict=True):
        others = np.where(np.arange(K) == own, 0, x)
        exact = np.diag(others)
        if x[own]:
            exact = exact + np.outer(others, others) / x[own]
        bound = rounding.gamma(16 * K, U) * np.trace(exact)
        assert np.max(np.abs(one @ one.T - exact)) <= bound


def population(seed, fixed="none", within=1.5):
    """A small design of unequal classes, random or fixed levels."""
    rng = np.random.default_rng(seed)
    sizes, d = (3, 2, 4), 5
    given = {}
    shape = {"cross": (3, 3, d), "class": (3, d), "global": (d,)}
    if fixed in shape:
        name = "global_mean" if fixed == "global" else f"{fixed}_means"
        given[name] = rng.standard_normal(shape[fixed])
    if fixed != "class":
        given["class_covariance"] = 0.7
    if fixed != "cross":
        given["cross_covariance"] = 0.4
    return Population(
        sizes, d, softmax(sizes, rng), within, score_consistent=True, **given
    )


def dense(made):
    """Block diagonal A, and the indicators of rows, cells and classes."""
    A, C = scipy.linalg.block_diag(*scores.matrix_weights(made)), made.C
    label, cell = np.repeat(made.labels, C), np.tile(np.arange(C), made.N)
    names = np.eye(C)
    cells = (names[label][:, :, None] * names[cell][:, None, :]).reshape(-1, C * C)
    return A, [np.eye(len(A)), cells, names[label]]


@pytest.mark.parametrize("seed", range(3))
def test_sweep_is_the_gradient(seed):
    made = population(seed, within=np.linspace(0.5, 2, 5))
    A, Z = dense(made)
    rng = np.random.default_rng(seed)
    a = rng.uniform(-1, 1, 3) + 1j * rng.uniform(0.1, 1, 3)
    b, value, _ = sweep(nested_design(made), a)
    n = len(A)
    total = np.eye(n) + A @ sum(x * z @ z.T for x, z in zip(a, Z, strict=True))
    # A is singular: dL / da_r = tr (1 + A V)^-1 A Z_r Z_r'
    inner = np.linalg.solve(total, A + 0j)
    exact = np.asarray([np.sum((inner @ z) * z) for z in Z])
    bound = rounding.gamma(64 * n, U) * np.linalg.cond(total) * np.trace(A)
    assert np.all(np.abs(b - exact) <= bound * np.asarray([np.sum(z) for z in Z]))
    # eigenvalues of 1 + A^1/2 V A^1/2 have arguments in (0, pi)
    angles = np.angle(np.linalg.eigvals(total))
    assert np.min(angles) >= -bound
    assert abs(value.imag - np.sum(angles)) <= n * bound
    assert abs(value.real - np.linalg.slogdet(total)[1]) <= n * bound


@pytest.mark.parametrize("fixed", ["cross", "class", "global"])
def test_projected_rows_are_an_infinite_effect(fixed):
    made = population(1, fixed, np.linspace(0.5, 2, 5))
    A, Z = dense(made)
    design = nested_design(made)
    k = len(design.covariances)
    a = np.asarray([0.7, 0.4, 0.6])[:k]
    levels = {"cross": [0, 2], "class": [0, 1], "global": [0, 1, 2]}[fixed]
    used = [Z[r] for r in levels[:k]]
    P = {"cross": Z[1], "class": Z[2], "global": np.ones((len(A), 1))}[fixed]
    P = P[:, np.any(A @ P, axis=0)]
    V = sum(x * z @ z.T for x, z in zip(a, used, strict=False))
    if fixed == "cross":  # nothing of the class level is seen behind removed cells
        V = a[0] * Z[0]
    inner = np.linalg.solve(np.eye(len(A)) + A @ V, A)
    weights = P.T @ inner @ P
    found = np.linalg.inv(resistance(design, a))
    bound = rounding.gamma(4096, U) * np.linalg.cond(weights) * np.trace(weights)
    assert np.max(np.abs(found - weights)) <= bound
    left = inner - inner @ P @ np.linalg.solve(weights, P.T @ inner)
    assert abs(sweep(design, a)[0][0] - np.trace(left)) <= bound * len(A)


@pytest.mark.parametrize("fixed", ["none", "class", "cross", "global"])
def test_no_row_is_lost(fixed):
    made = reduction(population(0, fixed))
    rank = {"none": 0, "class": 3, "cross": 5, "global": 1}[fixed]
    assert len(made.signals.v) == rank
    assert np.sum(made.law.counts) + rank + (6 - 5 if fixed == "cross" else 0) >= 18
    if fixed != "cross":
        assert np.sum(made.law.counts) + rank == 2 * 9


@pytest.mark.parametrize("within", [1.5, (0.5, 1.0, 2.0)])
def test_covariances_that_are_multiples_agree(within):
    """The tree on matrices against the exact reduction."""
    rng = np.random.default_rng(2)
    sizes, d = (12, 9, 14), 40
    w, levels = (
        softmax(sizes, rng),
        {"class_covariance": 0.8, "cross_covariance": 0.3},
    )
    exact = predict(Population(sizes, d, w, within, score_consistent=True, **levels))
    ones = np.ones(d)
    full = tuple(s * ones for s in within) if isinstance(within, tuple) else within
    full = full if isinstance(full, tuple) else full * ones
    found = predict(Population(sizes, d, w, full, score_consistent=True, **levels))
    assert (exact.method, found.method) == ("exact reduction", "nested tree")
    assert exact.counts == found.counts
    x = np.linspace(0, exact.bands[-1].upper, 400)
    off = np.abs(exact.count(x, side="right") - found.count(x, side="right"))
    assert np.max(off) <= 0.1  # the resolution, in eigenvalues


def test_mean_eigenvalue_is_the_expected_trace():
    errors = population(3, "class", (0.5, 1.0, 2.0))
    levels = expectations.error_levels(errors)
    trace = sum(float(np.trace(x)) for x in levels.values()) / errors.dimension
    bound = rounding.gamma(4096, U) * trace
    assert abs(mean_eigenvalue(errors) - trace) <= bound
    shares = np.sum(errors.weights, axis=1, keepdims=True)
    features = Population(
        errors.sizes, 2, shares, (1.0, 2.0, 0.5), class_means=np.eye(3, 2)
    )
    fixed = dataclasses.replace(errors, cross_covariance=None)
    both = KroneckerPopulation(fixed, features, -0.5)
    trace = float(np.trace(expectations.fisher_of_layers([both]))) / both.dimension
    bound = rounding.gamma(4096, U) * trace
    assert abs(mean_eigenvalue(both) - trace) <= bound


#: Dimensions, how often each is drawn; units of 1 / d, deviations that are allowed.
LADDER, DISTANCE, SCORE = ((50, 24), (100, 12), (200, 6)), 4.0, 4.5


@pytest.mark.slow
@pytest.mark.parametrize(("d", "draws"), LADDER)
def test_spectra_approach_their_law(d, draws):
    C, n = 4, d // 2
    rng = np.random.default_rng([0, d])
    made = Population(
        (n,) * C,
        d,
        softmax((n,) * C, rng),
        np.linspace(0.2, 2, d),
        class_means=6 * np.eye(C, d),
        cross_covariance=0.1,
        score_consistent=True,
    )
    expected = predict(made)
    r = len(expected.fixed.values)
    assert r == C
    distances, away = [], []
    for _ in range(draws):
        X = rows(made, rng)
        values = np.linalg.eigvalsh(X.T @ X)[::-1]
        distances.append(kolmogorov(expected, values))
        away.append((values[:r] - expected.fixed.values) / expected.fixed.deviations)
    assert d * np.mean(distances) <= DISTANCE
    assert np.max(np.abs(away)) <= SCORE
