"""Round trips to the bit, every way a file can be wrong, and nothing left behind."""

import builtins
import hashlib
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

import refspec
from refspec import backend, classes, export, files, rounding
from refspec.classes import Layer, ModelSection
from refspec.export import ExportError, archives, containers, schema
from refspec.export.digests import KIND, fingerprint
from refspec.theorems import find
from refspec.verify import verify

KINDS = [".npz", ".zarr"]
LABELS = np.array([0, 0, 0, 1, 1, 2])
N, C = 6, 3


def logits_of(dtype="float64"):
    z = np.random.default_rng(0).normal(size=(N, C)) * 8
    return z.astype(dtype)


def make(dtype="float64", **kwargs):
    rng = np.random.default_rng(1)

    def draw(*shape):
        return rng.normal(size=shape).astype(dtype)

    layers = [
        Layer("fc", draw(N, 1, 4), draw(N, C, 1, 5)),
        Layer("conv", draw(N, 3, 2), draw(N, C, 3, 4)),
    ]
    operations = [{"op": "linear", "name": "fc", "weight": "fc.w", "bias": None}]
    model = ModelSection(draw(N, 4), operations, {"fc.w": draw(3, 4)})
    weights = np.arange(1.0, N + 1).astype(dtype)
    weights = weights / weights.sum()
    settings = {"logits": logits_of(dtype), "sample_weights": weights, "model": model}
    provenance = {"framework": "none", "class_names": ["a", "b", "c"]}
    return classes.snapshot(
        layers, LABELS, provenance=provenance, **(settings | kwargs)
    )


def contents(path):
    manifest, arrays = containers.read(path)
    return manifest, arrays


def forge(path, manifest, arrays):
    """Write a file with a right digest, whatever else is wrong with it."""
    manifest = manifest | {"digest": fingerprint(manifest, arrays)}
    np.savez(path, manifest=np.array(json.dumps(manifest)), **arrays)
    return path


def same_bits(x, y):
    assert x.dtype == y.dtype
    assert np.array_equal(x, y)


def arrays_in(s):
    yield from (s.probabilities, s.labels, s.sample_weights, s.model.inputs)
    for layer in s.layers:
        yield from (layer.features, layer.errors)
    for name in sorted(s.model.parameters):
        yield s.model.parameters[name]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compress", [True, False])
def test_float64_round_trip_is_exact(tmp_path, kind, compress):
    made = make()
    path = export.save(made, tmp_path / f"run{kind}", compress=compress)
    loaded = export.load(path)
    for x, y in zip(arrays_in(made), arrays_in(loaded), strict=True):
        same_bits(x, y)
    assert [x.name for x in loaded.layers] == ["fc", "conv"]
    assert loaded.model.operations == [dict(x) for x in made.model.operations]
    assert loaded.provenance["framework"] == "none"
    assert loaded.provenance["schema"] == "refspec.export/1"
    assert loaded.provenance["dtype"] == "float64"
    assert loaded.provenance["digest"] == export.digest(path)
    assert os.listdir(tmp_path) == [f"run{kind}"]


@pytest.mark.parametrize("kind", KINDS)
def test_saving_again_gives_the_same_digest(tmp_path, kind):
    first = export.save(make(), tmp_path / f"a{kind}")
    again = export.save(export.load(first), tmp_path / "b.npz")
    assert export.digest(first) == export.digest(again)
    assert contents(first)[0] == contents(again)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_float32_numbers_are_taken_as_exact(tmp_path, kind):
    made = make("float32")
    path = export.save(made, tmp_path / f"run{kind}")
    loaded = export.load(path)
    assert loaded.provenance["dtype"] == "float32"
    for x, y in zip(made.layers, loaded.layers, strict=True):
        same_bits(x.features.astype("float64"), y.features)
        same_bits(x.errors.astype("float64"), y.errors)
    # renormalised in float64, from sums that were off by rounding in float32
    stored = made.probabilities.astype("float64")
    sums = stored.sum(axis=1, keepdims=True)
    same_bits(stored / sums, loaded.probabilities)
    narrow = export.load(path, dtype="float32")
    assert {str(x.dtype) for x in arrays_in(narrow)} == {"float32", "int64"}


