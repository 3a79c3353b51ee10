"""Rows known through a derivative, against the factors that they equal."""

import dataclasses

import numpy as np
import pytest

import refspec
from refspec import backend, curvature, differentiated, rounding
from refspec.coordinates import coordinates
from refspec.differentiated import Differentiated, Jacobian, moment
from refspec.factors import weighted
from refspec.rows import Columns
from support.jacobians import Regression, regression

U = 2.0**-53


def by_products(given, **how):
    """The moment whose rows are not formed."""
    return moment(*given[:3], **how)


@pytest.fixture
def unformed(monkeypatch):
    """No rows fit in memory."""
    monkeypatch.setattr(differentiated, "_HELD", 0)
    monkeypatch.setattr("refspec.ways._EXPLICIT", 0)


def placed(given, asarray):
    jacobian, logits, labels, snapshot = given
    return Regression(asarray(jacobian.x), jacobian.C), logits, labels, snapshot


@pytest.mark.usefixtures("unformed")
@pytest.mark.parametrize("sharpness", [1.0, 30.0])
def test_rows_are_those_of_factors(asarray, sharpness):
    given = placed(regression(sharpness=sharpness), asarray)
    found, true = by_products(given), curvature.fisher(given[3])
    assert isinstance(found.rows, Differentiated)
    host, (N, K, P) = backend.to_host, true.rows.shape
    assert found.rows.shape == (N, K, P)
    assert found.offsets == true.offsets
    rng = np.random.default_rng(0)
    V, Z = rng.standard_normal((P, 3)), rng.standard_normal((N, K, 2))
    index = np.asarray([5, 0, N * K - 1, 5])
    g = rounding.gamma(8 * (N * K + P), U)
    size = true.trace() ** 0.5

    def gap(f):
        return np.abs(host(f(found.rows, asarray)) - f(true.rows, np.asarray)).max()

    assert gap(lambda r, a: r.dot(a(V))) <= g * size * np.linalg.norm(V)
    assert gap(lambda r, a: r.cross(a(Z))) <= g * size * np.linalg.norm(Z)
    assert gap(lambda r, a: r.take(a(index))) <= g * size
    assert gap(lambda r, a: r.gram(a(index), 2)) <= g * size**2
    assert gap(lambda r, _: r.squares()) <= g * size**2
    assert gap(lambda r, _: r.second()) <= g * size**2
    assert gap(lambda r, _: backend.concatenate(r.chunks())) <= g * size
    assert gap(lambda r, a: r.part(1, 4).dot(a(V))) <= g * size * np.linalg.norm(V)
    assert not gap(lambda r, a: r.part(1, 4).take(a(index[:2]))) > g * size


@pytest.mark.usefixtures("unformed")
def test_the_small_row_of_a_fitted_sample_keeps_its_digits():
    """Row c of a sample with p_c near 1, to relative accuracy."""
    given = regression(sharpness=30.0)
    found, true = by_products(given).rows, curvature.fisher(given[3]).rows
    every = np.arange(found.shape[0] * found.shape[1])
    X, Y = found.take(every), true.take(every)
    sizes = np.abs(Y).max(axis=1, keepdims=True)
    assert sizes.min() < 1e-6 * sizes.max()
    assert (np.abs(X - Y) <= rounding.gamma(64, U) * sizes).all()


@pytest.mark.parametrize("held", [0, 2**28])
@pytest.mark.parametrize("a", [2, 9])
def test_attribution_is_that_of_factors_and_says_measured(monkeypatch, held, a):
    monkeypatch.setattr(differentiated, "_HELD", held)
    monkeypatch.setattr("refspec.ways._EXPLICIT", held)
    given = regression(counts=(5, 3, 4), a=a)
    at, true = coordinates(by_products(given)), refspec.attribute(given[3])
    assert at.kind.startswith("measured")
    assert at.side == ("primal" if a == 2 else "dual")
    found = refspec.attribute(at)
    radius = found.radius + true.radius
    mine, other = found.spectrum.values, true.spectrum.values
    n = min(len(mine), len(other))
    assert np.abs(mine[:n] - other[:n]).max() <= radius
    assert not np.abs(mine[:n] * (1 + 2.0**-20) - other[:n]).max() <= radius
    for name, level in true.levels.items():
        m = min(len(level), len(found.levels[name]))
        assert np.abs(found.levels[name][:m] - level[:m]).max() <= radius


