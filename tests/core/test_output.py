"""Rows of the layer before the softmax against the same rows as factors."""

from fractions import Fraction

import numpy as np
import pytest

import refspec
from refspec import models, output, rounding
from refspec.classes import Layer, OutputLayer, log_softmax
from refspec.output import Beside, OutputRows, output_rows

U = 2.0**-53


def pair(seed=0, scale=3.0, N=12, C=4, a=3, hidden=True):
    """Return a snapshot whose last layer knows its errors, and one that holds them."""
    rng = np.random.default_rng(seed)
    p = np.exp(log_softmax(scale * rng.standard_normal((N, C))))
    labels, s = np.sort(np.arange(N) % C), rng.random(N)
    h, d = rng.standard_normal((N, 2, 5)), rng.standard_normal((N, C, 2, 3))
    last = OutputLayer("out", rng.standard_normal((N, 1, a)), p)
    held = Layer("out", last.features, last.errors)
    before = [Layer("first", h, d)] if hidden else []
    how = {"probabilities": p, "sample_weights": s / s.sum()}
    return tuple(refspec.snapshot([*before, x], labels, **how) for x in (last, held))


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 200.0])
@pytest.mark.parametrize("hidden", [False, True])
def test_they_are_the_rows_that_factors_give(scale, hidden):
    """Products, rows of the Gram matrix, squares and rows, within both bounds."""
    known, held = (refspec.fisher(x) for x in pair(1, scale, hidden=hidden))
    x, y = known.rows, held.rows
    assert isinstance(x, Beside if hidden else OutputRows)
    (N, K, P), rng = x.shape, np.random.default_rng(2)
    size = np.linalg.norm(np.sqrt(y.squares()))
    made = x.forming() + y.forming()
    bound = made + rounding.gamma(x.products + y.products, U) * size
    V, Z = rng.standard_normal((P, 3)), rng.standard_normal((N, K, 3))
    assert np.linalg.norm(x.dot(V) - y.dot(V)) <= bound * np.linalg.norm(V)
    assert np.linalg.norm(x.cross(Z) - y.cross(Z)) <= bound * np.linalg.norm(Z)
    index = np.asarray([0, 7, N * K - 1])
    assert np.linalg.norm(x.take(index) - y.take(index)) <= bound
    gap = x.gram(index, 3) - y.gram(index, 3)
    assert np.linalg.norm(gap) <= (2 * size + bound) * bound
    lengths = np.sqrt(x.squares()) - np.sqrt(y.squares())
    assert np.linalg.norm(lengths) <= bound
    assert np.linalg.norm(x.second() - y.second()) <= (2 * size + bound) * bound
    assert (
        np.linalg.norm(np.concatenate(list(x.chunks())) - y.take(np.arange(N * K)))
        <= bound
    )


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_a_row_keeps_its_digits_where_the_network_is_sure(scale):
    """Every row, however short, to its own rounding."""
    x, y = (refspec.fisher(z).rows for z in pair(3, scale, hidden=False))
    V = np.random.default_rng(0).standard_normal((x.shape[2], 2))
    each = np.linalg.norm(x.dot(V) - y.dot(V), axis=2)
    bound = rounding.gamma(2 * x.products + 64, U) * np.linalg.norm(V)
    assert np.all(each <= bound * np.sqrt(y.squares()))
    exact = np.abs(x.squares() - y.squares())
    assert np.all(exact <= rounding.gamma(2 * x.products + 64, U) * y.squares())


def exactly(x):
    """Return the rows of an `OutputRows` of one feature, in fractions, (N, C, C)."""
    q, k, r = (
        [[Fraction(v) for v in row] for row in y.tolist()]
        for y in (x.others, x.largest, x.roots)
    )
    rows = []
    for i, mine in enumerate(q):
        at, C = k[i].index(1), len(mine)
        h = Fraction(float(x.features[i, 0]))
        errors = [[v - (c == j) for c, v in enumerate(mine)] for j in range(C)]
        for e in errors:
            e[at] = 0
            e[at] = -sum(e)
        rows.append([[r[i][j] * h * v for v in e] for j, e in enumerate(errors)])
    return rows