def test_logits_are_turned_into_probabilities_in_float64(tmp_path):
    made, z = make("float32"), logits_of("float32")
    path = export.save(made, tmp_path / "run.npz", logits=z)
    assert "probabilities" not in contents(path)[1]
    z = z.astype("float64")
    same_bits(export.load(path).probabilities, np.exp(classes.log_softmax(z)))


def test_small_probabilities_survive(tmp_path):
    z = np.zeros((N, C))
    z[np.arange(N), LABELS] = 300
    path = export.save(make(logits=z), tmp_path / "run.npz", dtype="float32", logits=z)
    p = export.load(path).probabilities
    assert np.all(p > 0)
    assert p.min() < np.finfo("float32").tiny


def test_dtype_narrows_features_errors_and_model_only(tmp_path):
    made = make()
    path = export.save(made, tmp_path / "run.npz", dtype="float32")
    arrays = contents(path)[1]
    wide = {key for key, x in arrays.items() if x.dtype == np.float64}
    assert wide == {"probabilities", "sample_weights"}
    u = rounding.unit_roundoff(np.zeros(1, "float32"))
    for x, y in zip(made.layers, export.load(path).layers, strict=True):
        assert np.all(np.abs(x.errors - y.errors) <= u * np.abs(x.errors))
        assert not np.array_equal(x.errors, y.errors)


def test_a_copy_tells_what_its_numbers_were(tmp_path):
    original = refspec.datasets.digits_mlp()  # float32, read into float64
    copy = export.load(export.save(original, tmp_path / "copy.npz"))
    assert str(copy.layers[0].errors.dtype) == "float64"
    assert copy.provenance["dtype"] == "float32"
    some = find(["D3", "L8"])
    assert [x.status for x in verify(copy, theorems=some)] == ["holds", "holds"]


def test_the_narrowest_stored_dtype_is_told(tmp_path):
    manifest, arrays = contents(export.save(make(), tmp_path / "run.npz"))
    arrays["layers/1/errors"] = arrays["layers/1/errors"].astype("float32")
    mixed = export.load(forge(tmp_path / "mixed.npz", manifest, arrays))
    assert mixed.provenance["dtype"] == "float32"
    assert str(mixed.layers[1].errors.dtype) == "float64"


@pytest.mark.parametrize("name", ["numpy", "torch", "strict"])
def test_arrays_live_in_the_namespace_asked_for(tmp_path, name):
    path = export.save(make(), tmp_path / "run.npz")
    if name == "torch":
        pytest.importorskip("torch")
    if name == "strict":
        xp = pytest.importorskip("array_api_strict")
    else:
        xp = backend.named(name)
    loaded = export.load(path, xp=xp)
    assert type(loaded.layers[0].errors) is type(xp.zeros(1))
    host = backend.to_host(loaded.layers[0].errors)
    same_bits(host, export.load(path).layers[0].errors)
    again = export.save(loaded, tmp_path / "again.npz")
    assert export.digest(again) == export.digest(path)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_in_any_order_are_sorted(tmp_path, kind):
    made = make()
    manifest, arrays = contents(export.save(made, tmp_path / "a.npz"))
    order = np.array([5, 3, 0, 1, 4, 2])
    fixed = {k: x for k, x in arrays.items() if k.startswith(schema.PARAMETERS)}
    rows = {k: x[order] for k, x in arrays.items() if k not in fixed}
    batches = [{k: x[s] for k, x in rows.items()} for s in (slice(4), slice(4, None))]
    path = containers.write(tmp_path / f"b{kind}", manifest, iter(batches), fixed)
    assert export.digest(path) == fingerprint(manifest, rows | fixed)
    assert np.array_equal(contents(path)[1]["labels"], LABELS[order])
    for x, y in zip(arrays_in(made), arrays_in(export.load(path)), strict=True):
        same_bits(x, y)


def test_zarr_is_written_batch_by_batch(tmp_path):
    """The next batch is only asked for when the last one is on the disk."""
    zarr = pytest.importorskip("zarr")
    rows = []

    def batches():
        for k in range(3):
            yield {"labels": np.full(2, k)}
            (folder,) = tmp_path.iterdir()
            rows.append(zarr.open_group(str(folder), mode="r")["labels"].shape[0])

    containers.write(tmp_path / "run.zarr", {}, batches())
    assert rows == [2, 4, 6]