@pytest.mark.usefixtures("unformed")
def test_levels_of_differentiated_rows_add_up():
    found = by_products(regression(counts=(5, 3, 4)))
    levels = refspec.decompose(found).levels
    whole = sum(x.matrix() for x in levels.values())
    bound = 8 * rounding.second_moment_radius(64, found.trace(), U)
    assert np.abs(whole - found.matrix()).max() <= bound
    assert levels["between_class"].blocks == found.blocks


def test_the_measured_error_is_a_bound_and_no_wild_one():
    """Rows in float32 beside float64: the error is known, and the bound within 1000."""
    wide = regression(counts=(20, 20, 20), a=30)
    narrow = Regression(wide[0].x.astype(np.float32), 3)
    found = moment(narrow, *wide[1:3], other=wide[0])
    exact = moment(*wide[:3])
    every = np.arange(60 * 3)
    error = np.linalg.norm(
        found.rows.take(every).astype(float) - exact.rows.take(every)
    )
    assert 0 < error <= found.rows.forming() <= 1000 * error
    assert exact.rows.forming() <= found.rows.forming() * 2.0**-24
    beside = moment(*wide[:3], other=narrow)
    assert exact.rows.forming() < beside.rows.forming() <= found.rows.forming()


class Joined(Jacobian):
    """The sum of the logits of two networks, in the parameters of both."""

    def __init__(self, *parts):
        self.parts = parts
        self.ends = [0, parts[0].shape[2], sum(x.shape[2] for x in parts)]

    @property
    def shape(self):
        return *self.parts[0].shape[:2], self.ends[2]

    @property
    def like(self):
        return self.parts[0].like

    def dot(self, V, i, j):
        spans = zip(self.parts, self.ends, self.ends[1:], strict=False)
        return sum(x.dot(V[a:b, :], i, j) for x, a, b in spans)

    def cross(self, S, i, j):
        return backend.concatenate(x.cross(S, i, j) for x in self.parts)


def joined(asarray=np.asarray):
    """Two regressions, the rows of each as factors, and what `moment` takes of both."""
    one, other = regression(), regression(seed=1, a=3)
    both = [Regression(asarray(x.x), x.C) for x, *_ in (one, other)]
    p, s = one[3].probabilities, one[3].sample_weights
    made = [
        weighted(
            asarray(one[3].layers[0].errors),
            asarray(backend.to_host(x.x)[:, None, :]),
            w,
        )
        for x in both
        for w in [(asarray(s), asarray(p))]
    ]
    blocks = [("a.w", 15), ("b.w", 9)]
    return both, made, (Joined(*both), *one[1:3]), blocks


@pytest.mark.parametrize("known", [("a.w",), ("b.w",), ("a.w", "b.w")])
def test_rows_that_are_factors_beside_rows_that_are_formed(asarray, known):
    both, made, given, blocks = joined(asarray)
    names, host = [name for name, _ in blocks], backend.to_host
    rest = [x for x, name in zip(both, names, strict=True) if name not in known]
    found = moment(
        *given,
        factors={n: f for f, n in zip(made, names, strict=True) if n in known},
        rest=rest[0] if rest else None,
        blocks=blocks,
    )
    true = moment(*given, blocks=blocks)
    kept = [f.features is not None for f in found.rows.layers]
    assert kept == [name in known for name in names]
    every = asarray(np.arange(24))
    X, Y = (host(x.rows.take(every)) for x in (found, true))
    g = rounding.gamma(64, U) * true.trace() ** 0.5
    assert np.abs(X - Y).max() <= g
    assert np.abs(X[:, ::-1] - Y).max() > g
    assert found.rows.known == true.rows.known == "measured between two modes only"
    assert found.rows.forming() > 0
    part = found.part(["b"])
    assert len(part.rows.layers) == 1
    assert np.abs(host(part.rows.take(every)) - Y[:, 15:]).max() <= g
    assert dict(part.left_out) == {"a.w": 15}


