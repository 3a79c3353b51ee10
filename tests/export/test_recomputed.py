"""Exports without what their network gives again: the same numbers, or refused."""

from dataclasses import replace

import numpy as np
import pytest

import refspec
from refspec import backend, classes, datasets, models
from refspec.classes import Layer, OutputLayer
from refspec.export import ExportError, containers, snapshots
from refspec.export import recomputed as again
from support.snapshots import seen

KINDS = [".npz", ".zarr"]
WITH_NETWORKS = [datasets.wine_sklearn, datasets.digits_mlp, datasets.mnist_cnn]


def judged(stored, computed, samples=slice(None)):
    """Compare arrays of a snapshot with those that another one's network gives."""
    model = replace(computed.model, inputs=computed.model.inputs[samples])
    both = replace(stored, provenance=computed.provenance, model=model)
    return {x.name: x.ratio for x in models.recompute(both)}


def every_row(moment):
    return moment.rows.take(np.arange(moment.rows.shape[0] * moment.rows.shape[1]))


def forge(path, manifest, arrays):
    """Write a file with a right digest, whatever else is wrong with it."""
    fixed = {key: x for key, x in arrays.items() if key.startswith("model/parameters")}
    rows = {key: x for key, x in arrays.items() if key not in fixed}
    containers.write(path, manifest, [rows], fixed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", WITH_NETWORKS, ids=lambda x: x.__name__)
def test_the_network_gives_again_what_is_left_out(network, kind, tmp_path):
    s = network()
    path = refspec.save(s, tmp_path / f"few{kind}", recomputed=True)
    manifest, arrays = containers.read(path)
    assert not [key for key in arrays if key.startswith("layers/")]
    assert list(manifest["recomputed"]) == [x.name for x in s.layers]
    t = refspec.load(path)
    assert [x.name for x in t.layers] == [x.name for x in s.layers]
    assert t.provenance["dtype"] == s.provenance["dtype"]
    for x in (s, t):
        assert all(ratio <= 1 for ratio in judged(x, t).values())
    # effect: errors of the other samples are told from these
    turned = [replace(x, errors=x.errors[::-1]) for x in s.layers]
    assert max(judged(replace(s, layers=tuple(turned)), t).values()) > 1


def test_what_the_network_does_not_give_is_refused(tmp_path):
    s = datasets.wine_sklearn()
    features = s.layers[1].features.copy()
    features[7, 0, 2] *= 1 + 2.0**-30
    layers = (s.layers[0], replace(s.layers[1], features=features), s.layers[2])
    with pytest.raises(ExportError, match=r" of coefs_.* recomputed=False"):
        refspec.save(replace(s, layers=layers), tmp_path / "x.npz", recomputed=True)
    assert not list(tmp_path.iterdir())


def test_a_layer_that_is_not_of_the_network_stays_in_the_file(tmp_path):
    s = seen(3, counts=(4, 1, 6), hidden=(5,))
    N, C = s.probabilities.shape
    rng = np.random.default_rng(0)
    other = Layer("other", rng.normal(size=(N, 2, 3)), rng.normal(size=(N, C, 2, 4)))
    path = refspec.save(
        replace(s, layers=(*s.layers, other)), tmp_path / "x.npz", recomputed=True
    )
    t = refspec.load(path)
    assert np.array_equal(t.layer("other").errors, other.errors)
    assert set(t.provenance["recomputed"]) == {x.name for x in s.layers}


@pytest.mark.parametrize("kind", KINDS)
def test_some_layers_and_some_samples(kind, tmp_path):
    s = datasets.wine_sklearn()
    path = refspec.save(s, tmp_path / f"few{kind}", recomputed=True)
    whole, names = refspec.load(path), [x.name for x in s.layers]
    some = refspec.load(path, layers=names[1:2])
    assert [x.name for x in some.layers] == names[1:2]
    assert some.model is None
    assert np.array_equal(some.layers[0].errors, whole.layers[1].errors)
    stored = refspec.load(refspec.save(s, tmp_path / f"all{kind}"), layers=names[1:2])
    for key in ("left_out", "layers"):
        assert some.provenance.get(key) == stored.provenance.get(key)
    if kind == ".zarr":
        part = refspec.load(path, samples=(5, 9))
        assert part.model is None
        # a product of fewer rows may add in another order
        assert all(x <= 1 for x in judged(part, whole, slice(5, 9)).values())
        assert max(judged(part, whole, slice(6, 10)).values()) > 1  # effect


def test_in_parts(tmp_path):
    """Shards compute what they need, of their own samples."""
    s = datasets.wine_sklearn()
    path = refspec.save(s, tmp_path / "few.zarr", recomputed=True)
    parts, shares = refspec.shards.parts_of(path, 3)
    found = refspec.spectrum(refspec.joined(parts, shares=shares))
    m = refspec.fisher(refspec.load(path))
    true, X = refspec.spectrum(m), every_row(m)
    each = [s**0.5 * every_row(part()) for part, s in zip(parts, shares, strict=True)]
    moved = np.linalg.norm(np.concatenate(each) - X)  # by other orders of addition
    weyl = moved * (2 * np.linalg.norm(X) + moved)
    r = min(len(found.values), len(true.values))
    gap = np.abs(found.values[:r] - true.values[:r]).max()
    assert gap <= found.radius + true.radius + weyl < true.values[2]


def test_a_narrower_network_gives_its_own(tmp_path):
    """Stored in float32, the network is another one: its arrays, and it is said."""
    s = datasets.wine_sklearn()
    path = refspec.save(s, tmp_path / "x.npz", dtype="float32", recomputed=True)
    t = refspec.load(path)
    assert t.provenance["dtype"] == "float32"
    for x in (s, t):
        assert all(ratio <= 1 for ratio in judged(x, t).values())
    assert not np.array_equal(t.layers[1].features, s.layers[1].features)


def test_large_errors_of_the_output_are_not_formed(tmp_path):
    N, C = 10, 1000
    assert 8 * N * C * C > again.LARGE
    rng = np.random.default_rng(0)
    network = models.mlp([3, C], rng=rng)
    s = models.snapshot(network, rng.normal(size=(N, 3)), np.arange(N))
    t = refspec.load(refspec.save(s, tmp_path / "x.npz", recomputed=True))
    assert isinstance(t.layers[0], OutputLayer)
    assert np.array_equal(t.layers[0].features, s.layers[0].features)


def test_memory_is_that_of_what_is_computed(tmp_path):
    s = datasets.wine_sklearn()
    path = refspec.save(s, tmp_path / "x.npz", recomputed=True)
    computed = sum(x.features.nbytes + x.errors.nbytes for x in s.layers)
    with pytest.raises(ExportError, match="memory"):
        refspec.load(path, max_bytes=computed)
    N, C, sizes, _, held = snapshots.sizes(path)
    assert s.probabilities.shape == (N, C)
    assert sizes == {x.name: (*x.features.shape[1:], x.outputs) for x in s.layers}
    assert held >= computed


def test_in_many_pieces(tmp_path):
    """More samples than are computed at once, of two classes that differ."""
    rng = np.random.default_rng(0)
    N, wide = 700, 300
    network = models.mlp([3, wide, 10], rng=rng)
    s = models.snapshot(network, rng.normal(size=(N, 3)), rng.integers(10, size=N))
    each = sum(x.features[0].nbytes + x.errors[0].nbytes for x in s.layers)
    assert backend.at_a_time(4 * each, s.probabilities) < N
    t = refspec.load(refspec.save(s, tmp_path / "x.npz", recomputed=True))
    for x in (s, t):
        assert all(ratio <= 1 for ratio in judged(x, t).values())


def test_written_again_it_holds_everything(tmp_path):
    s = datasets.wine_sklearn()
    t = refspec.load(refspec.save(s, tmp_path / "x.npz", recomputed=True))
    u = refspec.load(refspec.save(t, tmp_path / "y.npz"))
    assert "recomputed" not in u.provenance
    assert np.array_equal(u.layers[0].errors, t.layers[0].errors)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"linear1": [1, 6, 4]}, "sizes T, a, b"),
        ({"linear1": [1, 0, 4]}, "recomputed"),
        ({"linear1": [1, 6]}, "recomputed"),
        ({"linear1": 6}, "recomputed"),
        (["linear1"], "recomputed"),
        ({"another": [1, 5, 4]}, "recomputed"),
    ],
)
def test_a_manifest_that_lies(stated, said, tmp_path):
    rng = np.random.default_rng(0)
    s = models.snapshot(
        models.mlp([4, 4, 2], rng=rng), rng.normal(size=(3, 4)), [0] * 3
    )
    path = refspec.save(s, tmp_path / "x.npz", recomputed=True)
    manifest, arrays = containers.read(path)
    right = manifest["recomputed"]
    assert right == {"linear1": [1, 5, 4], "linear2": [1, 5, 2]}
    wrong = {**right, **stated} if isinstance(stated, dict) else stated
    forge(path, manifest | {"recomputed": wrong}, arrays)
    with pytest.raises(ExportError, match=said):
        refspec.load(path)


def test_a_network_of_other_classes(tmp_path):
    """Its logits are not those of the labels and probabilities beside it."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3, 4)), [0, 1, 1]
    s = models.snapshot(models.mlp([4, 4, 2], rng=rng), X, y)
    path = refspec.save(s, tmp_path / "x.npz", recomputed=True)
    manifest, arrays = containers.read(path)
    arrays["probabilities"] = classes.snapshot(
        s.layers[:1], y, logits=rng.normal(size=(3, 2))
    ).probabilities
    arrays["probabilities"] = np.full((3, 3), 1 / 3)
    forge(path, manifest, arrays)
    with pytest.raises(ExportError, match="C = 3 logits, got 2"):
        refspec.load(path)