@pytest.mark.parametrize("C", [2, 3, 12])
def test_the_bound_holds_for_what_makes_rounding_largest(C):
    """Against fractions: V and Z with signs and sizes that add up all terms."""
    rng, worst = np.random.default_rng(C), 0.0
    shapes = [np.ones(C), *np.exp(rng.uniform(0, 30, (6, C)))]
    shapes.append(np.eye(C)[0] + np.eye(C)[1] + 2.0**-40 * rng.random(C))
    p = np.asarray([v / v.sum() for v in shapes])
    N = len(p)
    x = output_rows(p, np.full(N, 1 / N), 1 + rng.random((N, 1)))
    X = exactly(x)
    for i in range(N):
        for j in range(C):
            # as long as the coefficients w of the proof, so that w'|y| = |w| |y|
            w = x.others[i].copy()
            w[j] += 1
            w[p[i].argmax()] = 1 + x.others[i].sum()
            y = -w * (1 - 2 * (np.arange(C) == p[i].argmax())) * (1 + rng.random())
            exact = sum(a * Fraction(b) for a, b in zip(X[i][j], y, strict=True))
            gap = abs(Fraction(float(x.dot(y[:, None])[i, j, 0])) - exact)
            size = Fraction(float(np.linalg.norm(y))) * root(X[i][j])
            assert gap <= Fraction(rounding.gamma(x.roundings, U)) * size
            worst = max(worst, float(gap / (size * Fraction(U))))
    assert worst > 0
    flat = [row for sample in X for row in sample]
    gram = x.gram(np.arange(N * C))
    Z = rng.choice([-1.0, 1.0], (N, C, 1))
    lost = [np.zeros((N * C, N * C)), np.zeros(N * C), np.zeros(N * C)]
    z = [Fraction(v) for v in Z.ravel().tolist()]
    back = [sum(a * row[c] for a, row in zip(z, flat, strict=True)) for c in range(C)]
    both = x.gram_times(Z).ravel()
    for i, row in enumerate(flat):
        for j, other in enumerate(flat):
            exact = sum(a * b for a, b in zip(row, other, strict=True))
            lost[0][i, j] = abs(float(Fraction(float(gram[j, i])) - exact))
        exact = sum(a * b for a, b in zip(row, back, strict=True))
        lost[1][i] = abs(float(Fraction(float(both[i])) - exact))
        exact = sum(a * a for a in row)
        lost[2][i] = abs(float(Fraction(float(x.squares().ravel()[i])) - exact))
    trace = float(sum(a * a for row in flat for a in row))
    size = np.sqrt([float(sum(a * a for a in row)) for row in flat])
    entry = rounding.gamma(x.roundings, U) * np.outer(size, size)
    made = 2 * np.max(size) * x.forming()  # of the row that is multiplied with
    assert np.all(lost[0] <= entry + made)
    assert np.linalg.norm(lost[1]) <= (
        rounding.gamma(x.products, U) * trace * np.linalg.norm(Z)
    )
    assert np.all(lost[2] <= rounding.gamma(x.roundings, U) * size**2)


def root(row):
    """Return a number at least the length of a row of fractions."""
    return Fraction(float(sum(a * a for a in row)) ** 0.5) * (1 + Fraction(8 * U))


def test_terms_are_three_times_what_they_are_compared_with():
    """The lemma, in fractions, and where it is sharp."""
    rng, largest = np.random.default_rng(0), 0
    for _ in range(300):
        n = [int(v) for v in rng.integers(0, 20, rng.integers(2, 6))]
        n[0] = max(*n, 1)
        p = [Fraction(v, sum(n)) for v in n]
        for j in range(1, len(p)):
            e = sum((v - (c == j)) ** 2 for c, v in enumerate(p))
            w = sum((v + (c == j)) ** 2 for c, v in enumerate(p) if c)
            w += (2 - p[0]) ** 2
            largest = max(largest, w / e)
    assert largest == output._LARGER**2


