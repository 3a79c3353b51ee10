"""Samples drawn again: what is drawn, what an interval is, and how often it holds."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

import refspec
from refspec import backend, claims, datasets, rounding
from refspec.claims.bootstrap import Repeated, interval, resamples
from refspec.claims.registry import Subject
from refspec.curvature import errors, fisher
from refspec.rows import Derived
from refspec.structure import decompose
from refspec.synthetic import Recipe, geometry, planted
from support.command import run
from support.snapshots import sampled


def drawn(network, draws=3, seed=0):
    subject = Subject(network, 1000, False)
    return [x.network for x in resamples(subject, draws, seed)]


def test_a_draw_repeats_samples_within_their_class():
    s = sampled(counts=(3, 2, 4))
    times = []
    for x in drawn(s, 20):
        weighs = x.sample_weights / s.sample_weights
        once = weighs[weighs > 0].min()  # of weights that differ the sum is kept at 1
        times.append(np.round(weighs / once))
        off = abs(weighs - times[-1] * once).max()
        assert off <= rounding.gamma(8, 2.0**-53) * weighs.max()
    times = np.stack(times)
    times = times[[np.any(x == 1) and x.sum() == 9 for x in times]]
    for i, j in ((0, 3), (3, 5), (5, 9)):
        assert np.all(times[:, i:j].sum(axis=1) == j - i)
        assert len({tuple(x) for x in times[:, i:j]}) > 1
        assert times[:, i:j].min() == 0  # the effect: some are left out
    again = drawn(s, 20)[7].sample_weights
    assert np.array_equal(again, drawn(s, 20)[7].sample_weights)
    assert not np.array_equal(again, drawn(s, 20, seed=1)[7].sample_weights)


def test_samples_without_weight_are_not_drawn():
    s = sampled(counts=(3, 2, 4), empty=1)
    assert all(x.sample_weights[1] == 0 for x in drawn(s, 20))
    one = sampled(counts=(2, 3), empty=1)
    with pytest.raises(ValueError, match="got 1 in class 0"):
        drawn(one)


def test_a_moment_is_drawn_as_its_network_is():
    s = sampled(counts=(3, 2, 4))
    for one, two in zip(drawn(s), drawn(fisher(s)), strict=True):
        mine, other = fisher(one), two
        off = abs(mine.weights - other.weights).max()
        assert off <= rounding.gamma(64, 2.0**-53) * mine.weights.max()
        gram = mine.gram()
        bound = rounding.gamma(64, 2.0**-53) * np.trace(gram)
        assert abs(gram - other.gram()).max() <= bound < gram.max()


class Costly(Derived):
    """Rows whose products are to be avoided, where they can be held."""

    __slots__ = ()

    def dot(self, V):  # noqa: ARG002
        raise AssertionError

    def cross(self, Z):  # noqa: ARG002
        raise AssertionError

    def part(self, i, j):
        return Costly(self.rows.part(i, j))

    def explicit(self, budget):
        return self.rows if budget > 0 else self


def test_rows_that_can_be_held_are_held_for_all_draws():
    moment = fisher(sampled(counts=(3, 2, 4)))
    costly = dataclasses.replace(moment, rows=Costly(moment.rows))
    for one, two in zip(drawn(costly), drawn(moment), strict=True):
        assert np.array_equal(one.gram(), two.gram())


def test_repeated_rows_are_the_rows_times_a_root():
    s = sampled(counts=(3, 2, 4))
    rows = fisher(s).rows
    N, K, P = rows.shape
    roots = np.sqrt(np.arange(N) % 3.0)
    X = next(iter(rows.chunks())).reshape(N, K, P) * roots[:, None, None]
    mine = Repeated(rows, roots)
    rng = np.random.default_rng(0)
    V, Z = rng.standard_normal((P, 2)), rng.standard_normal((N, K, 2))
    u, size = 2.0**-53, np.linalg.norm(X)
    for one, two, length in (
        (mine.dot(V), X @ V, np.linalg.norm(V)),
        (mine.cross(Z), np.tensordot(X, Z, ((0, 1), (0, 1))), np.linalg.norm(Z)),
        (mine.take(np.arange(4, 9)), X.reshape(N * K, P)[4:9], 1),
        (mine.part(2, 5).dot(V), X[2:5] @ V, np.linalg.norm(V)),
    ):
        assert np.linalg.norm(one - two) <= rounding.gamma(N * K + P, u) * size * length
    assert mine.forming() >= rows.forming() * np.sqrt(2)
    assert mine.products > rows.products
    assert mine.roundings > rows.roundings


def test_an_interval_is_the_spread_of_draws_around_what_was_found():
    draws = np.arange(1.0, 22.0)  # mean 11; nine tenths lie in 2 to 20
    assert interval(100.0, draws, 0.9) == (91.0, 109.0)
    assert interval(100, draws + 0.25, 0.9) == (91, 109)
    assert interval(100, draws - 0.25, 0.85) == (91, 109)  # outwards
    assert interval(2, draws, 0.9) == (0, 11)
    parts = draws / 32
    assert interval(0.9375, parts, 0.9) == (0.9375 - 9 / 32, 1.0)
    assert interval(0.0625, parts, 0.9) == (0.0, 0.0625 + 9 / 32)
    assert interval(-0.875, parts - 0.6875, 0.9) == (-1.0, -0.875 + 9 / 32)
    # rare draws far away: what was found is in its interval
    low, high = interval(0.5, np.array([0.5] * 39 + [0.0]), 0.9)
    assert low == 0.5 < high


def test_every_number_has_an_interval_and_is_in_it():
    found = claims.bootstrap(datasets.wine_sklearn(), "EDKT", draws=8, per_layer=False)
    *of_one, T = found
    for finding in of_one:
        for x in finding.evidence:
            assert x.intervals.keys() == x.numbers.keys()
            assert all(a <= x.numbers[n] <= b for n, (a, b) in x.intervals.items())
            assert 8 * x.agreeing in range(9)
    widths = [b - a for a, b in of_one[2].evidence[0].intervals.values()]
    assert min(widths) > 0
    assert T.evidence[0].intervals == {}
    plain = [x.evidence[0].numbers for x in claims.judge(datasets.wine_sklearn(), "ED")]
    assert [x.evidence[0].numbers for x in of_one[:2]] == plain


def test_a_verdict_that_no_draw_changes_is_said_to_be_sure():
    """The diagonal of a fitted network is nothing, whatever is drawn."""
    (found,) = claims.bootstrap(datasets.wine_sklearn(), "D", draws=8, per_layer=False)
    assert found.evidence[0].agreeing == 1


def test_a_number_that_a_draw_lacks_has_no_interval():
    s = sampled(counts=(2, 2))  # half of the draws take one sample of a class twice
    (found,) = claims.bootstrap(s, "W", draws=40)
    (x, *_) = found.evidence
    assert x.numbers.keys() - x.intervals.keys()


@pytest.mark.parametrize(
    ("given", "how", "said"),
    [
        (sampled(counts=(3, 1, 4)), {}, "got 1 in class 1"),
        (decompose(sampled(counts=(2, 2))).levels["diagonal"], {}, "projected"),
        (sampled(counts=(2, 2)), {"draws": 1}, "draws"),
        (sampled(counts=(2, 2)), {"confidence": 1.0}, "confidence"),
        (sampled(counts=(2, 2)), {"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_drawn_again_is_refused(given, how, said):
    with pytest.raises(ValueError, match=said):
        claims.bootstrap(given, "D", **how)


def worlds(R, per_class=12):
    """Worlds of one population, each from draws of its own."""
    recipe = Recipe(
        classes=3,
        dim=8,
        per_class=per_class,
        means="directions",
        strength=4.0,
        cross_strength=3.0,
        fixed_cross=True,
        misclassification=0.5,
    )
    population = recipe._population((per_class,) * 3, np.random.default_rng(1))
    p = geometry.confusion(3, 0.5)
    for k in range(R):
        rng = np.random.default_rng(100 + k)
        made = planted({"layer1": population}, rng=rng, probabilities=p)
        yield made.snapshot


def within(snapshot):
    """The within level's share of the trace of errors."""
    levels = decompose(errors(snapshot, "layer1")).levels
    traces = {n: float(x.trace()) for n, x in levels.items()}
    return traces["within_cross_class"] / sum(traces.values())


