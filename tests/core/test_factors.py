"""Products, Gram rows and packed blocks of the rows, against rows made by loops."""

import numpy as np
import pytest

from refspec import backend, factors, rounding
from refspec.factors import kernels, layer
from refspec.rows import Rows

U = 2.0**-53


def make(asarray, T, a, N=5, K=3, b=2, seed=0):
    rng = np.random.default_rng(seed)
    roots = rng.standard_normal((N, K, T, b))
    h = None if a is None else rng.standard_normal((N, T, a))
    factor = factors.Factor(asarray(roots), None if h is None else asarray(h))
    rows = [
        roots[i, k].ravel()
        if h is None
        else sum(np.kron(roots[i, k, t], h[i, t]) for t in range(T))
        for i in range(N)
        for k in range(K)
    ]
    return factor, np.array(rows)


SHAPES = [(1, 4), (3, 4), (2, None), (1, 1)]


@pytest.fixture(params=SHAPES, ids=str)
def pair(request, asarray):
    return make(asarray, *request.param)


def bound(X, more=1.0):
    terms = 4 * sum(X.shape) + 16
    return rounding.gamma(terms, U) * (np.abs(X) ** 2).sum() * more


def test_every_product_is_that_of_the_rows(pair, asarray):
    f, X = pair
    host, rng = backend.to_host, np.random.default_rng(1)
    V, Z = rng.standard_normal((X.shape[1], 2)), rng.standard_normal((5, 3, 2))
    size = np.abs(V).sum() + np.abs(Z).sum() + 1
    limit = bound(X, size)
    whole = factors.Factors((f,))
    assert whole.shape == (5, 3, X.shape[1])
    assert np.abs(host(whole.dot(asarray(V))).reshape(15, 2) - X @ V).max() <= limit
    back = host(whole.cross(asarray(Z)))
    assert np.abs(back - X.T @ Z.reshape(15, 2)).max() <= limit
    assert np.abs(host(whole.squares()).ravel() - (X * X).sum(1)).max() <= limit
    explicit = np.concatenate([host(x) for x in whole.chunks()])
    assert np.abs(explicit - X).max() <= limit
    columns = np.concatenate([host(x).reshape(15, -1) for x in whole.columns()], axis=1)
    assert np.abs(columns - X).max() <= limit
    pivots = asarray(np.array([14, 0, 7]))
    gram = host(factors.Factors((f, f)).gram(pivots, 1))
    assert np.abs(gram - 2 * (X @ X.T)[[14, 0, 7], 3:]).max() <= 2 * limit
    assert np.abs(gram - 2 * (X @ X.T)[[14, 0, 7], :12]).max() > 2 * limit
    outer = host(factors.Factors((f, f)).outer())
    assert np.abs(outer - 2 * X @ X.T).max() <= 2 * limit
    assert np.abs(outer - X @ X.T).max() > 2 * limit
    assert np.abs(host(whole.take(pivots)) - X[[14, 0, 7]]).max() <= limit
    assert np.abs(host(whole.second()) - X.T @ X).max() <= limit


def test_packed_blocks_are_symmetric_to_the_bit(asarray):
    f, X = make(asarray, 1, 4)
    g, Y = make(asarray, 1, 3, b=4, seed=2)
    packed = backend.to_host(factors.Factors((f, g)).second())
    whole = np.concatenate([X, Y], axis=1)
    assert np.abs(packed - whole.T @ whole).max() <= bound(whole)
    assert np.array_equal(packed, packed.T)


def test_chunks_do_not_change_a_result(asarray, monkeypatch):
    f, _ = make(asarray, 3, 4)
    one = [backend.to_host(x) for x in factors.Factors((f,)).chunks()]
    monkeypatch.setattr(backend, "at_a_time", lambda *_: 1)
    many = [backend.to_host(x) for x in factors.Factors((f,)).chunks()]
    assert len(one) == 1
    assert len(many) == 5
    assert np.array_equal(np.concatenate(many), one[0])
    g, Y = make(asarray, 1, 4)
    assert np.abs(
        backend.to_host(factors.Factors((g,)).second()) - Y.T @ Y
    ).max() <= bound(Y)


def test_positions_are_multiplied_out_within_a_budget(asarray):
    f, X = make(asarray, 3, 4)
    out = factors.Factors((f, f)).explicit(8.0 * X.size).layers
    assert out[0].features is None
    assert out[1] is f
    assert np.abs(backend.to_host(out[0].roots).reshape(15, -1) - X).max() <= bound(X)


