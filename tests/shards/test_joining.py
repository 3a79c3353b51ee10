"""Rows of shards are the rows of all samples, wherever they lie, in any order."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refspec
from refspec import Layer, backend, leading, rounding, shards, snapshot, ways
from refspec.shards import Here, joined
from support.snapshots import sampled, typical

U = 2.0**-53


def piece(s, chosen, asarray=np.asarray):
    """The snapshot of some samples, with their weights in proportion."""
    layers = [
        Layer(x.name, asarray(x.features[chosen]), asarray(x.errors[chosen]))
        for x in s.layers
    ]
    w = s.sample_weights[chosen]
    return snapshot(
        layers,
        s.labels[chosen],
        probabilities=asarray(s.probabilities[chosen]),
        sample_weights=asarray(w / w.sum()),
    )


def dealt(s, count, asarray=np.asarray):
    """Deal samples to shards: their moments, shares, and the order of the joined."""
    N = len(s.labels)
    chosen = [np.arange(k, N, count) for k in range(min(count, N))]
    chosen = [x for x in chosen if s.sample_weights[x].sum() > 0]
    shares = np.asarray([s.sample_weights[x].sum() for x in chosen])
    whole = np.concatenate(chosen)
    order = whole[np.argsort(s.labels[whole], kind="stable")]
    moments = [refspec.fisher(piece(s, x, asarray)) for x in chosen]
    return moments, shares / shares.sum(), order


def roundings(moment):
    return rounding.second_moment_radius(8 * sum(moment.shape) + 64, moment.trace(), U)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    count=st.integers(1, 4),
    hold=st.integers(0, 2),
)
def test_joined_is_the_whole(seed, counts, count, hold):
    s = sampled(seed, tuple(counts), T=1 + seed % 2)
    moments, shares, order = dealt(s, count)
    whole = refspec.fisher(s)
    made = joined(Here([lambda x=x: x for x in moments], hold=hold), shares=shares)
    assert made.offsets == tuple(
        np.searchsorted(s.labels[order], range(len(whole.offsets))).tolist()
    )
    N, K, P = made.rows.shape
    X = whole.rows.dot(np.eye(P))[order]
    size, bound = np.linalg.norm(X), roundings(whole)
    tiny = 64 * np.finfo(float).tiny * N * K * P
    off = 2 * U * 64 * size + tiny
    assert np.linalg.norm(made.rows.dot(np.eye(P)) - X) <= off
    assert np.abs(made.weights - whole.weights[order]).max() <= 16 * U
    assert np.linalg.norm(made.rows.squares() - (X * X).sum(2)) <= bound + tiny
    assert np.linalg.norm(made.matrix() - whole.matrix()) <= bound + tiny
    index = np.random.default_rng(0).integers(0, N * K, 7)
    flat = X.reshape(N * K, P)
    assert np.linalg.norm(made.rows.take(index) - flat[index]) <= off
    i, j = sorted((int(index[0]) // K, int(index[1]) // K + 1))
    i, j = min(i, j - 1), j
    some = made.rows.part(i, j)
    assert np.linalg.norm(some.dot(np.eye(P)) - X[i:j]) <= off
    if j - i > 1:  # a part of a part
        assert np.linalg.norm(some.part(1, j - i).dot(np.eye(P)) - X[i + 1 : j]) <= off
    assert made.rows.forming() <= whole.rows.forming() + off


def test_attribution_and_density_are_those_of_the_whole(asarray):
    s = typical(counts=(5, 4, 3))
    moments, shares, _ = dealt(s, 3, asarray)
    made, whole = joined(moments, shares=shares), refspec.fisher(s)
    for how in ({}, {"top": 4}):
        one, two = (refspec.attribute(x, **how) for x in (made, whole))
        radius = one.radius + two.radius
        values = [backend.to_host(x.spectrum.values)[:4] for x in (one, two)]
        assert np.abs(values[0] - values[1]).max() <= radius
        assert np.abs(values[0] * (1 + 2.0**-20) - values[1]).max() > radius
        assert one.kinds[:4] == two.kinds[:4]
        for name, trace in two.traces.items():
            assert abs(one.traces[name] - trace) <= radius * s.probabilities.size
    one, two = (refspec.density(x, probes=4) for x in (made, whole))
    assert np.all(one.lower <= two.upper)
    assert np.all(two.lower <= one.upper)


def test_equal_samples_weigh_the_same_by_default():
    s = sampled(0, counts=(4, 3, 2), equal=True)
    moments, _, _ = dealt(s, 2)
    gap = np.linalg.norm(joined(moments).matrix() - refspec.fisher(s).matrix())
    assert gap <= roundings(refspec.fisher(s))
    other = joined(moments, shares=(0.5, 0.5))
    assert np.linalg.norm(other.matrix() - refspec.fisher(s).matrix()) > gap


def test_a_shard_is_made_when_needed_and_held_as_asked():
    moments, shares, _ = dealt(typical(), 3)
    for hold, more in ((0, 3), (2, 1), (3, 0)):
        calls = []

        def make(k, calls=calls):
            calls.append(k)
            return moments[k]

        made = joined(
            Here([lambda k=k: make(k) for k in range(3)], hold=hold), shares=shares
        )
        calls.clear()
        made.rows.cross(np.ones((*made.weights.shape, 1)))
        assert len(calls) == more


def test_names_and_coverage_are_kept():
    from support.jacobians import regression

    given = [regression(seed=k) for k in range(2)]
    parts = [refspec.differentiated.moment(*x[:3], blocks=[("fc", 15)]) for x in given]
    assert joined(parts).coverage.parameters == 15
    with pytest.raises(ValueError, match="names and sizes in common"):
        joined([parts[0], refspec.differentiated.moment(*given[1][:3])])


def test_what_cannot_be_joined_is_refused():
    moments, _, _ = dealt(typical(), 2)
    with pytest.raises(ValueError, match="one or more, got none"):
        joined([])
    with pytest.raises(TypeError, match="shard 1 must be a SecondMoment or a function"):
        joined([moments[0], 7])
    with pytest.raises(TypeError, match="a shard must be a SecondMoment"):
        joined([lambda: 7])
    with pytest.raises(ValueError, match=r"P parameters in common, got .* in shard 1"):
        joined([moments[0], refspec.fisher(typical(a=7))])
    with pytest.raises(ValueError, match="C classes in common"):
        joined([refspec.features(typical(), "fc1"), features_of_two()])
    with pytest.raises(ValueError, match="projected"):
        joined([refspec.decompose(moments[0]).levels["diagonal"]])
    with pytest.raises(ValueError, match="shares must be positive, got 0"):
        joined(moments, shares=(0.0, 1.0))
    with pytest.raises(ValueError, match="shares"):
        joined(moments, shares=(0.5, 0.6))
    with pytest.raises(ValueError, match="hold"):
        Here(moments, hold=-1)


def features_of_two():
    return refspec.features(typical(counts=(3, 3)), "fc1")


def test_a_journal_is_read_in_place_of_shards(tmp_path):
    moments, shares, _ = dealt(typical(counts=(5, 4, 3)), 2)
    calls = []

    def counted(k):
        calls.append(k)
        return moments[k]

    def run():
        made = joined(
            [lambda k=k: counted(k) for k in range(2)],
            shares=shares,
            journal=tmp_path / "journal",
        )
        calls.clear()
        return refspec.spectrum(made, top=2), len(calls)

    one, first = run()
    two, second = run()
    assert second < first
    assert np.array_equal(one.values, two.values)


def test_a_journal_tells_moments_apart(tmp_path):
    """Of one layer and of another, of the same samples with the same weights."""
    s = typical(a=4, b=5)
    Z = np.ones((len(s.labels), 1, 2))
    for name in ("fc1", "fc2"):
        one = refspec.features(s, name)
        made = joined([one], journal=tmp_path)
        for power in (0, 3):
            rows = made.rows.times(power)
            assert np.array_equal(rows.gram_times(Z), rows.dot(rows.cross(Z)))


def test_columns_of_many_parameters_go_a_few_at_a_time(monkeypatch):
    moment = joined([refspec.fisher(typical())] * 2)
    product, space = leading.smaller_side(moment)
    Z = np.random.default_rng(0).normal(size=(space.here, 5))
    monkeypatch.setattr(backend, "temporary", lambda: 1)
    whole, seen, most = product(Z), [], max(moment.shape)
    kind, true = type(moment.rows), type(moment.rows).second_times

    def spied(self, Z):
        seen.append(Z.shape[1])
        return true(self, Z)

    monkeypatch.setattr(kind, "second_times", spied)
    for columns, expected in ((2, [2, 2, 1]), (0.5, [1] * 5)):
        monkeypatch.setattr(ways, "_COLUMNS", int(8 * most * columns))
        seen.clear()
        some = leading.smaller_side(moment)[0](Z)
        assert np.linalg.norm(some - whole) <= roundings(moment) * np.linalg.norm(Z)
        assert seen == expected


KILLED = """
    import os, signal, sys
    import numpy as np
    import refspec
    from refspec.shards import Here, joined

    seen = []

    def make(k):
        seen.append(k)
        if len(seen) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        rng = np.random.default_rng(k)
        layer = refspec.Layer(
            "fc", rng.normal(size=(8, 1, 6)), rng.normal(size=(8, 3, 1, 5))
        )
        logits = rng.normal(size=(8, 3))
        s = refspec.snapshot([layer], [0, 0, 0, 1, 1, 2, 2, 2], logits=logits)
        return refspec.fisher(s)

    moment = joined([lambda: make(0), lambda: make(1)], journal=sys.argv[1])
    a = refspec.attribute(moment, top=3)
    print(len(seen), *(float(x).hex() for x in a.spectrum.values), *a.kinds)