def test_blocks_that_are_formed_have_columns_of_their_own():
    both, made, given, _ = joined()
    blocks = [("a.w", 15), ("b.w", 6), ("b.x", 3)]
    found = moment(*given, factors={"a.w": made[0]}, rest=both[1], blocks=blocks)
    true = moment(*given, blocks=blocks)
    every = np.arange(24)
    for name in ("b.w", "b.x"):
        X, Y = (x.part([name]).rows.take(every) for x in (found, true))
        assert np.abs(X - Y).max() <= rounding.gamma(64, U) * true.trace() ** 0.5


class Transposed(Regression):
    """The same network, its weight laid out (inputs, labels)."""

    def dot(self, V, i, j):
        W = np.swapaxes(V.reshape(-1, self.C, V.shape[1]), 0, 1)
        return super().dot(W.reshape(V.shape), i, j)

    def cross(self, S, i, j):
        W = super().cross(S, i, j).reshape(self.C, -1, S.shape[2])
        return np.swapaxes(W, 0, 1).reshape(-1, S.shape[2])


def test_a_factor_may_have_its_columns_elsewhere_in_its_block():
    """Its rows, those of blocks and their attribution are the Jacobian's."""
    both, made, given, blocks = joined()
    other = Joined(both[0], Transposed(both[1].x, both[1].C))
    names = {"a.w": made[0], "b.w": made[1]}
    places = {"b.w": np.arange(9).reshape(3, 3).T.ravel()}
    given = (other, *given[1:])
    found = moment(*given, factors=names, places=places, blocks=blocks)
    true, every = moment(*given, blocks=blocks), np.arange(24)
    g = rounding.gamma(64, U) * true.trace() ** 0.5
    for one, two in [(found, true), (found.part(["b"]), true.part(["b"]))]:
        assert len(one.rows.layers) == len(one.blocks)
        assert np.abs(one.rows.take(every) - two.rows.take(every)).max() <= g
    for certify in (False, True):
        one, two = (refspec.attribute(x, certify=certify) for x in (found, true))
        n, radius = min(len(one.kinds), len(two.kinds)), one.radius + two.radius
        gap = np.abs(one.spectrum.values[:n] - two.spectrum.values[:n]).max()
        assert gap <= radius
    for wrong in (None, {"b.w": np.arange(9)[::-1]}):
        with pytest.raises(ValueError, match="factors and J V must be products with"):
            moment(*given, factors=names, places=wrong, blocks=blocks)


@pytest.mark.parametrize("power", [-40, -30])
def test_how_far_factors_are_off_is_measured(power):
    """And no wild bound: four probes, 300 times."""
    _, made, given, blocks = joined()
    off = made[0].roots * (1 + 2.0**power)
    names = dict(zip(["a.w", "b.w"], made, strict=True))
    names["a.w"] = dataclasses.replace(made[0], roots=off)
    found = moment(*given, factors=names, blocks=blocks)
    true = moment(*given, blocks=blocks)
    every = np.arange(24)
    error = np.linalg.norm(found.rows.take(every) - true.rows.take(every))
    assert error <= found.rows.forming() <= 300 * error
    narrow = [Regression(x.x.astype(np.float32), x.C) for x in given[0].parts]
    again = moment(*given, other=Joined(*narrow), factors=names, blocks=blocks)
    assert again.rows.known == "measured"
    assert again.rows.forming() > found.rows.forming()


def test_factors_of_another_network_are_refused():
    _, made, given, blocks = joined()
    names = {"a.w": made[0], "b.w": made[1]}
    names["b.w"] = dataclasses.replace(made[1], roots=made[1].roots * (1 + 2.0**-20))
    with pytest.raises(ValueError, match="factors and J V must be products with one"):
        moment(*given, factors=names, blocks=blocks)


class Wrong(Regression):
    """A derivative one of whose products is not its own."""

    mistake = "scale"

    def cross(self, S, i, j):
        if self.mistake == "scale":
            return super().cross(S, i, j) * (1 + 2.0**-20)
        return super().cross(S[::-1], i, j)


