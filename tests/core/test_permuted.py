"""Factors whose columns are elsewhere: rows are those of the factors, columns moved."""

from dataclasses import replace

import numpy as np
import pytest

from refspec import backend, rounding
from refspec.curvature import SecondMoment
from refspec.factors import Factor, Factors
from refspec.permuted import Permuted

U = 2.0**-53
N, K = 5, 3
SHAPES = [(1, 4, 2), (3, 4, 2), (2, None, 3), (1, 3, 3)]  # T, a, b


def permuted(asarray, shapes=SHAPES, still=2):
    """Return rows, the same as they are in the factors, and where columns go."""
    rng, layers, places, at, start = np.random.default_rng(0), [], [], [], 0
    for k, (T, a, b) in enumerate(shapes):
        h = None if a is None else asarray(rng.standard_normal((N, T, a)))
        f = Factor(asarray(rng.standard_normal((N, K, T, b))), h)
        order = rng.permutation(f.dimension)
        layers.append(f)
        places.append(None if k == still else order)
        at.append(start + (np.arange(f.dimension) if k == still else order))
        start += f.dimension
    plain = Factors(tuple(layers))
    return Permuted(plain.layers, places=tuple(places)), plain, np.concatenate(at)


def explicit(rows):
    return np.concatenate([backend.to_host(x) for x in rows.chunks()])


@pytest.mark.parametrize("shapes", [SHAPES, [(1, 4, 2), (1, 3, 3)]], ids=["all", "one"])
def test_columns_are_moved_and_nothing_else_is(asarray, shapes, monkeypatch):
    monkeypatch.setattr(backend, "temporary", lambda: 8 * N * K * 5)  # a few columns
    rows, plain, at = permuted(asarray, shapes)
    X = np.empty((N * K, len(at)))
    X[:, at] = explicit(plain)
    assert np.array_equal(explicit(rows), X)
    rng, host = np.random.default_rng(1), backend.to_host
    V, Z = rng.standard_normal((len(at), 2)), rng.standard_normal((N, K, 2))
    limit = rounding.gamma(4 * N * K + 4 * len(at), U) * (np.abs(X) ** 2).sum()
    size = np.abs(V).sum() + np.abs(Z).sum()
    image = host(rows.dot(asarray(V))).reshape(N * K, 2)
    assert np.abs(image - X @ V).max() <= limit * size
    back = X.T @ Z.reshape(N * K, 2)
    assert np.abs(host(rows.cross(asarray(Z))) - back).max() <= limit * size
    pivots = np.array([14, 0, 7])
    assert np.array_equal(host(rows.take(asarray(pivots))), X[pivots])
    columns = [host(x).reshape(N * K, -1) for x in rows.columns()]
    assert np.abs(np.concatenate(columns, axis=1) - X).max() <= limit
    assert np.abs(host(rows.second()) - X.T @ X).max() <= limit
    assert np.array_equal(host(rows.outer()), host(plain.outer()))
    assert np.array_equal(host(rows.squares()), host(plain.squares()))


def test_what_is_made_of_them_has_its_columns_there(asarray):
    rows, plain, at = permuted(asarray)
    unit = asarray(np.full((N, K), K**-0.5))
    offsets = (0, 2, 4, 5)
    pairs = [
        (rows.part(1, 4), plain.part(1, 4)),
        (rows.times(3), plain.times(3)),
        (rows.times(600).balanced()[0], plain.times(600).balanced()[0]),
        (rows.explicit(1e9), plain.explicit(1e9)),
        (rows.reduced(unit, offsets), plain.reduced(unit, offsets)),
    ]
    for one, other in pairs:
        assert isinstance(one, Permuted)
        X = explicit(one)
        assert np.array_equal(X[:, at], explicit(other))
        assert not np.array_equal(X, explicit(other))
        assert one.forming() == other.forming()
        columns = np.concatenate(
            [backend.to_host(x).reshape(len(X), -1) for x in one.columns()], axis=1
        )
        limit = rounding.gamma(64, U) * np.abs(X).max() * len(at)
        assert np.abs(columns - X).max() <= limit


def test_a_moment_has_its_matrix_in_that_order():
    rows, plain, at = permuted(np.asarray)
    weights = np.full((N, K), 1 / N)
    one, other = (SecondMoment(x, weights, (0, 2, 4, 5)) for x in (rows, plain))
    A, B = one.matrix(), other.matrix()
    limit = 2 * rounding.second_moment_radius(N * K, one.trace(), U)
    assert np.abs(A[np.ix_(at, at)] - B).max() <= limit
    assert np.abs(A - B).max() > limit
    V = np.eye(len(at))
    assert np.abs(one.matvec(V) - A).max() <= limit
    again = replace(one, projection=lambda x: x)
    assert np.abs(again.matrix() - A).max() <= limit