def fewest(R, confidence):
    """So many of R intervals hold, but for one time in ten thousand."""
    return R - int(scipy.stats.binom.isf(1e-4, R, 1 - confidence))


@pytest.mark.slow
def test_an_interval_holds_the_mean_over_draws_as_often_as_it_says():
    """And the draws' own quantiles do not: a class of n loses 1/n of what varies."""
    R, B = 40, 60
    every = list(worlds(R))
    found = np.array([within(s) for s in every])
    held = plain = 0
    for s, t in zip(every, found, strict=True):
        again = np.array([within(x) for x in drawn(s, B)])
        low, high = interval(float(t), again, 0.95)
        held += low <= found.mean() <= high
        low, high = np.quantile(again, [0.025, 0.975])
        plain += low <= found.mean() <= high
    assert held >= fewest(R, 0.95)
    assert plain < fewest(R, 0.95)


@pytest.mark.slow
def test_intervals_of_counts_hold():
    """Of a mean that is no integer, rounded outwards, so nearly always."""
    R = 12
    numbers, ends = [], []
    for s in worlds(R):
        (found,) = claims.bootstrap(s, "E", draws=24)
        numbers.append(found.evidence[0].numbers)
        ends.append(found.evidence[0].intervals)
    for name in (
        "above the edge without class means, certainly",
        "above the within edge, certainly",
    ):
        mean = np.mean([x[name] for x in numbers])
        assert sum(a <= mean <= b for a, b in (x[name] for x in ends)) >= fewest(
            R, 0.95
        )
        assert any(a < b for a, b in (x[name] for x in ends))