def test_the_error_of_the_rows_scales_with_them(asarray):
    f, _ = make(asarray, 3, 4)
    rows = factors.Factors((f,)).explicit(2.0**30)
    assert rows.lost > 0
    for power in (-600, -3, 0, 5, 600):
        assert rows.times(power).forming() == rows.lost * 2.0**power
        small, moved = rows.times(power).balanced()
        assert small.forming() == rows.lost * 2.0 ** (power - moved)


def test_a_row_is_as_uncertain_as_its_terms_together(asarray):
    """The same term at every position: T times as large, and T times as uncertain."""
    f, _ = make(asarray, 1, 4)
    roots, h = (backend.to_host(x) for x in (f.roots, f.features))
    again = factors.Factor(
        asarray(np.repeat(roots, 3, axis=2)), asarray(np.repeat(h, 3, axis=1))
    )
    one, three = (factors.Factors((x,)).forming() for x in (f, again))
    assert 3 * one < three < 2 * 3 * one


def test_scores_left_out_are_the_second_moment_of_the_scores(asarray, monkeypatch):
    """Where they do not vanish: as many rows as samples, sum_c' u x_c'."""
    monkeypatch.setattr(backend, "at_a_time", lambda *_: 2)  # some samples at a time
    for T, a in SHAPES:
        f, X = make(asarray, T, a)
        u = np.random.default_rng(1).random((5, 3)) + 0.5
        u /= np.linalg.norm(u, axis=1)[:, None]
        scores = np.einsum("nk,nkp->np", u, X.reshape(5, 3, -1))
        rows, offsets = factors.Factors((f,)), (0, 2, 3, 5)
        for left_out in (rows.scores, lambda *x, r=rows: Rows.scores(r, *x)):
            off = left_out(asarray(u), offsets) - (scores * scores).sum()
            assert abs(off) <= bound(X)
        # an entry of YY' is a product of two rows that were reflected, C terms each
        fewer = Rows.reduced(rows, asarray(u), offsets)
        assert fewer.roundings >= rows.roundings + 2 * 3


@pytest.mark.parametrize("little", [False, True])
def test_long_rows_with_few_positions_are_the_same(asarray, monkeypatch, little):
    """By pairs of positions, and some samples at a time."""
    monkeypatch.setattr(layer, "_LONG", 1)
    f, X = make(asarray, 3, 40)
    assert f.by_pairs
    assert not make(asarray, 3, 36)[0].by_pairs  # 1.5 (a + 12) multiplications of 2 a
    if little:
        monkeypatch.setattr(backend, "_TEMPORARY", 8 * 3 * 3 * 3)
    test_every_product_is_that_of_the_rows((f, X), asarray)


def test_a_gram_matrix_by_pairs_is_as_far_off_as_forming_says(monkeypatch):
    """Positions that cancel: the terms of a sum over pairs are as large as before."""
    monkeypatch.setattr(layer, "_LONG", 1)
    rng, N, T, a = np.random.default_rng(0), 6, 2, 13
    roots, h = rng.standard_normal((N, 2, 1, 3)), rng.standard_normal((N, 1, a))
    roots = np.concatenate([roots, -roots * (1 + 2.0**-20)], axis=2)
    f = factors.Factor(roots, np.concatenate([h, h], axis=1))
    assert f.by_pairs
    assert f.roots.shape[2] == T
    X = np.einsum("nktb,nta->nkba", roots.astype(np.longdouble), f.features)
    X = X.reshape(2 * N, -1)
    rows = factors.Factors((f,))
    gap = np.linalg.norm((rows.gram(np.arange(2 * N)) - X @ X.T).astype(float))
    length, e = float(np.sqrt((X * X).sum())), rows.forming()
    assert gap <= 2 * length * e + e * e
    # effect: what bounds rows that do not cancel does not
    assert gap > rounding.gamma(rows.roundings, U) * length**2


@pytest.mark.parametrize(
    ("T", "a", "length"), [(1, 4, 2 + 4), (2, None, 2 * 2), (3, 4, 2 * 4)]
)
def test_an_entry_of_the_gram_matrix_suffers_as_many_roundings(T, a, length):
    """Those of its inner products, by errors and features or of whole rows: b = 2."""
    f, _ = make(np.asarray, T, a)
    assert factors.Factors((f,)).roundings == length + 1
    assert factors.Factors((f, f)).roundings == length + 2