def test_the_digest_is_that_of_the_documentation():
    arrays = {"b": np.arange(3, dtype=">f4").reshape(3, 1), "a": np.int64(7)[None]}
    manifest = {"b": [1, 0.5], "a": "\u00e9", "digest": "left out"}
    rows = [
        ("manifest", b'{"a":"\\u00e9","b":[1,0.5]}'),
        ("a <i8 1", (7).to_bytes(8, "little")),
        ("b <f4 3x1", np.arange(3, dtype="<f4").tobytes()),
    ]
    text = "".join(f"{x} {hashlib.sha256(data).hexdigest()}\n" for x, data in rows)
    whole = "refspec.digest/2:" + hashlib.sha256(text.encode()).hexdigest()
    assert fingerprint(manifest, arrays) == whole
    assert fingerprint(manifest, arrays | {"a": np.int64(8)[None]}) != whole
    assert fingerprint(manifest | {"a": "e"}, arrays) != whole


def set_(key, value):
    def change(_, arrays):
        arrays[key] = value(arrays[key]) if callable(value) else value

    return change


def drop(key):
    return lambda _, arrays: arrays.pop(key)


def state(**items):
    return lambda manifest, _: manifest.update(items)


def nan_in(x):
    x = x.copy()
    x.flat[1] = np.nan
    return x


WRONG = [
    # (what is done to the file, the key that must be named, what the message says)
    (state(schema="refspec.export/2"), "manifest", "got 'refspec.export/2'"),
    (state(layers=[]), "manifest", "list of names, got []"),
    (state(layers=["fc", 1]), "manifest", "got ['fc', 1]"),
    (state(layers=["fc", "fc"]), "manifest", "layer names must be distinct"),
    (state(layers=[["fc"], "conv"]), "manifest", "got [['fc'], 'conv']"),
    (state(layers={"fc": 1}), "manifest", "got {'fc': 1}"),
    (state(schema=["x" * 999]), "manifest", "... (1003 characters)"),
    (state(operations=[{"op": "linear", "weight": ["fc.w"]}]), "manifest", "strings"),
    (state(operations=[{"op": ["linear"]}]), "manifest", "with strings as op"),
    (state(operations=[{"op": "linear", "weight": "a\x1b"}]), "manifest", "x1b"),
    (state(class_names=[1, 2, 3]), "manifest", "got [1, 2, 3]"),
    (state(operations="linear"), "manifest", "got 'linear'"),
    (state(class_names=["a", "b"]), "manifest", "expected C = 3 class_names"),
    (
        state(operations=[{"op": "linear", "weight": "a/b"}]),
        "manifest",
        "without '/', got ['a/b']",
    ),
    (drop("labels"), "labels", "expected this key"),
    (drop("probabilities"), "logits", "got 0 of them"),
    (set_("logits", np.zeros((N, C))), "logits", "got 2 of them"),
    (drop("layers/1/errors"), "layers/1/errors", "expected this key"),
    (drop("model/inputs"), "model/inputs", "expected this key"),
    (drop("model/parameters/fc.w"), "model/parameters/fc.w", "expected this key"),
    (set_("sample_weight", np.ones(N)), "sample_weight", "got ['sample_weight']"),
    (set_("labels", LABELS.astype(float)), "labels", "integers, got float64"),
    (set_("labels", LABELS[:, None]), "labels", "expected shape (N,)"),
    (set_("labels", LABELS - 1), "labels", "expected 0..C-1 = 0..2, got -1..1"),
    (set_("labels", LABELS + 1), "labels", "expected 0..C-1 = 0..2, got 1..3"),
    (set_("labels", LABELS[:0]), "labels", "sizes >= 1, got shape (0,)"),
    (set_("probabilities", np.ones((N, 1))), "layers/0/errors", "C = 1, T0 = 1"),
    (
        set_("layers/0/features", np.ones((N, 1, 0))),
        "layers/0/features",
        "sizes >= 1, got shape (6, 1, 0)",
    ),
    (set_("model/parameters/fc.w", np.ones(0)), "model/parameters/fc.w", "sizes >= 1"),
    (
        set_("probabilities", np.full((N, C), 1e308)),
        "probabilities",
        "got a sum off by inf",
    ),
    (set_("labels", LABELS[:5]), "probabilities", "with N = 5, got (6, 3)"),
    (
        set_("probabilities", np.full((N, 4), 0.25)),
        "layers/0/errors",
        "C = 4, T0 = 1, got (6, 3, 1, 5)",
    ),
    (set_("probabilities", np.full((N, C), 0.3)), "probabilities", "off by 0.1"),
    (
        set_("probabilities", np.array([[1.5, -0.5, 0.0]] * N)),
        "probabilities",
        "expected values >= 0, got -0.5",
    ),
    (set_("probabilities", nan_in), "probabilities", "got 1 of 18 nan"),
    (set_("sample_weights", np.ones(N)), "sample_weights", "off by 5"),
    (set_("layers/0/features", nan_in), "layers/0/features", "got 1 of 24 nan"),
    (set_("layers/1/errors", nan_in), "layers/1/errors", "got 1 of 216 nan"),
    (set_("model/inputs", nan_in), "model/inputs", "got 1 of 24 nan"),
    (
        set_("model/parameters/fc.w", nan_in),
        "model/parameters/fc.w",
        "got 1 of 12 nan",
    ),
    (
        set_("layers/0/features", lambda x: x[:, 0]),
        "layers/0/features",
        "expected shape (N, T0, a0) with N = 6, got (6, 4)",
    ),
    (
        set_("layers/1/errors", lambda x: x[:, :, :2]),
        "layers/1/errors",
        "T1 = 3, got (6, 3, 2, 4)",
    ),
    (
        set_("layers/0/errors", lambda x: x.astype("float16")),
        "layers/0/errors",
        "float32 or float64, got float16",
    ),
    (set_("model/inputs", lambda x: x[:3]), "model/inputs", "N = 6, got (3, 4)"),
]


