"""What rows do by their two products alone, against the same rows made explicit."""

import math
from fractions import Fraction

import numpy as np
import pytest

from refspec import backend, rounding
from refspec.factors import Factor, Factors
from refspec.grams import WithGram
from refspec.rows import Columns, Reduced, Rows, Scaled, forming_radius

N, K = 5, 3
OFFSETS = (0, 2, 2, 5)  # no sample of the second class


def factors(asarray=np.asarray, dtype=np.float64, T=2, power=0):
    rng = np.random.default_rng(0)
    roots = np.ldexp(rng.standard_normal((N, K, T, 2)), power)
    h = rng.standard_normal((N, T, 4))
    return Factors((Factor(asarray(roots.astype(dtype)), asarray(h.astype(dtype))),))


def explicit(rows):
    return np.concatenate([backend.to_host(x) for x in rows.chunks()])


def unit(rows):
    u = np.random.default_rng(1).random((N, K)) + 0.5
    u /= np.linalg.norm(u, axis=1)[:, None]
    return backend.from_host(u.astype(backend.to_host(rows.like).dtype), rows.like)


def reduced_rows(X, u):
    """Householder reflections that take u_i to -e_c, as matrices; row c left out."""
    parts = []
    for c, i, j in zip(range(3), OFFSETS, OFFSETS[1:], strict=False):
        for k in range(i, j):
            v = u[k] + np.eye(K)[c]
            made = (np.eye(K) - 2 * np.outer(v, v) / (v @ v)) @ X[K * k : K * k + K]
            parts.append(np.delete(made, c, axis=0))
    return np.concatenate(parts)