def test_squares_by_pairs_that_rounding_made_negative_are_zero(monkeypatch):
    monkeypatch.setattr(layer, "_LONG", 1)
    rng, parts = np.random.default_rng(0), np.array([1.0, -0.3, -0.7])
    roots = rng.standard_normal((20, 3, 1, 2)) * parts[:, None]
    f = factors.Factor(roots, np.repeat(rng.standard_normal((20, 1, 40)), 3, axis=1))
    assert f.by_pairs
    squares = factors.Factors((f,)).squares()
    assert squares.min() == 0  # some are clipped
    assert squares.max() > 0


@pytest.mark.parametrize("axis", [2, (1, 2)])
def test_lengths_of_long_and_short_vectors_together(asarray, axis):
    """Exactly 2^k times as long, though no square of 2^-1000 is a number."""
    x, powers = np.random.default_rng(0).standard_normal((2, 3)), (0, -1000, -500, 1000)
    many = np.stack([x * 2.0**k for k in powers])
    found = backend.to_host(factors.lengths(asarray(many), axis))
    for length, k in zip(found, powers, strict=True):
        assert np.array_equal(length, found[0] * 2.0**k)
    true = np.linalg.norm(x, axis=1 if axis == 2 else None)
    assert np.abs(found[0] - true).max() <= rounding.gamma(16, U) * np.max(true)


def test_weighing_loses_no_tiny_error_beside_huge_features(asarray):
    """The root of a weight times 2^-990 has lost digits; times 2^900 it counts."""
    rng, powers = np.random.default_rng(0), np.array([-990, 0, -990])
    e, h = rng.uniform(0.5, 1, (3, 2, 1, 2)), rng.uniform(0.5, 1, (3, 1, 3))
    s, p = rng.uniform(0.0, 2.0**-60, 3), rng.uniform(0, 1, (3, 2))
    size = np.array([900, 0, -3])
    errors, features = (
        np.ldexp(x, k.reshape(3, *[1] * (x.ndim - 1)))
        for x, k in ((e, powers), (h, size))
    )
    f = factors.weighted(asarray(errors), asarray(features), [asarray(s), asarray(p)])
    rows = np.concatenate([backend.to_host(x) for x in factors.Factors((f,)).chunks()])
    weights = np.sqrt(s)[:, None] * np.sqrt(p)
    true = np.einsum("nk,nktb,nta->nkba", weights, e, h)
    true = np.ldexp(true, (powers + size)[:, None, None, None]).reshape(6, -1)
    far = np.abs(rows - true)[:4]  # the third sample is as small as its rows
    assert np.all(far <= rounding.gamma(8, U) * np.abs(true[:4]))
    least = 2.0**-1074
    assert np.all(np.abs(rows - true)[4:] <= 4 * least)


@pytest.mark.parametrize("columns", [1, 4, 2**11])
def test_a_sum_is_multiplied_out_in_tiles(asarray, monkeypatch, columns):
    """Every output with every feature once, however few columns go together."""
    rng = np.random.default_rng(0)
    roots, h = rng.standard_normal((4, 3, 5, 7)), rng.standard_normal((4, 5, 6))
    f = factors.Factors((factors.Factor(asarray(roots), asarray(h)),))
    X = backend.to_host(f.layers[0].explicit().roots).reshape(12, -1)
    monkeypatch.setattr(kernels, "_WIDE", columns)
    monkeypatch.setattr(backend, "at_a_time", lambda *_: 1)
    parts = [backend.to_host(x) for x in kernels._tiles(f.layers[0], f.xp)]
    assert max(x.shape[2] for x in parts) <= max(columns, 4)
    Y = np.concatenate([x.reshape(12, -1) for x in parts], axis=1)
    assert Y.shape == X.shape
    limit = rounding.second_moment_radius(64, float(np.sum(X * X)), 2.0**-53)
    assert np.linalg.norm(Y @ Y.T - X @ X.T) <= limit
    G = backend.to_host(f.outer(f.outer()))
    assert np.linalg.norm(G - 2 * X @ X.T) <= 2 * limit
    assert np.array_equal(G, G.T)


def test_what_the_trace_is_no_less_than(asarray):
    """The squares of one layer, that of products first; 0 where every row is."""
    rng = np.random.default_rng(0)
    sums = factors.Factor(
        asarray(rng.standard_normal((3, 2, 4, 2))), asarray(rng.random((3, 4, 5)))
    )
    product = factors.Factor(
        asarray(rng.random((3, 2, 1, 2))), asarray(np.ones((3, 1, 2)))
    )
    nothing = factors.Factor(asarray(np.zeros((3, 2, 1, 2))), None)
    rows = factors.Factors((sums, nothing, product))
    alone = factors.Factors((product,)).trace()
    assert rows.at_least() == alone < rows.trace()
    assert factors.Factors((nothing,)).at_least() == 0