@pytest.mark.parametrize("of", ["fisher", "errors"])
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_spectra_and_attribution_are_the_same(of, scale):
    known, held = (
        refspec.fisher(x) if of == "fisher" else refspec.errors(x, "out")
        for x in pair(4, scale, N=20)
    )
    for top in (None, 3):
        one, two = (refspec.attribute(m, top=top) for m in (known, held))
        r = min(len(x.spectrum.values) for x in (one, two))
        gap = np.abs(one.spectrum.values[:r] - two.spectrum.values[:r])
        assert gap.max() <= one.radius + two.radius
        for name, trace in one.traces.items():
            size = one.radius + two.radius
            assert abs(trace - two.traces[name]) <= size * known.shape[0]


def test_scaled_rows_and_huge_features():
    s, t = pair(5, 2.0, hidden=False)
    for power in (-600, 600):
        x, y = (
            refspec.fisher(z).rows.times(power).balanced()[0].squares() for z in (s, t)
        )
        assert np.all(np.isfinite(x))
        assert np.sum(np.abs(x / x.max() - y / y.max())) <= 2**-40 * x.size


def test_what_is_no_output_layer_is_refused():
    h, p = np.ones((2, 1, 3)), np.full((2, 2), 0.5)
    with pytest.raises(ValueError, match=r"features must have shape \(N, T, a\)"):
        OutputLayer("out", np.ones((2, 2, 3)), p)
    with pytest.raises(ValueError, match="probabilities must have shape"):
        OutputLayer("out", h, p[0])
    with pytest.raises(TypeError, match="name of a layer"):
        OutputLayer(3, h, p)
    layer = OutputLayer("out", np.ones((3, 1, 3)), np.full((3, 2), 0.5))
    with pytest.raises(ValueError, match="of layer 'out' must have shape"):
        refspec.snapshot([layer], [0, 1], probabilities=p)


@pytest.mark.parametrize("ending", ["npz", "zarr"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_file_gives_one_where_its_errors_are_these(
    tmp_path, monkeypatch, ending, dtype
):
    """Read by blocks and not kept; errors that are no p - e_c' are kept as they are."""
    monkeypatch.setattr("refspec.export.recomputed.LARGE", 0)
    digits = refspec.datasets.digits_mlp()
    s = models.snapshot(*models.of_snapshot(digits), digits.labels)
    path = refspec.save(s, tmp_path / f"mine.{ending}", dtype=dtype)
    found = refspec.load(path)
    assert isinstance(found.layers[-1], OutputLayer)
    assert not any(isinstance(x, OutputLayer) for x in found.layers[:-1])
    values = [refspec.spectrum(x, top=4).values for x in (s, found)]
    u = U if dtype == "float64" else 2.0**-24
    # features and errors are rounded once: X by 2 u of its norm, X'X by twice that
    assert np.max(np.abs(values[0] - values[1])) <= 8 * u * refspec.fisher(s).trace()
    x = s.layers[-1]
    spoilt = Layer(x.name, x.features, x.errors * (1 + 2.0**-10))
    other = refspec.snapshot([spoilt], s.labels, probabilities=s.probabilities)
    path = refspec.save(other, tmp_path / f"other.{ending}", dtype=dtype)
    assert type(refspec.load(path).layers[0]) is Layer


@pytest.mark.parametrize("ending", ["npz", "zarr"])
def test_one_layer_of_a_file_is_kept_alone(tmp_path, ending):
    s = refspec.datasets.digits_mlp()
    path = refspec.save(s, tmp_path / f"mine.{ending}")
    found = refspec.load(path, layers=["fc2"])
    assert [x.name for x in found.layers] == ["fc2"]
    assert found.model is None
    assert np.array_equal(found.layers[0].errors, s.layer("fc2").errors)
    told = [str(refspec.coverage.of_snapshot(x, ["fc2"])) for x in (s, found)]
    assert told[0] == told[1]
    with pytest.raises(ValueError, match="'fc9'"):
        refspec.load(path, layers=["fc9"])
    with pytest.raises(refspec.ExportError, match="arrays that need at most"):
        refspec.load(path, max_bytes=2**22)
    assert refspec.load(path, max_bytes=2**22, layers=["fc3"]).layers