#: Kinds of rows, made of factors, and what they are of the explicit rows X.
KINDS = {
    "plain": (lambda f: f, lambda X, _: X),
    "scaled": (lambda f: Scaled(f, 3), lambda X, _: 8 * X),
    "columns": (
        lambda f: Columns(f, ((1, 3), (6, 8))),
        lambda X, _: X[:, [1, 2, 6, 7]],
    ),
    "reduced": (lambda f: Reduced(f, unit(f), OFFSETS), reduced_rows),
    "with gram": (lambda f: WithGram(f, f.outer()), lambda X, _: X),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("some", [1, 2, 100])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_products_do_all_that_rows_do(asarray, monkeypatch, kind, some, dtype):
    """In any format, which is kept, and however much is done at a time."""
    monkeypatch.setattr(backend, "at_a_time", lambda *_: some)
    make, of = KINDS[kind]
    f = factors(asarray, dtype)
    rows, X = make(f), of(explicit(f).astype(float), backend.to_host(unit(f)))
    n, k = len(X), rows.shape[1]
    assert rows.shape == (N, n // N, X.shape[1])
    u = rounding.unit_roundoff(f.like)
    bound = rounding.gamma(64 + 4 * sum(X.shape), u) * float((X * X).sum())
    short = math.sqrt(bound * u)  # of an entry of the rows
    index = backend.from_host(np.array([n - 1, 0, 4]), f.like)
    G = X @ X.T
    found = {
        "take": (Rows.take(rows, index), X[[n - 1, 0, 4]], short),
        "gram": (Rows.gram(rows, index, 1), G[[n - 1, 0, 4], k:], bound),
        "squares": (Rows.squares(rows), np.diag(G).reshape(N, k), bound),
        "outer": (Rows.outer(rows), G, bound),
        "second": (Rows.second(rows), X.T @ X, bound),
    }
    parts = {"chunks": list(Rows.chunks(rows)), "columns": list(Rows.columns(rows))}
    for name, (computed, true, limit) in found.items():
        host = backend.to_host(computed)
        assert host.dtype == dtype, name
        assert host.shape == true.shape, name
        assert np.abs(host - true).max() <= limit, name
    for name, each in parts.items():
        hosts = [backend.to_host(x) for x in each]
        assert {x.dtype for x in hosts} == {np.dtype(dtype)}, name
        if name == "chunks":
            whole = np.concatenate(hosts)
            assert max(len(x) for x in hosts) <= some * k
        else:
            whole = np.concatenate([x.reshape(n, -1) for x in hosts], axis=1)
            assert max(x.shape[2] for x in hosts) <= some
        assert np.abs(whole - X).max() <= short, name


def test_a_gram_matrix_that_is_held_is_what_is_multiplied_with(asarray):
    """Of other rows here, to tell: over the rows nothing else is asked."""
    f = factors(asarray)
    rows, held = WithGram(f, f.times(1).outer()), backend.to_host(f.times(1).outer())
    z = np.random.default_rng(1).standard_normal((N, K, 2))
    found = backend.to_host(rows.gram_times(asarray(z))).reshape(N * K, 2)
    bound = rounding.gamma(N * K, 2.0**-53) * np.linalg.norm(held) * np.linalg.norm(z)
    assert np.linalg.norm(found - held @ z.reshape(N * K, 2)) <= bound
    squares = backend.to_host(rows.squares())
    assert np.array_equal(squares.ravel(), np.diag(held))
    assert rows.products == f.roundings + N * K + 2
    assert rows.work.product == (N * K) ** 2


def test_powers_are_exact_however_large():
    """Odd ones too, and those that no number of the format holds."""
    for power, size in ((3, 0), (-3, 0), (1600, -1000)):
        f = factors(power=size)
        wide = np.ldexp(explicit(f), power)
        rows = Scaled(f, power)
        assert np.array_equal(explicit(rows), wide)
        index = np.arange(N * K)
        assert np.array_equal(rows.take(index), wide)


def test_rows_are_scaled_before_their_squares_lose_digits():
    """Squares that are normal numbers, if barely, are no sum that keeps its digits."""
    for power in (-511, -480, 0, 510):
        small, moved = Rows.balanced(factors(power=power))
        trace = float(np.sum(small.squares()))
        assert 2.0**-970 < trace < math.inf
        assert (moved == 0) == (power in (-480, 0)), power
        assert np.array_equal(
            explicit(small.times(moved)), explicit(factors(power=power))
        )


@pytest.mark.parametrize("kind", ["scaled", "reduced"])
def test_what_is_multiplied_out_beneath_stays_the_same_rows(kind):
    """Positions are added up where that fits; the scale or the reflection stays."""
    f = factors()
    make = KINDS[kind][0]
    known = make(Columns(f, ((0, 8),)))  # cannot be multiplied out: they stay
    assert known.explicit(math.inf) is known
    rows = make(f)
    out = rows.explicit(math.inf)
    (layer,) = out.layers
    assert layer.features is None
    X, bound = explicit(rows), rounding.gamma(64, 2.0**-53)
    assert np.abs(explicit(out) - X).max() <= bound * np.linalg.norm(X)
    assert out.shape == rows.shape
    assert out.forming() >= rows.forming() > 0


def test_a_reflection_adds_to_the_error_of_the_rows():
    f = factors()
    fewer = f.reduced(unit(f), OFFSETS)
    assert fewer.forming() > f.forming() > 0


def test_the_radius_of_forming_is_no_less_than_what_is_proved():
    """2 ||X|| e + e^2, in fractions: rounding it must not lose what it proves."""
    rng, f = np.random.default_rng(0), factors()
    for _ in range(50):
        root, e = float(rng.integers(1, 2**26)), float(rng.random())
        rows = Factors(f.layers, e)
        exact = 2 * Fraction(root) * Fraction(e) + Fraction(e) ** 2
        found = forming_radius(rows, root**2, 2.0**-53)
        assert exact <= Fraction(found) <= exact * (1 + Fraction(1, 2**40))


def test_rows_alone_that_are_tiny_beside_a_row_of_zeros_are_found():
    """The power is that of the largest entry, and a zero has none."""
    roots = np.ldexp(np.random.default_rng(0).standard_normal((4, 1, 1, 3)), -600)
    roots[2] = 0
    small, power = Factors((Factor(roots, None),)).balanced()
    largest = float(np.abs(small.layers[0].roots).max())
    assert 0.5 <= largest < 1
    assert np.array_equal(np.ldexp(small.layers[0].roots, power), roots)