"""


@pytest.mark.slow
def test_a_run_killed_anywhere_goes_on(tmp_path):
    def run(folder, at):
        return subprocess.run(
            [
                sys.executable,
                "-c",
                textwrap.dedent(KILLED),
                str(tmp_path / folder),
                str(at),
            ],
            capture_output=True,
            text=True,
            check=False,
        )

    count, *whole = run("alone", 0).stdout.split()
    half = int(count) // 2
    assert run("killed", half).returncode < 0
    left = list((tmp_path / "killed").glob("*.npy"))
    assert left
    again, *found = run("killed", 0).stdout.split()
    assert found == whole
    assert int(again) < int(count)


def test_the_package_says_what_it_has():
    assert set(shards.__all__) == {
        "Cluster",
        "Here",
        "Part",
        "Workers",
        "joined",
        "parts_of",
    }


@pytest.mark.parametrize("many", [True, False])
def test_shards_are_made_a_few_times_however_many_blocks(many):
    """Of more rows than parameters, and of fewer; more shards than classes or fewer."""
    s = sampled(3, (9, 8, 7), T=2) if many else sampled(3, (2, 2, 3), T=2)
    count = 5
    shares = [s.sample_weights[k::count].sum() for k in range(count)]
    whole = refspec.fisher(s)
    made = []

    def shard(k):
        made.append(k)
        return refspec.fisher(piece(s, np.arange(k, len(s.labels), count)))

    moment = joined([lambda k=k: shard(k) for k in range(count)], shares=shares)
    assert (2 * moment.shape[1] <= moment.shape[0]) == many
    found, known = refspec.spectrum(moment), refspec.spectrum(whole)
    every = np.zeros((2, moment.shape[1]))
    for row, x in zip(every, (found, known), strict=True):
        row[: len(x.values)] = x.values
    assert np.abs(np.subtract(*every)).max() <= found.radius + known.radius
    # facts, lengths, and X'X and class sums, or scores and all rows
    assert max(map(made.count, range(count))) <= 4
