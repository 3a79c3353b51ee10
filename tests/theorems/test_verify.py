"""`refspec verify`: a good export passes, one wrong number in it is named."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import Layer, datasets, export, fisher, models, snapshot, verify
from refspec.theorems import Study, Theorem, Verdict, all_theorems, asked, find, worst
from refspec.theorems.registry import together
from support.command import run
from support.snapshots import altered, trained, typical


@pytest.fixture(scope="module", name="trained")
def at_its_minimum():
    return trained()[1]


@pytest.fixture(scope="module")
def embedded():
    """What `verify` says of every embedded network."""
    return {n: list(verify.verify(getattr(datasets, n)())) for n in datasets.names()}


def failing(*arguments):
    """Run the command line and return its exit code and the ids that fail."""
    result = run("verify", *arguments)
    lines = result.output.splitlines()
    found = [x.split()[1] for x in lines if x.startswith("FAILS")]
    return result.exit_code, found, result.output


def test_a_good_export_passes_whole(trained, tmp_path):
    path, record = tmp_path / "good.npz", tmp_path / "good.json"
    export.save(trained, path)
    code, found, output = failing(path, "--json", record)
    assert (code, found) == (0, []), output
    data = json.loads(record.read_text())
    assert data["schema"] == "refspec.verify/1"
    by_id = {x["id"]: x for x in data["records"]}
    assert by_id["D1"]["status"] == by_id["H10"]["status"] == "holds"
    assert all(x["detail"] for x in data["records"] if x["status"] == "unmet")
    assert {x["status"] for x in data["records"]} <= set(verify.STATUSES)
    assert "not applicable" in output


def corrupted(snapshot, what):
    """Change one number of a snapshot (two probabilities, whose sum must stay 1)."""
    if what in ("features", "errors"):
        index = (5, 0, 2) if what == "features" else (5, 1, 0, 2)
        return altered(snapshot, what, factor=1.01, index=index)
    if what == "probabilities":
        p = snapshot.probabilities.copy()
        p[4, :2] += (-(2.0**-20), 2.0**-20)
        return replace(snapshot, probabilities=p)
    labels = snapshot.labels.copy()
    labels[5] = 1
    return replace(snapshot, labels=labels)


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("features", {"H10"}),
        ("errors", {"H10", "L3"}),
        ("probabilities", {"H10", "L3", "L8"}),
        ("labels", {"D1"}),
    ],
)
def test_one_wrong_number_fails_and_names_the_theorem(trained, tmp_path, what, named):
    path = tmp_path / "wrong.npz"
    export.save(corrupted(trained, what), path)
    code, found, output = failing(path, "--only", "D1,D2,H10,L1,L3,L8")
    assert code == 1
    assert named <= set(found), output


@given(st.data())
def test_any_one_number_of_features_and_errors_is_seen(trained, data):
    what = data.draw(st.sampled_from(["features", "errors"]))
    layer = data.draw(st.integers(0, 1))
    shape = getattr(trained.layers[layer], what).shape
    index = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    wrong = altered(trained, what, factor=1.01, index=index, layer=layer)
    (record,) = verify.verify(wrong, theorems=find(["H10"]))
    assert record.status == "fails"
    assert what in record.detail


def test_a_file_altered_after_writing_does_not_load(trained, tmp_path):
    path = tmp_path / "torn.npz"
    export.save(trained, path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert failing(path, "--only", "L3")[0] == 1


@pytest.mark.parametrize(
    "wrong",
    [["no-such-file.npz"], ["--only", "Z9"], ["--json", "/no/such/folder/x.json"]],
)
def test_wrong_use_exits_with_2(wrong):
    assert run("verify", *wrong).exit_code == 2


def test_the_embedded_export_in_a_few_statements():
    code, found, output = failing("--only", "L3,L8", "--only", "C3")
    assert (code, found) == (0, []), output
    assert "the embedded digits network" in output


def test_no_verdict_is_the_same_for_two_unrelated_networks(embedded):
    """A pair of residual and bound that knows nothing of the network says nothing."""
    sides = {}
    for source, records in embedded.items():
        for r in records:
            if r.status == "holds":
                sides.setdefault((r.id, r.residual, r.bound), []).append(source)
    assert not {k: v for k, v in sides.items() if len(v) > 1}
    assert {id for id, _, _ in sides} == {x.id for x in asked("data")}


def test_the_embedded_networks_pass(embedded):
    for source, records in embedded.items():
        assert not [(source, x.id) for x in records if x.status == "fails"]


def test_slow_statements_wait_for_deep_and_crashes_fail():
    def crash(_):
        raise ValueError("shapes differ")

    def slow(_):
        return [(0.0, 1.0, 1.0, "")]

    words = ("X1", "t", "identity", "s", "p.md", "t")
    snapshot = typical()

    def status(theorem, **how):
        (record,) = verify.verify(snapshot, theorems=[theorem], **how)
        return record.status, record.detail

    assert status(Theorem(*words, crash)) == ("fails", "shapes differ")
    assert status(Theorem(*words, slow, deep=True))[0] == "skipped"
    assert status(Theorem(*words, slow, deep=True), deep=True)[0] == "holds"
    lemma = Theorem("X1", "t", "lemma", "s", "p.md", "t")
    (record,) = verify.verify(snapshot, theorems=[lemma])
    assert record.status == "lemma"
    assert record.plain()["residual"] is None


def test_verdicts():
    nan, inf = math.nan, math.inf
    assert not Verdict(nan, 1.0).holds
    assert not Verdict(0.0, inf).holds
    assert Verdict(nan, 1.0).margin == Verdict(1.0, 0.0).margin == inf
    assert Verdict(-1.0, 0.0).margin == 0.0
    lost = worst([(1, 2, 4, "a"), (nan, 1, 1, "b"), (0, 1, 1, "c")])
    assert lost.detail == "b: nan against 1 decides nothing"
    assert not Verdict(-inf, 1.0).holds
    assert not worst([]).holds
    with pytest.raises(ValueError, match="kind among"):
        Theorem("X1", "t", "guess", "s", "p.md", "t")
    with pytest.raises(ValueError, match="unless it is a lemma"):
        Theorem("X1", "t", "identity", "s", "p.md", "t")
    with pytest.raises(ValueError, match="must ask one of"):
        Theorem("X1", "t", "lemma", "s", "p.md", "t", question="why")


def test_a_verdict_sees_what_its_dullest_comparison_sees():
    fine, dull = (1, 2, 8, "fine"), (0, 1, 2, "dull")
    found = worst([fine, dull])
    assert (found.detail, found.resolution) == ("fine", 0.5)
    assert worst([(0, 0, 0, "")]).resolution == 0
    assert worst([(0, 1, 0, "")]).resolution == math.inf
    assert math.isnan(worst([]).resolution)


def test_numbers_compared_together_are_each_held_to_their_bound():
    sides = np.asarray([[1.0, 3.0, 0.0], [4.0, 3.0, 0.0], [40.0, 30.0, 0.0]])
    found = worst([together(*sides, "x")])
    assert (found.margin, found.bound, found.resolution) == (1.0, 5.0, 0.1)
    assert found.holds
    sides[0, 2] = 2.0**-100  # more than its bound, 0
    assert not worst([together(*sides, "x")]).holds


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: find(["Z9"]), "got 'Z9'"),
        (lambda: asked("file"), "got 'file'"),
        (lambda: find(["L1", "L1"]), "'L1' twice"),
        (lambda: find("L1"), "put it in a list"),
        (lambda: find(7), "got 7"),
        (lambda: find([1]), "got 1"),
        (lambda: Study(typical(), seed=-1), "got -1"),
        (lambda: Study(typical(), seed=1.5), "got 1.5"),
        (lambda: Study(typical(), world=typical()), "got Snapshot"),
        (lambda: Study("digits.npz"), "got str"),
        (lambda: verify.verify("digits.npz"), "got str"),
        (lambda: verify.verify(typical(), theorems=["L1"]), "got str"),
        (lambda: verify.verify(typical(), theorems="L1"), "got str"),
        (lambda: verify.verify(typical(), source=None), "got NoneType"),
    ],
)
def test_wrong_use_is_said_before_any_work(bad, words):
    with pytest.raises((TypeError, ValueError), match=words):
        bad()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("part", [1.0, -1.0, 0.5, -0.5])
@pytest.mark.parametrize("of", ["features", "errors", "both"])
def test_scale_does_not_matter(dtype, part, of):
    """Up to 1e145 in float64 and 1e15 in float32, by powers of two."""
    shift = int(part * {"float64": 480, "float32": 50}[dtype])
    plain = typical(T=2)

    def cast(x, k=0):
        return np.ldexp(x, k).astype(dtype)

    layers = [
        Layer(
            x.name,
            cast(x.features, shift * (of != "errors")),
            cast(x.errors, shift * (of != "features")),
        )
        for x in plain.layers
    ]
    p, s = cast(plain.probabilities), cast(plain.sample_weights)
    moved = snapshot(layers, plain.labels, probabilities=p, sample_weights=s)
    found = list(verify.verify(moved, theorems=all_theorems()))
    assert not [(x.id, x.detail) for x in found if x.status == "fails"]
    assert sum(x.status == "holds" for x in found) > 50


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float64", 1e80), ("float64", 1e150), ("float64", 1e-150), ("float32", 1e15)],
)
def test_inputs_of_any_scale_are_valid(dtype, scale):
    """A network on inputs so large, with first weights so small, is the same one."""
    rng, y = np.random.default_rng(0), np.repeat([0, 1, 2], (4, 5, 6))
    X = np.eye(3)[y] @ rng.standard_normal((3, 4)) + rng.standard_normal((15, 4))
    start = models.mlp([4, 5, 3], rng=rng)
    weights = dict(start.parameters)
    weights["linear1.weight"] = weights["linear1.weight"] / scale
    net = models.Network(
        start.operations, {k: x.astype(dtype) for k, x in weights.items()}
    )
    seen = models.snapshot(net, (X * scale).astype(dtype), y)
    found = list(verify.verify(seen, theorems=all_theorems()))
    assert not [(x.id, x.detail) for x in found if x.status == "fails"]
    assert sum(x.status == "holds" for x in found) > 50


def test_a_small_layer_beside_a_large_one_is_still_checked():
    plain = typical()
    one, two = plain.layers
    layers = [one, Layer(two.name, two.features * 1e150, two.errors * 1e100)]
    large = snapshot(layers, plain.labels, probabilities=plain.probabilities)
    found = verify.verify(large, theorems=all_theorems())
    assert not [x.id for x in found if x.status == "fails"]
    wrong = altered(large, "errors", factor=1.1)  # of the small layer
    (record,) = verify.verify(wrong, theorems=find(["L3"]))
    assert record.status == "fails"
    assert "fc1" in record.detail
    assert "scaled" in record.detail


def test_a_study_computes_once():
    calls, study = [], Study(typical())

    def compute(_):
        calls.append(1)
        return 7

    assert study.once(compute) + study.once(compute) == 14
    assert len(calls) == 1


def test_a_moment_is_verified_on_what_needs_no_layers():
    """A statement on the Fisher alone: the same residuals as of the export."""
    wine = datasets.wine_sklearn()
    every = {r.id: r for r in verify.verify(wine)}
    seen = 0
    for r in verify.verify(fisher(wine)):
        if r.status == "unmet":
            assert "an export" in r.detail
        else:
            seen += 1
            assert (r.status, r.residual) == ("holds", every[r.id].residual)
    assert seen == 5