@pytest.mark.parametrize("mistake", ["scale", "order"])
def test_products_with_two_derivatives_are_refused(mistake):
    jacobian, logits, labels, _ = regression()
    wrong = Wrong(jacobian.x, jacobian.C)
    wrong.mistake = mistake
    with pytest.raises(ValueError, match="must be products with one matrix"):
        moment(wrong, logits, labels)


def test_weights_of_samples_are_taken():
    jacobian, logits, labels, given = regression()
    s = np.arange(1.0, 9.0) / 36
    found = moment(jacobian, logits, labels, sample_weights=s)
    true = curvature.fisher(dataclasses.replace(given, sample_weights=s))
    bound = rounding.second_moment_radius(64, true.trace(), U)
    assert np.abs(found.matrix() - true.matrix()).max() <= bound


def test_what_is_covered_is_said():
    jacobian, logits, labels, _ = regression()
    blocks = [("fc.weight", 15)]
    found = moment(jacobian, logits, labels, blocks=blocks)
    assert str(found.coverage) == "covers all 15 parameters (1 module)"
    left = [("lstm.weight", 5600), ("lstm.bias", 32)]
    part = moment(jacobian, logits, labels, blocks=blocks, left_out=left)
    assert str(part.coverage) == (
        "covers 15 of 5,647 parameters (1 of 2 modules); left out: lstm 5,632"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"jacobian": 3}, "jacobian must be a Jacobian"),
        ({"logits": np.zeros((8, 2))}, r"logits must have shape \(N, C\)"),
        ({"labels": np.arange(8)[::-1] % 3}, "labels must be non-decreasing"),
        ({"sample_weights": np.ones(8)}, "sample_weights must sum to 1"),
        ({"other": regression(a=4)[0]}, r"other must have the shape \(N, C, P\)"),
        ({"blocks": 3}, "blocks must be a Sequence"),
    ],
)
def test_what_does_not_fit_is_refused(changed, message):
    jacobian, logits, labels, _ = regression()
    given = {"jacobian": jacobian, "logits": logits, "labels": labels} | changed
    with pytest.raises((TypeError, ValueError), match=message):
        moment(**given)


@pytest.mark.parametrize("held", [0, 2**28])
def test_a_part_is_a_block_of_the_whole(monkeypatch, asarray, held):
    monkeypatch.setattr(differentiated, "_HELD", held)
    given = placed(regression(), asarray)
    names = [("a.w", 4), ("b.w", 3), ("b.x", 2), ("ab", 6)]
    whole = moment(*given[:3], blocks=names, left_out=[("c", 7)])
    host = backend.to_host
    for chosen, columns in (
        (["b"], range(4, 9)),
        (["ab", "a.w"], [*range(4), *range(9, 15)]),
    ):
        part = whole.part(chosen)
        assert isinstance(part.rows, Columns) is (held == 0)
        X, Y = (host(x.rows.take(asarray(np.arange(24)))) for x in (whole, part))
        g = rounding.gamma(64, U) * whole.trace() ** 0.5
        assert np.abs(X[:, columns] - Y).max() <= g
        assert np.abs(X[:, [k - 1 for k in columns]] - Y).max() > g
        block = host(whole.matrix())[np.ix_(columns, columns)]
        assert np.abs(host(part.matrix()) - block).max() <= g * whole.trace() ** 0.5
        V = np.random.default_rng(0).standard_normal((len(columns), 2))
        gap = host(part.matvec(asarray(V))) - block @ V
        assert np.abs(gap).max() <= g * whole.trace() ** 0.5 * np.linalg.norm(V)
        assert part.rows.part(1, 3).shape == (2, 3, len(columns))
        assert refspec.spectrum(part).radius <= refspec.spectrum(whole).radius
    assert str(whole.part(["b"]).coverage) == (
        "covers 5 of 22 parameters (1 of 4 modules); left out: c 7, ab 6, a 4"
    )
    for bad, message in (
        (["c"], "among a.w"),
        ("b", "list"),
        ([], "add one"),
        ([3], "each of names"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            whole.part(bad)