@pytest.mark.parametrize(("change", "key", "message"), WRONG)
def test_a_wrong_file_names_file_and_key(tmp_path, change, key, message):
    manifest, arrays = contents(export.save(make(), tmp_path / "good.npz"))
    assert export.load(forge(tmp_path / "same.npz", manifest, arrays))  # the control
    change(manifest, arrays)
    path = forge(tmp_path / "bad.npz", manifest, arrays)
    with pytest.raises(ExportError) as caught:
        export.load(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: {key}: " if key else f"{path}: ")
    assert message in told


@pytest.mark.parametrize("key", ["labels", "layers/1/errors", "model/parameters/fc.w"])
def test_an_altered_array_does_not_match_the_digest(tmp_path, key):
    path = export.save(make(), tmp_path / "run.npz")
    manifest, arrays = contents(path)
    arrays[key] = arrays[key][::-1] if key == "labels" else arrays[key] * 2
    np.savez(path, manifest=np.array(json.dumps(manifest)), **arrays)
    with pytest.raises(ExportError, match=r"manifest: expected digest .*altered"):
        export.load(path)
    assert export.digest(path) != manifest["digest"]


def test_an_altered_manifest_does_not_match_the_digest(tmp_path):
    """Layers of one shape could be exchanged, and nothing else would tell."""
    path = export.save(make(), tmp_path / "run.npz")
    manifest, arrays = contents(path)
    manifest["layers"].reverse()
    np.savez(path, manifest=np.array(json.dumps(manifest)), **arrays)
    with pytest.raises(ExportError, match=r"manifest: expected digest .*altered"):
        export.load(path)


def test_a_digest_of_the_arrays_alone_is_refused(tmp_path):
    path = export.save(make(), tmp_path / "run.npz")
    manifest, arrays = contents(path)
    for old in (manifest["digest"].removeprefix(KIND), 7, ["x"]):
        manifest["digest"] = old
        np.savez(path, manifest=np.array(json.dumps(manifest)), **arrays)
        with pytest.raises(ExportError, match=r"begins with .*export it again"):
            export.load(path)


def test_a_file_without_digest_is_refused(tmp_path):
    manifest, arrays = contents(export.save(make(), tmp_path / "run.npz"))
    del manifest["digest"]
    assert export.assemble(manifest, arrays).offsets == (0, 3, 5, 6)
    np.savez(tmp_path / "bad.npz", manifest=np.array(json.dumps(manifest)), **arrays)
    with pytest.raises(ExportError, match="got None"):
        export.load(tmp_path / "bad.npz")


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(tmp_path, part):
    path = export.save(make(), tmp_path / "run.npz")
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(ExportError, match=r"run\.npz: .*truncated"):
        export.load(path)


def test_every_flipped_byte_is_seen(tmp_path):
    """Bytes that zip's checks do not cover carry nothing that is read."""
    made = make()
    path = export.save(made, tmp_path / "run.npz")
    data = bytearray(path.read_bytes())
    caught = 0
    for at in range(0, len(data), 211):
        damaged = data.copy()
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        try:
            loaded = export.load(path)
        except ExportError:
            caught += 1
        else:
            for x, y in zip(arrays_in(made), arrays_in(loaded), strict=True):
                same_bits(x, y)
    assert caught > 0


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_pickles_are_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manifest, arrays = contents(export.save(make(), tmp_path / "run.npz"))
    bad = arrays | {"layers/0/features": np.array([Bomb()], dtype=object)}
    text = np.array(json.dumps(manifest))
    np.savez("bad.npz", allow_pickle=True, manifest=text, **bad)
    with pytest.raises(ExportError, match=r"layers/0/features: .*pickle"):
        export.load("bad.npz")
    (tmp_path / "bad.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ExportError, match=r"bad\.npz: .*foreign"):
        export.load("bad.npz")
    assert not (tmp_path / "exploded").exists()


def test_foreign_files_are_refused(tmp_path):
    np.savez(tmp_path / "foreign.npz", X=np.zeros(2))
    with pytest.raises(ExportError, match=r"manifest: .*no such key beside \['X'\]"):
        export.load(tmp_path / "foreign.npz")
    np.savez(tmp_path / "foreign.npz", manifest=np.zeros(2))
    with pytest.raises(ExportError, match=r"manifest: .*got float64 of shape \(2,\)"):
        export.load(tmp_path / "foreign.npz")
    deep = '{"a":' * 70 + "1" + "}" * 70
    for text, message in [
        ("{", "JSON document"),
        ("[1]", "got list"),
        ("[" * 1000 + "]" * 1000, "JSON document|deep"),
        ("[" * 10**5 + "]" * 10**5, "JSON document, got .*recursion"),
        (deep, "at most 64 deep"),
        ('{"a": NaN}', "NaN, which is no JSON"),
        ('{"a": 1' + "0" * 5000 + "}", "JSON document, got .*digits"),
    ]:
        np.savez(tmp_path / "foreign.npz", manifest=np.array(text))
        with pytest.raises(ExportError, match=f"manifest: .*{message}"):
            export.load(tmp_path / "foreign.npz")
    with zipfile.ZipFile(tmp_path / "foreign.npz", "w") as file:
        file.writestr("readme.txt", "no array")
    with pytest.raises(ExportError, match="expected arrays only"):
        export.load(tmp_path / "foreign.npz")
    with open(tmp_path / "one.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ExportError, match=r"one\.npz"):
        export.load(tmp_path / "one.npz")


def test_paths_that_are_no_export(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "file.zarr").write_text("no folder")
    os.mkfifo(tmp_path / "pipe.npz")
    for name, message in [
        ("none.npz", "got nothing"),
        ("none.zarr", "got nothing"),
        ("folder.npz", "got a folder"),
        ("file.zarr", "got a file"),
        ("empty.zarr", "Zarr v3 group"),
        ("pipe.npz", "a file that is none"),
        ("run.pickle", r"\.npz or \.zarr, got a pickle, which runs code"),
        ("run", "got none"),
    ]:
        with pytest.raises(ExportError, match=f"{name}: .*{message}"):
            export.load(tmp_path / name)


def test_a_damaged_zarr_group_is_refused(tmp_path):
    zarr = pytest.importorskip("zarr")
    path = export.save(make(), tmp_path / "run.zarr")
    chunk = next(x for x in (path / "layers/0/errors/c").rglob("*") if x.is_file())
    data = chunk.read_bytes()
    chunk.write_bytes(data[: len(data) // 2])
    with pytest.raises(ExportError, match=r"run\.zarr: "):
        export.load(path)
    chunk.unlink()
    with pytest.raises(ExportError, match="FileNotFoundError"):
        export.load(path)
    (path / "zarr.json").write_text("{")
    with pytest.raises(ExportError, match="expected a JSON document"):
        export.load(path)
    zarr.open_group(str(tmp_path / "foreign.zarr"), mode="w")
    with pytest.raises(ExportError, match=r"manifest: .*got NoneType"):
        export.load(tmp_path / "foreign.zarr")


def test_without_zarr_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "zarr":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"refspec\[zarr\]"):
        export.save(make(), tmp_path / "run.zarr")
    with pytest.raises(ImportError, match=r"refspec\[zarr\]"):
        export.load(tmp_path / "run.zarr")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", ["batches", "interrupt", "rename", "disk"])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, kind, step):
    path = export.save(make(), tmp_path / f"run{kind}")
    before = export.digest(path)
    manifest, arrays = contents(path)

    def batches():
        yield {k: x for k, x in arrays.items() if not k.startswith("model")}
        if step == "interrupt":
            raise KeyboardInterrupt
        if step == "batches":
            raise FileNotFoundError("the loader's own")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    if step == "rename":
        monkeypatch.setattr(files.os, "replace", refuse)
        monkeypatch.setattr(files, "_swap", refuse)
    if step == "disk":
        monkeypatch.setattr(archives.npy, "write_array", refuse)
        zarr = pytest.importorskip("zarr")
        monkeypatch.setattr(zarr.Group, "create_array", refuse)
    expected = {"batches": FileNotFoundError, "interrupt": KeyboardInterrupt}
    with pytest.raises(expected.get(step, ExportError)):
        containers.write(path, manifest, batches())
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [path.name]
    assert export.digest(path) == before


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_is_replaced_but_a_folder_is_not(tmp_path, kind):
    path = export.save(make(), tmp_path / f"run{kind}")
    other = make(logits=-logits_of())
    export.save(other, path)
    same_bits(export.load(path).probabilities, other.probabilities)
    (tmp_path / f"mine{kind}").mkdir()
    with pytest.raises(ExportError, match=r"got a folder|got one without"):
        export.save(other, tmp_path / f"mine{kind}")
    assert sorted(os.listdir(tmp_path)) == [f"mine{kind}", path.name]


def test_paths_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="a folder to write in, got none"):
        export.save(make(), tmp_path / "none" / "run.npz")
    with pytest.raises(ExportError, match="a folder to write in, got none"):
        export.save(make(), tmp_path / "file" / "run.zarr")
    with pytest.raises(ExportError, match=r"got '\.pt'"):
        export.save(make(), tmp_path / "run.pt")
    with pytest.raises(ExportError, match="cannot be written"):
        export.save(make(), tmp_path / ("x" * 260 + ".npz"))
    assert os.listdir(tmp_path) == ["file"]


def test_save_checks_what_it_writes(tmp_path):
    made, path = make(), tmp_path / "run.npz"
    with pytest.raises(ExportError, match=r"logits: .*\(6, 3\), got float64 of shape"):
        export.save(made, path, logits=np.zeros((N, 2)))
    with pytest.raises(ExportError, match="snapshot's order"):
        export.save(made, path, logits=logits_of()[::-1])
    huge = [Layer("fc", np.full((N, 1, 1), 1e300), np.ones((N, C, 1, 1)))]
    big = classes.snapshot(huge, LABELS, logits=logits_of())
    with pytest.raises(ExportError, match=r"layers/0/features: .*overflow"):
        export.save(big, path, dtype="float32")
    bad = classes.snapshot(
        huge, LABELS, logits=logits_of(), provenance={"when": {1, 2}}
    )
    with pytest.raises(ExportError, match=r"manifest: .*JSON"):
        export.save(bad, path)
    with pytest.raises(
        ValueError, match="dtype must be one of 'float32', 'float64', got 'int8'"
    ):
        export.load(export.save(made, tmp_path / "good.npz"), dtype="int8")
    assert os.listdir(tmp_path) == ["good.npz"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_shift_is_no_other_order(tmp_path, dtype):
    """Adding a constant changes no probability; the check knows rounding only."""
    made, z = make(dtype), logits_of(dtype)
    export.save(made, tmp_path / "run.npz", logits=z + z.dtype.type(16))
    u = rounding.unit_roundoff(z)
    with pytest.raises(ExportError, match="values off"):
        export.save(made, tmp_path / "run.npz", logits=z * (1 + 2**12 * u))


def test_batches_must_fit_together(tmp_path):
    for kind in KINDS:
        batches = [{"x": np.zeros((2, 3))}, {"x": np.zeros((2, 4))}]
        with pytest.raises(ExportError, match=r"x: .*\(3,\) .*got float64 and \(4,\)"):
            containers.write(tmp_path / f"run{kind}", {}, batches)
    assert os.listdir(tmp_path) == []


def test_the_error_is_a_value_error():
    assert issubclass(export.ExportError, ValueError)
    assert refspec.Snapshot is classes.Snapshot