def test_the_command_prints_intervals_and_writes_them(tmp_path):
    path = refspec.save(datasets.wine_sklearn(), tmp_path / "wine.npz")
    at = tmp_path / "c.json"
    made = run("claims", path, "--only", "D,T", "--bootstrap", "4", "--json", str(at))
    assert made.exit_code == 0, made.output
    assert "95 % intervals over 4 draws" in made.output
    assert "of the draws" in made.output
    network = json.loads(at.read_text())["networks"][0]
    assert (network["draws"], network["confidence"]) == (4, 0.95)
    D, T = network["claims"]
    assert D["places"][0]["intervals"].keys() == D["places"][0]["numbers"].keys()
    assert "intervals" not in T["places"][0]
    one = run("claims", path, "--only", "D", "--bootstrap", "1")
    assert one.exit_code == 2


def test_a_table_of_findings_has_the_intervals():
    found = claims.bootstrap(datasets.wine_sklearn(), "D", draws=4, per_layer=False)
    columns = found.view().columns
    low, high = (columns[k]["share of the trace"][0] for k in ("lower", "upper"))
    assert low <= columns["number"]["share of the trace"][0] <= high
    assert "lower" not in claims.judge(datasets.wine_sklearn(), "D").view().columns


def test_draws_of_other_array_libraries_are_theirs():
    xp = pytest.importorskip("array_api_strict")
    given = sampled(counts=(2, 3), asarray=xp.asarray)
    for one, two in zip(drawn(given), drawn(sampled(counts=(2, 3))), strict=True):
        assert backend.namespace(one.sample_weights) is xp
        off = abs(backend.to_host(one.sample_weights) - two.sample_weights).max()
        assert off <= rounding.gamma(64, 2.0**-53)
    moment = fisher(given)
    for x in drawn(moment):
        assert backend.namespace(x.gram()) is xp
